"""What people offer and what they receive: publications and subscriptions."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType

from kaamos.events import Source, TrackInfo
from kaamos.media.description import Kind, UpTrackId

if TYPE_CHECKING:
    from kaamos.room.participant import Participant
    from kaamos.room.reception import Reception

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
    """A track that a participant offers: one section in which its client sends.

    ``codecs`` are those it may come in: what was negotiated until the first packet came, then the one
    that is sent, by ``capabilities.decodable_as``.  ``serial`` rises with every publication of a room.
    """

    track_id: TrackId
    publisher: Participant
    mid: str
    kind: Kind
    source: Source
    uptrack: UpTrackId
    codecs: frozenset[int]
    serial: int
    is_muted: bool = False
    subscriptions: dict[Reception, Subscription] = field(default_factory=dict)  # those who receive it now
    wishers: dict[Reception, None] = field(default_factory=dict)  # those who named it
    unable: dict[Reception, None] = field(
        default_factory=dict
    )  # those who were told that they cannot decode it

    @property
    def info(self) -> TrackInfo:
        """Return what others are told of it."""
        return TrackInfo(self.publisher.user_id, self.track_id, self.kind.value, self.source, self.is_muted)


@dataclass(slots=True, eq=False)
class Subscription:
    """A publication that plays in a slot of somebody, who need not have asked for it.

    A shared slot plays another one without a word to the peer connection's other side.
    """

    publication: Publication
    mid: str
    is_shared: bool
