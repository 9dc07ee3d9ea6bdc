"""Every message of a client as a typed value, and the one decoder; what we say is in ``frames``.

Frames are JSON objects ``{"type", "data"}`` with an optional ``id``.  The documents and the code of
the original server disagree on names and places, and clients of both exist; decode() takes all
forms and says which one it saw (Dialect), our own frames answer in the same (docs/protocol.md).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import Source

MessageId = str | int

MAX_ID_CHARS = 128
MAX_USER_ID_CHARS = 128
MAX_NAME_CHARS = 128
MAX_SECTIONS = 256  # in a `tracks` map; a description has fewer
MAX_MID_CHARS = 64
MAX_TRACK_CHARS = 64
MAX_NAMED = 256  # people, and tracks, in one `subscribe`
MAX_TICKET_CHARS = 128
MAX_CANDIDATE_CHARS = 1024  # a long one with ufrag and network cost has about 200


class Dialect(Flag):
    """What a client's own messages showed about the forms it reads."""

    UNDERSCORES = 1  # ice_candidate
    TOP_LEVEL_SDP = 2  # sdp beside type, not in data
    TOP_LEVEL_CANDIDATE = 4  # the candidate beside type


class DecodeError(RemoteProtocolError):
    """A frame that is no message of ours; ``id`` is what the error answers to, if that was readable."""

    def __init__(self, code: ErrorCode, message: str, id: MessageId | None = None) -> None:
        super().__init__(code, message)
        self.id = id


UserId = Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID_CHARS)]


class Resume(Struct, frozen=True):
    """I was here before, and my socket broke."""

    session: Annotated[str, Meta(max_length=MAX_TICKET_CHARS)]
    token: Annotated[str, Meta(max_length=MAX_TICKET_CHARS)]
    last_seq: Annotated[int, Meta(ge=0, le=2**53)]  # of the last message that came


SlotCount = Annotated[int, Meta(ge=0, le=1000)]


class JoinSlots(Struct, frozen=True):
    """So many tracks I want to receive at most."""

    audio: SlotCount | None = None
    video: SlotCount | None = None


class Join(Struct, frozen=True):
    """Let me in; the first message of a socket."""

    user_id: UserId | None = None
    name: Annotated[str, Meta(max_length=MAX_NAME_CHARS)] | None = None
    room_id: str | None = None
    resume: Resume | None = None
    slots: JoinSlots | None = None
    negotiation: Literal["client", "server"] = "server"  # client: it makes all offers


class TrackHint(Struct, frozen=True):
    """What a client says about a section of its description."""

    source: Source | None = None


Mid = Annotated[str, Meta(max_length=MAX_MID_CHARS)]
TrackHints = Annotated[dict[Mid, TrackHint], Meta(max_length=MAX_SECTIONS)]


class Offer(Struct, frozen=True):
    """My side of the connection, to be answered."""

    sdp: str
    tracks: TrackHints = {}


class Answer(Struct, frozen=True):
    """My side of what the server offered."""

    sdp: str
    tracks: TrackHints = {}


class IceCandidate(Struct, frozen=True, rename="camel"):
    """A candidate (RFC 8839 section 5.1), or the end of candidates if it is empty.

    Checked and not used: we learn peers from their checks.
    """

    candidate: Annotated[str, Meta(max_length=MAX_CANDIDATE_CHARS)] | None = None
    sdp_mid: Mid | None = None
    sdp_m_line_index: Annotated[int, Meta(ge=0, le=65535)] | None = None


class Message(Struct, frozen=True):
    """Chat, or whatever else a client tells the others."""

    payload: msgspec.Raw  # JSON of any kind, passed on as it came
    to: UserId | None = None  # one participant; None or "all": all others


TrackId = Annotated[str, Meta(max_length=MAX_TRACK_CHARS)]


class Mute(Struct, frozen=True):
    """A track is not to be heard or seen, or is again."""

    track: TrackId
    muted: bool


class Unsubscribe(Struct, frozen=True):
    """I do not want to receive these people or tracks."""

    participants: Annotated[list[UserId], Meta(max_length=MAX_NAMED)] = []
    tracks: Annotated[list[TrackId], Meta(max_length=MAX_NAMED)] = []


class Subscribe(Unsubscribe, frozen=True):
    """I want to receive these people or tracks, before all others if they are to be pinned."""

    pin: bool = True


class Leave(Struct, frozen=True):
    """I go."""


class Ping(Struct, frozen=True):
    """Are you there?"""


ClientMessage = Join | Offer | Answer | IceCandidate | Message | Mute | Subscribe | Unsubscribe | Leave | Ping

CLIENT_TYPES: Mapping[str, type[ClientMessage]] = {
    "join": Join,
    "offer": Offer,
    "answer": Answer,
    "ice-candidate": IceCandidate,
    "message": Message,
    "mute": Mute,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "leave": Leave,
    "ping": Ping,
}
_UNDERSCORED = {"ice_candidate": "ice-candidate"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A decoded frame: the message, the id to echo, and what it showed of its client."""

    message: ClientMessage
    id: MessageId | None
    dialect: Dialect


def decode(text: str | bytes) -> Incoming:
    """Return the message in a frame.

    Raises:
        DecodeError: BAD_MESSAGE, UNKNOWN_TYPE or INVALID_CANDIDATE.
    """
    frame = _json_object(text)
    id = _id(frame.get("id"))
    try:
        return _decode_frame(frame, id, text)
    except msgspec.ValidationError as error:
        raise DecodeError(ErrorCode.BAD_MESSAGE, str(error)[:200], id) from None
    except RecursionError:
        raise DecodeError(ErrorCode.BAD_MESSAGE, "nested too deeply", id) from None
    except RemoteProtocolError as error:
        raise DecodeError(error.code, error.message, id) from None


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        frame = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise DecodeError(ErrorCode.BAD_MESSAGE, "a frame is one JSON object") from None
    if not isinstance(frame, dict):
        raise DecodeError(ErrorCode.BAD_MESSAGE, "a frame is one JSON object")
    return frame


def _id(value: object) -> MessageId | None:
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= MAX_ID_CHARS:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    raise DecodeError(ErrorCode.BAD_MESSAGE, f"id is a text up to {MAX_ID_CHARS} characters or an integer")


def _decode_frame(frame: dict[str, Any], id: MessageId | None, text: str | bytes) -> Incoming:
    name = frame.get("type")
    if not isinstance(name, str):
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "type is missing or no text")
    dialect = Dialect.UNDERSCORES if name in _UNDERSCORED else Dialect(0)
    name = _UNDERSCORED.get(name, name)
    if name not in CLIENT_TYPES:
        raise RemoteProtocolError(ErrorCode.UNKNOWN_TYPE, f"there is no message type {name[:64]!r}")
    data = frame.get("data")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "data is an object")
    if name == "join":
        return Incoming(_join(frame, data), id, dialect)
    if name in ("offer", "answer"):
        if "sdp" in frame:
            dialect |= Dialect.TOP_LEVEL_SDP
        fields = _lifted(frame, data, ("sdp", "tracks"))
        return Incoming(msgspec.convert(fields, CLIENT_TYPES[name]), id, dialect)
    if name == "ice-candidate":
        if "candidate" in frame:
            dialect |= Dialect.TOP_LEVEL_CANDIDATE
        return Incoming(_ice_candidate(frame, data), id, dialect)
    if name == "message":
        return Incoming(_message(frame, data, text), id, dialect)
    if name in ("subscribe", "unsubscribe"):
        return Incoming(msgspec.convert(_named(frame, data), CLIENT_TYPES[name]), id, dialect)
    fields = _lifted(frame, data, ("track", "muted")) if name == "mute" else {}
    return Incoming(msgspec.convert(fields, CLIENT_TYPES[name]), id, dialect)


def _lifted(frame: dict[str, Any], data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named fields, from data before top level; null is the same as absent."""
    found = {name: data.get(name) if data.get(name) is not None else frame.get(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _join(frame: dict[str, Any], data: dict[str, Any]) -> Join:
    fields = _lifted(frame, data, ("user_id", "name", "room_id", "resume", "slots", "negotiation"))
    user_id = fields.get("user_id")
    if isinstance(user_id, int) and not isinstance(user_id, bool):
        fields["user_id"] = user_id = _decimal(user_id)
    if isinstance(user_id, str) and (not user_id.isprintable() or user_id != user_id.strip()):
        raise RemoteProtocolError(
            ErrorCode.BAD_MESSAGE, "user_id has no control characters and no space at its ends"
        )
    return msgspec.convert(fields, Join)


def _named(frame: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `subscribe` or `unsubscribe`, ids that came as numbers as text."""
    fields = _lifted(frame, data, ("participants", "tracks", "pin"))
    if "participants" not in fields and "tracks" not in fields:
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "participants and tracks are missing")
    people = fields.get("participants")
    if isinstance(people, list) and len(people) <= MAX_NAMED:
        fields["participants"] = [_decimal(id) if type(id) is int else id for id in people]
    return fields


class _Payload(Struct):
    payload: msgspec.Raw | UnsetType = UNSET


class _PayloadFrame(_Payload):
    data: _Payload | None = None


def _message(frame: dict[str, Any], data: dict[str, Any], text: str | bytes) -> Message:
    # Read once more, for the payload's own text: whatever is in it, nothing of it is lost or built anew.
    outer = msgspec.json.decode(text, type=_PayloadFrame)
    payload = outer.payload if outer.data is None or outer.data.payload is UNSET else outer.data.payload
    if payload is UNSET:
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "payload is missing")
    to = _lifted(frame, data, ("to",)).get("to")
    if isinstance(to, int) and not isinstance(to, bool):
        to = _decimal(to)
    return Message(payload, None if to == "all" else msgspec.convert(to, UserId | None))


def _decimal(number: int) -> str:
    """Return an id that came as a number (Telegram's do) as its decimal text."""
    if abs(number) >= 10**MAX_USER_ID_CHARS:
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"user_id has more than {MAX_USER_ID_CHARS} digits")
    return str(number)


def _ice_candidate(frame: dict[str, Any], data: dict[str, Any]) -> IceCandidate:
    fields = _lifted(frame, data, ("candidate", "sdpMid", "sdpMLineIndex"))
    if isinstance(fields.get("candidate"), dict):
        fields = {name: value for name, value in fields["candidate"].items() if value is not None}
    candidate = msgspec.convert(fields, IceCandidate)
    if candidate.candidate:
        check_candidate(candidate.candidate)
    return candidate


# RFC 8839 section 5.1: foundation, component, transport, priority, address, port, "typ" type, and pairs
# that extend it. An address may be a name, as those of mDNS are; aiortc leaves the word "candidate:" away.
_CANDIDATE = re.compile(
    r"(?:a=)?(?:candidate:)?[A-Za-z0-9+/]{1,32} (\d{1,5}) [A-Za-z0-9-]{1,16} (\d{1,10})"
    r" [A-Za-z0-9.:%_-]{1,255} (\d{1,5}) typ [A-Za-z0-9-]{1,16}(?: [!-~]{1,256} [!-~]{0,256})*\s*"
)


def check_candidate(text: str) -> None:
    """Raise RemoteProtocolError INVALID_CANDIDATE if ``text`` is no candidate attribute."""
    match = _CANDIDATE.fullmatch(text)
    if match is None or int(match[1]) > 256 or int(match[2]) >= 2**32 or int(match[3]) > 65535:
        raise RemoteProtocolError(ErrorCode.INVALID_CANDIDATE, "this is no ICE candidate")
