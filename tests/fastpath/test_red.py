"""Redundant audio (RFC 2198): passed to those who negotiated it, stripped for the others (red.pxi)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manual_room import OPUS, RED, ManualPeer, ManualRoom, manual_room
from tests.support.packets import Rtp, rtp_packet, sender_report, split_compound
from tests.support.red import MOST_OLDER_BLOCKS, Block, read_red, red_payload, renamed

UP_OPUS, UP_RED, UP_PCMU = 111, 63, 0
WITH_RED = [(OPUS, 110), (RED, 62)]
WITHOUT_RED = [(OPUS, 109)]
OLDER = Block(UP_OPUS, b"older frame", 1920)
OLD = Block(UP_OPUS, b"old frame", 960)
PRIMARY = Block(UP_OPUS, b"the newest frame")


class Listeners:
    """Ada speaks; Grace negotiated RED, Joan did not, Mary negotiated nothing that Ada sends."""

    def __init__(self, room: ManualRoom) -> None:
        self.room = room
        self.ada, self.grace, self.joan, self.mary = (room.peer() for _ in range(4))
        self.uptrack = room.publish(self.ada, mid=b"a", is_video=False)
        self.slots = [
            self._listen(self.grace, WITH_RED),
            self._listen(self.joan, WITHOUT_RED),
            self._listen(self.mary, [(9, 8)]),
        ]
        self.seq = 65_530

    def _listen(self, peer: ManualPeer, types: list[tuple[int, int]]) -> int:
        return self.room.subscribe(peer, self.uptrack, is_video=False, types=types)

    def say(self, payload: bytes, payload_type: int = UP_RED, **more: int) -> str | None:
        self.seq += 1
        packet = rtp_packet(
            self.seq, timestamp=self.seq * 960, payload_type=payload_type, payload=payload, **more
        )
        return self.room.send(self.ada, packet)


def summary(packets: list[Rtp]) -> list[tuple[int, bytes]]:
    return [(packet.payload_type, packet.payload) for packet in packets]


@pytest.mark.parametrize("older", [[], [OLD], [OLDER, OLD], [Block(UP_OPUS, b"", 960)]])
def test_who_has_red_gets_it_in_its_own_types_and_others_get_the_newest_frame(older: list[Block]) -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        for _ in range(3):
            assert listeners.say(red_payload(*older, PRIMARY)) is None
        grace, joan = listeners.grace.media(), listeners.joan.media()
        assert summary(grace) == [(62, renamed([*older, PRIMARY], 110))] * 3
        assert summary(joan) == [(109, PRIMARY.data)] * 3
        for packets in (grace, joan):  # as gapless as the publisher's own, over its wrap
            assert [packet.seq - packets[0].seq for packet in packets] == [0, 1, 2]
            assert [packet.timestamp - packets[0].timestamp for packet in packets] == [0, 960, 1920]
        assert listeners.mary.media() == []
        assert room.worker.downtrack_stats(listeners.slots[2])[8] == {"codec_not_negotiated": 3}
        assert room.worker.counters()["red_stripped"] == 3


def test_marker_extensions_and_csrcs_stay_and_padding_goes() -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        packet = rtp_packet(
            1,
            payload_type=UP_RED,
            payload=red_payload(OLD, PRIMARY),
            marker=True,
            csrcs=(7, 8),
            extensions={1: b"\x22"},
            padding=50,
        )
        assert room.send(listeners.ada, packet) is None
        for peer in (listeners.grace, listeners.joan):
            (got,) = peer.media()
            assert got.marker
            assert got.csrcs == (7, 8)
            assert got.extensions[2] == b"\x22"
            assert got.payload[-len(PRIMARY.data) :] == PRIMARY.data


def test_plain_opus_between_red_packets_goes_to_everybody_in_one_numbering() -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        listeners.say(red_payload(OLD, PRIMARY))
        listeners.say(b"plain", UP_OPUS)
        listeners.say(red_payload(PRIMARY))
        grace, joan = listeners.grace.media(), listeners.joan.media()
        assert [packet.payload_type for packet in grace] == [62, 110, 62]
        assert [packet.payload for packet in joan] == [PRIMARY.data, b"plain", PRIMARY.data]
        assert [packet.seq - grace[0].seq for packet in grace] == [0, 1, 2]


def test_python_is_told_the_codec_inside_so_red_and_plain_opus_are_one() -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        for _ in range(5):
            listeners.say(red_payload(OLD, PRIMARY))
            listeners.say(b"plain", UP_OPUS)
            room.advance(200_000)
        events = room.worker.take_events(False, 100)
        assert [(subject, data) for subject, _, data, *_ in events] == [(listeners.uptrack, bytes([OPUS]))]


def test_sender_reports_count_the_payload_that_each_listener_got() -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        payload = red_payload(OLD, PRIMARY)
        room.send(listeners.ada, sender_report(0x1234, room.now_ntp, 0))
        listeners.say(payload)
        listeners.grace.received()
        listeners.joan.received()
        room.advance(1_600_000)
        for peer, octets in ((listeners.grace, len(payload)), (listeners.joan, len(PRIMARY.data))):
            reports = [body for data in peer.rtcp() for _, kind, body in split_compound(data) if kind == 200]
            assert {int.from_bytes(body[20:24], "big") for body in reports} == {octets}


MALFORMED = {
    "only older blocks announced": b"\xef\x00\x00\x00",
    "a header cut short": b"\xef\x0f\x00",
    "an older block longer than the packet": bytes([0x80 | UP_OPUS, 0x0F, 0x03, 0xFF, UP_OPUS]) + b"short",
    "a primary block of a type that was not negotiated": bytes([55]) + b"data",
    "a primary block that is RED again": bytes([UP_RED, UP_OPUS]) + b"data",
    "an older block of another codec": red_payload(Block(UP_PCMU, b"pcm"), PRIMARY),
    "an older block of a type that was not negotiated": red_payload(Block(55, b"dtmf"), PRIMARY),
    "more blocks than anybody sends": red_payload(*[Block(UP_OPUS, b"x")] * (MOST_OLDER_BLOCKS + 1), PRIMARY),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED.keys())
def test_red_that_lies_is_dropped_for_everybody_and_the_next_packet_arrives(payload: bytes) -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        assert listeners.say(payload) == "red_malformed"
        assert listeners.grace.media() == listeners.joan.media() == []
        assert listeners.say(red_payload(OLD, PRIMARY)) is None
        assert len(listeners.grace.media()) == len(listeners.joan.media()) == 1


def test_as_many_blocks_as_are_taken_arrive_renamed() -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        blocks = [*[Block(UP_OPUS, b"x", 960)] * MOST_OLDER_BLOCKS, PRIMARY]
        assert listeners.say(red_payload(*blocks)) is None
        assert summary(listeners.grace.media()) == [(62, renamed(blocks, 110))]


@pytest.mark.parametrize("payload", [b"", bytes([UP_OPUS]), red_payload(OLD, Block(UP_OPUS, b""))])
def test_a_packet_without_a_newest_frame_is_as_good_as_padding(payload: bytes) -> None:
    with manual_room() as room:
        listeners = Listeners(room)
        assert listeners.say(payload, padding=20) is None
        assert listeners.grace.media() == listeners.joan.media() == []
        assert room.worker.downtrack_stats(listeners.slots[0])[8] == {"padding_only": 1}


def test_who_negotiated_red_and_not_what_is_inside_gets_nothing() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada, mid=b"a", is_video=False)
        slot = room.subscribe(grace, uptrack, is_video=False, types=[(RED, 62)])
        room.send(ada, rtp_packet(1, payload_type=UP_RED, payload=red_payload(OLD, PRIMARY)))
        assert grace.media() == []
        assert room.worker.downtrack_stats(slot)[8] == {"codec_not_negotiated": 1}


def check(payload: bytes) -> None:
    """Compare what two listeners get of a payload with what the model says."""
    with manual_room() as room:
        listeners = Listeners(room)
        reason = listeners.say(payload)
        grace, joan = summary(listeners.grace.media()), summary(listeners.joan.media())
        blocks = read_red(payload)
        if payload and (
            blocks is None or {block.payload_type for block in blocks} not in ({UP_OPUS}, {UP_PCMU})
        ):
            assert (reason, grace, joan) == ("red_malformed", [], [])
        elif not payload or blocks is None or not blocks[-1].data or blocks[-1].payload_type == UP_PCMU:
            assert (reason, grace, joan) == (None, [], [])
        else:
            assert reason is None
            assert grace == [(62, renamed(blocks, 110))]
            assert joan == [(109, blocks[-1].data)]


def test_a_payload_cut_at_any_length_is_what_the_model_says() -> None:
    payload = red_payload(OLDER, OLD, PRIMARY)
    for length in range(len(payload) + 1):
        check(payload[:length])


block_types = st.sampled_from([UP_OPUS, UP_OPUS, UP_OPUS, UP_PCMU, UP_RED, 55])
blocks = st.builds(Block, block_types, st.binary(max_size=40), st.integers(0, 0x3FFF))


@given(st.lists(blocks, min_size=1, max_size=20))
def test_any_blocks_are_passed_on_as_the_model_says(blocks: list[Block]) -> None:
    check(red_payload(*blocks))


@given(st.lists(blocks, min_size=1, max_size=3), st.binary(max_size=8), st.integers(0, 80))
def test_any_damage_to_a_payload_is_seen_as_the_model_sees_it(
    blocks: list[Block], patch: bytes, at: int
) -> None:
    payload = red_payload(*blocks)
    check(payload[:at] + patch + payload[at + len(patch) :])
