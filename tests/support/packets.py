"""RTP and RTCP packets written by hand, plainly, from the RFCs: what tests send and compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import pack, unpack, unpack_from

VP8_KEYFRAME = b"\x10\x00\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00"  # S, partition 0, then a key frame's start
VP8_DELTA = b"\x10\x01\x02\x03\x04\x05"


@dataclass(frozen=True, slots=True)
class Rtp:
    """One RTP packet as read from the wire, without padding (RFC 3550 section 5.1)."""

    payload_type: int
    marker: bool
    seq: int
    timestamp: int
    ssrc: int
    csrcs: tuple[int, ...]
    extensions: Mapping[int, bytes]
    payload: bytes


def rtp_packet(
    seq: int,
    *,
    timestamp: int = 0,
    ssrc: int = 0x1234,
    payload_type: int = 96,
    payload: bytes = VP8_DELTA,
    marker: bool = False,
    extensions: Mapping[int, bytes] | None = None,
    two_byte: bool = False,
    csrcs: Sequence[int] = (),
    padding: int = 0,
) -> bytes:
    """Return the packet; ``extensions`` by id, in one-byte or two-byte form (RFC 8285)."""
    first = 0x80 | len(csrcs) | (0x10 if extensions is not None else 0) | (0x20 if padding else 0)
    data = pack(
        "!BBHII", first, marker << 7 | payload_type, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF
    )
    data += b"".join(pack("!I", csrc) for csrc in csrcs)
    if extensions is not None:
        elements = b""
        for identifier, value in extensions.items():
            head = bytes([identifier, len(value)]) if two_byte else bytes([identifier << 4 | len(value) - 1])
            elements += head + value
        elements += bytes(-len(elements) % 4)
        data += pack("!HH", 0x1000 if two_byte else 0xBEDE, len(elements) // 4) + elements
    return data + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


def read_rtp(data: bytes) -> Rtp:
    """Return what a packet says, its extensions in either form; asserts that it is well-formed."""
    first, second, seq, timestamp, ssrc = unpack_from("!BBHII", data)
    assert first >> 6 == 2
    at = 12 + 4 * (first & 15)
    csrcs = unpack_from(f"!{first & 15}I", data, 12)
    extensions = {}
    if first & 0x10:
        profile, words = unpack_from("!HH", data, at)
        assert profile in (0xBEDE, 0x1000)
        at, end = at + 4, at + 4 + words * 4
        assert end <= len(data)
        while at < end:
            if data[at] == 0:
                at += 1
                continue
            if profile == 0x1000:
                identifier, size, at = data[at], data[at + 1], at + 2
            else:
                identifier, size, at = data[at] >> 4, (data[at] & 15) + 1, at + 1
            assert identifier not in extensions
            extensions[identifier] = data[at : at + size]
            at += size
        assert at == end
    padding = data[-1] if first & 0x20 else 0
    return Rtp(
        second & 127,
        bool(second >> 7),
        seq,
        timestamp,
        ssrc,
        csrcs,
        extensions,
        data[at : len(data) - padding],
    )


def _rtcp(count: int, kind: int, body: bytes) -> bytes:
    assert len(body) % 4 == 0
    return pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def report_block(
    ssrc: int,
    *,
    fraction: int = 0,
    lost: int = 0,
    highest: int = 0,
    jitter: int = 0,
    lsr: int = 0,
    dlsr: int = 0,
) -> bytes:
    """Return the 24 bytes of RFC 3550 section 6.4.1."""
    return pack("!IIIIII", ssrc, fraction << 24 | lost & 0xFFFFFF, highest, jitter, lsr, dlsr)


def receiver_report(sender: int, *blocks: bytes) -> bytes:
    """Return an RR (RFC 3550 section 6.4.2)."""
    return _rtcp(len(blocks), 201, pack("!I", sender) + b"".join(blocks))


def sender_report(
    ssrc: int, ntp: int, timestamp: int, packets: int = 1, octets: int = 1, *blocks: bytes
) -> bytes:
    """Return an SR (RFC 3550 section 6.4.1); ``ntp`` is 32.32 fixed point."""
    return _rtcp(
        len(blocks),
        200,
        pack("!IQIII", ssrc, ntp, timestamp & 0xFFFFFFFF, packets, octets) + b"".join(blocks),
    )


def nack(sender: int, media: int, *pairs: tuple[int, int]) -> bytes:
    """Return a generic NACK of (packet id, bit mask) pairs (RFC 4585 section 6.2.1)."""
    return _rtcp(1, 205, pack("!II", sender, media) + b"".join(pack("!HH", *pair) for pair in pairs))


def pli(sender: int, media: int) -> bytes:
    """Return a picture loss indication (RFC 4585 section 6.3.1)."""
    return _rtcp(1, 206, pack("!II", sender, media))


def fir(sender: int, *entries: tuple[int, int]) -> bytes:
    """Return a full intra request of (SSRC, number) entries (RFC 5104 section 4.3.1)."""
    return _rtcp(
        4, 206, pack("!II", sender, 0) + b"".join(pack("!II", ssrc, seq << 24) for ssrc, seq in entries)
    )


def bye(*ssrcs: int) -> bytes:
    """Return a BYE (RFC 3550 section 6.6)."""
    return _rtcp(len(ssrcs), 203, b"".join(pack("!I", ssrc) for ssrc in ssrcs))


def split_compound(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return (count or format, packet type, body) of each packet of a compound."""
    packets = []
    while data:
        first, kind, words = unpack("!BBH", data[:4])
        assert first >> 6 == 2
        packets.append((first & 31, kind, data[4 : 4 + words * 4]))
        data = data[4 + words * 4 :]
    return packets
