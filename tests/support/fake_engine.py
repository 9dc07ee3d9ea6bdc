"""A stand-in for ``kaamos.media.engine.Engine``: the same door, in plain asyncio, without media.

It owns real UDP sockets and makes the checks that the native engine makes before Python sees a
datagram, so ICE and DTLS run for real against it.  What it is told about keys and tracks it records.
"""

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aioice import stun

from kaamos.media.description import (
    DownTrackConfig,
    DownTrackId,
    Path,
    SrtpKeys,
    TransportId,
    UpTrackConfig,
    UpTrackId,
)
from kaamos.media.engine import DatagramKind

IP_PKTINFO = 8  # socket.IP_PKTINFO exists from Python 3.14 on
ICMP_NOISE = (ConnectionRefusedError, BlockingIOError)


@dataclass
class FakeTransport:
    credentials: dict[str, str]  # pwd by ufrag, oldest first
    on_datagram: Callable[[DatagramKind, bytes, Path], None]
    paths: set[Path] = field(default_factory=set)
    selected: Path | None = None
    keys: SrtpKeys | None = None
    last_received: float = 0.0
    media: list[bytes] = field(default_factory=list)  # RTP and RTCP as they came, still protected


class FakeEngine:
    """One port on all local addresses; ``has_ipv6`` says whether ``::1`` works here."""

    def __init__(self) -> None:
        self.port = 0
        self.has_ipv6 = False
        self.transports: dict[TransportId, FakeTransport] = {}
        self.up_tracks: dict[UpTrackId, tuple[TransportId, UpTrackConfig]] = {}
        self.down_tracks: dict[DownTrackId, tuple[TransportId, DownTrackConfig]] = {}
        self.playing: dict[DownTrackId, UpTrackId] = {}
        self.codec_receivers: dict[UpTrackId, Callable[[int], None]] = {}  # to be called by tests
        self.levels: dict[UpTrackId, int] = {}  # what audio_levels returns next
        self.sent: list[tuple[Path, bytes]] = []
        self.is_deaf = False  # drop whatever comes, as a pulled cable does
        self._sockets: dict[int, socket.socket] = {}
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()

    def open(self) -> None:
        self._open(socket.AF_INET, "0.0.0.0", socket.IPPROTO_IP, IP_PKTINFO)
        try:
            self._open(socket.AF_INET6, "::", socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
            self.has_ipv6 = True
        except OSError:
            self.has_ipv6 = False

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets.values():
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Return when the condition holds; it is looked at after every datagram and command."""
        async with asyncio.timeout(20):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    # transports

    def add_transport(
        self, ufrag: str, pwd: str, on_datagram: Callable[[DatagramKind, bytes, Path], None]
    ) -> TransportId:
        tid = TransportId(next(self._ids))
        self.transports[tid] = FakeTransport({ufrag: pwd}, on_datagram)
        return tid

    def add_credentials(self, tid: TransportId, ufrag: str, pwd: str) -> None:
        credentials = self.transports[tid].credentials
        assert len(credentials) < 2
        credentials[ufrag] = pwd

    def remove_credentials(self, tid: TransportId, ufrag: str) -> None:
        del self.transports[tid].credentials[ufrag]

    def deselect_path(self, tid: TransportId) -> None:
        self.transports[tid].selected = None

    def send(self, path: Path, data: bytes) -> None:
        self.sent.append((path, data))
        if ":" in path.local_ip:
            sock = self._sockets[socket.AF_INET6]
            info = socket.inet_pton(socket.AF_INET6, path.local_ip) + struct.pack("@I", 0)
            control = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
        else:
            sock = self._sockets[socket.AF_INET]
            info = struct.pack("@I4s4x", 0, socket.inet_aton(path.local_ip))
            control = (socket.IPPROTO_IP, IP_PKTINFO, info)
        try:
            sock.sendmsg([data], [control], 0, (path.remote_ip, path.remote_port))
        except ICMP_NOISE:
            pass

    def bind_path(self, tid: TransportId, path: Path) -> bool:
        for other, transport in self.transports.items():
            if other != tid:
                transport.paths.discard(path)
                transport.selected = None if transport.selected == path else transport.selected
        self.transports[tid].paths.add(path)
        self._changed.set()
        return True

    def select_path(self, tid: TransportId, path: Path) -> bool:
        self.bind_path(tid, path)
        self.transports[tid].selected = path
        return True

    def set_keys(self, tid: TransportId, keys: SrtpKeys) -> None:
        assert self.transports[tid].keys is None, "keys are set once"
        self.transports[tid].keys = keys
        self._changed.set()

    def remove_transport(self, tid: TransportId) -> None:
        del self.transports[tid]
        self.up_tracks = {uid: up for uid, up in self.up_tracks.items() if up[0] != tid}
        self.codec_receivers = {
            uid: receiver for uid, receiver in self.codec_receivers.items() if uid in self.up_tracks
        }
        self.down_tracks = {did: down for did, down in self.down_tracks.items() if down[0] != tid}
        self.playing = {
            did: uid for did, uid in self.playing.items() if did in self.down_tracks and uid in self.up_tracks
        }
        self._changed.set()

    def last_received(self, tid: TransportId) -> float:
        return self.transports[tid].last_received

    # tracks

    def add_uptrack(
        self, tid: TransportId, config: UpTrackConfig, on_codec: Callable[[int], None] | None = None
    ) -> UpTrackId:
        uid = UpTrackId(next(self._ids))
        assert tid in self.transports
        self.up_tracks[uid] = (tid, config)
        if on_codec is not None:
            self.codec_receivers[uid] = on_codec
        self._changed.set()
        return uid

    def update_uptrack(self, uid: UpTrackId, config: UpTrackConfig) -> None:
        self.up_tracks[uid] = (self.up_tracks[uid][0], config)
        self._changed.set()

    def remove_uptrack(self, uid: UpTrackId) -> None:
        del self.up_tracks[uid]
        self.codec_receivers.pop(uid, None)
        self.playing = {did: source for did, source in self.playing.items() if source != uid}
        self._changed.set()

    def add_downtrack(self, tid: TransportId, config: DownTrackConfig) -> DownTrackId:
        did = DownTrackId(next(self._ids))
        assert tid in self.transports
        self.down_tracks[did] = (tid, config)
        self._changed.set()
        return did

    def update_downtrack(self, did: DownTrackId, config: DownTrackConfig) -> None:
        tid, before = self.down_tracks[did]
        assert (config.ssrc, config.mid) == (before.ssrc, before.mid)
        self.down_tracks[did] = (tid, config)
        self._changed.set()

    def connect(self, did: DownTrackId, uid: UpTrackId) -> None:
        assert did in self.down_tracks and uid in self.up_tracks
        self.playing[did] = uid
        self._changed.set()

    def disconnect(self, did: DownTrackId) -> None:
        assert did in self.down_tracks
        self.playing.pop(did, None)
        self._changed.set()

    def audio_levels(self) -> dict[UpTrackId, int]:
        levels, self.levels = self.levels, {}
        return levels

    # what comes from the network

    def _open(self, family: int, wildcard: str, level: int, want_local_address: int) -> None:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(level, want_local_address, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((wildcard, self.port))
        except OSError:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        self._sockets[family] = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._drain, sock)

    def _drain(self, sock: socket.socket) -> None:
        while True:
            try:
                data, controls, _, address = sock.recvmsg(4096, 256)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            (_, _, info), *_ = controls
            if sock.family == socket.AF_INET6:
                local_ip = socket.inet_ntop(socket.AF_INET6, info[:16])
            else:
                local_ip = socket.inet_ntoa(info[4:8])
            if not self.is_deaf:
                self._receive(data, Path(address[0], address[1], local_ip))
                self._changed.set()

    def _receive(self, data: bytes, path: Path) -> None:
        if len(data) < 8:
            return
        bound = next((t for t in self.transports.values() if path in t.paths), None)
        if data[0] < 4:
            self._receive_stun(data, path, bound)
        elif bound is not None and 20 <= data[0] <= 63:
            bound.on_datagram(DatagramKind.DTLS, data, path)
        elif bound is not None and 128 <= data[0] <= 191:
            bound.media.append(data)
            if bound.selected not in (None, path):  # the real one also waits until that is silent
                bound.on_datagram(DatagramKind.MOVED, b"", path)

    def _receive_stun(self, data: bytes, path: Path, bound: FakeTransport | None) -> None:
        try:
            message = stun.parse_message(data)
        except (ValueError, struct.error):
            return
        if message.message_class is not stun.Class.REQUEST:
            if bound is not None:
                bound.on_datagram(DatagramKind.STUN, data, path)
            return
        ufrag = message.attributes.get("USERNAME", "").partition(":")[0]
        transport = next((t for t in self.transports.values() if ufrag in t.credentials), None)
        if transport is None or not message.check_message_integrity(transport.credentials[ufrag].encode()):
            return
        transport.last_received = time.monotonic()
        is_oldest = ufrag == next(iter(transport.credentials))
        if path == transport.selected and is_oldest and "ICE-CONTROLLED" not in message.attributes:
            self._answer(message, transport.credentials[ufrag], path)
        else:
            transport.on_datagram(DatagramKind.STUN, data, path)

    def _answer(self, request: stun.Message, pwd: str, path: Path) -> None:
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = (path.remote_ip, path.remote_port)
        response.add_message_integrity(pwd.encode())
        self.send(path, bytes(response))
