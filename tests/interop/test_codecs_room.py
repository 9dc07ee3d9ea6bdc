"""Four people in one room with four codecs; one browser cannot decode one of them."""

import pytest

from tests.support.browsers import Chromium
from tests.support.firefox import Firefox
from tests.support.server import RunningServer
from tests.support.visitor import SMALL_CAMERA, Visitor
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("network")

# Has the page send its camera by one codec, while its offer has them all.
SEND_BY = """(() => {
  const original = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (track, init) {
    if (track.kind !== "video") return original.call(this, track, init);
    const { codecs } = RTCRtpSender.getCapabilities("video");
    const codec = codecs.find(({ mimeType }) => mimeType === "video/%s");
    return original.call(this, track, { ...init, sendEncodings: [{ codec }] });
  };
})();
"""

# Has the page offer one codec only for its camera.
OFFER_ONLY = """(() => {
  const original = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (track, init) {
    const made = original.call(this, track, init);
    const codecs = RTCRtpSender.getCapabilities("video").codecs;
    if (track.kind === "video")
      made.setCodecPreferences(codecs.filter(({ mimeType }) => ["video/%s", "video/rtx"].includes(mimeType)));
    return made;
  };
})();
"""

SEND_VP8 = """async () => {
  const { sender } = kaamos.connection.getTransceivers().find(({ sender }) => sender.track?.kind === "video");
  const parameters = sender.getParameters();
  parameters.encodings[0].codec = parameters.codecs.find(({ mimeType }) => mimeType === "video/VP8");
  await sender.setParameters(parameters);
}"""

OFFER_ONLY_VP8 = """() => {
  const changed = kaamos.connection.getTransceivers().find(({ sender }) => sender.track?.kind === "video");
  const codecs = RTCRtpSender.getCapabilities("video").codecs;
  changed.setCodecPreferences(codecs.filter(({ mimeType }) => ["video/VP8", "video/rtx"].includes(mimeType)));
  kaamos.connection.dispatchEvent(new Event("negotiationneeded"));
}"""

# Keeps what the server refuses.
HEAR_ERRORS = """(() => {
  const original = WebSocket;
  window.refused = [];
  window.WebSocket = class extends original {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "error") refused.push(message.data);
      });
    }
  };
})();
"""
REFUSED = """() => refused.map(({ code, track }) => {
  const people = [...kaamos.participants.values()];
  return [code, people.find(({ tracks }) => tracks.some((told) => told.track === track))?.name];
})"""

CODECS = {"Ada": "VP8", "Grace": "H264", "Linus": "VP9", "Barbara": "VP8"}
CAMERA = SMALL_CAMERA % (320, 180)


async def codecs_seen(visitor: Visitor) -> dict[str, str]:
    """Return by which codec everybody's picture arrives."""
    tracks = await visitor.received()
    return {track.name: track.codec for track in tracks.values() if track.kind == "video" and track.arrives}


async def frames_of(visitor: Visitor, name: str) -> int:
    track = (await visitor.received()).get((name, "camera"))
    return 0 if track is None else track.frames_decoded


async def sees(visitor: Visitor, codecs: dict[str, str]) -> None:
    """Wait until all others but those without a codec here are seen."""
    others = {name: codec for name, codec in codecs.items() if name != visitor.name}
    await until(lambda: codecs_seen(visitor), lambda seen: seen == others, 30.0)


async def enter(browser: Chromium | Firefox, server: RunningServer, name: str, script: str) -> Visitor:
    return await browser.visit(server.room("proof"), name, script=CAMERA + script)


async def is_told_of(visitor: Visitor, name: str) -> None:
    """Wait until somebody was told, once, that they cannot see the picture of somebody whom they hear."""
    told = [["UNSUPPORTED_MEDIA", name]]
    await until(lambda: visitor.evaluate(REFUSED), lambda refused: refused == told, 20.0)
    heard = await until(visitor.received, lambda tracks: (name, "microphone") in tracks, 20.0)
    assert (name, "camera") not in heard


async def goes_on(visitor: Visitor, name: str) -> None:
    """Wait until two more seconds of a picture were decoded."""
    before = await frames_of(visitor, name)
    await until(lambda: frames_of(visitor, name), lambda frames: frames >= before + 30, 20.0)


async def test_who_cannot_decode_a_codec_is_told_and_sees_the_picture_when_its_publisher_changes(
    firefox: Firefox, chromium: Chromium, server: RunningServer
) -> None:
    ada = await enter(chromium, server, "Ada", OFFER_ONLY % "VP8")
    linus = await enter(chromium, server, "Linus", OFFER_ONLY % "VP9")
    barbara = await enter(firefox, server, "Barbara", HEAR_ERRORS)
    await sees(barbara, {"Ada": "VP8", "Linus": "VP9"})
    grace = await enter(chromium, server, "Grace", SEND_BY % "H264")
    for visitor in (ada, linus, grace):
        await sees(visitor, CODECS)
    await is_told_of(barbara, "Grace")
    await sees(barbara, {"Ada": "VP8", "Linus": "VP9"})

    await grace.evaluate(SEND_VP8)
    for visitor in (ada, linus, barbara):
        await sees(visitor, CODECS | {"Grace": "VP8"})
        await goes_on(visitor, "Grace")
    assert [visitor.errors for visitor in (ada, linus, grace, barbara)] == [[], [], [], []]


async def test_who_comes_later_is_told_too_and_sees_the_picture_when_its_publisher_offers_another_codec(
    firefox: Firefox, chromium: Chromium, server: RunningServer
) -> None:
    grace = await enter(chromium, server, "Grace", OFFER_ONLY % "H264")
    await until(grace.names_shown, lambda names: names == set(), 10.0)
    barbara = await enter(firefox, server, "Barbara", HEAR_ERRORS)
    await sees(grace, {"Barbara": "VP8"})
    await is_told_of(barbara, "Grace")
    await grace.evaluate(OFFER_ONLY_VP8)
    await sees(barbara, {"Grace": "VP8"})
    await goes_on(barbara, "Grace")
    await goes_on(grace, "Barbara")
    assert [visitor.errors for visitor in (grace, barbara)] == [[], []]
