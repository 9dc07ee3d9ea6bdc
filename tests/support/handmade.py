"""A whole client made by hand: a WebSocket, descriptions as text, and a scripted peer for the media."""

import contextlib
import re
from collections.abc import AsyncIterator

import aiohttp

from kaamos.config import config_from
from kaamos.rtc.negotiation import LocalTransport
from kaamos.rtc.sdp import Candidate, Description
from kaamos.server import Server
from tests.support.scripted_peer import ScriptedPeer
from tests.support.sdp_peer import SdpPeer
from tests.support.signaling_client import Client


class Handmade:
    """Somebody in a room, by ``client`` and ``peer``."""

    def __init__(self, client: Client, peer: ScriptedPeer) -> None:
        self.client = client
        self.peer = peer

    def own(self, offer: str) -> str:
        """Return a description as this peer's: its credentials and certificate, no addresses."""
        kept = [line for line in offer.splitlines() if not line.startswith("a=candidate")]
        text = "".join(f"{line}\r\n" for line in kept)
        text = re.sub("a=ice-ufrag:.*\r\n", f"a=ice-ufrag:{self.peer.ufrag}\r\n", text)
        text = re.sub("a=ice-pwd:.*\r\n", f"a=ice-pwd:{self.peer.pwd}\r\n", text)
        return re.sub("a=fingerprint:.*\r\n", f"a=fingerprint:{self.peer.fingerprint}\r\n", text)

    async def offer(self, offer: str) -> str:
        """Say an offer, and return the answer."""
        await self.client.say("offer", {"sdp": self.own(offer)})
        answer: str = (await self.client.hear("answer"))["data"]["sdp"]
        return answer

    async def call(self, offer: str, server_ip: str | None = None) -> str:
        """Say the first offer, and connect to the server, by its best address unless one is given."""
        answer = await self.offer(offer)
        await self.peer.connect(transport_of(answer), server_ip)
        return answer

    async def watch(self, server_ip: str | None = None) -> None:
        """Connect as somebody who only receives, and take the offer of what somebody else sends already."""
        browser = SdpPeer()
        browser.add("audio", "recvonly")
        browser.add("video", "recvonly")
        browser.accept(await self.call(browser.offer(), server_ip))
        offer = await self.client.hear("offer")
        await self.client.say(
            "answer", {"sdp": self.own(browser.answer(offer["data"]["sdp"]))}, id=offer["id"]
        )


def transport_of(answer: str) -> LocalTransport:
    """Return what an answer of the server says of its transport."""
    media = Description.parse(answer).media[0]
    (fingerprint,) = media.fingerprints
    candidates = [Candidate.parse(value) for value in media.all("candidate")]
    assert media.ufrag is not None and media.pwd is not None
    return LocalTransport(
        ufrag=media.ufrag,
        pwd=media.pwd,
        fingerprint=f"{fingerprint.algorithm} {fingerprint.value}",
        addresses=tuple((candidate.address, candidate.port) for candidate in candidates),
    )


class HandmadeRoom:
    """A server in this process and a room on it; use it through :func:`handmade_room`."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session
        self._clients: list[Handmade] = []

    async def join(self, name: str, peer: ScriptedPeer | None = None) -> Handmade:
        url = f"{self.server.url}/ws/room"
        handmade = Handmade(
            Client(await self._session.ws_connect(url, max_msg_size=0)), peer or ScriptedPeer()
        )
        self._clients.append(handmade)
        await handmade.client.join(name)
        return handmade

    async def close(self) -> None:
        for handmade in self._clients:
            await handmade.peer.close()


@contextlib.asynccontextmanager
async def handmade_room(*addresses: str) -> AsyncIterator[HandmadeRoom]:
    """Run a server that names these addresses in its candidates."""
    server = Server(
        config_from({"http": {"port": 0}, "rtc": {"port": 0, "ip": list(addresses or ["127.0.0.1"])}})
    )
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            room = HandmadeRoom(server, session)
            try:
                yield room
            finally:
                await room.close()
    finally:
        await server.stop()
