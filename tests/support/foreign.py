"""Somebody in a room by means of another WebRTC stack, which runs in a program of its own.

The program (``peers/``) knows WebRTC only; joining the room and carrying descriptions is done here. What it
says and hears is in ``peers/talk.cjs``.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtp import RtpPacket

from tests.support.original_client import MovingBar, Tone
from tests.support.required import missing, program

PEERS = Path(__file__).parent / "peers"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
LINE_LIMIT_BYTES = 1 << 20
# Where a driver does not tell which picture it was asked for, it shows a whole one this often.
KEY_FRAME_EVERY = 30


@dataclass(frozen=True)
class Stack:
    """Another stack and how to start its driver."""

    name: str
    program: str
    packages: str  # what brings the program
    driver: str  # in peers/
    modules: str  # what the driver itself needs
    makes_media: bool  # or sends the RTP that it is given

    def command(self) -> tuple[str, str]:
        return program((self.program,), self.packages), str(PEERS / self.driver)


GSTREAMER = Stack(
    name="GStreamer",
    program="/usr/bin/python3",
    packages="python3",
    driver="gstreamer.py",
    modules="Debian: apt-get install python3-gst-1.0 gir1.2-gst-plugins-bad-1.0 gir1.2-nice-0.1 "
    "gstreamer1.0-nice gstreamer1.0-plugins-good gstreamer1.0-plugins-bad",
    makes_media=True,
)
WERIFT = Stack("werift", "node", "nodejs npm", "werift.cjs", "npm install werift", makes_media=False)
LIBDATACHANNEL = Stack(
    "libdatachannel",
    "node",
    "nodejs npm",
    "libdatachannel.cjs",
    "npm install node-datachannel",
    makes_media=False,
)


class ForeignPeer:
    """A program that is somebody in a room."""

    def __init__(
        self, stack: Stack, process: asyncio.subprocess.Process, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.stack = stack
        self.received = {"audio": 0, "video": 0}  # packets or, where it decodes, pieces of picture and sound
        self.errors: list[dict[str, Any]] = []  # what the server refused
        self.can_talk = False  # its data channel "chat" is open
        self.heard: list[str | bytes] = []  # on that
        self._socket = socket
        self._input, self._output = process.stdin, process.stdout

    async def has_received(self) -> dict[str, int]:
        return self.received

    async def _driver_message(self) -> dict[str, Any]:
        line = await self._output.readline()
        assert line, f"the driver of {self.stack.name} ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def _tell(self, **message: object) -> None:
        self._input.write(json.dumps(message).encode() + b"\n")

    async def join(self, name: str) -> None:
        """Enter the room and offer picture and sound both ways."""
        await self._socket.send_json({"type": "join", "data": {"name": name}})
        async with asyncio.timeout(START_TIMEOUT_S):
            while (message := await self._driver_message())["type"] == "received":
                pass
        if message["type"] == "missing":
            missing(f"no {message['what']}", self.stack.modules)
        assert message["type"] == "offer", message
        await self._socket.send_json({"type": "offer", "data": {"sdp": message["sdp"]}})

    async def follow_driver(self) -> None:
        while True:
            message = await self._driver_message()
            if message["type"] == "open":
                self.can_talk = True
            elif message["type"] == "heard":
                self.heard.append(message["text"] if "text" in message else base64.b64decode(message["data"]))
            elif message["type"] == "answer":
                await self._socket.send_json({"type": "answer", "data": {"sdp": message["sdp"]}})
            else:
                self.received = {kind: message[kind] for kind in ("audio", "video")}

    async def follow_server(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if message["type"] in ("offer", "answer"):
                self._tell(type=message["type"], sdp=message["data"]["sdp"])
            elif message["type"] == "error":
                self.errors.append(message["data"])

    def say(self, message: str | bytes) -> None:
        """Send a message on the data channel "chat"."""
        if isinstance(message, str):
            self._tell(type="send", text=message)
        else:
            self._tell(type="send", data=base64.b64encode(message).decode())

    async def play_tone(self) -> None:
        tone, encoder, seq = Tone(440.0), OpusEncoder(), 0
        while True:
            payloads, timestamp = encoder.encode(await tone.recv())
            for payload in payloads:
                seq = self._send("audio", payload, seq, timestamp, is_last=True)

    async def show_bar(self) -> None:
        bar, encoder, seq, count = MovingBar((200, 30, 30)), Vp8Encoder(), 0, 0
        while True:
            frame = await bar.recv()
            payloads, timestamp = encoder.encode(frame, force_keyframe=count % KEY_FRAME_EVERY == 0)
            count += 1
            for payload in payloads:
                seq = self._send("video", payload, seq, timestamp, is_last=payload is payloads[-1])

    def _send(self, kind: str, payload: bytes, seq: int, timestamp: int, *, is_last: bool) -> int:
        """Have a packet sent; return the number of the next."""
        packet = RtpPacket(marker=int(is_last), sequence_number=seq, timestamp=timestamp % (1 << 32))
        packet.payload = payload
        self._tell(type="rtp", kind=kind, data=base64.b64encode(packet.serialize()).decode())
        return (seq + 1) % (1 << 16)

    def work(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self.follow_driver()
        yield self.follow_server()
        if not self.stack.makes_media:
            yield self.play_tone()
            yield self.show_bar()


@contextlib.asynccontextmanager
async def _driver(stack: Stack) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the driver; it ends when its input does."""
    process = await asyncio.create_subprocess_exec(
        *stack.command(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def foreign_peer(stack: Stack, socket_url: str, name: str) -> AsyncIterator[ForeignPeer]:
    """Have somebody in the room until the end of the block, who sends and receives picture and sound."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(socket_url) as socket,
        _driver(stack) as process,
        asyncio.TaskGroup() as group,  # what fails in there ends the test at once
    ):
        peer = ForeignPeer(stack, process, socket)
        await peer.join(name)
        tasks = [group.create_task(work) for work in peer.work()]
        try:
            yield peer
        finally:
            for task in tasks:
                task.cancel()
