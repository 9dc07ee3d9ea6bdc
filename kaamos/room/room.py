"""Rooms: who is in them, who is host, and who receives what."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import string
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import (
    LeaveReason,
    MessageSent,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantList,
    Role,
    RoomEvent,
    SpeakersChanged,
    TrackMuted,
)
from kaamos.media.description import Kind, UpTrackId
from kaamos.room.participant import Connect, Participant
from kaamos.room.slots import Stage
from kaamos.room.speakers import Speakers
from kaamos.room.tracks import Publication
from kaamos.rtc.channel import DataMessage

logger = logging.getLogger(__name__)

# Up to this size everybody gets the whole list at every change, as clients of the original expect;
# above, the others get the change only (docs/protocol.md, "Who is there").
SMALL_ROOM = 16

# How long messages of data channels go out at a stretch, before the loop looks at everything else.
RELAY_SLICE_S = 0.004

# For the goodbyes of all connections, when the server stops.
CLOSE_TIMEOUT_S = 5.0

_ALPHANUMERIC = string.ascii_letters + string.digits
_ROOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_room_id(text: str) -> str:
    """Return ``text`` if it can name a room, else raise RemoteProtocolError INVALID_ROOM_ID."""
    if not _ROOM_ID.fullmatch(text):
        raise RemoteProtocolError(
            ErrorCode.INVALID_ROOM_ID, "a room id is 1 to 64 letters, digits, hyphens and underscores"
        )
    return text


def _random_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


class Room:
    """People who see and hear each other: everybody receives everybody else's publications.

    ``max_participants`` and ``ttl_s`` of 0 set no limit.
    """

    def __init__(
        self, room_id: str, *, ttl_s: float, max_participants: int, is_ad_hoc: bool, rooms: Rooms
    ) -> None:
        self.room_id = room_id
        self.ttl_s = ttl_s
        self.max_participants = max_participants
        self.is_ad_hoc = is_ad_hoc  # made by a join, not asked for
        self.created_at = datetime.now(UTC)
        self.participants: dict[str, Participant] = {}  # by user id, in the order of coming
        self.publications: dict[str, Publication] = {}  # everybody's, by track id
        self.stages = {kind: Stage() for kind in Kind}
        self.speakers = Speakers()
        self._serials = itertools.count(1)
        self._rooms = rooms
        self._last_activity = rooms.clock()

    @property
    def expires_at(self) -> datetime | None:
        """Return when the room goes if nothing happens in it from now on; None if never."""
        if not self.ttl_s:
            return None
        idle_s = 0.0 if self.participants else self._rooms.clock() - self._last_activity
        return datetime.now(UTC) + timedelta(seconds=self.ttl_s - idle_s)

    @property
    def is_expired(self) -> bool:
        """Return whether nobody was here for ``ttl_s``."""
        idle_s = self._rooms.clock() - self._last_activity
        return bool(self.ttl_s) and not self.participants and idle_s >= self.ttl_s

    def touch(self) -> None:
        """Note that somebody used the room."""
        self._last_activity = self._rooms.clock()

    def join(
        self,
        user_id: str | None,
        name: str | None,
        *,
        outbox: Callable[[RoomEvent], None],
        on_removed: Callable[[str], None],
        slots: Mapping[Kind, int] | None = None,
        client_negotiates: bool = False,
    ) -> Participant:
        """Return the new member; it and the others are told.  Without ``user_id`` one is made.

        ``slots``: how many tracks of a kind it wants to receive at most, where the server allows more.
        ``client_negotiates``: its client makes all offers.

        Raises:
            RemoteProtocolError: ROOM_FULL, or DUPLICATE_IDENTITY where somebody has that id.
        """
        if self.max_participants and len(self.participants) >= self.max_participants:
            raise RemoteProtocolError(
                ErrorCode.ROOM_FULL, f"this room is full: it takes {self.max_participants} at most"
            )
        if user_id is None:
            user_id = "PA_" + _random_id(12)
        if user_id in self.participants:
            raise RemoteProtocolError(ErrorCode.DUPLICATE_IDENTITY, "somebody has this user_id here")
        participant = Participant(
            self,
            user_id,
            name or user_id,
            Role.GUEST if self.participants else Role.HOST,
            outbox=outbox,
            on_removed=on_removed,
            connect=self._rooms.connect,
            slots={
                kind: min((slots or {}).get(kind, most), most) for kind, most in self._rooms.slots.items()
            },
            client_negotiates=client_negotiates,
        )
        others = list(self.participants.values())
        self.participants[user_id] = participant
        self._rooms.occupied(self)
        participant.outbox(participant.joined)
        self._tell(others, ParticipantJoined(participant.info))
        if self._is_small:
            self._tell_everybody_the_list()
        else:
            participant.outbox(self.everybody())
        if self.speakers.current:
            participant.outbox(self.speaking())
        logger.info(
            "joined as %s, one of %d", participant.role, len(self.participants), extra=participant.log_ids
        )
        return participant

    def remove(self, participant: Participant, reason: LeaveReason) -> bool:
        """Take a participant and all it published out of the room; return False if it was out already."""
        if self.participants.get(participant.user_id) is not participant:
            return False
        del self.participants[participant.user_id]
        self.release(participant)
        participant.reception.end()
        for reception in participant.wishers:
            reception.forget_wish(participant)
        self.speakers.forget(participant.user_id)
        self._tell(self.participants.values(), ParticipantLeft(participant.user_id, reason))
        is_host_new = participant.role is Role.HOST and self._make_host()
        if self.participants and (is_host_new or self._is_small):
            self._tell_everybody_the_list()
        logger.info("gone (%s), %d stay", reason, len(self.participants), extra=participant.log_ids)
        if not self.participants:
            self._rooms.emptied(self)
        return True

    def release(self, participant: Participant) -> None:
        """Take from a participant its connection and all that it sends and receives."""
        connection = participant.forget()
        for publication in list(participant.publications.values()):
            self.unpublish(publication)
        participant.publications.clear()
        if connection is not None:
            self._rooms.close_later(connection.close())

    def publish(self, publication: Publication) -> None:
        """Let those receive it who have a slot to spare or a wish; of nobody else anything is touched."""
        self.publications[publication.track_id] = publication
        self._rooms.up_tracks[publication.uptrack] = publication
        stage = self.stages[publication.kind]
        stage.publications[publication.track_id] = publication
        for reception in {**stage.hungry, **stage.settled, **publication.publisher.wishers}:
            reception.offer(publication)

    def unpublish(self, publication: Publication) -> None:
        """Take it away from those who receive it."""
        if self.publications.pop(publication.track_id, None) is None:
            return
        del self._rooms.up_tracks[publication.uptrack]
        del self.stages[publication.kind].publications[publication.track_id]
        for reception in publication.wishers:
            reception.forget_wish(publication)
        for reception in [*publication.subscriptions, *publication.unable]:
            reception.withdraw(publication)

    def next_serial(self) -> int:
        """Return a number for a publication, higher than that of all before it."""
        return next(self._serials)

    def listen(self, now: float) -> None:
        """Take in what was heard since the last time: tell who speaks, and show them."""
        if self.speakers.update(now):
            self._tell(self.participants.values(), self.speaking())
        for user_id, _ in self.speakers.current:
            speaker = self.participants.get(user_id)
            for publication in speaker.publications.values() if speaker is not None else ():
                full = self.stages[publication.kind].full
                for reception in full.keys() - publication.subscriptions.keys():
                    reception.hear(publication, now)

    def speaking(self) -> SpeakersChanged:
        """Return who speaks now."""
        return SpeakersChanged(self.speakers.current)

    def announce_tracks(self) -> None:
        """Tell everybody that somebody's tracks have changed; in large rooms the offers do that alone."""
        if self._is_small:
            self._tell_everybody_the_list()

    def announce_mute(self, publication: Publication) -> None:
        """Tell everybody, its publisher too, whether a track is muted now."""
        if publication.is_muted and publication.kind is Kind.AUDIO:
            self.speakers.silence(publication.publisher.user_id)
        muted = TrackMuted(publication.publisher.user_id, publication.track_id, publication.is_muted)
        self._tell(self.participants.values(), muted)

    def relay(self, sender: Participant, payload: object, to: str | None) -> None:
        """Pass on what a member says to one of the others, or to all of them.

        Raises:
            RemoteProtocolError: PARTICIPANT_NOT_FOUND where nobody here is called ``to``.
        """
        if to is None:
            receivers = [member for member in self.participants.values() if member is not sender]
        elif to in self.participants:
            receivers = [self.participants[to]]
        else:
            raise RemoteProtocolError(ErrorCode.PARTICIPANT_NOT_FOUND, "nobody here has this user_id")
        self._tell(receivers, MessageSent(sender.user_id, to, payload, datetime.now(UTC)))

    async def relay_data(self, sender: Participant, message: DataMessage) -> None:
        """Pass a message of a data channel on to all others, one message of the whole server at a time.

        Whoever sends more than can be passed on waits here, and its client is slowed down.
        """
        head = f"{sender.user_id}\n".encode()
        async with self._rooms.relaying:
            slice_end = self._rooms.clock() + RELAY_SLICE_S
            for member in list(self.participants.values()):
                if member is not sender and member.connection is not None:
                    member.connection.send_data(message, head)
                    if self._rooms.clock() > slice_end:
                        await asyncio.sleep(0)
                        slice_end = self._rooms.clock() + RELAY_SLICE_S

    @property
    def _is_small(self) -> bool:
        return len(self.participants) <= SMALL_ROOM

    def _make_host(self) -> bool:
        """Make whoever has been here longest the host; return whether there is anybody."""
        for member in self.participants.values():
            member.role = Role.HOST
            return True
        return False

    def everybody(self) -> ParticipantList:
        """Return who is here."""
        return ParticipantList(tuple(member.info for member in self.participants.values()))

    def _tell_everybody_the_list(self) -> None:
        self._tell(self.participants.values(), self.everybody())

    def _tell(self, members: Iterable[Participant], event: RoomEvent) -> None:
        # The same object for all: who puts it into words does it once.
        for member in members:
            member.outbox(event)


class Rooms:
    """All rooms of a server.

    ``connect`` makes the peer connection of a participant, ``clock`` tells monotonic seconds.
    ``slots``: so many tracks of each kind somebody receives at most.
    ``ttl_s``, ``max_rooms`` and ``max_participants`` of 0 set no limit.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        ttl_s: float,
        max_rooms: int,
        max_participants: int,
        slots: Mapping[Kind, int],
        clock: Callable[[], float],
    ) -> None:
        self.connect = connect
        self.clock = clock
        self.slots = slots
        self.up_tracks: dict[UpTrackId, Publication] = {}
        self._lively: dict[Room, None] = {}  # somebody was heard in them just now
        self._ttl_s = ttl_s
        self._max_rooms = max_rooms
        self._max_participants = max_participants
        self._rooms: dict[str, Room] = {}
        # Empty rooms that a join made, the longest empty first: they give way when there are too many.
        self._idle_ad_hoc: dict[str, Room] = {}
        self.relaying = asyncio.Lock()  # of data channels
        self._closing: set[asyncio.Task[None]] = set()

    def create(
        self, room_id: str | None = None, *, max_participants: int | None = None, ttl_s: float | None = None
    ) -> Room:
        """Return a new room, or the one that has this id already, as it is.

        ``max_participants`` and ``ttl_s`` may ask for less than the server allows, not for more.

        Raises:
            RemoteProtocolError: INVALID_ROOM_ID, or RATE_LIMITED where there are too many rooms.
        """
        if room_id is None:
            room_id = self._free_id()
        room = self.find(check_room_id(room_id))
        if room is None:
            room = self._add(room_id, is_ad_hoc=False)
            room.ttl_s = _at_most(ttl_s, self._ttl_s)
            room.max_participants = int(_at_most(max_participants, self._max_participants))
        else:
            room.is_ad_hoc = False
            self._idle_ad_hoc.pop(room_id, None)
            room.touch()
        return room

    def find(self, room_id: str) -> Room | None:
        """Return the room, or None if there is none or its time is over."""
        room = self._rooms.get(room_id)
        if room is not None and room.is_expired:
            self._drop(room)
            return None
        return room

    def enter(self, room_id: str) -> Room:
        """Return the room to join; one that nobody created is made on the spot.

        Raises:
            RemoteProtocolError: as for create().
        """
        return self.find(room_id) or self._add(check_room_id(room_id), is_ad_hoc=True)

    def expire(self) -> None:
        """Forget the rooms whose time is over; to be called now and then."""
        for room in [room for room in self._rooms.values() if room.is_expired]:
            self._drop(room)

    def hear(self, levels: Mapping[UpTrackId, int]) -> None:
        """Take the audio levels that came since the last call (RFC 6464); to be called a few times a second.

        What speakers change is told and shown at once.  Muted tracks never speak.
        """
        for uptrack, level in levels.items():
            publication = self.up_tracks.get(uptrack)
            if publication is not None and not publication.is_muted:
                publication.publisher.room.speakers.hear(publication.publisher.user_id, level)
                self._lively[publication.publisher.room] = None
        now = self.clock()
        for room in [*self._lively]:
            room.listen(now)
            if room.speakers.is_quiet:
                del self._lively[room]

    async def close(self) -> None:
        """Close every connection, and wait until their goodbyes are out."""
        for room in list(self._rooms.values()):
            for participant in list(room.participants.values()):
                participant.leave(LeaveReason.DISCONNECTED)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT_S)

    # For Room.

    def occupied(self, room: Room) -> None:
        """Note that somebody is in the room."""
        self._idle_ad_hoc.pop(room.room_id, None)

    def emptied(self, room: Room) -> None:
        """Note that the last one left the room."""
        room.touch()
        if room.is_ad_hoc:
            self._idle_ad_hoc[room.room_id] = room

    def close_later(self, closing: Coroutine[Any, Any, None]) -> None:
        """Let a connection say goodbye while life goes on."""
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _add(self, room_id: str, *, is_ad_hoc: bool) -> Room:
        if self._max_rooms and len(self._rooms) >= self._max_rooms:
            self.expire()
        if self._max_rooms and len(self._rooms) >= self._max_rooms:
            if not self._idle_ad_hoc:
                raise RemoteProtocolError(ErrorCode.RATE_LIMITED, f"the most rooms are {self._max_rooms}")
            self._drop(next(iter(self._idle_ad_hoc.values())))
        room = Room(
            room_id,
            ttl_s=self._ttl_s,
            max_participants=self._max_participants,
            is_ad_hoc=is_ad_hoc,
            rooms=self,
        )
        self._rooms[room_id] = room
        if is_ad_hoc:
            self._idle_ad_hoc[room_id] = room
        logger.info("room made", extra={"room": room_id})
        return room

    def _drop(self, room: Room) -> None:
        del self._rooms[room.room_id]
        self._idle_ad_hoc.pop(room.room_id, None)
        logger.info("room gone", extra={"room": room.room_id})

    def _free_id(self) -> str:
        while (room_id := _random_id(10)) in self._rooms:
            pass
        return room_id


def _at_most(wanted: float | None, limit: float) -> float:
    """Return what was asked for within the limit, where 0 is no limit and None no wish."""
    if wanted is None:
        return limit
    return min(wanted, limit) if limit else wanted
