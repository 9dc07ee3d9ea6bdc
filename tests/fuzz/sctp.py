"""Fuzz target: SCTP of a peer whose DTLS is right, from the first packet on, through the data channels.

An input is what a peer sent in one connection: our first TSN in 4 bytes, then packets one after the other,
each of which begins with both ports.  Tag and checksum are put right and a cookie is believed, or no mutation
would get past them.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import cast

from aiortc.rtcsctptransport import RTCSctpTransport, crc32c

from kaamos.rtc import sctp
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.channel import MAX_CHANNELS, MAX_MESSAGE_BYTES, ChannelKind, DataDrop, DataMessage
from kaamos.rtc.datachannels import MAX_QUEUED_BYTES, DataChannels
from kaamos.rtc.dtls import DtlsAssociation

_PORTS = struct.pack("!HH", 5000, 5000)
_COOKIE_ECHO = 10
_ANSWERS = 1 + 4 * 8 + 64 + 130  # to one packet: SACK, four chunks of each kind, resets, what fits the window


class _Dtls:
    """As much of a DtlsAssociation as SCTP asks for."""

    is_connected = True
    is_server = True

    def __init__(self) -> None:
        self.sent = 0
        self.take: Callable[[bytes], Awaitable[None]] | None = None

    def read_data(self, take: Callable[[bytes], Awaitable[None]] | None) -> None:
        self.take = take

    def send_data(self, data: bytes) -> None:
        assert len(data) < 1250
        self.sent += 1


def fuzz_one(data: bytes) -> None:
    # Invariant: whatever the packets, nothing is raised, each is answered by a bounded number, what is kept
    # stays within its bounds, and messages come out whole and within theirs.
    asyncio.run(_play(data))


async def _play(data: bytes) -> None:
    failures: list[dict[str, object]] = []  # of tasks and timers that aiortc starts
    asyncio.get_running_loop().set_exception_handler(lambda loop, failure: failures.append(failure))
    dtls = _Dtls()
    messages: list[DataMessage] = []

    async def take(message: DataMessage) -> None:
        messages.append(message)

    channels = DataChannels(cast(DtlsAssociation, dtls), take)
    channels.follow(SctpParameters(5000, MAX_MESSAGE_BYTES))
    assert channels._association is not None
    inner = channels._association._sctp
    first_tsn = int.from_bytes(data[:4], "big")
    inner._local_tsn = first_tsn
    inner._last_sacked_tsn = inner._advanced_peer_ack_tsn = (first_tsn - 1) % 2**32
    for number, rest in enumerate(data[4:].split(_PORTS)[1:]):
        packet = _PORTS + rest
        if dtls.take is None:
            break
        if packet[12:13] == bytes([_COOKIE_ECHO]):
            inner._t1_cancel()
            inner._set_state(RTCSctpTransport.State.ESTABLISHED)
        sent = dtls.sent
        await dtls.take(_right(packet, inner._local_verification_tag))
        assert dtls.sent - sent <= _ANSWERS
        _check(channels, inner, messages)
        channels.send(DataMessage(ChannelKind("early"), False, bytes(1500)), b"ada\n")
        if number % 4 == 0:
            await asyncio.sleep(0)
    channels.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1 and not _timers(inner)
    assert failures == []


def _right(packet: bytes, tag: int) -> bytes:
    """Return the packet with our tag, or none if it begins with an INIT, and with a right checksum."""
    head = packet[:4] + struct.pack("!L", 0 if packet[12:13] == b"\x01" else tag)
    return head + struct.pack("<L", crc32c(head + bytes(4) + packet[12:])) + packet[12:]


def _timers(inner: RTCSctpTransport) -> list[asyncio.TimerHandle]:
    handles = (inner._t1_handle, inner._t2_handle, inner._t3_handle, inner._reconfig_handle)
    return [handle for handle in handles if handle is not None]


def _check(channels: DataChannels, inner: RTCSctpTransport, messages: list[DataMessage]) -> None:
    held = [chunk for stream in inner._inbound_streams.values() for chunk in stream.reassembly]
    assert len(held) <= sctp.MAX_HELD_CHUNKS
    assert sum(len(chunk.user_data) for chunk in held) <= sctp.RECEIVE_WINDOW_BYTES + 2 * MAX_MESSAGE_BYTES
    assert len(inner._sack_misordered) <= sctp.TSN_WINDOW
    assert len(inner._inbound_streams) <= sctp.MAX_STREAMS_IN_USE
    assert len(inner._data_channels) <= sctp.MAX_STREAMS_IN_USE
    assert len(inner._sent_queue) + len(inner._outbound_queue) <= sctp.MAX_UNACKED_CHUNKS + 64
    assert len(channels._channels) <= 2 * MAX_CHANNELS
    assert channels._waiting_bytes <= MAX_QUEUED_BYTES
    assert set(channels.drops) <= set(DataDrop)
    for message in messages:
        assert len(message.payload) <= MAX_MESSAGE_BYTES
        if message.is_text:
            message.payload.decode()
