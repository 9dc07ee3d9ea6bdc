"""A lossy link at one end: the picture goes on, because what is lost is asked for and repeated."""

import asyncio
from dataclasses import dataclass

from tests.support.browsers import Chromium, RoomPage
from tests.support.impair import REROUTE, Relay, relayed
from tests.support.server import RunningServer
from tests.support.visitor import NO_DEVICES

LOSS = 0.05
RTT_S = 0.05
WATCH_S = 40.0
FPS = 30

# The page asks for what it likes; the camera gives 30 pictures a second all the same.
FAST_CAMERA = """(() => {
  const original = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = function (wanted) {
    const video = { width: { exact: 640 }, height: { exact: 360 }, frameRate: { exact: 30 } };
    return original.call(this, wanted.video ? { ...wanted, video } : wanted);
  };
})();
"""

WATCHED = """async () => {
  const stats = [...(await kaamos.connection.getStats()).values()];
  const video = stats.find((s) => s.type === "inbound-rtp" && s.kind === "video");
  return {
    received: video.packetsReceived, lost: video.packetsLost, frames_received: video.framesReceived,
    frames_decoded: video.framesDecoded, frames_dropped: video.framesDropped, freezes: video.freezeCount,
    frozen_s: video.totalFreezesDuration, key_frames: video.keyFramesDecoded,
    retransmitted: video.retransmittedPacketsReceived ?? 0, nacks: video.nackCount, plis: video.pliCount,
  };
}"""


@dataclass(frozen=True)
class Watched:
    """What a viewer's page says of the one picture it receives."""

    received: int
    lost: int
    frames_received: int
    frames_decoded: int
    frames_dropped: int
    freezes: int
    frozen_s: float
    key_frames: int
    retransmitted: int
    nacks: int
    plis: int


async def look(page: RoomPage) -> Watched:
    return Watched(**await page.page.evaluate(WATCHED))


def reroute(server: RunningServer, relay: Relay) -> str:
    return REROUTE % {"server": server.rtc_port, "relay": relay.port}


async def test_a_viewer_behind_a_lossy_link_sees_every_frame(
    chromium: Chromium, server: RunningServer
) -> None:
    async with relayed(server.rtc_port, seed=1) as relay:
        relay.up.delay_s = relay.down.delay_s = RTT_S / 2
        await chromium.visit(server.room("loss"), "Ada", script=FAST_CAMERA)
        grace = await chromium.visit(server.room("loss"), "Grace", script=NO_DEVICES + reroute(server, relay))
        await grace.plays({"Ada"})
        relay.up.loss = relay.down.loss = LOSS
        before = await look(grace)
        await asyncio.sleep(WATCH_S)  # not to wait for anything: this is how long it must hold
        after = await look(grace)
        shown = after.frames_decoded - before.frames_decoded
        assert shown / WATCH_S >= 27, (before, after)
        assert after.retransmitted > before.retransmitted, (before, after)
        assert after.plis == before.plis, "no picture was given up"
        assert relay.down.lost > 0.03 * relay.down.passed


async def test_a_publisher_behind_a_lossy_link_is_seen_whole(
    chromium: Chromium, server: RunningServer
) -> None:
    async with relayed(server.rtc_port, seed=3) as relay:
        relay.up.delay_s = relay.down.delay_s = RTT_S / 2
        await chromium.visit(server.room("loss"), "Ada", script=FAST_CAMERA + reroute(server, relay))
        grace = await chromium.visit(server.room("loss"), "Grace", script=NO_DEVICES)
        await grace.plays({"Ada"})
        relay.up.loss = relay.down.loss = LOSS
        before = await look(grace)
        await asyncio.sleep(WATCH_S)  # not to wait for anything: this is how long it must hold
        relay.up.loss = relay.down.loss = 0.0
        await asyncio.sleep(1.0)  # the last repeats come in
        after = await look(grace)
        expected = after.received + after.lost - before.received - before.lost
        assert relay.up.lost > 0.03 * relay.up.passed
        assert expected > 20 * WATCH_S
        assert after.lost - before.lost < 0.003 * expected, (before, after)
