"""The real HTTP application on a free port, with fake connections, and raw clients of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from kaamos.config import Config, config_from
from kaamos.media.description import Kind
from kaamos.room.room import Rooms
from kaamos.signaling.app import HttpServer
from tests.support.fake_connection import FakeConnections

# Long enough for a busy machine; nothing waits for it unless a test fails.
PATIENCE_S = 20.0


async def plain_guard(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception:
        return None


async def until(is_true: Callable[[], bool]) -> None:
    """Let the loop run until something inside the server has come true."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0)


class Client:
    """A client that says and hears JSON and knows nothing else."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.heard: list[dict[str, Any]] = []

    async def say(self, type: str, data: object = None, **envelope: object) -> None:
        message = {"type": type, **envelope}
        if data is not None:
            message["data"] = data
        await self.ws.send_str(json.dumps(message))

    async def hear(self, type: str) -> dict[str, Any]:
        """Return the next message of this type; others before it are kept in ``heard``."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.next()
                if message["type"] == type:
                    return message

    async def next(self) -> dict[str, Any]:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.ws.receive()
        assert frame.type is aiohttp.WSMsgType.TEXT, f"expected a message, got {frame}"
        message: dict[str, Any] = json.loads(frame.data)
        self.heard.append(message)
        return message

    async def hear_all(self) -> list[dict[str, Any]]:
        """Return what came up to the answer to a ping."""
        start = len(self.heard)
        await self.say("ping", id="hear-all")
        while (await self.hear("pong")).get("id") != "hear-all":
            pass
        return self.heard[start:-1]

    async def error(self) -> str:
        """Return the code of the next error."""
        code = (await self.hear("error"))["data"]["code"]
        assert isinstance(code, str)
        return code

    async def closed(self) -> int:
        """Return the code with which the server closes the socket."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.ws.receive()
                if frame.type is aiohttp.WSMsgType.TEXT:
                    self.heard.append(json.loads(frame.data))
                else:
                    assert self.ws.close_code is not None
                    return self.ws.close_code

    async def join(self, user_id: str | None = None, **data: object) -> dict[str, Any]:
        """Join and return the acknowledgement."""
        await self.say("join", {"user_id": user_id, **data} if user_id else dict(data))
        return await self.hear("join")


class Site:
    """A served application, its rooms and its connections."""

    def __init__(self, config: Config, connections: FakeConnections) -> None:
        self.connections = connections
        self.now = 0.0  # added to the clock of the rooms
        self.rooms = Rooms(
            connections,  # type: ignore[arg-type]
            ttl_s=config.rooms.ttl_s,
            max_rooms=config.rooms.max_rooms,
            max_participants=config.rooms.max_participants,
            slots={Kind.VIDEO: config.rooms.video_slots, Kind.AUDIO: config.rooms.audio_slots},
            clock=lambda: time.monotonic() + self.now,
        )
        self.http = HttpServer(config, self.rooms, guard=plain_guard, version="0")
        self.session = aiohttp.ClientSession()
        self.clients: list[Client] = []  # a socket that nobody holds is closed by aiohttp

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.http.port}"

    async def connect(self, room_id: str = "room") -> Client:
        """Open a socket to a room."""
        client = Client(await self.session.ws_connect(f"{self.base}/ws/{room_id}", max_msg_size=0))
        self.clients.append(client)
        return client

    async def joined(self, user_id: str, room_id: str = "room") -> Client:
        """Return a client that is in the room and has heard who is there."""
        client = await self.connect(room_id)
        await client.join(user_id)
        await client.hear("participants")
        return client

    async def published(self, user_id: str, room_id: str = "room") -> Client:
        """Return a client that is in the room and publishes audio in section 0 and video in section 1."""
        client = await self.joined(user_id, room_id)
        await client.say("offer", {"sdp": "send audio 0\nsend video 1"})
        await client.hear("answer")
        return client


@asynccontextmanager
async def site(slots: int = 16, **tables: dict[str, object]) -> AsyncIterator[Site]:
    """Serve until the end of the block; limits per address are off unless given."""
    off = {"create_per_minute": 0, "info_per_minute": 0, "ws_per_minute": 0}
    limits = {**off, **tables.pop("limits", {})}
    config = config_from({"http": {"port": 0}, "limits": limits, **tables})
    served = Site(config, FakeConnections(slots))
    await served.http.start()
    try:
        yield served
    finally:
        await served.session.close()
        await served.http.stop()
        await served.rooms.close()
