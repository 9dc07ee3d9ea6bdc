"""A shared slot against a real decoder: another picture comes in the same section, without an offer."""

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
