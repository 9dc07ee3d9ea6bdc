"""One media section: what the peer says of it, what we keep of it, and how we write it.

:class:`PeerSection` is a checked view of the peer's text; :class:`Section` is the state that lives as long
as the mid does.  Which description may come when is :mod:`kaamos.rtc.negotiation`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, NewType
from urllib.parse import quote

from kaamos.media.description import (
    DownTrackConfig,
    Extension,
    Kind,
    UpCodec,
    UpTrackConfig,
)
from kaamos.rtc.application import SctpParameters, read_sctp, write_sctp
from kaamos.rtc.capabilities import (
    CODECS,
    EXTENSION_URIS,
    FEEDBACK,
    OPUS,
    RED,
    RTX,
    STATIC_RTPMAPS,
    TRANSPORT_CC_FEEDBACK,
    answer_fmtp,
    decodable_as,
    extension_of,
    find_codec,
    preference,
    red_fmtp,
)
from kaamos.rtc.numbering import NumberedCodec
from kaamos.rtc.sdp import Direction, Draft, Media, SdpError, format_parameters
from kaamos.rtc.simulcast import Rid, read_rids, write_rids

Mid = NewType("Mid", str)

MAX_SSRCS = 16  # a section, retransmission and FEC streams not counted (design: demultiplexing)

RTP_PROTOCOL = "UDP/TLS/RTP/SAVPF"
# What an answerer must take besides (RFC 9429 section 5.1.2).
_RTP_PROTOCOLS = frozenset((RTP_PROTOCOL, "TCP/DTLS/RTP/SAVPF", "RTP/SAVPF"))
_PAYLOAD_TYPE = re.compile(r"[0-9]{1,3}", re.ASCII)
_MUXED_AWAY = range(64, 96)  # payload types that rtcp-mux cannot tell from RTCP (RFC 5761 section 4)
_REPAIR_GROUPS = frozenset(("FID", "FEC-FR"))  # RFC 5576 section 4.2, RFC 5956: all but the first are repair


class Playing(NamedTuple):
    """What a section shows to the peer."""

    stream_id: str
    track_id: str

    @property
    def msid(self) -> str:
        """The value of ``a=msid``; ``%`` and what is no token (RFC 8830 section 2) become ``%XX``."""
        return f"{_msid_part(self.stream_id)} {_msid_part(self.track_id)}"


def _msid_part(text: str) -> str:
    return quote(text, safe="!#$&'*+^`{|}") or "-"


@dataclass(frozen=True, slots=True)
class UpSection:
    """A section in which the peer sends now."""

    mid: Mid
    kind: Kind
    config: UpTrackConfig
    msid: tuple[str, str] | None  # the peer's own stream and track id


@dataclass(frozen=True, slots=True)
class DownSection:
    """A section in which the peer can receive; stream and track are None while it is free."""

    mid: Mid
    kind: Kind
    config: DownTrackConfig
    stream_id: str | None
    track_id: str | None


@dataclass(frozen=True, slots=True)
class PeerSection:
    """A media section as the peer described it, checked, reduced to what we can use.

    ``codecs`` is in our order of preference and empty for anything that is not audio or video we speak.
    """

    media: Media
    mid: str | None
    kind: Kind | None
    direction: Direction
    codecs: tuple[NumberedCodec, ...]
    spare_codecs: tuple[NumberedCodec, ...]  # a codec once more, under a further payload type
    foreign_payload_types: Mapping[int, int | None]  # with the one it repeats, for RTX
    transport_cc: frozenset[int]  # payload types with that feedback
    extensions: Mapping[Extension, tuple[int, Direction]]  # id 1..14, direction as the peer means it
    foreign_extension_ids: frozenset[int]
    ssrcs: tuple[int, ...]  # of media
    rtx_ssrcs: Mapping[int, int]  # SSRC of repeats -> SSRC of media
    msid: tuple[str, str] | None
    sctp: SctpParameters | None = None  # of data channels
    rids: tuple[Rid, ...] = ()  # of simulcast, if the peer sends

    @property
    def is_shared(self) -> bool:
        """Both sides speak something of it: a codec, or SCTP."""
        return bool(self.codecs) or self.sctp is not None

    @property
    def is_usable(self) -> bool:
        """It has something in common with us and is not refused by its port (RFC 9143 section 6)."""
        return self.is_shared and (self.media.port != 0 or self.media.has("bundle-only"))


def read_section(media: Media, session_direction: Direction | None) -> PeerSection:
    """Check one section of a peer's description.

    Raises:
        SdpError: an attribute that we use is malformed or contradicts another one.
    """
    _ = media.candidates  # refused when malformed, otherwise unused (design 1.1)
    kind = Kind(media.media) if media.media in tuple(Kind) else None
    if kind is None or media.protocol not in _RTP_PROTOCOLS:
        no: frozenset[int] = frozenset()
        other = PeerSection(media, media.mid, kind, Direction.INACTIVE, (), (), {}, no, {}, no, (), {}, None)
        return replace(other, sctp=read_sctp(media))
    codecs, spare, foreign = _read_codecs(kind, media)
    extensions: dict[Extension, tuple[int, Direction]] = {}
    foreign_ids = set()
    for extmap in media.extmaps:
        extension = extension_of(extmap.uri)
        if extension is None or extmap.id > 14 or extension in extensions:
            foreign_ids.add(extmap.id)
        else:
            extensions[extension] = (extmap.id, extmap.direction)
    direction = media.direction or session_direction or Direction.SENDRECV
    ssrcs, rtx_ssrcs = _read_ssrcs(media)
    rids: tuple[Rid, ...] = ()
    if kind is Kind.VIDEO and direction.sends:
        rids = read_rids(media, {codec.payload_type for codec in codecs})
    return PeerSection(
        media=media,
        mid=media.mid,
        kind=kind,
        direction=direction,
        codecs=codecs,
        spare_codecs=spare,
        foreign_payload_types=foreign,
        transport_cc=_read_transport_cc(media),
        extensions=extensions,
        foreign_extension_ids=frozenset(foreign_ids),
        ssrcs=ssrcs,
        rtx_ssrcs=rtx_ssrcs,
        msid=media.msid,
        rids=rids,
    )


def _read_codecs(
    kind: Kind, media: Media
) -> tuple[tuple[NumberedCodec, ...], tuple[NumberedCodec, ...], Mapping[int, int | None]]:
    """Return the codecs we share, best first; those that come once more; the payload types of all others."""
    rtpmaps, fmtps, feedback = media.rtpmaps, media.fmtps, media.feedback
    for_all = feedback.get(None, set())
    found: dict[int, NumberedCodec] = {}  # by payload type
    foreign: dict[int, int | None] = {}
    for payload_type in media.payload_types:
        rtpmap = rtpmaps.get(payload_type) or STATIC_RTPMAPS[kind].get(payload_type)
        fmtp = fmtps.get(payload_type, "")
        codec_id = None
        if rtpmap is not None and payload_type not in _MUXED_AWAY:
            codec_id = find_codec(kind, rtpmap, fmtp)
        if codec_id is None:
            foreign[payload_type] = _repeated(fmtp) if kind is Kind.VIDEO and rtpmap == RTX else None
            continue
        offered = feedback.get(payload_type, set()) | for_all
        accepted = tuple(item for item in FEEDBACK[kind] if item in offered)
        found[payload_type] = NumberedCodec(payload_type, codec_id, answer_fmtp(codec_id, fmtp), accepted)
    for rtx, repeated in list(foreign.items()):
        codec = None if repeated is None else found.get(repeated)
        if codec is not None and codec.rtx is None and rtx not in _MUXED_AWAY:
            found[codec.payload_type] = replace(codec, rtx=rtx)
            del foreign[rtx]
    opus = next((codec.payload_type for codec in found.values() if codec.codec_id == OPUS), None)
    for codec in list(found.values()):
        if codec.codec_id == RED and (opus is None or codec.fmtp != red_fmtp(opus)):
            foreign[codec.payload_type] = None  # it repeats something else than the Opus beside it
            del found[codec.payload_type]
    best: dict[int, NumberedCodec] = {}
    spare = [codec for codec in found.values() if best.setdefault(codec.codec_id, codec) is not codec]
    return tuple(best[codec_id] for codec_id in sorted(best, key=preference)), tuple(spare), foreign


def _read_transport_cc(media: Media) -> frozenset[int]:
    """Return the payload types for which the peer takes transport-wide feedback."""
    feedback = media.feedback
    for_all = TRANSPORT_CC_FEEDBACK in feedback.get(None, ())
    return frozenset(
        payload_type
        for payload_type in media.payload_types
        if for_all or TRANSPORT_CC_FEEDBACK in feedback.get(payload_type, ())
    )


def _has_rcvr_rtt(media: Media) -> bool:
    """The peer wants to learn the round-trip time where it only receives (RFC 3611 section 5.1)."""
    formats = (item for value in media.all("rtcp-xr") for item in value.split(" "))
    return any(item.partition(":")[0] == "rcvr-rtt=all" for item in formats)


def _repeated(fmtp: str) -> int | None:
    """Return the payload type that ``apt`` names (RFC 4588 section 8.1), None for anything else."""
    number = format_parameters(fmtp).get("apt", "")
    return int(number) if _PAYLOAD_TYPE.fullmatch(number) else None


def _read_ssrcs(media: Media) -> tuple[tuple[int, ...], Mapping[int, int]]:
    """Return the SSRCs of media, and those of their repeats with the media each belongs to.

    FEC streams are left out: they are not negotiated.
    """
    groups = [group for group in media.ssrc_groups if group.semantics in _REPAIR_GROUPS]
    repair = {ssrc for group in groups for ssrc in group.ssrcs[1:]}
    ssrcs = tuple(ssrc for ssrc in media.ssrcs if ssrc not in repair)
    rtx_ssrcs: dict[int, int] = {}
    for group in groups:
        for rtx in group.ssrcs[1:]:
            is_known = group.semantics == "FID" and group.ssrcs[0] in ssrcs
            if is_known and rtx_ssrcs.setdefault(rtx, group.ssrcs[0]) != group.ssrcs[0]:
                raise SdpError("an SSRC repeats two others")
    if len(ssrcs) > MAX_SSRCS or len(rtx_ssrcs) > MAX_SSRCS:
        raise SdpError(f"more than {MAX_SSRCS} SSRCs in a section")
    return ssrcs, rtx_ssrcs


def _up_codec(codec: NumberedCodec) -> UpCodec:
    ours = CODECS[codec.codec_id]
    return UpCodec(codec.payload_type, codec.codec_id, ours.format, ours.rtpmap.clock_rate)


class Section:
    """The state of one mid, for as long as the connection lives.

    Directions are kept as four facts: what the peer last said it does, and what we last said we do.
    """

    __slots__ = (
        "_codecs",
        "_extensions",
        "_formats",
        "_is_mixed_here",
        "_rids",
        "_transport_cc",
        "allows_mixed",
        "codec_ids",
        "has_rcvr_rtt",
        "has_rsize",
        "is_rejected",
        "kind",
        "media_name",
        "mid",
        "msid",
        "peer_receives",
        "peer_sends",
        "playing",
        "protocol",
        "rtx_ssrc",
        "rtx_ssrcs",
        "said_receives",
        "said_sends",
        "sctp",
        "ssrc",
        "ssrcs",
        "told",
    )

    def __init__(self, mid: Mid | None, kind: Kind | None, media_name: str, protocol: str) -> None:
        self.mid = mid  # None: a section that its peer gave no mid, always rejected
        self.kind = kind
        self.media_name = media_name
        self.protocol = protocol
        self.is_rejected = False  # port 0 on one side or the other
        self.peer_sends = False
        self.peer_receives = False
        self.said_sends = False
        self.said_receives = False
        self.ssrc: int | None = None  # ours; given once, at the first chance to send
        self.rtx_ssrc: int | None = None  # likewise, at the first chance to repeat
        self.playing: Playing | None = None  # wanted
        self.told: Playing | None = None  # what the peer knows and has agreed to
        self.ssrcs: tuple[int, ...] = ()  # the peer's
        self.rtx_ssrcs: Mapping[int, int] = {}  # the peer's
        self.msid: tuple[str, str] | None = None
        self.sctp: SctpParameters | None = None  # the peer's, while data channels are wanted
        self.has_rsize = True
        self.has_rcvr_rtt = True
        self.allows_mixed = False  # two-byte header extensions beside one-byte ones (RFC 8285 section 6)
        self._is_mixed_here = False  # the peer said so in this section, not for the session
        self._rids: tuple[Rid, ...] = ()
        self._formats: tuple[str, ...] = ()  # as the peer listed them, to refuse the section with
        # What it may carry, by capabilities.decodable_as; all that we offer until answered.
        self.codec_ids: frozenset[int] = frozenset()
        self._codecs: tuple[NumberedCodec, ...] = ()
        self._extensions: dict[Extension, tuple[int, Direction]] = {}
        self._transport_cc: frozenset[int] = frozenset()  # payload types with feedback from us

    def propose(self, codecs: tuple[NumberedCodec, ...], extensions: Mapping[Extension, int]) -> None:
        """Set what a section of ours offers."""
        self._keep_codecs(codecs)
        self._extensions = {ext: (number, Direction.SENDRECV) for ext, number in extensions.items()}
        self._transport_cc = frozenset(codec.payload_type for codec in codecs)
        if Extension.TRANSPORT_CC not in extensions:
            self._transport_cc = frozenset()

    def _keep_codecs(self, codecs: tuple[NumberedCodec, ...]) -> None:
        self._codecs = codecs
        self.codec_ids = frozenset(decodable_as(codec.codec_id) for codec in codecs)

    def take(self, peer: PeerSection, extensions: frozenset[Extension], *, allows_mixed: bool) -> None:
        """Take over what the peer says of a section we both use; ``extensions`` are those it may use.

        ``allows_mixed``: the peer's session part has ``a=extmap-allow-mixed``.
        """
        self.is_rejected = False
        self.protocol = peer.media.protocol
        self.has_rsize = peer.media.has("rtcp-rsize")
        self.ssrcs = peer.ssrcs
        self.rtx_ssrcs = peer.rtx_ssrcs
        self.msid = peer.msid
        self.sctp = peer.sctp
        self.has_rcvr_rtt = _has_rcvr_rtt(peer.media)
        self._keep_codecs(peer.codecs)
        self._rids = peer.rids
        self._is_mixed_here = peer.media.has("extmap-allow-mixed")
        self.allows_mixed = allows_mixed or self._is_mixed_here
        self._extensions = {ext: item for ext, item in peer.extensions.items() if ext in extensions}
        self._transport_cc = peer.transport_cc.intersection(codec.payload_type for codec in peer.codecs)
        self._drop_send_times(peer.direction)

    def _drop_send_times(self, peer_direction: Direction) -> None:
        """Leave out what numbers or dates the packets at the moment they are sent, where that is of no use.

        Towards a subscriber without RTX a repeat is the stored ciphertext, in which nothing can change.
        """
        # The extension and the feedback are worth nothing without each other.
        _, way = self._extensions.get(Extension.TRANSPORT_CC, (0, Direction.INACTIVE))
        is_frozen = self.kind is Kind.VIDEO and peer_direction.receives and not self.has_rtx
        if not self._transport_cc or not way.sends or (is_frozen and not peer_direction.sends):
            self._extensions.pop(Extension.TRANSPORT_CC, None)
            self._transport_cc = frozenset()
        if is_frozen:
            self._extensions.pop(Extension.ABS_SEND_TIME, None)

    def reject(self, peer: PeerSection) -> None:
        """Nothing flows here any more, and nothing plays."""
        self.protocol = peer.media.protocol
        self._formats = tuple(peer.media.formats)
        self.stop()

    def stop(self) -> None:
        """The section is out of use."""
        self.is_rejected = True
        self.sctp = None
        self.peer_sends = self.peer_receives = self.said_sends = self.said_receives = False
        self.playing = self.told = None

    def refuse_down(self) -> None:
        """The peer does not receive here: what played has to find another place."""
        self.peer_receives = False
        self.playing = self.told = None

    def offered_part(self, peer: PeerSection) -> PeerSection:
        """Return an answered section without what we had not offered there."""
        offered = {codec.codec_id: codec for codec in self._codecs}
        rids = {rid.id for rid in self._rids}
        return replace(
            peer,
            codecs=tuple(
                codec if offered[codec.codec_id].rtx is not None else replace(codec, rtx=None)
                for codec in peer.codecs
                if codec.codec_id in offered
            ),
            transport_cc=peer.transport_cc if self._transport_cc else frozenset(),
            rids=tuple(rid for rid in peer.rids if rid.id in rids),
        )

    @property
    def has_rtx(self) -> bool:
        """Repeats are offered or negotiated for at least one codec."""
        return any(codec.rtx is not None for codec in self._codecs)

    @property
    def is_sendable(self) -> bool:
        """What plays here is what the peer was told and agreed to."""
        return (
            self.said_sends and self.peer_receives and self.playing is not None and self.playing == self.told
        )

    @property
    def is_showing(self) -> bool:
        """The peer was told of something that plays here, and agreed."""
        return self.said_sends and self.peer_receives and self.told is not None

    @property
    def wanted_direction(self) -> Direction:
        """The direction our next description gives; we receive whatever the peer sends."""
        sends = self.peer_receives and self.playing is not None
        return Direction.of(sends=sends, receives=self.peer_sends)

    def up_section(self) -> UpSection | None:
        """The section as one the peer sends in, None while it may not."""
        if self.mid is None or self.kind is None or not (self.peer_sends and self.said_receives):
            return None
        feedback = {item for codec in self._codecs for item in codec.feedback}
        extensions = {ext: number for ext, (number, way) in self._extensions.items() if way.sends}
        config = UpTrackConfig(
            mid=self.mid,
            kind=self.kind,
            codecs=tuple(map(_up_codec, self._codecs)),
            ssrcs=self.ssrcs,
            extensions=extensions,
            pli="nack pli" in feedback,
            fir="ccm fir" in feedback,
            nack="nack" in feedback,
            transport_cc=bool(self._transport_cc),
            rtx_payload_types={
                codec.rtx: codec.payload_type for codec in self._codecs if codec.rtx is not None
            },
            rtx_ssrcs=self.rtx_ssrcs if self.has_rtx else {},
            rids=tuple(rid.id for rid in self._rids),
        )
        return UpSection(self.mid, self.kind, config, self.msid)

    def down_section(self, cname: str) -> DownSection | None:
        """The section as one the peer can receive in, None where it cannot."""
        if self.mid is None or self.kind is None or self.ssrc is None or not self.peer_receives:
            return None
        extensions = {
            ext: number
            for ext, (number, way) in self._extensions.items()
            if way.receives and ext <= Extension.ABS_SEND_TIME  # the others are for those who send to us
        }
        if not self.allows_mixed:
            # The one of a key frame is longer than 16 bytes, and without it those that follow mean nothing:
            # Chromium would throw them away.
            extensions.pop(Extension.DEPENDENCY_DESCRIPTOR, None)
        config = DownTrackConfig(
            mid=self.mid,
            kind=self.kind,
            ssrc=self.ssrc,
            payload_types={codec.codec_id: codec.payload_type for codec in self._codecs},
            extensions=extensions,
            nack=any("nack" in codec.feedback for codec in self._codecs),
            cname=cname,
            rtx_payload_types={codec.codec_id: codec.rtx for codec in self._codecs if codec.rtx is not None},
            rtx_ssrc=(self.rtx_ssrc or 0) if self.has_rtx else 0,
            allows_two_byte=self.allows_mixed,
        )
        playing = self.playing or (None, None)
        return DownSection(self.mid, self.kind, config, *playing)

    def write(
        self, direction: Direction, playing: Playing | None, address: tuple[str, int], cname: str
    ) -> Draft:
        """Return the section without its transport lines; ``address`` is the value of ``c=`` and the port."""
        if self.sctp is not None:
            return write_sctp(self.protocol, address, self.mid)
        numbers = (number for codec in self._codecs for number in (codec.payload_type, codec.rtx))
        formats = " ".join(str(number) for number in numbers if number is not None)
        media = Draft(f"m={self.media_name} {address[1]} {self.protocol} {formats}", f"c={address[0]}")
        media.add("mid", self.mid)
        for extension, (number, way) in self._extensions.items():
            suffix = "" if way is Direction.SENDRECV else f"/{way.reversed}"
            media.add("extmap", f"{number}{suffix} {EXTENSION_URIS[extension]}")
        if self._is_mixed_here:
            media.add("extmap-allow-mixed")
        media.add(direction)
        if direction.sends and playing is not None:
            media.add("msid", playing.msid)
        media.add("rtcp-mux")
        if self.has_rsize:
            media.add("rtcp-rsize")
        if self.has_rcvr_rtt:
            media.add("rtcp-xr", "rcvr-rtt=all")
        for codec in self._codecs:
            self._write_codec(media, codec)
        if direction.sends:
            ssrcs = (self.ssrc, self.rtx_ssrc) if self.has_rtx else (self.ssrc,)
            if self.has_rtx:
                media.add("ssrc-group", f"FID {self.ssrc} {self.rtx_ssrc}")
            for ssrc in ssrcs:
                media.add("ssrc", f"{ssrc} cname:{cname}")
        if direction.receives:
            write_rids(media, self._rids)
        return media

    def _write_codec(self, media: Draft, codec: NumberedCodec) -> None:
        """Append the lines of a codec and of its repeats."""
        number = codec.payload_type
        media.add("rtpmap", f"{number} {CODECS[codec.codec_id].rtpmap_text}")
        for item in codec.feedback:
            media.add("rtcp-fb", f"{number} {item}")
        if number in self._transport_cc:
            media.add("rtcp-fb", f"{number} {TRANSPORT_CC_FEEDBACK}")
        if codec.fmtp:
            media.add("fmtp", f"{number} {codec.fmtp}")
        if codec.rtx is not None:
            media.add("rtpmap", f"{codec.rtx} {RTX.encoding}/{RTX.clock_rate}")
            media.add("fmtp", f"{codec.rtx} apt={number}")

    def write_rejected(self) -> Draft:
        """Return the section refused with port 0 (RFC 3264 section 6)."""
        formats = " ".join(self._formats)
        media = Draft(f"m={self.media_name} 0 {self.protocol} {formats}", "c=IN IP4 0.0.0.0")
        if self.mid is not None:
            media.add("mid", self.mid)
        media.add("inactive")
        if self.kind is not None:
            media.add("rtcp-mux")  # aiortc wants it everywhere
        return media
