"""One publisher and some subscribers around a ManualWorker: no thread, no encryption, our own clock.

What the worker sends really leaves through a UDP socket and is read from the peers' sockets, so tests
see bytes, not internals. Sending to a loopback socket is synchronous: what was not there after a call
will not come.
"""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from kaamos._fastpath import ManualWorker
from kaamos.media.description import Extension, PayloadFormat
from tests.support.packets import Rtp, read_rtp

START_US = 1_000_000_000  # no special value: clocks never start at zero
START_NTP = 0xE7000000 << 32

LOOPBACK = ip_address("127.0.0.1").packed

OPUS, VP8, H264, RED, PCMU, H265 = range(6)  # codec ids in these tests
UP_TYPES = [
    (96, VP8, PayloadFormat.VP8, 90000),
    (97, H264, PayloadFormat.H264, 90000),
    (106, H265, PayloadFormat.H265, 90000),
]
AUDIO_UP_TYPES = [
    (111, OPUS, PayloadFormat.OPAQUE, 48000),
    (63, RED, PayloadFormat.RED, 48000),
    (0, PCMU, PayloadFormat.OPAQUE, 8000),
]
RTX_UP_TYPES = [(108, 96), (109, 97)]  # RTX, what it repeats
RTX_DOWN_TYPES = [(VP8, 120), (H264, 121)]
DOWN_TYPES = [(VP8, 100), (H264, 101), (H265, 102), (OPUS, 110)]
UP_EXTENSIONS = [
    (Extension.MID, 3),
    (Extension.AUDIO_LEVEL, 1),
    (Extension.VIDEO_ORIENTATION, 4),
    (Extension.TRANSPORT_CC, 6),
    (Extension.RID, 10),
    (Extension.REPAIRED_RID, 11),
]
DOWN_EXTENSIONS = [(Extension.MID, 5), (Extension.AUDIO_LEVEL, 2), (Extension.VIDEO_ORIENTATION, 7)]


def up_settings(
    *,
    mid: bytes = b"v",
    is_video: bool = True,
    types: Iterable[tuple[int, int, int, int]] = (),
    extensions: Iterable[tuple[int, int]] = (),
    ssrcs: Iterable[int] = (),
    pli: bool = True,
    fir: bool = True,
    nack: bool = False,
    transport_cc: bool = False,
    rtx_types: Iterable[tuple[int, int]] = (),
    rtx_ssrcs: Iterable[tuple[int, int]] = (),
    rids: Iterable[bytes] = (),
) -> tuple[Any, ...]:
    """Return what add_uptrack takes."""
    return (
        mid,
        is_video,
        list(types),
        list(extensions),
        list(ssrcs),
        pli,
        fir,
        nack,
        transport_cc,
        list(rtx_types),
        list(rtx_ssrcs),
        list(rids),
    )


def down_settings(
    *,
    mid: bytes = b"d",
    cname: bytes = b"canonical",
    types: Iterable[tuple[int, int]] = (),
    extensions: Iterable[tuple[int, int]] = (),
    has_nack: bool = True,
    rtx_ssrc: int = 0,
    rtx_types: Iterable[tuple[int, int]] = (),
    allows_two_byte: bool = False,
) -> tuple[Any, ...]:
    """Return what add_downtrack takes."""
    return (
        mid,
        cname,
        list(types),
        list(extensions),
        has_nack,
        rtx_ssrc,
        list(rtx_types),
        allows_two_byte,
    )


def is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] <= 223


class ManualPeer:
    """A transport with keys and a selected path, and the socket that its path leads to."""

    def __init__(self, room: "ManualRoom", rtcp_ssrc: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.ufrag = b"ufrag%d" % rtcp_ssrc
        self.transport = room.worker.add_transport(self.ufrag, b"p" * 22, b"cname-%d" % rtcp_ssrc, rtcp_ssrc)
        room.worker.bind_path(self.transport, LOOPBACK, self.port, LOOPBACK, False, True)
        room.worker.set_keys(self.transport, 1, 1, None)  # the stand-ins for libsrtp look at no session

    def received(self) -> list[bytes]:
        """Return the datagrams that arrived since the last look."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(2000))
            except BlockingIOError:
                return datagrams

    def media(self) -> list[Rtp]:
        """Return the RTP among the datagrams that arrived since the last look; RTCP is thrown away."""
        return [read_rtp(data) for data in self.received() if not is_rtcp(data)]

    def rtcp(self) -> list[bytes]:
        """Return the RTCP among the datagrams that arrived since the last look; RTP is thrown away."""
        return [data for data in self.received() if is_rtcp(data)]


class ManualRoom:
    """A worker with a clock that only tests move; use it through :func:`manual_room`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.worker = ManualWorker(self._socket.fileno())
        self.peers: list[ManualPeer] = []
        self.now_us = START_US

    @property
    def now_ntp(self) -> int:
        """Our NTP clock: it runs with ``now_us``."""
        return START_NTP + ((self.now_us - START_US) << 32) // 1_000_000

    def apply(self) -> None:
        """Carry out waiting commands."""
        self.worker.apply(self.now_us, self.now_ntp)

    def peer(self) -> ManualPeer:
        peer = ManualPeer(self, 0xF0000000 + len(self.peers))
        self.peers.append(peer)
        self.apply()
        return peer

    def publish(
        self,
        peer: ManualPeer,
        *,
        mid: bytes = b"v",
        is_video: bool = True,
        ssrcs: Iterable[int] = (0x1234,),
        pli: bool = True,
        fir: bool = True,
        nack: bool = False,
        transport_cc: bool = False,
        rtx_ssrcs: Iterable[tuple[int, int]] = (),
        extensions: list[tuple[int, int]] | None = None,
        rids: Iterable[bytes] = (),
    ) -> int:
        settings = up_settings(
            mid=mid,
            is_video=is_video,
            types=UP_TYPES if is_video else AUDIO_UP_TYPES,
            extensions=UP_EXTENSIONS if extensions is None else extensions,
            ssrcs=ssrcs,
            pli=pli,
            fir=fir,
            nack=nack,
            transport_cc=transport_cc,
            rtx_types=RTX_UP_TYPES if is_video else [],
            rtx_ssrcs=rtx_ssrcs,
            rids=rids,
        )
        uptrack = self.worker.add_uptrack(peer.transport, settings)
        self.apply()
        return uptrack

    def subscribe(
        self,
        peer: ManualPeer,
        uptrack: int,
        *,
        ssrc: int = 0x777,
        mid: bytes = b"d",
        is_video: bool = True,
        first_seq: int = 1000,
        first_timestamp: int = 5000,
        types: list[tuple[int, int]] | None = None,
        has_nack: bool = True,
        rtx_ssrc: int = 0,
        first_rtx_seq: int = 500,
        extensions: list[tuple[int, int]] | None = None,
        allows_two_byte: bool = False,
    ) -> int:
        settings = down_settings(
            mid=mid,
            types=DOWN_TYPES if types is None else types,
            extensions=DOWN_EXTENSIONS if extensions is None else extensions,
            has_nack=has_nack,
            rtx_ssrc=rtx_ssrc,
            rtx_types=RTX_DOWN_TYPES if rtx_ssrc else [],
            allows_two_byte=allows_two_byte,
        )
        downtrack = self.worker.add_downtrack(
            peer.transport, is_video, ssrc, first_seq, first_timestamp, first_rtx_seq, settings
        )
        self.worker.connect(downtrack, uptrack)
        self.apply()
        return downtrack

    def send(self, peer: ManualPeer, data: bytes) -> str | None:
        """Let the worker take a datagram of this peer; return the drop reason or None."""
        return self.worker.receive(peer.transport, data, self.now_us, self.now_ntp)

    def advance(self, us: int) -> None:
        """Move the clock and look at the timers, as the thread does every 20 ms."""
        end = self.now_us + us
        while self.now_us < end:
            self.now_us = min(self.now_us + 20_000, end)
            self.worker.tick(self.now_us, self.now_ntp)

    def close(self) -> None:
        for peer in self.peers:
            peer.socket.close()
        self._socket.close()


@contextmanager
def manual_room() -> Iterator[ManualRoom]:
    room = ManualRoom()
    try:
        yield room
    finally:
        room.close()
