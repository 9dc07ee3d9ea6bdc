"""Clients that know only the original documents call each other, and decode the right picture and tone."""

import contextlib

import pytest

from tests.support.original_client import Colour, OriginalClient, is_near
from tests.support.server import RunningServer
from tests.support.waiting import until

RED, GREEN, BLUE = (200, 30, 30), (30, 170, 40), (40, 50, 200)
PEOPLE: dict[Colour, float] = {RED: 440.0, GREEN: 660.0, BLUE: 880.0}
# A second of a picture that moves.
FRAMES, BAR_PLACES = 30, 5


async def perceived(client: OriginalClient) -> tuple[list[Colour], list[float]]:
    """Return the pictures that arrive and move, and the tones that sound."""
    pictures = [p.colour for p in client.pictures if p.frames >= FRAMES and len(p.bar_places) >= BAR_PLACES]
    tones = [sound.tone_hz for sound in client.sounds if sound.tone_hz is not None]
    return pictures, tones


async def perceives(client: OriginalClient, colours: list[Colour]) -> None:
    """Wait until a client sees exactly these pictures and hears exactly the tones that go with them."""

    def is_right(seen: tuple[list[Colour], list[float]]) -> bool:
        pictures, tones = seen
        has_pictures = all(any(is_near(picture, colour) for picture in pictures) for colour in colours)
        has_tones = all(any(abs(tone - PEOPLE[colour]) <= 4 for tone in tones) for colour in colours)
        return has_pictures and has_tones and len(pictures) == len(tones) == len(colours)

    await until(lambda: perceived(client), is_right, 20.0)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_two_original_clients_see_and_hear_each_other(server: RunningServer, codec: str) -> None:
    url = server.socket("abc123xyz")
    async with (
        OriginalClient(url, colour=RED, tone_hz=PEOPLE[RED], codec=codec) as first,
        OriginalClient(url, colour=BLUE, tone_hz=PEOPLE[BLUE], codec=codec) as second,
    ):
        await perceives(first, [BLUE])
        await perceives(second, [RED])


async def test_a_third_original_client_is_brought_to_the_others_by_an_offer(server: RunningServer) -> None:
    url = server.socket("abc123xyz")
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            colour: await stack.enter_async_context(OriginalClient(url, colour=colour, tone_hz=tone))
            for colour, tone in PEOPLE.items()
        }
        for colour, client in clients.items():
            await perceives(client, [other for other in PEOPLE if other != colour])
        # One offer section of each kind holds one of the two others; the server offered the second.
        assert all(client.offers_answered >= 1 for client in clients.values())
