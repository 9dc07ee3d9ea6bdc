"""Header extensions on their way to a subscriber: ids, one-byte and two-byte headers, the time of sending."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos._fastpath import rewrite_packet
from kaamos.media.description import Extension
from tests.support.manual_room import ManualPeer, ManualRoom, manual_room
from tests.support.media_peer import VIDEO, engine_room, slot
from tests.support.packets import VP8_KEYFRAME, Rtp, nack, read_rtp, rtp_packet

SENT_ON = [
    Extension.AUDIO_LEVEL,
    Extension.VIDEO_ORIENTATION,
    Extension.PLAYOUT_DELAY,
    Extension.ABS_CAPTURE_TIME,
    Extension.DEPENDENCY_DESCRIPTOR,
]
UP: list[tuple[int, int]] = [(kind, 14 - kind) for kind in Extension]
DOWN: list[tuple[int, int]] = [(kind, 1 + kind) for kind in (Extension.MID, *SENT_ON)]
STRUCTURE = bytes(range(40))  # a dependency descriptor that carries its template structure
SIZES = {
    Extension.AUDIO_LEVEL: 1,
    Extension.VIDEO_ORIENTATION: 1,
    Extension.PLAYOUT_DELAY: 3,
    Extension.ABS_CAPTURE_TIME: 16,
    Extension.DEPENDENCY_DESCRIPTOR: 3,
}


def up(**values: bytes) -> dict[int, bytes]:
    """Return elements by the publisher's ids."""
    return {dict(UP)[Extension[name]]: value for name, value in values.items()}


def rewritten(
    data: bytes,
    *,
    allows_two_byte: bool,
    with_mid: bool = False,
    down: list[tuple[int, int]] = DOWN,
    now_us: int = 0,
) -> bytes:
    out = rewrite_packet(data, UP, down, b"m" * 16, with_mid, 7, 1 << 16, 0, 100, 1, allows_two_byte, now_us)
    assert out is not None
    return out


def profile_of(data: bytes) -> int:
    return int.from_bytes(data[12:14], "big")


@pytest.mark.parametrize("two_byte", [False, True])
def test_what_is_sent_on_arrives_under_the_subscribers_ids(two_byte: bool) -> None:
    values = {kind: bytes([0x10 + kind]) * size for kind, size in SIZES.items()}
    extensions = {dict(UP)[kind]: value for kind, value in values.items()}
    between_us = up(ABS_SEND_TIME=b"abc", TRANSPORT_CC=b"\0\1", RID=b"hi", REPAIRED_RID=b"lo")
    data = rtp_packet(1, extensions={**between_us, **extensions}, two_byte=two_byte)
    out = rewritten(data, allows_two_byte=two_byte)
    assert read_rtp(out).extensions == {1 + kind: value for kind, value in values.items()}
    assert profile_of(out) == 0xBEDE  # nothing in it needs more


@pytest.mark.parametrize("kind", SENT_ON)
def test_one_that_the_subscriber_did_not_negotiate_is_left_out(kind: Extension) -> None:
    data = rtp_packet(1, extensions={dict(UP)[other]: b"\1\2\3" for other in SENT_ON})
    out = rewritten(data, allows_two_byte=True, down=[pair for pair in DOWN if pair[0] != kind])
    assert read_rtp(out).extensions == {1 + other: b"\1\2\3" for other in SENT_ON if other != kind}


def test_a_long_descriptor_goes_out_with_a_two_byte_header_to_who_takes_one() -> None:
    data = rtp_packet(
        1, extensions=up(DEPENDENCY_DESCRIPTOR=STRUCTURE, VIDEO_ORIENTATION=b"\3"), two_byte=True
    )
    out = rewritten(data, allows_two_byte=True, with_mid=True)
    assert profile_of(out) == 0x1000
    assert read_rtp(out).extensions == {
        1 + Extension.MID: b"m" * 16,
        1 + Extension.VIDEO_ORIENTATION: b"\3",
        1 + Extension.DEPENDENCY_DESCRIPTOR: STRUCTURE,
    }


def test_who_takes_one_byte_headers_only_gets_the_rest_without_it() -> None:
    data = rtp_packet(
        1, extensions=up(DEPENDENCY_DESCRIPTOR=STRUCTURE, VIDEO_ORIENTATION=b"\3"), two_byte=True
    )
    out = rewritten(data, allows_two_byte=False)
    assert profile_of(out) == 0xBEDE
    assert read_rtp(out).extensions == {1 + Extension.VIDEO_ORIENTATION: b"\3"}


@pytest.mark.parametrize(("length", "profile"), [(16, 0xBEDE), (17, 0x1000), (255, 0x1000)])
def test_sixteen_bytes_are_the_most_of_a_one_byte_header(length: int, profile: int) -> None:
    data = rtp_packet(1, extensions=up(DEPENDENCY_DESCRIPTOR=bytes(length)), two_byte=True)
    out = rewritten(data, allows_two_byte=True)
    assert profile_of(out) == profile
    assert read_rtp(out).extensions == {1 + Extension.DEPENDENCY_DESCRIPTOR: bytes(length)}


def test_a_long_element_that_is_not_sent_on_needs_no_two_byte_header() -> None:
    data = rtp_packet(1, extensions=up(RID=bytes(20), VIDEO_ORIENTATION=b"\3"), two_byte=True)
    assert profile_of(rewritten(data, allows_two_byte=True)) == 0xBEDE


def test_an_empty_element_of_a_two_byte_header_is_left_out() -> None:
    data = rtp_packet(1, extensions=up(PLAYOUT_DELAY=b"", VIDEO_ORIENTATION=b"\3"), two_byte=True)
    out = rewritten(data, allows_two_byte=True)
    assert read_rtp(out).extensions == {1 + Extension.VIDEO_ORIENTATION: b"\3"}


@pytest.mark.parametrize("allows_two_byte", [False, True])
@pytest.mark.parametrize("is_long", [False, True])
def test_the_largest_datagrams_grow_by_less_than_their_slot_has(allows_two_byte: bool, is_long: bool) -> None:
    sizes = {kind: 200 if is_long else 16 for kind in SENT_ON}
    extensions = {dict(UP)[kind]: bytes([kind]) * size for kind, size in sizes.items()}
    head = rtp_packet(1, csrcs=range(15), extensions=extensions, two_byte=is_long, payload=b"")
    data = head + bytes(1536 - len(head))
    down = [*DOWN, (Extension.ABS_SEND_TIME, 7)]
    out = rewritten(data, allows_two_byte=allows_two_byte, with_mid=True, down=down)
    assert len(out) <= 1536 + 35  # ADDED_BYTES without the two of RTX
    assert read_rtp(out).payload == data[len(head) :]


@given(st.dictionaries(st.sampled_from(SENT_ON), st.binary(min_size=1, max_size=255)), st.booleans())
def test_any_lengths_arrive_whole_or_not_at_all(
    values: dict[Extension, bytes], allows_two_byte: bool
) -> None:
    extensions = {dict(UP)[kind]: value for kind, value in values.items()}
    data = rtp_packet(1, extensions=extensions, two_byte=True, payload=b"payload")
    got = read_rtp(rewritten(data, allows_two_byte=allows_two_byte))
    assert got.payload == b"payload"
    assert got.extensions == {
        1 + kind: value for kind, value in values.items() if allows_two_byte or len(value) <= 16
    }


def test_a_two_byte_header_cut_at_any_length_is_refused_or_sent_on_in_a_sound_form() -> None:
    extensions = up(DEPENDENCY_DESCRIPTOR=STRUCTURE, PLAYOUT_DELAY=b"\1\2\3")
    data = rtp_packet(1, extensions=extensions, two_byte=True, payload=b"payload")
    for length in range(len(data)):
        out = rewrite_packet(data[:length], UP, DOWN, b"", False, 7, 1 << 16, 0, 100, 1, True)
        assert out is None or set(read_rtp(out).extensions.values()) <= {STRUCTURE, b"\1\2\3"}
    for words in range(len(data) // 4):  # a header that says it is shorter or longer than it is
        lying = data[:14] + words.to_bytes(2, "big") + data[16:]
        out = rewrite_packet(lying, UP, DOWN, b"", False, 7, 1 << 16, 0, 100, 1, True)
        assert out is None or set(read_rtp(out).extensions.values()) <= {STRUCTURE, b"\1\2\3"}


# -- abs-send-time


@pytest.mark.parametrize(
    ("now_us", "send_time"),
    [
        (0, 0),
        (1_000_000, 1 << 18),
        (500_000, 1 << 17),
        (63_999_999, 0xFFFFFF),
        (64_000_000, 0),  # it wraps
        (64_000_000 * 5_000_000 + 250_000, 1 << 16),  # ten years up
    ],
)
def test_the_time_of_sending_is_written_in_24_bits_of_fixed_point(now_us: int, send_time: int) -> None:
    down: list[tuple[int, int]] = [(Extension.ABS_SEND_TIME, 4)]
    data = rtp_packet(1, extensions=up(ABS_SEND_TIME=b"abc"))
    got = read_rtp(rewritten(data, allows_two_byte=False, down=down, now_us=now_us))
    assert got.extensions == {4: send_time.to_bytes(3, "big")}


def send_time(packet: Rtp) -> int:
    """Return the element in us since the last 64 s mark."""
    return int.from_bytes(packet.extensions[4], "big") * 1_000_000 >> 18


def watched(room: ManualRoom, *, rtx_ssrc: int) -> tuple[ManualPeer, ManualPeer]:
    ada, grace = room.peer(), room.peer()
    extensions: list[tuple[int, int]] = [(Extension.MID, 5), (Extension.ABS_SEND_TIME, 4)]
    room.subscribe(grace, room.publish(ada), extensions=extensions, rtx_ssrc=rtx_ssrc)
    return ada, grace


def test_each_packet_and_each_repetition_by_rtx_says_when_it_left() -> None:
    with manual_room() as room:
        ada, grace = watched(room, rtx_ssrc=0x778)
        room.now_us = 640_000_000_000
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.now_us += 700_000
        room.send(ada, rtp_packet(2))
        first, second = grace.media()
        assert send_time(second) - send_time(first) == pytest.approx(700_000, abs=8)
        room.now_us += 300_000
        room.send(grace, nack(1, 0x777, (first.seq, 0)))
        (repeat,) = grace.media()
        assert repeat.ssrc == 0x778
        assert send_time(repeat) - send_time(first) == pytest.approx(1_000_000, abs=8)


def test_where_repetitions_are_ciphertext_no_time_is_written() -> None:
    with manual_room() as room:
        ada, grace = watched(room, rtx_ssrc=0)
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        (packet,) = grace.media()
        assert packet.extensions == {5: b"d"}


async def test_the_engine_passes_on_who_takes_two_byte_headers() -> None:
    with engine_room() as room:
        ada, grace, joan = room.peer(), room.peer(), room.peer()
        extensions = {Extension.DEPENDENCY_DESCRIPTOR: 9}
        uptrack = ada.publish(replace(VIDEO, extensions=extensions))
        for peer, allows in ((grace, True), (joan, False)):
            config = replace(
                slot(0x777), extensions={Extension.DEPENDENCY_DESCRIPTOR: 2}, allows_two_byte=allows
            )
            downtrack = room.engine.add_downtrack(peer.transport, config)
            room.engine.connect(downtrack, uptrack)
            room.engine.update_downtrack(downtrack, config)
        ada.send(rtp_packet(1, payload=VP8_KEYFRAME, extensions={9: STRUCTURE}, two_byte=True))
        assert read_rtp(grace.open(grace.receive_rtp())).extensions == {2: STRUCTURE}
        assert read_rtp(joan.open(joan.receive_rtp())).extensions == {}
