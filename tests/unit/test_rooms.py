"""Rooms come and go, and there are only so many."""

import pytest

from kaamos.errors import ErrorCode
from kaamos.events import LeaveReason
from kaamos.room.room import Room
from tests.support.world import World, code_of


def test_a_room_expires_when_nobody_was_there_for_its_time() -> None:
    world = World(ttl_s=100)
    world.rooms.create("room")
    world.now += 99
    ada = world.join("ada")
    world.now += 1000
    world.rooms.expire()
    assert world.rooms.find("room") is not None, "somebody is in it"
    ada.leave(LeaveReason.LEFT)
    world.now += 99
    assert world.rooms.find("room") is not None
    world.now += 1
    assert world.rooms.find("room") is None


def test_expired_rooms_are_forgotten_without_being_asked_for() -> None:
    world = World(ttl_s=100, max_rooms=1)
    world.rooms.create("one")
    world.now += 100
    world.rooms.expire()
    world.rooms.create("two")


def test_rooms_without_a_limit_stay() -> None:
    world = World(ttl_s=0)
    room = world.rooms.create("room")
    world.now += 1e9
    assert world.rooms.find("room") is room
    assert room.expires_at is None


def test_there_are_so_many_rooms_and_no_more() -> None:
    world = World(max_rooms=2)
    world.rooms.create("one")
    world.rooms.create("two")
    assert code_of(lambda: world.rooms.create("three")) is ErrorCode.RATE_LIMITED
    assert code_of(lambda: world.rooms.enter("three")) is ErrorCode.RATE_LIMITED
    assert world.rooms.create("one") is world.rooms.enter("one")


def test_a_room_that_a_join_made_gives_way_when_it_is_empty() -> None:
    world = World(max_rooms=2)
    ada = world.join("ada", "one")
    world.rooms.create("two")
    assert code_of(lambda: world.rooms.create("three")) is ErrorCode.RATE_LIMITED
    ada.leave(LeaveReason.LEFT)
    assert world.rooms.find("one") is not None
    world.rooms.create("three")
    assert world.rooms.find("one") is None
    assert world.rooms.find("two") is not None


def test_a_creator_may_ask_for_less_than_the_server_allows_and_not_for_more() -> None:
    world = World(ttl_s=100, max_participants=5)
    small = world.rooms.create("small", max_participants=1, ttl_s=10)
    assert (small.max_participants, small.ttl_s) == (1, 10)
    large = world.rooms.create("large", max_participants=50, ttl_s=1000)
    assert (large.max_participants, large.ttl_s) == (5, 100)
    free = World(ttl_s=0).rooms.create("free", max_participants=50, ttl_s=10)
    assert (free.max_participants, free.ttl_s) == (50, 10)


@pytest.mark.parametrize("room_id", ["", "a b", "ä", "x" * 65, "a/b", "a\n", "..", "%41"])
def test_what_cannot_be_a_room_id_is_refused(room_id: str) -> None:
    world = World()
    assert code_of(lambda: world.rooms.enter(room_id)) is ErrorCode.INVALID_ROOM_ID
    assert code_of(lambda: world.rooms.create(room_id)) is ErrorCode.INVALID_ROOM_ID


def test_generated_ids_are_ten_letters_and_digits() -> None:
    rooms = World().rooms
    made: list[Room] = [rooms.create() for _ in range(20)]
    assert len({room.room_id for room in made}) == 20
    assert all(len(room.room_id) == 10 and room.room_id.isalnum() for room in made)
