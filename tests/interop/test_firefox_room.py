"""Firefox and Chromium in one room: what either sends, the other sees and hears."""

from collections.abc import Mapping

import pytest

from tests.support.browsers import Chromium
from tests.support.firefox import Firefox
from tests.support.server import RunningServer
from tests.support.visitor import Received, Visitor
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("network")

Tracks = Mapping[tuple[str, str], Received]

CAMERAS = {"Ada": (320, 180), "Grace": (320, 240)}
MORE_FRAMES = 30  # two seconds of a camera with 15 pictures a second


async def goes_on(visitor: Visitor, before: Tracks) -> None:
    """Wait until every picture and sound that was received before has gone on for some seconds."""

    def is_further(now: Tracks) -> bool:
        return set(now) == set(before) and all(
            track.frames_decoded >= before[key].frames_decoded + MORE_FRAMES
            if track.kind == "video"
            else track.audio_energy > before[key].audio_energy
            for key, track in now.items()
        )

    after = await until(visitor.received, is_further, 20.0)
    for track in after.values():
        if track.kind == "video":
            width, height = CAMERAS[track.name]
            assert track.aspect == pytest.approx(width / height, rel=0.03), track


async def talk(ada: Visitor, grace: Visitor) -> None:
    """Check that picture and sound go both ways, and keep going."""
    await goes_on(ada, await ada.plays({"Grace"}))
    await goes_on(grace, await grace.plays({"Ada"}))


async def test_firefox_and_chromium_see_and_hear_each_other_and_come_back_as_themselves_when_loaded_anew(
    firefox: Firefox, chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada", camera=CAMERAS["Ada"])
    grace = await firefox.visit(server.room("proof"), "Grace", camera=CAMERAS["Grace"])
    await talk(ada, grace)
    for visitor in (ada, grace):
        before = await visitor.evaluate("() => kaamos.userId")
        await visitor.reload()
        await talk(ada, grace)
        assert await visitor.evaluate("() => kaamos.userId") == before
    assert "gone (" not in server.log.read_text(), "nobody was ever out of the room"
    assert (ada.errors, grace.errors) == ([], [])


async def test_firefox_comes_first_and_makes_its_socket_anew_while_media_flows(
    firefox: Firefox, chromium: Chromium, server: RunningServer
) -> None:
    grace = await firefox.visit(server.room("proof"), "Grace", camera=CAMERAS["Grace"])
    ada = await chromium.visit(server.room("proof"), "Ada", camera=CAMERAS["Ada"])
    await talk(ada, grace)
    await grace.evaluate("() => { window.media = kaamos.connection; }")
    await grace.lose_socket()
    status = "() => document.querySelector('#status').innerText"
    await until(lambda: grace.evaluate(status), lambda text: text == "You are back in the call", 10.0)
    await talk(ada, grace)
    assert await grace.evaluate("() => kaamos.connection === window.media")
    assert (ada.errors, grace.errors) == ([], [])
