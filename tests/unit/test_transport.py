"""PeerTransport against aiortc's ICE and DTLS objects over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import aioice
import pytest
from aiortc import rtcdtlstransport
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTPProtectionProfile,
)
from pylibsrtp import Policy, Session

from kaamos.errors import LocalProtocolError
from kaamos.media.description import Path, SrtpProfile
from kaamos.media.engine import DatagramKind
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.dtls import Certificate
from kaamos.rtc.transport import PeerTransport
from tests.support.fake_engine import FakeEngine
from tests.support.ortc import OrtcClient, assert_no_complaints, eventually, only_tasks
from tests.support.required import address_family

CERTIFICATE = Certificate()
RTP = bytes.fromhex("806f0001000000010000abcd") + b"payload of a packet"


class Served:
    """A PeerTransport with what it reported."""

    def __init__(self, engine: FakeEngine, addresses: Sequence[str], **timeouts: float) -> None:
        self.engine = engine
        self.is_connected = False
        self.reasons: list[str] = []
        self.transport = PeerTransport(
            engine,  # type: ignore[arg-type]
            CERTIFICATE,
            addresses,
            on_connected=self._note_connected,
            on_closed=self.reasons.append,
            on_data=self._take_data,
            **timeouts,
        )
        self.record = engine.transports[self.transport.id]

    def _note_connected(self) -> None:
        self.is_connected = True

    async def _take_data(self, message: DataMessage) -> None:
        raise AssertionError("no data channels in these tests")

    async def meet(self, client: OrtcClient) -> None:
        self.transport.start(client.remote)
        await client.connect(self.transport.local)
        await eventually(lambda: self.is_connected)


@pytest.fixture
async def engine(caplog: pytest.LogCaptureFixture) -> AsyncIterator[FakeEngine]:
    """An open engine; afterwards nothing may be left of what used it, and nothing was complained about."""
    before = asyncio.all_tasks()
    engine = FakeEngine()
    engine.open()
    yield engine
    engine.close()
    assert engine.transports == {}
    await only_tasks(before)
    assert_no_complaints(caplog)


@pytest.fixture
def serve(engine: FakeEngine) -> Callable[..., Served]:
    return lambda *addresses, **timeouts: Served(engine, addresses or ["127.0.0.1"], **timeouts)


@pytest.fixture(autouse=True)
def clients_stay_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.mark.parametrize("client_role", ["client", "server"])
async def test_a_client_connects_in_either_dtls_role(serve: Callable[..., Served], client_role: str) -> None:
    served, client = serve(), OrtcClient(dtls_role=client_role)
    await served.meet(client)
    assert client.dtls.state == "connected" and served.record.keys is not None
    assert served.record.selected in served.record.paths
    await client.close()
    await eventually(lambda: served.reasons == ["closed by peer"])


PROFILES = [
    ([SRTP_AEAD_AES_128_GCM], SrtpProfile.AEAD_AES_128_GCM),
    ([SRTP_AEAD_AES_256_GCM], SrtpProfile.AEAD_AES_256_GCM),
    ([SRTP_AES128_CM_SHA1_80], SrtpProfile.AES128_CM_SHA1_80),
]


@pytest.mark.parametrize("client_role", ["client", "server"])
@pytest.mark.parametrize(("offered", "expected"), PROFILES)
async def test_the_keys_fit_those_of_the_peer_in_both_directions(
    serve: Callable[..., Served],
    client_role: str,
    offered: list[SRTPProtectionProfile],
    expected: SrtpProfile,
) -> None:
    served, client = serve(), OrtcClient(dtls_role=client_role, profiles=offered)
    await served.meet(client)
    keys = served.record.keys
    assert keys is not None and keys.profile is expected
    assert len(keys.local) == len(keys.remote) == expected.key_and_salt_bytes

    profile = offered[0].libsrtp_profile
    await client.dtls._send_rtp(RTP)
    await served.engine.until(lambda: served.record.media)
    inbound = Session(Policy(key=keys.remote, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    assert inbound.unprotect(served.record.media[0]) == RTP
    outbound = Session(Policy(key=keys.local, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    assert client.dtls._rx_srtp.unprotect(outbound.protect(RTP)) == RTP

    await served.transport.close()
    await eventually(lambda: client.dtls.state == "closed")
    await client.close()


async def test_our_order_of_profiles_decides_when_we_are_the_dtls_server(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    client = OrtcClient(profiles=[SRTP_AES128_CM_SHA1_80, SRTP_AEAD_AES_256_GCM, SRTP_AEAD_AES_128_GCM])
    await served.meet(client)
    assert served.record.keys is not None and served.record.keys.profile is SrtpProfile.AEAD_AES_128_GCM
    await served.transport.close()
    await client.close()
    assert served.reasons == []


@pytest.mark.parametrize("client_role", ["client", "server"])
async def test_a_wrong_fingerprint_fails_and_no_keys_come_out(
    serve: Callable[..., Served], client_role: str
) -> None:
    served, client = serve(), OrtcClient(dtls_role=client_role)
    wrong = replace(client.remote, fingerprints=(("sha-256", ":".join(["AB"] * 32)),))
    served.transport.start(wrong)
    await client.connect(served.transport.local)
    await eventually(lambda: served.reasons == ["dtls failed"])
    assert served.record.keys is None and not served.is_connected
    await client.close()


async def test_a_client_that_never_speaks_ends_in_an_ice_timeout(serve: Callable[..., Served]) -> None:
    served, client = serve(ice_timeout_s=0.05), OrtcClient()
    served.transport.start(client.remote)
    await eventually(lambda: served.reasons == ["ice timeout"])
    await client.close()


@pytest.mark.parametrize("client_role", ["client", "server"])
async def test_a_client_that_does_ice_only_ends_in_a_dtls_timeout(
    serve: Callable[..., Served], client_role: str
) -> None:
    served, client = serve(dtls_timeout_s=0.05), OrtcClient(dtls_role=client_role)
    served.transport.start(client.remote)
    await client.connect_ice(served.transport.local)
    await eventually(lambda: served.reasons == ["dtls timeout"])
    await client.close()


async def test_a_client_that_vanishes_is_lost_when_its_consent_ends(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, client = serve(), OrtcClient()
    await served.meet(client)
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.01)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.01)
    connection = served.transport._ice._connection
    connection._query_consent_task.cancel()
    connection._query_consent_task = asyncio.create_task(connection.query_consent())
    client.vanish()
    await eventually(lambda: served.reasons == ["consent lost"])
    await client.close()


@pytest.mark.parametrize("announced", [["127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.3", "127.0.0.2"]])
async def test_every_announced_address_answers_by_itself(
    serve: Callable[..., Served], announced: list[str]
) -> None:
    served, client = serve(*announced), OrtcClient()
    await served.meet(client)
    assert {path.local_ip for path in served.record.paths} <= set(announced)
    assert {path.local_ip for path, _ in served.engine.sent} <= set(announced)
    await served.transport.close()
    await client.close()


async def test_a_client_connects_over_ipv6(
    engine: FakeEngine, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    address_family("::1", has_ipv6=engine.has_ipv6)
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["::1"])
    served, client = serve("::1"), OrtcClient()
    await served.meet(client)
    assert served.record.selected is not None and served.record.selected.local_ip == "::1"
    await served.transport.close()
    await client.close()


async def check(client: OrtcClient, local_ip: str, *, nominate: bool) -> None:
    """Let the client check the path to one of our addresses."""
    connection = client.ice._connection
    pair = connection._nominated[1]
    request = connection.build_request(pair, nominate=nominate)
    address = (local_ip, pair.remote_addr[1])
    await pair.protocol.request(request, address, integrity_key=connection.remote_password.encode())


async def test_media_and_dtls_follow_the_client_to_another_path(serve: Callable[..., Served]) -> None:
    served, client = serve("127.0.0.1", "127.0.0.2"), OrtcClient()
    await served.meet(client)
    for local_ip in ("127.0.0.2", "127.0.0.1", "127.0.0.2"):
        await check(client, local_ip, nominate=True)
        await served.engine.until(
            lambda ip=local_ip: served.record.selected and served.record.selected.local_ip == ip
        )
        assert served.transport._ice.selected_path == served.record.selected
    await served.transport.close()
    (path, _) = served.engine.sent[-1]
    assert path.local_ip == "127.0.0.2"
    await eventually(lambda: client.dtls.state == "closed")
    await client.close()


async def test_a_path_that_another_peer_was_given_is_taken_back_by_a_check(
    serve: Callable[..., Served],
) -> None:
    served, other, client = serve(), serve(), OrtcClient()
    await served.meet(client)
    path = served.record.selected
    assert path is not None
    served.engine.bind_path(other.transport.id, path)
    assert served.record.selected is None
    await check(client, "127.0.0.1", nominate=False)
    assert served.record.selected == path and other.record.paths == set()
    await other.transport.close()
    await served.transport.close()
    await client.close()


async def test_many_clients_share_the_port(serve: Callable[..., Served]) -> None:
    pairs = [(serve(), OrtcClient()) for _ in range(8)]
    await asyncio.gather(*(served.meet(client) for served, client in pairs))
    assert len({served.record.keys.local for served, _ in pairs if served.record.keys}) == 8
    for served, client in pairs:
        await served.transport.close()
        await client.close()


async def test_a_transport_starts_once(serve: Callable[..., Served]) -> None:
    served, client = serve(), OrtcClient()
    served.transport.start(client.remote)
    with pytest.raises(LocalProtocolError):
        served.transport.start(client.remote)
    await served.transport.close()
    with pytest.raises(LocalProtocolError):
        served.transport.start(client.remote)
    await client.close()


async def test_closing_before_the_start_leaves_nothing(serve: Callable[..., Served]) -> None:
    served = serve()
    await served.transport.close()
    await served.transport.close()
    assert served.reasons == []


async def test_closing_at_any_step_of_connecting_leaves_nothing(serve: Callable[..., Served]) -> None:
    # Counted in datagrams that we have sent: every one is another step of ICE and DTLS.
    for steps in range(12):
        served, client = serve(), OrtcClient(dtls_role="client" if steps % 2 else "server")
        served.engine.sent.clear()
        served.transport.start(client.remote)
        connecting = asyncio.create_task(client.connect(served.transport.local))
        await eventually(lambda s=served, n=steps: len(s.engine.sent) >= n or s.is_connected)
        await served.transport.close()
        assert served.reasons == []
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.close()


@pytest.mark.parametrize("client_role", ["client", "server"])
async def test_an_end_right_after_any_datagram_leaves_nothing(
    serve: Callable[..., Served], client_role: str
) -> None:
    # What the datagram has set off in tasks of ICE and DTLS runs after the end.
    for count in range(1, 9):
        served, client = serve(), OrtcClient(dtls_role=client_role)
        forward, seen = served.record.on_datagram, 0

        def receive(
            kind: DatagramKind,
            data: bytes,
            path: Path,
            served: Served = served,
            forward: Callable[[DatagramKind, bytes, Path], None] = forward,
            count: int = count,
        ) -> None:
            nonlocal seen
            forward(kind, data, path)
            seen += 1
            if seen == count:
                served.transport.end("test")

        served.record.on_datagram = receive
        served.transport.start(client.remote)
        connecting = asyncio.create_task(client.connect(served.transport.local))
        await eventually(lambda s=served: s.reasons or s.is_connected)
        assert (served.reasons, served.is_connected) in ((["test"], False), ([], True))
        await served.transport.close()
        assert not (served.reasons and served.is_connected)
        connecting.cancel()
        await asyncio.wait([connecting])
        await client.close()


async def test_closing_when_a_datagram_meets_the_wait_for_it_does_not_hang(
    serve: Callable[..., Served],
) -> None:
    # asyncio.wait_for, in which aiortc waits, loses a cancellation then (Python 3.11).
    served, client = serve(dtls_timeout_s=60.0), OrtcClient(dtls_role="server")
    served.transport.start(client.remote)
    await client.connect_ice(served.transport.local)
    await eventually(lambda: any(data[0] == 22 for _, data in served.engine.sent))
    assert served.record.selected is not None
    junk = b"\x17\xfe\xfd" + bytes(60)
    served.record.on_datagram(DatagramKind.DTLS, junk, served.record.selected)
    async with asyncio.timeout(5):
        await served.transport.close()
    await client.close()


async def test_two_closes_at_once_both_wait_for_the_end(serve: Callable[..., Served]) -> None:
    served, client = serve(), OrtcClient()
    await served.meet(client)
    await asyncio.gather(served.transport.close(), served.transport.close())
    assert served.reasons == []
    await client.close()


async def test_an_end_by_itself_can_be_followed_by_close_from_its_callback(
    serve: Callable[..., Served],
) -> None:
    served, client = serve(), OrtcClient()
    closing: list[asyncio.Task[None]] = []
    await served.meet(client)
    served.transport._on_closed = lambda reason: closing.append(asyncio.create_task(served.transport.close()))
    await client.close()
    await eventually(lambda: closing and closing[0].done())
    closing[0].result()


async def test_junk_on_a_bound_path_does_not_disturb_the_association(serve: Callable[..., Served]) -> None:
    served, client = serve(), OrtcClient()
    await served.meet(client)
    connection = client.ice._connection
    for junk in (
        b"",
        b"\x16",
        b"\x16" * 7,
        b"\x16" * 12,
        b"\x16" * 13,
        b"\x17" + b"\xff" * 40,
        b"\x15" * 60,
        b"\x80",
    ):
        await connection.send(junk)
    await client.dtls._send_rtp(RTP)
    await served.engine.until(
        lambda: served.record.media[-1:] != [] and len(served.record.media[-1]) > len(RTP)
    )
    assert served.reasons == [] and served.transport._dtls._dtls.state == "connected"
    await client.close()
    await eventually(lambda: served.reasons == ["closed by peer"])


def test_the_profiles_are_those_of_aiortc() -> None:
    assert {p for offered, _ in PROFILES for p in offered} == set(rtcdtlstransport.SRTP_PROFILES)
