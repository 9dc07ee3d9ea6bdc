"""Chromium sends its camera in three sizes; who watches gets the best that arrives, without a seam."""

from dataclasses import dataclass

from tests.support.browsers import Chromium, RoomPage
from tests.support.server import RunningServer
from tests.support.visitor import NO_DEVICES
from tests.support.waiting import until

HEIGHTS = (180, 360, 720)
WITHIN_S = 60.0  # Chromium starts its upper layers one by one as its estimate of the link grows

THREE_SIZES = """(() => {
  const camera = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = function (wanted) {
    const video = { width: { exact: 1280 }, height: { exact: 720 }, frameRate: { exact: 30 } };
    return camera.call(this, wanted.video ? { ...wanted, video } : wanted);
  };
  const original = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (track, init = {}) {
    if (track.kind !== "video") return original.call(this, track, init);
    const sendEncodings = [
      { rid: "q", scaleResolutionDownBy: 4 },
      { rid: "h", scaleResolutionDownBy: 2 },
      { rid: "f" },
    ];
    window.simulcast = original.call(this, track, { ...init, sendEncodings });
    return window.simulcast;
  };
})();
"""

SEEN = """async () => {
  const stats = [...(await kaamos.connection.getStats()).values()];
  const video = stats.find((s) => s.type === "inbound-rtp" && s.kind === "video");
  return {
    height: video.frameHeight ?? 0, frames: video.framesDecoded, lost: video.packetsLost,
    key_frames: video.keyFramesDecoded, retransmitted: video.retransmittedPacketsReceived ?? 0,
  };
}"""

SEND_BEST = """async (active) => {
  const sender = simulcast.sender;
  const parameters = sender.getParameters();
  parameters.encodings.at(-1).active = active;
  await sender.setParameters(parameters);
}"""


@dataclass(frozen=True)
class Seen:
    height: int
    frames: int
    lost: int
    key_frames: int
    retransmitted: int


async def look(page: RoomPage) -> Seen:
    return Seen(**await page.page.evaluate(SEEN))


async def reaches(page: RoomPage, height: int) -> Seen:
    """Wait until this size is shown, and half a second of it."""
    seen = await until(lambda: look(page), lambda s: s.height == height, WITHIN_S)
    return await until(lambda: look(page), lambda s: s.frames >= seen.frames + 15, WITHIN_S)


async def test_a_viewer_gets_the_best_layer_and_changes_without_a_gap(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("sizes"), "Ada", script=THREE_SIZES)
    grace = await chromium.visit(server.room("sizes"), "Grace", script=NO_DEVICES)
    await grace.plays({"Ada"})
    best = await reaches(grace, HEIGHTS[-1])
    assert best.lost == 0, "every number between the layers is there"
    await ada.page.evaluate(SEND_BEST, False)
    middle = await reaches(grace, HEIGHTS[1])
    await ada.page.evaluate(SEND_BEST, True)
    again = await reaches(grace, HEIGHTS[-1])
    assert again.lost == 0
    assert again.key_frames > middle.key_frames > best.key_frames, "each change is at a key frame"
