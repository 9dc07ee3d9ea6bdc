"""Settings of a server: defaults < TOML file < environment < command line flags.

The key ``rtc.port`` of the file is ``KAAMOS_RTC_PORT`` in the environment; ``PORT`` stands for
``http.port`` where nothing names it more exactly.  A key nobody knows is an error, as is a value
out of range: a server that starts runs with what its operator wrote.

This is the only module that reads the environment.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from kaamos.errors import ConfigError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10 * 365 * 86400)]

MIN_TURN_TTL_S = 60  # to answer an offer and connect; clocks of two servers differ by seconds

_ICE_URL = re.compile(
    r"(stuns?|turns?):(\[(?P<ipv6>[0-9a-fA-F:.]+)\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<transport>\?transport=(udp|tcp))?"
)


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where REST, WebSocket and page are served."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "127.0.0.1"
    port: Port = 8080  # 0 takes a free one
    public_url: str = ""  # base of the links handed out; empty: what the request's Host says


class Rtc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where media arrives."""

    port: Port = 7882  # UDP, on all addresses; 0 takes a free one
    ip: tuple[str, ...] = ()  # addresses put into candidates; empty: the machine's own


class IceServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An ``RTCIceServer`` as clients get it (W3C webrtc, section 4.2.4)."""

    urls: str | tuple[str, ...]
    username: str = ""  # of a TURN server that does not share our secret
    credential: str = ""

    def __repr__(self) -> str:
        return f"IceServer({self.urls!r})"  # logs and tracebacks tell no credentials


class Ice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients may use beside our own candidates."""

    servers: tuple[IceServer, ...] = ()
    turn_secret: str = ""  # shared with the TURN servers (coturn: static-auth-secret)
    turn_ttl_s: Seconds = 24 * 3600.0  # how long a client may begin to use what its join brought

    def __repr__(self) -> str:
        return f"Ice({self.servers!r})"


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The native engine."""

    workers: int = 1


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may come in."""

    mode: Literal["", "open"] = ""  # empty: everybody, but on loopback only


class Rooms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Life and size of rooms; 0 switches a limit off."""

    ttl_s: Seconds = 24 * 3600.0  # after the last activity
    max_rooms: Count = 10_000
    max_participants: Count = 1_000  # in one room
    resume_s: Seconds = 30.0  # a participant whose socket broke is kept; 0: not at all
    # Tracks that one participant receives at once; of more the pinned ones and the speakers are shown.
    video_slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 16
    audio_slots: Annotated[int, msgspec.Meta(ge=1, le=32)] = 8


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client may do; 0 switches a limit off."""

    message_bytes: Count = 1 << 20
    messages_per_second: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 20.0  # bursts of three times that
    join_timeout_s: Seconds = 10.0
    create_per_minute: Count = 5
    info_per_minute: Count = 10
    ws_per_minute: Count = 30  # of those that end without a join


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    format: Literal["text", "json"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of a server."""

    http: Http = Http()
    rtc: Rtc = Rtc()
    ice: Ice = Ice()
    media: Media = Media()
    auth: Auth = Auth()
    rooms: Rooms = Rooms()
    limits: Limits = Limits()
    log: Log = Log()

    def check(self) -> None:
        """Raise ConfigError where settings that are fine alone do not go together or cannot be."""
        if self.media.workers != 1:
            raise ConfigError(
                f"media.workers is {self.media.workers}, but this version runs one worker: set 1"
            )
        if not is_loopback(self.http.host) and self.auth.mode != "open":
            raise ConfigError(
                f'http.host {self.http.host} can be reached by others: say auth.mode = "open"'
                " (KAAMOS_AUTH_MODE=open) to let everybody in, or stay on 127.0.0.1"
            )
        for address in self.rtc.ip:
            _check_candidate_address(address)
        _check_public_url(self.http.public_url)
        _check_ice(self.ice)


def is_turn_url(url: str) -> bool:
    """Return whether an ICE server's URL is of TURN (RFC 7065), not of STUN (RFC 7064)."""
    return url.partition(":")[0] in ("turn", "turns")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``, a name or an address without brackets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_config(
    path: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Return the settings of a server, checked.

    ``flags`` maps dotted keys to values and wins over everything.  ``environment`` is the process's
    own unless given.

    Raises:
        ConfigError: a key is unknown, a value is malformed, or the file cannot be read.
    """
    tables = _read_file(path) if path else {}
    _merge_environment(tables, os.environ if environment is None else environment)
    for key, value in (flags or {}).items():
        section, _, name = key.partition(".")
        _table(tables, section)[name] = value
    return config_from(tables)


def config_from(tables: Mapping[str, Any]) -> Config:
    """Return the settings that nested tables say, as a file would; ConfigError if they are wrong."""
    try:
        config = msgspec.convert(_with_lists(tables), Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {_with_dotted_key(str(error))}") from None
    config.check()
    return config


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _merge_environment(tables: dict[str, Any], environment: Mapping[str, str]) -> None:
    if environment.get("PORT"):
        _table(tables, "http")["port"] = environment["PORT"]
    for variable, value in environment.items():
        # Only our sections: Kubernetes sets KAAMOS_SERVICE_HOST and the like, builds set KAAMOS_BUILD_*.
        match = re.fullmatch(r"KAAMOS_([A-Z]+)_([A-Z_]+)", variable)
        if match is None or (section := match[1].lower()) not in Config.__struct_fields__:
            continue
        name = match[2].lower()
        if name not in getattr(Config(), section).__struct_fields__:
            raise ConfigError(f"{variable}: there is no setting {section}.{name}")
        if (section, name) == ("ice", "servers"):
            _table(tables, section)[name] = _json_value(variable, value)
        else:
            _table(tables, section)[name] = value


def _json_value(variable: str, text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise ConfigError(f'{variable} is not JSON: a list such as [{{"urls": "stun:..."}}] is') from None


def _table(tables: dict[str, Any], section: str) -> dict[str, Any]:
    table = tables.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"configuration: {section} is a table, not a value")
    return table


def _with_lists(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables with ``rtc.ip`` as a list where it was written as one text with commas."""
    result = dict(tables)
    rtc = result.get("rtc")
    if isinstance(rtc, dict) and isinstance(rtc.get("ip"), str):
        addresses = [part.strip() for part in rtc["ip"].split(",")]
        result["rtc"] = {**rtc, "ip": [address for address in addresses if address]}
    return result


def _with_dotted_key(message: str) -> str:
    """Return msgspec's message with `$.rtc.port` as `rtc.port`, and its key named first if it is unknown."""
    unknown = re.fullmatch(r"Object contains unknown field `([^`]*)`(?: - at `\$\.([^`]*)`)?", message)
    if unknown:
        return f"there is no setting {unknown[2] + '.' if unknown[2] else ''}{unknown[1]}"
    return message.replace("`$.", "`")


def _check_candidate_address(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"rtc.ip: {text!r} is not an IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(f"rtc.ip: nobody can send to {text}")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ConfigError(f"rtc.ip: write {address.ipv4_mapped} for {text}")


def _check_public_url(url: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        is_base = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        )
    except ValueError:
        is_base = False
    if not is_base:
        raise ConfigError(f"http.public_url: {url!r} is not like https://meet.example.org")


def _check_ice(ice: Ice) -> None:
    if not MIN_TURN_TTL_S <= ice.turn_ttl_s:
        raise ConfigError(f"ice.turn_ttl_s: a client needs some time; at least {MIN_TURN_TTL_S}")
    for server in ice.servers:
        urls = (server.urls,) if isinstance(server.urls, str) else server.urls
        if not urls:
            raise ConfigError("ice.servers: a server has no urls")
        for url in urls:
            if not _is_ice_url(url):
                raise ConfigError(
                    f"ice.servers: {url!r} is not like stun:stun.example.org or"
                    " turn:turn.example.org:3478?transport=udp"
                )
        if bool(server.username) != bool(server.credential):
            raise ConfigError(f"ice.servers: username and credential of {urls[0]} go together")
        if any(map(is_turn_url, urls)) and not (server.username or ice.turn_secret):
            raise ConfigError(
                f"ice.servers: {urls[0]} needs ice.turn_secret (KAAMOS_ICE_TURN_SECRET), or username and"
                " credential of its own"
            )


def _is_ice_url(url: str) -> bool:
    """Return whether a browser would take it: RFC 7064 section 3.1, RFC 7065 section 3.1."""
    match = _ICE_URL.fullmatch(url)
    if match is None or not 1 <= int(match["port"] or 1) <= 65535:
        return False
    if match["ipv6"]:
        try:
            ipaddress.IPv6Address(match["ipv6"])
        except ValueError:
            return False
    return match["transport"] is None or is_turn_url(url)
