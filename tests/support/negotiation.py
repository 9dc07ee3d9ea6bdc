"""A Negotiator beside recorded offers and the model peer, for tests of what they say to each other."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.rtc.negotiation import LocalTransport, Negotiator
from kaamos.rtc.sdp import Description
from tests.support.sdp_peer import SdpPeer

OFFERS = sorted((Path(__file__).parent.parent / "data" / "sdp").glob("*.sdp"))
LOCAL = LocalTransport(
    ufrag="server12",
    pwd="p" * 24,
    fingerprint="sha-256 " + ":".join(["AB"] * 32),
    addresses=(("192.0.2.1", 7882), ("2001:db8::1", 7882)),
)


@dataclass
class Ssrcs:
    """Counts up; a copy of its negotiator counts by itself."""

    last: int = 999

    def __call__(self) -> int:
        self.last += 1
        return self.last


def negotiator(**options: int) -> Negotiator:
    return Negotiator(LOCAL, session_id=5, cname="kaamos", new_ssrc=Ssrcs(), **options)


def recorded(name: str) -> str:
    return next(path for path in OFFERS if path.name == f"{name}-offer.sdp").read_bytes().decode()


def answer_to(offer: str) -> tuple[Negotiator, Description]:
    server = negotiator()
    server.receive_offer(offer)
    return server, Description.parse(server.create_answer())


def established(*transceivers: tuple[str, str]) -> tuple[Negotiator, SdpPeer]:
    """A server and a peer after the peer's first offer."""
    server, peer = negotiator(), SdpPeer()
    for kind, direction in transceivers:
        peer.add(kind, direction)
    client_offers(server, peer)
    return server, peer


def client_offers(server: Negotiator, peer: SdpPeer) -> None:
    server.receive_offer(peer.offer())
    peer.accept(server.create_answer())


def server_offers(server: Negotiator, peer: SdpPeer) -> None:
    server.receive_answer(peer.answer(server.create_offer()))


def refused(server: Negotiator, offer: str) -> str:
    """Return why an offer was refused."""
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_offer(offer)
    assert caught.value.code is ErrorCode.INVALID_SDP
    return caught.value.message
