"""Input from hell: every bad datagram counts once, under its name, and disturbs nobody."""

import asyncio
import random
import socket
from collections.abc import Callable

import pytest

from kaamos.media.description import SrtpProfile
from tests.support.media_peer import EngineRoom, MediaPeer, connected, engine_room, eventually
from tests.support.packets import VP8_KEYFRAME, nack, read_rtp, receiver_report, rtp_packet, sender_report
from tests.support.srtp_model import SrtpModel

every_profile = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)


def media(seq: int, ssrc: int = 0x1234) -> bytes:
    """A packet that any subscriber can start at, and that is like no other."""
    return rtp_packet(seq, ssrc=ssrc, timestamp=seq * 3000, payload=VP8_KEYFRAME + seq.to_bytes(4, "big"))


RANDOM = random.Random(7983)


def with_header_lie(peer: MediaPeer, first: int, seq: int) -> bytes:
    """A packet that claims CSRCs or extensions it has not, under a right tag of the peer's key."""
    lie = rtp_packet(seq, payload=b"")
    packet = bytes([first]) + lie[1:] + b"\xbe\xde\xff\xff"
    return SrtpModel(peer.profile, peer.keys.remote).rtp(packet, 0)


def cut(data: bytes, length: int) -> bytes:
    return data[:length]


Hostile = Callable[[MediaPeer], bytes]

FROM_STRANGERS: dict[str, tuple[Hostile, str]] = {
    "empty": (lambda p: b"", "short"),
    "one byte": (lambda p: b"\x80", "short"),
    "seven bytes": (lambda p: bytes(7), "short"),
    "random, reserved class": (lambda p: b"\x50" + RANDOM.randbytes(500), "unknown_class"),
    "ZRTP": (lambda p: b"\x10" + RANDOM.randbytes(50), "unknown_class"),
    "QUIC": (lambda p: b"\xc3" + RANDOM.randbytes(1200), "unknown_class"),
    "oversized": (lambda p: b"\x80" + bytes(1536), "oversize"),
    "huge": (lambda p: b"\x80" + bytes(60_000), "oversize"),
    "DTLS": (lambda p: b"\x16\xfe\xfd" + bytes(100), "unknown_path"),
    "RTP": (lambda p: rtp_packet(1), "unknown_path"),
    "RTCP": (lambda p: receiver_report(1), "unknown_path"),
    "SRTP of somebody else": (lambda p: p.seal(media(1, RANDOM.randrange(1 << 32))), "unknown_path"),
    "STUN, too short": (lambda p: cut(p.binding_request(), 19), "stun_malformed"),
    "STUN, cut": (lambda p: cut(p.binding_request(), 60), "stun_malformed"),
    "STUN, longer than it says": (lambda p: p.binding_request() + bytes(4), "stun_malformed"),
    "STUN, attribute lies": (
        lambda p: b"\0\1\0\x08\x21\x12\xa4\x42" + bytes(12) + b"\0\6\xff\xff" + bytes(4),
        "stun_malformed",
    ),
    "STUN without credentials": (lambda p: b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), "stun_malformed"),
    "STUN, no cookie": (lambda p: b"\0\1\0\0" + bytes(16), "stun_malformed"),
    "STUN, another method": (lambda p: b"\0\3\0\0\x21\x12\xa4\x42" + bytes(12), "stun_unexpected"),
    "STUN, wrong password": (lambda p: p.binding_request(pwd="x" * 22), "stun_bad_integrity"),
    "STUN, unknown ufrag": (lambda p: p.binding_request({"USERNAME": "nobody:theirs"}), "stun_unknown_ufrag"),
    "STUN, empty ufrag": (lambda p: p.binding_request({"USERNAME": ":"}), "stun_unknown_ufrag"),
    "STUN, ufrag without colon": (
        lambda p: p.binding_request({"USERNAME": p.ufrag + "x"}),
        "stun_unknown_ufrag",
    ),
    "STUN answer": (lambda p: b"\1\1\0\0\x21\x12\xa4\x42" + bytes(12), "unknown_path"),
    "STUN error": (lambda p: b"\1\x11\0\0\x21\x12\xa4\x42" + bytes(12), "unknown_path"),
}

FROM_A_PEER: dict[str, tuple[Hostile, str]] = {
    "garbage RTP": (lambda p: b"\x80\x60" + RANDOM.randbytes(300), "srtp_auth"),
    "RTP in the clear": (lambda p: rtp_packet(1, payload=bytes(100)), "srtp_auth"),
    "RTP of eight bytes": (lambda p: b"\x80\x60" + bytes(6), "rtp_malformed"),
    "RTP of twelve bytes": (lambda p: b"\x80\x60" + bytes(10), "srtp_other"),
    "tampered": (lambda p: p.seal(media(40_001))[:-1] + b"\0", "srtp_auth"),
    "CSRC count lies": (lambda p: with_header_lie(p, 0x8F, 40_002), "srtp_other"),
    "extension length lies": (lambda p: with_header_lie(p, 0x90, 40_003), "srtp_other"),
    "padding of zero": (lambda p: p.seal(pad(40_004, b"\0")), "rtp_malformed"),
    "padding longer than the payload": (lambda p: p.seal(pad(40_005, b"\xff")), "rtp_malformed"),
    "padding without payload": (lambda p: p.seal(pad(40_006, b"")), "rtp_malformed"),
    "unknown SSRC": (lambda p: p.seal(rtp_packet(40_007, ssrc=0xBAD, payload_type=5)), "unknown_ssrc"),
    "unknown payload type": (lambda p: p.seal(rtp_packet(40_008, payload_type=5)), "unknown_payload_type"),
    "garbage RTCP": (lambda p: b"\x80\xc8" + RANDOM.randbytes(60), "srtcp"),
    "RTCP of eight bytes": (lambda p: b"\x80\xc9\0\1" + bytes(4), "srtcp"),
    "RTCP in the clear": (lambda p: receiver_report(1, bytes(24)), "srtcp"),
    "RTCP whose length lies": (
        lambda p: p.seal_rtcp(b"\x80\xc9\0\x09" + bytes(8)),
        "rtcp_malformed",
    ),
    "RTCP with a stump": (
        lambda p: p.seal_rtcp(receiver_report(1) + b"\x80\xc9"),
        "rtcp_malformed",
    ),
    "RTCP of version 1": (
        lambda p: p.seal_rtcp(receiver_report(1) + b"\x40\xc9\0\0"),
        "rtcp_malformed",
    ),
}


def pad(seq: int, payload: bytes) -> bytes:
    data = rtp_packet(seq, payload=payload)
    return bytes([data[0] | 0x20]) + data[1:]


def one_more_drop(room: EngineRoom, before: dict[str, int], reason: str) -> None:
    """Exactly one drop counter rises, by one."""
    expected = {**before, reason: before.get(reason, 0) + 1}
    eventually(lambda: room.drops() != before, reason)
    assert room.drops() == expected


def undisturbed(ada: MediaPeer, grace: MediaPeer, seq: int) -> None:
    ada.send(media(seq))
    assert read_rtp(grace.open(grace.receive_rtp())).payload == VP8_KEYFRAME + seq.to_bytes(4, "big")


@pytest.mark.parametrize("name", FROM_STRANGERS)
async def test_a_bad_datagram_of_a_stranger_counts_once_and_disturbs_nobody(name: str) -> None:
    make, reason = FROM_STRANGERS[name]
    with engine_room() as room, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        undisturbed(ada, grace, 1)
        for _ in range(2):
            before = room.drops()
            stranger.sendto(make(ada), ("127.0.0.1", room.engine.port))
            one_more_drop(room, before, reason)
        undisturbed(ada, grace, 2)
        assert ada.datagrams.empty() and grace.datagrams.empty()
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):
            stranger.recv(2000)  # nothing that fails its check is answered


@pytest.mark.parametrize("name", FROM_A_PEER)
async def test_a_bad_datagram_of_a_peer_counts_once_and_disturbs_nobody(name: str) -> None:
    make, reason = FROM_A_PEER[name]
    with engine_room() as room:
        ada, grace, mallory = room.peer(), room.peer(), room.peer()
        connected(ada, grace)
        mallory.publish()
        undisturbed(ada, grace, 1)
        before = room.drops()
        mallory.socket.send(make(mallory))
        one_more_drop(room, before, reason)
        undisturbed(ada, grace, 2)
        mallory.send(media(40_100))  # and its own media may go on
        eventually(lambda: room.counter("rtp_up") == 3)


@every_profile
async def test_a_replayed_packet_counts_once_and_goes_nowhere(profile: SrtpProfile) -> None:
    with engine_room(profile) as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        sealed = ada.seal(media(1))
        ada.socket.send(sealed)
        grace.receive_rtp()
        ada.socket.send(sealed)
        one_more_drop(room, {}, "srtp_replay")
        report = ada.seal_rtcp(receiver_report(1))
        ada.socket.send(report)
        ada.socket.send(report)
        one_more_drop(room, {"srtp_replay": 1}, "srtcp")
        undisturbed(ada, grace, 2)


@every_profile
async def test_rtcp_cut_anywhere_counts_once_for_each_cut(profile: SrtpProfile) -> None:
    with engine_room(profile) as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        sealed = ada.seal_rtcp(sender_report(0x1234, 1 << 40, 1, 1, 1, bytes(24)) + nack(1, 2, (3, 4)))
        for length in range(8, len(sealed)):
            before = room.drops()
            ada.socket.send(sealed[:length])
            one_more_drop(room, before, "srtcp")
        ada.socket.send(sealed)
        eventually(lambda: room.counter("rtcp_up") == 1)
        undisturbed(ada, grace, 1)


@every_profile
async def test_rtp_cut_anywhere_counts_once_for_each_cut(profile: SrtpProfile) -> None:
    with engine_room(profile) as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        sealed = ada.seal(rtp_packet(1, csrcs=(1, 2), extensions={3: b"v"}, payload=VP8_KEYFRAME))
        for length in range(8, len(sealed)):
            before = room.drops()
            ada.socket.send(sealed[:length])
            eventually(lambda before=before: room.drops() != before)  # type: ignore[misc]
            (reason,) = (name for name, n in room.drops().items() if n != before.get(name))
            assert room.drops()[reason] == before.get(reason, 0) + 1, length
            assert reason in ("rtp_malformed", "srtp_auth", "srtp_other")
        ada.socket.send(sealed)
        assert grace.open(grace.receive_rtp())


@pytest.mark.parametrize("make", [lambda: media(1), lambda: receiver_report(1)], ids=["RTP", "RTCP"])
async def test_media_before_dtls_is_done_counts_as_without_keys(make: Callable[[], bytes]) -> None:
    with engine_room() as room:
        ada = room.peer(is_connected=False)
        room.engine.select_path(ada.transport, ada.path)
        ada.socket.send(make())
        one_more_drop(room, {}, "no_keys")


async def test_a_subscriber_without_path_or_keys_costs_a_counted_drop_each() -> None:
    with engine_room() as room:
        ada, grace, late = room.peer(), room.peer(), room.peer(is_connected=False)
        uptrack = connected(ada, grace)
        late.subscribe(uptrack)
        undisturbed(ada, grace, 1)
        assert room.drops() == {"no_path": 1}
        late.connect()
        undisturbed(ada, grace, 2)
        assert late.open(late.receive_rtp())
        assert room.drops() == {"no_path": 1}


async def test_a_flood_of_strangers_fills_their_own_ring_only() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        guests = [room.peer(is_connected=False) for _ in range(10)]
        connected(ada, grace)
        requests = [(guest.socket, guest.binding_request()) for guest in guests]
        for sent in range(1, 4001):  # more than 256 KB of events, while the loop does not run
            sock, request = requests[sent % 10]
            sock.send(request)
            if sent % 50 == 0:
                eventually(lambda sent=sent: room.counter("datagrams_up") >= sent)  # type: ignore[misc]
        assert room.drops() == {"event_ring_full": 4000 - room.counter("stun_raised")}
        ada.socket.send(b"\x16\xfe\xfd from a known peer")
        assert (await ada.datagram())[1] == b"\x16\xfe\xfd from a known peer"
        undisturbed(ada, grace, 1)
        raised = 4000 - room.drops()["event_ring_full"]
        for i in range(1, raised + 1):  # the ring filled in order
            assert (await guests[i % 10].datagram())[1] == requests[i % 10][1]
        sock, request = requests[0]
        sock.send(request)  # and there is room again
        assert (await guests[0].datagram())[1] == request


async def test_one_peer_may_cost_the_loop_only_so_many_datagrams_and_keeps_its_consent() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        for sent in range(1, 601):
            ada.socket.send(b"\x17\xfe\xfd a record of data")
            if sent % 50 == 0:
                eventually(lambda sent=sent: room.counter("datagrams_up") >= sent)  # type: ignore[misc]
        drops = room.drops()
        assert drops == {"rate_limited": 600 - room.counter("dtls_raised")}
        assert room.counter("dtls_raised") >= 400
        consent = b"\1\1\0\0\x21\x12\xa4\x42" + bytes(12)  # an answer to our check
        ada.socket.send(consent)
        eventually(lambda: room.counter("stun_raised") == 1)
        grace.socket.send(b"\x16\xfe\xfd from another peer")
        assert (await grace.datagram())[1] == b"\x16\xfe\xfd from another peer"


async def test_a_peer_may_use_only_so_many_ssrcs() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        undisturbed(ada, grace, 1)
        for i in range(60):
            ada.send(rtp_packet(1, ssrc=0x9000 + i))
        eventually(lambda: room.drops().get("too_many_ssrcs", 0) == 60 - 15)  # sixteen a section
        undisturbed(ada, grace, 2)


async def test_random_datagrams_of_every_class_disturb_nobody() -> None:
    rng = random.Random(11)
    with engine_room() as room, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        ada, grace, mallory = room.peer(), room.peer(), room.peer()
        connected(ada, grace)
        mallory.publish()
        sent = 0
        for round_ in range(100):
            for _ in range(30):
                data = bytes([rng.randrange(256)]) + rng.randbytes(
                    rng.choice([0, 5, 7, 11, 19, 40, 400, 1500, 1600])
                )
                mallory.socket.send(data)
                stranger.sendto(data, ("127.0.0.1", room.engine.port))
                sent += 2
            undisturbed(ada, grace, round_)
            await asyncio.sleep(0)
        eventually(lambda: room.counter("datagrams_up") >= sent + 100)
        dropped = sum(room.drops().values())
        assert dropped + room.counter("dtls_raised") + room.counter("stun_raised") == sent


async def test_a_torn_connection_is_noticed_by_what_was_last_received() -> None:
    with engine_room() as room:
        ada = room.peer()
        assert room.engine.last_received(ada.transport) == 0.0
        ada.socket.send(b"\x80\x60" + bytes(100))  # not authenticated: proves nothing
        eventually(lambda: room.drops() == {"srtp_auth": 1})
        assert room.engine.last_received(ada.transport) == 0.0
        ada.send_rtcp(receiver_report(1))
        eventually(lambda: room.engine.last_received(ada.transport) > 0)
