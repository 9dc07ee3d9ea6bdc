# Invariant: whatever SSRCs, rids, repeats and numbers a simulcast publisher sends, every packet is
# forwarded or dropped for one named reason; no number goes out twice on either SSRC of the slot, a NACK
# gets the packet that had the number or nothing, and a good key frame of the best layer still arrives.
"""Fuzz target of layers: decrypted packets of a hostile simulcast publisher, and NACKs of its subscriber."""

from kaamos._fastpath import DROP_NAMES
from tests.fuzz.rtp import as_rtp, packets_of
from tests.support.manual_room import ManualPeer, ManualRoom, manual_room
from tests.support.packets import VP8_KEYFRAME, nack, rtp_packet

RIDS = (b"q", b"h", b"f")
MEDIA, REPEATS = 0x777, 0x888
GOOD = {3: b"v", 10: b"f"}  # mid, rid


class Slot:
    """What went out, by number, and that nothing went out twice."""

    def __init__(self, peer: ManualPeer) -> None:
        self.peer = peer
        self.payloads: dict[int, bytes] = {}
        self.repeats: set[int] = set()

    def look(self) -> None:
        for packet in self.peer.media():
            if packet.ssrc == MEDIA:
                assert packet.seq not in self.payloads, "two packets under one number share a nonce"
                self.payloads[packet.seq] = packet.payload
                continue
            assert packet.ssrc == REPEATS and packet.seq not in self.repeats
            self.repeats.add(packet.seq)
            number = int.from_bytes(packet.payload[:2], "big")
            assert self.payloads.get(number, packet.payload[2:]) == packet.payload[2:]


def fuzz_one(data: bytes) -> None:
    with manual_room() as room:
        _forward(room, data)


def _forward(room: ManualRoom, data: bytes) -> None:
    ada, grace = room.peer(), room.peer()
    uptrack = room.publish(ada, ssrcs=[0xA0], nack=True, rids=RIDS, rtx_ssrcs=[(0xB0, 0xA0), (0xB1, 0xA1)])
    room.publish(ada, mid=b"w", ssrcs=[0xC0], nack=True)
    room.subscribe(grace, uptrack, rtx_ssrc=REPEATS)
    slot = Slot(grace)
    for i, packet in enumerate(packets_of(data)):
        room.now_us += 20_000
        reason = room.send(ada, as_rtp(packet))
        assert reason is None or reason in DROP_NAMES
        if i % 4 == 3:
            room.send(grace, nack(9, MEDIA, (1000 + i & 0xFFF0, 0xFFFF)))
            room.advance(20_000)
        slot.look()
    room.now_us += 31_000_000  # the places that were taken are free again
    before = len(slot.payloads)
    for seq in range(4):
        room.now_us += 700_000
        room.send(ada, rtp_packet(seq, ssrc=0xD0, payload=VP8_KEYFRAME, extensions=GOOD))
        slot.look()
    assert len(slot.payloads) > before, "a good picture still arrives"
