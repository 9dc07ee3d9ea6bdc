"""What the native engine is told: plain values, made by ``rtc`` and read by ``media.engine``.

Nothing here does anything; it is the vocabulary that the SDP side and the packet side share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple, NewType

TransportId = NewType("TransportId", int)
UpTrackId = NewType("UpTrackId", int)
DownTrackId = NewType("DownTrackId", int)


class Kind(StrEnum):
    """Media kind, as in an ``m=`` line."""

    AUDIO = "audio"
    VIDEO = "video"


class PayloadFormat(IntEnum):
    """How the engine reads a payload descriptor to find key frames."""

    OPAQUE = 0  # audio: every packet stands alone
    VP8 = 1  # RFC 7741
    H264 = 2  # RFC 6184
    VP9 = 3  # RFC 9628
    AV1 = 4  # AV1 RTP specification, section 4
    RED = 5  # RFC 2198: the newest frame and copies of the ones before it
    H265 = 6  # RFC 7798


class Extension(IntEnum):
    """Header extensions that the engine reads or writes (RFC 8285); the value is its native number."""

    MID = 0  # urn:ietf:params:rtp-hdrext:sdes:mid, RFC 9143: written anew for each subscriber
    # Sent on as they came:
    AUDIO_LEVEL = 1  # urn:ietf:params:rtp-hdrext:ssrc-audio-level, RFC 6464
    VIDEO_ORIENTATION = 2  # urn:3gpp:video-orientation
    PLAYOUT_DELAY = 3  # http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
    ABS_CAPTURE_TIME = 4  # http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time
    DEPENDENCY_DESCRIPTOR = 5  # AV1 RTP specification, appendix A; may need a two-byte header
    # Between one peer and us:
    ABS_SEND_TIME = 6  # http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
    TRANSPORT_CC = 7  # draft-holmer-rmcat-transport-wide-cc-extensions-01: read from publishers only
    RID = 8  # urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id, RFC 8852: read from publishers only
    REPAIRED_RID = 9  # urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id, RFC 8852: likewise


class SrtpProfile(IntEnum):
    """DTLS-SRTP protection profiles we negotiate; values are the IANA numbers (RFC 5764, RFC 7714)."""

    AES128_CM_SHA1_80 = 0x0001
    AEAD_AES_128_GCM = 0x0007
    AEAD_AES_256_GCM = 0x0008

    @property
    def key_and_salt_bytes(self) -> int:
        """Length of one direction's master key followed by its master salt."""
        return {0x0001: 30, 0x0007: 28, 0x0008: 44}[self.value]


class Path(NamedTuple):
    """How a transport is reached: where it sends from, and which of our addresses it sends to."""

    remote_ip: str
    remote_port: int
    local_ip: str


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Keying material of one DTLS association: master key then master salt, for each direction."""

    profile: SrtpProfile
    local: bytes = field(repr=False)  # we protect with it
    remote: bytes = field(repr=False)  # the peer protects with it


@dataclass(frozen=True, slots=True)
class UpCodec:
    """One payload type that a publisher may send in a section."""

    payload_type: int
    codec_id: int  # index into capabilities.CODECS: the codec's identity across all peers
    format: PayloadFormat
    clock_rate: int


@dataclass(frozen=True, slots=True)
class UpTrackConfig:
    """A section in which the peer sends."""

    mid: str
    kind: Kind
    codecs: tuple[UpCodec, ...]
    ssrcs: tuple[int, ...]  # announced in SDP; may be empty, then mid or payload type decide
    extensions: Mapping[Extension, int]  # id in this peer's numbering, 1..14
    pli: bool  # the peer understands PLI (RFC 4585)
    fir: bool  # the peer understands FIR (RFC 5104)
    nack: bool = False  # the peer repeats what a generic NACK names
    transport_cc: bool = False  # the peer wants transport-wide feedback on what it sends
    rtx_payload_types: Mapping[int, int] = field(default_factory=dict)  # RTX type -> media type (RFC 4588)
    rtx_ssrcs: Mapping[int, int] = field(default_factory=dict)  # RTX SSRC -> media SSRC, where FID groups say
    rids: tuple[str, ...] = ()  # of simulcast, lowest quality first, at most 4; empty: one encoding


@dataclass(frozen=True, slots=True)
class DownTrackConfig:
    """A slot: a section in which we send, with one SSRC for the life of the association."""

    mid: str
    kind: Kind
    ssrc: int
    payload_types: Mapping[int, int]  # codec_id -> payload type in this peer's numbering
    extensions: Mapping[Extension, int]  # id in this peer's numbering, 1..14
    nack: bool  # the peer sends generic NACK
    cname: str  # canonical name of the SDES item that goes with our sender reports
    # codec_id -> RTX payload type.  Empty: repeats are the stored ciphertext itself (design 1.4).
    rtx_payload_types: Mapping[int, int] = field(default_factory=dict)
    rtx_ssrc: int = 0  # for life, like ssrc; 0 where there is no RTX
    # Header extensions longer than 16 bytes may be sent: both sides said a=extmap-allow-mixed (RFC 8285).
    allows_two_byte: bool = False
