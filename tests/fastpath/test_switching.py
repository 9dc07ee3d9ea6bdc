"""A slot changes its source: the picture goes on until the new one can start (downtrack.pxi)."""

from dataclasses import dataclass, field

import pytest

from tests.support.manual_room import OPUS, VP8, ManualPeer, ManualRoom, manual_room
from tests.support.packets import VP8_DELTA, VP8_KEYFRAME, nack, pli, rtp_packet, split_compound

H264_KEYFRAME, H264_DELTA = b"\x65\x88\x84", b"\x41\x9a\x00"


@dataclass
class Camera:
    """A publication and its one SSRC; every frame is one packet, 33 ms apart in its own clock."""

    room: ManualRoom
    peer: ManualPeer
    uptrack: int
    ssrc: int
    payload_type: int = 96
    seq: int = 60_000
    timestamp: int = 0x12345678

    def frame(self, *, key: bool = False) -> None:
        """Send a frame; its payload ends with the low byte of the SSRC and its number."""
        start = {96: (VP8_DELTA, VP8_KEYFRAME), 97: (H264_DELTA, H264_KEYFRAME)}[self.payload_type][key]
        self.seq += 1
        self.timestamp += 3000
        mark = bytes([self.ssrc & 0xFF]) + self.seq.to_bytes(4, "big")
        self.room.send(
            self.peer,
            rtp_packet(
                self.seq,
                timestamp=self.timestamp,
                ssrc=self.ssrc,
                payload_type=self.payload_type,
                payload=start + mark,
            ),
        )

    def keyframes_asked(self) -> int:
        """Return how many PLIs came since the last look."""
        return sum(
            (count, kind) == (1, 206)
            for datagram in self.peer.rtcp()
            for count, kind, _ in split_compound(datagram)
        )


@dataclass
class Stage:
    """Three publishers and a viewer whose slot plays the first one."""

    room: ManualRoom
    cameras: list[Camera]
    viewer: ManualPeer
    slot: int
    seen: list[int] = field(default_factory=list)

    def connect(self, camera: int) -> None:
        self.room.worker.connect(self.slot, self.cameras[camera].uptrack)
        self.room.apply()

    def shown(self) -> list[int]:
        """Return whose packets came since the last look; their numbers and clock must go on."""
        packets = self.viewer.media()
        for packet in packets:
            if self.seen:
                assert packet.seq == self.seen[0] + 1 & 0xFFFF
                assert 0 < packet.timestamp - self.seen[1] & 0xFFFFFFFF <= 90_000
            self.seen = [packet.seq, packet.timestamp]
        return [packet.payload[-5] for packet in packets]


def stage(room: ManualRoom, *, types: list[tuple[int, int]] | None = None) -> Stage:
    cameras = []
    for i in range(3):
        peer = room.peer()
        ssrc = 0xA0 + i
        uptrack = room.publish(peer, ssrcs=[ssrc])
        cameras.append(Camera(room, peer, uptrack, ssrc, seq=60_000 - 20_000 * i))
    viewer = room.peer()
    slot = room.subscribe(viewer, cameras[0].uptrack, types=types, rtx_ssrc=0x888)
    made = Stage(room, cameras, viewer, slot)
    cameras[0].frame(key=True)
    assert made.shown() == [0xA0]
    for camera in cameras:
        camera.peer.received()
    return made


def test_the_old_picture_goes_on_until_the_new_one_can_start() -> None:
    with manual_room() as room:
        it = stage(room)
        first, second, _ = it.cameras
        it.connect(1)
        for _ in range(3):
            room.now_us += 33_333
            first.frame()
            second.frame()
        assert it.shown() == [0xA0] * 3
        second.frame(key=True)
        first.frame()
        second.frame()
        assert it.shown() == [0xA1] * 2


def test_a_key_frame_of_the_new_source_is_asked_for_at_once_and_until_it_comes() -> None:
    with manual_room() as room:
        it = stage(room)
        second = it.cameras[1]
        second.frame()  # its SSRC is known
        it.connect(1)
        assert second.keyframes_asked() == 1
        room.advance(1_100_000)
        assert second.keyframes_asked() == 2
        second.frame(key=True)
        room.advance(1_100_000)
        assert second.keyframes_asked() == 0


def test_a_second_change_before_the_first_takes_its_place() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        it.connect(2)
        it.cameras[1].frame(key=True)
        it.cameras[0].frame()
        assert it.shown() == [0xA0]
        it.cameras[2].frame(key=True)
        it.cameras[0].frame()
        assert it.shown() == [0xA2]


def test_going_back_to_what_plays_ends_the_wait() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        it.connect(0)
        it.cameras[1].frame(key=True)
        it.cameras[0].frame()
        assert it.shown() == [0xA0]


def test_disconnecting_ends_both() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        room.worker.disconnect(it.slot)
        room.apply()
        for camera in it.cameras:
            camera.frame(key=True)
        assert it.shown() == []


def test_when_the_old_source_goes_the_new_one_still_comes() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        room.worker.remove_uptrack(it.cameras[0].uptrack)
        room.apply()
        it.cameras[0].frame(key=True)
        it.cameras[1].frame()
        assert it.shown() == []
        it.cameras[1].frame(key=True)
        assert it.shown() == [0xA1]


@pytest.mark.parametrize("whole_peer", [False, True])
def test_when_the_new_source_goes_the_old_one_stays(whole_peer: bool) -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        if whole_peer:
            room.worker.remove_transport(it.cameras[1].peer.transport)
        else:
            room.worker.remove_uptrack(it.cameras[1].uptrack)
        room.apply()
        it.cameras[0].frame()
        assert it.shown() == [0xA0]
        it.connect(2)
        it.cameras[2].frame(key=True)
        assert it.shown() == [0xA2]


def test_a_viewer_that_leaves_while_it_waits_leaves_no_trace() -> None:
    with manual_room() as room:
        it = stage(room)
        other = room.peer()
        slot = room.subscribe(other, it.cameras[0].uptrack, ssrc=0x901)
        it.cameras[0].frame(key=True)
        it.connect(1)
        room.worker.connect(slot, it.cameras[1].uptrack)
        room.apply()
        room.worker.remove_transport(other.transport)
        room.apply()
        it.cameras[1].frame(key=True)
        assert it.shown() == [0xA0, 0xA1]
        for camera in it.cameras:
            room.worker.remove_transport(camera.peer.transport)
        room.apply()


def test_a_slot_that_plays_nothing_yet_changes_at_once() -> None:
    with manual_room() as room:
        it = stage(room)
        room.worker.disconnect(it.slot)
        it.connect(0)
        it.connect(1)
        it.cameras[0].frame(key=True)
        assert it.shown() == []
        it.cameras[1].frame(key=True)
        assert it.shown() == [0xA1]


def test_the_codec_changes_with_the_source() -> None:
    with manual_room() as room:
        it = stage(room)
        second = it.cameras[1]
        second.payload_type = 97
        it.connect(1)
        second.frame()
        second.frame(key=True)
        second.frame()
        packets = it.viewer.media()
        assert [(p.payload_type, p.seq) for p in packets] == [(101, 1001), (101, 1002)]


def test_nothing_changes_while_the_slot_lacks_the_new_codec() -> None:
    with manual_room() as room:
        it = stage(room, types=[(VP8, 100)])
        first, second, _ = it.cameras
        second.payload_type = 97
        it.connect(1)
        second.peer.received()
        second.frame(key=True)
        second.frame()
        room.advance(1_100_000)
        assert second.keyframes_asked() == 0  # the next one would help no more
        first.frame()
        assert it.shown() == [0xA0]
        second.payload_type = 96
        second.frame()  # a codec the slot has: now a key frame is worth asking for
        room.advance(600_000)
        assert second.keyframes_asked() >= 1
        second.frame(key=True)
        assert it.shown() == [0xA1]


def test_audio_changes_at_once() -> None:
    with manual_room() as room:
        ada, bob, grace = room.peer(), room.peer(), room.peer()
        hers = room.publish(ada, is_video=False, ssrcs=[0xA0])
        his = room.publish(bob, is_video=False, ssrcs=[0xA1])
        slot = room.subscribe(grace, hers, is_video=False, types=[(OPUS, 110)])

        def speak(peer: ManualPeer, ssrc: int, seq: int) -> None:
            room.send(peer, rtp_packet(seq, ssrc=ssrc, payload_type=111, payload=bytes([ssrc])))

        speak(ada, 0xA0, 5)
        room.worker.connect(slot, his)
        room.apply()
        speak(ada, 0xA0, 6)
        speak(bob, 0xA1, 900)
        assert [(p.seq, p.payload) for p in grace.media()] == [(1000, b"\xa0"), (1001, b"\xa1")]


def test_lost_packets_of_the_picture_that_still_plays_are_repeated() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        it.cameras[0].frame()
        it.shown()
        room.send(it.viewer, nack(9, 0x777, (1001, 0)))
        assert [p.payload[:2] for p in it.viewer.media()] == [(1001).to_bytes(2, "big")]
        it.cameras[1].frame(key=True)
        it.viewer.media()
        room.now_us += 500_000
        room.send(it.viewer, nack(9, 0x777, (1001, 1)))  # the old source is gone, the new one not
        assert [p.payload[:2] for p in it.viewer.media()] == [(1002).to_bytes(2, "big")]


def test_two_sources_that_happen_to_use_one_ssrc_are_not_mixed_up() -> None:
    with manual_room() as room:
        it = stage(room)
        twin = room.peer()
        other = Camera(room, twin, room.publish(twin, ssrcs=[0xA0]), 0xA0, seq=it.cameras[0].seq - 2)
        other.frame()
        room.worker.connect(it.slot, other.uptrack)
        room.apply()
        other.frame()  # has the very number that went out as 1000
        other.frame(key=True)
        assert it.shown() == [0xA0]
        room.send(it.viewer, nack(9, 0x777, (1000, 1)))
        assert [p.payload[:2] for p in it.viewer.media()] == [(1001).to_bytes(2, "big")]


def test_a_viewer_that_lost_its_picture_meanwhile_asks_the_source_that_plays() -> None:
    with manual_room() as room:
        it = stage(room)
        it.connect(1)
        room.now_us += 600_000
        for camera in it.cameras:
            camera.peer.received()
        room.send(it.viewer, pli(9, 0x777))
        assert [camera.keyframes_asked() for camera in it.cameras] == [1, 0, 0]
