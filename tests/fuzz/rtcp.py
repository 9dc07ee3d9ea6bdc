# Invariant: any compound that a peer's key seals is taken or dropped for one named reason; what it makes
# us send is bounded, goes only to whom it concerns, is well-formed, and media flows on unchanged.
"""Fuzz target of reports and feedback, as decrypted RTCP of a publisher and of a subscriber."""

from aiortc.rtp import RtcpPacket

from kaamos._fastpath import is_rtcp_compound
from tests.support.manual_room import is_rtcp, manual_room
from tests.support.packets import VP8_KEYFRAME, read_rtp, rtp_packet


def fuzz_one(data: bytes) -> None:
    data = data[:1400].ljust(8, b"\0")
    data = bytes([data[0] & 0x3F | 0x80, 192 + data[1] % 32]) + data[2:]
    is_sound = is_rtcp_compound(data)
    with manual_room() as room:
        ada, grace, bob = room.peer(), room.peer(), room.peer()
        uptrack = room.publish(ada, nack=True, transport_cc=True, rtx_ssrcs=[(0x4321, 0x1234)])
        room.subscribe(grace, uptrack)
        room.subscribe(bob, uptrack, ssrc=0x778, rtx_ssrc=0x779)
        for seq in range(20):
            room.send(ada, rtp_packet(seq, payload=VP8_KEYFRAME + bytes([seq])))
        kept = set(grace.received())
        for peer in room.peers:
            peer.received()
        for sender in (grace, ada):
            room.now_us += 30_000
            reason = room.send(sender, data)
            assert (reason is None) == is_sound
            assert reason in (None, "rtcp_malformed")
            repeats = grace.received()
            assert len(repeats) <= 20 and set(repeats) <= kept
            assert bob.received() == []
            assert len(ada.received()) <= 1  # one request for a key frame
        for _ in range(10):
            room.advance(200_000)
            for peer in room.peers:
                for report in peer.received():
                    assert is_rtcp(report)
                    RtcpPacket.parse(report)
        room.send(ada, rtp_packet(20, payload=VP8_KEYFRAME))
        room.send(ada, rtp_packet(21, payload=VP8_KEYFRAME))
        (*_, last) = [read_rtp(packet) for packet in grace.received() if not is_rtcp(packet)]
        assert last.seq == 1021
