"""What data channels are made of: their kinds, their messages, their limits (RFC 8831, 8832)."""

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self

# Promised in docs/protocol.md, "Data channels".
MAX_MESSAGE_BYTES = 65536
MAX_CHANNELS = 16  # that the peer opens; we open as many at most
MAX_LABEL_BYTES = 256  # of label and of protocol each

# Numbers of streams are below this.  Peers take the lowest free one; werift counts on, for 512 channels.
MAX_STREAMS = 1024

DCEP_ACK = b"\x02"
_OPEN = 3
_OPEN_FORMAT = struct.Struct("!BBHLHH")  # type, channel type, priority, reliability, lengths of the texts
_UNORDERED = 0x80
_RELIABLE, _RETRANSMITS, _LIFETIME = 0, 1, 2


class Payload(IntEnum):
    """Payload protocol identifiers (RFC 8831 section 8)."""

    DCEP = 50
    TEXT = 51
    BINARY = 53
    EMPTY_TEXT = 56
    EMPTY_BINARY = 57


class DataDrop(StrEnum):
    """Why a packet, a chunk, a message or a channel came to nothing."""

    NO_CHANNEL = "no_channel"  # on a stream where none was opened, or to a peer that has none for it
    TOO_MANY_CHANNELS = "too_many_channels"
    BAD_OPEN = "bad_open"  # malformed, or on a stream in use or out of range
    BAD_PAYLOAD = "bad_payload"  # of an unknown kind, or text that is no UTF-8
    TOO_LARGE = "too_large"  # longer than we take; its channel is closed
    TOO_LARGE_FOR_PEER = "too_large_for_peer"
    QUEUE_FULL = "queue_full"  # on a channel that may lose messages
    SLOW_READER = "slow_reader"  # on one that may not: it is closed
    EXPIRED = "expired"  # its lifetime ended before it could be sent
    BAD_PACKET = "bad_packet"  # lengths that lie, or an acknowledgement of what was not sent
    RATE_LIMITED = "rate_limited"  # a chunk over the rate; it comes again
    AHEAD = "ahead"  # a chunk too far ahead of what is missing; it comes again
    ASSOCIATION = "association"  # SCTP ended because the peer broke its rules


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """What a data channel is opened as; at most one of the two limits is set."""

    label: str
    protocol: str = ""
    is_ordered: bool = True
    max_retransmits: int | None = None
    max_lifetime_ms: int | None = None

    @property
    def is_reliable(self) -> bool:
        return self.max_retransmits is None and self.max_lifetime_ms is None

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """Return what a DATA_CHANNEL_OPEN message says, None if it is none that we take.

        RFC 8832 section 5.1.
        """
        if len(data) < _OPEN_FORMAT.size or data[0] != _OPEN:
            return None
        _, type_, _, limit, label_bytes, protocol_bytes = _OPEN_FORMAT.unpack_from(data)
        reliability = type_ & ~_UNORDERED
        texts = data[_OPEN_FORMAT.size :]
        if reliability > _LIFETIME or max(label_bytes, protocol_bytes) > MAX_LABEL_BYTES:
            return None
        if len(texts) != label_bytes + protocol_bytes:
            return None
        try:
            label, protocol = texts[:label_bytes].decode(), texts[label_bytes:].decode()
        except UnicodeDecodeError:
            return None
        return cls(
            label,
            protocol,
            is_ordered=not type_ & _UNORDERED,
            max_retransmits=limit if reliability == _RETRANSMITS else None,
            max_lifetime_ms=limit if reliability == _LIFETIME else None,
        )

    def write(self) -> bytes:
        """Return the DATA_CHANNEL_OPEN message for a channel like this."""
        type_, limit = _RELIABLE, 0
        if self.max_retransmits is not None:
            type_, limit = _RETRANSMITS, self.max_retransmits
        elif self.max_lifetime_ms is not None:
            type_, limit = _LIFETIME, self.max_lifetime_ms
        if not self.is_ordered:
            type_ |= _UNORDERED
        label, protocol = self.label.encode(), self.protocol.encode()
        return _OPEN_FORMAT.pack(_OPEN, type_, 0, limit, len(label), len(protocol)) + label + protocol


@dataclass(frozen=True, slots=True)
class DataMessage:
    """A message, and the kind of channel that it came on."""

    channel: ChannelKind
    is_text: bool
    payload: bytes  # of text its UTF-8, checked
