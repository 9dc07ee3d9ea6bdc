"""Where a receiver can start: payload descriptors of every video codec (codec.pxi)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos._fastpath import is_keyframe
from kaamos.media.description import PayloadFormat
from tests.support.manual_room import manual_room
from tests.support.packets import rtp_packet

KEY_TAG = b"\x50\x01\x00\x9d\x01\x2a\x40\x01\xf0\x00"  # RFC 6386 section 9.1: bit 0 of the tag is 0
DELTA_TAG = b"\x51\x01\x00"


@pytest.mark.parametrize(
    "descriptor",
    [
        b"\x10",
        b"\x30",  # N: nothing depends on it
        b"\x90\x00",
        b"\x90\x80\x05",  # PictureID of 7 bits
        b"\x90\x80\x85\x01",  # PictureID of 15 bits
        b"\x90\x40\x01",  # TL0PICIDX
        b"\x90\x20\x00",  # TID
        b"\x90\x10\x00",  # KEYIDX
        b"\x90\x30\x00",  # both share one byte
        b"\x90\xf0\xff\xff\x01\x20",  # all of it
    ],
)
def test_vp8_key_frames_start_with_any_descriptor(descriptor: bytes) -> None:
    assert is_keyframe(PayloadFormat.VP8, descriptor + KEY_TAG)
    assert not is_keyframe(PayloadFormat.VP8, descriptor + DELTA_TAG)
    for length in range(len(descriptor) + 1):  # cut before the frame tag: never a key frame
        assert not is_keyframe(PayloadFormat.VP8, descriptor[:length])


@pytest.mark.parametrize("descriptor", [b"\x00", b"\x11", b"\x17", b"\x80\x00", b"\x81\x80\x05"])
def test_vp8_continuations_and_other_partitions_are_no_start(descriptor: bytes) -> None:
    assert not is_keyframe(PayloadFormat.VP8, descriptor + KEY_TAG)


def stap(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


SPS, PPS, IDR, SLICE, SEI, AUD = b"\x67\x42", b"\x68\xce", b"\x65\x88", b"\x41\x9a", b"\x06\x05", b"\x09\x10"


@pytest.mark.parametrize(
    ("payload", "starts"),
    [
        (SPS, True),
        (IDR, True),
        (b"\x65\x40", False),  # first_mb_in_slice is 1: a further slice of the picture
        (b"\x05", False),
        (PPS, False),
        (SLICE, False),
        (SEI, False),
        (stap(SPS, PPS), True),
        (stap(AUD, SEI, SPS, PPS, IDR), True),
        (stap(SEI, SLICE), False),
        (stap(b"\x65\x40", b"\x65\x20"), False),
        (stap(b"\x65", SPS), True),
        (stap(PPS), False),
        (stap(), False),
        (b"\x78\x00\x00" + SPS, False),  # a unit of length zero
        (b"\x78\x00\x09" + SPS, False),  # a unit longer than the packet
        (b"\x7c\x85\x88", True),  # FU-A, start of an IDR
        (b"\x7c\x85\x40", False),  # of its second slice
        (b"\x7c\x85", False),
        (b"\x7c\x87\x00", True),
        (b"\x7c\x05\x00", False),  # its middle
        (b"\x7c\x45\x00", False),  # its end
        (b"\x7c\x81\x00", False),  # start of a slice
        (b"\x7c", False),
        (b"\x79\x00\x02" + SPS, False),  # STAP-B, which browsers do not send (RFC 6184 section 5.6)
        (b"", False),
    ],
)
def test_h264_starts_at_sps_or_the_first_slice_of_an_idr_picture(payload: bytes, starts: bool) -> None:
    assert is_keyframe(PayloadFormat.H264, payload) is starts


def test_an_aggregate_cut_at_any_length_starts_only_where_its_sps_begins_whole() -> None:
    payload = stap(SEI, SPS, PPS)
    sps_ends = 1 + 2 + len(SEI) + 2 + len(SPS)
    for length in range(len(payload) + 1):
        assert is_keyframe(PayloadFormat.H264, payload[:length]) is (length >= sps_ends)


def test_opaque_formats_start_anywhere() -> None:
    assert is_keyframe(PayloadFormat.OPAQUE, b"\xff")
    assert is_keyframe(PayloadFormat.OPAQUE, b"")


@given(st.sampled_from(list(PayloadFormat)), st.binary(max_size=64))
def test_random_payloads_are_read_without_complaint(payload_format: PayloadFormat, payload: bytes) -> None:
    assert is_keyframe(payload_format, payload) in (False, True)


# -- VP9 and AV1

VP9_KEY = {
    "a key picture without layers": b"\x08\x82",
    "with a 7-bit picture id": b"\x88\x11\x82",
    "with a 15-bit picture id": b"\x88\x91\x22\x82",
    "base spatial layer of a key picture": b"\xa8\x11\x00\x05\x82",
}
VP9_OTHER = {
    "predicted": b"\x48\x82",
    "not its first packet": b"\x00\x82",
    "upper spatial layer": b"\xa8\x11\x02\x05\x82",
}


@pytest.mark.parametrize("payload", VP9_KEY.values(), ids=VP9_KEY.keys())
def test_the_first_packet_of_a_vp9_key_picture_is_one(payload: bytes) -> None:
    assert is_keyframe(PayloadFormat.VP9, payload)


@pytest.mark.parametrize("payload", VP9_OTHER.values(), ids=VP9_OTHER.keys())
def test_other_vp9_packets_are_none(payload: bytes) -> None:
    assert not is_keyframe(PayloadFormat.VP9, payload)


@pytest.mark.parametrize("payload", VP9_KEY.values(), ids=VP9_KEY.keys())
def test_a_vp9_descriptor_cut_short_is_no_key_picture(payload: bytes) -> None:
    lengths = [n for n in range(len(payload)) if is_keyframe(PayloadFormat.VP9, payload[:n])]
    assert all(n > 1 for n in lengths)  # never on the first byte alone


@pytest.mark.parametrize(
    ("payload", "is_key"),
    [
        (b"\x18\x0a\x0b", True),  # N: a coded video sequence starts
        (b"\x10\x32\x0b", False),
        (b"\x98\x0a\x0b", False),  # Z with N: not allowed, not a start
        (b"\x18", False),
        (b"", False),
    ],
)
def test_an_av1_coded_video_sequence_starts_with_n(payload: bytes, is_key: bool) -> None:
    assert is_keyframe(PayloadFormat.AV1, payload) is is_key


# -- H.265 (RFC 7798): a NAL unit header of two bytes, the type in bits 1 to 6 of the first


def h265(nal_type: int, body: bytes = b"\x80\x00") -> bytes:
    return bytes([nal_type << 1, 1]) + body


def h265_ap(*units: bytes) -> bytes:
    return h265(48, b"".join(len(unit).to_bytes(2, "big") + unit for unit in units))


def h265_fu(flags: int, nal_type: int, body: bytes = b"\x80\x00") -> bytes:
    return h265(49, bytes([flags | nal_type]) + body)


VPS, SPS5, PPS5, IDR5, CRA, TRAIL, SEI5, AUD5 = (h265(kind) for kind in (32, 33, 34, 19, 21, 1, 39, 35))
START, END = 0x80, 0x40


@pytest.mark.parametrize("nal_type", range(64))
def test_h265_starts_at_parameter_sets_and_at_irap_pictures(nal_type: int) -> None:
    starts = nal_type in (*range(16, 22), 32, 33)
    if nal_type not in (48, 49):
        assert is_keyframe(PayloadFormat.H265, h265(nal_type)) is starts
        assert is_keyframe(PayloadFormat.H265, h265_ap(SEI5, h265(nal_type))) is starts
    assert is_keyframe(PayloadFormat.H265, h265_fu(START, nal_type)) is starts
    assert not is_keyframe(PayloadFormat.H265, h265_fu(0, nal_type))
    assert not is_keyframe(PayloadFormat.H265, h265_fu(END, nal_type))


@pytest.mark.parametrize(
    ("payload", "starts"),
    [
        (h265(19, b"\x00\x00"), False),  # a later slice segment of the picture
        (h265_fu(START, 19, b"\x00"), False),
        (h265_ap(h265(19, b"\x00")), False),
        (h265_ap(AUD5, VPS, SPS5, PPS5, IDR5), True),
        (h265_ap(PPS5, SEI5), False),
        (h265_ap(TRAIL, TRAIL), False),
        (h265_ap(TRAIL, CRA), True),
        (h265_ap(), False),
        (h265(48, b"\x00\x00" + VPS), False),  # a unit of length zero
        (h265(48, b"\x00\x01" + VPS), False),  # and one without room for its header
        (h265(48, b"\x00\x09" + VPS), False),  # a unit longer than the packet
        (h265(50, b"\x80" + VPS), False),  # PACI, which browsers do not send
        (b"", False),
    ],
)
def test_h265_in_aggregates_and_fragments(payload: bytes, starts: bool) -> None:
    assert is_keyframe(PayloadFormat.H265, payload) is starts


@pytest.mark.parametrize(
    ("payload", "needed"),
    [
        (IDR5, 3),
        (VPS, 3),
        (h265_fu(START, 19), 4),
        (h265_fu(START, 32), 3),
        (h265_ap(SEI5, IDR5), len(h265_ap(SEI5, IDR5))),
    ],
)
def test_h265_cut_at_any_length_starts_only_where_its_key_frame_is_seen(payload: bytes, needed: int) -> None:
    for length in range(len(payload) + 1):
        assert is_keyframe(PayloadFormat.H265, payload[:length]) is (length >= needed)


def test_a_negotiated_h265_publication_is_watched_from_its_key_frame_on() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for seq, payload in enumerate((TRAIL, h265_fu(0, 19), h265_ap(VPS, SPS5, PPS5), IDR5, TRAIL)):
            assert room.send(ada, rtp_packet(seq, payload_type=106, payload=payload)) is None
        got = grace.media()
        assert [packet.payload for packet in got] == [h265_ap(VPS, SPS5, PPS5), IDR5, TRAIL]
        assert {packet.payload_type for packet in got} == {102}
