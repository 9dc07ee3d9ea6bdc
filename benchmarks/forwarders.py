"""What is measured: the Kaamos engine, and the same forwarding written plainly with asyncio."""

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from aiortc import rtp
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from pylibsrtp import Policy

from benchmarks.load import PUBLISHER_PAYLOAD_TYPE, PUBLISHER_SSRC, Load, core, session, udp_socket
from kaamos.media.description import (
    DownTrackConfig,
    Extension,
    Kind,
    Path,
    PayloadFormat,
    SrtpKeys,
    SrtpProfile,
    TransportId,
    UpCodec,
    UpTrackConfig,
)
from kaamos.media.engine import Engine

IDS_UP = {Extension.MID: 3, Extension.VIDEO_ORIENTATION: 4}
IDS_DOWN = {Extension.MID: 5, Extension.VIDEO_ORIENTATION: 7}
T = TypeVar("T")
VP8 = 1  # any codec id does: both sides use the same


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds of a forwarding thread."""

    user_s: float
    system_s: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.user_s - earlier.user_s, self.system_s - earlier.system_s)

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s


class LoopThread:
    """An event loop in a thread of its own, pinned to the forwarder's core."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        os.sched_setaffinity(threading.get_native_id(), {core(1)})
        self.loop.run_forever()

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run ``function`` in the loop's thread and return its result."""

        async def run() -> T:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result()

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class EngineForwarder:
    """The engine with one publisher and a slot for each of the load's subscribers."""

    def __init__(self, load: Load) -> None:
        self._thread = LoopThread()
        self.engine = Engine(port=0)
        self._thread.call(self.engine.open)
        worker = next(t for t in threading.enumerate() if t.name.startswith("kaamos-media"))
        os.sched_setaffinity(worker.native_id or 0, {core(1)})
        self._thread.call(self._connect, load)
        load.publisher.connect(("127.0.0.1", self.engine.port))

    def _connect(self, load: Load) -> None:
        publisher = self._transport(0, load.publisher.getsockname()[1], load.publisher_key)
        video = self.engine.add_uptrack(
            publisher,
            UpTrackConfig(
                mid="0",
                kind=Kind.VIDEO,
                codecs=(UpCodec(PUBLISHER_PAYLOAD_TYPE, VP8, PayloadFormat.VP8, 90000),),
                ssrcs=(PUBLISHER_SSRC,),
                extensions=IDS_UP,
                pli=True,
                fir=False,
            ),
        )
        for i, (sock, key) in enumerate(zip(load.subscribers, load.subscriber_keys, strict=True)):
            transport = self._transport(i + 1, sock.getsockname()[1], key)
            slot = self.engine.add_downtrack(
                transport,
                DownTrackConfig(
                    mid="0",
                    kind=Kind.VIDEO,
                    ssrc=0xAB0000 + i,
                    payload_types={VP8: 100},
                    extensions=IDS_DOWN,
                    nack=True,
                    cname="benchmark",
                    rtx_payload_types={VP8: 101},
                    rtx_ssrc=0xCD0000 + i,
                ),
            )
            self.engine.connect(slot, video)

    def _transport(self, index: int, port: int, key: bytes) -> TransportId:
        transport = self.engine.add_transport(f"user{index}", "p" * 22, lambda *_: None)
        self.engine.select_path(transport, Path("127.0.0.1", port, "127.0.0.1"))
        self.engine.set_keys(transport, SrtpKeys(SrtpProfile.AEAD_AES_128_GCM, key, key))
        return transport

    def cpu(self) -> Cpu:
        """Return what the worker thread has used, after its next look at the clock."""
        turns = self.engine.counters()["turns"]
        while self.engine.counters()["turns"] < turns + 3:  # idle turns last a tick each
            threading.Event().wait(0.01)
        return Cpu(*self.engine.cpu_seconds())

    def close(self) -> None:
        """Stop the engine."""
        self._thread.call(self.engine.close)
        self._thread.close()


class AsyncioForwarder:
    """The yardstick: a datagram protocol, aiortc's RtpPacket and pylibsrtp."""

    def __init__(self, load: Load) -> None:
        self._thread = LoopThread()
        self._load = load
        self._transport, _ = asyncio.run_coroutine_threadsafe(self._open(), self._thread.loop).result()
        load.publisher.connect(self._transport.get_extra_info("sockname"))

    async def _open(self) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        loop = asyncio.get_running_loop()
        sock = udp_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        return await loop.create_datagram_endpoint(lambda: _PlainForwarding(self._load), sock=sock)

    def cpu(self) -> Cpu:
        """Return what the loop's thread has used."""
        return self._thread.call(_thread_cpu)

    def close(self) -> None:
        """Close the socket and end the thread."""
        self._thread.call(self._transport.close)
        self._thread.close()


def _thread_cpu() -> Cpu:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return Cpu(used.ru_utime, used.ru_stime)


class _PlainForwarding(asyncio.DatagramProtocol):
    """Parse, renumber, serialize, protect, send: once for each subscriber."""

    def __init__(self, load: Load) -> None:
        self._unprotect = session(load.publisher_key, Policy.SSRC_ANY_INBOUND).unprotect
        self._subscribers = [
            (session(key, Policy.SSRC_ANY_OUTBOUND), sock.getsockname(), 0xAB0000 + i, 1000 + 7 * i)
            for i, (sock, key) in enumerate(zip(load.subscribers, load.subscriber_keys, strict=True))
        ]
        self._ids = rtp.HeaderExtensionsMap()
        uri = "urn:ietf:params:rtp-hdrext:sdes:mid"
        self._ids.configure(
            RTCRtpParameters(headerExtensions=[RTCRtpHeaderExtensionParameters(id=3, uri=uri)])
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        packet = rtp.RtpPacket.parse(self._unprotect(data), self._ids)
        seq = packet.sequence_number
        for sender, address, ssrc, offset in self._subscribers:
            packet.ssrc = ssrc
            packet.sequence_number = (seq + offset) & 0xFFFF
            self._transport.sendto(sender.protect(packet.serialize(self._ids)), address)
