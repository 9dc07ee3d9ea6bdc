"""A lossy, slow UDP path on loopback, without root: a relay in front of the server's port.

A browser is given the relay's port in place of the server's (:data:`REROUTE`). Each of its addresses has a
socket of its own towards the server, and ICE learns both ends as peer-reflexive.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

Address = tuple[str, int]

# Puts the relay's port into what a page hears of the server's candidates.
REROUTE = """(() => {
  const reroute = (text) => text.replaceAll(" %(server)d typ", " %(relay)d typ");
  const { setRemoteDescription, addIceCandidate } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function (it) {
    return setRemoteDescription.call(this, { type: it.type, sdp: reroute(it.sdp) });
  };
  RTCPeerConnection.prototype.addIceCandidate = function (it) {
    return addIceCandidate.call(this, it?.candidate ? { ...it, candidate: reroute(it.candidate) } : it);
  };
})();
"""


@dataclass
class Direction:
    """One way through the relay; what is sent keeps its order."""

    rng: random.Random
    loss: float = 0.0  # 0 to 1
    is_cut: bool = False  # nothing passes, as when a cable was pulled
    delay_s: float = 0.0
    passed: int = 0
    lost: int = 0
    _last: float = field(default=0.0, repr=False)

    def send(self, data: bytes, out: Callable[[bytes], None]) -> None:
        if self.is_cut or self.rng.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        loop = asyncio.get_running_loop()
        self._last = max(loop.time() + self.delay_s, self._last)
        loop.call_at(self._last, out, data)


@dataclass
class Rebound:
    """What happened after a relay went on from other ports, in monotonic seconds; 0.0: not yet."""

    checked_at: float = 0.0  # the first check of a client left from there
    media_at: float = 0.0  # the first media of the server came there

    def note_up(self, data: bytes) -> None:
        if data[:2] == b"\x00\x01" and not self.checked_at:
            self.checked_at = time.monotonic()

    def note_down(self, data: bytes) -> None:
        if 128 <= data[0] <= 191 and not self.media_at:
            self.media_at = time.monotonic()


class Relay(asyncio.DatagramProtocol):
    """Takes datagrams of clients to the server and back."""

    def __init__(self, server: Address, seed: int) -> None:
        self.up = Direction(random.Random(seed))
        self.down = Direction(random.Random(seed + 1))
        self.transport: asyncio.DatagramTransport
        self.rebound = Rebound()
        self._server = server
        self._clients: dict[Address, asyncio.DatagramTransport | list[bytes]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Address) -> None:
        client = self._clients.get(addr)
        if client is None:
            client = self._clients[addr] = []  # what comes before its socket is there waits
            opening = asyncio.ensure_future(self._open(addr, client))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        if isinstance(client, list):
            client.append(data)
        else:
            self.rebound.note_up(data)
            self.up.send(data, client.sendto)

    async def rebind(self) -> None:
        """Go on from other ports towards the server, as a NAT does that has forgotten its clients."""
        opened = {address: await self._connect(address) for address in self._clients}
        self.rebound = Rebound()
        for address, transport in opened.items():
            old, self._clients[address] = self._clients[address], transport
            if not isinstance(old, list):
                old.close()

    async def _open(self, addr: Address, waiting: list[bytes]) -> None:
        self._clients[addr] = transport = await self._connect(addr)
        for data in waiting:
            self.up.send(data, transport.sendto)

    async def _connect(self, addr: Address) -> asyncio.DatagramTransport:
        relay = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: Address) -> None:
                relay.rebound.note_down(data)
                relay.down.send(data, lambda late: relay._send_back(late, addr))

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Back, remote_addr=self._server)
        return transport

    def _send_back(self, data: bytes, addr: Address) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(data, addr)

    async def close(self) -> None:
        for opening in self._opening:
            opening.cancel()
        for client in self._clients.values():
            if not isinstance(client, list):
                client.close()
        self.transport.close()


@contextlib.asynccontextmanager
async def relayed(server_port: int, *, seed: int) -> AsyncIterator[Relay]:
    """Run a relay to a port on loopback; ``seed`` decides what gets lost."""
    relay = Relay(("127.0.0.1", server_port), seed)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", 0))
    relay.transport = transport
    try:
        yield relay
    finally:
        await relay.close()
