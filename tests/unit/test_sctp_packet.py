"""The look at SCTP packets that stands before aiortc."""

import struct

import pytest
from aiortc.rtcsctptransport import (
    AbortChunk,
    Chunk,
    CookieEchoChunk,
    DataChunk,
    ErrorChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitAckChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    ShutdownChunk,
    parse_packet,
    serialize_packet,
)

from kaamos.rtc.sctp_packet import MAX_CHUNKS, is_sound

HEADER = bytes(12)


def chunk(kind: int, body: bytes) -> bytes:
    return struct.pack("!BBH", kind, 0, len(body) + 4) + body + bytes(-len(body) % 4)


def parameter(kind: int, body: bytes) -> bytes:
    return struct.pack("!HH", kind, len(body) + 4) + body + bytes(-len(body) % 4)


def filled(made: Chunk, **fields: object) -> bytes:
    for name, value in fields.items():
        setattr(made, name, value)
    return bytes(made)


OUTGOING_RESET = parameter(13, struct.pack("!LLLH", 1, 2, 3, 4))
COOKIE = (7, b"c" * 24)
SACK = filled(SackChunk(), gaps=[(2, 3), (5, 5)], duplicates=[7])
SOUND = {
    "DATA": filled(DataChunk(), tsn=5, user_data=b"hello"),
    "INIT": filled(InitChunk(), params=[(0xC000, b""), (0x8008, b"\xc0\x82")]),
    "INIT ACK": filled(InitAckChunk(), params=[COOKIE]),
    "SACK": SACK,
    "HEARTBEAT": filled(HeartbeatChunk(), params=[(1, b"now")]),
    "ABORT": filled(AbortChunk(), params=[(12, b"bye")]),
    "SHUTDOWN": filled(ShutdownChunk(), cumulative_tsn=3),
    "ERROR": filled(ErrorChunk(), params=[(3, bytes(8))]),
    "COOKIE ECHO": filled(CookieEchoChunk(), body=b"c" * 24),
    "COOKIE ACK": chunk(11, b""),
    "RECONFIG": filled(ReconfigChunk(), params=[(13, struct.pack("!LLLHH", 1, 2, 3, 4, 5))]),
    "FORWARD TSN": filled(ForwardTsnChunk(), cumulative_tsn=9, streams=[(1, 2), (3, 4)]),
    "I-DATA, which we do not know": chunk(64, bytes(20)),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_whole_chunk_is_sound_and_is_not_when_it_is_cut(name: str) -> None:
    packet = HEADER + SOUND[name]
    assert is_sound(packet)
    for length in range(16, len(packet)):
        if len(packet) - length > 3:  # padding may lack
            assert not is_sound(packet[:length])


@pytest.mark.parametrize("name", SOUND)
def test_a_chunk_that_is_short_in_itself_is_refused_or_can_be_read(name: str) -> None:
    kind, body = SOUND[name][0], SOUND[name][4:]
    for length in range(len(body)):
        packet = HEADER + chunk(kind, body[:length])
        if is_sound(packet):
            parse_packet(serialize_packet(0, 0, 0, _Raw(packet[12:])))  # does not raise


class _Raw(Chunk):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __bytes__(self) -> bytes:
        return self.data


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        chunk(0, bytes(12)),  # no user data
        b"\x00\x03\x00\x00",  # length 0
        b"\x00\x03\x00\x03",
        chunk(1, bytes(15)),
        SOUND["INIT"] + SOUND["COOKIE ACK"],
        SOUND["INIT"] * 2,
        chunk(1, bytes(16) + bytes(4)),  # a parameter of length 0 holds aiortc for ever
        chunk(130, bytes(4)),
        chunk(4, b"\x00\x01\x00\x03"),
        chunk(6, b"\x00\x01\x00\x09abcd"),
        chunk(3, bytes(8) + b"\x00\x01\x00\x00"),  # a gap that is not there
        chunk(3, bytes(8) + b"\xff\xff\xff\xff"),
        chunk(130, OUTGOING_RESET * 3),
        chunk(130, parameter(13, bytes(8))),
        chunk(130, parameter(16, bytes(4))),
        chunk(192, b""),
        chunk(192, bytes(6)),
        chunk(7, b""),
        SOUND["HEARTBEAT"] * 5,
        SOUND["COOKIE ACK"] + b"\x04\x00\x00\x10",
        chunk(64, b"") * (MAX_CHUNKS + 1),
    ],
    ids=lambda chunks: chunks[:24].hex(),
)
def test_a_packet_that_lies_or_asks_for_too_much_is_refused(chunks: bytes) -> None:
    assert not is_sound(HEADER + chunks)


def test_a_packet_of_many_messages_is_sound() -> None:
    assert is_sound(HEADER + SACK + SOUND["DATA"] * 50 + SOUND["FORWARD TSN"])


@pytest.mark.parametrize("length", range(16))
def test_less_than_a_chunk_is_refused(length: int) -> None:
    assert not is_sound(bytes(length))
