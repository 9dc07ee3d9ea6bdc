# Invariant: any packet that a publisher's key seals is forwarded in a sound form or dropped for one
# named reason; what leaves carries the subscriber's SSRC and numbers that never repeat, never jump by
# half a cycle and never go out with a length we did not write; later good packets still arrive.
"""Fuzz target of the RTP road, from parse to rewrite: decrypted packets of a hostile publisher."""

from kaamos._fastpath import DROP_NAMES, parse_packet
from tests.support.manual_room import UP_EXTENSIONS, ManualRoom, manual_room
from tests.support.packets import VP8_KEYFRAME, rtp_packet

SSRC = 0x1234
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
    parsed = parse_packet(data[:1536], list(UP_EXTENSIONS))
    if parsed is not None:
        assert 12 <= parsed["payload_offset"] <= len(data)
        assert parsed["payload_offset"] + parsed["payload_length"] <= len(data)
    with manual_room() as room:
        _forward(room, data)


def _forward(room: ManualRoom, data: bytes) -> None:
    ada, grace = room.peer(), room.peer()
    uptrack = room.publish(ada, nack=True, transport_cc=True, rtx_ssrcs=[(0x4321, 0x1234)])
    room.subscribe(grace, uptrack)
    assert room.send(ada, rtp_packet(1, payload=VP8_KEYFRAME)) is None
    seen = {packet.seq for packet in grace.media()}
    newest = max(seen)
    replayed = {b"\x00\x01" + SSRC.to_bytes(4, "big")}
    for packet in packets_of(data):
        packet = as_rtp(packet)
        if packet[2:4] + packet[8:12] in replayed:  # SRTP lets each number of an SSRC in once
            continue
        replayed.add(packet[2:4] + packet[8:12])
        room.now_us += 1000
        reason = room.send(ada, packet)
        assert reason is None or reason in DROP_NAMES
        for out in grace.media():
            assert out.ssrc == 0x777
            assert out.payload_type in (100, 101)
            assert set(out.extensions) <= {5, 2, 7}
            assert out.seq not in seen
            assert (out.seq - newest + 0x8000 & 0xFFFF) - 0x8000 <= 3000
            seen.add(out.seq)
            newest = max(newest, out.seq)
    last = room.worker.uptrack_stats(uptrack)[0]
    for seq in (20_001, 20_002, 20_003):  # two in a row prove a new place, whatever was before
        room.now_us += 300_000
        room.send(ada, rtp_packet(seq, ssrc=0x4321, payload=VP8_KEYFRAME, extensions={3: b"v"}))
    if room.worker.uptrack_stats(uptrack)[0] > last:
        assert grace.media()[-1].payload == VP8_KEYFRAME
