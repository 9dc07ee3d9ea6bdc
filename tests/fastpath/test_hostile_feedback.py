"""Feedback of a hostile peer: NACK for anything, RTX that repeats nothing, RTCP of every shape."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manual_room import ManualPeer, ManualRoom, is_rtcp, manual_room, up_settings
from tests.support.packets import (
    VP8_KEYFRAME,
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

SLOT, SLOT_RTX, UP_RTX = 0x777, 0x778, 0x4321
SENT = 20  # packets that Grace got before the attack


class Call:
    """Ada publishes, Grace and Bob watch; Bob is who must not notice anything."""

    def __init__(self, room: ManualRoom, *, has_rtx: bool) -> None:
        self.room = room
        self.ada, self.grace, self.bob = (room.peer() for _ in range(3))
        self.uptrack = room.publish(self.ada, nack=True, rtx_ssrcs=[(UP_RTX, 0x1234)])
        self.slot = room.subscribe(self.grace, self.uptrack, rtx_ssrc=SLOT_RTX if has_rtx else 0)
        room.subscribe(self.bob, self.uptrack, ssrc=0x901, rtx_ssrc=0x902)
        self.seq = 0
        for _ in range(SENT):
            self.send()
        for peer in room.peers:
            peer.received()

    def send(self) -> None:
        packet = rtp_packet(self.seq, payload=VP8_KEYFRAME + bytes([self.seq % 256]))
        assert self.room.send(self.ada, packet) is None
        self.seq += 1

    def undisturbed(self) -> None:
        """The next packet reaches both, in the next number, and Bob got nothing else."""
        self.send()
        for peer in (self.grace, self.bob):
            assert [packet.seq for packet in peer.media()] == [1000 + self.seq - 1]


def media(datagrams: list[bytes]) -> list[bytes]:
    return [data for data in datagrams if not is_rtcp(data)]


@pytest.mark.parametrize("has_rtx", [False, True])
def test_a_nack_for_every_number_there_is_brings_each_kept_packet_once(has_rtx: bool) -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=has_rtx)
        room.now_us += 50_000
        everything = [(pid, 0xFFFF) for pid in range(0, 65_536, 17)]
        for start in range(0, len(everything), 300):
            assert room.send(call.grace, nack(1, SLOT, *everything[start : start + 300])) is None
        repeats = [read_rtp(data) for data in media(call.grace.received())]
        assert len(repeats) == SENT
        if has_rtx:
            assert {packet.ssrc for packet in repeats} == {SLOT_RTX}
            originals = sorted(int.from_bytes(packet.payload[:2], "big") for packet in repeats)
            assert originals == list(range(1000, 1000 + SENT))
            assert [packet.seq for packet in repeats] == list(range(501, 501 + SENT))
        else:
            assert sorted(packet.seq for packet in repeats) == list(range(1000, 1000 + SENT))
        call.undisturbed()


@pytest.mark.parametrize("has_rtx", [False, True])
@pytest.mark.parametrize("repeats", [1, 300])
def test_asking_for_one_packet_again_and_again_brings_it_once_a_round_trip(
    has_rtx: bool, repeats: int
) -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=has_rtx)
        room.now_us += 50_000
        for _ in range(10):  # in one millisecond
            room.send(call.grace, nack(1, SLOT, *[(1003, 0)] * repeats))
            room.now_us += 100
        assert len(media(call.grace.received())) == 1
        call.undisturbed()


@pytest.mark.parametrize("has_rtx", [False, True])
def test_ten_requests_for_a_packet_are_answered_and_as_many_for_the_next_in_its_place(has_rtx: bool) -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=has_rtx)

        def ask(seq: int) -> int:
            for _ in range(40):
                room.now_us += 30_000
                room.send(call.grace, nack(1, SLOT, (seq, 0)))
            return len(media(call.grace.received()))

        copies = 1 + 9 * 2 if has_rtx else 10  # by RTX two a time from the second request on
        assert ask(1000 + SENT - 1) == copies
        for _ in range(512):  # as many as are kept: the last one takes the same place
            call.send()
        call.grace.received()
        assert ask(1000 + SENT - 1 + 512) == copies


@pytest.mark.parametrize("media_ssrc", [0, 0x1234, 0x901, SLOT_RTX, 0xFFFFFFFF])
def test_a_nack_for_an_ssrc_that_is_no_slot_of_the_peer_brings_nothing(media_ssrc: int) -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        room.now_us += 50_000
        assert room.send(call.grace, nack(1, media_ssrc, (1000, 0xFFFF), (1, 0xFFFF))) is None
        for peer in (call.grace, call.bob):
            assert media(peer.received()) == []
        call.undisturbed()


def test_a_nack_of_the_publisher_for_what_it_sent_brings_nothing() -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        assert room.send(call.ada, nack(1, 0x1234, (0, 0xFFFF))) is None
        assert media(call.ada.received()) == []
        call.undisturbed()


def test_a_nack_for_an_idle_slot_or_after_the_publication_went_brings_nothing() -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        room.now_us += 50_000
        room.worker.disconnect(call.slot)
        room.apply()
        room.send(call.grace, nack(1, SLOT, (1000, 0xFFFF)))
        room.worker.connect(call.slot, call.uptrack)
        room.worker.remove_uptrack(call.uptrack)
        room.apply()
        room.send(call.grace, nack(1, SLOT, (1000, 0xFFFF)))
        assert media(call.grace.received()) == []


RTX_THAT_REPEATS_NOTHING = {
    "no payload, a probe": (b"", 0, 108, "padding_only"),
    "padding alone": (b"", 200, 108, "padding_only"),
    "one byte of a number": (b"\x00", 0, 108, "rtx_malformed"),
    "one byte of a number and padding": (b"\x00", 9, 108, "rtx_malformed"),
    "the number of the newest packet": ((SENT - 1).to_bytes(2, "big") + VP8_KEYFRAME, 0, 108, "duplicate"),
    "a number to come": (SENT.to_bytes(2, "big") + VP8_KEYFRAME, 0, 108, "too_late"),
    "half a cycle ago": (b"\x80\x20" + VP8_KEYFRAME, 0, 108, "too_late"),
}


@pytest.mark.parametrize("name", RTX_THAT_REPEATS_NOTHING)
def test_rtx_that_repeats_nothing_is_one_counted_drop(name: str) -> None:
    payload, padding, payload_type, reason = RTX_THAT_REPEATS_NOTHING[name]
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        packet = rtp_packet(1, ssrc=UP_RTX, payload_type=payload_type, payload=payload, padding=padding)
        assert room.send(call.ada, packet) == reason
        call.undisturbed()


def test_rtx_of_a_number_without_payload_disturbs_nobody() -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        hole = call.seq  # the repetition will fill it with nothing
        call.seq += 1
        call.send()
        call.grace.received()
        call.bob.received()
        packet = rtp_packet(1, ssrc=UP_RTX, payload_type=108, payload=hole.to_bytes(2, "big"))
        assert room.send(call.ada, packet) is None
        assert call.grace.media() == call.bob.media() == []
        call.undisturbed()


def test_rtx_of_what_is_rtx_itself_is_a_counted_drop() -> None:
    with manual_room() as room:
        ada = room.peer()
        settings = up_settings(
            types=[(96, 1, 1, 90000)],
            ssrcs=[0x1234],
            nack=True,
            rtx_types=[(108, 96), (109, 108), (110, 110), (112, 55)],
            rtx_ssrcs=[(UP_RTX, 0x1234)],
        )
        room.worker.add_uptrack(ada.transport, settings)
        room.apply()
        for seq in (1, 5):
            assert room.send(ada, rtp_packet(seq, payload=VP8_KEYFRAME)) is None
        for seq, payload_type in enumerate((109, 110, 112)):
            packet = rtp_packet(seq, ssrc=UP_RTX, payload_type=payload_type, payload=b"\0\3" + VP8_KEYFRAME)
            assert room.send(ada, packet) == "unknown_payload_type"
        packet = rtp_packet(9, ssrc=UP_RTX, payload_type=108, payload=b"\0\3" + VP8_KEYFRAME)
        assert room.send(ada, packet) is None


# -- RTCP of every shape

ssrcs = st.sampled_from([0, 0x1234, SLOT, SLOT_RTX, 0x901, UP_RTX, 0xFFFFFFFF])
words = st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([1000, 1003, 0xFFFF, 0xFFFFFFFF]), ssrcs)
reports = st.builds(
    lambda ssrc, values: report_block(ssrc)[:4] + pack("!5I", *values),
    ssrcs,
    st.tuples(words, words, words, words, words),
)
packets = st.one_of(
    st.builds(lambda ssrc, blocks: receiver_report(ssrc, *blocks), ssrcs, st.lists(reports, max_size=31)),
    st.builds(
        lambda ssrc, ntp, blocks: sender_report(ssrc, ntp, 1, 1, 1, *blocks),
        ssrcs,
        st.integers(0, (1 << 64) - 1),
        st.lists(reports, max_size=5),
    ),
    st.builds(
        lambda ssrc, pairs: nack(9, ssrc, *pairs),
        ssrcs,
        st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), max_size=9),
    ),
    st.builds(lambda ssrc: pli(9, ssrc), ssrcs),
    st.builds(lambda entries: fir(9, *entries), st.lists(st.tuples(ssrcs, st.integers(0, 255)), max_size=9)),
    st.builds(  # any type, any count, any body
        lambda count, kind, body: pack("!BBH", 0x80 | count, kind, len(body)) + pack(f"!{len(body)}I", *body),
        st.integers(0, 63),  # with the padding bit
        st.integers(192, 223),
        st.lists(words, min_size=1, max_size=12),
    ),
)


@given(st.lists(packets, min_size=1, max_size=6), st.booleans())
def test_any_compound_is_taken_and_what_it_causes_is_sound_and_bounded(
    compound: list[bytes], is_publisher: bool
) -> None:
    with manual_room() as room:
        call = Call(room, has_rtx=True)
        room.now_us += 50_000
        sender = call.ada if is_publisher else call.grace
        assert room.send(sender, b"".join(compound)) is None
        _only_repeats(call, call.grace, SLOT_RTX)
        assert media(call.bob.received()) == []
        assert len(call.ada.received()) <= 1  # one request for a key frame
        room.advance(200_000)
        for peer in room.peers:
            for data in peer.received():
                assert is_rtcp(data)
                assert split_compound(data)
        if not is_publisher:  # a publisher may say BYE and be silent from then on
            call.undisturbed()


def _only_repeats(call: Call, peer: ManualPeer, ssrc: int) -> None:
    repeats = [read_rtp(data) for data in media(peer.received())]
    assert len(repeats) <= SENT
    assert all(packet.ssrc == ssrc for packet in repeats)
