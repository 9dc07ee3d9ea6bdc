"""One WebSocket: frames in and out, between a client's session and its participant in a room."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from aiohttp import WSMsgType, web

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import Joined, LeaveReason, OfferMade, RoomEvent, Source
from kaamos.room.participant import Participant
from kaamos.room.room import Rooms
from kaamos.signaling import messages
from kaamos.signaling.logs import LOG_IDS
from kaamos.signaling.mailbox import Mailbox
from kaamos.signaling.messages import (
    Answer,
    ClientMessage,
    Frame,
    IceCandidate,
    Join,
    Leave,
    Message,
    MessageId,
    Mute,
    Offer,
    Ping,
    TrackHint,
    Welcome,
)
from kaamos.signaling.outbox import Outbox
from kaamos.signaling.session import (
    CLOSE_INTERNAL,
    CLOSE_NORMAL,
    CLOSE_TOO_LARGE,
    Close,
    Event,
    Reply,
    Session,
)

logger = logging.getLogger(__name__)

# Runs work and returns its result, or None if it failed in a way nobody foresaw (server.py has the only one).
Guard = Callable[[Awaitable[object]], Awaitable[object]]


class Announcer:
    """Puts what a room tells all of its members into words once."""

    def __init__(self) -> None:
        self._event: RoomEvent | None = None
        self._texts: list[str] = []

    def texts(self, event: RoomEvent) -> list[str]:
        """Return the frames of an event that reads the same for everybody."""
        if event is not self._event:
            assert not isinstance(event, Joined | OfferMade), "these are for one client"
            self._event = event
            self._texts = [messages.encode(frame) for frame in messages.news(event)]
        return self._texts


class Socket:
    """A client's connection to one room, from the upgrade to the end of the socket."""

    def __init__(
        self,
        ws: web.WebSocketResponse[Literal[False]],
        transport: asyncio.Transport,
        *,
        room_id: str,
        rooms: Rooms,
        session: Session,
        max_message_bytes: int,
        welcome: Welcome,
        announcer: Announcer,
        on_joined: Callable[[], None],
    ) -> None:
        self.has_joined = False  # at any time
        self._ws = ws
        self._room_id = room_id
        self._rooms = rooms
        self._session = session
        self._max_message_bytes = max_message_bytes
        self._welcome = welcome
        self._announcer = announcer
        self._on_joined = on_joined
        self._outbox = Outbox(ws, transport)
        self._mailbox = Mailbox()
        self._participant: Participant | None = None
        self._join_id: MessageId | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, guard: Guard) -> None:
        """Serve the client until its socket is closed; it leaves the room with it."""
        timeout = self._session.next_timeout()
        timer = self._loop.call_at(timeout, self._handle_timeout) if timeout is not None else None
        writer = self._loop.create_task(self._outbox.run())
        try:
            if await guard(self._read()) is None:
                self._fail("internal error")
        finally:
            if timer is not None:
                timer.cancel()
            self._session.end()
            has_left = self._ws.close_code == CLOSE_NORMAL and not self._outbox.is_closing
            self._leave(LeaveReason.LEFT if has_left else LeaveReason.DISCONNECTED)
            self._outbox.close(CLOSE_NORMAL, "")
            await writer

    def close(self, code: int, reason: str, error: Frame | None = None) -> None:
        """Close the socket from our side, after an error if there is one to tell."""
        self._session.end()
        if error is not None:
            self._send(error)
        self._outbox.close(code, reason)

    async def _read(self) -> bool:
        try:
            async for frame in self._ws:
                if frame.type is WSMsgType.TEXT or frame.type is WSMsgType.BINARY:
                    self._receive(frame.type is WSMsgType.TEXT, frame.data)
                else:
                    break  # the frame was broken or far too large; aiohttp has closed
        except ConnectionError:
            logger.debug("socket lost")
        return True

    def _receive(self, is_text: bool, data: bytes) -> None:
        now = self._loop.time()
        if self._max_message_bytes and len(data) > self._max_message_bytes:
            error = messages.error(ErrorCode.MESSAGE_TOO_LARGE, f"at most {self._max_message_bytes} bytes")
            self.close(CLOSE_TOO_LARGE, "message too large", error)
        else:
            self._act(self._session.receive(data, now) if is_text else self._session.receive_binary(now))

    def _handle_timeout(self) -> None:
        self._act(self._session.handle_timeout(self._loop.time()))

    def _act(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Reply):
                self._send(event.frame)
            elif isinstance(event, Close):
                self._outbox.close(event.code, event.reason)
            else:
                try:
                    self._deliver(event.message, event.id)
                except RemoteProtocolError as error:
                    self._send(messages.error(error.code, error.message, event.id))

    def _deliver(self, message: ClientMessage, id: MessageId | None) -> None:
        if isinstance(message, Join):
            self._join(message, id)
            return
        participant = self._participant
        assert participant is not None, "the session lets nothing else pass before a join"
        match message:
            case Offer(sdp, tracks):
                answer = participant.receive_offer(sdp, _sources(tracks))
                for frame in messages.answer(answer, self._session.dialect, id):
                    self._send(frame)
            case Answer(sdp, tracks):
                participant.receive_answer(sdp, _sources(tracks), None if id is None else str(id))
            case IceCandidate():
                pass  # checked by the decoder; peers are learned from their own checks
            case Message(payload, to):
                participant.send(payload, to)
            case Mute(track, muted):
                participant.mute(track, muted)
            case Ping():
                self._send(messages.pong(id))
            case Leave():
                self._leave(LeaveReason.LEFT)
                self.close(CLOSE_NORMAL, "left")

    def _join(self, join: Join, id: MessageId | None) -> None:
        if join.room_id is not None and join.room_id != self._room_id:
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "room_id is not the room of this socket")
        self._join_id = id
        room = self._rooms.enter(self._room_id)
        self._participant = room.join(join.user_id, join.name, outbox=self._tell, on_removed=self._removed)
        self._session.joined()
        if not self.has_joined:
            self.has_joined = True
            self._on_joined()
        LOG_IDS.set(self._participant.log_ids)

    def _tell(self, event: RoomEvent) -> None:
        """Pass on what the room says."""
        if isinstance(event, Joined):
            for frame in messages.acknowledgement(event, self._welcome, self._join_id):
                self._send(frame)
        elif isinstance(event, OfferMade):
            self._send(messages.offer(event, self._session.dialect))
        else:
            for text in self._announcer.texts(event):
                self._push(text)

    def _removed(self, reason: str) -> None:
        """Tell the client that the room has removed it, because its media connection failed."""
        self._participant = None
        self._fail(f"media connection lost: {reason}")

    def _fail(self, reason: str) -> None:
        self.close(CLOSE_INTERNAL, "internal error", messages.error(ErrorCode.INTERNAL, reason))

    def _leave(self, reason: LeaveReason) -> None:
        participant, self._participant = self._participant, None
        if participant is not None:
            participant.leave(reason)

    def _send(self, frame: Frame) -> None:
        self._push(messages.encode(frame))

    def _push(self, text: str) -> None:
        self._outbox.push(self._mailbox.number(text))


def _sources(tracks: dict[str, TrackHint]) -> dict[str, Source]:
    return {mid: hint.source for mid, hint in tracks.items() if hint.source is not None}
