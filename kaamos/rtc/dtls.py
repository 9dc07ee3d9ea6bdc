"""DTLS with one peer, and the SRTP keys that come out of it (RFC 5764).

aiortc runs the handshake and keeps the association alive; it never sees a media packet.  Datagrams
come from and go to callbacks, so the ICE transport that aiortc asks for is a small stand-in.
"""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import cast

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTP_PROFILES,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
)
from aiortc.rtcicetransport import RTCIceTransport
from cryptography import x509
from OpenSSL import SSL

from kaamos.media.description import SrtpKeys, SrtpProfile

# In order of preference: a packet of 1200 bytes costs 425 ns with GCM and 1390 ns with AES-CM and SHA-1
# (libsrtp 2.7.0 as pylibsrtp ships it).  The order of the DTLS server decides.
_PROFILES = {
    SRTP_AEAD_AES_128_GCM: SrtpProfile.AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM: SrtpProfile.AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80: SrtpProfile.AES128_CM_SHA1_80,
}

# aiortc's suites and their RSA twins: with the client's role we meet servers that have an RSA
# certificate (GStreamer 1.22, Janus).
_ECDSA_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
)
_SUITES = ":".join((*_ECDSA_SUITES, *(suite.replace("ECDSA", "RSA") for suite in _ECDSA_SUITES)))

# Certificates live 30 days (aiortc); a new one is taken this long before the end.
RENEW_BEFORE = datetime.timedelta(days=10)

# Datagrams waiting for the handshake.  A flight is 1 to 4 of them, a client with a large key
# exchange and its first retransmissions stay below 20.
MAX_WAITING_DATAGRAMS = 64

RECORD_HEADER_BYTES = 13  # RFC 6347 section 4.1
_MAX_RECORD_BYTES = 1 << 14  # of plaintext, RFC 6347 section 4.1
MAX_DATAGRAM_BYTES = 1200  # passes every path that WebRTC works on


class Certificate:
    """A self-signed P-256 certificate with its key, made to be shared by all connections of a process."""

    def __init__(self) -> None:
        self._shared = _SharedCertificate.generateCertificate()
        digest = next(f for f in self._shared.getFingerprints() if f.algorithm == "sha-256")
        self.fingerprint = f"sha-256 {digest.value}"
        """Value of ``a=fingerprint`` (RFC 8122)."""

    def renewed(self) -> "Certificate":
        """Return this certificate while it is good for new connections, else a fresh one."""
        remaining = self._shared.expires - datetime.datetime.now(tz=datetime.UTC)
        return self if remaining > RENEW_BEFORE else Certificate()


class DtlsAssociation:
    """One DTLS association: handshake in either role, keys out, close noticed.

    ``on_keys`` is called during :meth:`connect`, after the certificate was compared with the
    fingerprints.  ``on_closed`` is called when the peer ends an established association.
    """

    def __init__(
        self,
        certificate: Certificate,
        *,
        send: Callable[[bytes], None],
        on_keys: Callable[[SrtpKeys], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._door = _Door(send)
        self._dtls = _KeyedDtls(self._door, certificate._shared, on_keys)
        self._dtls.on("statechange", self._note_state)
        self._on_closed: Callable[[], None] | None = on_closed

    def receive(self, data: bytes) -> None:
        """Take a datagram from the peer, also before :meth:`connect`.

        What cannot hold a record is dropped, and what comes while too many wait.
        """
        if len(data) >= RECORD_HEADER_BYTES and 20 <= data[0] <= 63:  # RFC 7983
            self._door.put(data)

    async def connect(
        self, fingerprints: Sequence[tuple[str, str]], *, is_client: bool, timeout_s: float
    ) -> None:
        """Do the handshake and check the peer's certificate.  To be called once.

        ``fingerprints`` are (algorithm, value) of the peer's description; all that have an
        algorithm we know must be those of its certificate, and there must be one.

        Raises:
            TimeoutError: the handshake was not done after ``timeout_s``.
            ConnectionError: it failed, the fingerprints do not match, or we were closed.
        """
        if not fingerprints:
            raise ConnectionError("no fingerprint to check the peer's certificate with")
        self._dtls._set_role("client" if is_client else "server")
        remote = RTCDtlsParameters(
            fingerprints=[RTCDtlsFingerprint(algorithm=name, value=value) for name, value in fingerprints]
        )
        # Not asyncio.timeout: aiortc waits in asyncio.wait_for, which loses a cancellation that meets
        # a datagram (Python 3.11), and then nothing would end the wait.
        has_expired = False

        def expire() -> None:
            nonlocal has_expired
            has_expired = True
            self._door.close()

        timer = asyncio.get_running_loop().call_later(timeout_s, expire)
        try:
            await self._dtls.start(remote)
        finally:
            timer.cancel()
        if self._dtls.state != "connected":
            if has_expired:
                raise TimeoutError("DTLS handshake timed out")
            raise ConnectionError("DTLS handshake failed")

    def abort(self) -> None:
        """Make a :meth:`connect` that is under way fail."""
        self._door.close()

    @property
    def is_connected(self) -> bool:
        """The handshake is done and nobody has ended the association."""
        return self._dtls.state == "connected"

    @property
    def is_server(self) -> bool:
        """We play, or are to play, DTLS server."""
        return self._dtls._role == "server"

    def read_data(self, take: Callable[[bytes], Awaitable[None]] | None) -> None:
        """Let ``take`` have the application data of the peer, a record each; None: it is dropped.

        No other record is read until it returns.
        """
        self._dtls._data_receiver = None if take is None else _Receiver(take)

    def send_data(self, data: bytes) -> None:
        """Send a record of application data, if the association is up; never waits, never fails."""
        if self.is_connected:
            assert self._dtls._ssl is not None
            try:
                self._dtls._ssl.send(data)
            except SSL.Error:  # it is about to end
                return
            self._dtls.flush()

    async def close(self) -> None:
        """Send close_notify and end.  ``on_closed`` is not called any more.  May be called again."""
        self._on_closed = None
        self._door.close()
        pump = self._dtls._task
        await self._dtls.stop()
        if pump is not None:
            await asyncio.wait([pump])

    def _note_state(self) -> None:
        if self._dtls.state == "closed" and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            on_closed()


class _SharedCertificate(RTCCertificate):
    """aiortc's certificate with one ``SSL.Context`` for all connections (a third of their CPU time)."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            context = super()._create_ssl_context(srtp_profiles)
            context.set_cipher_list(_SUITES.encode())
            context.set_options(SSL.OP_NO_RENEGOTIATION)
            self._context = context
        return self._context


class _Door:
    """What ``RTCDtlsTransport`` asks of its ICE transport."""

    role = "controlled"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.send = send
        self._datagrams: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_closed = False

    def put(self, data: bytes) -> None:
        if not self._is_closed and self._datagrams.qsize() < MAX_WAITING_DATAGRAMS:
            self._datagrams.put_nowait(data)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._datagrams.put_nowait(None)

    async def _recv(self) -> bytes:
        if not self._datagrams.empty():
            await asyncio.sleep(0)  # get() would not wait, and a full queue hold the loop for 64 records
        data = None if self._is_closed else await self._datagrams.get()
        if data is None:
            raise ConnectionError("closed")
        return data

    async def _send(self, data: bytes) -> None:
        self.send(data)


class _Receiver:
    """What ``RTCDtlsTransport`` asks of its SCTP transport."""

    def __init__(self, take: Callable[[bytes], Awaitable[None]]) -> None:
        self._take = take

    async def _handle_data(self, data: bytes) -> None:
        await self._take(data)


class _KeyedDtls(RTCDtlsTransport):
    """aiortc's DTLS transport that hands the SRTP keys out and makes no SRTP session of its own."""

    def __init__(self, door: _Door, certificate: RTCCertificate, on_keys: Callable[[SrtpKeys], None]) -> None:
        super().__init__(cast(RTCIceTransport, door), [certificate])
        self._door = door
        # pylibsrtp may have been built without GCM: then aiortc's list does not have it.
        self._srtp_profiles = [profile for profile in _PROFILES if profile in SRTP_PROFILES]
        self._on_keys = on_keys

    def _setup_srtp(self) -> None:
        assert self._ssl is not None
        name = self._ssl.get_selected_srtp_profile()
        profile = next((p for p in self._srtp_profiles if p.openssl_profile == name), None)
        if profile is None:  # the peer did not offer use_srtp, or nothing that we know
            self._set_state(State.FAILED)
            return
        material = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        # RFC 5764 section 4.2: the client's key first.
        local, remote = (1, 0) if self._role == "server" else (0, 1)
        self._on_keys(
            SrtpKeys(
                profile=_PROFILES[profile],
                local=profile.get_key_and_salt(material, local),
                remote=profile.get_key_and_salt(material, remote),
            )
        )

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:
        try:
            super()._validate_peer_identity(remoteParameters)
        except (ValueError, x509.InvalidVersion):  # OpenSSL takes certificates that cryptography cannot read
            self._set_state(State.FAILED)

    async def _recv_next(self) -> None:
        try:
            await super()._recv_next()
        except SSL.Error as exc:  # OpenSSL has retransmitted often enough
            raise ConnectionError("DTLS failed") from exc
        assert self._ssl is not None
        if not self.encrypted:
            return
        # aiortc takes one record out of a datagram.  The others would pile up inside OpenSSL, for as
        # long as a peer sends more than one; the native token bucket counts datagrams, so they are dropped.
        while True:
            try:
                self._ssl.recv(_MAX_RECORD_BYTES)
            except SSL.Error:
                break
        # aiortc notices close_notify where it comes alone; a fatal alert ends the association as well.
        if self._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
            raise ConnectionError("DTLS closed by the peer")

    async def _write_ssl(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Send what OpenSSL has written."""
        # aiortc reads 1500 bytes once: a longer flight would be cut inside a record.
        assert self._ssl is not None
        try:
            data = self._ssl.bio_read(_MAX_RECORD_BYTES)
        except SSL.Error:  # nothing to send
            return
        for datagram in _split_records(data):
            self._door.send(datagram)


def _split_records(data: bytes) -> Iterator[bytes]:
    """Yield runs of whole DTLS records, as many in each as fit into a datagram."""
    start = end = 0
    while end < len(data):
        length = RECORD_HEADER_BYTES + int.from_bytes(data[end + 11 : end + 13], "big")
        if end > start and end + length - start > MAX_DATAGRAM_BYTES:
            yield data[start:end]
            start = end
        end += length
    yield data[start:end]
