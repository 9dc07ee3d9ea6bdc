"""DTLS in memory: our association against OpenSSL played by hand, so that it can misbehave."""

import asyncio
import datetime
import random
from collections.abc import AsyncIterator, Callable

import pytest
from aiortc.rtcdtlstransport import RTCCertificate, certificate_digest, generate_certificate
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL, crypto

from kaamos.media.description import SrtpKeys, SrtpProfile
from kaamos.rtc import dtls
from kaamos.rtc.dtls import MAX_DATAGRAM_BYTES, MAX_WAITING_DATAGRAMS, Certificate, DtlsAssociation
from tests.support.ortc import eventually, only_tasks

CERTIFICATE = Certificate()
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PROFILES = b"SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80"


def spoil(certificate: x509.Certificate) -> crypto.X509:
    """Return it as version 6 of X.509, which OpenSSL uses as it is and cryptography cannot read."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return crypto.load_certificate(
        crypto.FILETYPE_ASN1, der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020105"), 1)
    )


class Peer:
    """The other end: an ``SSL.Connection`` and a wire that can lose, change and add datagrams."""

    def __init__(
        self,
        *,
        is_client: bool = True,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = EC_KEY,
        profiles: bytes = PROFILES,
        ciphers: bytes = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        is_certificate_spoiled: bool = False,
    ) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *args: True)
        context.set_cipher_list(ciphers)
        if profiles:
            context.set_tlsext_use_srtp(profiles)
        self.fingerprints: tuple[tuple[str, str], ...] = (("sha-256", ":".join(["00"] * 32)),)
        if key is not None:
            certificate = generate_certificate(key)  # type: ignore[arg-type]
            context.use_certificate(spoil(certificate) if is_certificate_spoiled else certificate)
            context.use_privatekey(key)
            self.fingerprints = (("sha-256", certificate_digest(certificate, "sha-256")),)
        self.ssl = SSL.Connection(context)
        (self.ssl.set_connect_state if is_client else self.ssl.set_accept_state)()
        self.is_client = is_client
        self.keys: list[SrtpKeys] = []
        self.closed = 0
        self.sent: list[bytes] = []  # by us
        self.is_up = False
        self.error: SSL.Error | None = None
        self.lose: Callable[[bytes], bool] = lambda data: False
        self.us = DtlsAssociation(
            CERTIFICATE, send=self.take, on_keys=self.keys.append, on_closed=self._note_closed
        )

    def _note_closed(self) -> None:
        self.closed += 1

    def take(self, data: bytes) -> None:
        """Get a datagram of ours, and answer."""
        self.sent.append(data)
        if not self.lose(data):
            self.ssl.bio_write(data)
            self.step()

    def step(self) -> None:
        """Go on as far as what has come allows."""
        try:
            if self.is_up:
                self.ssl.recv(2000)
            else:
                self.ssl.do_handshake()
                self.is_up = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.error = error
        self.flush()

    def flush(self) -> None:
        try:
            self.us.receive(self.ssl.bio_read(8192))
        except SSL.WantReadError:
            pass

    def connect(self, *, timeout_s: float = 5.0) -> asyncio.Task[None]:
        if self.is_client:
            self.step()
        return asyncio.create_task(
            self.us.connect(self.fingerprints, is_client=not self.is_client, timeout_s=timeout_s)
        )

    def expected_keys(self) -> tuple[bytes, bytes]:
        """What RFC 5764 section 4.2 gives: (ours, the peer's)."""
        (keys,) = self.keys
        salt = 14 if keys.profile is SrtpProfile.AES128_CM_SHA1_80 else 12
        key = keys.profile.key_and_salt_bytes - salt
        material = self.ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        return (server, client) if self.is_client else (client, server)

    async def speaks(self) -> None:
        """Check that application data still comes through in our direction."""
        await self.us._dtls._send_data(b"hello")
        assert self.error is None and self.closed == 0 and self.us._dtls.state == "connected"


@pytest.fixture
async def meet() -> AsyncIterator[Callable[..., Peer]]:
    """Make peers; afterwards no task of theirs is left."""
    before = asyncio.all_tasks()
    peers: list[Peer] = []

    def make(**options: object) -> Peer:
        peers.append(Peer(**options))  # type: ignore[arg-type]
        return peers[-1]

    yield make
    for peer in peers:
        await peer.us.close()
        await peer.us.close()
    await only_tasks(before)


BOTH_ROLES = pytest.mark.parametrize("is_client", [True, False], ids=["peer is client", "peer is server"])


@BOTH_ROLES
@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["EC", "RSA"])
@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (b"SRTP_AEAD_AES_128_GCM", SrtpProfile.AEAD_AES_128_GCM),
        (b"SRTP_AEAD_AES_256_GCM", SrtpProfile.AEAD_AES_256_GCM),
        (b"SRTP_AES128_CM_SHA1_80", SrtpProfile.AES128_CM_SHA1_80),
        (b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM", None),
    ],
)
async def test_both_sides_get_the_same_keys(
    meet: Callable[..., Peer],
    is_client: bool,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    profiles: bytes,
    expected: SrtpProfile | None,
) -> None:
    peer = meet(is_client=is_client, key=key, profiles=profiles)
    await peer.connect()
    (keys,) = peer.keys
    assert (keys.local, keys.remote) == peer.expected_keys()
    if expected is None:  # the order of the server decides
        expected = SrtpProfile.AEAD_AES_256_GCM if is_client else SrtpProfile.AES128_CM_SHA1_80
    assert keys.profile is expected
    await peer.speaks()


@BOTH_ROLES
@pytest.mark.parametrize(
    "fingerprints",
    [
        (("sha-256", ":".join(["AB"] * 32)),),
        (("sha-1", ":".join(["AB"] * 20)),),
        (("sha-256", ""),),
        (),
    ],
)
async def test_a_certificate_that_the_description_does_not_name_is_refused(
    meet: Callable[..., Peer], is_client: bool, fingerprints: tuple[tuple[str, str], ...]
) -> None:
    peer = meet(is_client=is_client)
    peer.fingerprints = fingerprints
    with pytest.raises(ConnectionError):
        await peer.connect()
    assert peer.keys == []


async def test_all_fingerprints_must_be_right(meet: Callable[..., Peer]) -> None:
    peer = meet()
    peer.fingerprints = (*peer.fingerprints, ("sha-512", ":".join(["AB"] * 64)))
    with pytest.raises(ConnectionError):
        await peer.connect()
    assert peer.keys == []


async def test_a_fingerprint_may_be_written_in_lower_case(meet: Callable[..., Peer]) -> None:
    peer = meet()
    peer.fingerprints = (("SHA-256", peer.fingerprints[0][1].lower()), ("md2", "00"))
    await peer.connect()


async def test_a_client_without_a_certificate_is_refused(meet: Callable[..., Peer]) -> None:
    peer = meet(key=None)
    with pytest.raises(ConnectionError):
        await peer.connect()
    assert peer.keys == []


@BOTH_ROLES
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
async def test_a_certificate_that_cannot_be_read_is_refused(
    meet: Callable[..., Peer], is_client: bool
) -> None:
    peer = meet(is_client=is_client, is_certificate_spoiled=True)
    with pytest.raises(ConnectionError):
        await peer.connect()
    assert peer.keys == []


@BOTH_ROLES
async def test_a_peer_that_does_not_do_srtp_is_refused(meet: Callable[..., Peer], is_client: bool) -> None:
    peer = meet(is_client=is_client, profiles=b"")
    with pytest.raises(ConnectionError):
        await peer.connect()
    assert peer.keys == []


async def test_a_peer_without_a_common_cipher_suite_is_refused(meet: Callable[..., Peer]) -> None:
    peer = meet(ciphers=b"DHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(ConnectionError):
        await peer.connect()


@BOTH_ROLES
async def test_a_peer_that_says_nothing_times_out(meet: Callable[..., Peer], is_client: bool) -> None:
    peer = meet(is_client=is_client)
    with pytest.raises(TimeoutError):
        await peer.us.connect(peer.fingerprints, is_client=False, timeout_s=0.01)
    assert peer.keys == []


async def test_a_lost_flight_is_sent_again(meet: Callable[..., Peer]) -> None:
    peer = meet()
    lost = iter([True, False])
    peer.lose = lambda data: next(lost, False)
    await peer.connect()
    await peer.speaks()


async def test_every_datagram_holds_whole_records_and_fits_a_path(meet: Callable[..., Peer]) -> None:
    for is_client in (True, False):
        peer = meet(is_client=is_client)
        await peer.connect()
        for datagram in peer.sent:
            assert 0 < len(datagram) <= MAX_DATAGRAM_BYTES
            at = 0
            while at < len(datagram):
                at += 13 + int.from_bytes(datagram[at + 11 : at + 13], "big")
            assert at == len(datagram)


async def test_a_long_flight_leaves_in_several_datagrams(meet: Callable[..., Peer]) -> None:
    peer = meet()
    await peer.connect()
    peer.sent.clear()
    assert peer.us._dtls._ssl is not None
    for _ in range(5):
        peer.us._dtls._ssl.send(b"x" * 500)
    await peer.us._dtls._write_ssl()
    assert [len(datagram) // 500 for datagram in peer.sent] == [2, 2, 1]
    assert max(map(len, peer.sent)) <= MAX_DATAGRAM_BYTES


def test_records_are_packed_in_order_without_loss() -> None:
    rng = random.Random(8)
    for _ in range(200):
        sizes = [rng.choice((0, 1, 100, 500, 1187, 1400)) for _ in range(rng.randrange(1, 12))]
        records = [bytes([22]) * 11 + size.to_bytes(2, "big") + rng.randbytes(size) for size in sizes]
        datagrams = list(dtls._split_records(b"".join(records)))
        assert b"".join(datagrams) == b"".join(records)
        for datagram in datagrams:
            assert len(datagram) <= MAX_DATAGRAM_BYTES or datagram in records


def junk_records() -> list[bytes]:
    """Datagrams that look like DTLS and are none."""
    rng = random.Random(8)
    hello = bytes.fromhex("16fefd0000000000000000") + (50).to_bytes(2, "big") + b"\x01" + rng.randbytes(49)
    return [
        b"",
        b"\x16",
        b"\x16" * 12,
        b"\x16" * 13,
        b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",  # a fatal alert, not encrypted
        b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00",  # close_notify, not encrypted
        b"\x14\xfe\xfd" + bytes(8) + b"\x00\x01\x01",  # ChangeCipherSpec out of nowhere
        b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x28" + rng.randbytes(40),  # forged application data
        b"\x15\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x1a" + rng.randbytes(26),  # forged encrypted alert
        b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\xff\xff" + rng.randbytes(40),  # a length that lies
        b"\x16\xfe\xfd" + bytes(8) + b"\x00\x00",
        hello,
        *(bytes([rng.randrange(20, 64)]) + rng.randbytes(rng.randrange(12, 200)) for _ in range(300)),
    ]


@BOTH_ROLES
async def test_junk_does_not_disturb_an_established_association(
    meet: Callable[..., Peer], is_client: bool
) -> None:
    peer = meet(is_client=is_client)
    await peer.connect()
    for junk in junk_records():
        peer.us.receive(junk)
        await eventually(peer.us._door._datagrams.empty)
    await peer.speaks()


async def test_a_second_client_hello_does_not_disturb_an_established_association(
    meet: Callable[..., Peer],
) -> None:
    peer, other = meet(), meet()
    await peer.connect()
    other.us.receive = peer.us.receive  # type: ignore[method-assign]
    other.step()
    await eventually(peer.us._door._datagrams.empty)
    await peer.speaks()
    assert len(peer.keys) == 1


async def test_malformed_records_do_not_disturb_a_handshake(meet: Callable[..., Peer]) -> None:
    peer = meet()
    for junk in junk_records()[:4]:
        peer.us.receive(junk)
    peer.us.receive(b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\xff\xff" + bytes(40))
    await peer.connect()


@BOTH_ROLES
async def test_a_handshake_cut_or_changed_anywhere_fails_or_succeeds_but_nothing_else(
    meet: Callable[..., Peer], is_client: bool
) -> None:
    rng = random.Random(8)
    for _ in range(30):
        peer = meet(is_client=is_client)
        receive = peer.us.receive

        def damage(data: bytes, receive: Callable[[bytes], None] = receive) -> None:
            if rng.random() < 0.5:
                place = rng.randrange(len(data))
                changed = bytes([data[place] ^ (1 << rng.randrange(8))])
                data = data[:place] + changed + data[place + 1 :] if rng.random() < 0.7 else data[:place]
            receive(data)

        peer.us.receive = damage  # type: ignore[method-assign]
        try:
            await peer.connect(timeout_s=0.02)
        except (ConnectionError, TimeoutError):
            assert peer.keys == [] or peer.us._dtls.state != "connected"


async def test_close_notify_of_the_peer_is_noticed_once(meet: Callable[..., Peer]) -> None:
    peer = meet()
    await peer.connect()
    peer.ssl.shutdown()
    peer.flush()
    await eventually(lambda: peer.closed)
    await peer.us.close()
    assert peer.closed == 1


async def test_a_fatal_alert_of_the_peer_is_noticed(meet: Callable[..., Peer]) -> None:
    peer = meet()
    await peer.connect()
    peer.ssl.renegotiate()  # our "no" is answered with a fatal alert by OpenSSL
    peer.is_up = False
    peer.step()
    await eventually(lambda: peer.closed)
    assert peer.error is not None and len(peer.keys) == 1


async def test_several_records_in_a_datagram_do_not_pile_up(meet: Callable[..., Peer]) -> None:
    peer = meet()
    await peer.connect()
    for _ in range(50):
        for _ in range(20):
            peer.ssl.send(b"x" * 20)
        peer.flush()
        await eventually(peer.us._door._datagrams.empty)
    await peer.speaks()
    assert peer.us._dtls._ssl is not None
    with pytest.raises(SSL.WantReadError):
        peer.us._dtls._ssl.recv(1)
    peer.ssl.send(b"the last word")
    peer.ssl.shutdown()
    peer.flush()
    await eventually(lambda: peer.closed)


async def test_closing_tells_the_peer_and_is_not_reported(meet: Callable[..., Peer]) -> None:
    peer = meet()
    await peer.connect()
    await peer.us.close()
    assert isinstance(peer.error, SSL.ZeroReturnError) and peer.closed == 0


async def test_closing_before_and_during_the_handshake_is_quiet(meet: Callable[..., Peer]) -> None:
    await meet().us.close()
    peer = meet()
    peer.lose = lambda data: True
    connecting = peer.connect()
    await eventually(lambda: peer.sent)
    peer.us.abort()
    with pytest.raises(ConnectionError):
        await connecting
    assert peer.closed == 0


async def test_a_server_cannot_renegotiate(meet: Callable[..., Peer]) -> None:
    peer = meet(is_client=False)
    await peer.connect()
    peer.ssl.renegotiate()
    peer.is_up = False
    peer.step()
    await eventually(peer.us._door._datagrams.empty)
    assert len(peer.keys) == 1
    assert peer.us._dtls._ssl is not None and peer.us._dtls._ssl.total_renegotiations() == 0


async def test_what_waits_for_the_handshake_is_bounded(meet: Callable[..., Peer]) -> None:
    peer = meet()
    for _ in range(10 * MAX_WAITING_DATAGRAMS):
        peer.us.receive(b"\x16" * 50)
    assert peer.us._door._datagrams.qsize() == MAX_WAITING_DATAGRAMS


async def test_what_is_no_dtls_record_is_not_even_queued(meet: Callable[..., Peer]) -> None:
    peer = meet()
    for data in (b"", b"\x16" * 12, b"\x80" * 60, b"\x00" * 60, b"\x40" * 60, b"\x13" * 60):
        peer.us.receive(data)
    assert peer.us._door._datagrams.empty()


def test_the_fingerprint_is_that_of_the_certificate() -> None:
    algorithm, value = CERTIFICATE.fingerprint.split(" ")
    assert algorithm == "sha-256" and value == certificate_digest(CERTIFICATE._shared._cert, "sha-256")
    assert Certificate().fingerprint != CERTIFICATE.fingerprint


def test_all_connections_share_one_context() -> None:
    shared = CERTIFICATE._shared
    assert shared._create_ssl_context([]) is shared._create_ssl_context([])


def test_a_certificate_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = Certificate()
    assert certificate.renewed() is certificate
    soon = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=9)
    monkeypatch.setattr(RTCCertificate, "expires", property(lambda self: soon))
    assert certificate.renewed().fingerprint != certificate.fingerprint
