"""Simulcast: layers are told apart, the best one goes to subscribers, and the seam between (uptrack.pxi)."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.manual_room import (
    RTX_UP_TYPES,
    UP_EXTENSIONS,
    UP_TYPES,
    ManualPeer,
    ManualRoom,
    manual_room,
    up_settings,
)
from tests.support.packets import (
    VP8_DELTA,
    VP8_KEYFRAME,
    Rtp,
    nack,
    rtp_packet,
    sender_report,
    split_compound,
)

RIDS = (b"q", b"h", b"f")
MID, RID, REPAIRED_RID = 3, 10, 11  # extension ids
FRAME_US = 33_333
CONTINUATION = b"\x00"  # VP8: not the start of a partition


@dataclass
class Encoding:
    """One layer as a browser sends it: own SSRCs, own numbers, own timestamp offset."""

    room: ManualRoom
    peer: ManualPeer
    index: int
    seq: int = 0
    rtx_seq: int = 9000
    offset: int = 0
    names_itself: bool = True
    sent: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ssrc, self.rtx_ssrc = 0xA0 + self.index, 0xB0 + self.index
        self.seq = self.seq or 30_000 + 1000 * self.index
        self.offset = self.offset or 0x40000000 * (self.index + 1)

    def now_ticks(self) -> int:
        return self.offset + self.room.now_us * 9 // 100

    def packet(self, *, key: bool = False, more: bool = False) -> bytes:
        """Return the next packet: the first of a frame, or ``more`` of one."""
        self.seq += 1
        start = CONTINUATION if more else VP8_KEYFRAME if key else VP8_DELTA
        self.sent[self.seq & 0xFFFF] = rtp_packet(
            self.seq,
            timestamp=self.now_ticks(),
            ssrc=self.ssrc,
            payload=start + bytes([self.index]) + (self.seq & 0xFFFF).to_bytes(2, "big"),
            extensions={MID: b"v", RID: RIDS[self.index]} if self.names_itself else None,
        )
        return self.sent[self.seq & 0xFFFF]

    def send(self, *, key: bool = False, more: bool = False) -> str | None:
        return self.room.send(self.peer, self.packet(key=key, more=more))

    def repeat(self, seq: int, extensions: dict[int, bytes] | None = None) -> str | None:
        """Send a packet of before as RTX."""
        original = self.sent[seq & 0xFFFF]
        header = 12 + 4 + 4 * int.from_bytes(original[14:16], "big") if original[0] & 0x10 else 12
        return self.rtx((seq & 0xFFFF).to_bytes(2, "big") + original[header:], extensions)

    def rtx(self, payload: bytes, extensions: dict[int, bytes] | None, padding: int = 0) -> str | None:
        self.rtx_seq += 1
        return self.room.send(
            self.peer,
            rtp_packet(
                self.rtx_seq,
                timestamp=self.now_ticks(),
                ssrc=self.rtx_ssrc,
                payload_type=108,
                payload=payload,
                extensions=extensions,
                padding=padding,
            ),
        )

    def report(self, skew_us: int = 0) -> None:
        """Send a sender report; layers of one browser name one clock."""
        self.room.send(self.peer, sender_report(self.ssrc, self.room.now_ntp, self.now_ticks()))


class Simulcast:
    """Ada with three layers, and Grace who watches her."""

    def __init__(self, room: ManualRoom, *, ssrcs: tuple[int, ...] = ()) -> None:
        self.room = room
        self.ada, self.grace = room.peer(), room.peer()
        self.uptrack = room.publish(self.ada, ssrcs=ssrcs, nack=True, rids=RIDS)
        self.slot = room.subscribe(self.grace, self.uptrack, rtx_ssrc=0x888)
        self.low, self.middle, self.high = self.layers = [Encoding(room, self.ada, i) for i in range(3)]

    def frame(self, *indexes: int, key: bool = False) -> None:
        """Let a frame's time go by, and these layers send it."""
        self.room.now_us += FRAME_US
        for index in indexes:
            self.layers[index].send(key=key)

    def shown(self) -> list[tuple[int, int]]:
        """Return (layer, number) of what Grace got since the last look."""
        return [mark(packet) for packet in self.grace.media()]

    def asked(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the SSRCs of PLIs, and (SSRC, number) of NACKs, since the last look."""
        plis, nacks = [], []
        for datagram in self.ada.rtcp():
            for count, kind, body in split_compound(datagram):
                ssrc = int.from_bytes(body[4:8], "big")
                if (count, kind) == (1, 206):
                    plis.append(ssrc)
                if (count, kind) == (1, 205):
                    nacks.append((ssrc, int.from_bytes(body[8:10], "big")))
        return plis, nacks


def mark(packet: Rtp) -> tuple[int, int]:
    return packet.payload[-3], int.from_bytes(packet.payload[-2:], "big")


# -- which layer a packet belongs to


def test_the_best_layer_that_arrives_is_what_subscribers_get() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, key=True)
        it.frame(0, 1)
        assert [layer for layer, _ in it.shown()] == [0, 1, 1]
        it.frame(0, 1, 2)
        assert [layer for layer, _ in it.shown()] == [1]  # the new best one has yet to start
        it.frame(0, 1, 2, key=True)
        it.frame(0, 1, 2)
        packets = it.grace.media()
        assert [mark(packet)[0] for packet in packets] == [1, 2, 2]
        assert [packet.seq for packet in packets] == [1004, 1005, 1006]


def test_once_known_an_ssrc_need_not_say_its_rid() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        for layer in it.layers:
            layer.names_itself = False
        it.frame(0, 1, 2)
        assert [layer for layer, _ in it.shown()] == [0, 1, 2, 2]


def test_a_packet_that_does_not_say_its_layer_is_dropped() -> None:
    with manual_room() as room:
        it = Simulcast(room, ssrcs=(0xA0,))
        assert room.send(it.ada, rtp_packet(1, ssrc=0xA0)) == "unknown_ssrc"
        assert room.send(it.ada, rtp_packet(2, ssrc=0xA0, extensions={MID: b"v"})) == "unknown_ssrc"
        assert (
            room.send(it.ada, rtp_packet(3, ssrc=0xA0, extensions={MID: b"v", RID: b"x"})) == "unknown_ssrc"
        )
        assert (
            room.send(it.ada, rtp_packet(4, ssrc=0xA0, extensions={MID: b"v", RID: b"hh"})) == "unknown_ssrc"
        )
        assert room.send(it.ada, rtp_packet(5, ssrc=0xA0, extensions={MID: b"v", RID: b"h"})) is None


def test_a_lying_rid_moves_an_ssrc_once_and_no_more() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, key=True)
        it.shown()

        def claim(rid: bytes, seq: int) -> list[int]:
            room.now_us += FRAME_US
            it.low.seq = seq
            data = rtp_packet(
                seq, ssrc=0xA0, payload=VP8_KEYFRAME + bytes([9, 0, 0]), extensions={MID: b"v", RID: rid}
            )
            room.send(it.ada, data)
            return [layer for layer, _ in it.shown()]

        assert claim(b"f", 30_002) == [9]  # it is the highest layer now
        assert claim(b"q", 30_003) == [9]  # and stays that


def test_sixteen_ssrcs_a_section_are_listened_to() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        answers = [
            room.send(it.ada, rtp_packet(1, ssrc=0x9000 + i, extensions={MID: b"v", RID: RIDS[i % 3]}))
            for i in range(20)
        ]
        assert answers[16:] == ["too_many_ssrcs"] * 4
        room.now_us += 31_000_000
        assert room.send(it.ada, rtp_packet(1, ssrc=0x9100, extensions={MID: b"v", RID: b"f"})) is None


def test_rtx_belongs_to_its_layer_though_it_came_first() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        # A browser probes with RTX padding before the layer's first media.
        for layer in it.layers:
            named = {MID: b"v", REPAIRED_RID: RIDS[layer.index]}
            assert layer.rtx(b"", named, padding=200) == "padding_only"
        it.frame(0, 1, 2, key=True)
        lost = [layer.packet() for layer in it.layers]
        it.frame(0, 1, 2)
        it.shown()
        assert len(lost) == 3
        for layer in it.layers:  # the browser has heard of us by now and names nothing any more
            layer.repeat(layer.seq - 1)
        assert it.shown() == [(2, it.high.seq - 1)]
        room.advance(20_000)
        assert it.asked()[1] == []


def test_rtx_belongs_to_the_layer_of_the_ssrc_that_it_repeats() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        room.worker.remove_uptrack(it.uptrack)
        pairs = [(layer.rtx_ssrc, layer.ssrc) for layer in it.layers]
        uptrack = room.publish(it.ada, ssrcs=[0xA0, 0xA1, 0xA2], nack=True, rids=RIDS, rtx_ssrcs=pairs)
        room.worker.connect(it.slot, uptrack)
        room.apply()
        assert it.high.rtx(b"", None, padding=200) == "unknown_ssrc"  # nothing is known of 0xA2 yet
        it.frame(0, 1, 2, key=True)
        it.high.packet()
        it.frame(0, 1, 2)
        it.shown()
        it.high.repeat(it.high.seq - 1)
        assert it.shown() == [(2, it.high.seq - 1)]


def test_every_layer_is_asked_for_what_it_lacks() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        for layer in it.layers:
            layer.packet()
        it.frame(0, 1, 2)
        room.advance(20_000)
        assert sorted(it.asked()[1]) == [(layer.ssrc, layer.seq - 1) for layer in it.layers]


def test_the_layer_that_is_wanted_is_asked_for_a_key_frame() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0)
        room.advance(20_000)
        assert it.asked()[0] == [0xA0]
        it.frame(0, 1, 2)
        room.advance(20_000)
        assert it.asked()[0] == [0xA2]
        room.advance(1_100_000)
        assert it.asked()[0] == [0xA2, 0xA2]


def test_reports_go_out_for_every_layer() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        it.ada.received()
        room.advance(100_000)
        [report] = [d for d in it.ada.rtcp() if d[1] == 201 and d[0] & 31]
        assert {int.from_bytes(report[8 + 24 * i : 12 + 24 * i], "big") for i in range(3)} == {
            0xA0,
            0xA1,
            0xA2,
        }


def test_other_rids_make_every_ssrc_say_its_layer_anew() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        it.shown()
        for rids in ([b"f", b"q"], [], [b"q", b"h", b"f", b"x"]):
            settings = up_settings(
                types=UP_TYPES, extensions=UP_EXTENSIONS, nack=True, rtx_types=RTX_UP_TYPES, rids=rids
            )
            room.worker.update_uptrack(it.uptrack, settings)
            room.apply()
            room.now_us += 1_000_000
            it.low.send(key=True)
            room.now_us += 1_000_000
            assert [layer for layer, _ in it.shown()] == [0]


# -- which layer subscribers get


def test_a_layer_that_falls_silent_gives_way_to_the_next_lower_one() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        it.shown()
        for _ in range(15):
            it.frame(0, 1)
        assert it.shown() == []
        it.asked()
        it.frame(0, 1)  # half a second is over
        room.advance(20_000)
        assert 0xA1 in it.asked()[0]
        it.frame(0, 1, key=True)
        it.frame(0, 1)
        assert [layer for layer, _ in it.shown()] in ([1, 1], [0, 1, 1])


def test_a_still_screen_does_not_lose_its_layer() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        it.shown()
        for _ in range(10):
            room.now_us += 1_000_000
            it.frame(0, 1, 2)
        assert [layer for layer, _ in it.shown()] == [2] * 10


def test_a_layer_that_comes_and_goes_is_taken_back_only_when_it_stays() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        for _ in range(20):
            it.frame(0, 1, key=True)
        it.shown()
        for _ in range(59):
            it.frame(0, 1, 2, key=True)
        assert {layer for layer, _ in it.shown()} == {1}
        for _ in range(3):
            it.frame(0, 1, 2, key=True)
        assert [layer for layer, _ in it.shown()][-1] == 2


def test_a_layer_in_doubt_is_better_than_none() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, 2, key=True)
        for _ in range(20):
            it.frame(0, 1, key=True)
        for _ in range(20):
            it.frame(2, key=True)
        assert it.shown()[-1][0] == 2


# -- the seam


def seam(room: ManualRoom, *, with_reports: bool, late_us: int = 0) -> tuple[Rtp, Rtp]:
    """Return the last packet of the middle layer and the first of the high one, captured a frame later.

    ``late_us``: how long the key frame of the high layer was on its way.
    """
    it = Simulcast(room)
    it.frame(1, key=True)
    if with_reports:
        for layer in it.layers:
            layer.send()  # so that the SSRC is known
            layer.report()
    it.frame(1)
    room.now_us += FRAME_US
    data = it.high.packet(key=True)
    room.now_us += late_us
    room.send(it.ada, data)
    return tuple(it.grace.media()[-2:])  # type: ignore[return-value]


@pytest.mark.parametrize("late_us", [0, 100_000])
def test_layers_are_aligned_by_their_sender_reports(late_us: int) -> None:
    with manual_room() as room:
        last, first = seam(room, with_reports=True, late_us=late_us)
        assert first.seq == last.seq + 1
        assert abs((first.timestamp - last.timestamp & 0xFFFFFFFF) - 3000) <= 1


@pytest.mark.parametrize("late_us", [0, 100_000])
def test_without_reports_the_time_of_arrival_counts(late_us: int) -> None:
    with manual_room() as room:
        last, first = seam(room, with_reports=False, late_us=late_us)
        assert abs((first.timestamp - last.timestamp & 0xFFFFFFFF) - 3000 - late_us * 9 // 100) <= 1


@pytest.mark.parametrize("ntp", [0, 1, (1 << 64) - 1, 0xE7000000 << 32])
def test_a_sender_report_that_lies_cannot_turn_the_clock_back(ntp: int) -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(0, 1, key=True)
        it.low.send()
        it.middle.report()
        room.send(it.ada, sender_report(0xA2, ntp, 0x99999999))
        it.frame(0, 1, 2, key=True)
        *_, last, first = it.grace.media()
        assert 0 < first.timestamp - last.timestamp & 0xFFFFFFFF <= 3000 + 90_000 + 1


def test_late_packets_of_the_layer_before_map_to_nothing() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(1, key=True)
        late = it.middle.packet()
        it.middle.send()
        it.frame(2, key=True)
        assert room.send(it.ada, late) == "unwanted_layer"
        assert [packet.seq for packet in it.grace.media()] == [1000, 1002, 1003]


def test_what_was_lost_of_the_layer_before_is_repeated_as_it_went_out() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(1, key=True)
        it.frame(1)
        it.frame(2, key=True)
        it.frame(2)
        sent = {packet.seq: packet for packet in it.grace.media()}
        room.send(it.grace, nack(9, 0x777, (1000, 0b111)))
        repeats = it.grace.media()
        assert [packet.payload[:2] for packet in repeats] == [n.to_bytes(2, "big") for n in sorted(sent)]
        for packet, original in zip(repeats, (sent[n] for n in sorted(sent)), strict=True):
            assert (packet.payload[2:], packet.timestamp) == (original.payload, original.timestamp)


def test_a_key_frame_that_was_captured_before_what_went_out_does_not_turn_the_clock_back() -> None:
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(1, key=True)
        for layer in it.layers:
            layer.send()
            layer.report()
        held = it.high.packet(key=True)
        it.frame(1)
        it.frame(1)
        room.send(it.ada, held)
        *_, last, first = it.grace.media()
        assert (mark(last)[0], mark(first)[0]) == (1, 2)
        assert (first.seq, first.timestamp) == (last.seq + 1, last.timestamp + 1)


def test_an_ssrc_that_starts_over_is_not_looked_back_at() -> None:
    """Its numbers mean other packets then, and a repeat under an old number would be a wrong one."""
    with manual_room() as room:
        it = Simulcast(room)
        it.frame(1, key=True)
        it.frame(2, key=True)
        first, _ = it.grace.media()
        room.publish(it.ada, mid=b"w", ssrcs=[])
        room.now_us += 31_000_000
        it.frame(2)
        for i in range(40):  # more than there are places: the silent layer loses its own
            room.send(it.ada, rtp_packet(1, ssrc=0x9000 + i, extensions={MID: b"w"}))
        room.now_us += 31_000_000
        it.frame(2)
        it.middle.seq -= 1
        assert it.middle.send(key=True) == "unwanted_layer"  # the very number that went out as 1000
        it.grace.media()
        room.send(it.grace, nack(9, 0x777, (first.seq, 0)))
        assert it.grace.media() == []


# -- any order of layers, losses and late packets

STEP = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([0, 1, 1, 2, 2, 2]), st.sampled_from([False, False, True])),
    st.tuples(st.just("lose"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("hold"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("deliver"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("repeat"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("report"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("pause"), st.integers(1, 20), st.booleans()),
    st.tuples(st.just("ask"), st.integers(0, 30), st.booleans()),
)


class Seen:
    """What Grace has seen, checked packet by packet against what Ada sent."""

    def __init__(self) -> None:
        self.by_number: dict[int, tuple[tuple[int, int], int]] = {}  # number -> (layer, its number), time
        self.runs: list[tuple[int, int, int]] = []  # first number, layer, what its numbers are more by

    def take(self, packet: Rtp) -> None:
        (layer, seq), number = mark(packet), packet.seq
        assert number not in self.by_number, "two packets under one number would share a nonce"
        highest = max(self.by_number, default=number - 1)
        if not self.runs or (number > highest and self.runs[-1][1:] != (layer, number - seq)):
            assert packet.payload.startswith(VP8_KEYFRAME), "a new layer starts at its key frame"
            assert number == highest + 1, "and leaves no number out"
            self.runs.append((number, layer, number - seq))
        assert self.place_of(number) == (layer, seq), "every number means the packet of its own layer"
        self.by_number[number] = (layer, seq), packet.timestamp
        before = [time for n, (_, time) in self.by_number.items() if n < number]
        assert all((packet.timestamp - time & 0xFFFFFFFF) < 1 << 31 for time in before), "time goes on"

    def place_of(self, number: int) -> tuple[int, int]:
        """Return the (layer, number) that belongs to a number, sent or not."""
        _, layer, more = [run for run in self.runs if run[0] <= number][-1]
        return layer, number - more

    def check_repeat(self, packet: Rtp) -> None:
        number = int.from_bytes(packet.payload[:2], "big")
        assert mark(packet) == self.place_of(number), "a repeat is what had the number, or nothing"
        if number in self.by_number:
            assert packet.timestamp == self.by_number[number][1]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=120))
def test_numbers_and_time_go_on_whatever_is_lost_or_late(steps: list[tuple[str, int, bool]]) -> None:
    with manual_room() as room:
        it, seen = Simulcast(room), Seen()
        held: list[bytes] = []
        for what, n, flag in steps:
            room.now_us += 5_000
            layer = it.layers[n % 3]
            if what == "send":
                room.now_us += FRAME_US
                layer.send(key=flag)
                layer.send(more=True)
            elif what == "lose":
                layer.packet(key=flag)
            elif what == "hold":
                held.append(layer.packet(key=flag))
            elif what == "deliver" and held:
                room.send(it.ada, held.pop(n % len(held)))
            elif what == "repeat" and layer.sent:
                layer.repeat(
                    layer.seq - 1 if layer.seq - 1 in layer.sent else layer.seq,
                    {MID: b"v", REPAIRED_RID: RIDS[n]},
                )
            elif what == "report":
                layer.report()
            elif what == "pause":
                room.advance(n * 100_000)
            elif what == "ask":
                room.send(it.grace, nack(9, 0x777, (1000 + n, 0xFFFF)))
            for packet in it.grace.media():
                if packet.ssrc == 0x777:
                    seen.take(packet)
                else:
                    seen.check_repeat(packet)
