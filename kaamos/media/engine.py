"""Engine: the only door to the native media path.

It owns the UDP sockets and the worker thread, turns addresses and descriptions into what the native
side reads, and hands STUN, DTLS and news of publications to whoever asked for them.  Everything but
:meth:`Engine.open` and :meth:`Engine.close` is called from the event loop's thread.
"""

import asyncio
import errno
import logging
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import pylibsrtp
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]

from kaamos._fastpath import Worker
from kaamos.errors import EngineError, LocalProtocolError
from kaamos.media.description import (
    DownTrackConfig,
    DownTrackId,
    Kind,
    Path,
    SrtpKeys,
    SrtpProfile,
    TransportId,
    UpTrackConfig,
    UpTrackId,
)

logger = logging.getLogger(__name__)

SOCKET_BUFFER_BYTES = 4 << 20  # a burst of a key frame to every viewer of a large room
KNOWN_EVENTS_A_ROUND = 256  # datagrams handled before other callbacks of the loop get their turn
PORT_TRIES = 16  # with port 0: a port that is free on IPv4 may be taken on IPv6
STRANGER_EVENTS_A_ROUND = 32  # strangers wait longer: they must not starve living calls
SEND_WINDOW = 128  # a wider replay window costs 60 to 90 ns a packet (reference measurements)
RECEIVE_WINDOW = 512  # packets of a 720p stream reorder by less than half a second

_PROFILES = {
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}

# Linux values; the socket module names them only on some builds.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)


class DatagramKind(IntEnum):
    """What a datagram for the asyncio side is."""

    STUN = 0
    DTLS = 1
    MOVED = 3  # none, but word that media comes by this bound path while the selected one is silent


_CODEC_EVENT = 2  # the native EventKind that is not of DatagramKind

DatagramReceiver = Callable[[DatagramKind, bytes, Path], None]
CodecReceiver = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class UpTrackStats:
    """What arrived of one publication; ``lost`` and ``jitter_ticks`` as last reported to its sender."""

    packets: int
    bytes: int
    keyframes: int
    keyframe_requests: int
    lost: int
    jitter_ticks: int


@dataclass(frozen=True, slots=True)
class DownTrackStats:
    """What went out in one slot; ``lost``, ``jitter_ticks`` and ``rtt_us`` as the peer reported."""

    packets: int
    bytes: int
    repeats: int
    nacks: int
    keyframe_requests: int
    lost: int
    jitter_ticks: int
    rtt_us: int
    dropped: Mapping[str, int]


def _libsrtp(name: str) -> int:
    """Return the address of a libsrtp function in pylibsrtp's binding.

    Raises:
        EngineError: the binding has another signature than libsrtp 2.x (``int f(srtp_t, void *, int *)``).
    """
    function = ffi.addressof(lib, name)
    signature = ffi.typeof(function).item if ffi.typeof(function).kind == "pointer" else ffi.typeof(function)
    if [argument.kind for argument in signature.args] != ["pointer", "pointer", "pointer"]:
        raise EngineError(f"pylibsrtp {pylibsrtp.__version__}: {name} has an unknown signature")
    return int(ffi.cast("uintptr_t", function))


def _address_bytes(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


def _address_text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


class Engine:
    """The media side of the server: one UDP port, one native worker.

    Args:
        port: UDP port for everybody, 0 for a free one.
    """

    def __init__(self, *, port: int) -> None:
        self.port = port
        self.has_ipv6 = False
        self._sockets: dict[int, socket.socket] = {}  # 4 and 6
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receivers: dict[int, DatagramReceiver] = {}
        self._codec_receivers: dict[int, CodecReceiver] = {}  # by publication
        self._events: deque[tuple[int, int, bytes, bytes, int, bytes]] = deque()
        self._sends_dropped = 0

    # -- life

    def open(self) -> None:
        """Bind the port and start the worker; to be called inside the running loop.

        Raises:
            EngineError: the port is taken (one server a port: a second one would get nothing), or a
                socket cannot be made.
        """
        self._loop = asyncio.get_running_loop()
        self._bind(PORT_TRIES if self.port == 0 else 1)
        ipv6 = self._sockets.get(6)
        self._worker = Worker(
            self._sockets[4].fileno(),
            ipv6.fileno() if ipv6 else -1,
            _libsrtp("srtp_protect"),
            _libsrtp("srtp_unprotect"),
            _libsrtp("srtp_protect_rtcp"),
            _libsrtp("srtp_unprotect_rtcp"),
            secrets.randbits(64),
        )
        self._loop.add_reader(self._worker.event_fd, self._on_events)
        self._thread = threading.Thread(target=self._worker.run, name="kaamos-media-0", daemon=True)
        self._thread.start()
        logger.info("media on UDP port %d%s", self.port, "" if self.has_ipv6 else " (IPv4 only)")

    def _bind(self, tries: int) -> None:
        asked = self.port
        while True:
            try:
                return self._bind_once(asked)
            except OSError as error:
                self._close_sockets()
                tries -= 1
                if error.errno != errno.EADDRINUSE:
                    raise EngineError(f"cannot open UDP port {asked}: {error.strerror}") from None
                if tries == 0:
                    raise EngineError(f"UDP port {asked} is in use: is another server running?") from None

    def _bind_once(self, port: int) -> None:
        ipv4 = self._socket(socket.AF_INET)
        self._sockets[4] = ipv4
        ipv4.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        ipv4.bind(("0.0.0.0", port))
        self.port = ipv4.getsockname()[1]
        try:
            ipv6 = self._socket(socket.AF_INET6)
        except OSError:
            return  # a kernel without IPv6
        ipv6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        ipv6.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        try:
            ipv6.bind(("::", self.port))
        except OSError as error:
            ipv6.close()
            if error.errno == errno.EADDRINUSE:
                raise
            return  # IPv6 switched off
        self._sockets[6] = ipv6
        self.has_ipv6 = True

    @staticmethod
    def _socket(family: socket.AddressFamily) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        return sock

    def close(self) -> None:
        """Stop the worker and free everything.  BYE goes out for transports that are still there."""
        worker, thread = self._worker, self._thread
        if worker is None or thread is None or self._loop is None:
            return
        try:
            for transport_id in list(self._receivers):
                self.remove_transport(TransportId(transport_id))
        except EngineError as error:
            logger.warning("not everybody is told BYE: %s", error)
        self._loop.remove_reader(worker.event_fd)
        worker.stop()
        thread.join()
        self._worker = self._thread = None
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    @contextmanager
    def _native(self) -> Iterator[Worker]:
        """Give the worker, and translate what it raises.

        Raises:
            LocalProtocolError: the engine is not open, or an id is unknown.
            EngineError: the command ring is full.
        """
        if self._worker is None:
            raise LocalProtocolError("the engine is not open")
        try:
            yield self._worker
        except KeyError as error:
            raise LocalProtocolError(f"unknown transport or track: {error}") from None
        except OverflowError as error:
            raise EngineError(str(error)) from None

    # -- datagrams for ICE and DTLS, news of publications

    def _on_events(self) -> None:
        """Hand out what waits: known peers first, then some strangers, then let the loop breathe."""
        worker, loop = self._worker, self._loop
        if worker is None or loop is None:
            return
        worker.clear_event_fd()
        known = worker.take_events(False, KNOWN_EVENTS_A_ROUND)
        strangers = worker.take_events(True, STRANGER_EVENTS_A_ROUND)
        self._events += known
        self._events += strangers
        try:
            while self._events:
                self._hand_out(*self._events.popleft())
        finally:
            # Also after an error in one receiver: the others' datagrams are not its business.
            is_full = len(known) == KNOWN_EVENTS_A_ROUND or len(strangers) == STRANGER_EVENTS_A_ROUND
            if self._events or is_full:
                loop.call_soon(self._on_events)

    def _hand_out(
        self, subject_id: int, kind: int, data: bytes, remote_ip: bytes, port: int, local_ip: bytes
    ) -> None:
        # Whoever is gone by now is not told: an event may wait while its subject is removed.
        if kind == _CODEC_EVENT:
            if (on_codec := self._codec_receivers.get(subject_id)) is not None:
                on_codec(data[0])
        elif (receiver := self._receivers.get(subject_id)) is not None:
            receiver(DatagramKind(kind), data, Path(_address_text(remote_ip), port, _address_text(local_ip)))

    def send(self, path: Path, data: bytes) -> None:
        """Send one STUN or DTLS datagram from the address the peer knows; dropped when buffers are full."""
        local = _address_bytes(path.local_ip)
        sock = self._sockets.get(4 if len(local) == 4 else 6)
        if sock is None:
            return
        if len(local) == 4:  # struct in_pktinfo, struct in6_pktinfo
            info = (socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + local + bytes(4))
        else:
            info = (socket.IPPROTO_IPV6, _IPV6_PKTINFO, local + bytes(4))
        try:
            sock.sendmsg([data], [info], 0, (path.remote_ip, path.remote_port))
        except OSError as error:
            # A datagram may get lost; ICE and DTLS repeat theirs.
            self._sends_dropped += 1
            logger.debug("datagram not sent: %s", error.strerror)

    # -- transports

    def add_transport(self, ufrag: str, pwd: str, on_datagram: DatagramReceiver) -> TransportId:
        """Let peers that know these local ICE credentials reach ``on_datagram``."""
        cname = secrets.token_hex(8).encode()
        with self._native() as worker:
            transport_id = worker.add_transport(ufrag.encode(), pwd.encode(), cname, secrets.randbits(32))
        self._receivers[transport_id] = on_datagram
        return TransportId(transport_id)

    def add_credentials(self, transport_id: TransportId, ufrag: str, pwd: str) -> None:
        """Let peers reach the transport by these local ICE credentials, too: an ICE restart has begun.

        Raises:
            LocalProtocolError: it has two generations of credentials already.
        """
        try:
            with self._native() as worker:
                worker.add_credentials(transport_id, ufrag.encode(), pwd.encode())
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    def remove_credentials(self, transport_id: TransportId, ufrag: str) -> None:
        """Let nobody in by these credentials any more; those that stay are the ones in use."""
        with self._native() as worker:
            worker.remove_credentials(transport_id, ufrag.encode())

    def deselect_path(self, transport_id: TransportId) -> None:
        """Send media of the transport nowhere until :meth:`select_path`: its peer's consent is over."""
        with self._native() as worker:
            worker.deselect(transport_id)

    def bind_path(self, transport_id: TransportId, path: Path) -> bool:
        """Let datagrams of this path belong to the transport: ICE has checked it.

        Return False, and change nothing, while the path belongs to another peer that is alive.
        """
        return self._bind_path(transport_id, path, select=False)

    def select_path(self, transport_id: TransportId, path: Path) -> bool:
        """Send media of the transport by this path from now on; False as for :meth:`bind_path`."""
        return self._bind_path(transport_id, path, select=True)

    def _bind_path(self, transport_id: TransportId, path: Path, *, select: bool) -> bool:
        with self._native() as worker:
            return worker.bind_path(
                transport_id,
                _address_bytes(path.remote_ip),
                path.remote_port,
                _address_bytes(path.local_ip),
                self._default_source(path) != path.local_ip,
                select,
            )

    @staticmethod
    def _default_source(path: Path) -> str | None:
        """Return the address the kernel would answer this peer from: asked of a connected socket."""
        family = socket.AF_INET6 if ":" in path.remote_ip else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as scratch:
                scratch.connect((path.remote_ip, path.remote_port))
                source: str = scratch.getsockname()[0]
                return source
        except OSError:
            return None  # no route, or no file descriptor left: name the source always

    def set_keys(self, transport_id: TransportId, keys: SrtpKeys) -> None:
        """Start SRTP on a transport; once only, since new sessions under old keys repeat nonces.

        Raises:
            LocalProtocolError: wrong key length, or the transport has keys.
        """
        if {len(keys.local), len(keys.remote)} != {keys.profile.key_and_salt_bytes}:
            raise LocalProtocolError("keying material does not fit the profile")
        receive = self._session(keys.profile, keys.remote, Policy.SSRC_ANY_INBOUND, RECEIVE_WINDOW)
        send = self._session(keys.profile, keys.local, Policy.SSRC_ANY_OUTBOUND, SEND_WINDOW)
        addresses = self._session_address(receive), self._session_address(send)
        try:
            with self._native() as worker:
                worker.set_keys(transport_id, *addresses, (receive, send))
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    @staticmethod
    def _session(profile: SrtpProfile, key: bytes, ssrc_type: int, window: int) -> Session:
        policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=_PROFILES[profile])
        policy.window_size = window
        return Session(policy)

    @staticmethod
    def _session_address(session: Session) -> int:
        return int(ffi.cast("uintptr_t", session._srtp[0]))

    def remove_transport(self, transport_id: TransportId) -> None:
        """Say BYE and forget the transport, its paths and its tracks; unknown ids are ignored."""
        if transport_id in self._receivers:
            with self._native() as worker:
                track_ids = worker.remove_transport(transport_id)
            del self._receivers[transport_id]
            for track_id in track_ids:
                self._codec_receivers.pop(track_id, None)

    def last_received(self, transport_id: TransportId) -> float:
        """Return when the peer last proved itself, in monotonic seconds; 0.0 when it never did."""
        with self._native() as worker:
            return worker.last_received_us(transport_id) * 1e-6

    # -- tracks

    def add_uptrack(
        self, transport_id: TransportId, config: UpTrackConfig, on_codec: CodecReceiver | None = None
    ) -> UpTrackId:
        """Receive a publication.

        ``on_codec`` is called with the codec id when its first packet came, and again whenever the
        publisher changes the codec: ten times a second at most, then with the newest.  Of RED packets it
        is the codec inside.
        """
        with self._native() as worker:
            uptrack_id = UpTrackId(worker.add_uptrack(transport_id, _up_settings(config)))
        if on_codec is not None:
            self._codec_receivers[uptrack_id] = on_codec
        return uptrack_id

    def update_uptrack(self, uptrack_id: UpTrackId, config: UpTrackConfig) -> None:
        """Replace payload types, SSRCs and extension ids of a publication."""
        with self._native() as worker:
            worker.update_uptrack(uptrack_id, _up_settings(config))

    def remove_uptrack(self, uptrack_id: UpTrackId) -> None:
        """Forget a publication; slots that play it become idle."""
        with self._native() as worker:
            worker.remove_uptrack(uptrack_id)
        self._codec_receivers.pop(uptrack_id, None)

    def add_downtrack(self, transport_id: TransportId, config: DownTrackConfig) -> DownTrackId:
        """Make a slot; its SSRC, numbers and clock go on for the life of the transport."""
        with self._native() as worker:
            downtrack_id = worker.add_downtrack(
                transport_id,
                config.kind is Kind.VIDEO,
                config.ssrc,
                secrets.randbits(15),
                secrets.randbits(32),
                secrets.randbits(15),
                _down_settings(config),
            )
        return DownTrackId(downtrack_id)

    def update_downtrack(self, downtrack_id: DownTrackId, config: DownTrackConfig) -> None:
        """Replace what was negotiated of a slot but for its kind and SSRCs; it may gain RTX or lose it.

        Raises:
            LocalProtocolError: ``rtx_ssrc`` is another than it once was, or a number is out of range.
        """
        try:
            with self._native() as worker:
                worker.update_downtrack(downtrack_id, _down_settings(config))
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    def connect(self, downtrack_id: DownTrackId, uptrack_id: UpTrackId) -> None:
        """Let a slot play a publication: audio at once, video from its next key frame (which is asked for).

        Until that key frame a picture that already plays goes on.  The last call counts: another one before
        the change replaces it, with what plays it takes it back, and :meth:`disconnect` ends both.
        """
        with self._native() as worker:
            worker.connect(downtrack_id, uptrack_id)

    def disconnect(self, downtrack_id: DownTrackId) -> None:
        """Make a slot idle."""
        with self._native() as worker:
            worker.disconnect(downtrack_id)

    # -- statistics

    def uptrack_stats(self, uptrack_id: UpTrackId) -> UpTrackStats:
        """Return what arrived of a publication."""
        with self._native() as worker:
            return UpTrackStats(*worker.uptrack_stats(uptrack_id))

    def downtrack_stats(self, downtrack_id: DownTrackId) -> DownTrackStats:
        """Return what went out in a slot."""
        with self._native() as worker:
            return DownTrackStats(*worker.downtrack_stats(downtrack_id))

    def counters(self) -> dict[str, int]:
        """Return the worker's counters; names that start with ``dropped_`` are drop reasons."""
        with self._native() as worker:
            return {**worker.counters(), "dropped_datagrams_down": self._sends_dropped}

    def audio_levels(self) -> dict[UpTrackId, int]:
        """Return the loudest RFC 6464 level of each publication since the last call.

        0 is loudest, 127 silence; only audio that sent levels since is in it.  Reading clears: there is
        one caller for all rooms.
        """
        with self._native() as worker:
            return {UpTrackId(uptrack_id): level for uptrack_id, level in worker.audio_levels().items()}

    def cpu_seconds(self) -> tuple[float, float]:
        """Return user and system CPU seconds of the media thread."""
        with self._native() as worker:
            return worker.cpu_seconds()


def _up_settings(
    config: UpTrackConfig,
) -> tuple[
    bytes,
    bool,
    list[tuple[int, int, int, int]],
    list[tuple[int, int]],
    list[int],
    bool,
    bool,
    bool,
    bool,
    list[tuple[int, int]],
    list[tuple[int, int]],
    list[bytes],
]:
    """Return what the native side reads of a publication, in its order."""
    return (
        config.mid.encode(),
        config.kind is Kind.VIDEO,
        [(c.payload_type, c.codec_id, int(c.format), c.clock_rate) for c in config.codecs],
        [(int(kind), identifier) for kind, identifier in config.extensions.items()],
        list(config.ssrcs),
        config.pli,
        config.fir,
        config.nack,
        config.transport_cc,
        list(config.rtx_payload_types.items()),
        list(config.rtx_ssrcs.items()),
        [rid.encode() for rid in config.rids],
    )


def _down_settings(
    config: DownTrackConfig,
) -> tuple[
    bytes, bytes, list[tuple[int, int]], list[tuple[int, int]], bool, int, list[tuple[int, int]], bool
]:
    """Return what the native side reads of a slot, in its order."""
    return (
        config.mid.encode(),
        config.cname.encode(),
        list(config.payload_types.items()),
        [(int(kind), identifier) for kind, identifier in config.extensions.items()],
        config.nack,
        config.rtx_ssrc if config.rtx_payload_types else 0,
        list(config.rtx_payload_types.items()),
        config.allows_two_byte,
    )
