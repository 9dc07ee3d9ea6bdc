"""Reading datagrams: classes, RTP headers, header extensions, sequence numbers (wire.pxi)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos._fastpath import classify, extend_sequence, parse_packet, rewrite_packet
from kaamos.media.description import Extension
from tests.support.packets import read_rtp, rtp_packet

IDS: list[tuple[int, int]] = [
    (Extension.MID, 3),
    (Extension.AUDIO_LEVEL, 1),
    (Extension.VIDEO_ORIENTATION, 4),
]
STUN, DTLS, RTP, RTCP, UNKNOWN = 1, 2, 3, 4, 0


def expected_class(first: int, second: int) -> int:
    """RFC 7983 section 7 and RFC 5761 section 4, written as ranges."""
    if first in range(0, 4):
        return STUN
    if first in range(20, 64):
        return DTLS
    if first in range(128, 192):
        return RTCP if second in range(192, 224) else RTP
    return UNKNOWN


def test_every_pair_of_first_bytes_has_the_class_of_the_rfcs() -> None:
    wrong = [
        (first, second)
        for first in range(256)
        for second in range(256)
        if classify(bytes([first, second]) + bytes(6)) != expected_class(first, second)
    ]
    assert wrong == []


def test_a_datagram_too_short_for_any_protocol_is_not_classed() -> None:
    with pytest.raises(ValueError, match="too short"):
        classify(bytes(7))


@pytest.mark.parametrize(
    ("newest", "seq", "extended"),
    [
        (0x10000, 0, 0x10000),
        (0x10000, 1, 0x10001),
        (0x10000, 0xFFFF, 0xFFFF),
        (0x1FFFF, 0, 0x20000),
        (0x1FFFF, 0xFFFE, 0x1FFFE),
        (0x20000, 0xFFFF, 0x1FFFF),
        (0x20000, 0x7FFF, 0x27FFF),
        (0x20000, 0x8000, 0x18000),  # half a cycle away: taken as old
        (0x28000, 0, 0x20000),
        (0x28001, 0, 0x30000),
        (0x28001, 1, 0x20001),
        ((1 << 48) - 1, 0, 1 << 48),
        ((1 << 32) - 1, 0, 1 << 32),
    ],
)
def test_a_number_is_extended_to_the_closest_one(newest: int, seq: int, extended: int) -> None:
    assert extend_sequence(newest, seq) == extended


@given(st.integers(0x10000, 1 << 48), st.integers(-0x8000, 0x7FFF))
def test_any_number_within_half_a_cycle_is_found_again(newest: int, ahead: int) -> None:
    assert extend_sequence(newest, (newest + ahead) & 0xFFFF) == newest + ahead


def test_the_fixed_header_is_read_whole() -> None:
    data = rtp_packet(
        65535, timestamp=0xFFFFFFFF, ssrc=0xDEADBEEF, payload_type=127, marker=True, payload=b"abc"
    )
    assert parse_packet(data, IDS) == {
        "payload_offset": 12,
        "payload_length": 3,
        "ssrc": 0xDEADBEEF,
        "timestamp": 0xFFFFFFFF,
        "seq": 65535,
        "payload_type": 127,
        "marker": True,
        "csrc_count": 0,
        "extensions": {},
    }


@pytest.mark.parametrize("two_byte", [False, True])
def test_csrcs_extensions_and_padding_are_stepped_over(two_byte: bool) -> None:
    data = rtp_packet(
        7,
        csrcs=range(15),
        extensions={3: b"mid-7", 1: b"\x80", 9: b"unknown", 4: b"\x03"},
        two_byte=two_byte,
        payload=b"payload",
        padding=9,
    )
    parsed = parse_packet(data, IDS)
    assert parsed is not None
    at = parsed["payload_offset"]
    assert data[at : at + parsed["payload_length"]] == b"payload"
    assert parsed["csrc_count"] == 15
    assert parsed["extensions"] == {
        Extension.MID: b"mid-7",
        Extension.AUDIO_LEVEL: b"\x80",
        Extension.VIDEO_ORIENTATION: b"\x03",
    }


def with_block(profile: int, block: bytes, words: int | None = None) -> bytes:
    head = rtp_packet(1, extensions={}, payload=b"")[:12]
    count = len(block) // 4 if words is None else words
    return head + profile.to_bytes(2, "big") + count.to_bytes(2, "big") + block


@pytest.mark.parametrize(
    ("profile", "block", "found"),
    [
        (0xBEDE, b"\x10\x55\x00\x00", {Extension.AUDIO_LEVEL: b"\x55"}),
        (0xBEDE, b"\x00\x00\x10\x55", {Extension.AUDIO_LEVEL: b"\x55"}),
        (0xBEDE, b"\xf0\x10\x10\x55", {}),  # id 15 ends the search
        (0xBEDE, b"\x01\x55\x55\x00\x10\x55\x00\x00", {}),  # id 0 with a length ends it too
        (0xBEDE, b"\x10\x55\x3f\x61", {Extension.AUDIO_LEVEL: b"\x55"}),  # the second runs out of the block
        (0xBEDE, b"\x10\x55\x00\x30", {Extension.AUDIO_LEVEL: b"\x55"}),  # no room for one byte of data
        (0xBEDE, b"", {}),
        (0x1000, b"\x01\x01\x55\x00", {Extension.AUDIO_LEVEL: b"\x55"}),
        (0x100F, b"\x01\x01\x55\x00", {Extension.AUDIO_LEVEL: b"\x55"}),
        (0x1000, b"\x01\x00\x00\x00", {}),  # two-byte form allows an empty element
        (
            0x1000,
            b"\x0f\x00\x01\x01\x55\x00\x00\x00",
            {Extension.AUDIO_LEVEL: b"\x55"},
        ),  # 15 is ordinary here
        (0x1000, b"\xff\x00\x01\x01\x55\x00\x00\x00", {Extension.AUDIO_LEVEL: b"\x55"}),
        (0x1000, b"\x00\x00\x00\x01", {}),  # an id without its length
        (0x1000, b"\x01\xff\x55\x55", {}),  # a length beyond the block
        (0x1010, b"\x01\x01\x55\x00", {}),  # another profile: its elements are not ours to read
        (0xC0DE, b"\x10\x55\x00\x00", {}),
    ],
)
def test_extension_blocks_are_read_as_far_as_they_are_sound(
    profile: int, block: bytes, found: dict[int, bytes]
) -> None:
    data = with_block(profile, block) + b"payload"
    parsed = parse_packet(data, IDS)
    assert parsed is not None
    assert parsed["extensions"] == found
    assert data[parsed["payload_offset"] :] == b"payload"


@pytest.mark.parametrize(
    "data",
    [
        bytes([0x00]) + bytes(11),  # version 0
        bytes([0x40]) + bytes(11),
        bytes([0xC0]) + bytes(11),
        bytes([0x8F]) + bytes(11 + 59),  # 15 CSRCs announced, 59 bytes there
        bytes([0x90]) + bytes(11),  # an extension announced, nothing there
        bytes([0x90]) + bytes(14),  # half of its header
        with_block(0xBEDE, bytes(4), words=2),
        with_block(0xBEDE, bytes(4), words=0xFFFF),
        bytes([0xA0]) + bytes(11),  # padding announced, no payload to hold it
        bytes([0xA0]) + bytes(11) + b"\x00",  # padding of length 0
        bytes([0xA0]) + bytes(11) + b"\x02",  # more padding than payload
        bytes([0xA0]) + bytes(11) + b"ab\xff",
        bytes([0xB0]) + bytes(11) + b"\xbe\xde\x00\x01\x00\x00\x00\x04",  # padding may not eat the header
    ],
)
def test_lying_lengths_are_refused(data: bytes) -> None:
    assert parse_packet(data, IDS) is None


def test_padding_may_be_all_there_is() -> None:
    parsed = parse_packet(rtp_packet(1, payload=b"", padding=255), IDS)
    assert parsed is not None
    assert parsed["payload_length"] == 0


def test_a_packet_cut_at_any_length_is_refused_or_read_within_its_bounds() -> None:
    data = rtp_packet(
        3, csrcs=(1, 2), extensions={3: b"v", 1: b"\x11", 4: b"\x02"}, payload=b"0123456789", padding=4
    )
    for length in range(len(data)):
        cut = data[:length]
        parsed = parse_packet(cut, IDS)
        if parsed is None:
            continue
        assert parsed["payload_offset"] + parsed["payload_length"] <= length
        assert all(value in cut for value in parsed["extensions"].values())
    assert parse_packet(data, IDS) is not None


@given(st.binary(min_size=0, max_size=120), st.integers(0, 255))
def test_random_bytes_never_lead_outside_the_packet(data: bytes, first: int) -> None:
    data = bytes([first | 0x80 & 0xBF]) + data
    parsed = parse_packet(data, IDS)
    if parsed is not None:
        assert parsed["payload_offset"] + parsed["payload_length"] <= len(data)
        assert all(0 < len(value) <= 255 for value in parsed["extensions"].values())


def test_a_rewritten_packet_has_the_numbers_of_its_subscriber_and_nothing_unknown() -> None:
    data = rtp_packet(
        9,
        timestamp=90,
        marker=True,
        csrcs=(5, 6),
        extensions={1: b"\x91", 9: b"secret", 3: b"theirs", 4: b"\x01"},
        payload=b"media",
        padding=3,
    )
    down: list[tuple[int, int]] = [(Extension.MID, 14), (Extension.VIDEO_ORIENTATION, 2)]
    out = rewrite_packet(data, IDS, down, b"slot", True, 0x777, (7 << 16) + 5, 1234, 101)
    assert out is not None
    got = read_rtp(out)
    assert (got.seq, got.timestamp, got.ssrc, got.payload_type, got.marker) == (5, 1234, 0x777, 101, True)
    assert got.csrcs == (5, 6)
    assert got.extensions == {14: b"slot", 2: b"\x01"}
    assert got.payload == b"media"
    assert out[0] & 0x20 == 0


@pytest.mark.parametrize("mid", [b"", b"seventeen letters"])
def test_a_mid_that_fits_no_extension_is_left_out(mid: bytes) -> None:
    out = rewrite_packet(rtp_packet(1), IDS, [(Extension.MID, 5)], mid, True, 1, 1 << 16, 0, 100)
    assert out is not None
    assert read_rtp(out).extensions == {}


def test_an_element_longer_than_the_one_byte_form_takes_is_left_out() -> None:
    data = rtp_packet(1, extensions={1: bytes(17), 4: bytes(16)}, two_byte=True)
    down: list[tuple[int, int]] = [(Extension.AUDIO_LEVEL, 1), (Extension.VIDEO_ORIENTATION, 2)]
    out = rewrite_packet(data, IDS, down, b"", False, 1, 1 << 16, 0, 100)
    assert out is not None
    assert read_rtp(out).extensions == {2: bytes(16)}


def test_the_largest_datagram_with_every_extension_still_fits_its_slot() -> None:
    extensions = {3: bytes(16), 1: bytes(16), 4: bytes(16)}
    head = rtp_packet(1, csrcs=range(15), extensions=extensions, payload=b"")
    data = head + random.Random(8).randbytes(1536 - len(head))
    out = rewrite_packet(data, IDS, IDS, b"m" * 16, True, 1, 1 << 16, 0, 100)
    assert out is not None
    assert read_rtp(out).payload == data[len(head) :]
    assert len(out) <= 1728 - 20
