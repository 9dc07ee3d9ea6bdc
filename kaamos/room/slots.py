"""Which track plays in which slot of a subscriber: what it asked for, what it has, and who gives way.

Nothing is kept here of a track that a subscriber does not receive and did not name: what waits is all
that the room has and the subscriber has not (docs/decisions/0005).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING

from kaamos.room.tracks import Publication, Subscription, TrackId

if TYPE_CHECKING:
    from kaamos.room.participant import Participant
    from kaamos.room.reception import Reception
    from kaamos.room.speakers import Speakers

# What is shown for speaking stays at least this long, and of the others nothing is moved meanwhile.
SWITCH_S = 1.0

# A speaker takes the place of another one who speaks only when it is clearly louder: twice is 6 dB.
LOUDER = 1.9

# First the pins, the newest highest; then who spoke last, the louder if both do now; then who came first.
Rank = tuple[int, float, float, int]


class Wish(Enum):
    """A word about somebody or a track."""

    PIN = auto()  # before all others
    REFUSE = auto()  # not at all


class Wishes:
    """What a subscriber said by ``subscribe`` and ``unsubscribe``: of people, and of single tracks.

    The later word counts; of a track, its own before that of its publisher.
    """

    def __init__(self) -> None:
        self._pins: dict[Publication | Participant, int] = {}  # numbered, the newest last
        self._refusals: dict[Publication | Participant, None] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._pins) + len(self._refusals)

    def __iter__(self) -> Iterator[Publication | Participant]:
        yield from self._pins
        yield from self._refusals

    def __contains__(self, target: object) -> bool:
        return target in self._pins or target in self._refusals

    def say(self, target: Publication | Participant, word: Wish | None) -> None:
        """Note the word about somebody or something; None: treat it like all others."""
        self._pins.pop(target, None)
        self._refusals.pop(target, None)
        if word is Wish.PIN:
            self._count += 1
            self._pins[target] = self._count
        elif word is Wish.REFUSE:
            self._refusals[target] = None

    def is_refused(self, publication: Publication) -> bool:
        """Return whether a track is not to be shown."""
        if publication in self:
            return publication in self._refusals
        return publication.publisher in self._refusals

    def pin_of(self, publication: Publication) -> int:
        """Return the number of the pin that a track has, higher for a newer one; 0 if it has none."""
        if not self._pins:
            return 0
        if publication in self:
            return self._pins.get(publication, 0)
        return self._pins.get(publication.publisher, 0)

    def newest_pins(self) -> Iterator[Publication | Participant]:
        """Yield what is pinned, the newest first."""
        return reversed(self._pins)

    def refusals(self) -> Iterable[Publication | Participant]:
        """Return what is refused."""
        return self._refusals


class Stage:
    """One kind of media in a room: what is published, and who is concerned when that changes.

    Attributes:
        publications: in the order of coming.
        hungry: those who have a slot to spare.
        settled: those who have none, of whom one slot belongs to one track; one more track makes all shared.
        full: those who have none to spare: speakers concern them.
    """

    def __init__(self) -> None:
        self.publications: dict[TrackId, Publication] = {}
        self.hungry: dict[Reception, None] = {}
        self.settled: dict[Reception, None] = {}
        self.full: dict[Reception, None] = {}

    def enroll(self, reception: Reception, slots: Slots) -> None:
        """Note what concerns somebody whose slots have changed."""
        _note(self.hungry, reception, not slots.is_full)
        _note(self.settled, reception, slots.is_full and slots.has_own)
        _note(self.full, reception, slots.is_full and slots.limit > 0)

    def dismiss(self, reception: Reception) -> None:
        """Nothing concerns somebody any more."""
        for audience in (self.hungry, self.settled, self.full):
            audience.pop(reception, None)


def _note(audience: dict[Reception, None], reception: Reception, is_in: bool) -> None:
    if is_in:
        audience[reception] = None
    else:
        audience.pop(reception, None)


class Slots:
    """The slots of one kind of a subscriber, those in use only.

    Attributes:
        limit: so many tracks are received at most.
        may_switch_at: a speaker has to wait until then, in monotonic seconds.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.may_switch_at = 0.0
        self.by_mid: dict[str, Subscription] = {}
        self.by_track: dict[Publication, Subscription] = {}

    @property
    def is_full(self) -> bool:
        """Return whether a further track would have to share."""
        return len(self.by_mid) >= self.limit

    @property
    def has_own(self) -> bool:
        """Return whether a slot belongs to one track."""
        return any(not subscription.is_shared for subscription in self.by_mid.values())

    def fill(self, subscription: Subscription) -> None:
        """Note what plays in a slot from now on; nothing did before."""
        assert not self.is_full and subscription.mid not in self.by_mid
        assert subscription.publication not in self.by_track
        self.by_mid[subscription.mid] = subscription
        self.by_track[subscription.publication] = subscription

    def free(self, subscription: Subscription) -> None:
        """Note that a slot plays nothing any more."""
        del self.by_mid[subscription.mid]
        del self.by_track[subscription.publication]

    def rank(self, publication: Publication, wishes: Wishes, speakers: Speakers) -> Rank:
        """Return how much a track deserves a slot; higher is more."""
        standing = speakers.standing(publication.publisher.user_id)
        return wishes.pin_of(publication), *standing, -publication.serial

    def givers(self, publication: Publication, wishes: Wishes, speakers: Speakers) -> list[Subscription]:
        """Return those that give way to a track that has no slot, who deserves it least first."""
        wanted = self.rank(publication, wishes, speakers)
        ranks = {shown: self.rank(shown, wishes, speakers) for shown in self.by_track}
        giving = [shown for shown, rank in ranks.items() if _gives_way(rank, wanted)]
        return [self.by_track[shown] for shown in sorted(giving, key=ranks.__getitem__)]


def _gives_way(shown: Rank, wanted: Rank) -> bool:
    """Return whether the one leaves its slot for the other, which nothing but a reason may cause."""
    if shown[0] != wanted[0] or wanted[0]:
        return shown[0] < wanted[0]
    loudness = wanted[2]
    if not loudness:
        return False  # who is silent takes what is free, and no more
    return not shown[2] or loudness >= LOUDER * shown[2]
