"""What people offer and what they receive: publications and subscriptions."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType

from kaamos.events import Source, TrackInfo
from kaamos.media.description import Kind, UpTrackId

if TYPE_CHECKING:
    from kaamos.room.participant import Participant

TrackId = NewType("TrackId", str)

DEFAULT_SOURCES = {Kind.AUDIO: Source.MICROPHONE, Kind.VIDEO: Source.CAMERA}
_SOURCES = {
    Kind.AUDIO: frozenset({Source.MICROPHONE, Source.SCREEN_SHARE_AUDIO}),
    Kind.VIDEO: frozenset({Source.CAMERA, Source.SCREEN_SHARE}),
}


def new_track_id() -> TrackId:
    """Return an id that no other track has: ``TR_`` and 16 hexadecimal digits."""
    return TrackId("TR_" + secrets.token_hex(8))


def source_of(kind: Kind, wanted: Source | None) -> Source:
    """Return the source a client named for a track, or the usual one if it does not fit the kind."""
    return wanted if wanted in _SOURCES[kind] else DEFAULT_SOURCES[kind]


@dataclass(slots=True, eq=False)
class Publication:
    """A track that a participant offers: one section in which its client sends."""

    track_id: TrackId
    publisher: Participant
    mid: str
    kind: Kind
    source: Source
    uptrack: UpTrackId
    is_muted: bool = False
    subscriptions: dict[str, Subscription] = field(default_factory=dict)  # by the subscriber's user id

    @property
    def info(self) -> TrackInfo:
        """Return what others are told of it."""
        return TrackInfo(self.publisher.user_id, self.track_id, self.kind.value, self.source, self.is_muted)


@dataclass(slots=True, eq=False)
class Subscription:
    """A participant's wish to receive a publication."""

    publication: Publication
    subscriber: Participant
    mid: str | None  # the slot that plays it; None while every slot of its kind is taken
