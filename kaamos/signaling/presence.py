"""A participant's session as its client knows it: it outlives the socket, so that one can come back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import (
    Joined,
    LeaveReason,
    News,
    OfferMade,
    OfferWanted,
    RoomEvent,
    SlotsChanged,
    SpeakersChanged,
    TrackUnsupported,
)
from kaamos.media.description import Kind
from kaamos.room.participant import Participant
from kaamos.room.room import Room
from kaamos.signaling import frames
from kaamos.signaling.frames import Frame, Ticket, Welcome
from kaamos.signaling.messages import Dialect, Join, JoinSlots, MessageId, Resume

if TYPE_CHECKING:
    from kaamos.signaling.websocket import Socket

logger = logging.getLogger(__name__)

# A participant without a socket whose media fell silent is gone: a closed tab, not a lost socket.
SILENT_MEDIA_S = 6.0

# Who claims an id that somebody has waits this long for a sign of life of the other's socket.
CLAIM_S = 3.0

# They make no sense to a client that comes back: it gets the offers that it needs anew.
_NOT_KEPT = frozenset({"join", "offer", "answer", "ice-candidate", "ice_candidate", "negotiate"})


class Announcer:
    """Puts what a room tells all of its members into words once."""

    def __init__(self) -> None:
        self._event: News | None = None
        self._texts: list[str] = []

    def texts(self, event: News) -> list[str]:
        """Return the frames of an event that reads the same for everybody."""
        if event is not self._event:
            self._event = event
            self._texts = [frames.encode(frame) for frame in frames.news(event)]
        return self._texts


class Presence:
    """One participant and the socket of its client, or its absence for a while.

    Attributes:
        participant: to be set right after the room took it in.
        socket: None while the client is away.
        mailbox: what the client was told, over all of its sockets.
    """

    participant: Participant

    def __init__(self, presences: Presences, socket: Socket, join_id: MessageId | None) -> None:
        self.ticket = Ticket("SE_" + secrets.token_hex(8), secrets.token_urlsafe(32))
        self.socket: Socket | None = socket
        self.mailbox = socket.mailbox
        self._presences = presences
        self._join_id = join_id
        self._dialect = Dialect(0)
        self._has_told_speakers = False
        self._sign_of_life = asyncio.Event()
        self._lost_at = 0.0
        self._expiry: asyncio.TimerHandle | None = None

    # To the client.

    def tell(self, event: RoomEvent) -> None:
        """Pass on what the room says."""
        if isinstance(event, Joined):
            welcome = self._presences.welcome()
            for frame in frames.acknowledgement(event, welcome, self.ticket, self._join_id):
                self.send(frame)
        elif isinstance(event, OfferMade):
            self.send(frames.offer(event, self.socket.dialect if self.socket else self._dialect))
        elif isinstance(event, OfferWanted):
            self.send(frames.negotiate(event))
        elif isinstance(event, SlotsChanged):
            self.send(frames.slots(event))
        elif isinstance(event, TrackUnsupported):
            self.send(frames.unsupported(event))
        elif isinstance(event, SpeakersChanged):
            self._tell_newest(event, "speakers")
        else:
            for text in self._presences.announcer.texts(event):
                self._push(text, is_kept=True)

    def _tell_newest(self, event: News, key: str) -> None:
        """Tell what is worth nothing when it is old: who reads slowly gets the newest only."""
        self._has_told_speakers = True
        for text in self._presences.announcer.texts(event):
            if self.socket is None or not self.socket.replace_unsent(text, key):
                self._push(text, is_kept=False, key=key)

    def send(self, frame: Frame) -> None:
        """Tell the client something, now or when it comes back."""
        self._push(frames.encode(frame), is_kept=frame.type not in _NOT_KEPT)

    def _push(self, text: str, *, is_kept: bool, key: str = "") -> None:
        numbered = self.mailbox.number(text, is_kept=is_kept)
        if self.socket is not None:
            self.socket.push(numbered, key)

    def removed(self, reason: str) -> None:
        """Tell the client that the room has removed it, because its media connection failed."""
        socket = self._end()
        if socket is not None:
            socket.fail(f"media connection lost: {reason}")

    # Sockets come and go.

    def detach(self) -> None:
        """Note that the socket is gone; the client may come back for a while."""
        assert self.socket is not None
        self._dialect |= self.socket.dialect
        self.socket = None
        self._lost_at = asyncio.get_running_loop().time()
        if not self._presences.resume_s:
            self.leave(LeaveReason.DISCONNECTED)
            return
        self.participant.suspend()
        logger.info("socket lost", extra=self.participant.log_ids)
        self._wait_or_leave()

    def attach(self, socket: Socket, join_id: MessageId | None, last_seq: int) -> bool:
        """Go on with another socket: tell its client what it missed, and who is there.

        Return False, and change nothing, if it missed too much.
        """
        missed = self.mailbox.rewind(last_seq)
        if missed is None:
            return False
        old, self.socket, self._join_id = self.socket, socket, join_id
        if self._expiry is not None:
            self._expiry.cancel()
        if old is not None:
            self._dialect |= old.dialect
            old.replace()
        socket.adopt(self, self._dialect)
        self._sign_of_life.set()
        ticket = Ticket(self.ticket.session, self.ticket.token, is_resumed=True)
        for frame in frames.acknowledgement(
            self.participant.joined, self._presences.welcome(), ticket, join_id
        ):
            self.send(frame)
        for text in missed:
            self._push(text, is_kept=True)
        self.tell(self.participant.room.everybody())
        if self._has_told_speakers:
            self.tell(self.participant.room.speaking())
        self.participant.resume()
        logger.info("came back, %d messages were missed", len(missed), extra=self.participant.log_ids)
        return True

    def note_life(self) -> None:
        """Note that the client sent something."""
        self._sign_of_life.set()

    async def shows_life(self) -> bool:
        """Return whether the client answers a ping, or comes back, in time."""
        self._sign_of_life.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_S):
                if self.socket is not None:
                    with suppress(ConnectionError):
                        await self.socket.ping()
                await self._sign_of_life.wait()
                return True
        return False

    def replace(self) -> None:
        """Give way to somebody with the same id."""
        socket = self.socket
        self.leave(LeaveReason.DISCONNECTED)
        if socket is not None:
            socket.replace()

    def leave(self, reason: LeaveReason) -> None:
        """Take the participant out of its room for good."""
        self._end()
        self.participant.leave(reason)

    def _wait_or_leave(self) -> None:
        """Leave if the client was away too long or its media is silent; else look again when it would be."""
        loop = asyncio.get_running_loop()
        until = self._lost_at + self._presences.resume_s
        heard = self.participant.last_received
        if heard is not None:
            until = min(until, max(heard, self._lost_at if not heard else 0.0) + SILENT_MEDIA_S)
        if loop.time() >= until:
            self.leave(LeaveReason.DISCONNECTED)
        else:
            self._expiry = loop.call_at(until, self._wait_or_leave)

    def _end(self) -> Socket | None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._presences.forget(self)
        socket, self.socket = self.socket, None
        return socket


def _slots_of(join: Join) -> dict[Kind, int]:
    """Return how many tracks a client wants to receive at most, of the kinds that it speaks of."""
    wanted = join.slots or JoinSlots()
    return {
        kind: most
        for kind, most in ((Kind.AUDIO, wanted.audio), (Kind.VIDEO, wanted.video))
        if most is not None
    }


class Presences:
    """Everybody who is in a room of this server by a WebSocket, or was just now.

    ``resume_s``: how long a participant is kept without a socket.  ``welcome``: returns what the next
    acknowledgement of a join says beside who joined.
    """

    def __init__(self, *, resume_s: float, welcome: Callable[[], Welcome]) -> None:
        self.resume_s = resume_s
        self.welcome = welcome
        self.announcer = Announcer()
        self._by_session: dict[str, Presence] = {}
        self._by_participant: dict[Participant, Presence] = {}

    def join(self, room: Room, join: Join, socket: Socket, id: MessageId | None) -> Presence:
        """Return the presence of a newcomer, who is told and shown to the others.

        Raises:
            RemoteProtocolError: as for Room.join.
        """
        presence = Presence(self, socket, id)
        presence.participant = room.join(
            join.user_id,
            join.name,
            outbox=presence.tell,
            on_removed=presence.removed,
            slots=_slots_of(join),
            client_negotiates=join.negotiation == "client",
        )
        self._by_session[presence.ticket.session] = presence
        self._by_participant[presence.participant] = presence
        return presence

    async def make_way(self, holder: Participant) -> None:
        """Remove who has an id that somebody else claims by its name alone, if its client is silent.

        Raises:
            RemoteProtocolError: DUPLICATE_IDENTITY where it is not.
        """
        presence = self._by_participant.get(holder)
        if presence is not None:
            if await presence.shows_life():
                raise RemoteProtocolError(ErrorCode.DUPLICATE_IDENTITY, "somebody has this user_id here")
            presence.replace()

    def resume(self, room_id: str, resume: Resume, socket: Socket, id: MessageId | None) -> Presence:
        """Return the presence of a client that came back on another socket, and has been told so.

        Raises:
            RemoteProtocolError: RESUME_FAILED; it may join anew.
        """
        presence = self._by_session.get(resume.session)
        if (
            presence is None
            or presence.participant.room.room_id != room_id
            or not secrets.compare_digest(presence.ticket.token.encode(), resume.token.encode())
        ):
            raise RemoteProtocolError(ErrorCode.RESUME_FAILED, "there is no such session, join anew")
        if not presence.attach(socket, id, resume.last_seq):
            # It has shown who it is: its old self need not stay in its way.
            presence.replace()
            raise RemoteProtocolError(ErrorCode.RESUME_FAILED, "too much was missed, join anew")
        return presence

    def forget(self, presence: Presence) -> None:
        """Note that a presence has ended."""
        self._by_session.pop(presence.ticket.session, None)
        self._by_participant.pop(presence.participant, None)

    def close(self) -> None:
        """Keep nobody any more whose socket is gone, now or later."""
        self.resume_s = 0.0
        for presence in list(self._by_session.values()):
            if presence.socket is None:
                presence.leave(LeaveReason.DISCONNECTED)
