"""One media section: what the peer says of it, what we keep of it, and how we write it.

:class:`PeerSection` is a checked view of the peer's text; :class:`Section` is the state that lives as long
as the mid does.  Which description may come when is :mod:`kaamos.rtc.negotiation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, NewType
from urllib.parse import quote

from kaamos.media.description import DownTrackConfig, Extension, Kind, UpCodec, UpTrackConfig
from kaamos.rtc.application import SctpParameters, write_sctp
from kaamos.rtc.capabilities import CODECS
from kaamos.rtc.numbering import NumberedCodec
from kaamos.rtc.sdp import Description, Direction, Draft, Media, SdpError, Terms
from kaamos.rtc.terms import AgreedTerms, PeerTerms, read_terms

Mid = NewType("Mid", str)

MAX_SSRCS = 16  # a section, retransmission and FEC streams not counted (design: demultiplexing)

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


class PeerSection(NamedTuple):
    """A media section as the peer described it, checked, reduced to what we can use."""

    media: Media
    mid: str | None
    terms: PeerTerms
    ssrcs: tuple[int, ...]  # of media
    rtx_ssrcs: Mapping[int, int]  # SSRC of repeats -> SSRC of media
    msid: tuple[str, str] | None


def read_sections(description: Description) -> list[PeerSection]:
    """Check the sections of a peer's description; what several of them say alike is checked once.

    Raises:
        SdpError: an attribute that we use is malformed or contradicts another one.
    """
    default = description.session.direction
    known: dict[Terms, PeerTerms] = {}
    found = []
    for media in description.media:
        terms = known.get(media.terms)
        if terms is None:
            terms = known[media.terms] = read_terms(media.terms, default)
        if terms.is_rtp:
            ssrcs, rtx_ssrcs = _read_ssrcs(media)
            found.append(PeerSection(media, media.mid, terms, ssrcs, rtx_ssrcs, media.msid))
        else:
            found.append(PeerSection(media, media.mid, terms, (), {}, None))
    return found


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
        "_formats",
        "_protocol",
        "allows_mixed",
        "is_rejected",
        "kind",
        "media_name",
        "mid",
        "msid",
        "peer_receives",
        "peer_sends",
        "playing",
        "rtx_ssrc",
        "rtx_ssrcs",
        "said_receives",
        "said_sends",
        "sctp",
        "ssrc",
        "ssrcs",
        "terms",
        "told",
    )

    def __init__(self, mid: Mid | None, kind: Kind | None, media_name: str, protocol: str) -> None:
        self.mid = mid  # None: a section that its peer gave no mid, always rejected
        self.kind = kind
        self.media_name = media_name
        self._protocol = protocol  # to refuse the section with
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
        self.allows_mixed = False  # two-byte header extensions beside one-byte ones (RFC 8285 section 6)
        self._formats: tuple[str, ...] = ()  # as the peer listed them, to refuse the section with
        self.terms = AgreedTerms()

    def propose(self, terms: AgreedTerms) -> None:
        """Set what a section of ours offers."""
        self.terms = terms

    def take(self, peer: PeerSection, terms: AgreedTerms, *, allows_mixed: bool) -> None:
        """Take over what the peer says of a section we both use, by ``terms``.

        ``allows_mixed``: the peer's session part has ``a=extmap-allow-mixed``.
        """
        self.is_rejected = False
        self.ssrcs = peer.ssrcs
        self.rtx_ssrcs = peer.rtx_ssrcs
        self.msid = peer.msid
        self.sctp = peer.terms.sctp
        self.terms = terms
        self.allows_mixed = allows_mixed or terms.is_mixed_here

    def reject(self, peer: PeerSection) -> None:
        """Nothing flows here any more, and nothing plays."""
        self._protocol = peer.media.protocol
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

    @property
    def is_paused(self) -> bool:
        """The peer could once receive here, and does not now, but has not given the section up."""
        return self.ssrc is not None and not self.peer_receives and not self.is_rejected

    @property
    def codec_ids(self) -> frozenset[int]:
        """What it may carry, by capabilities.decodable_as; all that we offer until answered."""
        return self.terms.codec_ids

    @property
    def has_rtx(self) -> bool:
        """Repeats are offered or negotiated for at least one codec."""
        return self.terms.has_rtx

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
        feedback = {item for codec in self.terms.codecs for item in codec.feedback}
        extensions = {ext: number for ext, (number, way) in self.terms.extensions.items() if way.sends}
        config = UpTrackConfig(
            mid=self.mid,
            kind=self.kind,
            codecs=tuple(map(_up_codec, self.terms.codecs)),
            ssrcs=self.ssrcs,
            extensions=extensions,
            pli="nack pli" in feedback,
            fir="ccm fir" in feedback,
            nack="nack" in feedback,
            transport_cc=bool(self.terms.transport_cc),
            rtx_payload_types={
                codec.rtx: codec.payload_type for codec in self.terms.codecs if codec.rtx is not None
            },
            rtx_ssrcs=self.rtx_ssrcs if self.has_rtx else {},
            rids=tuple(rid.id for rid in self.terms.rids),
        )
        return UpSection(self.mid, self.kind, config, self.msid)

    def down_section(self, cname: str) -> DownSection | None:
        """The section as one the peer can receive in, None where it cannot."""
        if self.mid is None or self.kind is None or self.ssrc is None or not self.peer_receives:
            return None
        extensions = {
            ext: number
            for ext, (number, way) in self.terms.extensions.items()
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
            payload_types={codec.codec_id: codec.payload_type for codec in self.terms.codecs},
            extensions=extensions,
            nack=any("nack" in codec.feedback for codec in self.terms.codecs),
            cname=cname,
            rtx_payload_types={
                codec.codec_id: codec.rtx for codec in self.terms.codecs if codec.rtx is not None
            },
            rtx_ssrc=(self.rtx_ssrc or 0) if self.has_rtx else 0,
            allows_two_byte=self.allows_mixed,
        )
        playing = self.playing or (None, None)
        return DownSection(self.mid, self.kind, config, *playing)

    def write(
        self, direction: Direction, playing: Playing | None, address: tuple[str, int], cname: str
    ) -> Draft:
        """Return the section without its transport lines; ``address`` is the value of ``c=`` and the port."""
        terms = self.terms
        if self.sctp is not None:
            return write_sctp(terms.protocol, address, self.mid)
        line = f"m={self.media_name} {address[1]} {terms.protocol} {terms.formats}"
        media = Draft(line, f"c={address[0]}")
        media.add("mid", self.mid)
        media.extend(terms.extension_lines)
        media.add(direction)
        if direction.sends and playing is not None:
            media.add("msid", playing.msid)
        media.extend(terms.codec_lines)
        if direction.sends:
            ssrcs = (self.ssrc, self.rtx_ssrc) if self.has_rtx else (self.ssrc,)
            if self.has_rtx:
                media.add("ssrc-group", f"FID {self.ssrc} {self.rtx_ssrc}")
            for ssrc in ssrcs:
                media.add("ssrc", f"{ssrc} cname:{cname}")
        if direction.receives:
            media.extend(terms.rid_lines)
        return media

    def write_rejected(self) -> Draft:
        """Return the section refused with port 0 (RFC 3264 section 6)."""
        formats = " ".join(self._formats)
        media = Draft(f"m={self.media_name} 0 {self._protocol} {formats}", "c=IN IP4 0.0.0.0")
        if self.mid is not None:
            media.add("mid", self.mid)
        media.add("inactive")
        if self.kind is not None:
            media.add("rtcp-mux")  # aiortc wants it everywhere
        return media
