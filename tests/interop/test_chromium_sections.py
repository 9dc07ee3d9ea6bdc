"""A page that sends in sections which the server made, beside them, and in three sizes at once."""

from typing import Any

from tests.support.browsers import Chromium
from tests.support.caller import Caller, call
from tests.support.server import RunningServer
from tests.support.waiting import until

TRANSPORT_CC = "transport-wide-cc-extensions-01"
RID = "sdes:rtp-stream-id"
CAMERA = """const camera = (await navigator.mediaDevices.getUserMedia(
  { video: { width: 640, height: 360, frameRate: 15 } })).getVideoTracks()[0];"""
SIZES = {"q", "h", "f"}
IN_THREE_SIZES = """{ direction: "sendonly", sendEncodings: [
  { rid: "q", scaleResolutionDownBy: 4 }, { rid: "h", scaleResolutionDownBy: 2 }, { rid: "f" }] }"""


async def watches(caller: Caller, frames: int = 15) -> None:
    """Wait until a picture arrives and moves."""
    await until(
        caller.streams,
        lambda streams: any(s["way"] == "inbound" and s["frames"] >= frames for s in streams),
        20.0,
    )


async def sends(caller: Caller, rids: set[str], more_than: int = 0) -> int:
    """Wait until these versions are sent, as far as the network is known to carry them: the smallest is.

    Return how many packets of that went out.
    """

    def smallest(streams: list[dict[str, Any]]) -> int:
        return max(s["packets"] for s in streams if s["rid"] == "q")

    def is_sending(streams: list[dict[str, Any]]) -> bool:
        found = {s["rid"] for s in streams if s["way"] == "outbound" and s["kind"] == "video"}
        return found == rids and smallest(streams) > more_than

    return smallest(await until(caller.streams, is_sending, 20.0))


async def test_a_page_that_only_received_starts_to_send_in_a_section_the_server_made(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada")
    bob = await call(
        chromium, server, "proof", "Bob", 'pc.addTransceiver("audio", { direction: "recvonly" });'
    )
    await watches(bob)
    await bob.run(f"{CAMERA} pc.addTrack(camera);")
    await until(ada.received, lambda tracks: ("Bob", "camera") in tracks, 10.0)
    await until(ada.received, lambda tracks: tracks[("Bob", "camera")].frames_decoded > 15, 20.0)
    section = next(s for s in await bob.sections() if s.startswith("m=video") and "a=sendrecv" in s)
    assert "a=mid:s" in section, "it is the server's section that was used"
    assert TRANSPORT_CC in section and "transport-cc\r\n" in section
    answer = next(s for s in await bob.sections("remoteDescription") if s.startswith("m=video"))
    assert TRANSPORT_CC in answer and "transport-cc\r\n" in answer
    await watches(bob, 60)
    assert await bob.errors() == [] and ada.errors == []


async def test_a_section_added_after_only_receiving_has_transport_wide_feedback(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada")
    receive = 'for (const kind of ["audio", "video"]) pc.addTransceiver(kind, { direction: "recvonly" });'
    bob = await call(chromium, server, "proof", "Bob", receive)
    await watches(bob)
    await bob.run(f'{CAMERA} pc.addTransceiver(camera, {{ direction: "sendonly" }});')
    await until(ada.received, lambda tracks: ("Bob", "camera") in tracks, 10.0)
    section = (await bob.sections("remoteDescription"))[-1]
    assert "a=recvonly" in section and TRANSPORT_CC in section and "transport-cc\r\n" in section
    assert await bob.errors() == []


async def test_a_page_that_sends_three_sizes_takes_our_offers_and_goes_on_sending_them(
    chromium: Chromium, server: RunningServer
) -> None:
    bob = await call(
        chromium, server, "proof", "Bob", f"{CAMERA} pc.addTransceiver(camera, {IN_THREE_SIZES});"
    )
    sent = await sends(bob, SIZES)
    ada = await chromium.visit(server.room("proof"), "Ada")
    await watches(bob)
    assert await bob.run("return caller.offers") > 0, "the server has offered"
    (section,) = (s for s in await bob.sections() if "a=simulcast" in s)
    assert "a=simulcast:send q;h;f" in section
    await sends(bob, SIZES, more_than=sent + 15)
    await until(ada.received, lambda tracks: ("Bob", "camera") in tracks, 10.0)
    assert await bob.errors() == [] and ada.errors == []


async def test_three_sizes_may_start_beside_sections_that_the_server_made(
    chromium: Chromium, server: RunningServer
) -> None:
    await chromium.visit(server.room("proof"), "Ada")
    bob = await call(
        chromium, server, "proof", "Bob", 'pc.addTransceiver("audio", { direction: "recvonly" });'
    )
    await watches(bob)
    await bob.run(f"{CAMERA} pc.addTransceiver(camera, {IN_THREE_SIZES});")
    await sends(bob, SIZES)
    section = (await bob.sections("remoteDescription"))[-1]
    assert "a=simulcast:recv q;h;f" in section and RID in section and TRANSPORT_CC in section
    assert await bob.errors() == []
