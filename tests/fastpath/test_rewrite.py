"""Outgoing numbers (rewrite.pxi, and decide of downtrack.pxi): tables around every wrap, and an oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaamos._fastpath import RewriterProbe
from tests.support.manual_room import H264, OPUS, VP8, ManualPeer, manual_room
from tests.support.model import RewriterModel
from tests.support.packets import VP8_DELTA, VP8_KEYFRAME, receiver_report, rtp_packet

W = 1 << 16  # extended numbers start here

SEND, SKIP = "send", "skip"
Row = tuple[int, str, int | None]  # (incoming number, what happens, outgoing number; None: too late)

# Each table: number of the first outgoing packet, then rows. All numbers are extended ones.
TABLES: dict[str, tuple[int, list[Row]]] = {
    "in order": (0, [(W + 5, SEND, W), (W + 6, SEND, W + 1), (W + 7, SEND, W + 2)]),
    "a loss stays a gap": (0, [(W + 5, SEND, W), (W + 8, SEND, W + 3), (W + 9, SEND, W + 4)]),
    "a late packet fills its gap": (
        0,
        [
            (W + 5, SEND, W),
            (W + 8, SEND, W + 3),
            (W + 6, SEND, W + 1),
            (W + 7, SEND, W + 2),
            (W + 9, SEND, W + 4),
        ],
    ),
    "skips close up": (
        10,
        [(W + 5, SEND, W + 10), (W + 6, SKIP, None), (W + 7, SKIP, None), (W + 8, SEND, W + 11)],
    ),
    "late, from before a skip": (
        0,
        [
            (W + 1, SEND, W),
            (W + 3, SEND, W + 2),
            (W + 4, SKIP, None),
            (W + 5, SEND, W + 3),
            (W + 2, SEND, W + 1),  # the offset of its own place, not today's
            (W + 6, SEND, W + 4),
        ],
    ),
    "late, from after a skip": (
        0,
        [
            (W + 1, SEND, W),
            (W + 2, SKIP, None),
            (W + 5, SEND, W + 3),
            (W + 4, SEND, W + 2),
            (W + 3, SEND, W + 1),
            (W + 6, SEND, W + 4),
        ],
    ),
    "late, between two skips": (
        0,
        [
            (W + 1, SEND, W),
            (W + 2, SKIP, None),
            (W + 4, SEND, W + 2),
            (W + 5, SKIP, None),
            (W + 6, SEND, W + 3),
            (W + 3, SEND, W + 1),
        ],
    ),
    "a skip that comes late leaves a hole": (
        0,
        [(W + 1, SEND, W), (W + 3, SEND, W + 2), (W + 2, SKIP, None), (W + 4, SEND, W + 3)],
    ),
    "a skip behind a loss": (
        0,
        [
            (W + 1, SEND, W),
            (W + 4, SKIP, None),
            (W + 5, SEND, W + 3),
            (W + 2, SEND, W + 1),
            (W + 3, SEND, W + 2),
        ],
    ),
    "before the start of the source": (0, [(W + 5, SEND, W), (W + 4, SEND, None), (W + 6, SEND, W + 1)]),
    "incoming wrap": (
        7,
        [(2 * W - 2, SEND, W + 7), (2 * W - 1, SEND, W + 8), (2 * W, SEND, W + 9), (2 * W + 1, SEND, W + 10)],
    ),
    "incoming wrap with a skip on it": (
        7,
        [(2 * W - 1, SEND, W + 7), (2 * W, SKIP, None), (2 * W + 1, SEND, W + 8), (2 * W + 2, SEND, W + 9)],
    ),
    "late over the incoming wrap": (
        7,
        [(2 * W - 2, SEND, W + 7), (2 * W, SEND, W + 9), (2 * W + 1, SKIP, None), (2 * W - 1, SEND, W + 8)],
    ),
    "incoming wrap of 2**32": (
        7,
        [
            ((1 << 32) - 1, SEND, W + 7),
            (1 << 32, SKIP, None),
            ((1 << 32) + 2, SEND, W + 9),
            ((1 << 32) + 1, SEND, W + 8),
        ],
    ),
    "outgoing wrap": (
        32767,
        [
            (W, SEND, W + 32767),
            (W + 32768, SEND, 2 * W - 1),
            (W + 32769, SKIP, None),
            (W + 32770, SEND, 2 * W),
            (W + 32771, SEND, 2 * W + 1),
            (W + 32767, SEND, 2 * W - 2),
        ],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_numbers(name: str) -> None:
    first_out, rows = TABLES[name]
    probe = RewriterProbe(first_out, 0)
    probe.start(rows[0][0], 0, 90000, 0)
    for in_seq, what, expected in rows:
        if what == SKIP:
            probe.skip(in_seq)
        else:
            sent = probe.send(in_seq, 0, 0)
            assert (sent and sent[0]) == expected, in_seq


def test_sixteen_skips_are_remembered_and_what_is_older_is_too_late() -> None:
    probe = RewriterProbe(0, 0)
    probe.start(W, 0, 90000, 0)
    for n in range(20):  # send 2n, skip 2n + 1, with a hole for one late packet each
        assert probe.send(W + 3 * n, 0, 0) is not None
        probe.skip(W + 3 * n + 1)
    assert probe.map(W + 3 * 19 + 2) == W + 3 * 19 + 2 - 20
    assert probe.map(W + 3 * 5 + 2) == W + 3 * 5 + 2 - 6  # the sixteenth newest range
    assert probe.map(W + 3 * 4) == 0


@pytest.mark.parametrize(
    ("last_us", "now_us", "in_timestamp", "expected"),
    [
        (0, 1_000_000, 500, 1000 + 90000),
        (0, 1, 500, 1001),  # at least one tick
        (0, 0, 500, 1001),
        (0, 11, 500, 1001),
        (0, 12, 500, 1001),
        (0, 23, 500, 1002),
        (0, 1_000_000, 0xFFFFFFFF, 1000 + 90000),
        (0, 47_721_858_844, 0, (1000 + 47_721_858_844 * 9 // 100) % (1 << 32)),  # past the wrap of 2**32
    ],
)
def test_time_goes_on_by_the_clock_when_the_source_changes(
    last_us: int, now_us: int, in_timestamp: int, expected: int
) -> None:
    probe = RewriterProbe(0, 1000)
    probe.start(W, 77, 90000, last_us)
    assert probe.send(W, 77, last_us) == (W, 1000)
    probe.start(5 * W, in_timestamp, 90000, now_us)
    assert probe.send(5 * W, in_timestamp, now_us) == (W + 1, expected)
    assert probe.send(5 * W + 1, in_timestamp + 3000 & 0xFFFFFFFF, now_us) == (
        W + 2,
        (expected + 3000) % (1 << 32),
    )


@pytest.mark.parametrize("start", [0, 0xFFFFFFFF - 2999, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_timestamps_keep_their_distances_over_the_wrap_of_2_32(start: int) -> None:
    probe = RewriterProbe(0, start)
    first = 0xFFFFFF00
    probe.start(W, first, 90000, 0)
    for i in range(5):
        sent = probe.send(W + i, (first + 3000 * i) % (1 << 32), i * 33_333)
        assert sent == (W + i, (start + 3000 * i) % (1 << 32))


def test_a_late_packet_does_not_turn_the_clock_back() -> None:
    probe = RewriterProbe(0, 0)
    probe.start(W, 0, 1_000_000, 0)
    probe.send(W, 0, 0)
    probe.send(W + 2, 2000, 2000)
    assert probe.send(W + 1, 1000, 9000) == (W + 1, 1000)
    probe.start(9 * W, 0, 1_000_000, 3000)
    assert probe.send(9 * W, 0, 3000) == (W + 3, 3000)


def test_a_rebase_closes_the_gap_but_for_one_number_and_keeps_the_time() -> None:
    probe = RewriterProbe(3, 100)
    probe.start(W, 5000, 90000, 0)
    assert probe.send(W, 5000, 0) == (W + 3, 100)
    probe.rebase(W + 50_000)
    assert probe.send(W + 50_000, 8000, 0) == (W + 5, 3100)
    assert probe.send(W + 49_999, 8000, 0) is None
    assert probe.send(W + 1, 5000, 0) is None


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(0, 200))
def test_what_went_out_under_a_number_is_found_again(is_padding: list[bool], late_at: int) -> None:
    probe = RewriterProbe(7, 0)
    probe.start(W, 0, 90_000, 0)
    late = min(late_at, len(is_padding) - 1)
    sent: dict[int, int] = {}

    def take(i: int) -> None:
        if is_padding[i]:
            probe.skip(W + i)
        elif (out := probe.send(W + i, 0, 0)) is not None:
            sent[out[0]] = W + i

    for i in range(len(is_padding)):
        if i != late:
            take(i)
    take(late)
    for out, incoming in sent.items():
        assert probe.unmap(out) in ((0, incoming), None)  # None: older than all remembered ranges
    newest = max(sent, default=None)
    assert newest is None or probe.unmap(newest) == (0, sent[newest])


# -- the oracle

STEP = st.one_of(
    st.tuples(st.just(SEND), st.integers(1, 4)),
    st.tuples(st.just(SKIP), st.integers(1, 3)),
    st.tuples(st.just("late"), st.integers(1, 40)),
    st.tuples(st.just("start"), st.integers(0, 5 << 16)),
    st.tuples(st.just("switch"), st.integers(0, 5 << 16)),
    st.tuples(st.just("rebase"), st.integers(1, 1 << 15)),
)


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, (1 << 15) - 1),
    st.sampled_from([W, W + 10, 2 * W - 20, (1 << 32) - 20, 3 * W - 5]),
    st.lists(STEP, max_size=200),
)
def test_numbers_agree_with_the_oracle_and_never_collide(
    first_out: int, first_in: int, steps: list[tuple[str, int]]
) -> None:
    probe, model = RewriterProbe(first_out, 7), RewriterModel(W + first_out - 1, 7)
    newest, now_us = first_in, 0
    probe.start(first_in, 0, 90000, 0)
    model.start(first_in, 0, 90000, 0)
    assert probe.send(first_in, 0, 0) == model.send(first_in, 0, 0)  # decide starts with a packet to send
    handled = {first_in}  # of this source
    used = {W + first_out: (0, first_in)}  # outgoing numbers, ever: whose, and which
    ranges, ssrc = 1, 0
    for what, n in steps:
        now_us += 1000
        timestamp = newest * 3000 % (1 << 32)
        if what == "start":
            newest = W + n
            probe.start(newest, timestamp, 90000, now_us)
            model.start(newest, timestamp, 90000, now_us)
            handled, ranges, ssrc, what, in_seq = set(), 1, 0, SEND, newest
        elif what == "switch":
            newest = W + n
            probe.switch(ssrc + 1, newest, timestamp, n % 9000)
            model.switch(newest, timestamp, n % 9000)
            handled, ranges, ssrc, what, in_seq = set(), 1, ssrc + 1, SEND, newest
        elif what == "rebase":
            newest += n
            probe.rebase(newest)
            model.rebase(newest)
            handled, ranges, what, in_seq = set(), 1, SEND, newest
        elif what == "late":
            in_seq = newest - n
            if in_seq in handled or in_seq < W:
                continue
        else:
            newest += n
            in_seq = newest
        handled.add(in_seq)
        if what == SKIP:
            probe.skip(in_seq)
            model.skip(in_seq)
            ranges += 1
            continue
        sent, expected = probe.send(in_seq, timestamp, now_us), model.send(in_seq, timestamp, now_us)
        if sent is None:
            assert expected is None or ranges > 16, "only what is older than sixteen skips may be forgotten"
            if expected is not None:
                break  # from here on the two know different things
            continue
        assert sent == expected
        assert sent[0] not in used, "two packets under one number would share a nonce"
        used[sent[0]] = ssrc, in_seq
    for out, incoming in used.items():
        assert probe.unmap(out) in (incoming, None), "a repeat is what had the number, or nothing"


@given(
    st.integers(0, (1 << 15) - 1),
    st.integers(W, 1 << 40),
    st.lists(st.sampled_from([SEND, SKIP]), max_size=300),
)
def test_what_is_sent_in_order_has_no_gap_whatever_is_left_out(
    first_out: int, first_in: int, steps: list[str]
) -> None:
    probe = RewriterProbe(first_out, 0)
    probe.start(first_in, 0, 90000, 0)
    sent = []
    for in_seq, what in enumerate([SEND, *steps], first_in):
        if what == SKIP:
            probe.skip(in_seq)
        else:
            sent.append(probe.send(in_seq, 0, 0))
    assert [number and number[0] for number in sent] == list(range(W + first_out, W + first_out + len(sent)))


# -- the same, through decide


def keyframe(seq: int, **more: int) -> bytes:
    return rtp_packet(seq, payload=VP8_KEYFRAME, **more)  # type: ignore[arg-type]


def delta(seq: int, **more: int) -> bytes:
    return rtp_packet(seq, payload=VP8_DELTA, **more)  # type: ignore[arg-type]


def padding(seq: int) -> bytes:
    return rtp_packet(seq, payload=b"", padding=20)


def out_numbers(peer: ManualPeer) -> list[int]:
    return [packet.seq for packet in peer.media()]


def test_padding_only_packets_are_left_out_without_a_gap() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for data in (keyframe(10), padding(11), delta(12), padding(13), padding(14), delta(15), delta(16)):
            assert room.send(ada, data) is None
        assert out_numbers(grace) == [1000, 1001, 1002, 1003]


def test_a_codec_that_the_subscriber_lacks_is_left_out_without_a_gap() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        downtrack = room.subscribe(grace, room.publish(ada), types=[(VP8, 100)])
        for data in (keyframe(10), delta(11, payload_type=97), delta(12, payload_type=97), delta(13)):
            room.send(ada, data)
        assert out_numbers(grace) == [1000, 1001]
        assert room.worker.downtrack_stats(downtrack)[8] == {"codec_not_negotiated": 2}


def test_media_waits_for_a_key_frame_and_old_packets_of_before_are_too_late() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        downtrack = room.subscribe(grace, room.publish(ada))
        for data in (delta(10), delta(11), keyframe(14), delta(15), delta(13)):
            room.send(ada, data)
        assert out_numbers(grace) == [1000, 1001]
        assert room.worker.downtrack_stats(downtrack)[8] == {"awaiting_keyframe": 2, "too_late": 1}


@pytest.mark.parametrize("codec", [VP8, H264])
def test_each_codec_goes_out_under_the_payload_type_of_the_subscriber(codec: int) -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        payload, payload_type, expected = {
            VP8: (VP8_KEYFRAME, 96, 100),
            H264: (b"\x65\x88\x84", 97, 101),
        }[codec]
        room.send(ada, rtp_packet(1, payload=payload, payload_type=payload_type))
        assert [packet.payload_type for packet in grace.media()] == [expected]


def test_a_change_of_source_goes_on_in_number_and_time() -> None:
    with manual_room() as room:
        ada, bob, grace = room.peer(), room.peer(), room.peer()
        ada_video, bob_video = room.publish(ada), room.publish(bob, ssrcs=(0x9999,))
        downtrack = room.subscribe(grace, ada_video)
        room.send(ada, keyframe(60_000, timestamp=5))
        room.send(ada, delta(60_001, timestamp=3005))
        room.worker.connect(downtrack, bob_video)
        room.apply()
        room.send(bob, delta(6, ssrc=0x9999, timestamp=0xFFFFFFFF))  # no key frame yet
        room.send(ada, delta(60_002, timestamp=6005))  # so the old picture goes on
        room.now_us += 100_000
        room.send(bob, keyframe(7, ssrc=0x9999, timestamp=0xFFFFFFFF))
        room.send(ada, delta(60_003, timestamp=9005))  # no longer wanted
        room.send(bob, delta(8, ssrc=0x9999, timestamp=2999))
        got = grace.media()
        assert [(p.seq, p.timestamp, p.ssrc) for p in got] == [
            (1000, 5000, 0x777),
            (1001, 8000, 0x777),
            (1002, 11000, 0x777),
            (1003, 11000 + 9000, 0x777),
            (1004, 11000 + 9000 + 3000, 0x777),
        ]


def test_numbers_go_on_after_unsubscribing_for_an_hour() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada)
        downtrack = room.subscribe(grace, uptrack)
        room.send(ada, keyframe(1))
        room.worker.disconnect(downtrack)
        room.apply()
        room.send(ada, keyframe(2))
        room.now_us += 3_600_000_000
        room.worker.connect(downtrack, uptrack)
        room.apply()
        room.send(ada, keyframe(3))
        got = grace.media()
        assert [p.seq for p in got] == [1000, 1001]
        assert got[1].timestamp - got[0].timestamp == 3600 * 90000


def test_a_restart_of_the_publishers_numbers_leaves_no_jump() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, keyframe(100))
        for start in (20_000, 5_000, 40_000, 39_000 - 1_025):
            assert room.send(ada, delta(start)) == "sequence_jump"  # the first only announces it
            assert room.send(ada, delta(start + 1)) is None
            assert room.send(ada, delta(start + 2)) is None
        assert out_numbers(grace) == [1000, 1002, 1003, 1005, 1006, 1008, 1009, 1011, 1012]


def test_a_restart_hidden_behind_padding_leaves_no_jump_either() -> None:
    """A jump of 2**15 on the way out would cost the subscriber its rollover counter for good."""
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        room.send(ada, keyframe(100))
        room.send(ada, padding(32_000))
        room.send(ada, padding(32_001))  # accepted: two in a row
        room.send(ada, delta(32_002))
        seq = 32_002
        for _ in range(20):  # each jump within what may be loss, and nothing to send
            seq += 3000
            room.send(ada, padding(seq))
        room.send(ada, delta(seq + 1))
        assert out_numbers(grace) == [1000, 1002, 1004]


def test_a_stream_whose_place_was_given_away_starts_over_at_a_key_frame() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada))
        for seq in (65_000, 65_001):
            room.send(ada, keyframe(seq))
        for i in range(70_000, 140_000, 2_000):  # far into later cycles
            room.send(ada, delta(i & 0xFFFF))
        before = out_numbers(grace)
        room.now_us += 31_000_000
        for other in range(32):  # as many as there are places: the last takes that of the silent video
            assert room.send(ada, receiver_report(0x5000 + other)) is None
        room.now_us += 31_000_000
        assert room.send(ada, delta(200)) is None
        assert out_numbers(grace) == []
        room.send(ada, keyframe(201))
        room.send(ada, delta(202))
        after = out_numbers(grace)
        assert after == [before[-1] + 1, before[-1] + 2]


def test_audio_starts_with_any_packet() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada, is_video=False)
        room.subscribe(grace, uptrack, is_video=False, types=[(OPUS, 110)])
        room.send(ada, rtp_packet(5, payload_type=111, payload=b"opus"))
        assert [(p.seq, p.payload_type, p.payload) for p in grace.media()] == [(1000, 110, b"opus")]
