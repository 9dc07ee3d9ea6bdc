"""Offer and answer for one PeerConnection (RFC 3264, RFC 9429 as far as an SFU needs it).

The peer may offer at any time except while an offer of ours is outstanding; we offer only after its
first offer was answered.  Everything runs over one transport: what is not in the BUNDLE group is refused.
A description is checked as a whole before anything is kept, so an error changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kaamos.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kaamos.media.description import Kind
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.bundle import LocalTransport, RemoteTransport, read_bundle, read_transport
from kaamos.rtc.numbering import Numbering
from kaamos.rtc.sdp import Description, Direction, Draft, SdpError, Setup
from kaamos.rtc.sections import (
    DownSection,
    Mid,
    PeerSection,
    Playing,
    Section,
    UpSection,
    read_sections,
)
from kaamos.rtc.terms import RTP_PROTOCOL, AgreedTerms, PeerTerms, agree, offered_part, propose

__all__ = ["DownSection", "LocalTransport", "Mid", "Negotiator", "RemoteTransport", "UpSection"]

MAX_MIDS = 1000  # a peer can put ever new mids into a refused section; each is remembered for life


@dataclass(frozen=True, slots=True)
class _Said:
    """How one of our descriptions puts a section; direction None: refused."""

    section: Section
    direction: Direction | None
    playing: Playing | None


@dataclass(frozen=True, slots=True)
class _Heard:
    """A description of the peer that passed every check, and what would follow from taking it."""

    sections: Sequence[tuple[PeerSection, AgreedTerms | None]]  # None where it is refused
    numbering: Numbering
    remote: RemoteTransport | None


class Negotiator:
    """The offer/answer state of one connection.

    ``new_ssrc`` gives random 32-bit numbers; every section we may send in gets one, for life, and one more
    where lost packets are repeated by RTX.  Methods raise :class:`RemoteProtocolError` for what the peer did
    and :class:`LocalProtocolError` for misuse; both leave the state as it was.

    Attributes:
        local: our transport as descriptions state it; to be replaced before the answer to an ICE restart.
        remote: the peer's transport, from its first description on that has a section we accept (with an
            offer without any, that is its first answer).
        is_established: the peer's first offer was answered.
    """

    def __init__(
        self,
        local: LocalTransport,
        *,
        session_id: int,
        cname: str,
        new_ssrc: Callable[[], int],
        max_sections: int = 100,
    ) -> None:
        self.remote: RemoteTransport | None = None
        self.is_established = False
        self.local = local
        self._session_id = session_id
        self._version = 0
        self._cname = cname
        self._new_ssrc = new_ssrc
        self._max_sections = max_sections
        self._numbering = Numbering()
        self._sections: list[Section] = []  # by m-line
        self._sure_lines = 0  # so many m-lines the peer knows of even if our last answer got lost
        self._has_lost = False  # perhaps our last answer or the peer's got lost: neither knows what is agreed
        self._repeats = 0  # offers of ours that were said again, and not answered again so far
        self._added: list[Section] = []  # ours, not yet answered: without an m-line
        self._withdrawn: list[Section] = []  # those of them that the peer may have answered, unheard
        self._known: dict[str, Section] = {}  # every mid of audio or video there ever was
        self._ssrcs: set[int] = set()
        self._is_answering = False
        self._is_restart_open = False  # the peer may not have heard of our ICE credentials yet
        self._is_mixed_offered = False  # by the peer, for the whole session (RFC 8285 section 6)
        self._outstanding: tuple[_Said, ...] | None = None
        self._offer = ""  # the text of the last one

    # What the peer offers

    def receive_offer(self, sdp: str) -> None:
        """Take in an offer of the peer; :meth:`create_answer` has to follow, :meth:`play` may come between.

        Raises:
            RemoteProtocolError: GLARE while an offer of ours is outstanding, else INVALID_SDP.
        """
        if self._outstanding is not None:
            raise RemoteProtocolError(ErrorCode.GLARE, "an offer of the server is outstanding")
        if self._is_answering:
            raise LocalProtocolError("the last offer was not answered")
        description = Description.parse(sdp)
        peers = _read_peers(description)
        if len(peers) < (self._sure_lines if self._has_lost else len(self._sections)):
            raise SdpError("a media section of an earlier description is missing")
        sections = [self._section_for(index, peer) for index, peer in enumerate(peers)]
        if len(peers) > self._max_sections:
            raise SdpError(f"more than {self._max_sections} media sections")
        known: dict[str, Section] = {
            section.mid: section for section in sections if section.mid is not None and section.kind
        }
        if len(self._known.keys() | known.keys()) > MAX_MIDS:
            raise SdpError("too many different mids")
        heard = self._hear(description, [(peer, peer.terms.is_usable) for peer in peers], is_offer=True)

        self._numbering = heard.numbering
        if heard.remote is not None and heard.remote.restarts_ice_of(self.remote):
            self._is_restart_open = True
        self.remote = heard.remote
        for section in self._sections:
            if section not in sections:
                section.stop()
                section.terms = AgreedTerms()  # gone, so what played there has to find another place
        self._sure_lines = min(len(self._sections), len(sections))
        self._sections = sections
        self._added = [section for section in self._added if section not in sections]
        self._has_lost, self._withdrawn = False, []
        self._known.update(known)
        self._is_mixed_offered = description.session.has("extmap-allow-mixed")
        for section, (peer, terms) in zip(sections, heard.sections, strict=True):
            if terms is None:
                section.reject(peer)
                section.terms = AgreedTerms()
                continue
            section.take(peer, terms, allows_mixed=self._is_mixed_offered)
            section.peer_sends = peer.terms.direction.sends
            if peer.terms.direction.receives:
                self._make_receivable(section)
            else:
                section.refuse_down()
        self._is_answering = True

    def create_answer(self) -> str:
        """Return the answer to the offer received last."""
        if not self._is_answering:
            raise LocalProtocolError("there is no offer to answer")
        setup = Setup.ACTIVE if self.remote is not None and self.remote.is_dtls_client else Setup.PASSIVE
        said = tuple(map(_say, self._sections))
        answer = self._write(said, setup, allows_mixed=self._is_mixed_offered)
        for view in said:
            _settle(view)
        self._is_answering = False
        self.is_established = True
        return answer

    # What we offer

    @property
    def has_outstanding_offer(self) -> bool:
        """An offer of ours waits for its answer."""
        return self._outstanding is not None

    @property
    def needs_offer(self) -> bool:
        """What should play differs from what the peer was told last (by the outstanding offer, if any).

        Or it may have been told something else than we know.
        """
        if not self.is_established:
            return False
        if self._outstanding is None:
            return (
                self._has_lost
                or bool(self._added)
                or any(section.playing != section.told for section in self._sections)
            )
        offered = {id(view.section) for view in self._outstanding}
        return any(view.section.playing != view.playing for view in self._outstanding) or any(
            id(section) not in offered for section in self._added
        )

    def create_offer(self) -> str:
        """Return an offer with everything that plays now; it is outstanding until answered or withdrawn."""
        if not self.is_established or self._is_answering:
            raise LocalProtocolError("an offer of the peer has to be answered first")
        if self._outstanding is not None:
            raise LocalProtocolError("an offer is outstanding")
        for section in self._added:
            self._propose(section)
        said = tuple(map(_say, [*self._sections, *self._added]))
        self._offer = self._write(said, Setup.ACTPASS, allows_mixed=True)
        self._outstanding = said
        return self._offer

    def repeat_offer(self) -> str:
        """Return the outstanding offer once more; the peer may answer it twice."""
        if self._outstanding is None:
            raise LocalProtocolError("no offer is outstanding")
        self._repeats += 1
        return self._offer

    def receive_answer(self, sdp: str) -> None:
        """Take in the peer's answer to the outstanding offer.

        Raises:
            RemoteProtocolError: STALE_NEGOTIATION without an outstanding offer, else INVALID_SDP; the offer
                stays outstanding then.
        """
        if self._outstanding is None:
            if self._repeats:
                # It took our offer twice, the second time perhaps by rolling back one of its own.
                self._repeats -= 1
                self._has_lost = True
            raise RemoteProtocolError(ErrorCode.STALE_NEGOTIATION, "there is no offer to answer")
        description = Description.parse(sdp)
        peers = _read_peers(description)
        if len(peers) != len(self._outstanding):
            raise SdpError("the answer has another number of media sections than the offer")
        answered = [_match_answer(view, peer) for view, peer in zip(self._outstanding, peers, strict=True)]
        heard = self._hear(description, answered, is_offer=False)

        self._numbering = heard.numbering
        self.remote = heard.remote
        allows_mixed = description.session.has("extmap-allow-mixed")
        for view, (peer, terms) in zip(self._outstanding, heard.sections, strict=True):
            if terms is None:
                view.section.reject(peer)
                if view.section in self._sections:
                    view.section.terms = AgreedTerms()  # stopped, not one of ours that it cannot use
            else:
                view.section.take(peer, terms, allows_mixed=allows_mixed)
                _settle(view, peer.terms.direction)
        self._sections = [view.section for view in self._outstanding]
        self._sure_lines = len(self._sections)
        if any(terms is not None for _, terms in heard.sections):
            self._is_restart_open = False
        self._has_lost, self._withdrawn = False, []
        self._added = [section for section in self._added if section not in self._sections]
        self._outstanding = None

    def withdraw_offer(self) -> None:
        """Forget the outstanding offer, if there is one; its new sections go out with the next.

        What was said last may be lost, too: the next offer of the peer need not know of our last answer, and
        may go on from an answer of its own to the offer that we forget.
        """
        said = [view.section for view in self._outstanding or ()]
        self._withdrawn = [
            section for section in self._added if section in said or section in self._withdrawn
        ]
        self._has_lost = True
        self._repeats = 0
        self._outstanding = None

    # What plays where

    @property
    def up_sections(self) -> Mapping[Mid, UpSection]:
        """Sections in which the peer may send now, by mid."""
        found = (section.up_section() for section in self._sections)
        return {section.mid: section for section in found if section is not None}

    @property
    def down_sections(self) -> Mapping[Mid, DownSection]:
        """Sections in which the peer can receive or was offered to; a mid may leave and come back."""
        found = (section.down_section(self._cname) for section in [*self._sections, *self._added])
        return {section.mid: section for section in found if section is not None}

    @property
    def is_empty(self) -> bool:
        """There is no section, or all are refused: the peer needs no transport."""
        return all(section.is_rejected for section in self._sections)

    @property
    def sctp(self) -> SctpParameters | None:
        """What the peer says of its SCTP; None while there are to be no data channels."""
        return next((section.sctp for section in self._sections if section.sctp is not None), None)

    def is_sendable(self, mid: Mid) -> bool:
        """Return whether media may flow: the peer has agreed to just what plays there now."""
        section = self._known.get(mid)
        return section is not None and section.is_sendable

    def is_showing(self, mid: Mid) -> bool:
        """Return whether the peer has agreed to something that plays there, perhaps under another name."""
        section = self._known.get(mid)
        return section is not None and section.is_showing

    def is_paused(self, mid: Mid) -> bool:
        """Return whether a section is among the :meth:`paused_sections`."""
        section = self._known.get(mid)
        return section is not None and section.is_paused

    def codecs_of(self, mid: Mid) -> frozenset[int]:
        """Return what a section may carry, by capabilities.decodable_as; nothing where there is none.

        Nothing either where the peer has stopped it: what played there has to find another place.
        """
        section = self._known.get(mid)
        return frozenset() if section is None else section.codec_ids

    def is_answered(self, mid: Mid) -> bool:
        """Return whether the peer has accepted a section, so that its codecs are those of the peer, too."""
        section = self._known.get(mid)
        return section is not None and section in self._sections and not section.is_rejected

    def receiving_sections(self, kind: Kind) -> list[Mid]:
        """Return the sections of a kind that the peer receives in or was offered to."""
        sections = [*self._sections, *self._added]
        return [s.mid for s in sections if s.kind is kind and s.peer_receives and s.mid is not None]

    def paused_sections(self, kind: Kind) -> list[Mid]:
        """Return the sections of a kind that the peer keeps, and could receive in once, but does not now."""
        return [s.mid for s in self._sections if s.kind is kind and s.is_paused and s.mid is not None]

    def free_section(self, kind: Kind, codecs: frozenset[int] | None = None) -> Mid | None:
        """Return a section in which nothing plays, as far as the peer knows too, or None.

        It takes one of ``codecs`` at least, if given.
        A section that was just stopped is free when the peer has answered that: browsers announce a
        track when a section starts to send, not when its content changes.
        """
        showing = {id(view.section) for view in self._outstanding or () if view.playing is not None}
        for section in [*self._sections, *self._added]:
            is_idle = section.playing is None and section.told is None and id(section) not in showing
            is_fit = codecs is None or not codecs.isdisjoint(section.codec_ids)
            if is_idle and section.kind is kind and section.peer_receives and is_fit:
                return section.mid
        return None

    @property
    def can_add_section(self) -> bool:
        """There is room for one more media section."""
        return len(self._sections) + len(self._added) < self._max_sections and len(self._known) < MAX_MIDS

    def add_section(self, kind: Kind) -> Mid:
        """Make a section that we send in; it goes out with the next offer.

        Raises:
            LocalProtocolError: :attr:`can_add_section` is false.
        """
        if not self.can_add_section:
            raise LocalProtocolError("the connection has no room for another media section")
        # Peers number their own sections "0", "1" …; the prefix keeps ours apart.
        mid = next(mid for number in range(MAX_MIDS + 1) if (mid := f"s{number}") not in self._known)
        section = Section(Mid(mid), kind, kind.value, RTP_PROTOCOL)
        self._propose(section)
        self._added.append(section)
        self._known[mid] = section
        return Mid(mid)

    def play(self, mid: Mid, stream_id: str, track_id: str) -> None:
        """Let a section play this from the next description on.

        A track plays in one section at a time: Chromium refuses a description that has an msid twice.

        Raises:
            LocalProtocolError: the peer does not receive there (:attr:`down_sections` has not got it).
        """
        section = self._known.get(mid)
        if section is None or not section.peer_receives:
            raise LocalProtocolError(f"nothing can play in section {mid}")
        section.playing = Playing(stream_id, track_id)

    def stop(self, mid: Mid) -> None:
        """Let a section play nothing; one that plays nothing already is left as it is.

        Raises:
            LocalProtocolError: there never was such a section.
        """
        if mid not in self._known:
            raise LocalProtocolError(f"there is no section {mid}")
        self._known[mid].playing = None

    # Reading

    def _section_for(self, index: int, peer: PeerSection) -> Section:
        """Return the state of an offered section: the one we know, or a new one that is not yet kept.

        A refused m-line may be used again under another mid (RFC 9429 section 5.2.2), others may not change;
        unless what made or refused them got lost.
        """
        current = self._sections[index] if index < len(self._sections) else None
        if current is not None:
            is_same = current.mid == peer.mid and current.media_name == peer.media.media
            if is_same:
                return current
            if not (current.is_rejected or self._has_lost):
                raise SdpError(f"section {index} changed its mid or its kind")
        known = self._known.get(peer.mid) if peer.mid is not None else None
        if known is not None:
            if known.media_name != peer.media.media:
                raise SdpError(f"mid {peer.mid!r} changed its kind")
            is_ours = known in self._added and known not in self._withdrawn
            is_elsewhere = known in self._sections and not (known.is_rejected or self._has_lost)
            if is_ours or is_elsewhere:
                raise SdpError(f"mid {peer.mid!r} is in use elsewhere")
            return known
        mid = None if peer.mid is None else Mid(peer.mid)
        return Section(mid, peer.terms.kind, peer.media.media, peer.media.protocol)

    def _hear(
        self, description: Description, sections: Sequence[tuple[PeerSection, bool]], *, is_offer: bool
    ) -> _Heard:
        """Check what concerns the sections together: numbers, SSRCs, bundle and transport."""
        numbering = self._numbering.copy()
        agreed: dict[PeerTerms, AgreedTerms] = {}
        latest: dict[Kind | None, PeerTerms] = {}
        heard: list[tuple[PeerSection, AgreedTerms | None]] = []
        ssrcs: set[int] = set()
        for peer, is_accepted in sections:
            terms = peer.terms
            if not is_accepted:
                heard.append((peer, None))
                continue
            if latest.get(terms.kind) is not terms:
                latest[terms.kind] = terms
                numbering.learn_codecs((*terms.codecs, *terms.spare_codecs))
            ids = {extension: number for extension, (number, _) in terms.extensions.items()}
            usable = numbering.learn_extensions(ids)
            if terms not in agreed:
                agreed[terms] = agree(terms, usable)
            heard.append((peer, agreed[terms]))
            if terms.direction.sends:
                named = {*peer.ssrcs, *peer.rtx_ssrcs}
                if not ssrcs.isdisjoint(named):
                    raise SdpError("an SSRC is used in two sections")
                ssrcs |= named
        for terms in agreed:
            numbering.reserve(terms.foreign_payload_types, terms.foreign_extension_ids)
        accepted = [peer for peer, is_accepted in sections if is_accepted]
        tagged = read_bundle(description, accepted)
        remote = self.remote
        if tagged:
            # A peer that never heard our answer to its restart meets our new credentials in our offer,
            # and has to answer them with new ones of its own (RFC 9429 section 5.3.1).
            may_restart = is_offer or self._is_restart_open
            remote = read_transport(description, tagged, remote, is_offer=is_offer, may_restart=may_restart)
        return _Heard(heard, numbering, remote)

    # Writing

    def _make_receivable(self, section: Section) -> None:
        section.peer_receives = True
        if section.ssrc is None:
            section.ssrc = self._unused_ssrc()
        if section.rtx_ssrc is None and section.has_rtx:
            section.rtx_ssrc = self._unused_ssrc()

    def _unused_ssrc(self) -> int:
        ssrc = 0  # libwebrtc probes on SSRC 0
        while ssrc == 0 or ssrc in self._ssrcs:
            ssrc = self._new_ssrc()
        self._ssrcs.add(ssrc)
        return ssrc

    def _propose(self, section: Section) -> None:
        assert section.kind is not None
        codecs = self._numbering.propose_codecs(section.kind)
        section.propose(propose(codecs, self._numbering.propose_extensions(section.kind)))
        self._make_receivable(section)

    def _write(self, said: Sequence[_Said], setup: Setup, *, allows_mixed: bool) -> str:
        """Return a description with these sections."""
        self._version += 1
        origin = f"o=- {self._session_id} {self._version} IN IP4 127.0.0.1"  # RFC 9429 section 5.2.1
        session = Draft("v=0", origin, "s=-", "t=0 0")
        bundled = [view.section.mid or "" for view in said if view.direction is not None]
        session.add("group", " ".join(["BUNDLE", *bundled]))
        if allows_mixed:
            session.add("extmap-allow-mixed")
        session.add("msid-semantic", "WMS *")
        address = self.local.default_address
        drafts = [session]
        for view in said:
            # Refused sections state the transport too: aiortc reads it from every section.
            if view.direction is None:
                media = view.section.write_rejected()
            else:
                media = view.section.write(view.direction, view.playing, address, self._cname)
            is_first = bool(bundled) and view.section.mid == bundled[0]
            self.local.describe(media, setup, with_candidates=is_first)
            drafts.append(media)
        return "".join(map(str, drafts))


def _read_peers(description: Description) -> list[PeerSection]:
    peers = read_sections(description)
    mids = [peer.mid for peer in peers if peer.mid is not None]
    if len(set(mids)) != len(mids):
        raise SdpError("two sections have the same mid")
    # A connection has one SCTP association (RFC 8841 section 10.2): a second section is refused.
    first = next((peer for peer in peers if peer.terms.sctp is not None and peer.terms.is_usable), None)
    return [
        peer
        if peer is first or peer.terms.sctp is None
        else peer._replace(terms=replace(peer.terms, sctp=None))
        for peer in peers
    ]


def _say(section: Section) -> _Said:
    if section.is_rejected:
        return _Said(section, None, None)
    return _Said(section, section.wanted_direction, section.playing)


def _settle(view: _Said, answered: Direction | None = None) -> None:
    """Keep what a description of ours said, now that it stands; ``answered`` is the peer's side of it."""
    section, direction = view.section, view.direction
    if direction is None:
        return
    section.said_sends, section.said_receives = direction.sends, direction.receives
    section.told = view.playing if direction.sends else None
    if answered is not None:
        if direction.receives:
            section.peer_sends = answered.sends
        # An answer to an offer that sends nothing tells nothing of what the peer could receive.
        if direction.sends and not answered.receives:
            section.refuse_down()


def _match_answer(view: _Said, peer: PeerSection) -> tuple[PeerSection, bool]:
    """Return what of an answered section both sides can use, and whether that is anything."""
    section = view.section
    if peer.media.media != section.media_name or (view.direction is not None and peer.mid != section.mid):
        raise SdpError("the answer has other media sections than the offer")
    if view.direction is None or peer.media.port == 0:
        return peer, False
    peer = peer._replace(terms=offered_part(peer.terms, section.terms))
    return peer, peer.terms.is_shared
