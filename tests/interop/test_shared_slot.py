"""Slots with real decoders and voices: another picture in the same section, and who speaks."""

import contextlib

from tests.support.original_client import Colour, OriginalClient, is_near
from tests.support.server import running_server
from tests.support.waiting import until

RED, GREEN, BLUE = (200, 30, 30), (30, 170, 40), (40, 50, 200)


async def shows(client: OriginalClient, colour: Colour) -> None:
    """Wait until the only picture that a client gets has this colour and moves."""
    [picture] = client.pictures

    async def look() -> bool:
        if not is_near(picture.colour, colour):
            picture.bar_places.clear()
        return len(picture.bar_places) >= 3

    await until(look, bool, 20.0)


async def test_subscribe_moves_the_picture_in_the_one_slot_there_is_without_an_offer() -> None:
    async with running_server(KAAMOS_ROOMS_VIDEO_SLOTS="1") as server, contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                OriginalClient(server.socket("slots"), colour=colour, tone_hz=440.0)
            )
            for colour in (RED, GREEN, BLUE)
        ]
        *_, watcher = clients

        def people() -> list[str]:
            lists = [
                message["data"]["participants"]
                for message in watcher.told
                if message["type"] == "participants"
            ]
            return [person["user_id"] for person in lists[-1]] if lists else []

        async def pictures() -> int:
            return len(watcher.pictures) * (len(people()) == 3)

        await until(pictures, lambda count: count == 1, 20.0)
        red, green, _ = people()
        for user_id, colour in ((red, RED), (green, GREEN), (red, RED)):
            await watcher.send({"type": "subscribe", "data": {"participants": [user_id]}})
            await shows(watcher, colour)
        offers = watcher.offers_answered
        for user_id, colour in ((green, GREEN), (red, RED)):
            await watcher.send({"type": "subscribe", "data": {"participants": [user_id]}})
            await shows(watcher, colour)
        assert watcher.offers_answered == offers and len(watcher.pictures) == 1
        slots = [message["data"]["slots"] for message in watcher.told if message["type"] == "slots"]
        assert [next(iter(change.values()))["user_id"] for change in slots][-2:] == [green, red]


async def test_everybody_is_told_who_speaks() -> None:
    async with (
        running_server() as server,
        OriginalClient(server.socket("voices"), colour=RED, tone_hz=440.0) as red,
        OriginalClient(server.socket("voices"), colour=GREEN, tone_hz=660.0) as green,
    ):

        async def speakers() -> list[set[str]]:
            named = []
            for client in (red, green):
                told = [
                    message["data"]["speakers"] for message in client.told if message["type"] == "speakers"
                ]
                named.append({speaker["user_id"] for speaker in told[-1]} if told else set())
            return named

        await until(speakers, lambda named: all(len(people) == 2 for people in named), 20.0)


async def test_a_picture_whose_codec_the_own_section_lacks_comes_in_another_one() -> None:
    async with (
        running_server() as server,
        OriginalClient(server.socket("codecs"), colour=RED, tone_hz=440.0, codec="VP8") as red,
        OriginalClient(server.socket("codecs"), colour=GREEN, tone_hz=660.0, codec="H264") as green,
    ):

        async def frames() -> list[int]:
            return [
                max((p.frames for p in client.pictures if is_near(p.colour, colour)), default=0)
                for client, colour in ((red, GREEN), (green, RED))
            ]

        await until(frames, lambda counts: min(counts) >= 20, 20.0)
        assert not [m for client in (red, green) for m in client.told if m["type"] == "error"]
