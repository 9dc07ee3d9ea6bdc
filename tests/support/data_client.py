"""A member of a room who talks on data channels: aiortc behind the signaling that everybody uses.

Run as a program it is a process of its own for tests that watch the server's loop:
``python -m tests.support.data_client flood|talk WS_URL SECONDS``; it prints one line of JSON at the end.
"""

import asyncio
import contextlib
import json
import sys
import time
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from aiortc.rtcsctptransport import Chunk, DataChunk, RTCSctpTransport, serialize_packet

from tests.support.original_client import loopback_candidates
from tests.support.ortc import eventually

Heard = tuple[str, str | bytes]  # label and message

TALK_INTERVAL_S = 0.05
MESSAGES_A_PACKET = 30


class DataClient:
    """One person in a room; enter and leave it with ``async with``.

    ``channels`` are created before the first offer: the options of each by its label.
    """

    def __init__(
        self, socket_url: str, user_id: str, channels: dict[str, dict[str, Any]], *, has_audio: bool = False
    ) -> None:
        self.url = socket_url
        self.user_id = user_id
        self.heard: list[Heard] = []
        self.errors: list[dict[str, str]] = []
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on("datachannel", self._watch)
        self.channels: dict[str, RTCDataChannel] = {}
        for label, options in channels.items():
            self.create(label, **options)
        if has_audio:
            self.connection.addTrack(AudioStreamTrack())
        self._stack = contextlib.AsyncExitStack()

    @property
    def sctp(self) -> RTCSctpTransport:
        assert self.connection.sctp is not None
        return self.connection.sctp

    def create(self, label: str, **options: Any) -> RTCDataChannel:
        channel = self.connection.createDataChannel(label, **options)
        self._watch(channel)
        return channel

    def _watch(self, channel: RTCDataChannel) -> None:
        self.channels[channel.label] = channel
        channel.on("message", lambda message: self.heard.append((channel.label, message)))

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._socket = await session.ws_connect(self.url)
        self._stack.push_async_callback(self._socket.close)
        self._stack.push_async_callback(self.connection.close)
        await self._socket.send_json({"type": "join", "data": {"user_id": self.user_id}})
        await self.offer()
        self._reading = asyncio.create_task(self._read())
        await self.is_open(*self.channels)
        return self

    async def __aexit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._stack.aclose()
        if error is None:
            assert self.errors == []

    async def is_open(self, *labels: str) -> None:
        """Wait until these channels are open."""
        await eventually(
            lambda: (
                all(label in self.channels for label in labels)
                and all(self.channels[label].readyState == "open" for label in labels)
            )
        )

    async def offer(self) -> None:
        with loopback_candidates():
            await self.connection.setLocalDescription(await self.connection.createOffer())
        await self._send("offer")

    async def _send(self, kind: str, **fields: Any) -> None:
        description = {"sdp": self.connection.localDescription.sdp}
        await self._socket.send_json({"type": kind, "data": description, **fields})

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            data = message.get("data")
            if message["type"] in ("offer", "answer"):
                await self.connection.setRemoteDescription(
                    RTCSessionDescription(data["sdp"], message["type"])
                )
            if message["type"] == "offer":
                await self.connection.setLocalDescription(await self.connection.createAnswer())
                await self._send("answer", id=message["id"])
            elif message["type"] == "error":
                self.errors.append(data)

    async def audio_packets(self) -> int:
        """How many packets of audio have come from others."""
        stats = await self.connection.getStats()
        return sum(report.packetsReceived for report in stats.values() if report.type == "inbound-rtp")


class _Bundle(Chunk):
    """Many messages in a packet, which aiortc itself never makes."""

    def __init__(self, chunks: list[DataChunk]) -> None:
        self.chunks = chunks

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self.chunks))


async def flood(url: str, seconds: float) -> dict[str, Any]:
    """Send small messages as fast as this process can, without regard to congestion."""
    sent = 0
    async with DataClient(url, "mallory", {"chat": {}}, has_audio=True) as client:
        sctp, dtls = client.sctp, client.sctp.transport
        stream = client.channels["chat"].id
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for packet_number in range(24):
                # Over and over what the server may take now, for it drops most of it.
                first_ahead = 1 + packet_number % 8 * MESSAGES_A_PACKET
                chunks = [DataChunk(flags=7) for _ in range(MESSAGES_A_PACKET)]  # whole and unordered
                for number, chunk in enumerate(chunks, first_ahead):
                    chunk.tsn = (sctp._last_sacked_tsn + number) % 2**32
                    chunk.stream_id, chunk.protocol, chunk.user_data = stream, 51, b"x"
                packet = serialize_packet(5000, 5000, sctp._remote_verification_tag, _Bundle(chunks))
                await dtls._send_data(packet)
                sent += 1
            await asyncio.sleep(0)
        return {"sent": sent, "state": client.connection.connectionState, "errors": client.errors}


async def talk(url: str, seconds: float) -> dict[str, Any]:
    """Two who speak to each other, and on a data channel, all the time."""
    labels: dict[str, dict[str, Any]] = {"quiet": {}}
    async with (
        DataClient(url, "ada", labels, has_audio=True) as ada,
        DataClient(url, "grace", labels, has_audio=True) as grace,
    ):
        print("ready", flush=True)
        sent = 0
        audio = await ada.audio_packets()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for client in (ada, grace):
                client.channels["quiet"].send(f"{sent}")
            sent += 1
            await asyncio.sleep(TALK_INTERVAL_S)
        expected = [("quiet", f"{number}") for number in range(sent)]

        def heard(client: DataClient) -> list[Heard]:
            return [item for item in client.heard if item[0] == "quiet"]

        await eventually(lambda: heard(ada) == expected == heard(grace))
        return {
            "sent": sent,
            "audio": await ada.audio_packets() - audio,
            "flood": sum(label == "chat" for label, _ in ada.heard),
        }


if __name__ == "__main__":
    act = {"flood": flood, "talk": talk}[sys.argv[1]]
    print(json.dumps(asyncio.run(act(sys.argv[2], float(sys.argv[3])))))
