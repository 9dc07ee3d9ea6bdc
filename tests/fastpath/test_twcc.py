"""Transport-wide feedback: what a publisher reads from it is when its packets came."""

import random
import struct
from collections.abc import Iterator

from tests.support.manual_room import START_US, ManualPeer, ManualRoom, manual_room
from tests.support.packets import VP8_KEYFRAME, rtp_packet, split_compound


def packet(seq: int, number: int) -> bytes:
    return rtp_packet(seq, payload=VP8_KEYFRAME, extensions={6: struct.pack("!H", number & 0xFFFF)})


def read_feedback(body: bytes) -> tuple[int, dict[int, int | None]]:
    """Return the feedback count and, by transport-wide number, the arrival in us or None (section 3.1)."""
    base, count, reference, feedbacks = struct.unpack("!HHIB", body[8:12] + b"\0" + body[12:15] + body[15:16])
    at, symbols = 16, []
    while len(symbols) < count:
        (chunk,) = struct.unpack_from("!H", body, at)
        at += 2
        if chunk >> 15 == 0:
            symbols += [chunk >> 13] * (chunk & 0x1FFF)
        elif chunk >> 14 == 2:
            symbols += [chunk >> (13 - i) & 1 for i in range(14)]
        else:
            symbols += [chunk >> (12 - 2 * i) & 3 for i in range(7)]
    arrivals: dict[int, int | None] = {}
    now = reference * 64_000
    for i, symbol in enumerate(symbols[:count]):
        assert symbol != 3
        if symbol == 1:
            now += body[at] * 250
            at += 1
        elif symbol == 2:
            now += struct.unpack_from("!h", body, at)[0] * 250
            at += 2
        arrivals[(base + i) & 0xFFFF] = now if symbol else None
    assert len(body) - at < 4  # nothing but padding is left
    return feedbacks, arrivals


def feedbacks(peer: ManualPeer) -> Iterator[tuple[int, dict[int, int | None]]]:
    for datagram in peer.rtcp():
        for count, kind, body in split_compound(datagram):
            if (count, kind) == (15, 205):
                yield read_feedback(body)


def publisher(room: ManualRoom, *, transport_cc: bool = True) -> ManualPeer:
    ada = room.peer()
    room.publish(ada, transport_cc=transport_cc)
    return ada


def tick(room: ManualRoom, us: int) -> None:
    room.now_us += us
    room.worker.tick(room.now_us, room.now_ntp)


def test_arrivals_are_told_within_a_quarter_millisecond_every_100_ms() -> None:
    with manual_room() as room:
        ada = publisher(room)
        rng = random.Random(7)
        came: dict[int, int] = {}
        told: dict[int, int | None] = {}
        counts = []
        for i in range(2000):
            number = 65_000 + i
            if rng.random() < 0.9:
                room.send(ada, packet(i, number))
                came[number & 0xFFFF] = room.now_us
            tick(room, rng.choice((300, 900, 20_000) if i % 100 == 99 else (300, 900)))
            for count, arrivals in feedbacks(ada):
                counts.append(count)
                told.update(arrivals)
        tick(room, 200_000)
        for count, arrivals in feedbacks(ada):
            counts.append(count)
            told.update(arrivals)
        assert counts == [i & 0xFF for i in range(len(counts))]
        span = (max(came.values()) - min(came.values())) // 100_000
        assert span - 2 <= len(counts) <= span + 3
        assert {number for number, arrival in told.items() if arrival is not None} == set(came)
        for number, arrival in came.items():
            heard = told[number]
            assert heard is not None and 0 <= arrival - heard < 250


def test_a_pause_longer_than_a_delta_can_say_starts_another_feedback() -> None:
    with manual_room() as room:
        ada = publisher(room)
        room.send(ada, packet(0, 10))
        room.now_us += 9_000_000  # no tick in between
        room.send(ada, packet(1, 11))
        tick(room, 100_000)
        told = [arrivals for _, arrivals in feedbacks(ada)]
        assert [list(arrivals) for arrivals in told] == [[10], [11]]
        assert told[1][11] == (START_US + 9_000_000) // 250 * 250


def test_reordered_packets_are_told_with_negative_deltas() -> None:
    with manual_room() as room:
        ada = publisher(room)
        for i, number in enumerate((10, 12, 13, 11)):
            room.send(ada, packet(i, number))
            room.now_us += 5_000
        tick(room, 100_000)
        ((_, arrivals),) = feedbacks(ada)
        assert arrivals == {10: START_US, 11: START_US + 15_000, 12: START_US + 5_000, 13: START_US + 10_000}


def test_a_jump_of_the_numbers_is_survived() -> None:
    with manual_room() as room:
        ada = publisher(room)
        for i, number in enumerate((10, 30_000, 30_001, 60_000, 100)):
            room.send(ada, packet(i, number))
        tick(room, 100_000)
        told = {n for _, arrivals in feedbacks(ada) for n, arrival in arrivals.items() if arrival is not None}
        assert 100 in told
        room.send(ada, packet(9, 101))
        tick(room, 100_000)
        ((_, arrivals),) = feedbacks(ada)
        assert set(arrivals) == {101}


def test_nothing_is_told_to_who_did_not_ask() -> None:
    with manual_room() as room:
        ada = publisher(room, transport_cc=False)
        room.send(ada, packet(0, 10))
        tick(room, 200_000)
        assert list(feedbacks(ada)) == []


def test_the_number_is_not_passed_on_to_subscribers() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, transport_cc=True))
        room.send(ada, packet(0, 10))
        (got,) = grace.media()
        assert set(got.extensions) == {5}  # mid alone
