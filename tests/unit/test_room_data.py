"""Who gets what is sent on a data channel, and what it costs the others."""

import asyncio

from kaamos.events import LeaveReason
from kaamos.room.participant import Participant
from kaamos.room.room import RELAY_SLICE_S
from kaamos.rtc.channel import ChannelKind, DataMessage
from tests.support.world import World

HELLO = DataMessage(ChannelKind("chat"), True, b"hello")


def got(world: World, user_id: str) -> list[tuple[bytes, DataMessage]]:
    return world.connection(user_id).data


async def test_a_message_goes_to_all_others_of_the_room_with_its_sender() -> None:
    world = World()
    ada = world.publish("\u00c4da")
    for name in ("grace", "edsger"):
        world.publish(name)
    world.publish("alan", "elsewhere")
    world.join("watcher")  # without a connection
    await ada.on_data(HELLO)
    assert got(world, "grace") == got(world, "edsger") == [("\u00c4da\n".encode(), HELLO)]
    assert got(world, "\u00c4da") == got(world, "alan") == []


async def test_messages_keep_their_order_while_others_send() -> None:
    world = World()
    members = [world.publish(name) for name in ("ada", "grace", "edsger")]

    async def talk(member: Participant) -> None:
        for number in range(20):
            await member.on_data(DataMessage(ChannelKind("chat"), False, b"%d" % number))

    await asyncio.gather(*map(talk, members))
    for listener in members:
        heard = got(world, listener.user_id)
        assert len(heard) == 40
        for head in {head for head, _ in heard}:
            assert [m.payload for h, m in heard if h == head] == [b"%d" % number for number in range(20)]


async def test_the_loop_is_let_go_when_a_message_takes_long() -> None:
    world = World()
    ada = world.publish("ada")
    others = [f"{number}" for number in range(30)]
    for name in others:
        world.publish(name)

    ticks = 0

    def clock() -> float:
        nonlocal ticks
        ticks += 1
        return ticks * RELAY_SLICE_S  # each message that is handed on takes a slice

    world.rooms.clock = clock
    relaying = asyncio.create_task(ada.on_data(HELLO))
    turns = 0
    while not relaying.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert all(got(world, name) == [(b"ada\n", HELLO)] for name in others)


async def test_who_leaves_in_the_middle_of_a_message_is_left_out() -> None:
    world = World()
    ada, grace, edsger = (world.publish(name) for name in ("ada", "grace", "edsger"))
    connections = [world.connection(name) for name in ("grace", "edsger")]
    world.rooms.clock = iter(range(1000)).__next__  # type: ignore[assignment]
    relaying = asyncio.create_task(ada.on_data(HELLO))
    await asyncio.sleep(0)  # it was passed to one and lets the loop go
    for member in (ada, grace, edsger):
        member.leave(LeaveReason.LEFT)
    await relaying
    assert [len(connection.data) for connection in connections] == [1, 0]
    await world.rooms.close()


async def test_one_message_at_a_time_and_nobody_waits_for_who_has_gone() -> None:
    world = World()
    ada, grace = world.publish("ada"), world.publish("grace")
    async with world.rooms.relaying:
        waiting = asyncio.create_task(ada.on_data(HELLO))
        await asyncio.sleep(0)
        waiting.cancel()  # her connection ends
        await asyncio.gather(waiting, return_exceptions=True)
    await grace.on_data(HELLO)
    assert len(got(world, "ada")) == 1 and got(world, "grace") == []
