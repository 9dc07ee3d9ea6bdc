"""What a media section says besides its mid and its streams: what the peer can, and what both sides use.

Browsers say it in the same words in every section of a kind, so both are worked out once for all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from kaamos.media.description import Extension, Kind
from kaamos.rtc.application import SctpParameters, read_sctp
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
from kaamos.rtc.sdp import Direction, Draft, Terms, format_parameters
from kaamos.rtc.simulcast import Rid, read_rids, write_rids

RTP_PROTOCOL = "UDP/TLS/RTP/SAVPF"
# What an answerer must take besides (RFC 9429 section 5.1.2).
_RTP_PROTOCOLS = frozenset((RTP_PROTOCOL, "TCP/DTLS/RTP/SAVPF", "RTP/SAVPF"))
_PAYLOAD_TYPE = re.compile(r"[0-9]{1,3}", re.ASCII)
_MUXED_AWAY = range(64, 96)  # payload types that rtcp-mux cannot tell from RTCP (RFC 5761 section 4)


@dataclass(frozen=True, slots=True, eq=False)
class PeerTerms:
    """What the peer says in its sections, checked, reduced to what we can use; compared by identity.

    ``codecs`` is in our order of preference and empty for anything that is not audio or video we speak.
    """

    kind: Kind | None
    protocol: str
    is_rtp: bool  # audio or video over a protocol that we speak; without it only what is above counts
    is_refused: bool = False  # by its port (RFC 9143 section 6)
    direction: Direction = Direction.INACTIVE
    codecs: tuple[NumberedCodec, ...] = ()
    spare_codecs: tuple[NumberedCodec, ...] = ()  # a codec once more, under a further payload type
    foreign_payload_types: Mapping[int, int | None] = field(default_factory=dict)  # with what RTX repeats
    transport_cc: frozenset[int] = frozenset()  # payload types with that feedback
    # Id 1..14, direction as the peer means it.
    extensions: Mapping[Extension, tuple[int, Direction]] = field(default_factory=dict)
    foreign_extension_ids: frozenset[int] = frozenset()
    rids: tuple[Rid, ...] = ()  # of simulcast, if the peer sends
    has_rsize: bool = False
    has_rcvr_rtt: bool = False
    is_mixed_here: bool = False  # a=extmap-allow-mixed in the section, not for the session
    sctp: SctpParameters | None = None  # of data channels

    @property
    def is_shared(self) -> bool:
        """Both sides speak something of it: a codec, or SCTP."""
        return bool(self.codecs) or self.sctp is not None

    @property
    def is_usable(self) -> bool:
        """They have something in common with us and are not refused by the port."""
        return self.is_shared and not self.is_refused


def read_terms(terms: Terms, session_direction: Direction | None) -> PeerTerms:
    """Check what sections of a peer's description say.

    Raises:
        SdpError: an attribute that we use is malformed or contradicts another one.
    """
    _ = terms.candidates  # refused when malformed, otherwise unused (design 1.1)
    kind = Kind(terms.media) if terms.media in tuple(Kind) else None
    is_refused = terms.port == 0 and not terms.has("bundle-only")
    if kind is None or terms.protocol not in _RTP_PROTOCOLS:
        sctp = read_sctp(terms)
        return PeerTerms(kind, terms.protocol, is_rtp=False, is_refused=is_refused, sctp=sctp)
    codecs, spare, foreign = _read_codecs(kind, terms)
    extensions: dict[Extension, tuple[int, Direction]] = {}
    foreign_ids = set()
    for extmap in terms.extmaps:
        extension = extension_of(extmap.uri)
        if extension is None or extmap.id > 14 or extension in extensions:
            foreign_ids.add(extmap.id)
        else:
            extensions[extension] = (extmap.id, extmap.direction)
    direction = terms.direction or session_direction or Direction.SENDRECV
    rids: tuple[Rid, ...] = ()
    if kind is Kind.VIDEO and direction.sends:
        rids = read_rids(terms, {codec.payload_type for codec in codecs})
    return PeerTerms(
        kind=kind,
        protocol=terms.protocol,
        is_rtp=True,
        is_refused=is_refused,
        direction=direction,
        codecs=codecs,
        spare_codecs=spare,
        foreign_payload_types=foreign,
        transport_cc=_read_transport_cc(terms),
        extensions=extensions,
        foreign_extension_ids=frozenset(foreign_ids),
        rids=rids,
        has_rsize=terms.has("rtcp-rsize"),
        has_rcvr_rtt=_has_rcvr_rtt(terms),
        is_mixed_here=terms.has("extmap-allow-mixed"),
    )


def _read_codecs(
    kind: Kind, terms: Terms
) -> tuple[tuple[NumberedCodec, ...], tuple[NumberedCodec, ...], Mapping[int, int | None]]:
    """Return the codecs we share, best first; those that come once more; the payload types of all others."""
    rtpmaps, fmtps, feedback = terms.rtpmaps, terms.fmtps, terms.feedback
    for_all = feedback.get(None, set())
    found: dict[int, NumberedCodec] = {}  # by payload type
    foreign: dict[int, int | None] = {}
    for payload_type in terms.payload_types:
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


def _read_transport_cc(terms: Terms) -> frozenset[int]:
    """Return the payload types for which the peer takes transport-wide feedback."""
    feedback = terms.feedback
    for_all = TRANSPORT_CC_FEEDBACK in feedback.get(None, ())
    return frozenset(
        payload_type
        for payload_type in terms.payload_types
        if for_all or TRANSPORT_CC_FEEDBACK in feedback.get(payload_type, ())
    )


def _has_rcvr_rtt(terms: Terms) -> bool:
    """The peer wants to learn the round-trip time where it only receives (RFC 3611 section 5.1)."""
    formats = (item for value in terms.all("rtcp-xr") for item in value.split(" "))
    return any(item.partition(":")[0] == "rcvr-rtt=all" for item in formats)


def _repeated(fmtp: str) -> int | None:
    """Return the payload type that ``apt`` names (RFC 4588 section 8.1), None for anything else."""
    number = format_parameters(fmtp).get("apt", "")
    return int(number) if _PAYLOAD_TYPE.fullmatch(number) else None


@dataclass(frozen=True)
class AgreedTerms:
    """What a section carries, as both sides want it, or as we offer it; read-only."""

    protocol: str = RTP_PROTOCOL
    codecs: tuple[NumberedCodec, ...] = ()
    extensions: Mapping[Extension, tuple[int, Direction]] = field(default_factory=dict)
    transport_cc: frozenset[int] = frozenset()  # payload types with feedback from us
    rids: tuple[Rid, ...] = ()
    has_rsize: bool = True
    has_rcvr_rtt: bool = True
    is_mixed_here: bool = False  # the peer allows mixed headers in this section, not for the session

    @cached_property
    def codec_ids(self) -> frozenset[int]:
        """What subscribers have to know to get it, by capabilities.decodable_as."""
        return frozenset(decodable_as(codec.codec_id) for codec in self.codecs)

    @cached_property
    def has_rtx(self) -> bool:
        """Repeats are offered or negotiated for at least one codec."""
        return any(codec.rtx is not None for codec in self.codecs)

    @cached_property
    def formats(self) -> str:
        """The payload types, as an ``m=`` line lists them."""
        numbers = (number for codec in self.codecs for number in (codec.payload_type, codec.rtx))
        return " ".join(str(number) for number in numbers if number is not None)

    @cached_property
    def extension_lines(self) -> Draft:
        """All of ``a=extmap``."""
        lines = Draft()
        for extension, (number, way) in self.extensions.items():
            suffix = "" if way is Direction.SENDRECV else f"/{way.reversed}"
            lines.add("extmap", f"{number}{suffix} {EXTENSION_URIS[extension]}")
        if self.is_mixed_here:
            lines.add("extmap-allow-mixed")
        return lines

    @cached_property
    def codec_lines(self) -> Draft:
        """What is said of RTCP and of the codecs."""
        lines = Draft("a=rtcp-mux")
        if self.has_rsize:
            lines.add("rtcp-rsize")
        if self.has_rcvr_rtt:
            lines.add("rtcp-xr", "rcvr-rtt=all")
        for codec in self.codecs:
            self._write_codec(lines, codec)
        return lines

    @cached_property
    def rid_lines(self) -> Draft:
        """What is said of simulcast in a section that we receive in."""
        lines = Draft()
        write_rids(lines, self.rids)
        return lines

    def _write_codec(self, lines: Draft, codec: NumberedCodec) -> None:
        """Append the lines of a codec and of its repeats."""
        number = codec.payload_type
        lines.add("rtpmap", f"{number} {CODECS[codec.codec_id].rtpmap_text}")
        for item in codec.feedback:
            lines.add("rtcp-fb", f"{number} {item}")
        if number in self.transport_cc:
            lines.add("rtcp-fb", f"{number} {TRANSPORT_CC_FEEDBACK}")
        if codec.fmtp:
            lines.add("fmtp", f"{number} {codec.fmtp}")
        if codec.rtx is not None:
            lines.add("rtpmap", f"{codec.rtx} {RTX.encoding}/{RTX.clock_rate}")
            lines.add("fmtp", f"{codec.rtx} apt={number}")


def propose(codecs: tuple[NumberedCodec, ...], extensions: Mapping[Extension, int]) -> AgreedTerms:
    """Return what a section of ours offers."""
    has_transport_cc = Extension.TRANSPORT_CC in extensions
    return AgreedTerms(
        codecs=codecs,
        extensions={ext: (number, Direction.SENDRECV) for ext, number in extensions.items()},
        transport_cc=frozenset(codec.payload_type for codec in codecs) if has_transport_cc else frozenset(),
    )


def agree(peer: PeerTerms, usable: frozenset[Extension]) -> AgreedTerms:
    """Return what both sides use where the peer says this; ``usable``: the extensions that it may use.

    What numbers or dates packets at the moment they are sent is left out where it is of no use: towards a
    subscriber without RTX a repeat is the stored ciphertext, in which nothing can change.
    """
    extensions = {ext: item for ext, item in peer.extensions.items() if ext in usable}
    transport_cc = peer.transport_cc.intersection(codec.payload_type for codec in peer.codecs)
    has_rtx = any(codec.rtx is not None for codec in peer.codecs)
    is_frozen = peer.kind is Kind.VIDEO and peer.direction.receives and not has_rtx
    # The extension and the feedback are worth nothing without each other.
    _, way = extensions.get(Extension.TRANSPORT_CC, (0, Direction.INACTIVE))
    if not transport_cc or not way.sends or (is_frozen and not peer.direction.sends):
        extensions.pop(Extension.TRANSPORT_CC, None)
        transport_cc = frozenset()
    if is_frozen:
        extensions.pop(Extension.ABS_SEND_TIME, None)
    return AgreedTerms(
        protocol=peer.protocol,
        codecs=peer.codecs,
        extensions=extensions,
        transport_cc=transport_cc,
        rids=peer.rids,
        has_rsize=peer.has_rsize,
        has_rcvr_rtt=peer.has_rcvr_rtt,
        is_mixed_here=peer.is_mixed_here,
    )


def offered_part(peer: PeerTerms, offered: AgreedTerms) -> PeerTerms:
    """Return what a peer answers without what we had not offered."""
    codecs = {codec.codec_id: codec for codec in offered.codecs}
    rids = {rid.id for rid in offered.rids}
    return replace(
        peer,
        codecs=tuple(
            codec if codecs[codec.codec_id].rtx is not None else replace(codec, rtx=None)
            for codec in peer.codecs
            if codec.codec_id in codecs
        ),
        transport_cc=peer.transport_cc if offered.transport_cc else frozenset(),
        rids=tuple(rid for rid in peer.rids if rid.id in rids),
    )
