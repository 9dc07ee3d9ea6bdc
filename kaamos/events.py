"""What a room tells its members: plain values, made by ``room`` and put into words by ``signaling``."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a participant may do."""

    HOST = "host"
    GUEST = "guest"


class Source(StrEnum):
    """Where a track comes from; clients may say it, else it follows from the kind."""

    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


class LeaveReason(StrEnum):
    """Why a participant is gone."""

    LEFT = "left"  # said so, or closed its socket in order
    DISCONNECTED = "disconnected"  # its socket broke
    CONNECTION_LOST = "connection_lost"  # ICE, DTLS or negotiation failed or went silent


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A track that somebody publishes."""

    user_id: str
    track: str
    kind: str  # "audio" or "video"
    source: Source
    muted: bool = False


@dataclass(frozen=True, slots=True)
class ParticipantInfo:
    """A participant as the others see it now."""

    user_id: str
    name: str
    role: Role
    joined_at: datetime  # aware, UTC
    tracks: tuple[TrackInfo, ...]


@dataclass(frozen=True, slots=True)
class SectionInfo:
    """What one section of a description carries; a section used in both directions has both."""

    receives: TrackInfo | None  # the track that the client gets there
    sends: TrackInfo | None  # the client's own track


@dataclass(frozen=True, slots=True)
class Joined:
    """You are in the room."""

    room_id: str
    you: ParticipantInfo
    slots: dict[str, int]  # tracks received at most, by kind


@dataclass(frozen=True, slots=True)
class ParticipantList:
    """Everybody in the room, in the order of coming; one of them is host."""

    participants: tuple[ParticipantInfo, ...]


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    """Somebody came."""

    participant: ParticipantInfo


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    """Somebody is gone."""

    user_id: str
    reason: LeaveReason


@dataclass(frozen=True, slots=True)
class TrackMuted:
    """Somebody's track was muted or is heard and seen again."""

    user_id: str  # who publishes it
    track: str
    muted: bool


@dataclass(frozen=True, slots=True)
class MessageSent:
    """Somebody says something to you: to you alone if ``to`` is your id, to all others if it is None."""

    sender: str
    to: str | None
    payload: object  # the room passes it on and does not look at it
    sent_at: datetime  # aware, UTC


@dataclass(frozen=True, slots=True)
class SpeakersChanged:
    """Who speaks now, the loudest first, with a level from 0 to 1 (room.speakers.Speakers.current)."""

    speakers: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """Shared slots of yours play something else, without an offer; None: nothing."""

    slots: dict[str, TrackInfo | None]  # by mid


@dataclass(frozen=True, slots=True)
class TrackUnsupported:
    """You do not get this track, because your client cannot decode it."""

    user_id: str
    track: str


@dataclass(frozen=True, slots=True)
class OfferMade:
    """The server wants to change what your connection carries; answer with ``offer_id``."""

    offer_id: str
    sdp: str
    sections: dict[str, SectionInfo]  # by mid


@dataclass(frozen=True, slots=True)
class OfferWanted:
    """You make all offers, and should make one: with so many more sections to receive in, perhaps none."""

    audio: int
    video: int


@dataclass(frozen=True, slots=True)
class AnswerMade:
    """The server's answer to your offer; ``candidates`` only with the first one of a connection."""

    sdp: str
    sections: dict[str, SectionInfo]  # by mid
    candidates: tuple[dict[str, str | int], ...]  # RTCIceCandidateInit


# What reads the same for everybody who hears it.
News = ParticipantList | ParticipantJoined | ParticipantLeft | TrackMuted | MessageSent | SpeakersChanged
RoomEvent = Joined | News | OfferMade | OfferWanted | SlotsChanged | TrackUnsupported
