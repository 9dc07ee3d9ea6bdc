"""Reports and feedback, both ways (rtcp.pxi); aiortc's parser is the second opinion on what we write."""

import random
from itertools import pairwise
from struct import unpack_from

import pytest
from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
)

from tests.support.manual_room import OPUS, START_NTP, ManualPeer, ManualRoom, is_rtcp, manual_room
from tests.support.model import ReceiverModel
from tests.support.packets import (
    VP8_DELTA,
    VP8_KEYFRAME,
    bye,
    fir,
    nack,
    pli,
    read_rtp,
    receiver_report,
    report_block,
    rtp_packet,
    sender_report,
    split_compound,
)

W = 1 << 16
TICK_US = 20_000


def parsed(peer: ManualPeer) -> list[AnyRtcpPacket]:
    """Return every RTCP packet that arrived since the last look."""
    return [packet for data in peer.rtcp() for packet in RtcpPacket.parse(data)]


def blocks(peer: ManualPeer) -> list[RtcpReceiverInfo]:
    return [block for packet in parsed(peer) if isinstance(packet, RtcpRrPacket) for block in packet.reports]


def requests(peer: ManualPeer) -> list[RtcpPsfbPacket]:
    return [packet for packet in parsed(peer) if isinstance(packet, RtcpPsfbPacket)]


# -- receiver reports


def report_after(room: ManualRoom, peer: ManualPeer) -> RtcpReceiverInfo:
    """Let time pass until one report comes."""
    peer.received()
    for _ in range(200):
        room.advance(TICK_US)
        if found := blocks(peer):
            return found[0]
    raise AssertionError("no report within 4 s")


def test_the_first_report_on_a_new_ssrc_comes_within_100_ms() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        room.advance(700_000)
        room.send(ada, rtp_packet(1))
        room.advance(100_000)
        assert [block.ssrc for block in blocks(ada)] == [0x1234]


def test_reports_come_about_once_a_second_and_not_in_step() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        times = []
        for tick in range(3000):
            if tick % 20 == 0:
                room.send(ada, rtp_packet(tick // 20))
            room.advance(TICK_US)
            times += [room.now_us] * len(blocks(ada))
        gaps = [after - before for before, after in pairwise(times)]
        assert len(times) in range(45, 80)
        assert min(gaps[1:]) >= 500_000 - TICK_US
        assert max(gaps) <= 1_500_000 + TICK_US
        assert len({gap // TICK_US for gap in gaps}) > 10


def test_a_report_starts_with_an_rr_and_ends_with_the_cname() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        room.send(ada, rtp_packet(1))
        room.advance(200_000)
        report, description = parsed(ada)
        assert isinstance(report, RtcpRrPacket) and report.ssrc == 0xF0000000
        assert isinstance(description, RtcpSdesPacket)
        chunk = description.chunks[0]
        assert (chunk.ssrc, chunk.items) == (0xF0000000, [(1, b"cname-%d" % 0xF0000000)])


@pytest.mark.parametrize("seed", range(8))
def test_loss_and_jitter_are_what_the_rfc_computes(seed: int) -> None:
    rng = random.Random(seed)
    print("seed", seed)
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        model = ReceiverModel(clock_rate=90000)
        ext_seq = W + rng.choice([1, 60_000, 65_530])
        timestamp = rng.randrange(1 << 32)
        for _ in range(6):
            for _ in range(rng.randrange(20, 120)):
                ext_seq += 1
                timestamp += 3000
                room.now_us += rng.randrange(20_000, 50_000)
                order = [ext_seq] if rng.random() > 0.1 else []
                if rng.random() < 0.1:  # one late packet
                    ext_seq += 1
                    order = [ext_seq, ext_seq - 1]
                for number in order:
                    room.send(ada, rtp_packet(number, timestamp=timestamp))
                    model.receive(number, timestamp % (1 << 32), room.now_us)
            block = report_after(room, ada)
            assert block.packets_lost == model.lost
            assert block.fraction_lost == model.fraction()
            assert block.highest_sequence == model.highest - W
            assert block.jitter == model.jitter


def test_the_cycle_count_is_reported_after_a_wrap() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        for seq in (65_534, 65_535, 0, 1):
            room.send(ada, rtp_packet(seq))
        block = report_after(room, ada)
        assert (block.highest_sequence, block.packets_lost) == (W + 1, 0)


def test_a_restart_of_the_numbers_is_not_reported_as_loss() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        for seq in (1, 2, 3, 40_000, 40_001, 40_002, 10_000, 10_001, 10_002):
            room.send(ada, rtp_packet(seq))
        block = report_after(room, ada)
        # Of each new start only the packet that announced it was not taken.
        assert (block.packets_lost, block.fraction_lost) == (0, 0)


def test_a_section_that_is_renegotiated_away_and_back_starts_a_fresh_count() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        for seq in range(1000):
            room.send(ada, rtp_packet(seq))
        report_after(room, ada)
        room.worker.remove_uptrack(uptrack)
        room.publish(ada)
        for seq in (5000, 5001, 5003):
            room.send(ada, rtp_packet(seq))
        block = report_after(room, ada)
        assert (block.packets_lost, block.fraction_lost, block.highest_sequence) == (1, 64, 5003)


def test_the_time_of_the_last_sender_report_is_echoed() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        room.send(ada, rtp_packet(1))
        block = report_after(room, ada)
        assert (block.lsr, block.dlsr) == (0, 0)
        room.send(ada, sender_report(0x1234, 0x1122334455667788, 0))
        arrival_us = room.now_us
        block = report_after(room, ada)
        assert block.lsr == 0x33445566
        assert abs(block.dlsr - (room.now_us - arrival_us) * 65536 // 1_000_000) <= 1


def test_each_ssrc_of_a_publisher_has_its_own_block_and_none_after_bye() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        room.publish(ada, mid=b"a", is_video=False, ssrcs=(0x2222,))
        room.send(ada, rtp_packet(1))
        room.send(ada, rtp_packet(1, ssrc=0x2222, payload_type=111, payload=b"opus"))
        room.advance(1_600_000)
        assert {block.ssrc for block in blocks(ada)} == {0x1234, 0x2222}
        room.send(ada, receiver_report(0x1234) + bye(0x1234))
        room.advance(1_600_000)
        assert {block.ssrc for block in blocks(ada)} == {0x2222}
        room.send(ada, rtp_packet(2))  # it was not the end after all
        room.advance(1_600_000)
        assert {block.ssrc for block in blocks(ada)} == {0x1234, 0x2222}


def test_thirty_two_ssrcs_fit_one_report_of_thirty_one_blocks() -> None:
    with manual_room() as room:
        ada = room.peer()
        for i in range(32):
            room.publish(ada, mid=b"m%d" % i, ssrcs=(0x100 + i,))
            assert room.send(ada, rtp_packet(1, ssrc=0x100 + i)) is None
        assert room.send(ada, rtp_packet(1, ssrc=0x999)) == "too_many_ssrcs"
        room.advance(200_000)
        assert len(blocks(ada)) == 31


# -- sender reports


def sender_reports(peer: ManualPeer) -> dict[int, RtcpSrPacket]:
    return {packet.ssrc: packet for packet in parsed(peer) if isinstance(packet, RtcpSrPacket)}


def test_sender_reports_line_up_two_tracks_of_a_publisher_whose_clock_is_another() -> None:
    """What the publisher captured at one moment gets one NTP time from us, within a tick of its clock."""
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        video = room.publish(ada)
        audio = room.publish(ada, mid=b"a", is_video=False, ssrcs=(0x2222,))
        room.subscribe(grace, video, ssrc=0x771, first_timestamp=123_456)
        room.subscribe(
            grace,
            audio,
            ssrc=0x772,
            mid=b"e",
            is_video=False,
            types=[(OPUS, 110)],
            first_timestamp=0xFFFFFF00,
        )

        # Ada's clock is a year behind ours. RTP time zero of her tracks is at different moments of it.
        behind = 31_536_000 << 32

        def ada_ntp() -> int:
            return room.now_ntp - behind

        def captured(clock_rate: int, zero: int) -> int:
            return zero + ((ada_ntp() - (START_NTP - behind)) * clock_rate >> 32)

        reported = set()
        for i in range(200):
            room.advance(TICK_US)
            pair = captured(90000, 777_000), captured(48000, 4_294_900_000)
            room.send(ada, rtp_packet(i, timestamp=pair[0], payload=VP8_DELTA if i else VP8_KEYFRAME))
            room.send(ada, rtp_packet(i, timestamp=pair[1], ssrc=0x2222, payload_type=111, payload=b"opus"))
            if i == 60:
                room.send(ada, sender_report(0x1234, ada_ntp(), pair[0]))
            if i == 75:
                room.send(ada, sender_report(0x2222, ada_ntp(), pair[1]))
            datagrams = grace.received()
            media = [read_rtp(data) for data in datagrams if not is_rtcp(data)]
            leaving = {packet.ssrc: packet.timestamp for packet in media}
            reports = [packet for data in datagrams if is_rtcp(data) for packet in RtcpPacket.parse(data)]
            for packet in reports:
                if isinstance(packet, RtcpSrPacket):
                    reported.add(packet.ssrc)
                    assert packet.sender_info.ntp_timestamp == room.now_ntp
                    # The report's RTP time is that of "now", and what leaves now carries it too.
                    error = (packet.sender_info.rtp_timestamp - leaving[packet.ssrc] + (1 << 31)) % (1 << 32)
                    assert abs(error - (1 << 31)) <= 1
        assert reported == {0x771, 0x772}


def test_no_sender_report_goes_out_before_the_publisher_sent_one() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for seq in range(100):
            room.send(ada, rtp_packet(seq, payload=VP8_KEYFRAME))
            room.advance(TICK_US)
        assert sender_reports(grace) == {}


def test_counts_in_a_sender_report_are_those_of_what_left() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for seq in range(10):
            room.send(ada, rtp_packet(seq, payload=VP8_KEYFRAME + bytes(seq), padding=7))
        room.send(ada, sender_report(0x1234, room.now_ntp, 0))
        room.advance(1_600_000)
        info = sender_reports(grace)[0x777].sender_info
        assert (info.packet_count, info.octet_count) == (10, 10 * len(VP8_KEYFRAME) + 45)


def test_the_cname_of_the_publication_follows_each_sender_report() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.send(ada, sender_report(0x1234, room.now_ntp, 0))
        grace.received()
        room.advance(1_600_000)
        report, description = parsed(grace)[:2]
        assert isinstance(report, RtcpSrPacket) and isinstance(description, RtcpSdesPacket)
        chunk = description.chunks[0]
        assert (chunk.ssrc, chunk.items) == (0x777, [(1, b"canonical")])


def test_reports_of_many_slots_are_split_below_the_usual_mtu() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        for i in range(30):
            uptrack = room.publish(ada, mid=b"m%d" % i, ssrcs=(0x100 + i,))
            room.subscribe(grace, uptrack, ssrc=0x800 + i)
            room.send(ada, rtp_packet(1, ssrc=0x100 + i, payload=VP8_KEYFRAME))
            room.send(ada, sender_report(0x100 + i, room.now_ntp, 0))
        grace.received()
        reported = set()
        for _ in range(100):
            room.advance(TICK_US)
            for data in grace.rtcp():
                assert len(data) <= 1200
                reported |= {p.ssrc for p in RtcpPacket.parse(data) if isinstance(p, RtcpSrPacket)}
        assert reported == {0x800 + i for i in range(30)}


# -- what subscribers report


def test_reported_loss_jitter_and_round_trip_time_reach_the_statistics() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        downtrack = room.subscribe(grace, room.publish(ada))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.send(ada, sender_report(0x1234, room.now_ntp, 0))
        grace.received()
        room.advance(1_600_000)
        lsr = sender_reports(grace)[0x777].sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
        left_us = START_NTP >> 16 & 0xFFFFFFFF  # the moment of lsr, in our clock
        sent_us = (lsr - left_us) * 1_000_000 // 65536 + 1_000_000_000
        room.now_us = sent_us + 150_000
        held = 65536 * 50 // 1000  # Grace held it for 50 ms
        room.send(grace, receiver_report(9, report_block(0x777, lost=12, jitter=345, lsr=lsr, dlsr=held)))
        stats = room.worker.downtrack_stats(downtrack)
        assert stats[5:7] == (12, 345)
        assert abs(stats[7] - 100_000) < 200


@pytest.mark.parametrize(
    ("lsr", "dlsr"),
    [(0, 0), (0, 0xFFFFFFFF), (1, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x12345678, 0)],
)
def test_a_round_trip_time_that_cannot_be_is_ignored(lsr: int, dlsr: int) -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        downtrack = room.subscribe(grace, room.publish(ada))
        room.now_us += 500_000_000
        room.send(grace, receiver_report(9, report_block(0x777, lost=-5, lsr=lsr, dlsr=dlsr)))
        stats = room.worker.downtrack_stats(downtrack)
        assert (stats[5], stats[7]) == (0, 0)


def test_mid_is_sent_until_a_receiver_report_names_our_ssrc() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.send(grace, receiver_report(9, report_block(0x1234)))  # not ours
        room.send(ada, rtp_packet(2))
        room.send(grace, receiver_report(9, report_block(0x777)))
        room.send(ada, rtp_packet(3))
        assert [packet.extensions for packet in grace.media()] == [{5: b"d"}, {5: b"d"}, {}]


# -- key frame requests


def test_a_new_subscription_asks_for_a_key_frame_at_once() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        (request,) = requests(ada)
        assert (request.fmt, request.ssrc, request.media_ssrc, request.fci) == (1, 0xF0000000, 0x1234, b"")


def test_audio_is_never_asked_for_a_key_frame() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, is_video=False), is_video=False)
        room.send(grace, pli(9, 0x777))
        room.advance(2_000_000)
        assert requests(ada) == []


def test_wishes_of_many_subscribers_reach_the_publisher_as_one_request() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        watchers = [room.peer() for _ in range(5)]
        for watcher in watchers:
            room.subscribe(watcher, uptrack)
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.advance(1_000_000)
        requests(ada)
        for watcher in watchers:
            room.send(watcher, pli(9, 0x777))
            room.send(watcher, fir(9, (0x777, 1)))
        assert len(requests(ada)) == 1
        room.send(ada, rtp_packet(2, payload=VP8_KEYFRAME))
        room.advance(2_000_000)
        assert requests(ada) == []  # all wishes are fulfilled


def test_an_unanswered_request_is_repeated_twice_a_second_until_a_key_frame_comes() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        assert len(requests(ada)) == 1
        for _ in range(100):
            room.send(grace, pli(9, 0x777))
            room.advance(TICK_US)
        assert len(requests(ada)) in (3, 4)  # 2 s, a request each 0.5 s
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.advance(2_000_000)
        assert requests(ada) == []


def test_nobody_asks_on_after_the_last_subscriber_left() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        downtrack = room.subscribe(grace, room.publish(ada))
        requests(ada)
        room.worker.disconnect(downtrack)
        room.apply()
        room.advance(3_000_000)
        assert requests(ada) == []


@pytest.mark.parametrize(
    ("has_pli", "has_fir", "fmt"), [(True, False, 1), (False, True, 4), (False, False, None)]
)
def test_the_request_is_one_that_the_publisher_negotiated(
    has_pli: bool, has_fir: bool, fmt: int | None
) -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, pli=has_pli, fir=has_fir))
        room.advance(600_000)
        found = requests(ada)
        assert [request.fmt for request in found] == ([] if fmt is None else [fmt, fmt])
        if fmt == 4:
            assert [unpack_from("!IB", request.fci) for request in found] == [(0x1234, 1), (0x1234, 2)]
            assert all(request.media_ssrc == 0 for request in found)


def test_a_request_waits_for_the_ssrc_where_none_was_announced() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, ssrcs=()))
        assert requests(ada) == []
        room.send(ada, rtp_packet(1, ssrc=0x5555, extensions={3: b"v"}))
        room.advance(TICK_US)
        assert [request.media_ssrc for request in requests(ada)] == [0x5555]


def test_the_wishes_of_a_subscriber_do_not_reach_a_publisher_it_does_not_watch() -> None:
    with manual_room() as room:
        ada, bob, grace = room.peer(), room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        bob_video = room.publish(bob, ssrcs=(0x9999,))
        room.subscribe(room.peer(), bob_video, ssrc=0x888)
        room.send(bob, rtp_packet(1, ssrc=0x9999, payload=VP8_KEYFRAME))
        room.advance(1_000_000)
        requests(bob)
        room.send(grace, pli(9, 0x9999))
        room.send(grace, pli(9, 0x888))
        room.send(grace, fir(9, (0x9999, 1), (0x888, 1)))
        assert requests(bob) == []


# -- BYE


def test_leaving_says_bye_for_every_ssrc_that_sent() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada)
        room.subscribe(grace, uptrack, ssrc=0x771)
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.subscribe(grace, uptrack, ssrc=0x772)  # nothing was sent here yet
        grace.received()
        room.worker.remove_transport(grace.transport)
        room.apply()
        (data,) = grace.rtcp()
        packets = RtcpPacket.parse(data)
        assert isinstance(packets[0], RtcpRrPacket)
        assert isinstance(packets[1], RtcpByePacket) and packets[1].sources == [0x771]


def test_after_bye_another_ssrc_takes_over_at_once() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, ssrcs=(0x1234, 0x1235)))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        assert room.send(ada, rtp_packet(1, ssrc=0x1235, payload=VP8_KEYFRAME)) == "inactive_stream"
        room.send(ada, receiver_report(0x1234) + bye(0x1234))
        assert room.send(ada, rtp_packet(2, ssrc=0x1235, payload=VP8_KEYFRAME)) is None
        assert [packet.seq for packet in grace.media()] == [1000, 1001]


def test_a_silent_ssrc_gives_its_place_up_after_200_ms() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, ssrcs=(0x1234, 0x1235)))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.now_us += 199_999
        assert room.send(ada, rtp_packet(1, ssrc=0x1235, payload=VP8_KEYFRAME)) == "inactive_stream"
        room.now_us += 1
        assert room.send(ada, rtp_packet(2, ssrc=0x1235, payload=VP8_KEYFRAME)) is None


def test_a_bye_of_a_stranger_ends_nobody_elses_stream() -> None:
    with manual_room() as room:
        ada, bob, grace = room.peer(), room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, ssrcs=(0x1234, 0x1235)))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        room.send(bob, receiver_report(0x1234) + bye(0x1234, 0x1235))
        assert room.send(ada, rtp_packet(1, ssrc=0x1235, payload=VP8_KEYFRAME)) == "inactive_stream"


# -- hostile compounds


def everything(ssrc: int = 0x777) -> bytes:
    return (
        sender_report(0x1234, 1 << 40, 5, 1, 1, report_block(ssrc, lost=3))
        + nack(9, ssrc, (1000, 0xFFFF))
        + pli(9, ssrc)
        + fir(9, (ssrc, 1), (ssrc, 2))
        + bye(0x1234, 0x4444)
    )


def test_a_compound_cut_anywhere_is_refused_or_ends_at_a_packet() -> None:
    whole = everything()
    ends, at = set(), 0
    for _, _, body in split_compound(whole):
        at += 4 + len(body)
        ends.add(at)
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for length in range(8, len(whole) + 1):
            expected = None if length in ends else "rtcp_malformed"
            assert room.send(grace, whole[:length]) == expected, length


@pytest.mark.parametrize("kind", range(192, 224))
@pytest.mark.parametrize("count", [0, 1, 4, 15, 31])
def test_any_type_and_count_with_a_body_too_short_for_them_is_stepped_over(kind: int, count: int) -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME))
        for words in range(1, 12):
            body = (0x777).to_bytes(4, "big") * words
            head = bytes([0x80 | count, kind]) + words.to_bytes(2, "big")
            assert room.send(grace, head + body) is None
        room.send(ada, rtp_packet(2))
        assert grace.media()[-1].seq == 1001


def test_padding_that_lies_hides_nothing_and_reads_nothing() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for padding in range(256):
            data = bytearray(nack(9, 0x777, (1, 0)))
            data[0] |= 0x20
            data[-1] = padding
            assert room.send(grace, bytes(data)) is None
