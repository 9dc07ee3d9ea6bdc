"""Peers of a running Engine: real sockets, real SRTP by pylibsrtp, no ICE and no DTLS.

Everything waits on a socket with a time limit, or polls counters until a deadline.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from aioice import stun
from pylibsrtp import Policy, Session

from kaamos.media.description import (
    DownTrackConfig,
    DownTrackId,
    Extension,
    Kind,
    Path,
    PayloadFormat,
    SrtpKeys,
    SrtpProfile,
    UpCodec,
    UpTrackConfig,
    UpTrackId,
)
from kaamos.media.engine import DatagramKind, Engine

WITHIN_S = 10.0  # failure bound of every wait

PYLIBSRTP = {
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
VIDEO = UpTrackConfig(
    mid="v",
    kind=Kind.VIDEO,
    codecs=(UpCodec(96, 1, PayloadFormat.VP8, 90000), UpCodec(97, 2, PayloadFormat.H264, 90000)),
    ssrcs=(0x1234,),
    extensions={Extension.MID: 3, Extension.VIDEO_ORIENTATION: 4},
    pli=True,
    fir=True,
)


def slot(ssrc: int, *, mid: str = "d") -> DownTrackConfig:
    return DownTrackConfig(
        mid=mid,
        kind=Kind.VIDEO,
        ssrc=ssrc,
        payload_types={1: 100, 2: 101},
        extensions={Extension.MID: 5, Extension.VIDEO_ORIENTATION: 7},
        nack=True,
        cname="canonical",
    )


def eventually(look: Callable[[], bool], what: str = "") -> None:
    """Poll until ``look`` is true; fail after WITHIN_S.  Only for threads: the loop does not run."""
    deadline = time.monotonic() + WITHIN_S
    while not look():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {WITHIN_S} s: {what or look}")
        time.sleep(0.001)


def is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] <= 223


class MediaPeer:
    """One transport of an engine, and the socket and SRTP sessions at its other end."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM,
        *,
        server_ip: str = "127.0.0.1",
    ) -> None:
        self.engine = engine
        self.profile = profile
        self.server_ip = server_ip
        self.ufrag, self.pwd = f"ufrag{number}", f"{number:022d}"
        self.slot_ssrc = 0x777
        self.datagrams: asyncio.Queue[tuple[DatagramKind, bytes, Path]] = asyncio.Queue()
        self.transport = engine.add_transport(self.ufrag, self.pwd, self._on_datagram)
        self.socket = self._open_socket()
        self.keys = SrtpKeys(
            profile, os.urandom(profile.key_and_salt_bytes), os.urandom(profile.key_and_salt_bytes)
        )
        self.outgoing = self._session(self.keys.remote, Policy.SSRC_ANY_OUTBOUND)
        self.incoming = self._session(self.keys.local, Policy.SSRC_ANY_INBOUND)

    def _on_datagram(self, kind: DatagramKind, data: bytes, path: Path) -> None:
        self.datagrams.put_nowait((kind, data, path))

    async def datagram(self) -> tuple[DatagramKind, bytes, Path]:
        """Return the next STUN or DTLS datagram that the engine handed to Python."""
        return await asyncio.wait_for(self.datagrams.get(), WITHIN_S)

    def _open_socket(self) -> socket.socket:
        is_ipv6 = ":" in self.server_ip
        sock = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("::1" if is_ipv6 else "127.0.0.1", 0))
        sock.settimeout(WITHIN_S)
        # Connected: the kernel gives us only what really comes from the address that we send to.
        sock.connect((self.server_ip, self.engine.port))
        return sock

    def _session(self, key: bytes, ssrc_type: int) -> Session:
        policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=PYLIBSRTP[self.profile])
        policy.window_size = 1024
        return Session(policy)

    @property
    def path(self) -> Path:
        ip, port = self.socket.getsockname()[:2]
        return Path(ip, port, self.server_ip)

    def connect(self) -> None:
        """What ICE and DTLS would have done: path and keys."""
        self.engine.select_path(self.transport, self.path)
        self.engine.set_keys(self.transport, self.keys)

    def move(self) -> None:
        """Go on from another port, as behind a NAT that forgot us; ICE has not noticed yet."""
        self.socket.close()
        self.socket = self._open_socket()

    def publish(self, config: UpTrackConfig = VIDEO) -> UpTrackId:
        return self.engine.add_uptrack(self.transport, config)

    def subscribe(self, uptrack: UpTrackId, ssrc: int = 0x777, mid: str = "d") -> DownTrackId:
        self.slot_ssrc = ssrc
        downtrack = self.engine.add_downtrack(self.transport, slot(ssrc, mid=mid))
        self.engine.connect(downtrack, uptrack)
        return downtrack

    def seal(self, packet: bytes) -> bytes:
        return self.outgoing.protect(packet)

    def open(self, data: bytes) -> bytes:
        return self.incoming.unprotect(data)

    def send(self, packet: bytes) -> None:
        self.socket.send(self.seal(packet))

    def seal_rtcp(self, packet: bytes) -> bytes:
        return self.outgoing.protect_rtcp(packet)

    def send_rtcp(self, packet: bytes) -> None:
        self.socket.send(self.seal_rtcp(packet))

    def receive_stun(self) -> stun.Message:
        """Return the next STUN message, stepping over everything else."""
        while (data := self.socket.recv(2000))[0] > 3:
            pass
        return stun.parse_message(data)

    def receive_rtp(self) -> bytes:
        """Return the next RTP datagram as it came, stepping over RTCP."""
        while is_rtcp(data := self.socket.recv(2000)):
            pass
        return data

    def receive_rtcp(self, kind: int) -> bytes:
        """Return the next RTCP compound that has a packet of this type, decrypted."""
        while True:
            data = self.socket.recv(2000)
            if is_rtcp(data):
                plain = self.incoming.unprotect_rtcp(data)
                at = 0
                while at < len(plain):
                    if plain[at + 1] == kind:
                        return plain
                    at += 4 + 4 * int.from_bytes(plain[at + 2 : at + 4], "big")

    def binding_request(
        self, attributes: Mapping[str, object] | None = None, *, pwd: str | None = None
    ) -> bytes:
        """Return an ICE check of this peer (RFC 8445 section 7.1); attributes as aioice names them."""
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{self.ufrag}:theirs"
        message.attributes["PRIORITY"] = 1845501695
        message.attributes.update(attributes or {"ICE-CONTROLLING": 1})
        message.add_message_integrity((self.pwd if pwd is None else pwd).encode())
        return bytes(message)

    def close(self) -> None:
        self.socket.close()


class EngineRoom:
    """An open engine and its peers; use it through :func:`engine_room`."""

    def __init__(self, profile: SrtpProfile) -> None:
        self.profile = profile
        self.engine = Engine(port=0)
        self.peers: list[MediaPeer] = []

    def peer(self, *, server_ip: str = "127.0.0.1", is_connected: bool = True) -> MediaPeer:
        peer = MediaPeer(self.engine, len(self.peers), self.profile, server_ip=server_ip)
        self.peers.append(peer)
        if is_connected:
            peer.connect()
        return peer

    def counter(self, name: str) -> int:
        return self.engine.counters()[name]

    def drops(self) -> dict[str, int]:
        """Return the drop counters that are not zero."""
        return {
            name.removeprefix("dropped_"): value
            for name, value in self.engine.counters().items()
            if name.startswith("dropped_") and value
        }


@contextmanager
def engine_room(profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM) -> Iterator[EngineRoom]:
    """Open an engine inside the running loop; close it and every socket at the end."""
    room = EngineRoom(profile)
    room.engine.open()
    try:
        yield room
    finally:
        room.engine.close()
        for peer in room.peers:
            peer.close()


def connected(publisher: MediaPeer, *subscribers: MediaPeer) -> UpTrackId:
    """Let ``publisher`` publish video, and everybody else watch it."""
    uptrack = publisher.publish()
    for subscriber in subscribers:
        subscriber.subscribe(uptrack)
    return uptrack
