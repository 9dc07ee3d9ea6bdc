"""A whole server: builds everything, starts it, stops it in order."""

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import ifaddr
import msgspec

from kaamos.config import Config, Log, is_loopback
from kaamos.media.description import Kind
from kaamos.media.engine import Engine
from kaamos.room.participant import Participant
from kaamos.room.room import Rooms
from kaamos.rtc.connection import PeerConnection
from kaamos.rtc.dtls import Certificate
from kaamos.signaling.app import HttpServer
from kaamos.signaling.logs import LOG_IDS

logger = logging.getLogger(__name__)

try:
    __version__ = version("kaamos")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0"

# How often rooms are looked at for their end; a room past its time is gone for who asks, at once.
EXPIRY_INTERVAL_S = 60.0

# How often rooms hear how loud their members are: a client is told of speakers not more often than that.
LISTENING_INTERVAL_S = 0.35

# Candidates in our descriptions at most, for a host with a long list of bridges.
MAX_ADDRESSES = 16


class Server:
    """One Kaamos server.

    start() and stop() once each, in one running event loop.  With port 0 in the configuration,
    ``http_port`` and ``rtc_port`` are the real ones after start().
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.config.check()
        self._engine: Engine | None = None
        self._rooms: Rooms | None = None
        self._http: HttpServer | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._listening: asyncio.TimerHandle | None = None

    @property
    def http_port(self) -> int:
        """Return the TCP port of REST, WebSocket and page."""
        assert self._http is not None, "the server was not started"
        return self._http.port

    @property
    def rtc_port(self) -> int:
        """Return the UDP port of media."""
        assert self._engine is not None, "the server was not started"
        return self._engine.port

    @property
    def url(self) -> str:
        """Return the address to open."""
        http = self.config.http
        if http.public_url:
            return http.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)
        return f"http://[{host}]:{self.http_port}" if ":" in host else f"http://{host}:{self.http_port}"

    async def start(self) -> None:
        """Open both ports.

        Raises:
            EngineError: the RTC port cannot be had.
            ConfigError: the HTTP address cannot be had.
        """
        config = self.config
        engine = Engine(port=config.rtc.port)
        engine.open()
        certificate = Certificate()
        addresses = candidate_addresses(config, has_ipv6=engine.has_ipv6)

        def connect(participant: Participant) -> PeerConnection:
            nonlocal certificate
            certificate = certificate.renewed()
            # RFC 7022 section 4.2: a name that tells nothing, new for every session.
            return PeerConnection(
                engine,
                certificate,
                addresses,
                cname=secrets.token_urlsafe(12),
                slots=participant.reception.limits,
                events=participant,
                client_negotiates=participant.client_negotiates,
            )

        rooms = Rooms(
            connect,
            ttl_s=config.rooms.ttl_s,
            max_rooms=config.rooms.max_rooms,
            max_participants=config.rooms.max_participants,
            slots={Kind.VIDEO: config.rooms.video_slots, Kind.AUDIO: config.rooms.audio_slots},
            clock=time.monotonic,
        )
        http = HttpServer(config, rooms, guard=guard, version=__version__)
        try:
            await http.start()
        except BaseException:
            engine.close()
            raise
        self._engine, self._rooms, self._http = engine, rooms, http
        self._expire()
        self._listen()
        logger.info("serving HTTP on port %d and media on UDP port %d", self.http_port, self.rtc_port)

    async def stop(self) -> None:
        """Tell the clients, say goodbye on their connections, and free everything."""
        if self._engine is None or self._rooms is None or self._http is None:
            return
        for timer in (self._expiry, self._listening):
            if timer is not None:
                timer.cancel()
        await self._http.stop()
        await self._rooms.close()
        self._engine.close()
        self._engine = self._rooms = self._http = None
        logger.info("stopped")

    def _listen(self) -> None:
        assert self._rooms is not None and self._engine is not None
        self._listening = asyncio.get_running_loop().call_later(LISTENING_INTERVAL_S, self._listen)
        self._rooms.hear(self._engine.audio_levels())

    def _expire(self) -> None:
        assert self._rooms is not None
        self._rooms.expire()
        self._expiry = asyncio.get_running_loop().call_later(EXPIRY_INTERVAL_S, self._expire)


async def guard(work: Awaitable[object]) -> object:
    """Return what ``work`` returns, or None if it fails in a way nobody foresaw, which is logged.

    The root of every request and every socket.
    """
    try:
        return await work
    except Exception:
        logger.exception("unforeseen failure", extra=LOG_IDS.get())
        return None


def candidate_addresses(config: Config, *, has_ipv6: bool) -> tuple[str, ...]:
    """Return the addresses that go into candidates, best first.

    Those of ``rtc.ip`` if any; else the machine's own global ones, after 127.0.0.1 where clients are
    on this machine (browsers pair loopback with loopback only, and Firefox never uses it).
    """
    if config.rtc.ip:
        chosen = config.rtc.ip
    else:
        own = [
            ip
            for adapter in ifaddr.get_adapters()
            for ip in map(_address_text, adapter.ips)
            if _is_global(ip)
        ]
        own.sort(key=lambda ip: ":" in ip)  # IPv4 first, else in the order of the adapters
        chosen = ("127.0.0.1", *own) if is_loopback(config.http.host) or not own else tuple(own)
    usable = [ip for ip in dict.fromkeys(chosen) if has_ipv6 or ":" not in ip]
    return tuple(usable[:MAX_ADDRESSES])


def _address_text(ip: ifaddr.IP) -> str:
    return ip.ip if isinstance(ip.ip, str) else ip.ip[0]


def _is_global(text: str) -> bool:
    """Return whether other machines can send to an address, perhaps only those of its own network."""
    ip = ipaddress.ip_address(text)
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


class _TextFormatter(logging.Formatter):
    """Time, level, logger, text, and the ids at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return " ".join(
            [super().formatMessage(record), *(f"{name}={id!r}" for name, id in _ids(record).items())]
        )


def _ids(record: logging.LogRecord) -> dict[str, str]:
    """Return the room and participant that a record names, or else those its task works for."""
    named = {name: getattr(record, name) for name in ("room", "participant") if hasattr(record, name)}
    return named or LOG_IDS.get()


def _is_not_garbage(record: logging.LogRecord) -> bool:
    """Return False for the traceback that aiohttp logs for whatever a stranger sends that is no HTTP."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__module__ != "aiohttp.http_exceptions"


def set_up_logging(config: Log) -> None:
    """Send log records to standard error as configured."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if config.format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level)
    logging.getLogger("aiohttp.server").addFilter(_is_not_garbage)
    # They tell addresses and descriptions at INFO, which no log of ours holds.
    for name in ("aioice", "aiortc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
