"""Clients that reach the server as no browser does: tersely, over IPv6, at its second address."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aioice
import pytest

from tests.support import sdp_peer
from tests.support.handmade import Handmade, HandmadeRoom, handmade_room
from tests.support.ortc import assert_no_complaints, eventually, only_tasks
from tests.support.packets import read_rtp, rtp_packet
from tests.support.required import address_family
from tests.support.scripted_peer import ScriptedPeer, Stream

SDP = Path(__file__).parent.parent / "data" / "sdp"
FFMPEG = (SDP / "ffmpeg-whip-offer.sdp").read_text()

AUDIO_SSRC, VIDEO_SSRC = 2112902998, 2112902999  # of FFmpeg's offer
H264_SPS = bytes.fromhex("6742c01e95a014016e40")


@pytest.fixture
async def no_complaints(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await only_tasks(before)
    assert_no_complaints(caplog)


@pytest.fixture(autouse=True)
def viewers_take_what_ffmpeg_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the viewers offer baseline H264, as browsers do beside the constrained one."""
    baseline = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"
    monkeypatch.setitem(sdp_peer.CODECS["video"], 102, ("H264/90000", baseline))


def talking(client: Handmade) -> Stream:
    """Let FFmpeg's two streams flow; every picture is whole."""

    def send(number: int) -> None:
        client.peer.send_rtp(
            rtp_packet(number, timestamp=number * 960, ssrc=AUDIO_SSRC, payload_type=111, payload=b"voice")
        )
        client.peer.send_rtp(
            rtp_packet(
                number,
                timestamp=number * 1800,
                ssrc=VIDEO_SSRC,
                payload_type=106,
                payload=H264_SPS,
                marker=True,
            )
        )

    return Stream(send)


def payloads(client: Handmade) -> set[bytes]:
    """What a viewer received, but for padding."""
    return {read_rtp(data).payload for _, _, data in client.peer.media}


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize("setup", ["passive", "active"])
async def test_a_publisher_as_terse_as_ffmpeg_is_seen_and_heard(setup: str) -> None:
    # No candidates, no ice-options, no header extensions; checks without PRIORITY and ICE-CONTROLLING.
    offer = FFMPEG.replace("a=setup:active", f"a=setup:{setup}")
    peer = ScriptedPeer(dtls_role="server" if setup == "passive" else "client", is_terse=True)
    async with handmade_room() as room:
        ffmpeg, grace = await room.join("ffmpeg", peer), await room.join("grace")
        await ffmpeg.call(offer)
        await grace.watch()
        async with talking(ffmpeg):
            await eventually(lambda: payloads(grace) >= {b"voice", H264_SPS})


REACHED = [
    ("::1", ["::1"], None),
    ("127.0.0.1", ["127.0.0.2"], None),
    ("127.0.0.1", ["127.0.0.1", "127.0.0.2"], "127.0.0.2"),
    ("::1", ["127.0.0.1", "::1"], "::1"),
]


@pytest.mark.usefixtures("no_complaints")
@pytest.mark.parametrize(("client_ip", "addresses", "server_ip"), REACHED)
async def test_a_call_works_over_whichever_address_of_the_server_was_asked(
    client_ip: str, addresses: list[str], server_ip: str | None
) -> None:
    # The peer takes nothing that comes from another address than the one it sends to.
    async with handmade_room(*addresses) as room:
        need_ipv6(room, client_ip)
        ada = await room.join("ada", ScriptedPeer(ip=client_ip, is_terse=True))
        grace = await room.join("grace", ScriptedPeer(ip=client_ip))
        await ada.call(FFMPEG, server_ip)
        await grace.watch(server_ip)
        async with talking(ada):
            await eventually(lambda: payloads(grace) >= {b"voice", H264_SPS})
            assert {grace.peer.server[0], ada.peer.server[0]} == {server_ip or addresses[0]}


@pytest.mark.usefixtures("no_complaints")
async def test_people_on_different_families_see_each_other() -> None:
    async with handmade_room("127.0.0.1", "::1") as room:
        need_ipv6(room, "::1")
        ada = await room.join("ada", ScriptedPeer(ip="::1", is_terse=True))
        grace = await room.join("grace")
        await ada.call(FFMPEG, "::1")
        await grace.watch("127.0.0.1")
        async with talking(ada):
            await eventually(lambda: payloads(grace) >= {b"voice", H264_SPS})


def need_ipv6(room: HandmadeRoom, ip: str) -> None:
    engine = room.server._engine
    address_family(ip, has_ipv6=engine is not None and engine.has_ipv6)


async def test_who_lost_the_network_for_longer_than_consent_lasts_is_gone_and_others_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.05)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 4)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.05)
    async with handmade_room() as room:
        ada, grace = await room.join("ada", ScriptedPeer(is_terse=True)), await room.join("grace")
        await ada.call(FFMPEG)
        await grace.watch()
        async with talking(ada):
            await eventually(lambda: payloads(grace) >= {b"voice"})
        ada.peer.answers_checks = False  # the cable is out, the socket does not know yet
        left = await grace.client.hear("participant-left")
        assert left["data"] == {"user_id": "ada", "reason": "connection_lost"}
        assert (await ada.client.hear("error"))["data"]["code"] == "INTERNAL"
        assert await ada.client.closed() == 1011


async def test_a_network_that_comes_back_before_consent_is_over_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.05)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 1000)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.02)
    async with handmade_room() as room:
        ada, grace = await room.join("ada", ScriptedPeer(is_terse=True)), await room.join("grace")
        await ada.call(FFMPEG)
        await grace.watch()
        async with talking(ada):
            await eventually(lambda: payloads(grace) >= {b"voice"})
        for peer in (ada.peer, grace.peer):
            peer.answers_checks = False
        checks = ada.peer.checks_heard
        await eventually(lambda: ada.peer.checks_heard > checks + 5)
        for peer in (ada.peer, grace.peer):
            peer.answers_checks = True
            peer.media.clear()
        async with talking(ada):
            await eventually(lambda: payloads(grace) >= {b"voice"})
