"""Audio that falls silent and speaks again (DTX, RFC 7587 section 3.1.3): gaps in time, none in numbers."""

from itertools import pairwise

import pytest

from tests.support.manual_room import ManualPeer, ManualRoom, manual_room
from tests.support.packets import fir, pli, rtp_packet, split_compound

SILENCE_US = 400_000  # browsers send one packet in so long while nobody speaks
TICKS = 48  # a millisecond


def test_silence_is_a_step_of_time_and_neither_loss_nor_jitter_nor_a_new_source() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada, mid=b"a", is_video=False)
        slot = room.subscribe(grace, uptrack, is_video=False)
        timestamp = 0
        for seq in range(40):
            is_silent = seq % 8 == 7
            room.advance(SILENCE_US if is_silent else 20_000)
            timestamp += (SILENCE_US // 1000 if is_silent else 20) * TICKS
            packet = rtp_packet(seq, timestamp=timestamp, payload_type=111, payload=b"o", marker=seq % 8 == 0)
            assert room.send(ada, packet) is None
            if seq % 8 == 7:
                assert room.worker.audio_levels() == {}
        got = grace.media()
        assert [packet.seq - got[0].seq for packet in got] == list(range(40))
        steps = {b.timestamp - a.timestamp for a, b in pairwise(got)}
        assert steps == {20 * TICKS, SILENCE_US // 1000 * TICKS}
        assert [packet.marker for packet in got] == [seq % 8 == 0 for seq in range(40)]
        room.advance(1_600_000)
        assert room.worker.uptrack_stats(uptrack)[3:] == (0, 0, 0)  # key frame requests, lost, jitter
        assert room.worker.downtrack_stats(slot)[8] == {}


def test_a_change_of_source_in_a_silence_goes_on_by_the_clock() -> None:
    with manual_room() as room:
        ada, joan, grace = room.peer(), room.peer(), room.peer()
        hers = room.publish(ada, mid=b"a", is_video=False)
        theirs = room.publish(joan, mid=b"a", is_video=False)
        slot = room.subscribe(grace, hers, is_video=False)
        room.send(ada, rtp_packet(1, timestamp=5, payload_type=111, payload=b"hers"))
        room.advance(SILENCE_US)
        room.worker.connect(slot, theirs)
        room.apply()
        room.send(joan, rtp_packet(900, timestamp=77_777, payload_type=111, payload=b"theirs"))
        before, after = grace.media()
        assert after.payload == b"theirs"
        assert after.seq - before.seq == 1
        assert after.timestamp - before.timestamp == SILENCE_US // 1000 * TICKS


def keyframe_requests(peer: ManualPeer) -> list[int]:
    return [kind for data in peer.rtcp() for _, kind, _ in split_compound(data) if kind == 206]


@pytest.mark.parametrize(
    "wish", [pli(1, 0x777), fir(1, (0x777, 1)), fir(1, *[(0x777, n) for n in range(50)])]
)
def test_audio_is_not_asked_for_key_frames_whatever_listeners_wish(wish: bytes) -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        room.subscribe(grace, room.publish(ada, mid=b"a", is_video=False), is_video=False)
        for seq in range(20):  # numbers with holes: a lost frame is concealed, not asked for
            speak(room, ada, seq * 3)
            room.send(grace, wish)
            room.advance(100_000)
        assert keyframe_requests(ada) == []
        assert len(grace.media()) == 20


def speak(room: ManualRoom, ada: ManualPeer, seq: int) -> None:
    packet = rtp_packet(seq, timestamp=seq * 960, payload_type=111, payload=b"o")
    assert room.send(ada, packet) is None
