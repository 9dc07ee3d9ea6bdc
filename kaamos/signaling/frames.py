"""Every message of ours as a typed value, put into words: one encoder.

Frames take the form that the client's own messages have shown (messages.Dialect, docs/protocol.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from kaamos.config import IceServer
from kaamos.errors import ErrorCode
from kaamos.events import (
    AnswerMade,
    Joined,
    MessageSent,
    News,
    OfferMade,
    OfferWanted,
    ParticipantInfo,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantList,
    Role,
    SectionInfo,
    SlotsChanged,
    Source,
    SpeakersChanged,
    TrackInfo,
    TrackMuted,
    TrackUnsupported,
)
from kaamos.signaling.messages import Dialect, MessageId


class TrackData(Struct, frozen=True):
    """A track in a participant's list."""

    track: str
    kind: str
    source: Source
    muted: bool = False


class ParticipantData(Struct, frozen=True):
    """A participant: P of docs/protocol.md."""

    user_id: str
    id: str
    name: str
    role: Role
    status: str
    joined_at: str
    tracks: list[TrackData]


class LimitsData(Struct, frozen=True):
    """What a client should not exceed; 0 is no limit."""

    message_bytes: int
    messages_per_second: float


class ServerData(Struct, frozen=True):
    """Who answers."""

    version: str


class JoinData(Struct, frozen=True):
    """You are in."""

    user_id: str
    id: str
    name: str
    role: Role
    room_id: str
    session: str
    resume_token: str
    resumed: bool
    ice_servers: tuple[IceServer, ...]
    limits: LimitsData
    slots: dict[str, int]
    server: ServerData


class UserData(Struct, frozen=True):
    """Somebody."""

    user_id: str


class ParticipantLeftData(Struct, frozen=True):
    """Somebody is gone."""

    user_id: str
    reason: str


class MutedData(Struct, frozen=True):
    """A track was muted, or is no longer."""

    user_id: str
    track: str
    muted: bool


class SlotData(Struct, frozen=True):
    """What a shared slot plays."""

    user_id: str
    track: str
    kind: str
    source: Source


class SlotsData(Struct, frozen=True):
    """What some shared slots play now, by mid; None: nothing."""

    slots: dict[str, SlotData | None]


class SpeakerData(Struct, frozen=True):
    """Somebody who speaks, from 0 to 1."""

    user_id: str
    level: float


class SpeakersData(Struct, frozen=True):
    """Everybody who speaks."""

    speakers: list[SpeakerData]


class MessageData(Struct, frozen=True, omit_defaults=True):
    """What somebody says."""

    payload: object
    to: str | UnsetType = UNSET


class ParticipantsData(Struct, frozen=True):
    """Everybody: once as the list, and as the original code sends them."""

    participants: list[ParticipantData]
    host: ParticipantData | UnsetType
    guests: dict[str, ParticipantData]
    count: int


class SectionData(Struct, frozen=True, omit_defaults=True):
    """What a section carries: to the client if anything, else its own; ``own`` where it does both."""

    user_id: str
    track: str
    kind: str
    source: Source
    own: TrackData | UnsetType = UNSET


class DescriptionData(Struct, frozen=True):
    """An offer or answer."""

    type: str
    sdp: str
    tracks: dict[str, SectionData]


class NegotiateData(Struct, frozen=True):
    """Offer, with so many more sections to receive in."""

    audio: int
    video: int


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """What was wrong, and with which track if it is about one."""

    code: str
    message: str
    track: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class EmptyData(Struct, frozen=True):
    """Nothing to add."""


class Frame(Struct, frozen=True, omit_defaults=True):
    """What goes over the wire; ``sdp`` and ``candidate`` only for clients that read them here."""

    type: str
    data: Struct | Mapping[str, str | int]
    id: MessageId | UnsetType = UNSET
    from_: str | UnsetType = msgspec.field(name="from", default=UNSET)
    timestamp: str | UnsetType = UNSET
    sdp: str | UnsetType = UNSET
    candidate: Mapping[str, str | int] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a join is acknowledged with beside the event of the room."""

    ice_servers: tuple[IceServer, ...]
    limits: LimitsData
    version: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a client shows to come back, and whether it has just done so."""

    session: str
    token: str
    is_resumed: bool = False


def encode(frame: Frame) -> str:
    """Return the text of a frame."""
    return msgspec.json.encode(frame).decode()


def error(code: ErrorCode, message: str, id: MessageId | None = None) -> Frame:
    """Return an error, named after the message that caused it."""
    return Frame("error", ErrorData(code.value, message), _or_unset(id))


def pong(id: MessageId | None) -> Frame:
    """Return the answer to a ping."""
    return Frame("pong", EmptyData(), _or_unset(id))


def acknowledgement(event: Joined, welcome: Welcome, ticket: Ticket, id: MessageId | None) -> list[Frame]:
    """Return the answer to a join, and ``allow`` for a guest, which old clients wait for."""
    you = event.you
    data = JoinData(
        user_id=you.user_id,
        id=you.user_id,
        name=you.name,
        role=you.role,
        room_id=event.room_id,
        session=ticket.session,
        resume_token=ticket.token,
        resumed=ticket.is_resumed,
        ice_servers=welcome.ice_servers,
        limits=welcome.limits,
        slots=event.slots,
        server=ServerData(welcome.version),
    )
    frames = [Frame("join", data, _or_unset(id))]
    if you.role is Role.GUEST:
        frames.append(Frame("allow", UserData(you.user_id)))
    return frames


def news(event: News) -> list[Frame]:
    """Return what everybody hears in the same words, whatever their dialect."""
    match event:
        case ParticipantList(participants):
            return [Frame("participants", _participants(participants))]
        case ParticipantJoined(participant):
            return [Frame("participant-joined", _participant(participant))]
        case ParticipantLeft(user_id, reason):
            # `leave` is what clients of the original code wait for.
            return [
                Frame("participant-left", ParticipantLeftData(user_id, reason.value)),
                Frame("leave", UserData(user_id), from_=user_id),
            ]
        case TrackMuted(user_id, track, muted):
            return [Frame("mute", MutedData(user_id, track, muted))]
        case SpeakersChanged(speakers):
            return [Frame("speakers", SpeakersData([SpeakerData(*speaker) for speaker in speakers]))]
        case MessageSent(sender, to, payload, sent_at):
            data = MessageData(payload, UNSET if to is None else to)
            return [Frame("message", data, from_=sender, timestamp=timestamp(sent_at))]


def slots(event: SlotsChanged) -> Frame:
    """Return what shared slots play now."""
    return Frame(
        "slots",
        SlotsData(
            {
                mid: None if track is None else SlotData(track.user_id, track.track, track.kind, track.source)
                for mid, track in event.slots.items()
            }
        ),
    )


def unsupported(event: TrackUnsupported) -> Frame:
    """Return what a client is told of a track that it cannot decode."""
    message = "none of your sections takes the codec of this track"
    data = ErrorData(ErrorCode.UNSUPPORTED_MEDIA.value, message, event.track, event.user_id)
    return Frame("error", data)


def offer(event: OfferMade, dialect: Dialect) -> Frame:
    """Return our offer; its id is what the answer should echo."""
    return _description("offer", event.sdp, event.sections, event.offer_id, dialect)


def negotiate(event: OfferWanted) -> Frame:
    """Return what a client that makes all offers gets instead of ours."""
    return Frame("negotiate", NegotiateData(event.audio, event.video))


def answer(event: AnswerMade, dialect: Dialect, id: MessageId | None) -> list[Frame]:
    """Return our answer, then our candidates where it is the first of a connection."""
    frames = [_description("answer", event.sdp, event.sections, id, dialect)]
    type = "ice_candidate" if Dialect.UNDERSCORES in dialect else "ice-candidate"
    is_lifted = bool(dialect & (Dialect.TOP_LEVEL_SDP | Dialect.TOP_LEVEL_CANDIDATE))
    for candidate in event.candidates:
        frames.append(Frame(type, candidate, candidate=candidate if is_lifted else UNSET))
    return frames


def _description(
    type: str, sdp: str, sections: Mapping[str, SectionInfo], id: MessageId | None, dialect: Dialect
) -> Frame:
    tracks = {mid: _section(section) for mid, section in sections.items()}
    is_lifted = Dialect.TOP_LEVEL_SDP in dialect
    return Frame(type, DescriptionData(type, sdp, tracks), _or_unset(id), sdp=sdp if is_lifted else UNSET)


def _section(section: SectionInfo) -> SectionData:
    named = section.receives or section.sends
    assert named is not None, "a section that carries nothing is not named"
    is_both = section.receives is not None and section.sends is not None
    own = _track(section.sends) if is_both and section.sends else UNSET
    return SectionData(named.user_id, named.track, named.kind, named.source, own)


def _track(track: TrackInfo) -> TrackData:
    return TrackData(track.track, track.kind, track.source, track.muted)


def _participant(info: ParticipantInfo) -> ParticipantData:
    return ParticipantData(
        user_id=info.user_id,
        id=info.user_id,
        name=info.name,
        role=info.role,
        status="in_room",
        joined_at=timestamp(info.joined_at),
        tracks=[_track(track) for track in info.tracks],
    )


def _participants(infos: tuple[ParticipantInfo, ...]) -> ParticipantsData:
    people = [_participant(info) for info in infos]
    return ParticipantsData(
        participants=people,
        host=next((person for person in people if person.role is Role.HOST), UNSET),
        guests={person.user_id: person for person in people if person.role is Role.GUEST},
        count=len(people),
    )


def timestamp(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 text in UTC, in whole seconds, ending in Z."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _or_unset(id: MessageId | None) -> MessageId | UnsetType:
    return UNSET if id is None else id
