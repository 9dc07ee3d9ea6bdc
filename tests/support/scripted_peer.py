"""A client made by hand: one UDP socket, ICE checks as a test says, aiortc's DTLS on top, RTP as bytes.

It does what libraries never do: leave attributes out, move to another port without a word, stay silent.
"""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import cast

from aioice import stun
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcicetransport import RTCIceTransport

from kaamos.media.description import DownTrackConfig, DownTrackId, UpTrackConfig, UpTrackId
from kaamos.media.engine import Engine
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.dtls import Certificate
from kaamos.rtc.negotiation import LocalTransport, RemoteTransport
from kaamos.rtc.transport import PeerTransport
from tests.support.ortc import eventually

CHECK_TIMEOUT_S = 5.0
CHECK_INTERVAL_S = 0.05


class ScriptedPeer:
    """One client; to be made inside the running loop and closed.

    Attributes:
        media: (monotonic time, port of ours, packet) of every RTP packet that came, decrypted.
        is_terse: its checks say who and USE-CANDIDATE, and its answers nothing, as those of FFmpeg.
        answers_checks: whether it answers those of the server.
    """

    role = "controlling"  # what RTCDtlsTransport asks of its ICE transport, with _recv and _send

    def __init__(self, *, ip: str = "127.0.0.1", dtls_role: str = "client", is_terse: bool = False) -> None:
        self.ufrag, self.pwd = secrets.token_hex(4), secrets.token_hex(16)
        self.media: list[tuple[float, int, bytes]] = []
        self.rtcp = 0
        self.is_terse = is_terse
        self.answers_checks = True
        self.checks_heard = 0
        self.certificate = RTCCertificate.generateCertificate()
        self.dtls = RTCDtlsTransport(cast(RTCIceTransport, self), [self.certificate])
        self.dtls._set_role(dtls_role)
        self.server: tuple[str, int] = ("", 0)
        self._remote = ("", "")  # ufrag and pwd
        self._sockets: list[socket.socket] = []
        self._answers: dict[bytes, asyncio.Future[stun.Message]] = {}
        self._records: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.move(ip)

    @property
    def fingerprint(self) -> str:
        """The value of its ``a=fingerprint``."""
        digest = next(f for f in self.certificate.getFingerprints() if f.algorithm == "sha-256")
        return f"sha-256 {digest.value}"

    @property
    def remote(self) -> RemoteTransport:
        """What the server is told of it."""
        algorithm, value = self.fingerprint.split(" ")
        return RemoteTransport(self.ufrag, self.pwd, ((algorithm, value),), self.dtls._role == "server")

    @property
    def port(self) -> int:
        port: int = self._sockets[-1].getsockname()[1]
        return port

    def move(self, ip: str = "127.0.0.1", *, keep: bool = False) -> None:
        """Go on from another port, perhaps on another address; what comes to the old one is lost or kept."""
        if self._sockets and not keep:
            self._close_socket(self._sockets.pop())
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((ip, 0))
        self._sockets.append(sock)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._drain, sock)

    def move_back(self) -> None:
        """Go on from the port that was kept."""
        self._close_socket(self._sockets.pop())

    def speak_from(self, other: "ScriptedPeer") -> None:
        """Send from the socket of another client; what comes there is that one's."""
        self._sockets.append(other._sockets[-1].dup())

    # ICE

    def meet(self, local: LocalTransport, server_ip: str | None = None) -> None:
        """Take the server's description; its address is the first candidate unless given."""
        ip, port = local.addresses[0]
        self.server = server_ip or ip, port
        self._remote = local.ufrag, local.pwd

    def restart(self) -> None:
        """Take new credentials, as before the offer of an ICE restart."""
        self.ufrag, self.pwd = secrets.token_hex(4), secrets.token_hex(16)

    async def check(self, *, nominate: bool = False, within_s: float = CHECK_TIMEOUT_S) -> stun.Message:
        """Ask the server until it answers, and return the answer.

        Raises:
            TimeoutError: it did not.
        """
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._remote[0]}:{self.ufrag}"
        if not self.is_terse:
            request.attributes["PRIORITY"] = 1853824767
            request.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._remote[1].encode())
        answer = self._answers[request.transaction_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                while not answer.done():
                    self.send(bytes(request))
                    await asyncio.wait([answer], timeout=CHECK_INTERVAL_S)
                return answer.result()
        finally:
            del self._answers[request.transaction_id]

    # DTLS and media

    async def connect(self, local: LocalTransport, server_ip: str | None = None) -> None:
        self.meet(local, server_ip)
        await self.check(nominate=True)
        algorithm, value = local.fingerprint.split(" ")
        await self.dtls.start(RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(algorithm, value)]))
        assert self.dtls.state == "connected"

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._sockets[-1].sendto(data, self.server)

    def send_rtp(self, packet: bytes) -> None:
        assert self.dtls._tx_srtp is not None
        self.send(self.dtls._tx_srtp.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        assert self.dtls._tx_srtp is not None
        self.send(self.dtls._tx_srtp.protect_rtcp(packet))

    async def _recv(self) -> bytes:
        data = await self._records.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        self.send(data)

    def _drain(self, sock: socket.socket) -> None:
        while True:
            try:
                data, address = sock.recvfrom(2000)
            except BlockingIOError:
                return
            except OSError:
                continue
            # An answer from another address than the one that was asked is lost, as behind a NAT.
            if address[:2] == self.server:
                self._take(data, sock.getsockname()[1])

    def _take(self, data: bytes, port: int) -> None:
        if data[0] < 4:
            self._take_stun(stun.parse_message(data))
        elif data[0] < 64:
            self._records.put_nowait(data)
        elif 192 <= data[1] <= 223:
            self.rtcp += 1
        elif self.dtls._rx_srtp is not None:
            self.media.append((time.monotonic(), port, self.dtls._rx_srtp.unprotect(data)))

    def _take_stun(self, message: stun.Message) -> None:
        if message.message_class is stun.Class.REQUEST:
            self.checks_heard += 1
            username = f"{self.ufrag}:{self._remote[0]}"
            if self.answers_checks and message.attributes["USERNAME"] == username:
                answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
                if not self.is_terse:
                    answer.attributes["XOR-MAPPED-ADDRESS"] = self.server
                answer.add_message_integrity(self.pwd.encode())
                self.send(bytes(answer))
        else:
            waiting = self._answers.get(message.transaction_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    # The end

    def _close_socket(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock.fileno())
        sock.close()

    async def close(self) -> None:
        self._records.put_nowait(None)
        pump = self.dtls._task
        if self.dtls._state is State.CONNECTED:
            await self.dtls.stop()
        if pump is not None:
            await asyncio.wait([pump])
        while self._sockets:
            self._close_socket(self._sockets.pop())


async def ignore_data(message: DataMessage) -> None:
    """Take no notice of what comes on data channels."""


class Member:
    """A scripted client and the server's side of it on a real engine."""

    def __init__(
        self, engine: Engine, certificate: Certificate, addresses: tuple[str, ...], peer: ScriptedPeer
    ) -> None:
        self.peer = peer
        self.is_connected = False
        self.reasons: list[str] = []
        self.transport = PeerTransport(
            engine,
            certificate,
            addresses,
            on_connected=self._note_connected,
            on_closed=self.reasons.append,
            on_data=ignore_data,
        )
        self.up_tracks: list[UpTrackId] = []
        self.engine = engine

    def _note_connected(self) -> None:
        self.is_connected = True

    async def connect(self, server_ip: str | None = None) -> None:
        self.transport.start(self.peer.remote)
        await self.peer.connect(self.transport.local, server_ip)
        await eventually(lambda: self.is_connected)

    def restart(self) -> None:
        """Exchange an offer with new credentials and its answer."""
        self.peer.restart()
        self.transport.restart_ice(self.peer.remote)
        self.peer.meet(self.transport.local, self.peer.server[0])

    def publish(self, config: UpTrackConfig) -> UpTrackId:
        self.up_tracks.append(self.engine.add_uptrack(self.transport.id, config))
        return self.up_tracks[-1]

    def subscribe(self, uptrack: UpTrackId, config: DownTrackConfig) -> DownTrackId:
        downtrack = self.engine.add_downtrack(self.transport.id, config)
        self.engine.connect(downtrack, uptrack)
        return downtrack


class Meeting:
    """Members on one engine; use it through :func:`meeting`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.members: list[Member] = []
        self._certificate = Certificate()

    async def join(
        self, peer: ScriptedPeer, *, addresses: tuple[str, ...] = ("127.0.0.1",), server_ip: str | None = None
    ) -> Member:
        member = Member(self.engine, self._certificate, addresses, peer)
        self.members.append(member)
        await member.connect(server_ip)
        return member

    def drops(self) -> dict[str, int]:
        """The drop counters that are not zero."""
        counters = self.engine.counters()
        return {name: n for name, n in counters.items() if name.startswith("dropped_") and n}


@contextlib.asynccontextmanager
async def meeting() -> AsyncIterator[Meeting]:
    """Open an engine; close it and every member at the end."""
    engine = Engine(port=0)
    engine.open()
    meeting = Meeting(engine)
    try:
        yield meeting
    finally:
        for member in meeting.members:
            await member.peer.close()
            await member.transport.close()
        engine.close()


class Stream:
    """Sends a numbered packet each few milliseconds, until the end of its block."""

    def __init__(self, send: Callable[[int], None], interval_s: float = 0.01) -> None:
        self.sent = 0
        self._send = send
        self._interval_s = interval_s

    async def __aenter__(self) -> "Stream":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            self.sent += 1
            self._send(self.sent)
            await asyncio.sleep(self._interval_s)
