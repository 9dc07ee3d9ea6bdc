"""Rooms with a connection that only takes notes, a clock of their own, and what each member heard."""

from collections.abc import Callable, Mapping

import pytest

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import ParticipantList, RoomEvent
from kaamos.media.description import Kind
from kaamos.room.participant import Participant
from kaamos.room.room import Rooms
from tests.support.fake_connection import FakeConnection, FakeConnections


class World:
    """Rooms with a clock of their own, and what each member heard."""

    def __init__(
        self,
        ttl_s: float = 100,
        max_rooms: int = 0,
        max_participants: int = 0,
        slots: int = 1000,
        limits: tuple[int, int] = (16, 8),
    ) -> None:
        self.now = 1000.0
        self.connections = FakeConnections(slots)
        self.heard: dict[str, list[RoomEvent]] = {}
        self.removed: dict[str, str] = {}
        self.rooms = Rooms(
            self.connections,  # type: ignore[arg-type]
            ttl_s=ttl_s,
            max_rooms=max_rooms,
            max_participants=max_participants,
            slots={Kind.VIDEO: limits[0], Kind.AUDIO: limits[1]},
            clock=lambda: self.now,
        )

    def join(
        self, user_id: str, room_id: str = "room", slots: Mapping[Kind, int] | None = None
    ) -> Participant:
        heard: list[RoomEvent] = []
        participant = self.rooms.enter(room_id).join(
            user_id,
            None,
            outbox=heard.append,
            on_removed=lambda reason: self.note(user_id, reason),
            slots=slots,
        )
        self.heard[user_id] = heard
        return participant

    def note(self, user_id: str, reason: str) -> None:
        self.removed[user_id] = reason

    def publish(self, user_id: str, room_id: str = "room") -> Participant:
        participant = self.join(user_id, room_id)
        participant.receive_offer("send audio 0\nsend video 1", {})
        return participant

    def connection(self, user_id: str) -> FakeConnection:
        return self.connections.by_user[user_id]

    def speak(self, **levels: int) -> None:
        """Let people be heard at these levels, in dB below full scale, for a third of a second."""
        self.now += 0.35
        self.rooms.hear(
            {
                source: levels[publication.publisher.user_id]
                for source, publication in self.rooms.up_tracks.items()
                if publication.kind is Kind.AUDIO and publication.publisher.user_id in levels
            }
        )

    def pictures(self, user_id: str) -> list[str]:
        """Return whose pictures a member gets, in the order of its slots."""
        played = [
            self.rooms.up_tracks[source]
            for source, kind, *_ in self.connection(user_id).playing.values()
            if kind is Kind.VIDEO
        ]
        return [publication.publisher.user_id for publication in played]

    def receives(self, user_id: str) -> set[tuple[str, str]]:
        """Return (publisher, kind) of what a member's connection plays."""
        played = [self.rooms.up_tracks[source] for source, *_ in self.connection(user_id).playing.values()]
        return {(publication.publisher.user_id, publication.kind.value) for publication in played}

    def types(self, user_id: str) -> list[type]:
        """Return what a member heard since the last look."""
        types = [type(event) for event in self.heard[user_id]]
        self.heard[user_id].clear()
        return types

    def last_list(self, user_id: str) -> ParticipantList:
        return next(event for event in reversed(self.heard[user_id]) if isinstance(event, ParticipantList))


def code_of(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(RemoteProtocolError) as caught:
        call()
    return caught.value.code
