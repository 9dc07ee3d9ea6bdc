"""The one transport that all sections of a connection share, as descriptions state it (RFC 9143).

Only the first accepted section of the BUNDLE group speaks for the transport; what the others say of ICE and
DTLS is for a peer that does not bundle, and is not read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kaamos.rtc.sdp import Block, Description, Draft, Fingerprint, Media, SdpError, Setup
from kaamos.rtc.sections import PeerSection

T = TypeVar("T")

# What a modern DTLS stack checks certificates with; the length is that of the value in characters.
_FINGERPRINT_CHARS = {"sha-256": 95, "sha-384": 143, "sha-512": 191}
_MAX_FINGERPRINTS = 8


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """What our descriptions say of the transport."""

    ufrag: str
    pwd: str
    fingerprint: str  # "sha-256 AB:CD:..."
    addresses: tuple[tuple[str, int], ...]  # (ip, port) of each host candidate, best first

    @property
    def candidates(self) -> tuple[str, ...]:
        """The values of our ``a=candidate`` lines: host candidates over UDP (RFC 8839 section 5.1)."""
        # Priority by RFC 8445 section 5.1.2.1: type preference 126, a local preference each, component 1.
        return tuple(
            f"{index + 1} 1 udp {(126 << 24) + ((65535 - index) << 8) + 255} {ip} {port} typ host"
            for index, (ip, port) in enumerate(self.addresses)
        )

    @property
    def default_address(self) -> tuple[str, int]:
        """The value of ``c=`` and the port of ``m=`` lines: the best candidate, else the discard port."""
        ip, port = self.addresses[0] if self.addresses else ("0.0.0.0", 9)
        return f"IN {'IP6' if ':' in ip else 'IP4'} {ip}", port

    def describe(self, media: Draft, setup: Setup, *, with_candidates: bool) -> None:
        """Append the transport's lines; candidates belong into the first section of the bundle only."""
        media.add("ice-ufrag", self.ufrag)
        media.add("ice-pwd", self.pwd)
        media.add("ice-options", "trickle")
        media.add("fingerprint", self.fingerprint)
        media.add("setup", setup)
        if with_candidates:
            for candidate in self.candidates:
                media.add("candidate", candidate)
            media.add("end-of-candidates")


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """What the peer's descriptions say of the transport; but for ufrag and pwd the same for its life."""

    ufrag: str
    pwd: str
    fingerprints: tuple[tuple[str, str], ...]  # (lower-case algorithm, upper-case value)
    is_dtls_client: bool  # WE play DTLS client

    def restarts_ice_of(self, known: "RemoteTransport | None") -> bool:
        """Return whether this description asks for an ICE restart, after the ``known`` one, if any."""
        return known is not None and (self.ufrag, self.pwd) != (known.ufrag, known.pwd)


def read_bundle(description: Description, accepted: Sequence[PeerSection]) -> tuple[Media, ...]:
    """Return the sections to read the transport from, best first: empty if nothing is accepted.

    Raises:
        SdpError: a group names an unknown mid, or an accepted section is outside the group or without
            rtcp-mux (RFC 8858) though it is for media.
    """
    by_mid = {media.mid: media for media in description.media if media.mid is not None}
    bundles = description.bundles
    named = [mid for bundle in bundles for mid in bundle]
    if len(set(named)) != len(named) or not by_mid.keys() >= set(named):
        raise SdpError("a BUNDLE group names a section that is not there, or one twice")
    if not accepted:
        return ()
    group = next((bundle for bundle in bundles if accepted[0].mid in bundle), ())
    for section in accepted:
        if section.mid not in group:
            raise SdpError(f"section {section.mid!r} is not bundled with the others")
        if section.terms.kind is not None and not section.media.has("rtcp-mux"):
            raise SdpError(f"section {section.mid!r} has no a=rtcp-mux")
    mids = {section.mid for section in accepted}
    first = next(mid for mid in group if mid in mids)
    # Where we refuse the section that the offer meant to speak for all, its lines may still be the only
    # ones: later sections of a bundle may leave theirs out (RFC 9143 section 7.1.3).
    return by_mid[first], by_mid[group[0]]


def read_transport(
    description: Description,
    tagged: Sequence[Media],
    known: RemoteTransport | None,
    *,
    is_offer: bool,
    may_restart: bool,
) -> RemoteTransport:
    """Return the peer's transport, checked against what is already ``known`` of it.

    Raises:
        SdpError: something is missing or malformed, or differs from before.  New ICE credentials are an ICE
            restart (RFC 8839 section 4.4.1.1.1) where there ``may_restart`` one be; there is no second DTLS
            association and no change of the DTLS role.
    """
    blocks = (*tagged, description.session)
    ufrag = _first(blocks, lambda block: block.ufrag)
    pwd = _first(blocks, lambda block: block.pwd)
    if ufrag is None or pwd is None:
        raise SdpError("description has no a=ice-ufrag or no a=ice-pwd")
    fingerprints = _usable(_first(blocks, lambda block: block.fingerprints) or ())
    setup = _first(blocks, lambda block: block.setup)
    is_client = _is_dtls_client(setup, known, is_offer=is_offer)
    remote = RemoteTransport(ufrag, pwd, fingerprints, is_client)
    if known is not None:
        if (fingerprints, is_client) != (known.fingerprints, known.is_dtls_client):
            raise SdpError("fingerprint or DTLS role changed on a living connection")
        if remote.restarts_ice_of(known) and not may_restart:
            raise SdpError("ICE credentials changed in an answer on a living connection")
    return remote


def _first(blocks: Sequence[Block], read: Callable[[Block], T | None]) -> T | None:
    """The value of the first block that has one."""
    return next((value for block in blocks if (value := read(block))), None)


def _usable(fingerprints: Sequence[Fingerprint]) -> tuple[tuple[str, str], ...]:
    """Return those with a hash we check, sorted, so that their order does not matter."""
    found = {
        (algorithm, value)
        for algorithm, value in fingerprints
        if len(value) == _FINGERPRINT_CHARS.get(algorithm)
    }
    if not 0 < len(found) <= _MAX_FINGERPRINTS:
        raise SdpError("description has no usable a=fingerprint")
    return tuple(sorted(found))


def _is_dtls_client(setup: Setup | None, known: RemoteTransport | None, *, is_offer: bool) -> bool:
    """Return whether we play DTLS client (RFC 8842 section 5; we answer actpass with passive, design 1.5)."""
    if setup is Setup.ACTPASS and is_offer:
        return known is not None and known.is_dtls_client
    if setup is None or setup is Setup.ACTPASS:
        raise SdpError("description has no usable a=setup")
    return setup is Setup.PASSIVE
