"""One WebSocket: frames in and out, between a client's session and its participant in a room."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from aiohttp import WSMsgType, web

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import LeaveReason, Source
from kaamos.room.room import Rooms
from kaamos.room.slots import Wish
from kaamos.signaling import frames
from kaamos.signaling.frames import Frame
from kaamos.signaling.logs import LOG_IDS
from kaamos.signaling.mailbox import Mailbox
from kaamos.signaling.messages import (
    Answer,
    ClientMessage,
    Dialect,
    IceCandidate,
    Join,
    Leave,
    Message,
    MessageId,
    Mute,
    Offer,
    Ping,
    Subscribe,
    TrackHint,
    Unsubscribe,
)
from kaamos.signaling.outbox import Outbox
from kaamos.signaling.presence import Presence, Presences
from kaamos.signaling.session import (
    CLOSE_INTERNAL,
    CLOSE_NORMAL,
    CLOSE_REPLACED,
    CLOSE_TOO_LARGE,
    Close,
    Deliver,
    Reply,
    Session,
)

logger = logging.getLogger(__name__)

# Runs work and returns its result, or None if it failed in a way nobody foresaw (server.py has the only one).
Guard = Callable[[Awaitable[object]], Awaitable[object]]


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
        presences: Presences,
        on_joined: Callable[[], None],
    ) -> None:
        self.has_joined = False  # at any time
        self._ws = ws
        self._room_id = room_id
        self._rooms = rooms
        self._session = session
        self._max_message_bytes = max_message_bytes
        self._presences = presences
        self._on_joined = on_joined
        self._outbox = Outbox(ws, transport)
        self.mailbox = Mailbox()  # of the session; of this socket before it has joined one
        self._presence: Presence | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, guard: Guard) -> None:
        """Serve the client until its socket is closed; unless that was in order, it may come back."""
        timeout = self._session.next_timeout()
        timer = self._loop.call_at(timeout, self._handle_timeout) if timeout is not None else None
        writer = self._loop.create_task(self._outbox.run())
        try:
            if await guard(self._read()) is None:
                self.fail("internal error")
        finally:
            if timer is not None:
                timer.cancel()
            self._session.end()
            has_left = self._ws.close_code == CLOSE_NORMAL and not self._outbox.is_closing
            presence = self._current_presence()
            if presence is not None and has_left:
                presence.leave(LeaveReason.LEFT)
            elif presence is not None:
                presence.detach()
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
                presence = self._current_presence()
                if presence is not None:
                    presence.note_life()
                if frame.type is WSMsgType.TEXT or frame.type is WSMsgType.BINARY:
                    await self._receive(frame.type is WSMsgType.TEXT, frame.data)
                elif frame.type is WSMsgType.PING:
                    await self._ws.pong(frame.data)
                elif frame.type is not WSMsgType.PONG:
                    break  # the frame was broken or far too large; aiohttp has closed
        except ConnectionError:
            logger.debug("socket lost")
        return True

    async def _receive(self, is_text: bool, data: bytes) -> None:
        now = self._loop.time()
        if self._max_message_bytes and len(data) > self._max_message_bytes:
            error = frames.error(ErrorCode.MESSAGE_TOO_LARGE, f"at most {self._max_message_bytes} bytes")
            self.close(CLOSE_TOO_LARGE, "message too large", error)
            return
        for event in self._session.receive(data, now) if is_text else self._session.receive_binary(now):
            if not isinstance(event, Deliver):
                self._act(event)
                continue
            try:
                # Until a join is decided nothing more is read.
                if isinstance(event.message, Join):
                    await self._join(event.message, event.id)
                else:
                    self._deliver(event.message, event.id)
            except RemoteProtocolError as error:
                self._send(frames.error(error.code, error.message, event.id))

    def _handle_timeout(self) -> None:
        for event in self._session.handle_timeout(self._loop.time()):
            assert not isinstance(event, Deliver)
            self._act(event)

    def _act(self, event: Reply | Close) -> None:
        if isinstance(event, Reply):
            self._send(event.frame)
        else:
            self._outbox.close(event.code, event.reason)

    def _deliver(self, message: ClientMessage, id: MessageId | None) -> None:
        presence = self._current_presence()
        assert presence is not None, "the session lets nothing else pass before a join"
        participant = presence.participant
        match message:
            case Offer(sdp, tracks):
                answer = participant.receive_offer(sdp, _sources(tracks))
                for frame in frames.answer(answer, self._session.dialect, id):
                    self._send(frame)
            case Answer(sdp, tracks):
                participant.receive_answer(sdp, _sources(tracks), None if id is None else str(id))
            case IceCandidate():
                pass  # checked by the decoder; peers are learned from their own checks
            case Message(payload, to):
                participant.send(payload, to)
            case Mute(track, muted):
                participant.mute(track, muted)
            case Subscribe(people, tracks, pin):
                participant.wish(people, tracks, Wish.PIN if pin else None)
            case Unsubscribe(people, tracks):
                participant.wish(people, tracks, Wish.REFUSE)
            case Ping():
                self._send(frames.pong(id))
            case Leave():
                presence.leave(LeaveReason.LEFT)
                self.close(CLOSE_NORMAL, "left")

    async def _join(self, join: Join, id: MessageId | None) -> None:
        if join.room_id is not None and join.room_id != self._room_id:
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "room_id is not the room of this socket")
        if join.resume is not None:
            self._presences.resume(self._room_id, join.resume, self, id)
            return
        room = self._rooms.enter(self._room_id)
        holder = room.participants.get(join.user_id) if join.user_id is not None else None
        if holder is not None:
            await self._presences.make_way(holder)
            if self._outbox.is_closing:
                return
            room = self._rooms.enter(self._room_id)
        self.adopt(self._presences.join(room, join, self, id), Dialect(0))

    def adopt(self, presence: Presence, dialect: Dialect) -> None:
        """Carry a presence from now on; its client has shown ``dialect`` before."""
        self._presence = presence
        self.mailbox = presence.mailbox
        self._session.joined()
        self._session.dialect |= dialect
        if not self.has_joined:
            self.has_joined = True
            self._on_joined()
        LOG_IDS.set(presence.participant.log_ids)

    def fail(self, reason: str) -> None:
        """Close the socket because something failed on our side."""
        self.close(CLOSE_INTERNAL, "internal error", frames.error(ErrorCode.INTERNAL, reason))

    def replace(self) -> None:
        """Close the socket because its client, or one with its id, has another."""
        self.close(CLOSE_REPLACED, "replaced by the same identity")

    async def ping(self) -> None:
        """Ask for a sign of life.  Raises ConnectionError where the socket is gone."""
        await self._ws.ping()

    def push(self, text: str, key: str = "") -> None:
        """Queue a numbered frame; the newest of a ``key`` can replace one that has not left yet."""
        self._outbox.push(text, key)

    def replace_unsent(self, text: str, key: str) -> bool:
        """Put a frame in the place of one of the same key that has not left; return whether there is one."""
        return self._outbox.replace(text, key)

    @property
    def dialect(self) -> Dialect:
        """Return the forms that the client reads."""
        return self._session.dialect

    def _current_presence(self) -> Presence | None:
        """Return the presence that this socket carries still."""
        presence = self._presence
        return presence if presence is not None and presence.socket is self else None

    def _send(self, frame: Frame) -> None:
        presence = self._current_presence()
        if presence is not None:
            presence.send(frame)
        else:
            self.push(self.mailbox.number(frames.encode(frame), is_kept=False))


def _sources(tracks: dict[str, TrackHint]) -> dict[str, Source]:
    return {mid: hint.source for mid, hint in tracks.items() if hint.source is not None}
