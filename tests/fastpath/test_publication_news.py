"""What Python hears of a publication without seeing its packets: codecs and audio levels."""

import asyncio

import pytest

from kaamos.errors import LocalProtocolError
from kaamos.media.description import Extension, Kind, PayloadFormat, UpCodec, UpTrackConfig
from tests.support.manual_room import H264, VP8, ManualPeer, ManualRoom, manual_room
from tests.support.media_peer import VIDEO, WITHIN_S, engine_room, eventually
from tests.support.packets import VP8_KEYFRAME, rtp_packet

STAP_IDR = b"\x65\x88\x84"
PAYLOADS = {96: VP8_KEYFRAME, 97: STAP_IDR}
RTX_SSRC = 0x4321


def codecs(room: ManualRoom) -> list[tuple[int, int]]:
    """Return (publication, codec id) of each event since the last look."""
    events = room.worker.take_events(False, 1000)
    assert all(kind == 2 for _, kind, *_ in events)
    return [(subject, data[0]) for subject, _, data, *_ in events]


def send(room: ManualRoom, ada: ManualPeer, seq: int, payload_type: int) -> None:
    packet = rtp_packet(seq, payload_type=payload_type, payload=PAYLOADS[payload_type])
    assert room.send(ada, packet) is None


def test_the_first_packet_tells_the_codec_and_a_change_tells_the_new_one() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        assert codecs(room) == []
        for seq in range(3):
            send(room, ada, seq, 96)
        assert codecs(room) == [(uptrack, VP8)]
        room.now_us += 200_000
        send(room, ada, 3, 97)
        send(room, ada, 4, 97)
        assert codecs(room) == [(uptrack, H264)]


def test_a_publisher_that_alternates_is_told_ten_times_a_second_and_the_newest_stands() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        for seq in range(1000):  # one second
            send(room, ada, seq, 96 + seq % 2)
            room.now_us += 1000
            if seq % 10 == 9:
                room.worker.tick(room.now_us, room.now_ntp)
        room.advance(200_000)
        told = codecs(room)
        assert len(told) <= 12
        assert told[-1] == (uptrack, H264)
        send(room, ada, 1000, 97)
        room.advance(200_000)
        assert codecs(room) == []


def test_a_change_that_is_taken_back_in_time_is_no_news() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        for seq, payload_type in enumerate((96, 97, 96)):
            send(room, ada, seq, payload_type)
        room.advance(500_000)
        assert codecs(room) == [(uptrack, VP8)]


def test_late_and_repeated_packets_and_padding_do_not_bring_an_old_codec_back() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada, nack=True, rtx_ssrcs=[(RTX_SSRC, 0x1234)])
        send(room, ada, 10, 96)
        send(room, ada, 14, 97)
        room.advance(200_000)
        assert codecs(room) == [(uptrack, VP8), (uptrack, H264)]
        send(room, ada, 12, 96)
        repeat = rtp_packet(
            1, ssrc=RTX_SSRC, payload_type=108, payload=(13).to_bytes(2, "big") + VP8_KEYFRAME
        )
        assert room.send(ada, repeat) is None
        assert room.send(ada, rtp_packet(15, payload_type=96, payload=b"", padding=20)) is None
        room.advance(200_000)
        assert codecs(room) == []


def test_news_that_finds_the_ring_full_comes_when_there_is_room() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        address = bytes([127, 0, 0, 1])
        reason = None
        for _ in range(6000):  # as small as the news itself
            room.now_us += 5000  # what one peer may hand up
            reason = room.worker.datagram(
                b"\x16" + bytes(7), address, ada.port, address, room.now_us, room.now_ntp
            )
            if reason is not None:
                break
        assert reason == "event_ring_full"
        send(room, ada, 1, 97)
        while any(kind == 1 for _, kind, *_ in room.worker.take_events(False, 1000)):
            pass
        room.advance(20_000)
        assert codecs(room) == [(uptrack, H264)]


async def test_the_loop_thread_is_called_with_each_codec_and_not_after_the_removal() -> None:
    with engine_room() as room:
        ada = room.peer()
        told: asyncio.Queue[int] = asyncio.Queue()
        uptrack = room.engine.add_uptrack(ada.transport, VIDEO, told.put_nowait)
        other = room.engine.add_uptrack(ada.transport, UpTrackConfig("w", Kind.VIDEO, (), (), {}, True, True))
        ada.send(rtp_packet(1, payload=VP8_KEYFRAME))
        assert await asyncio.wait_for(told.get(), WITHIN_S) == 1
        ada.send(rtp_packet(2, payload_type=97, payload=STAP_IDR))
        assert await asyncio.wait_for(told.get(), WITHIN_S) == 2
        ada.send(rtp_packet(3, payload=VP8_KEYFRAME))
        eventually(lambda: room.engine.uptrack_stats(uptrack).packets == 3)
        room.engine.remove_uptrack(uptrack)
        room.engine.remove_uptrack(other)
        # The third event may wait in the ring by now; a transport added later hears of itself only.
        grace = room.peer()
        again: asyncio.Queue[int] = asyncio.Queue()
        room.engine.add_uptrack(grace.transport, VIDEO, again.put_nowait)
        grace.send(rtp_packet(1, payload_type=97, payload=STAP_IDR))
        assert await asyncio.wait_for(again.get(), WITHIN_S) == 2
        assert told.empty()


async def test_a_transport_that_goes_takes_its_listeners_along() -> None:
    with engine_room() as room:
        ada = room.peer()
        uptrack = room.engine.add_uptrack(ada.transport, VIDEO, lambda codec: None)
        room.engine.remove_transport(ada.transport)
        assert room.engine._codec_receivers == {}
        with pytest.raises(LocalProtocolError):
            room.engine.uptrack_stats(uptrack)


# -- audio levels


def speak(room: ManualRoom, peer: ManualPeer, seq: int, level: int | None, *, ssrc: int = 0x1234) -> None:
    extensions = None if level is None else {1: bytes([level])}
    packet = rtp_packet(seq, ssrc=ssrc, payload_type=111, payload=b"opus", extensions=extensions)
    assert room.send(peer, packet) is None


def test_the_loudest_level_since_the_last_call_is_returned_once() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        mine = room.publish(ada, mid=b"a", is_video=False)
        hers = room.publish(grace, mid=b"a", is_video=False)
        assert room.worker.audio_levels() == {}
        for seq, level in enumerate((90, 0x80 | 30, 60)):  # the upper bit says "voice", not louder
            speak(room, ada, seq, level)
        speak(room, grace, 0, 127)
        assert room.worker.audio_levels() == {mine: 30, hers: 127}
        assert room.worker.audio_levels() == {}
        speak(room, ada, 3, 100)  # quieter than before the call, and heard all the same
        assert room.worker.audio_levels() == {mine: 100}
        speak(room, ada, 4, 0)
        assert room.worker.audio_levels() == {mine: 0}


def test_levels_of_video_and_packets_without_one_are_not_heard() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.publish(ada)
        room.publish(ada, mid=b"a", is_video=False, ssrcs=[0x2222])
        assert room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME, extensions={1: b"\x10"})) is None
        speak(room, ada, 1, None, ssrc=0x2222)
        assert room.worker.audio_levels() == {}


def test_a_level_that_was_not_asked_for_in_time_is_not_told_later() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada, mid=b"a", is_video=False)
        speak(room, ada, 1, 5)
        assert room.worker.audio_levels() == {uptrack: 5}
        for _ in range(4):  # both words have been used by now
            assert room.worker.audio_levels() == {}


async def test_the_engine_tells_levels_by_publication() -> None:
    audio = UpTrackConfig(
        mid="a",
        kind=Kind.AUDIO,
        codecs=(UpCodec(111, 0, PayloadFormat.OPAQUE, 48000),),
        ssrcs=(0x1234,),
        extensions={Extension.AUDIO_LEVEL: 1},
        pli=False,
        fir=False,
    )
    with engine_room() as room:
        ada = room.peer()
        uptrack = ada.publish(audio)
        for seq, level in enumerate((70, 20, 40)):
            ada.send(rtp_packet(seq, payload_type=111, payload=b"opus", extensions={1: bytes([level])}))
        eventually(lambda: room.engine.uptrack_stats(uptrack).packets == 3)
        assert room.engine.audio_levels() == {uptrack: 20}
        assert room.engine.audio_levels() == {}
