"""Firefox and Chromium in one room: what either sends, the other sees and hears."""

from collections.abc import Mapping

import pytest

from tests.support.browsers import SHARE_THIS_TAB, Chromium
from tests.support.firefox import Firefox
from tests.support.server import RunningServer
from tests.support.visitor import SMALL_CAMERA, Received, Visitor
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("network")

Tracks = Mapping[tuple[str, str], Received]

# Every fake camera shows the same picture, so each has an aspect ratio of its own.
CAMERAS = {"Ada": (320, 180), "Grace": (320, 240)}
MORE_FRAMES = 30  # two seconds of a camera with 15 pictures a second

# A headless Firefox has no screen: it shares what a page paints.
PAINTED_SCREEN = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = 400;
  canvas.height = 160;
  const context = canvas.getContext("2d");
  let count = 0;
  setInterval(() => {
    context.fillStyle = `hsl(${(count += 7)} 80% 50%)`;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }, 66);
  const [track] = canvas.captureStream(15).getVideoTracks();
  return kaamos.publish(track, "screen_share");
}"""
SCREEN_ASPECT = 400 / 160


async def goes_on(visitor: Visitor, before: Tracks) -> None:
    """Wait until every picture and sound that was received before has gone on for some seconds."""

    def is_further(now: Tracks) -> bool:
        return now.keys() >= before.keys() and all(
            now[key].frames_decoded >= old.frames_decoded + MORE_FRAMES
            if old.kind == "video"
            else now[key].audio_energy > old.audio_energy
            for key, old in before.items()
        )

    after = await until(visitor.received, is_further, 20.0)
    for track in after.values():
        if track.source == "camera":
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


async def test_firefox_and_chromium_share_their_screens_beside_their_cameras(
    firefox: Firefox, chromium: Chromium, server: RunningServer
) -> None:
    script = SMALL_CAMERA % CAMERAS["Ada"] + SHARE_THIS_TAB
    ada = await chromium.visit(server.room("proof"), "Ada", script=script)
    grace = await firefox.visit(server.room("proof"), "Grace", camera=CAMERAS["Grace"])
    await talk(ada, grace)

    await ada.page.get_by_role("button", name="Share a screen").click()
    seen = await until(grace.received, lambda tracks: shows_screen(tracks, "Ada"), 20.0)
    # The sound of a tab comes with it; nothing need be heard there.
    await goes_on(grace, {key: track for key, track in seen.items() if track.source != "screen_share_audio"})
    await grace.evaluate(PAINTED_SCREEN)
    seen = await until(ada.received, lambda tracks: shows_screen(tracks, "Grace"), 20.0)
    await goes_on(ada, seen)
    assert seen["Grace", "screen_share"].aspect == pytest.approx(SCREEN_ASPECT, rel=0.03)

    await ada.page.get_by_role("button", name="Share a screen").click()
    await grace.evaluate("() => kaamos.unpublish('screen_share')")
    await talk(ada, grace)
    assert (ada.errors, grace.errors) == ([], [])


def shows_screen(tracks: Tracks, name: str) -> bool:
    screen = tracks.get((name, "screen_share"))
    return screen is not None and screen.arrives
