"""What one member of a room receives: its wishes, its slots, and its connection kept in step with both.

The room calls offer(), withdraw() and hear() on those whom a change concerns (slots.Stage), and on nobody
else.  What somebody does not receive leaves no trace here: it is found in the room when a slot falls free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import SlotsChanged, TrackUnsupported
from kaamos.media.description import Kind
from kaamos.room.slots import SWITCH_S, Slots, Wish, Wishes
from kaamos.room.tracks import Publication, Subscription

if TYPE_CHECKING:
    from kaamos.room.participant import Participant
    from kaamos.rtc.connection import PeerConnection

# People and tracks that a member names, at most: as many as a large room has.
MAX_WISHES = 1000

# Those who spoke last are looked at first when a slot falls free, but not everybody who ever spoke.
MAX_RECENT = 32


class Reception:
    """What ``participant`` receives, at most ``limits`` tracks of each kind."""

    def __init__(self, participant: Participant, limits: Mapping[Kind, int]) -> None:
        self.limits = limits
        self._participant = participant
        self._room = participant.room
        self._connection: PeerConnection | None = None  # once slots can be made
        self._slots = {kind: Slots(limits[kind]) for kind in Kind}
        self._wishes = Wishes()
        self._unable: dict[Publication, None] = {}  # what the client was told it cannot decode

    @property
    def playing(self) -> dict[str, Publication]:
        """Return what plays, by the mid of the slot."""
        return {
            mid: subscription.publication
            for slots in self._slots.values()
            for mid, subscription in slots.by_mid.items()
        }

    # The connection comes and goes.

    def start(self, connection: PeerConnection) -> None:
        """Receive all that there is and fits: the first offer of a connection was answered."""
        self._connection = connection
        for kind in Kind:
            self._fill(kind)

    def stop(self) -> None:
        """Give up what is received, because the connection is gone; the wishes stay."""
        self._connection = None
        for kind, slots in self._slots.items():
            for publication in slots.by_track:
                publication.subscriptions.pop(self, None)
            self._slots[kind] = Slots(slots.limit)
            self._room.stages[kind].dismiss(self)
        for publication in self._unable:
            publication.unable.pop(self, None)
        self._unable.clear()

    def end(self) -> None:
        """Give up everything: the participant has left."""
        self.stop()
        for target in self._wishes:
            target.wishers.pop(self, None)
        self._wishes = Wishes()

    def renew(self) -> None:
        """Play what waits in the sections that a description brought, and move what does not fit there.

        What played where the client does not receive now waits like all that has no slot.
        """
        if self._connection is None:
            return
        subscriptions = [s for slots in self._slots.values() for s in slots.by_mid.values()]
        for subscription in subscriptions:
            if self._connection.is_paused(subscription.mid):
                self._release(subscription)
        for subscription in subscriptions:
            if subscription.publication.subscriptions.get(self) is subscription:
                self._recheck(subscription)
        for kind in Kind:
            self._fill(kind)

    # What the room says.

    def offer(self, publication: Publication) -> None:
        """Receive a publication if there is a slot for it, or if it is to be shown before others."""
        if self._is_waiting(publication):
            slots = self._slots[publication.kind]
            if not slots.is_full:
                if self._can_decode(publication):
                    self._play(publication, may_add=self._may_add(publication.kind))
            elif self._wishes.pin_of(publication):
                self._displace(publication)
            self._enroll(publication.kind)

    def withdraw(self, publication: Publication) -> None:
        """Receive a publication no more, because it is over."""
        self._unable.pop(publication, None)
        self._vacate(publication)

    def forget_wish(self, target: Publication | Participant) -> None:
        """Somebody or something that was named is gone."""
        self._wishes.say(target, None)

    def hear(self, publication: Publication, now: float) -> None:
        """Somebody speaks whose publication has no slot: give it one, unless others deserve theirs more."""
        slots = self._slots[publication.kind]
        if slots.is_full and now >= slots.may_switch_at and self._is_waiting(publication):
            if self._displace(publication):
                slots.may_switch_at = now + SWITCH_S
            self._enroll(publication.kind)

    def change_codec(self, publication: Publication) -> None:
        """A publication that has a slot here, or was told not to be decodable, comes in another codec."""
        subscription = publication.subscriptions.get(self)
        if subscription is None:
            self.offer(publication)
        else:
            self._recheck(subscription)

    def missing(self, kind: Kind) -> int:
        """Return how many more slots of a kind should be made, within the limit."""
        if self._connection is None:
            return 0
        slots, paused = self._slots[kind], self._connection.paused(kind)
        return max(0, self._count_waiting(kind, slots.limit - len(slots.by_mid) + paused) - paused)

    # What the client says.

    def wish(self, targets: Iterable[Publication | Participant], word: Wish | None) -> None:
        """Note a word about people and tracks, or take back what was said, and act on it.

        Raises:
            RemoteProtocolError: BAD_MESSAGE beyond MAX_WISHES; nothing changes.
        """
        named = dict.fromkeys(targets)
        new = sum(target not in self._wishes for target in named) if word is not None else 0
        if len(self._wishes) + new > MAX_WISHES:
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"at most {MAX_WISHES} wishes are kept")
        concerned: list[Publication] = []
        for target in named:
            if isinstance(target, Publication):
                concerned.append(target)
            else:
                concerned += target.publications.values()
                for publication in target.publications.values():
                    self._say(publication, None)  # the word about its publisher is the later one
            self._say(target, word)
        if self._connection is None:
            return
        for publication in concerned:
            if self._wishes.is_refused(publication):
                self._vacate(publication)
            else:
                self.offer(publication)
        for kind in Kind:
            self._fill(kind)

    # Inside.

    def _say(self, target: Publication | Participant, word: Wish | None) -> None:
        self._wishes.say(target, word)
        if word is None:
            target.wishers.pop(self, None)
        else:
            target.wishers[self] = None

    def _is_waiting(self, publication: Publication) -> bool:
        """Return whether a publication may be received and is not."""
        return (
            self._connection is not None
            and publication.track_id in self._room.publications  # a pinned publisher may be about to go
            and publication.publisher is not self._participant
            and self not in publication.subscriptions
            and not self._wishes.is_refused(publication)
        )

    def _count_waiting(self, kind: Kind, most: int) -> int:
        """Return how many tracks of a kind wait that the client can decode; ``most`` if there are more."""
        found: set[Publication] = set()
        for publication in self._waiting(kind):
            if len(found) >= most:
                break
            if self._is_waiting(publication) and publication not in self._unable:
                found.add(publication)
        return len(found)

    def _may_add(self, kind: Kind) -> bool:
        """Return whether more waits than the client has paused slots: so many it does not want."""
        assert self._connection is not None
        paused = self._connection.paused(kind)
        return not paused or self._count_waiting(kind, paused + 1) > paused

    def _pinned(self, kind: Kind) -> Iterator[Publication]:
        """Yield what is pinned, the newest first."""
        for target in self._wishes.newest_pins():
            pinned = [target] if isinstance(target, Publication) else list(target.publications.values())
            yield from (publication for publication in pinned if publication.kind is kind)

    def _waiting(self, kind: Kind) -> Iterator[Publication]:
        """Yield what waits, what deserves a slot most first; some more than once."""
        stage, people = self._room.stages[kind], self._room.participants
        yield from self._pinned(kind)
        for user_id in islice(self._room.speakers.recent(), MAX_RECENT):
            speaker = people.get(user_id)
            if speaker is not None:
                yield from (p for p in speaker.publications.values() if p.kind is kind)
        yield from stage.publications.values()

    def _fill(self, kind: Kind) -> None:
        """Play what waits while there are slots, and what is pinned in the place of what is not."""
        slots = self._slots[kind]
        if self._connection is None:
            return
        in_vain: set[frozenset[int]] = set()
        for publication in self._waiting(kind):
            if slots.is_full:
                break
            if not self._is_waiting(publication) or publication.codecs in in_vain:
                continue
            if self._can_decode(publication) and not self._play(publication, may_add=self._may_add(kind)):
                in_vain.add(publication.codecs)
        for publication in self._pinned(kind):
            is_able = slots.is_full and self._is_waiting(publication) and self._can_decode(publication)
            if is_able and not self._displace(publication):
                break  # those behind it deserve a slot less
        self._enroll(kind)

    def _enroll(self, kind: Kind) -> None:
        """Tell the room what concerns us; where tracks have to share from now on, make all slots shared."""
        slots = self._slots[kind]
        if self._connection is None:
            return
        if slots.is_full and slots.has_own and self._is_crowded(kind):
            for subscription in slots.by_mid.values():
                self._share(subscription)
        self._room.stages[kind].enroll(self, slots)

    def _is_crowded(self, kind: Kind) -> bool:
        """Return whether there is more to receive than there are slots."""
        excess = len(self._room.stages[kind].publications) - self._slots[kind].limit
        if excess <= 0:
            return False
        out = [*self._participant.publications.values()]
        for target in self._wishes.refusals():
            named = [target] if isinstance(target, Publication) else target.publications.values()
            out += filter(self._wishes.is_refused, named)
        return excess > sum(publication.kind is kind for publication in dict.fromkeys(out))

    def _play(self, publication: Publication, *, may_add: bool = True) -> bool:
        """Give a publication a free slot; return False, and change nothing, where there is none."""
        connection, kind = self._connection, publication.kind
        assert connection is not None
        is_shared = self._is_crowded(kind)
        msid = publication.publisher.user_id, publication.track_id
        mid = connection.play(
            publication.uptrack, kind, publication.codecs, None if is_shared else msid, may_add=may_add
        )
        if mid is None:
            return False
        self._note(Subscription(publication, mid, is_shared))
        return True

    def _can_decode(self, publication: Publication) -> bool:
        """Return whether the client can; if not, it is told, once until it could."""
        assert self._connection is not None
        if self._connection.is_decodable(publication.kind, publication.codecs):
            self._forget_unable(publication)
            return True
        if publication not in self._unable:
            self._unable[publication] = None
            publication.unable[self] = None
            user_id = publication.publisher.user_id
            self._participant.outbox(TrackUnsupported(user_id, publication.track_id))
        return False

    def _displace(self, publication: Publication) -> bool:
        """Give a publication the slot of another that deserves it less; return whether there is one."""
        connection = self._connection
        assert connection is not None
        slots = self._slots[publication.kind]
        givers = slots.givers(publication, self._wishes, self._room.speakers)
        if not givers or not self._can_decode(publication):
            return False
        for subscription in givers:
            if connection.accepts(subscription.mid, publication.codecs):
                self._switch(subscription, publication)
                return True
        self._release(givers[0])
        return self._play(publication)

    def _switch(self, subscription: Subscription, publication: Publication) -> None:
        """Play another publication in a slot, without an offer if it is shared already."""
        assert self._connection is not None
        self._share(subscription)
        self._drop(subscription)
        self._note(Subscription(publication, subscription.mid, is_shared=True))
        self._connection.switch(subscription.mid, publication.uptrack)
        self._participant.outbox(SlotsChanged({subscription.mid: publication.info}))

    def _share(self, subscription: Subscription) -> None:
        assert self._connection is not None
        if not subscription.is_shared:
            subscription.is_shared = True
            self._connection.share(subscription.mid)

    def _recheck(self, subscription: Subscription) -> None:
        """Move a publication whose codec does not fit its slot to one that it fits, if there is any."""
        connection, publication = self._connection, subscription.publication
        assert connection is not None
        if connection.accepts(subscription.mid, publication.codecs):
            return
        if not self._can_decode(publication):
            self._vacate(publication)
            return
        self._release(subscription)
        self._play(publication)
        self._fill(publication.kind)

    def _vacate(self, publication: Publication) -> None:
        """Take its slot from a publication, and give it to what waits."""
        subscription = publication.subscriptions.get(self)
        if subscription is None or self._connection is None:
            return
        if subscription.is_shared:
            for heir in self._waiting(publication.kind):
                if self._is_waiting(heir) and self._connection.accepts(subscription.mid, heir.codecs):
                    self._switch(subscription, heir)
                    return
        self._release(subscription)
        self._fill(publication.kind)

    def _release(self, subscription: Subscription) -> None:
        """Let a slot play nothing."""
        assert self._connection is not None
        self._drop(subscription)
        self._connection.stop(subscription.mid)
        if subscription.is_shared:
            self._participant.outbox(SlotsChanged({subscription.mid: None}))

    def _note(self, subscription: Subscription) -> None:
        publication = subscription.publication
        self._slots[publication.kind].fill(subscription)
        publication.subscriptions[self] = subscription
        self._forget_unable(publication)

    def _forget_unable(self, publication: Publication) -> None:
        self._unable.pop(publication, None)
        publication.unable.pop(self, None)

    def _drop(self, subscription: Subscription) -> None:
        self._slots[subscription.publication.kind].free(subscription)
        del subscription.publication.subscriptions[self]
