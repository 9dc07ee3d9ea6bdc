"""RED payloads (RFC 2198) written and read plainly: what tests send and compare with."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_OLDER_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Block:
    payload_type: int
    data: bytes
    timestamp_offset: int = 0  # of older blocks: ticks before the packet's timestamp


def red_payload(*blocks: Block) -> bytes:
    """Return the payload; the last block is the primary one."""
    *older, primary = blocks
    heads = b""
    for block in older:
        word = 1 << 31 | block.payload_type << 24 | block.timestamp_offset << 10 | len(block.data)
        heads += word.to_bytes(4, "big")
    return heads + bytes([primary.payload_type]) + b"".join(block.data for block in blocks)


def read_red(payload: bytes) -> list[Block] | None:
    """Return the blocks, the primary one last; None when lengths lie or there are too many."""
    words: list[int] = []
    rest = payload
    while rest and rest[0] >= 128:
        if len(rest) < 4:
            return None
        words.append(int.from_bytes(rest[:4], "big"))
        rest = rest[4:]
    if not rest or len(words) > MOST_OLDER_BLOCKS:
        return None
    primary_type, rest = rest[0], rest[1:]
    blocks = []
    for word in words:
        size = word & 0x3FF
        if size > len(rest):
            return None
        blocks.append(Block(word >> 24 & 0x7F, rest[:size], word >> 10 & 0x3FFF))
        rest = rest[size:]
    return [*blocks, Block(primary_type, rest)]


def renamed(blocks: Sequence[Block], payload_type: int) -> bytes:
    """Return the payload with this payload type for every block."""
    return red_payload(*(Block(payload_type, block.data, block.timestamp_offset) for block in blocks))
