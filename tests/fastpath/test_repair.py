"""Lost packets: repeated to subscribers as RTX, asked of publishers by NACK, taken back as RTX."""

import itertools
import struct
from itertools import pairwise

import pytest

from tests.support.manual_room import (
    DOWN_EXTENSIONS,
    DOWN_TYPES,
    RTX_DOWN_TYPES,
    ManualPeer,
    ManualRoom,
    down_settings,
    is_rtcp,
    manual_room,
)
from tests.support.packets import (
    VP8_DELTA,
    VP8_KEYFRAME,
    nack,
    read_rtp,
    receiver_report,
    report_block,
    rtp_packet,
    split_compound,
)

RTX_SSRC = 0x888
UP_RTX_SSRC = 0x4321


def delta(seq: int, **fields: int) -> bytes:
    return rtp_packet(seq, timestamp=seq * 3000, payload=VP8_DELTA + seq.to_bytes(4, "big"), **fields)  # type: ignore[arg-type]


def keyframe(seq: int) -> bytes:
    return rtp_packet(seq, timestamp=seq * 3000, payload=VP8_KEYFRAME + seq.to_bytes(4, "big"))


def rtx(seq: int, original: bytes, *, ssrc: int = UP_RTX_SSRC) -> bytes:
    """Return the retransmission of a packet (RFC 4588 section 4)."""
    timestamp = struct.unpack_from("!I", original, 4)[0]
    return rtp_packet(
        seq, timestamp=timestamp, ssrc=ssrc, payload_type=108, payload=original[2:4] + original[12:]
    )


def nacked(peer: ManualPeer) -> list[int]:
    """Return the numbers that NACKs since the last look asked this publisher for."""
    found = []
    for datagram in peer.rtcp():
        for count, kind, body in split_compound(datagram):
            if (count, kind) == (1, 205):
                for pid, mask in struct.iter_unpack("!HH", body[8:]):
                    found += [pid, *((pid + i + 1) & 0xFFFF for i in range(16) if mask >> i & 1)]
    return found


def call(room: ManualRoom) -> tuple[ManualPeer, ManualPeer]:
    """Return a publisher with NACK and RTX, and a subscriber with RTX that watches it."""
    ada, grace = room.peer(), room.peer()
    uptrack = room.publish(ada, nack=True, rtx_ssrcs=[(UP_RTX_SSRC, 0x1234)])
    room.subscribe(grace, uptrack, rtx_ssrc=RTX_SSRC)
    room.send(ada, keyframe(65_530))
    ada.received()
    return ada, grace


def later(room: ManualRoom, us: int) -> None:
    room.now_us += us
    room.worker.tick(room.now_us, room.now_ntp)


# -- to subscribers


def test_a_nack_is_answered_with_a_new_packet_on_the_rtx_ssrc() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        for seq in range(65_531, 65_551):
            room.send(ada, delta(seq & 0xFFFF))
        sent = {packet.seq: packet for packet in grace.media()}
        room.send(grace, nack(9, 0x777, (1003, 0b101)))
        repeats = grace.media()
        assert [packet.seq for packet in repeats] == [501, 502, 503]
        for packet, lost in zip(repeats, (1003, 1004, 1006), strict=True):
            assert (packet.ssrc, packet.payload_type) == (RTX_SSRC, 120)
            assert packet.payload == lost.to_bytes(2, "big") + sent[lost].payload
            assert (packet.timestamp, packet.marker) == (sent[lost].timestamp, sent[lost].marker)


def test_a_repeat_after_a_gap_was_closed_is_the_packet_that_had_the_number() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        for seq in (65_531, 65_532):
            room.send(ada, delta(seq))
        room.send(ada, rtp_packet(65_533, payload=b"", padding=100))  # left out: later numbers move down
        for seq in (65_534, 65_535):
            room.send(ada, delta(seq))
        sent = {packet.seq: packet for packet in grace.media()}
        room.send(grace, nack(9, 0x777, (1001, 0b111)))
        assert [p.payload[2:] for p in grace.media()] == [sent[n].payload for n in (1001, 1002, 1003, 1004)]


def test_a_repeat_is_not_sent_again_before_a_round_trip_is_over() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        room.send(ada, delta(65_531))
        grace.received()
        room.send(grace, nack(9, 0x777, (1001, 0)))
        assert len(grace.media()) == 1
        room.now_us += 15_000
        room.send(grace, nack(9, 0x777, (1001, 0)))
        assert grace.media() == []
        room.now_us += 10_000
        room.send(grace, nack(9, 0x777, (1001, 0)))
        assert [packet.seq for packet in grace.media()] == [502, 503]  # lost twice: so it goes out twice


def test_the_least_round_trip_counts_and_rises_slowly() -> None:
    """A busy viewer answers late now and then; a repeat must not wait for that."""
    with manual_room() as room:
        ada, grace = call(room)
        numbers = itertools.count(65_531)

        def measured(ms: int) -> None:
            room.now_us += 1_000_000
            lsr = (room.now_ntp - (ms << 32) // 1000 >> 16) & 0xFFFFFFFF
            room.send(grace, receiver_report(9, report_block(0x777, lsr=lsr)))

        def repeated_after() -> int:
            """Return after how many ms a second NACK for a new packet is answered."""
            room.send(ada, delta(next(numbers) & 0xFFFF))
            newest = [packet.seq for packet in grace.media() if packet.ssrc == 0x777][-1]
            for ms in range(0, 500, 5):
                room.send(grace, nack(9, 0x777, (newest, 0)))
                if grace.media() and ms:
                    return ms
                room.now_us += 5_000
            raise AssertionError("not within half a second")

        measured(80)
        measured(400)
        assert 100 <= repeated_after() <= 110  # an eighth of the way to 400, and then an eighth less
        measured(40)
        assert 35 <= repeated_after() <= 40
        for _ in range(40):
            measured(160)
        assert 130 <= repeated_after() <= 145


def test_a_publisher_without_reports_is_measured_by_its_answers() -> None:
    with manual_room() as room:
        ada, _ = call(room)

        def lose_one(at: int) -> list[int]:
            """Return when a packet was asked for, in us, until it comes 30 ms after the first time."""
            room.send(ada, delta(at + 1))
            asked: list[int] = []
            while not asked or room.now_us < asked[0] + 30_000:
                later(room, 5_000)
                asked += [room.now_us for _ in nacked(ada)]
            room.send(ada, rtx(at, delta(at)))
            return asked

        assert len(lose_one(65_531)) == 1  # nothing is known: it waits long
        room.send(ada, delta(65_534))  # 65533 is lost
        asked = []
        for _ in range(30):
            later(room, 5_000)
            asked += [room.now_us for _ in nacked(ada)]
        assert {b - a for a, b in pairwise(asked)} == {30_000}


@pytest.mark.parametrize("lost", [999, 1002, 1500, 5])
def test_what_was_never_sent_is_not_repeated(lost: int) -> None:
    with manual_room() as room:
        ada, grace = call(room)
        room.send(ada, delta(65_531))
        grace.received()
        room.send(grace, nack(9, 0x777, (lost, 0)))
        assert grace.media() == []


def test_what_is_old_is_not_repeated() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        room.send(ada, delta(65_531))
        grace.received()
        room.now_us += 2_000_001
        room.send(grace, nack(9, 0x777, (1001, 0)))
        assert grace.media() == []


def test_a_change_of_source_ends_repeats_of_the_old_one() -> None:
    with manual_room() as room:
        ada, grace, linus = room.peer(), room.peer(), room.peer()
        hers, his = room.publish(ada), room.publish(linus, ssrcs=[0x99])
        slot = room.subscribe(grace, hers, rtx_ssrc=RTX_SSRC)
        room.send(ada, keyframe(10))
        room.send(ada, delta(11))
        room.worker.connect(slot, his)
        room.apply()
        room.send(linus, rtp_packet(700, ssrc=0x99, payload=VP8_KEYFRAME))
        assert [packet.seq for packet in grace.media()] == [1000, 1001, 1002]
        room.send(grace, nack(9, 0x777, (1000, 0b11)))
        assert [packet.payload[:2] for packet in grace.media()] == [b"\x03\xea"]  # 1002 alone


def negotiate(room: ManualRoom, slot: int, *, rtx_ssrc: int, has_nack: bool = True) -> None:
    """Let a slot gain RTX, or lose it (0)."""
    types = RTX_DOWN_TYPES if rtx_ssrc else []
    settings = down_settings(
        types=DOWN_TYPES, extensions=DOWN_EXTENSIONS, has_nack=has_nack, rtx_ssrc=rtx_ssrc, rtx_types=types
    )
    room.worker.update_downtrack(slot, settings)
    room.apply()


def test_a_slot_that_gains_rtx_and_loses_it_repeats_as_it_was_negotiated() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        slot = room.subscribe(grace, room.publish(ada))  # repeats are the stored bytes
        sent: dict[int, bytes] = {}
        rtx_numbers: list[int] = []

        def play(seq: int) -> None:
            room.send(ada, keyframe(seq))
            [data] = grace.received()
            sent[read_rtp(data).seq] = data

        def repeated(number: int) -> str:
            """Ask for a packet and say how it came."""
            room.now_us += 100_000
            room.send(grace, nack(9, 0x777, (number, 0)))
            answers = [data for data in grace.received() if not is_rtcp(data)]
            if not answers:
                return "not at all"
            if answers == [sent[number]]:
                return "as it was"
            for packet in map(read_rtp, answers):
                assert packet.ssrc == RTX_SSRC
                assert packet.payload == number.to_bytes(2, "big") + read_rtp(sent[number]).payload
                rtx_numbers.append(packet.seq)
            return "by RTX"

        play(10)
        assert repeated(1000) == "as it was"
        negotiate(room, slot, rtx_ssrc=RTX_SSRC)
        play(11)
        assert [repeated(1000), repeated(1001)] == ["by RTX", "by RTX"]
        negotiate(room, slot, rtx_ssrc=0)
        play(12)
        assert [repeated(n) for n in (1000, 1001, 1002)] == ["as it was", "not at all", "as it was"]
        negotiate(room, slot, rtx_ssrc=0, has_nack=False)
        play(13)
        assert [repeated(n) for n in (1002, 1003)] == ["not at all", "not at all"]
        negotiate(room, slot, rtx_ssrc=RTX_SSRC)
        assert [repeated(n) for n in (1000, 1001, 1002, 1003)] == ["by RTX"] * 4
        assert rtx_numbers == list(range(rtx_numbers[0], rtx_numbers[0] + len(rtx_numbers))), (
            "no number twice"
        )


def test_a_slot_keeps_its_rtx_ssrc_for_life() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        slot = room.subscribe(grace, room.publish(ada), rtx_ssrc=RTX_SSRC)
        negotiate(room, slot, rtx_ssrc=0)
        with pytest.raises(ValueError, match="RTX SSRC"):
            negotiate(room, slot, rtx_ssrc=RTX_SSRC + 1)
        negotiate(room, slot, rtx_ssrc=RTX_SSRC)


# -- from publishers


def test_a_hole_is_asked_for_after_a_short_wait_and_filled_by_rtx() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        lost = [delta(65_531), delta(65_532), delta(1)]
        for packet in (delta(65_533), delta(65_534), delta(65_535), delta(0), delta(2)):
            room.send(ada, packet)
        later(room, 4_999)
        assert nacked(ada) == []
        later(room, 10_000)
        assert nacked(ada) == [65_531, 65_532, 1]
        assert [packet.seq for packet in grace.media()] == [1000, 1003, 1004, 1005, 1006, 1008]
        for i, packet in enumerate(lost):
            assert room.send(ada, rtx(i, packet)) is None
        repaired = grace.media()
        assert [packet.seq for packet in repaired] == [1001, 1002, 1007]
        assert [packet.payload for packet in repaired] == [packet[12:] for packet in lost]
        assert {packet.ssrc for packet in repaired} == {0x777}
        later(room, 500_000)
        assert nacked(ada) == []


def test_reordering_is_not_asked_for() -> None:
    with manual_room() as room:
        ada, _ = call(room)
        room.send(ada, delta(65_532))
        room.send(ada, delta(65_531))
        later(room, 100_000)
        assert nacked(ada) == []


def test_asking_goes_on_once_a_round_trip_and_ends() -> None:
    with manual_room() as room:
        ada, _ = call(room)
        room.send(ada, delta(65_532))
        asked = []
        for _ in range(300):
            later(room, 10_000)
            asked += [room.now_us for _ in nacked(ada)]
        assert len(asked) == 10
        assert {b - a for a, b in pairwise(asked)} == {100_000}


def test_the_round_trip_is_taken_from_the_publishers_reports() -> None:
    with manual_room() as room:
        ada, _ = call(room)
        room.subscribe(ada, room.publish(room.peer(), ssrcs=[0x55]), ssrc=0x700)
        room.now_us += 1_000_000  # an LSR of 0 would mean that there was no report
        lsr = (room.now_ntp >> 16) & 0xFFFFFFFF
        room.now_us += 30_000
        room.send(ada, receiver_report(5, report_block(0x700, lsr=lsr, dlsr=0)))
        room.send(ada, delta(65_532))
        asked = []
        for _ in range(20):
            later(room, 10_000)
            asked += [room.now_us for _ in nacked(ada)]
        assert {b - a for a, b in pairwise(asked)} <= {30_000, 40_000}


def test_a_hole_that_is_too_wide_asks_for_a_key_frame_instead() -> None:
    with manual_room() as room:
        ada, _ = call(room)
        room.now_us += 600_000
        room.send(ada, delta(65_530 + 300))
        later(room, 10_000)
        kinds = [(count, kind) for data in ada.rtcp() for count, kind, _ in split_compound(data)]
        assert (1, 206) in kinds and (1, 205) not in kinds


def test_nobody_watching_means_nothing_is_asked_for() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada, nack=True)
        room.send(ada, delta(1))
        room.send(ada, delta(5))
        later(room, 50_000)
        assert nacked(ada) == []


def test_a_publisher_without_nack_is_not_asked() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, keyframe(1))
        room.send(ada, delta(5))
        later(room, 50_000)
        assert nacked(ada) == []


def test_a_packet_that_comes_both_ways_is_forwarded_once() -> None:
    with manual_room() as room:
        ada, grace = call(room)
        late = delta(65_531)
        room.send(ada, delta(65_532))
        assert room.send(ada, rtx(0, late)) is None
        assert room.send(ada, late) == "duplicate"
        assert room.send(ada, rtx(1, late)) == "duplicate"
        assert sorted(packet.seq for packet in grace.media()) == [1000, 1001, 1002]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (
            rtp_packet(1, ssrc=UP_RTX_SSRC, payload_type=108, payload=b"", padding=200),
            "padding_only",
        ),  # a probe
        (rtp_packet(1, ssrc=UP_RTX_SSRC, payload_type=108, payload=b"\xff"), "rtx_malformed"),
        (rtp_packet(1, ssrc=UP_RTX_SSRC, payload_type=108, payload=b"\x00\x10ahead"), "too_late"),
        (rtp_packet(1, ssrc=UP_RTX_SSRC, payload_type=108, payload=b"\x80\x00ages ago"), "too_late"),
    ],
)
def test_rtx_that_repeats_nothing_is_dropped_and_counted(packet: bytes, reason: str) -> None:
    with manual_room() as room:
        ada, grace = call(room)
        grace.received()
        assert room.send(ada, packet) == reason
        assert grace.media() == []


def test_rtx_before_any_media_repeats_nothing() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada, nack=True, rtx_ssrcs=[(UP_RTX_SSRC, 0x1234)])
        room.subscribe(grace, uptrack, rtx_ssrc=RTX_SSRC)
        assert room.send(ada, rtx(0, delta(3))) == "rtx_unknown"
        assert room.send(ada, keyframe(4)) is None


def test_rtx_without_a_fid_group_belongs_to_the_ssrc_that_is_forwarded() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, ssrcs=[], nack=True))
        room.send(ada, keyframe(1))
        room.send(ada, delta(3))
        assert room.send(ada, rtx(0, delta(2), ssrc=0xABC)) is None
        assert sorted(packet.seq for packet in grace.media()) == [1000, 1001, 1002]


def test_a_repaired_packet_starts_nobody() -> None:
    with manual_room() as room:
        ada, grace, late = room.peer(), room.peer(), room.peer()
        uptrack = room.publish(ada, nack=True, rtx_ssrcs=[(UP_RTX_SSRC, 0x1234)])
        room.subscribe(grace, uptrack)
        room.send(ada, keyframe(1))
        room.send(ada, delta(3))
        room.subscribe(late, uptrack, ssrc=0x901)
        assert room.send(ada, rtx(0, keyframe(2))) is None
        assert late.media() == []  # what follows packet 2 has gone by
        room.send(ada, keyframe(4))
        assert [packet.seq for packet in late.media()] == [1000]
