"""Opus from browser to browser: stereo, silence that is not sent, and redundancy, for pages that ask."""

import asyncio

from tests.support.browsers import Chromium
from tests.support.caller import call
from tests.support.server import RunningServer
from tests.support.waiting import until

TONE_ON_THE_LEFT = """
  const context = new AudioContext(), tone = context.createOscillator();
  const sides = context.createChannelMerger(2);
  const out = context.createMediaStreamDestination();
  tone.connect(sides, 0, 0); sides.connect(out); tone.start();
  caller.tone = tone;
  pc.addTransceiver(out.stream.getAudioTracks()[0], { direction: "sendonly" });"""
SAY = 'caller.munge = (sdp) => sdp.replace(/(a=fmtp:111 [^\\r]*)/g, "$1;%s");'
LISTEN = """
  pc.addTransceiver("audio", { direction: "recvonly" });
  pc.ontrack = ({ track }) => {
    const stream = new MediaStream([track]), element = new Audio(), context = new AudioContext();
    element.srcObject = stream;  // Chromium decodes for an element only
    element.play();
    const split = context.createChannelSplitter(2);
    context.createMediaStreamSource(stream).connect(split);
    caller.ears = [0, 1].map((side) => {
      const ear = context.createAnalyser();
      split.connect(ear, side);
      return ear;
    });
  };"""
LOUDNESS = """return (caller.ears ?? []).map((ear) => {
  const samples = new Float32Array(ear.fftSize);
  ear.getFloatTimeDomainData(samples);
  return Math.max(...samples.map(Math.abs));
});"""


async def test_stereo_reaches_a_page_that_wants_it(chromium: Chromium, server: RunningServer) -> None:
    start = TONE_ON_THE_LEFT + SAY % "stereo=1"
    ada = await call(chromium, server, "proof", "Ada", start)
    bob = await call(chromium, server, "proof", "Bob", LISTEN + SAY % "stereo=1")
    await until(
        lambda: bob.run(LOUDNESS),
        lambda sides: len(sides) == 2 and sides[0] > 0.1 and sides[1] < sides[0] / 10,
        20.0,
    )
    assert await ada.errors() == [] and await bob.errors() == []


async def test_silence_is_not_sent_by_a_page_that_says_so(chromium: Chromium, server: RunningServer) -> None:
    ada = await call(chromium, server, "proof", "Ada", TONE_ON_THE_LEFT + SAY % "usedtx=1")
    bob = await call(chromium, server, "proof", "Bob", LISTEN)
    await until(lambda: bob.run(LOUDNESS), lambda sides: max(sides, default=0) > 0.1, 20.0)
    await ada.run("caller.tone.stop();")
    rate = """
      const sent = async () => [...(await pc.getStats()).values()].find((s) => s.type === "outbound-rtp");
      const old = await sent();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const now = await sent();
      return 1000 * (now.packetsSent - old.packetsSent) / (now.timestamp - old.timestamp);"""
    await until(lambda: ada.run(rate), lambda packets: packets < 10, 20.0)
    assert await ada.errors() == [] and await bob.errors() == []


async def test_opus_with_redundancy_is_sent_by_a_page_that_prefers_it_and_heard_by_others(
    chromium: Chromium, server: RunningServer
) -> None:
    prefer = """
      const { codecs } = RTCRtpReceiver.getCapabilities("audio"), isRed = (c) => c.mimeType === "audio/red";
      const others = codecs.filter((c) => !isRed(c));
      pc.getTransceivers()[0].setCodecPreferences([...codecs.filter(isRed), ...others]);"""
    without = """
      const { codecs } = RTCRtpReceiver.getCapabilities("audio");
      pc.getTransceivers()[0].setCodecPreferences(codecs.filter((c) => c.mimeType !== "audio/red"));"""
    ada = await call(chromium, server, "proof", "Ada", TONE_ON_THE_LEFT + prefer)
    bob = await call(chromium, server, "proof", "Bob", LISTEN)
    eve = await call(chromium, server, "proof", "Eve", LISTEN + without)
    for listener in (bob, eve):
        await until(lambda page=listener: page.run(LOUDNESS), lambda sides: max(sides, default=0) > 0.1, 20.0)
    size = """
      const stream = [...(await pc.getStats()).values()].find((s) => s.type === "inbound-rtp");
      return stream.bytesReceived / stream.packetsReceived;"""
    # getStats calls both audio/opus; a packet with two frames is nearly twice as large as one with one.
    await until(
        lambda: asyncio.gather(bob.run(size), eve.run(size)), lambda sizes: sizes[0] > 1.5 * sizes[1], 10.0
    )
    assert ["red/48000" in (await page.sections())[0] for page in (ada, bob, eve)] == [True, True, False]
    assert [await page.errors() for page in (ada, bob, eve)] == [[], [], []]
