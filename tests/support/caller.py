"""A page that is not ours: a peer connection in perfect negotiation, and nothing between it and a test.

It speaks docs/protocol.md and leaves transceivers, parameters and the text of descriptions to the test.
"""

from typing import Any

from playwright.async_api import Page

from tests.support.browsers import Chromium
from tests.support.server import RunningServer

# perfect negotiation as webrtc-pc section 10.7 has it; the server is the impolite side.
CALLER = """(({ url, name }) => {
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const socket = new WebSocket(url);
  const caller = (window.caller = { pc, errors: [], offers: 0, munge: (sdp) => sdp });
  let joined;
  const ready = new Promise((resolve) => { joined = resolve; });
  const send = (type, data, id) => socket.send(JSON.stringify({ type, data, id }));
  const attempt = async (what, act) => {
    try { return await act(); } catch (error) { caller.errors.push(`${what}: ${error}`); }
  };
  pc.onnegotiationneeded = () => attempt("own offer", async () => {
    await ready;
    const offer = await pc.createOffer();
    if (pc.signalingState !== "stable") return;
    await pc.setLocalDescription({ type: "offer", sdp: caller.munge(offer.sdp) });
    send("offer", { sdp: pc.localDescription.sdp });
  });
  socket.onopen = () => send("join", { user_id: name, name });
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "join") joined();
    if (message.type === "error" && message.data.code !== "GLARE") caller.errors.push(data);
    if (message.type === "answer") attempt("answer of the server", async () => {
      if (pc.signalingState === "have-local-offer") await pc.setRemoteDescription(message.data);
    });
    if (message.type === "offer") attempt("offer of the server", async () => {
      caller.offers += 1;
      await pc.setRemoteDescription({ type: "offer", sdp: message.data.sdp });
      const answer = await pc.createAnswer();
      await pc.setLocalDescription({ type: "answer", sdp: caller.munge(answer.sdp) });
      send("answer", { sdp: pc.localDescription.sdp }, message.id);
    });
  };
})"""

# What of an outbound or inbound RTP stream the tests look at.
STREAMS = """async () => [...(await caller.pc.getStats()).values()]
  .filter((s) => s.type === "inbound-rtp" || s.type === "outbound-rtp")
  .map((s) => ({ way: s.type.split("-")[0], kind: s.kind, mid: s.mid, rid: s.rid ?? "",
    packets: s.packetsSent ?? s.packetsReceived ?? 0, frames: s.framesDecoded ?? 0 }))"""


class Caller:
    """Somebody in a room by a page of their own."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def run(self, script: str) -> Any:
        """Return what a function of the page's connection ``pc`` gives."""
        return await self.page.evaluate(f"async () => {{ const pc = caller.pc; {script} }}")

    async def sections(self, side: str = "localDescription") -> list[str]:
        """Return the media sections of a description that stands."""
        sdp: str = await self.page.evaluate(f"caller.pc.{side}.sdp")
        return [f"m={section}" for section in sdp.split("\r\nm=")[1:]]

    async def streams(self) -> list[dict[str, Any]]:
        """Return its RTP streams, both ways."""
        found: list[dict[str, Any]] = await self.page.evaluate(STREAMS)
        return found

    async def errors(self) -> list[str]:
        """Return what failed on the page, and the errors the server told."""
        found: list[str] = await self.page.evaluate("caller.errors")
        return found


async def call(chromium: Chromium, server: RunningServer, room_id: str, name: str, start: str) -> Caller:
    """Join a room from an empty page; ``start`` is run with its connection ``pc`` before anything is said."""
    page = await chromium.open(f"{server.url}/health")
    await page.evaluate(CALLER, {"url": server.socket(room_id), "name": name})
    caller = Caller(page)
    await caller.run(start)
    return caller
