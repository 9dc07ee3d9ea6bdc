"""A browser whose network changes in mid-call stays in it."""

import asyncio

from tests.support.browsers import Chromium, RoomPage
from tests.support.server import RunningServer
from tests.support.waiting import until

ICE = """async () => {
  const stats = await kaamos.connection.getStats();
  const transport = [...stats.values()].find((s) => s.type === "transport");
  const pair = stats.get(transport.selectedCandidatePairId);
  const local = pair && stats.get(pair.localCandidateId);
  return {
    ufrag: local?.usernameFragment ?? "", dtls: transport.dtlsState,
    ssrcs: [...stats.values()].filter((s) => s.type.endsWith("-rtp")).map((s) => s.ssrc).sort(),
  };
}"""


async def ice(page: RoomPage) -> dict[str, object]:
    """Return what a page says of its selected path."""
    found: dict[str, object] = await page.page.evaluate(ICE)
    return found


async def keeps_moving(page: RoomPage, name: str, *, seconds: float) -> None:
    """Check that picture and sound of somebody arrive all the time and whole."""
    before = await page.received()
    await asyncio.sleep(seconds)  # not to wait for anything: this is how long it must hold
    after = await page.received()
    old, new = before[name, "camera"], after[name, "camera"]
    # A busy machine shows a picture late; what no load excuses is a packet that went nowhere.
    assert new.lost == old.lost and new.frozen_s - old.frozen_s < 1, (old, new)
    assert new.frames_decoded - old.frames_decoded > 5 * seconds, (old, new)
    assert after[name, "microphone"].audio_energy > before[name, "microphone"].audio_energy


async def test_an_ice_restart_of_chromium_keeps_picture_and_sound_in_both_directions(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("restart"), "Ada")
    grace = await chromium.visit(server.room("restart"), "Grace")
    await ada.plays({"Grace"})
    await grace.plays({"Ada"})
    before = await ice(grace)
    watching = asyncio.gather(
        keeps_moving(ada, "Grace", seconds=6.0), keeps_moving(grace, "Ada", seconds=6.0)
    )
    await grace.page.evaluate("kaamos.connection.restartIce()")
    after = await until(lambda: ice(grace), lambda now: now["ufrag"] != before["ufrag"], 5.0)
    await watching
    assert after["dtls"] == "connected" and after["ssrcs"] == before["ssrcs"]
    assert [page.errors for page in (ada, grace)] == [[], []]
    assert "gone (" not in server.log.read_text()
