"""A look at SCTP packets before aiortc gets them (RFC 9260, RFC 6525).

aiortc unpacks without a look at lengths, and a parameter of length 0 keeps it busy for ever.
"""

import struct
from collections import Counter
from collections.abc import Callable, Mapping

_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 4
_PARAMETER_HEADER_BYTES = 4
MAX_CHUNKS = 128  # in a packet: 1200 bytes hold 60 messages of a few bytes
MAX_CHUNKS_OF_A_TYPE = 4  # other than data: most are answered one by one

_DATA = 0
_INIT = 1


def is_sound(packet: bytes) -> bool:
    """Return whether every length in a packet fits, and it asks for no more answers than a peer needs.

    Of chunks that are not data there may be four of a type.  Checksum and verification tag are not looked
    at, unknown chunks neither.
    """
    at, chunks = _HEADER_BYTES, 0
    types: Counter[int] = Counter()
    while at + _CHUNK_HEADER_BYTES <= len(packet):
        type_, length = packet[at], int.from_bytes(packet[at + 2 : at + 4], "big")
        end = at + length
        if length < _CHUNK_HEADER_BYTES or end > len(packet):
            return False
        if type_ != _DATA and types[type_] >= MAX_CHUNKS_OF_A_TYPE:
            return False
        check = _CHECKS.get(type_)
        if check is not None and not check(packet, at + _CHUNK_HEADER_BYTES, end):
            return False
        types[type_] += 1
        chunks += 1
        at = end + -length % 4
    return 0 < chunks <= MAX_CHUNKS and (_INIT not in types or chunks == 1)


def _has_user_data(packet: bytes, start: int, end: int) -> bool:
    return end - start > 12


def _is_sack(packet: bytes, start: int, end: int) -> bool:
    if end - start < 12:
        return False
    gaps, duplicates = struct.unpack_from("!HH", packet, start + 8)
    return end - start == 12 + 4 * int(gaps + duplicates)


def _is_forward_tsn(packet: bytes, start: int, end: int) -> bool:
    return end > start and (end - start) % 4 == 0


def _is_shutdown(packet: bytes, start: int, end: int) -> bool:
    return end - start == 4


def _has_parameters(packet: bytes, start: int, end: int) -> bool:
    while start + _PARAMETER_HEADER_BYTES <= end:
        length = int.from_bytes(packet[start + 2 : start + 4], "big")
        if length < _PARAMETER_HEADER_BYTES or start + length > end:
            return False
        start += length + -length % 4
    return True


def _is_init(packet: bytes, start: int, end: int) -> bool:
    return end - start >= 16 and _has_parameters(packet, start + 16, end)


# Bytes that a re-configuration parameter has at least, its header included (RFC 6525 section 4).
_RECONFIG_BYTES = {13: 16, 16: 12, 17: 12}


def _is_reconfig(packet: bytes, start: int, end: int) -> bool:
    if not _has_parameters(packet, start, end):
        return False
    count = 0
    while start + _PARAMETER_HEADER_BYTES <= end:
        kind, length = struct.unpack_from("!HH", packet, start)
        if length < _RECONFIG_BYTES.get(kind, 0) or (kind == 13 and length % 2):
            return False
        count += 1
        start += length + -length % 4
    return count <= 2  # RFC 6525 section 3.1


_CHECKS: Mapping[int, Callable[[bytes, int, int], bool]] = {
    _DATA: _has_user_data,
    _INIT: _is_init,
    2: _is_init,  # INIT ACK
    3: _is_sack,
    4: _has_parameters,  # HEARTBEAT
    5: _has_parameters,  # HEARTBEAT ACK
    6: _has_parameters,  # ABORT
    7: _is_shutdown,
    9: _has_parameters,  # ERROR
    130: _is_reconfig,
    192: _is_forward_tsn,
}
