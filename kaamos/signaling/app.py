"""The HTTP side of a server: its routes, its sockets, and their start and end."""

import asyncio
import errno
import secrets
import time
from collections import Counter
from contextlib import suppress
from typing import Literal

from aiohttp import web

from kaamos.config import Config
from kaamos.errors import ConfigError, ErrorCode, RemoteProtocolError
from kaamos.room.room import Rooms, check_room_id
from kaamos.signaling import frames, turn
from kaamos.signaling.frames import LimitsData, Welcome
from kaamos.signaling.limits import AddressLimit, address_key
from kaamos.signaling.outbox import CLOSE_TIMEOUT_S
from kaamos.signaling.presence import Presences
from kaamos.signaling.rest import MAX_BODY_BYTES, RateLimited, Rest, problems
from kaamos.signaling.session import CLOSE_RESTART, Session
from kaamos.signaling.websocket import Guard, Socket

HEARTBEAT_S = 15.0

# Sockets of one address that have not joined yet, as a multiple of the failures a minute it may have.
PENDING_FACTOR = 4


class Sockets:
    """All WebSockets of a server."""

    def __init__(self, config: Config, rooms: Rooms, guard: Guard, version: str) -> None:
        self._limits = config.limits
        self._rooms = rooms
        self._guard = guard

        def welcome() -> Welcome:
            # One for each join: TURN credentials are for one client and some time.
            expires_at = int(time.time() + config.ice.turn_ttl_s)
            return Welcome(
                turn.ice_servers(config.ice, expires_at=expires_at, name=secrets.token_hex(8)),
                LimitsData(config.limits.message_bytes, config.limits.messages_per_second),
                version,
            )

        self._presences = Presences(resume_s=config.rooms.resume_s, welcome=welcome)
        self._most_pending = config.limits.ws_per_minute * PENDING_FACTOR
        self._failures = AddressLimit(config.limits.ws_per_minute)
        self._pending: Counter[str] = Counter()  # sockets without a join yet, by address
        self._sockets: set[Socket] = set()
        self._all_gone = asyncio.Event()
        self._is_draining = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /ws/{room_id}"""
        room_id = check_room_id(request.match_info["room_id"])
        address = address_key(request.remote or "")
        self._admit(address)
        largest = self._limits.message_bytes
        ws: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            autoping=False,  # pongs are signs of life that we want to see
            compress=False,
            decode_text=False,  # the decoder takes bytes, and tells the client what is wrong with them
            # Up to twice our limit is read, to say why it is refused; more is not.
            max_msg_size=2 * largest,
        )
        if not ws.can_prepare(request):
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "this address speaks WebSocket only")
        await ws.prepare(request)
        await self._serve(ws, request, room_id, address)
        return ws

    async def _serve(
        self, ws: web.WebSocketResponse[Literal[False]], request: web.Request, room_id: str, address: str
    ) -> None:
        if request.transport is None:
            return  # it went during the handshake
        now = asyncio.get_running_loop().time()
        socket = Socket(
            ws,
            request.transport,
            room_id=room_id,
            rooms=self._rooms,
            session=Session(
                join_timeout_s=self._limits.join_timeout_s,
                messages_per_second=self._limits.messages_per_second,
                now=now,
            ),
            max_message_bytes=self._limits.message_bytes,
            presences=self._presences,
            on_joined=lambda: self._not_pending(address),
        )
        self._sockets.add(socket)
        self._pending[address] += 1
        if self._is_draining:
            _say_goodbye(socket)  # it was let in before
        try:
            await socket.run(self._guard)
        finally:
            self._sockets.discard(socket)
            if not self._sockets:
                self._all_gone.set()
            if not socket.has_joined:
                self._not_pending(address)
                self._failures.count(address, self._rooms.clock())

    @property
    def pending(self) -> int:
        """Return how many have not joined yet."""
        return self._pending.total()

    async def close(self) -> None:
        """Let no client in any more, tell all that the server goes away, and wait until they are gone."""
        self._is_draining = True
        self._presences.close()
        for socket in self._sockets:
            _say_goodbye(socket)
        if self._sockets:
            self._all_gone.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), 2 * CLOSE_TIMEOUT_S)

    def _admit(self, address: str) -> None:
        if self._is_draining:
            raise RemoteProtocolError(ErrorCode.SERVER_DRAINING, "the server is stopping")
        wait_s = self._failures.wait_s(address, self._rooms.clock())
        if not wait_s and self._most_pending and self._pending[address] >= self._most_pending:
            wait_s = 1.0
        if wait_s:
            raise RateLimited(wait_s)

    def _not_pending(self, address: str) -> None:
        self._pending[address] -= 1
        if not self._pending[address]:
            del self._pending[address]


class HttpServer:
    """REST, page and WebSockets on one port.

    Nothing listens before start(); ``port`` is the real one after it.
    """

    def __init__(self, config: Config, rooms: Rooms, *, guard: Guard, version: str) -> None:
        self._config = config
        self._sockets = Sockets(config, rooms, guard, version)
        self.app = make_app(config, rooms, self._sockets, guard)
        # Requests are in nobody's log: their paths are the keys to the rooms.
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        self.port = 0

    @property
    def pending_sockets(self) -> int:
        """Return how many sockets have not joined a room yet."""
        return self._sockets.pending

    async def start(self) -> None:
        """Listen.  Raises ConfigError where the address cannot be had."""
        host, port = self._config.http.host, self._config.http.port
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(f"cannot serve HTTP on {host} port {port}: {_why(error)}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Take no more requests, tell the clients and wait, within limits, until all is closed."""
        for site in list(self._runner.sites):
            await site.stop()
        await self._sockets.close()
        await self._runner.cleanup()


def make_app(config: Config, rooms: Rooms, sockets: Sockets, guard: Guard) -> web.Application:
    """Return the application with all of its routes (docs/openapi.yaml)."""
    rest = Rest(
        rooms,
        public_url=config.http.public_url,
        create_per_minute=config.limits.create_per_minute,
        info_per_minute=config.limits.info_per_minute,
    )
    app = web.Application(middlewares=[problems(guard)], client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/", rest.start, allow_head=False)  # it makes a room
    app.router.add_get("/health", rest.health)
    app.router.add_post("/api/rooms/create", rest.create_room)
    app.router.add_get("/api/rooms/{room_id}", rest.room)
    app.router.add_get("/room/{room_id}", rest.page)
    app.router.add_get("/ws/{room_id}", sockets.handle, allow_head=False)
    app.router.add_get(r"/static/{name:[a-z]+\.(?:js|css)}", rest.static)
    return app


def _say_goodbye(socket: Socket) -> None:
    error = frames.error(ErrorCode.SERVER_DRAINING, "the server is stopping")
    socket.close(CLOSE_RESTART, "the server is stopping", error)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has it"
    return error.strerror or str(error)
