"""The stages of a packet's way, one by one, without sockets: ``pytest benchmarks/bench_stages.py``.

Each benchmark handles PACKETS packets a round, so divide by that; the ratio to ``protect`` is what
means something on another machine.
"""

import os
import struct
from typing import Any

import pytest
from aiortc.rtp import RtpPacket
from pylibsrtp import Policy

from benchmarks.load import KEY_BYTES, native, session, session_address, video_packet
from kaamos import _fastpath
from kaamos.media.description import Extension

PACKETS = 2000
IDS_UP = [(Extension.MID, 3), (Extension.VIDEO_ORIENTATION, 4)]
IDS_DOWN = [(Extension.MID, 5), (Extension.VIDEO_ORIENTATION, 7)]


@pytest.fixture
def packets(benchmark: Any) -> int:
    benchmark.extra_info["packets_a_round"] = PACKETS
    return PACKETS


def test_header_parse(benchmark: Any, packets: int) -> None:
    packet = video_packet()
    assert _fastpath.parse_packet(packet, IDS_UP)
    benchmark(_fastpath.parse_packet, packet, IDS_UP, packets)


def test_header_parse_by_aiortc(benchmark: Any, packets: int) -> None:
    packet = video_packet()

    def parse() -> None:
        for _ in range(packets):
            RtpPacket.parse(packet)

    benchmark(parse)


def test_rewrite(benchmark: Any, packets: int) -> None:
    packet = video_packet()
    arguments = (packet, IDS_UP, IDS_DOWN, b"0", True, 0xABCD, 1 << 16, 90000, 100)
    rewritten = _fastpath.rewrite_packet(*arguments)
    assert rewritten is not None and struct.unpack_from("!I", rewritten, 8) == (0xABCD,)
    benchmark(_fastpath.rewrite_packet, *arguments, packets)


def test_protect(benchmark: Any, packets: int) -> None:
    key = os.urandom(KEY_BYTES)

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        sender = session(key, Policy.SSRC_ANY_OUTBOUND)
        return (_fastpath.PacketRun(video_packet(), 0, packets), sender), {}

    def protect(run: Any, sender: Any) -> int:
        refused: int = run.apply(native("srtp_protect"), session_address(sender))
        return refused

    assert benchmark.pedantic(protect, setup=setup, rounds=30, warmup_rounds=2) == 0


def test_unprotect(benchmark: Any, packets: int) -> None:
    key = os.urandom(KEY_BYTES)

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        run = _fastpath.PacketRun(video_packet(), 0, packets)
        sender = session(key, Policy.SSRC_ANY_OUTBOUND)
        assert run.apply(native("srtp_protect"), session_address(sender)) == 0
        return (run, session(key, Policy.SSRC_ANY_INBOUND, window=512)), {}

    def unprotect(run: Any, receiver: Any) -> int:
        refused: int = run.apply(native("srtp_unprotect"), session_address(receiver))
        return refused

    assert benchmark.pedantic(unprotect, setup=setup, rounds=30, warmup_rounds=2) == 0
