"""SCTP with one peer over DTLS (RFC 8261); with dtls.py the only importer of aiortc.

aiortc believes its peer: it unpacks without a look at lengths, walks through whatever an acknowledgement
claims, and keeps whatever comes.  So packets are checked before it gets them, what it would pile up is
bounded, and what it stumbles over ends this association and nothing else.
"""

import asyncio
import logging
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import (
    SCTP_TSN_MODULO,
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    InitChunk,
    RTCSctpTransport,
    SackChunk,
    ShutdownChunk,
)

from kaamos.rtc.channel import MAX_MESSAGE_BYTES, MAX_STREAMS, DataDrop
from kaamos.rtc.dtls import DtlsAssociation
from kaamos.rtc.sctp_packet import is_sound

logger = logging.getLogger(__name__)

# As many chunks of data as the native token bucket lets datagrams through (_fastpath.pxd, RAISE_BURST): a
# packet of many small messages is no cheaper than many packets.
CHUNKS_PER_SECOND = 200
CHUNK_BURST = 400
RECEIVE_WINDOW_BYTES = 256 * 1024
TSN_WINDOW = 256  # how far a chunk may be ahead of the ones that are missing; as the window, in full chunks
# Of messages that are not complete, or wait for an earlier one.  aiortc walks through a stream's at each
# chunk: a packet of 60 chunks costs 3 ms with so many, 8 ms with 1024.
MAX_HELD_CHUNKS = 384
MAX_DUPLICATES = 16  # told in a SACK
MAX_STREAMS_IN_USE = 64  # 32 channels, and those that one side has closed and the other not yet
OWN_STREAMS_BELOW = 256  # what Firefox has from the beginning
MAX_UNACKED_CHUNKS = 256  # then messages wait outside; the last one taken may be 64 more
MAX_OUTSTANDING_CHUNKS = 512  # that a SACK can speak of
MAX_CONGESTION_WINDOW_BYTES = 256 * 1024

# aiortc unpacks and asserts without looking; what it stumbles over ends as one of these.
_SCTP_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ConnectionError),
    *(LookupError, NameError, TypeError, ValueError, struct.error),
)


class SctpAssociation:
    """SCTP over a DTLS association (RFC 8261): messages in and out by stream, bounded on every side.

    It begins at once, over an association that is connected.  ``on_message`` is awaited for each message
    with its stream and payload protocol identifier; meanwhile nothing more is read.  ``on_progress`` is
    called when there may be room to send again, ``on_stream_closing`` when either side begins to close a
    stream, or when the association ends.  It ends for good when the peer ends it or breaks its rules; DTLS
    stays.
    """

    def __init__(
        self,
        dtls: DtlsAssociation,
        remote_port: int,
        *,
        on_message: Callable[[int, int, bytes], Awaitable[None]],
        on_progress: Callable[[], None],
        on_stream_closing: Callable[[int], None],
        drops: Counter[DataDrop],
    ) -> None:
        self._dtls = dtls
        self._on_message = on_message
        self._on_progress = on_progress
        self._on_stream_closing = on_stream_closing
        self._drops = drops
        self._sctp = _BoundedSctp(_Records(dtls), drops)
        dtls.read_data(self._receive)
        self._run(self._sctp.start(None, remote_port))

    @property
    def is_established(self) -> bool:
        """Messages can be sent."""
        return self._sctp._association_state is RTCSctpTransport.State.ESTABLISHED

    @property
    def has_room(self) -> bool:
        """A message that is sent now does not wait long behind others."""
        sctp = self._sctp
        return self.is_established and len(sctp._sent_queue) + len(sctp._outbound_queue) < MAX_UNACKED_CHUNKS

    def free_stream(self) -> int | None:
        """Return a number for a channel of ours, None where all are taken.

        RFC 8832 section 6 gives each side every second number; werift takes those of the other side.  So ours
        are counted from above, where nobody else begins.
        """
        top = min(self._sctp._outbound_streams_count, OWN_STREAMS_BELOW)
        parity = 1 if self._dtls.is_server else 0
        numbers = (number for number in reversed(range(top)) if number % 2 == parity)
        return next((number for number in numbers if number not in self._sctp._data_channels), None)

    def add_stream(self, stream_id: int) -> bool:
        """Let a stream be in use until both sides have reset it.

        Too many that the peer does not let go of end the association, and False is returned.
        """
        if len(self._sctp._data_channels) >= MAX_STREAMS_IN_USE:
            self.close()
            return False
        self._sctp._data_channels[stream_id] = cast(
            RTCDataChannel, _Stream(stream_id, self._on_stream_closing)
        )
        return True

    def reset_stream(self, stream_id: int) -> None:
        """Close a stream that is in use; once more does nothing."""
        stream = self._sctp._data_channels.get(stream_id)
        if stream is not None:
            self._sctp._data_channel_close(stream)

    def send(
        self,
        stream_id: int,
        payload_id: int,
        data: bytes,
        *,
        is_ordered: bool = True,
        max_retransmits: int | None = None,
        lifetime_s: float | None = None,
    ) -> None:
        """Send a message on a stream in use.  ``data`` is at least one byte."""
        expiry = None if lifetime_s is None else time.time() + lifetime_s
        self._run(
            self._sctp._send(
                stream_id,
                payload_id,
                data,
                expiry=expiry,
                max_retransmits=max_retransmits,
                ordered=is_ordered,
            )
        )

    def close(self) -> None:
        """Tell the peer and end.  May be called again."""
        self._dtls.read_data(None)
        self._run(self._sctp.stop())

    async def _receive(self, data: bytes) -> None:
        """Take a record of the peer."""
        sctp = self._sctp
        if sctp._association_state is RTCSctpTransport.State.CLOSED:
            return
        if not is_sound(data):
            self._drops[DataDrop.BAD_PACKET] += 1
            return
        try:
            await sctp._handle_data(data)
        except _SCTP_ERRORS as error:
            self._note_failure(error)
            self.close()
        messages, sctp.messages = sctp.messages, []
        for message in messages:
            if not self.is_established:  # it ended, perhaps while an earlier message was passed on
                return
            await self._on_message(*message)
        self._on_progress()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do at once what aiortc writes as a coroutine: nothing in it waits, because _Records does not."""
        try:
            work.send(None)
        except StopIteration:
            return
        except _SCTP_ERRORS as error:
            self._note_failure(error)
            self._sctp._set_state(RTCSctpTransport.State.CLOSED)
            return
        raise RuntimeError("aiortc waits for something")

    def _note_failure(self, error: Exception) -> None:
        self._drops[DataDrop.ASSOCIATION] += 1
        logger.info("SCTP of a peer is over: %r", error)


class _Records:
    """What ``RTCSctpTransport`` asks of its DTLS transport."""

    state = "connected"

    def __init__(self, dtls: DtlsAssociation) -> None:
        self._dtls = dtls

    @property
    def _role(self) -> str:
        return "server" if self._dtls.is_server else "client"

    async def _send_data(self, data: bytes) -> None:
        self._dtls.send_data(data)

    def _register_data_receiver(self, receiver: object) -> None:
        pass  # SctpAssociation looks at the records first

    def _unregister_data_receiver(self, receiver: object) -> None:
        pass


class _Stream:
    """What ``RTCSctpTransport`` asks of a data channel."""

    negotiated = False

    def __init__(self, stream_id: int, on_closing: Callable[[int], None]) -> None:
        self.id = stream_id
        self.readyState = "open"
        self._on_closing = on_closing

    def _setReadyState(self, state: str) -> None:
        was_open, self.readyState = self.readyState == "open", state
        if was_open:
            self._on_closing(self.id)


class _BoundedSctp(RTCSctpTransport):
    """aiortc's SCTP, which keeps whatever comes, with bounds.

    What a peer sends beyond them is lost as on the way: it is not acknowledged, so it comes again, and more
    slowly.  ``messages`` gathers what is complete.
    """

    def __init__(self, records: _Records, drops: Counter[DataDrop]) -> None:
        super().__init__(cast(RTCDtlsTransport, records))
        self.messages: list[tuple[int, int, bytes]] = []
        self._drops = drops
        self._advertised_rwnd = RECEIVE_WINDOW_BYTES
        self._inbound_streams_max = self._outbound_streams_count = MAX_STREAMS
        self._paid_until = 0.0  # of the chunks that were taken, in the time of the loop

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        super()._set_state(state)
        if state is self.State.CLOSED:
            # Or a timer could start again, for ever.
            self._sent_queue.clear()
            self._outbound_queue.clear()
            self._inbound_streams.clear()
            self._forward_tsn_chunk = None
            self._t3_cancel()

    async def _receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        self.messages.append((stream_id, pp_id, data))

    async def _receive_chunk(self, chunk: Chunk) -> None:
        state = self._association_state
        if state is self.State.CLOSED:
            return
        # An INIT would begin anew with the old streams in place; peers begin once a DTLS association.
        if isinstance(chunk, InitChunk) and state not in (self.State.COOKIE_WAIT, self.State.COOKIE_ECHOED):
            return
        if isinstance(chunk, ShutdownChunk) and state is not self.State.ESTABLISHED:
            return
        if isinstance(chunk, DataChunk | ForwardTsnChunk) and self._last_received_tsn is None:
            return
        await super()._receive_chunk(chunk)

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        assert self._last_received_tsn is not None
        ahead = (chunk.tsn - self._last_received_tsn) % SCTP_TSN_MODULO
        if TSN_WINDOW < ahead < SCTP_TSN_MODULO // 2:
            self._drops[DataDrop.AHEAD] += 1
            return
        if not self._pay():
            self._drops[DataDrop.RATE_LIMITED] += 1
            return
        streams = self._inbound_streams
        if chunk.stream_id not in streams and len(streams) >= MAX_STREAMS_IN_USE:
            raise ValueError("too many streams")
        await super()._receive_data_chunk(chunk)
        held = sum(len(stream.reassembly) for stream in streams.values())
        # A peer knows our window and the size of a message that we take.
        if held > MAX_HELD_CHUNKS or self._advertised_rwnd < -MAX_MESSAGE_BYTES:
            raise ValueError("more than our window")

    def _pay(self) -> bool:
        """Return whether another chunk may be taken."""
        now = asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now - CHUNK_BURST / CHUNKS_PER_SECOND)
        if self._paid_until > now:
            return False
        self._paid_until += 1 / CHUNKS_PER_SECOND
        return True

    def _mark_received(self, tsn: int) -> bool:
        """Note a TSN and return whether it came before; without sorting all that are out of order."""
        assert self._last_received_tsn is not None
        is_old = (self._last_received_tsn - tsn) % SCTP_TSN_MODULO < SCTP_TSN_MODULO // 2
        if is_old or tsn in self._sack_misordered:
            if len(self._sack_duplicates) < MAX_DUPLICATES:
                self._sack_duplicates.append(tsn)
            return True
        self._sack_misordered.add(tsn)
        while (following := (self._last_received_tsn + 1) % SCTP_TSN_MODULO) in self._sack_misordered:
            self._sack_misordered.discard(following)
            self._last_received_tsn = following
        return False

    async def _receive_forward_tsn_chunk(self, chunk: ForwardTsnChunk) -> None:
        # Streams without a message so far, and each one but once.
        chunk.streams = [item for item in dict(chunk.streams).items() if item[0] in self._inbound_streams]
        await super()._receive_forward_tsn_chunk(chunk)

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        # aiortc walks through all numbers of a gap, and takes acknowledgements of what was never sent.
        outstanding = (self._local_tsn - 1 - chunk.cumulative_tsn) % SCTP_TSN_MODULO
        end = 0
        for first, last in chunk.gaps:
            if not end < first <= last <= min(outstanding, MAX_OUTSTANDING_CHUNKS):
                self._drops[DataDrop.BAD_PACKET] += 1
                return
            end = last
        if outstanding >= SCTP_TSN_MODULO // 2:
            self._drops[DataDrop.BAD_PACKET] += 1
            return
        await super()._receive_sack_chunk(chunk)
        self._cwnd = min(self._cwnd, MAX_CONGESTION_WINDOW_BYTES)
