"""SCTP of a hostile peer: what it sends ends its own data channels at most."""

import asyncio
import struct
from collections.abc import Callable

import pytest
from aiortc.rtcsctptransport import (
    AbortChunk,
    Chunk,
    CookieEchoChunk,
    DataChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    ShutdownChunk,
)

from kaamos.rtc import sctp
from kaamos.rtc.channel import ChannelKind, DataDrop
from tests.support.data_pair import Meet, Pair, message
from tests.support.ortc import eventually


def gaps(*found: tuple[int, int], cumulative: int = 0) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = SackChunk()
        chunk.cumulative_tsn = (pair.sctp._last_received_tsn + cumulative) % 2**32
        chunk.gaps = list(found)
        return chunk

    return make


def reset(*streams: int, last_ahead: int = -1) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = ReconfigChunk()
        body = struct.pack("!LLL", 77, 0, (pair.sctp._local_tsn + last_ahead) % 2**32)
        chunk.params.append((13, body + b"".join(struct.pack("!H", stream) for stream in streams)))
        return chunk

    return make


def forward(ahead: int, *streams: tuple[int, int]) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = ForwardTsnChunk()
        chunk.cumulative_tsn = (pair.sctp._local_tsn + ahead) % 2**32
        chunk.streams = list(streams)
        return chunk

    return make


def filled(chunk: Chunk, **fields: object) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        for name, value in fields.items():
            setattr(chunk, name, value)
        return chunk

    return make


def dcep(text: bytes, stream: int) -> Callable[[Pair], Chunk]:
    return lambda pair: pair.data(stream=stream, text=text, protocol=50)


OPEN = ChannelKind("more").write()
GOES_ON: dict[str, Callable[[Pair], Chunk | bytes]] = {
    "lengths that lie": lambda pair: b"\x00\x03\x00\x00",
    "a parameter without length": lambda pair: b"\x82\x00\x00\x08\x00\x0d\x00\x00",
    "a gap of everything": gaps((1, 65535)),
    "gaps backwards": gaps((5, 6), (2, 3)),
    "a gap that ends before it begins": gaps((3, 1)),
    "an acknowledgement of what was not sent": gaps(cumulative=1000),
    "an old acknowledgement": gaps(cumulative=-5),
    "an INIT in the middle": filled(InitChunk(), initial_tsn=5, initiate_tag=1),
    "a forged cookie": filled(CookieEchoChunk(), body=bytes(24)),
    "a heartbeat": filled(HeartbeatChunk(), params=[(1, bytes(1000))]),
    "data far ahead": lambda pair: pair.data(ahead=600),
    "data on no channel": lambda pair: pair.data(stream=500),
    "data of no kind": lambda pair: pair.data(protocol=99),
    "text that is none": lambda pair: pair.data(text=b"\xff\xfe"),
    "an opening cut short": dcep(OPEN[:-2], 4),
    "an opening far away": dcep(OPEN, 40_000),
    "nonsense of the channel protocol": dcep(b"\x09", 6),
    "an acknowledgement of no opening": dcep(b"\x02", 8),
    "a reset of what was never open": reset(9, 10, 65535),
    "a reset later than anything": reset(9, last_ahead=10_000),
    "a forward for streams that are not there": forward(0, (7, 7), (65535, 1)),
    "unknown chunks": lambda pair: b"\x40\x00\x00\x08abcd" * 20,
}
ENDS: dict[str, Callable[[Pair], Chunk | bytes]] = {
    "an abort": filled(AbortChunk()),
    "a shutdown": filled(ShutdownChunk()),
}


@pytest.mark.parametrize("name", GOES_ON)
async def test_after_a_bad_packet_the_channels_go_on(meet: Meet, name: str) -> None:
    pair = await meet()
    channel = await pair.open("chat")
    channel.send("before")
    await eventually(lambda: len(pair.taken) == 1)
    made = GOES_ON[name](pair)
    await pair.send_chunks(made, tag=0 if isinstance(made, InitChunk) else None)
    if isinstance(made, DataChunk | ForwardTsnChunk):
        pair.sctp._local_tsn = (pair.sctp._local_tsn + 1) % 2**32  # it used its next number up
    channel.send("after")
    await eventually(lambda: len(pair.taken) == 2)
    assert await pair.is_alive() and channel.readyState == "open"


@pytest.mark.parametrize("name", ENDS)
async def test_sctp_can_end_and_the_call_goes_on(meet: Meet, name: str) -> None:
    pair = await meet()
    await pair.open("chat")
    await pair.send_chunks(ENDS[name](pair))
    await eventually(lambda: not pair.association.is_established)
    pair.us.send(message("nobody hears"), b"")
    assert await pair.is_alive()


async def test_streams_that_are_never_let_go_end_sctp(meet: Meet) -> None:
    pair = await meet()
    pair.go_deaf()
    for number in range(100):
        await pair.send_chunks(pair.data(ahead=number, stream=2 * number, text=OPEN, protocol=50))
        await asyncio.sleep(0)
    await eventually(lambda: not pair.association.is_established)
    assert len(pair.association._sctp._data_channels) == 0 and await pair.is_alive()


async def test_numbers_out_of_order_are_kept_within_the_window(meet: Meet) -> None:
    pair = await meet()
    await pair.open("chat")
    inner = pair.association._sctp
    for number in range(1, 300):
        await pair.send_chunks(pair.data(ahead=2 * number, text=b"x"), pair.data(ahead=2 * number, text=b"x"))
        await asyncio.sleep(0)
    await eventually(lambda: pair.us.drops[DataDrop.AHEAD] + pair.us.drops[DataDrop.RATE_LIMITED] > 40)
    assert len(inner._sack_misordered) <= sctp.TSN_WINDOW // 2 and len(inner._sack_duplicates) <= 16
    assert await pair.is_alive()
