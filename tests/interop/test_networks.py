"""A browser whose network changes in mid-call stays in it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tests.support.browsers import Chromium, RoomPage
from tests.support.impair import REROUTE, Rebound, Relay, relayed
from tests.support.server import RunningServer
from tests.support.visitor import SMALL_CAMERA, Received
from tests.support.waiting import until

ICE = """async () => {
  const stats = await kaamos.connection.getStats();
  const transport = [...stats.values()].find((s) => s.type === "transport");
  const pair = stats.get(transport.selectedCandidatePairId);
  const local = pair && stats.get(pair.localCandidateId);
  return {
    ufrag: local?.usernameFragment ?? "", dtls: transport.dtlsState,
    ssrcs: [...stats.values()].filter((s) => /^(in|out)bound-rtp$/.test(s.type)).map((s) => s.ssrc).sort(),
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


def behind(relay: Relay, server: RunningServer) -> str:
    """Return the script of a page whose media passes the relay."""
    return SMALL_CAMERA % (320, 180) + REROUTE % {"server": server.rtc_port, "relay": relay.port}


async def test_chromium_goes_on_when_its_nat_gives_it_another_port(
    chromium: Chromium, server: RunningServer
) -> None:
    async with relayed(server.rtc_port, seed=3) as relay:
        ada = await chromium.visit(server.room("nat"), "Ada")
        grace = await chromium.visit(server.room("nat"), "Grace", script=behind(relay, server))
        await ada.plays({"Grace"})
        await grace.plays({"Ada"})
        for _ in range(2):
            await relay.rebind()
            await until(rebound(relay), lambda seen: seen.media_at > 0, 10.0)
            assert relay.rebound.media_at - relay.rebound.checked_at < 0.2
            await frames_follow(ada, "Grace")
            await frames_follow(grace, "Ada")
        assert await grace.page.evaluate("kaamos.connection.iceConnectionState") == "connected"


async def test_a_cable_pulled_for_eight_seconds_ends_no_call(
    chromium: Chromium, server: RunningServer
) -> None:
    async with relayed(server.rtc_port, seed=4) as relay:
        ada = await chromium.visit(server.room("cable"), "Ada")
        grace = await chromium.visit(server.room("cable"), "Grace", script=behind(relay, server))
        await ada.plays({"Grace"})
        await grace.plays({"Ada"})
        media = await grace.page.evaluate("window.media = kaamos.connection, kaamos.userId")
        relay.up.is_cut = relay.down.is_cut = True
        await asyncio.sleep(8.0)  # not to wait for anything: this is how long the cable is out
        relay.up.is_cut = relay.down.is_cut = False
        await frames_follow(ada, "Grace")
        await frames_follow(grace, "Ada")
        assert await grace.page.evaluate("kaamos.connection === window.media && kaamos.userId") == media
        assert "gone (" not in server.log.read_text()


def rebound(relay: Relay) -> Callable[[], Awaitable[Rebound]]:
    async def look() -> Rebound:
        return relay.rebound

    return look


async def frames_follow(page: RoomPage, name: str) -> None:
    """Wait until a second of somebody's moving picture, and some sound, has come after what is there now."""
    before = await page.received()

    def has_more(now: Mapping[tuple[str, str], Received]) -> bool:
        return (
            now[name, "camera"].frames_decoded >= before[name, "camera"].frames_decoded + 15
            and now[name, "microphone"].audio_energy > before[name, "microphone"].audio_energy
        )

    await until(page.received, has_more, 20.0)
