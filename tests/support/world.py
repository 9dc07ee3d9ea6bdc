"""Rooms with a connection that only takes notes, a clock of their own, and what each member heard."""

from collections.abc import Callable

import pytest

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import ParticipantList, RoomEvent
from kaamos.room.participant import Participant
from kaamos.room.room import Rooms
from tests.support.fake_connection import FakeConnection, FakeConnections


class World:
    """Rooms with a clock of their own, and what each member heard."""

    def __init__(
        self, ttl_s: float = 100, max_rooms: int = 0, max_participants: int = 0, slots: int = 16
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
            clock=lambda: self.now,
        )

    def join(self, user_id: str, room_id: str = "room") -> Participant:
        heard: list[RoomEvent] = []
        participant = self.rooms.enter(room_id).join(
            user_id, None, outbox=heard.append, on_removed=lambda reason: self.note(user_id, reason)
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

    def receives(self, user_id: str) -> set[tuple[str, str]]:
        """Return (publisher, kind) of what a member's connection plays."""
        return {(stream, kind.value) for _, kind, stream, _ in self.connection(user_id).playing.values()}

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
