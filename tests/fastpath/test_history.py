"""Repeats of lost packets: the same bytes again, not too often, not for ever (history.pxi)."""

import pytest

from kaamos.media.description import SrtpProfile
from tests.support.manual_room import ManualPeer, ManualRoom, manual_room
from tests.support.media_peer import connected, engine_room
from tests.support.packets import (
    VP8_DELTA,
    VP8_KEYFRAME,
    nack,
    receiver_report,
    report_block,
    rtp_packet,
    sender_report,
)

KEPT = 128


def stream(
    room: ManualRoom, count: int, *, has_nack: bool = True
) -> tuple[ManualPeer, ManualPeer, int, list[bytes]]:
    """Send ``count`` packets from Ada to Grace; return both, the slot and what Grace got."""
    ada, grace = room.peer(), room.peer()
    downtrack = room.subscribe(grace, room.publish(ada), has_nack=has_nack)
    for seq in range(count):
        room.send(ada, rtp_packet(seq, payload=VP8_KEYFRAME + seq.to_bytes(2, "big")))
    ada.received()  # the request for a key frame
    return ada, grace, downtrack, grace.received()


def test_a_lost_packet_is_repeated_byte_for_byte() -> None:
    with manual_room() as room:
        _, grace, downtrack, sent = stream(room, 10)
        room.send(grace, nack(9, 0x777, (1003, 0)))
        assert grace.received() == [sent[3]]
        stats = room.worker.downtrack_stats(downtrack)
        assert stats[2:4] == (1, 1)  # repeats, NACKs


def test_every_bit_of_the_mask_means_its_own_packet() -> None:
    with manual_room() as room:
        _, grace, _, sent = stream(room, 40)
        room.send(grace, nack(9, 0x777, (1001, 0b1000_0000_0000_0101), (1030, 0b1)))
        assert grace.received() == [sent[1], sent[2], sent[4], sent[17], sent[30], sent[31]]


def test_a_repeated_request_is_answered_only_after_the_last_copy_can_have_arrived() -> None:
    with manual_room() as room:
        _, grace, _, sent = stream(room, 4)
        request = nack(9, 0x777, (1002, 0))
        for wait_us, copies in ((0, 1), (0, 0), (19_000, 0), (1_000, 1), (5_000, 0), (20_000, 1)):
            room.now_us += wait_us
            room.send(grace, request)
            assert grace.received() == [sent[2]] * copies, wait_us


def test_the_wait_between_repeats_is_about_the_round_trip_time() -> None:
    with manual_room() as room:
        ada, grace, _, sent = stream(room, 4)
        room.send(ada, sender_report(0x1234, room.now_ntp, 0))
        room.advance(3_000_000)  # a sender report goes to Grace
        lsr = room.now_ntp - (200 << 32) // 1000 >> 16 & 0xFFFFFFFF  # as if it had left 200 ms ago
        room.send(grace, receiver_report(9, report_block(0x777, lsr=lsr)))
        grace.received()
        request = nack(9, 0x777, (1001, 0))
        for wait_us, copies in ((0, 1), (150_000, 0), (24_000, 0), (2_000, 1)):
            room.now_us += wait_us
            room.send(grace, request)
            assert grace.received() == [sent[1]] * copies, wait_us


def test_a_packet_older_than_what_is_kept_is_gone() -> None:
    with manual_room() as room:
        _, grace, _, sent = stream(room, KEPT + 10)
        room.send(grace, nack(9, 0x777, (1009, 0), (1010, 0)))
        assert grace.received() == [sent[10]]
        room.send(grace, nack(9, 0x777, (1000 + KEPT + 10, 0xFFFF), (0, 0xFFFF), (999, 0), (50_000, 0)))
        assert grace.received() == []  # never sent, or long gone


def test_one_request_for_everything_brings_each_packet_once() -> None:
    with manual_room() as room:
        _, grace, _, sent = stream(room, KEPT)
        pairs = [(seq & 0xFFFF, 0xFFFF) for seq in range(0, 65536, 200)]
        room.send(grace, nack(9, 0x777, *pairs))
        room.send(grace, nack(9, 0x777, *[(seq, 0xFFFF) for seq in range(990, 1150)]))
        got = grace.received()
        assert sorted(got) == sorted(sent)


@pytest.mark.parametrize("media", [0x776, 0, 0x1234])
def test_a_request_for_another_ssrc_is_not_answered(media: int) -> None:
    with manual_room() as room:
        _, grace, _, _ = stream(room, 4)
        room.send(grace, nack(9, media, (1001, 0)))
        assert grace.received() == []


def test_one_subscriber_cannot_ask_for_the_packets_of_another() -> None:
    with manual_room() as room:
        ada, grace, _, _ = stream(room, 4)
        bob = room.peer()
        room.send(bob, nack(9, 0x777, (1001, 0)))
        room.send(ada, nack(9, 0x777, (1001, 0)))
        assert (bob.received(), ada.received(), grace.received()) == ([], [], [])


def test_without_nack_in_the_description_nothing_is_kept() -> None:
    with manual_room() as room:
        _, grace, downtrack, _ = stream(room, 4, has_nack=False)
        room.send(grace, nack(9, 0x777, (1001, 0)))
        assert grace.received() == []
        assert room.worker.downtrack_stats(downtrack)[2:4] == (0, 0)


def test_a_late_packet_older_than_its_place_goes_out_and_is_not_kept() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, rtp_packet(0, payload=VP8_KEYFRAME))
        for seq in range(2, KEPT + 10):
            room.send(ada, rtp_packet(seq, payload=VP8_DELTA + bytes([seq])))
        before = grace.received()
        room.send(ada, rtp_packet(1, payload=b"\x10\x01late"))
        late = grace.received()
        assert len(late) == 1
        room.send(grace, nack(9, 0x777, (1001, 0), (1001 + KEPT, 0)))
        assert grace.received() == [before[KEPT]]  # 1001 + 128 has the place, and keeps it


def test_repeats_of_numbers_around_the_wrap_are_found() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada), first_seq=32767)
        room.send(ada, rtp_packet(0, payload=VP8_KEYFRAME))
        for seq in range(128, 32_700, 128):  # wider holes are closed
            room.send(ada, rtp_packet(seq))
        grace.received()
        for seq in range(32_700, 32_800):
            room.send(ada, rtp_packet(seq))
        sent = {int.from_bytes(data[2:4], "big"): data for data in grace.received()}
        room.send(grace, nack(9, 0x777, (65534, 0b111)))
        assert grace.received() == [sent[65534], sent[65535], sent[0], sent[1]]


@pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)
async def test_over_real_srtp_the_repeat_is_the_same_ciphertext(profile: SrtpProfile) -> None:
    with engine_room(profile) as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        for seq in range(5):
            ada.send(rtp_packet(seq, payload=VP8_KEYFRAME + bytes([seq])))
        sent = {data[2:4]: data for data in (grace.receive_rtp() for _ in range(5))}
        wanted = sorted(sent)[2]
        grace.send_rtcp(nack(9, grace.slot_ssrc, (int.from_bytes(wanted, "big"), 0)))
        assert grace.receive_rtp() == sent[wanted]


async def test_packets_far_apart_in_one_batch_do_not_overwrite_each_other() -> None:
    """Two packets 128 numbers apart share a place; both may wait in one batch."""
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        ada.send(rtp_packet(0, payload=VP8_KEYFRAME))
        first = grace.open(grace.receive_rtp())
        base = int.from_bytes(first[2:4], "big")
        seq, wanted = 0, []
        for _ in range(40):
            burst = []
            for _ in range(10):
                seq += KEPT
                payload = VP8_DELTA + seq.to_bytes(4, "big") * (1 + seq // KEPT % 3)
                burst.append(ada.seal(rtp_packet(seq, payload=payload)))
                wanted.append(((base + seq) & 0xFFFF, payload))
            for data in burst:  # sealed before, so that they arrive close together
                ada.socket.send(data)
            for number, payload in wanted[-10:]:
                got = grace.open(grace.receive_rtp())
                assert int.from_bytes(got[2:4], "big") == number
                assert got.endswith(payload)
