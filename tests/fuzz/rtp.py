# Invariant: any packet that a publisher's key seals is forwarded in a sound form or dropped for one
# named reason; what leaves carries the subscriber's SSRC and numbers that never repeat, never jump by
# half a cycle and never go out with a length we did not write; who takes RED gets the frame inside that
# the others get alone; later good packets still arrive.
"""Fuzz target of the RTP road, from parse to rewrite: decrypted packets of a hostile publisher."""

from kaamos._fastpath import DROP_NAMES, parse_packet
from kaamos.media.description import Extension
from tests.support.manual_room import (
    DOWN_EXTENSIONS,
    OPUS,
    RED,
    UP_EXTENSIONS,
    ManualPeer,
    ManualRoom,
    manual_room,
)
from tests.support.packets import VP8_KEYFRAME, Rtp, rtp_packet
from tests.support.red import read_red

VIDEO, AUDIO = 0x1234, 0x5678  # the publisher's
PICTURE, REDUNDANT, PLAIN = 0x777, 0x888, 0x999  # slots
TYPES = {PICTURE: {100, 101, 102}, REDUNDANT: {110, 62}, PLAIN: {109}}
UP = [*UP_EXTENSIONS, (Extension.PLAYOUT_DELAY, 8), (Extension.DEPENDENCY_DESCRIPTOR, 9)]
DOWN = [
    *DOWN_EXTENSIONS,
    (Extension.PLAYOUT_DELAY, 8),
    (Extension.DEPENDENCY_DESCRIPTOR, 9),
    (Extension.ABS_SEND_TIME, 11),
]
MAX_PACKETS = 64


def packets_of(data: bytes) -> list[bytes]:
    """Cut the input into packets: a length byte pair before each; what is left is the last one."""
    packets: list[bytes] = []
    while len(data) > 2 and len(packets) < MAX_PACKETS:
        size = int.from_bytes(data[:2], "big") % 1500
        packets.append(data[2 : 2 + size])
        data = data[2 + size :]
    return packets


def as_rtp(data: bytes) -> bytes:
    """Make twelve bytes at least, of version 2 and no RTCP type: the rest is the classifier's business."""
    second = data[1] & 0x9F if len(data) > 1 and 192 <= data[1] <= 223 else data[1] if len(data) > 1 else 0
    return (bytes([data[0] & 0x3F | 0x80 if data else 0x80, second]) + data[2:]).ljust(12, b"\0")


def fuzz_one(data: bytes) -> None:
    parsed = parse_packet(data[:1536], list(UP))
    if parsed is not None:
        assert 12 <= parsed["payload_offset"] <= len(data)
        assert parsed["payload_offset"] + parsed["payload_length"] <= len(data)
    with manual_room() as room:
        _forward(room, data)


class Slots:
    """What each slot got so far."""

    def __init__(self) -> None:
        self.seen: dict[int, set[int]] = {ssrc: set() for ssrc in TYPES}
        self.newest: dict[int, int] = {}

    def take(self, out: Rtp) -> None:
        assert out.payload_type in TYPES[out.ssrc]
        assert set(out.extensions) <= {identifier for _, identifier in DOWN}
        assert out.seq not in self.seen[out.ssrc]
        newest = self.newest.setdefault(out.ssrc, out.seq)
        assert (out.seq - newest + 0x8000 & 0xFFFF) - 0x8000 <= 3000
        self.seen[out.ssrc].add(out.seq)
        self.newest[out.ssrc] = max(newest, out.seq)

    def take_all(self, grace: ManualPeer, joan: ManualPeer) -> None:
        sent, plain = grace.media(), joan.media()
        for out in sent + plain:
            self.take(out)
        redundant = [out for out in sent if out.ssrc == REDUNDANT]
        assert len(redundant) == len(plain)
        for whole, alone in zip(redundant, plain, strict=True):
            frame = whole.payload
            if whole.payload_type == 62:
                blocks = read_red(whole.payload)
                assert blocks is not None and {block.payload_type for block in blocks} == {110}
                frame = blocks[-1].data
            assert frame == alone.payload != b""


def _forward(room: ManualRoom, data: bytes) -> None:
    ada, grace, joan = room.peer(), room.peer(), room.peer()
    video = room.publish(ada, nack=True, transport_cc=True, rtx_ssrcs=[(0x4321, VIDEO)], extensions=UP)
    audio = room.publish(ada, mid=b"a", is_video=False, ssrcs=[AUDIO], extensions=UP)
    room.subscribe(grace, video, extensions=DOWN, allows_two_byte=True, rtx_ssrc=0x778)
    for peer, ssrc, types in (
        (grace, REDUNDANT, [(OPUS, 110), (RED, 62)]),
        (joan, PLAIN, [(OPUS, 109)]),
    ):
        room.subscribe(peer, audio, ssrc=ssrc, mid=b"e", is_video=False, types=types, extensions=DOWN)
    assert room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME)) is None
    slots = Slots()
    slots.take_all(grace, joan)
    replayed = {b"\x00\x01" + VIDEO.to_bytes(4, "big")}
    for packet in packets_of(data):
        packet = as_rtp(packet)
        if packet[2:4] + packet[8:12] in replayed:  # SRTP lets each number of an SSRC in once
            continue
        replayed.add(packet[2:4] + packet[8:12])
        room.now_us += 1000
        reason = room.send(ada, packet)
        assert reason is None or reason in DROP_NAMES
        slots.take_all(grace, joan)
    last = room.worker.uptrack_stats(video)[0]
    for seq in (20_001, 20_002, 20_003):  # two in a row prove a new place, whatever was before
        room.now_us += 300_000
        room.send(ada, rtp_packet(seq, ssrc=0x4321, payload=VP8_KEYFRAME, extensions={3: b"v"}))
    if room.worker.uptrack_stats(video)[0] > last:
        assert grace.media()[-1].payload == VP8_KEYFRAME
