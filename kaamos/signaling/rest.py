"""What is asked over plain HTTP: health, rooms, the page; errors as problem documents (RFC 9457)."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Meta, Struct

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.room.room import Room, Rooms, check_room_id
from kaamos.signaling.frames import timestamp
from kaamos.signaling.limits import AddressLimit
from kaamos.signaling.websocket import Guard

MAX_BODY_BYTES = 64 << 10

WEB_FOLDER = Path(str(files("kaamos") / "web"))

_STATUSES = {
    ErrorCode.BAD_MESSAGE: 400,
    ErrorCode.INVALID_ROOM_ID: 400,
    ErrorCode.ROOM_NOT_FOUND: 404,
    ErrorCode.MESSAGE_TOO_LARGE: 413,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.SERVER_DRAINING: 503,
}
_CODES = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: ErrorCode.MESSAGE_TOO_LARGE.value,
    500: ErrorCode.INTERNAL.value,
}

_STATIC_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; media-src 'self' blob:;"
        " object-src 'none'; base-uri 'none'; form-action 'none'"
    ),
    # The address of a room is all it takes to come in.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class RateLimited(RemoteProtocolError):
    """Too many of something from one address; may be tried again after ``retry_after_s``."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, "too many requests from this address")
        self.retry_after_s = retry_after_s


class CreateRoom(Struct, frozen=True):
    """The body of a request for a room."""

    room_id: str | None = None
    max_participants: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    ttl_s: Annotated[float, Meta(ge=1, le=10 * 365 * 86400)] | None = None
    lobby: bool = False
    creator_user_id: str | int | None = None


class CreatedRoom(Struct, frozen=True):
    """A room that can be joined; ``expires_at`` is null where rooms stay for ever."""

    room_id: str
    url: str
    expires_at: str | None


class RoomState(Struct, frozen=True):
    """What anybody may know of a room."""

    room_id: str
    active: bool
    participants: int
    created_at: str
    expires_at: str | None


class Health(Struct, frozen=True):
    """The process lives."""

    status: str
    time: str


class Problem(Struct, frozen=True):
    """A problem document (RFC 9457) with our stable code."""

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"


class Rest:
    """The handlers, for the routes of app.py."""

    def __init__(
        self, rooms: Rooms, *, public_url: str, create_per_minute: int, info_per_minute: int
    ) -> None:
        self._rooms = rooms
        self._public_url = public_url.rstrip("/")
        self._creates = AddressLimit(create_per_minute)
        self._infos = AddressLimit(info_per_minute)

    async def health(self, request: web.Request) -> web.Response:
        """GET /health"""
        return json_response(Health("ok", timestamp(datetime.now(UTC))))

    async def create_room(self, request: web.Request) -> web.Response:
        """POST /api/rooms/create"""
        self._limit(self._creates, request)
        wanted = _body(await _read(request))
        if wanted.lobby:
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "this server has no lobby")
        room = self._rooms.create(
            wanted.room_id, max_participants=wanted.max_participants, ttl_s=wanted.ttl_s
        )
        url = f"{self._public_url or _own_url(request)}/room/{room.room_id}"
        return json_response(CreatedRoom(room.room_id, url, _expiry(room)))

    async def room(self, request: web.Request) -> web.Response:
        """GET /api/rooms/{room_id}"""
        self._limit(self._infos, request)
        room = self._rooms.find(check_room_id(request.match_info["room_id"]))
        if room is None:
            raise RemoteProtocolError(ErrorCode.ROOM_NOT_FOUND, "there is no such room")
        state = RoomState(
            room.room_id, True, len(room.participants), timestamp(room.created_at), _expiry(room)
        )
        return json_response(state)

    async def start(self, request: web.Request) -> web.Response:
        """GET / makes a room and goes there."""
        self._limit(self._creates, request)
        room = self._rooms.create()
        return web.Response(
            status=302, headers={"Location": f"/room/{room.room_id}", "Cache-Control": "no-store"}
        )

    async def page(self, request: web.Request) -> web.FileResponse:
        """GET /room/{room_id}"""
        check_room_id(request.match_info["room_id"])
        return web.FileResponse(WEB_FOLDER / "index.html", headers=_PAGE_HEADERS)

    async def static(self, request: web.Request) -> web.FileResponse:
        """GET /static/{name}"""
        path = WEB_FOLDER / request.match_info["name"]  # the route lets plain names pass only
        if not path.is_file():
            raise web.HTTPNotFound
        headers = {"Content-Type": _STATIC_TYPES[path.suffix], "Cache-Control": "no-cache"}
        return web.FileResponse(path, headers=headers)

    def _limit(self, limit: AddressLimit, request: web.Request) -> None:
        wait_s = limit.take(request.remote or "", self._rooms.clock())
        if wait_s:
            raise RateLimited(wait_s)


def json_response(value: Struct) -> web.Response:
    """Return a response that is one JSON object."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def problem(status: int, code: str, detail: str, retry_after_s: float | None = None) -> web.Response:
    """Return a problem document; ``retry_after_s`` is rounded up."""
    body = msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, code, detail))
    response = web.Response(status=status, body=body, content_type="application/problem+json")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(int(retry_after_s) + 1)
    return response


def problems(guard: Guard) -> Middleware:
    """Return the middleware that makes every failure a problem document."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await guard(_answer(request, handler))
        if not isinstance(response, web.StreamResponse):
            response = problem(500, ErrorCode.INTERNAL, "something went wrong on our side")
        if not response.prepared:
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return answer


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
        assert isinstance(response, web.StreamResponse)
        return response
    except RateLimited as error:
        return problem(429, error.code, error.message, error.retry_after_s)
    except RemoteProtocolError as error:
        retry_after_s = 60.0 if error.code in (ErrorCode.RATE_LIMITED, ErrorCode.SERVER_DRAINING) else None
        return problem(_STATUSES.get(error.code, 400), error.code, error.message, retry_after_s)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _CODES.get(error.status, ErrorCode.BAD_MESSAGE.value)
        response = problem(error.status, code, error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except (web.RequestPayloadError, ConnectionError):  # badly packed, or the client went away in the middle
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "the body is broken") from None


def _body(data: bytes) -> CreateRoom:
    if not data.strip():
        return CreateRoom()
    try:
        return msgspec.json.decode(data, type=CreateRoom)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        detail = str(error)[:200] if isinstance(error, msgspec.ValidationError) else "the body is no JSON"
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, detail) from None


def _own_url(request: web.Request) -> str:
    """Return how this client reached us, from its Host header if that is a host and perhaps a port."""
    host = request.headers.get("Host", "")
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:\d{1,5})?", host):
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "the Host header is no host")
    return f"{request.scheme}://{host}"


def _expiry(room: Room) -> str | None:
    return timestamp(room.expires_at) if room.expires_at is not None else None
