"""The data channels of one peer: which there are, and what waits to be sent on them (RFC 8831, 8832).

A message goes out by the label of a channel, not by its number: on the one that the peer opened under that
label, else on one that we open for it.  What a peer can make us keep is bounded (docs/protocol.md).
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kaamos.rtc.application import SctpParameters
from kaamos.rtc.channel import (
    DCEP_ACK,
    MAX_CHANNELS,
    MAX_MESSAGE_BYTES,
    MAX_STREAMS,
    ChannelKind,
    DataDrop,
    DataMessage,
    Payload,
)
from kaamos.rtc.dtls import DtlsAssociation
from kaamos.rtc.sctp import SctpAssociation

# A channel with this protocol gets each message behind a head that says who sent it.
SENDER_PROTOCOL = "kaamos.from"

# Together with what SctpAssociation has taken and not seen acknowledged this stays below 1 MiB.
MAX_QUEUED_BYTES = 640 * 1024
_MESSAGE_OVERHEAD_BYTES = 128  # what a message costs beside its payload

# Messages that are handed over at a stretch, about 2 ms of work; each is acknowledged, and then it goes on.
_MESSAGES_AT_ONCE = 32

_PAYLOADS = {
    Payload.TEXT: (True, False),
    Payload.BINARY: (False, False),
    Payload.EMPTY_TEXT: (True, True),
    Payload.EMPTY_BINARY: (False, True),
}


@dataclass(slots=True, eq=False)
class _Channel:
    stream_id: int
    kind: ChannelKind
    is_ours: bool  # opened by us
    is_acknowledged: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message that waits to be sent."""

    channel: _Channel
    payload_id: Payload
    data: bytes
    expires: float | None  # in the time of the loop

    @property
    def cost_bytes(self) -> int:
        return len(self.data) + _MESSAGE_OVERHEAD_BYTES


class DataChannels:
    """The data channels over one DTLS association, for as long as both sides want SCTP.

    ``on_message`` is awaited for each message, in order; meanwhile nothing more is read from the peer.

    Attributes:
        drops: how often something came to nothing, by reason.
    """

    def __init__(self, dtls: DtlsAssociation, on_message: Callable[[DataMessage], Awaitable[None]]) -> None:
        self.drops: Counter[DataDrop] = Counter()
        self._dtls = dtls
        self._on_message = on_message
        self._remote: SctpParameters | None = None
        self._association: SctpAssociation | None = None
        self._channels: dict[int, _Channel] = {}  # by stream, the oldest first
        self._had: set[str] = set()  # labels of channels that we opened, or that the peer has closed
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0

    def follow(self, remote: SctpParameters | None) -> None:
        """Start or stop as the descriptions say now; None: there is no SCTP.

        The association lives as long as the section: Chromium names another size in answers than in offers.
        """
        if remote is None or self._remote is None or remote.port != self._remote.port:
            self.close()
        self._remote = remote
        self.start()

    def start(self) -> None:
        """Begin, if SCTP is wanted and DTLS is up; to be called again when it is."""
        if self._remote is not None and self._association is None and self._dtls.is_connected:
            self._association = SctpAssociation(
                self._dtls,
                self._remote.port,
                on_message=self._receive,
                on_progress=self._pump,
                on_stream_closing=self._forget,
                drops=self.drops,
            )

    def close(self) -> None:
        """End SCTP and forget all that waits.  May be called again."""
        association, self._association, self._remote = self._association, None, None
        if association is not None:
            association.close()
        self._channels.clear()
        self._had.clear()
        self._waiting.clear()
        self._waiting_bytes = 0

    def send(self, message: DataMessage, head: bytes) -> None:
        """Send a message of somebody else, if the peer has a channel for it; never waits.

        ``head`` says who that is; only channels with :data:`SENDER_PROTOCOL` get it.
        """
        if self._association is None or not self._association.is_established or self._remote is None:
            return
        channel = self._channel_for(message.channel)
        if channel is None:
            self.drops[DataDrop.NO_CHANNEL] += 1
            return
        data = head + message.payload if channel.kind.protocol == SENDER_PROTOCOL else message.payload
        if 0 < self._remote.max_message_bytes < len(data):
            self.drops[DataDrop.TOO_LARGE_FOR_PEER] += 1
            return
        lifetime_ms = channel.kind.max_lifetime_ms
        expires = None if lifetime_ms is None else asyncio.get_running_loop().time() + lifetime_ms / 1000
        waiting = _Waiting(channel, _payload_id(message.is_text, data), data or b"\0", expires)
        if self._waiting_bytes + waiting.cost_bytes > MAX_QUEUED_BYTES:
            self._refuse(channel)
            return
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.cost_bytes
        self._pump()

    # Sending

    def _channel_for(self, kind: ChannelKind) -> _Channel | None:
        """Return the channel that messages with this label go to, opened if need be."""
        ours: _Channel | None = None
        for channel in self._channels.values():
            if channel.kind.label == kind.label:
                if not channel.is_ours:
                    return channel
                ours = channel
        return ours or self._open(kind)

    def _open(self, kind: ChannelKind) -> _Channel | None:
        """Open a channel, unless the peer had one for this label: who closes it does not want it."""
        assert self._association is not None
        if kind.label in self._had or len(self._had) >= MAX_CHANNELS:
            return None
        stream_id = self._association.free_stream()
        if stream_id is None or not self._association.add_stream(stream_id):
            return None
        self._had.add(kind.label)
        self._channels[stream_id] = channel = _Channel(stream_id, kind, is_ours=True, is_acknowledged=False)
        self._association.send(stream_id, Payload.DCEP, kind.write())
        return channel

    def _refuse(self, channel: _Channel) -> None:
        """Drop the newest message for a peer that takes them too slowly.

        A channel that promises every message is closed instead, so that the peer learns of the gap.
        """
        if not channel.kind.is_reliable:
            self.drops[DataDrop.QUEUE_FULL] += 1
            return
        self.drops[DataDrop.SLOW_READER] += 1
        self._reset(channel.stream_id)

    def _pump(self) -> None:
        """Hand over what waits, as far as the association takes it."""
        association, sent = self._association, 0
        while self._waiting and sent < _MESSAGES_AT_ONCE and association is not None and association.has_room:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.cost_bytes
            left_s = None if waiting.expires is None else waiting.expires - asyncio.get_running_loop().time()
            if left_s is not None and left_s < 0:
                self.drops[DataDrop.EXPIRED] += 1
                continue
            sent += 1
            channel = waiting.channel
            association.send(
                channel.stream_id,
                waiting.payload_id,
                waiting.data,
                # RFC 8832 section 6: nothing overtakes the opening.
                is_ordered=channel.kind.is_ordered or not channel.is_acknowledged,
                max_retransmits=channel.kind.max_retransmits,
                lifetime_s=left_s,
            )

    # Receiving

    async def _receive(self, stream_id: int, payload_id: int, data: bytes) -> None:
        """Take what the peer sent on a stream."""
        channel = self._channels.get(stream_id)
        if payload_id == Payload.DCEP:
            self._receive_dcep(stream_id, channel, data)
        elif channel is None:
            self.drops[DataDrop.NO_CHANNEL] += 1
        elif len(data) > MAX_MESSAGE_BYTES:
            self.drops[DataDrop.TOO_LARGE] += 1
            self._reset(stream_id)
        elif payload_id not in _PAYLOADS:
            self.drops[DataDrop.BAD_PAYLOAD] += 1
        else:
            is_text, is_empty = _PAYLOADS[Payload(payload_id)]
            payload = b"" if is_empty else data
            # It goes to others, and not all of them bear text that is none.
            if is_text and not _is_utf8(payload):
                self.drops[DataDrop.BAD_PAYLOAD] += 1
            else:
                await self._on_message(DataMessage(channel.kind, is_text, payload))

    def _receive_dcep(self, stream_id: int, channel: _Channel | None, data: bytes) -> None:
        if data == DCEP_ACK:
            if channel is not None:
                channel.is_acknowledged = True
            return
        assert self._association is not None
        if channel is not None:
            self.drops[DataDrop.BAD_OPEN] += 1
            self._reset(stream_id)
            return
        if not self._association.add_stream(stream_id):
            return
        kind = ChannelKind.read(data)
        if kind is None or stream_id >= MAX_STREAMS:
            self.drops[DataDrop.BAD_OPEN] += 1
            self._association.reset_stream(stream_id)
            return
        theirs = [channel for channel in self._channels.values() if not channel.is_ours]
        if len(theirs) >= MAX_CHANNELS:
            self.drops[DataDrop.TOO_MANY_CHANNELS] += 1
            self._association.reset_stream(stream_id)
            return
        self._channels[stream_id] = _Channel(stream_id, kind, is_ours=False, is_acknowledged=True)
        self._association.send(stream_id, Payload.DCEP, DCEP_ACK)
        for channel in [*self._channels.values()]:
            if channel.is_ours and channel.kind.label == kind.label:
                self._reset(channel.stream_id)

    # The end of a channel

    def _reset(self, stream_id: int) -> None:
        assert self._association is not None
        self._association.reset_stream(stream_id)

    def _forget(self, stream_id: int) -> None:
        """Take a channel that closes out, and what waits for it."""
        channel = self._channels.pop(stream_id, None)
        if channel is None:
            return
        if len(self._had) < MAX_CHANNELS:
            self._had.add(channel.kind.label)
        self._waiting = deque(waiting for waiting in self._waiting if waiting.channel is not channel)
        self._waiting_bytes = sum(waiting.cost_bytes for waiting in self._waiting)


def _payload_id(is_text: bool, data: bytes) -> Payload:
    if is_text:
        return Payload.TEXT if data else Payload.EMPTY_TEXT
    return Payload.BINARY if data else Payload.EMPTY_BINARY


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
