"""Fuzz target: a description from the network, through parsing and a whole negotiation."""

import itertools

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.media.description import Kind
from kaamos.rtc.negotiation import LocalTransport, Negotiator
from kaamos.rtc.sdp import Description
from kaamos.rtc.simulcast import MAX_RIDS

_LOCAL = LocalTransport("server12", "p" * 24, "sha-256 " + ":".join(["AB"] * 32), (("192.0.2.1", 7882),))
_FIRST_OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\na=setup:actpass\r\n"
    "a=ice-ufrag:peer\r\na=ice-pwd:"
    + "x" * 24
    + "\r\na=fingerprint:sha-256 "
    + ":".join(["CD"] * 32)
    + "\r\n"
)


def fuzz_one(data: bytes) -> None:
    # Invariant: any bytes, as a first offer, a later offer or an answer, are either taken, and then every
    # text we write is sound SDP and rids and extension ids are within bounds, or refused with INVALID_SDP,
    # and then the state is as it was.
    text = data.decode("utf-8", "surrogateescape")
    _as_first_offer(text)
    _as_later_description(text)


def _negotiator() -> Negotiator:
    ssrcs = itertools.count(1)
    return Negotiator(_LOCAL, session_id=1, cname="kaamos", new_ssrc=lambda: next(ssrcs))


def _state(server: Negotiator) -> tuple[object, ...]:
    ups = dict(server.up_sections)
    for up in ups.values():
        rids = up.config.rids
        assert len(set(rids)) == len(rids) <= MAX_RIDS and all(0 < len(rid) <= 16 for rid in rids)
        assert all(0 < number <= 14 for number in up.config.extensions.values())
    return ups, dict(server.down_sections), server.remote, server.has_outstanding_offer


def _take(server: Negotiator, text: str, *, is_offer: bool) -> bool:
    before = _state(server)
    try:
        server.receive_offer(text) if is_offer else server.receive_answer(text)
    except RemoteProtocolError as error:
        assert error.code is ErrorCode.INVALID_SDP
        assert _state(server) == before
        return False
    return True


def _check(text: str) -> None:
    assert Description.parse(text).write() == text


def _as_first_offer(text: str) -> None:
    server = _negotiator()
    if not _take(server, text, is_offer=True):
        return
    for kind in Kind:
        mid = server.free_section(kind)
        if mid is not None:
            server.play(mid, "user", f"track {kind}")
    _check(server.create_answer())
    if server.can_add_section:
        server.play(server.add_section(Kind.VIDEO), "user", "track")
    _check(server.create_offer())
    server.withdraw_offer()
    # Whatever was taken once can be said again.
    assert _take(server, text, is_offer=True)
    _check(server.create_answer())


def _as_later_description(text: str) -> None:
    server = _negotiator()
    server.receive_offer(_FIRST_OFFER)
    server.create_answer()
    server.play(server.add_section(Kind.AUDIO), "user", "track")
    _check(server.create_offer())
    _take(server, text, is_offer=False)
    server.withdraw_offer()
    if _take(server, text, is_offer=True):
        _check(server.create_answer())
