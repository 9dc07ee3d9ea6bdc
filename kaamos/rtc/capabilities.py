"""The codecs, feedback and header extensions that Kaamos accepts.

A codec's place in :data:`CODECS` is its identity across all peers (``codec_id``): what a publisher sends
as codec 1 goes to those subscribers whose section has a payload type for codec 1.  :func:`preference` is
the room's order.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kaamos.media.description import Extension, Kind, PayloadFormat
from kaamos.rtc.sdp import RtpMap, format_parameters


class H264Profile(StrEnum):
    """Profiles of RFC 6184 section 8.1; the value is the ``profile-level-id`` we offer, at level 3.1."""

    CONSTRAINED_BASELINE = "42e01f"
    BASELINE = "42001f"
    MAIN = "4d001f"
    CONSTRAINED_HIGH = "640c1f"
    HIGH = "64001f"
    HIGH_444 = "f4001f"


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec we accept; two payload types are the same codec if every field here is equal."""

    kind: Kind
    rtpmap: RtpMap
    format: PayloadFormat
    profile: str | None = None  # H.264: an H264Profile; VP9, H.265: profile-id; AV1: profile; others: None
    packetization_mode: int = 0  # H.264 only: 0 or 1 (RFC 6184 section 6.2)

    @property
    def name(self) -> str:
        """The encoding name as ``a=rtpmap`` usually spells it."""
        encoding = self.rtpmap.encoding
        return encoding if encoding in ("opus", "red") else encoding.upper()

    @property
    def rtpmap_text(self) -> str:
        """What follows the payload type in ``a=rtpmap``."""
        text = f"{self.name}/{self.rtpmap.clock_rate}"
        return f"{text}/{self.rtpmap.channels}" if self.rtpmap.channels > 1 else text


def _codecs() -> Iterator[Codec]:
    yield Codec(Kind.AUDIO, RtpMap("opus", 48000, 2), PayloadFormat.OPAQUE)
    yield Codec(Kind.VIDEO, RtpMap("vp8", 90000, 1), PayloadFormat.VP8)
    for profile in H264Profile:
        for mode in (1, 0):
            yield Codec(Kind.VIDEO, RtpMap("h264", 90000, 1), PayloadFormat.H264, profile, mode)
    for profile_id in ("0", "2"):  # 8 and 10 bits, 4:2:0
        yield Codec(Kind.VIDEO, RtpMap("vp9", 90000, 1), PayloadFormat.VP9, profile_id)
    yield Codec(Kind.VIDEO, RtpMap("av1", 90000, 1), PayloadFormat.AV1, "0")  # Main
    yield Codec(Kind.AUDIO, RtpMap("pcmu", 8000, 1), PayloadFormat.OPAQUE)
    yield Codec(Kind.AUDIO, RtpMap("pcma", 8000, 1), PayloadFormat.OPAQUE)
    for profile_id in ("1", "2"):  # Main, Main 10
        yield Codec(Kind.VIDEO, RtpMap("h265", 90000, 1), PayloadFormat.H265, profile_id)
    yield Codec(Kind.AUDIO, RtpMap("red", 48000, 2), PayloadFormat.RED)  # Opus with its last frames once more


CODECS: tuple[Codec, ...] = tuple(_codecs())
OPUS = next(codec_id for codec_id, codec in enumerate(CODECS) if codec.rtpmap.encoding == "opus")
RED = next(codec_id for codec_id, codec in enumerate(CODECS) if codec.format is PayloadFormat.RED)


def decodable_as(codec_id: int) -> int:
    """Return the codec that whoever gets this one has to know: Opus for RED, which goes out without it."""
    return OPUS if codec_id == RED else codec_id


def preference(codec_id: int) -> int:
    """Return a codec's rank in the room, lowest first; codecs of one rank stay in the order a peer gives.

    Whether Opus goes with redundancy is for its publisher to say, by which of the two it puts first.
    """
    return decodable_as(codec_id)


# In the order of preference.
CODEC_IDS: Mapping[Kind, tuple[int, ...]] = {
    kind: tuple(sorted((id for id, codec in enumerate(CODECS) if codec.kind is kind), key=preference))
    for kind in Kind
}

# What these payload types mean without an a=rtpmap (RFC 3551 section 6).
STATIC_RTPMAPS: Mapping[Kind, Mapping[int, RtpMap]] = {
    Kind.AUDIO: {0: RtpMap("pcmu", 8000, 1), 8: RtpMap("pcma", 8000, 1)},
    Kind.VIDEO: {},
}

RTX = RtpMap("rtx", 90000, 1)  # RFC 4588: repeats of a video codec, which its "apt" parameter names

# RTCP feedback (RFC 4585, RFC 5104) we act on.
FEEDBACK: Mapping[Kind, tuple[str, ...]] = {
    Kind.AUDIO: (),
    Kind.VIDEO: ("nack", "nack pli", "ccm fir"),
}
# The feedback that goes with Extension.TRANSPORT_CC: from us to peers that send, never the other way.  A peer
# that only receives keeps both in its sections: Chromium offers later ones with what earlier ones agreed on.
TRANSPORT_CC_FEEDBACK = "transport-cc"

EXTENSION_URIS: Mapping[Extension, str] = {
    Extension.MID: "urn:ietf:params:rtp-hdrext:sdes:mid",
    Extension.AUDIO_LEVEL: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    Extension.VIDEO_ORIENTATION: "urn:3gpp:video-orientation",
    Extension.PLAYOUT_DELAY: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    Extension.ABS_CAPTURE_TIME: "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    Extension.DEPENDENCY_DESCRIPTOR: (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    ),
    Extension.ABS_SEND_TIME: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    Extension.TRANSPORT_CC: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    Extension.RID: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    Extension.REPAIRED_RID: "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
}

# What a section of ours offers, the most needed first: a peer may have left few ids.  Of what a peer offers
# we take all that we know, whatever the kind of the section.
EXTENSIONS: Mapping[Kind, tuple[Extension, ...]] = {
    Kind.AUDIO: (
        Extension.MID,
        Extension.AUDIO_LEVEL,
        Extension.TRANSPORT_CC,
        Extension.ABS_SEND_TIME,
        Extension.ABS_CAPTURE_TIME,
    ),
    Kind.VIDEO: (
        Extension.MID,
        Extension.TRANSPORT_CC,
        Extension.RID,
        Extension.REPAIRED_RID,
        Extension.VIDEO_ORIENTATION,
        Extension.PLAYOUT_DELAY,
        Extension.DEPENDENCY_DESCRIPTOR,
        Extension.ABS_SEND_TIME,
        Extension.ABS_CAPTURE_TIME,
    ),
}

_EXTENSION_OF = {uri: extension for extension, uri in EXTENSION_URIS.items()}
_CODEC_ID = {codec: codec_id for codec_id, codec in enumerate(CODECS)}
_FORMATS = {(codec.kind, codec.rtpmap): codec.format for codec in CODECS}
_STATIC_PAYLOAD_TYPES = {
    (kind, rtpmap): payload_type
    for kind, rtpmaps in STATIC_RTPMAPS.items()
    for payload_type, rtpmap in rtpmaps.items()
}

# In-band FEC is inside the Opus payload, which we pass on; 10 ms is the shortest frame browsers send.
# What others publish may be stereo, but no sprop-stereo says so: it is a hint (RFC 7587 section 6.1), and
# GStreamer refuses a section that has another value than its encoder. Who wants stereo says stereo=1.
_OPUS_FMTP = "minptime=10;useinbandfec=1"

# What makes a publisher encode otherwise than it would for a single listener: an answer asks for what the
# offer said, as a peer of the same making would.  Values by RFC 7587 section 6.1; others are not repeated.
_OPUS_WISHES: Mapping[str, re.Pattern[str]] = {
    "stereo": re.compile("1"),
    "usedtx": re.compile("1"),
    "cbr": re.compile("1"),
    "maxaveragebitrate": re.compile(r"[1-9][0-9]{3,5}", re.ASCII),
}

# What an answer repeats of the offer's format parameters.
_REPEATED: Mapping[PayloadFormat, tuple[str, ...]] = {
    PayloadFormat.H264: ("level-asymmetry-allowed", "packetization-mode", "profile-level-id"),
    PayloadFormat.VP9: ("profile-id",),
    PayloadFormat.AV1: ("level-idx", "profile", "tier"),
    PayloadFormat.H265: ("level-id", "profile-id", "tier-flag", "tx-mode"),
}

# profile_idc and a pattern over profile_iop, both as in RFC 6184 table 5; x: either bit.
_H264_PATTERNS: tuple[tuple[int, str, H264Profile], ...] = (
    (0x42, "x1xx0000", H264Profile.CONSTRAINED_BASELINE),
    (0x4D, "1xxx0000", H264Profile.CONSTRAINED_BASELINE),
    (0x58, "11xx0000", H264Profile.CONSTRAINED_BASELINE),
    (0x42, "x0xx0000", H264Profile.BASELINE),
    (0x58, "10xx0000", H264Profile.BASELINE),
    (0x4D, "0x0x0000", H264Profile.MAIN),
    (0x64, "00001100", H264Profile.CONSTRAINED_HIGH),
    (0x64, "00000000", H264Profile.HIGH),
    (0xF4, "00000000", H264Profile.HIGH_444),
)
_PROFILE_LEVEL_ID = re.compile(r"[0-9A-Fa-f]{6}")


def extension_of(uri: str) -> Extension | None:
    """Return the extension with this URI, None for one that we do not know."""
    return _EXTENSION_OF.get(uri)


def find_codec(kind: Kind, rtpmap: RtpMap, fmtp: str) -> int | None:
    """Return the codec_id of what a peer describes, or None if it is none of ours."""
    payload_format = _FORMATS.get((kind, rtpmap))
    if payload_format is None:
        return None
    profile, mode = _profile_and_mode(payload_format, fmtp)
    return _CODEC_ID.get(Codec(kind, rtpmap, payload_format, profile, mode))


def static_payload_type(codec_id: int) -> int | None:
    """Return the payload type that RFC 3551 gives to a codec, None for a dynamic one."""
    codec = CODECS[codec_id]
    return _STATIC_PAYLOAD_TYPES.get((codec.kind, codec.rtpmap))


def _profile_and_mode(payload_format: PayloadFormat, fmtp: str) -> tuple[str | None, int]:
    """Return what tells codecs of one name apart; values that belong to none of ours stand for nothing."""
    match payload_format:
        case PayloadFormat.H264:
            parameters = format_parameters(fmtp)
            # RFC 6184 makes a missing profile-level-id Baseline level 1; libwebrtc and aiortc both read it
            # as Constrained Baseline level 3.1, and whoever leaves it out talks to them.
            profile = h264_profile(parameters.get("profile-level-id", "42e01f"))
            mode = parameters.get("packetization-mode", "0")
            return profile, int(mode) if mode in ("0", "1") else -1
        case PayloadFormat.VP9:  # RFC 9628 section 6: profile 0 where none is given
            return format_parameters(fmtp).get("profile-id", "0"), 0
        case PayloadFormat.AV1:  # AV1 RTP specification, section 7.2.1: likewise
            return format_parameters(fmtp).get("profile", "0"), 0
        case PayloadFormat.H265:
            return _h265_profile(format_parameters(fmtp)), 0
        case _:
            return None, 0


def _h265_profile(parameters: Mapping[str, str]) -> str | None:
    """Return ``profile-id`` where the others say what browsers say (RFC 7798 section 7.1; defaults too)."""
    is_main_tier = parameters.get("tier-flag", "0") == "0"
    is_one_stream = parameters.get("tx-mode", "SRST").upper() == "SRST"
    return parameters.get("profile-id", "1") if is_main_tier and is_one_stream else None


def h264_profile(profile_level_id: str) -> H264Profile | None:
    """Return the profile that six hexadecimal digits name, None for one that no browser offers."""
    if not _PROFILE_LEVEL_ID.fullmatch(profile_level_id):
        return None
    idc, iop = int(profile_level_id[:2], 16), int(profile_level_id[2:4], 16)
    for profile_idc, pattern, profile in _H264_PATTERNS:
        mask = int(pattern.replace("0", "1").replace("x", "0"), 2)
        if idc == profile_idc and iop & mask == int(pattern.replace("x", "0"), 2):
            return profile
    return None


def offer_fmtp(codec_id: int) -> str:
    """Return the format parameters with which we offer a codec, ``""`` for none; RED: :func:`red_fmtp`."""
    codec = CODECS[codec_id]
    match codec.format:
        case PayloadFormat.H264:
            return (
                f"level-asymmetry-allowed=1;packetization-mode={codec.packetization_mode}"
                f";profile-level-id={codec.profile}"
            )
        case PayloadFormat.VP9:
            return f"profile-id={codec.profile}"
        case PayloadFormat.AV1:
            return f"level-idx=5;profile={codec.profile};tier=0"  # level 3.1, what a missing one means
        case PayloadFormat.H265:  # likewise
            return f"level-id=93;profile-id={codec.profile};tier-flag=0;tx-mode=SRST"
        case _:
            return _OPUS_FMTP if codec_id == OPUS else ""


def answer_fmtp(codec_id: int, fmtp: str) -> str:
    """Return the format parameters with which we accept a codec that a peer described with ``fmtp``.

    H.264, H.265, VP9 and AV1 repeat the peer's own profile, level and mode: whatever it can receive we only
    pass on, and a repeated line can never be a downgrade (RFC 6184 section 8.2.2).
    """
    if codec_id == RED:
        return fmtp
    parameters = format_parameters(fmtp)
    if codec_id == OPUS:
        return ";".join([_OPUS_FMTP, *_opus_wishes(parameters)])
    names = _REPEATED.get(CODECS[codec_id].format)
    if names is None:
        return offer_fmtp(codec_id)
    return ";".join(f"{name}={parameters[name]}" for name in names if name in parameters)


def _opus_wishes(parameters: Mapping[str, str]) -> Iterator[str]:
    if parameters.get("sprop-stereo") == "1":  # a publisher that only sends says no stereo=1 of itself
        parameters = {**parameters, "stereo": "1"}
    for name, pattern in _OPUS_WISHES.items():
        if pattern.fullmatch(parameters.get(name, "")):
            yield f"{name}={parameters[name]}"


def red_fmtp(opus: int) -> str:
    """Return the format parameters of RED: an Opus frame, and one more (RFC 2198 section 5)."""
    return f"{opus}/{opus}"
