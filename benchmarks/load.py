"""A publisher, subscribers and what lies between them, for forwarding benchmarks.

The load runs on the first core, the forwarder on the second (where there is one), over loopback,
with real SRTP on both sides; see README.md for what the figures may be used for.
"""

import ctypes
import hashlib
import os
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path as FilePath

from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
KEY_BYTES = 28
PACKET_BYTES = 1200  # before encryption: a usual video packet
WINDOW = 64  # packets of the publisher under way at one time
DEADLINE_S = 60.0  # a round that takes longer has lost packets
PUBLISHER_SSRC = 0x1234
PUBLISHER_PAYLOAD_TYPE = 96


def core(index: int) -> int:
    """Return the number of the first (load) or second (forwarder) core we may use."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[min(index, len(cores) - 1)]


def library() -> ctypes.CDLL:
    """Compile load.c, once for each content and user, and load it."""
    source = FilePath(__file__).with_name("load.c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    target = FilePath(tempfile.gettempdir()) / f"kaamos-load-{os.getuid()}-{digest}.so"
    if not target.exists():
        built = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", built, source, "-pthread"], check=True)
        built.rename(target)
    return ctypes.CDLL(str(target))


def native(name: str) -> int:
    """Return the address of a libsrtp function."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


def session(key: bytes, ssrc_type: int, window: int = 128) -> Session:
    """Return a libsrtp session for any SSRC."""
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=PROFILE)
    policy.window_size = window
    return Session(policy)


def session_address(of: Session) -> int:
    """Return the srtp_t behind a Session."""
    return int(ffi.cast("uintptr_t", of._srtp[0]))


def udp_socket() -> socket.socket:
    """Return a loopback socket with room for a burst."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    return sock


def video_packet(size: int = PACKET_BYTES) -> bytes:
    """Return an RTP packet whose VP8 payload starts a key frame: a receiver may begin at each."""
    header = struct.pack("!BBHII", 0x90, PUBLISHER_PAYLOAD_TYPE, 0, 0, PUBLISHER_SSRC)
    extensions = bytes.fromhex("bede0002 4001 3100 00000000")  # orientation (4), mid (3)
    return (header + extensions + b"\x10\x00").ljust(size, b"\x5a")


class Load:
    """One publisher's socket and many subscribers', around a forwarder that is not known here."""

    def __init__(self, subscribers: int) -> None:
        self.library = library()
        self.publisher = udp_socket()
        self.publisher_key = os.urandom(KEY_BYTES)
        self.subscribers = [udp_socket() for _ in range(subscribers)]
        self.subscriber_keys = [os.urandom(KEY_BYTES) for _ in range(subscribers)]
        self._session = session(self.publisher_key, Policy.SSRC_ANY_OUTBOUND)
        self._seq = ctypes.c_uint16(0)
        self._received = ctypes.c_uint64(0)
        self._stop = ctypes.c_uint32(0)
        fds = (ctypes.c_int * subscribers)(*(s.fileno() for s in self.subscribers))
        self._sink = threading.Thread(target=self._drain, args=(fds, subscribers))
        self._sink.start()

    def _drain(self, fds: "ctypes.Array[ctypes.c_int]", count: int) -> None:
        os.sched_setaffinity(threading.get_native_id(), {core(0)})
        self.library.drain(fds, count, ctypes.byref(self._received), ctypes.byref(self._stop))

    def publish(self, packets: int, window: int = WINDOW) -> int:
        """Send packets and wait until every copy arrived; return the number of copies.

        Raises:
            TimeoutError: copies got lost.
        """
        before, copies = self._received.value, packets * len(self.subscribers)
        os.sched_setaffinity(threading.get_native_id(), {core(0)})
        publish = self.library.publish
        publish.argtypes = [
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_double,
        ]
        packet = video_packet()
        sent = publish(
            self.publisher.fileno(),
            packet,
            len(packet),
            ctypes.addressof(self._seq),
            packets,
            native("srtp_protect"),
            session_address(self._session),
            ctypes.addressof(self._received),
            len(self.subscribers),
            window,
            DEADLINE_S,
        )
        deadline = threading.Event()
        for _ in range(2000):
            if sent == packets and self._received.value - before >= copies:
                return copies
            deadline.wait(0.001)
        raise TimeoutError(f"{self._received.value - before} of {copies} copies arrived")

    def close(self) -> None:
        """End the sink and close the sockets."""
        self._stop.value = 1
        self._sink.join()
        for sock in [self.publisher, *self.subscribers]:
            sock.close()
