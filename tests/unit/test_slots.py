"""Slots under a random walk: whatever people do, what is shown is what should be, and only so much of it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kaamos.events import LeaveReason
from kaamos.media.description import Kind
from kaamos.room.participant import Participant
from kaamos.room.slots import Slots, Wish, Wishes
from kaamos.room.tracks import Publication, Subscription
from tests.support.world import World

LIMITS = {Kind.VIDEO: 2, Kind.AUDIO: 1}
PEOPLE = [f"p{n}" for n in range(6)]
names = st.sampled_from(PEOPLE)
words = st.sampled_from([Wish.PIN, Wish.REFUSE, None])


class Walk(RuleBasedStateMachine):
    """People with cameras come, go and speak, and two watchers wish for this and that."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=(LIMITS[Kind.VIDEO], LIMITS[Kind.AUDIO]))
        self.world.rooms.close_later = lambda closing: closing.close()  # type: ignore[method-assign]
        self.room = self.world.rooms.enter("room")
        # What the model knows of wishes: of people by name, of tracks by id; the later word stands.
        self.people: dict[str, dict[str, Wish]] = {"one": {}, "two": {}}
        self.tracks: dict[str, dict[str, Wish]] = {"one": {}, "two": {}}

    @initialize()
    def come_to_watch(self) -> None:
        for name, decodes in (("one", {1, 2, 3}), ("two", {1, 2})):
            self.world.connections.decodes = frozenset(decodes)
            self.world.join(name).receive_offer("take", {})

    def watchers(self) -> list[Participant]:
        return [self.room.participants[name] for name in ("one", "two")]

    def tracks_of(self, name: str) -> list[Publication]:
        member = self.room.participants.get(name)
        return [*member.publications.values()] if member else []

    @rule(name=names, sends=st.sampled_from(["audio 0", "video 1", "audio 0\nsend video 1"]))
    def publish(self, name: str, sends: str) -> None:
        member = self.room.participants.get(name) or self.world.join(name)
        before = {track.track_id for track in self.tracks_of(name)}
        member.receive_offer(f"send {sends}", {})
        self.forget(before - {track.track_id for track in self.tracks_of(name)})

    @rule(name=names)
    def leave(self, name: str) -> None:
        if name in self.room.participants:
            self.forget({track.track_id for track in self.tracks_of(name)})
            for wishes in self.people.values():
                wishes.pop(name, None)
            self.room.participants[name].leave(LeaveReason.LEFT)

    def forget(self, gone: set[str]) -> None:
        for wishes in self.tracks.values():
            for track_id in gone:
                wishes.pop(track_id, None)

    @rule(levels=st.dictionaries(names, st.sampled_from([10, 20, 60]), max_size=3), polls=st.integers(1, 4))
    def speak(self, levels: dict[str, int], polls: int) -> None:
        for _ in range(polls):
            self.world.speak(**levels)

    @rule(watcher=st.sampled_from(["one", "two"]), name=names, word=words)
    def wish_for_somebody(self, watcher: str, name: str, word: Wish | None) -> None:
        if name not in self.room.participants:
            return
        self.room.participants[watcher].wish([name], [], word)
        for track in self.tracks_of(name):
            self.tracks[watcher].pop(track.track_id, None)
        self._note(self.people[watcher], name, word)

    @rule(watcher=st.sampled_from(["one", "two"]), name=names, word=words, number=st.integers(0, 1))
    def wish_for_a_track(self, watcher: str, name: str, word: Wish | None, number: int) -> None:
        tracks = self.tracks_of(name)
        if number < len(tracks):
            self.room.participants[watcher].wish([], [tracks[number].track_id], word)
            self._note(self.tracks[watcher], tracks[number].track_id, word)

    @staticmethod
    def _note(wishes: dict[str, Wish], key: str, word: Wish | None) -> None:
        wishes.pop(key, None)
        if word is not None:
            wishes[key] = word

    @rule(name=names, codec=st.integers(1, 3))
    def change_codec(self, name: str, codec: int) -> None:
        for track in self.tracks_of(name):
            self.room.participants[name].on_codec(track.mid, codec)

    @rule(watcher=st.sampled_from(["one", "two"]))
    def come_back_as_a_new_peer(self, watcher: str) -> None:
        self.world.connections.decodes = frozenset({1, 2, 3} if watcher == "one" else {1, 2})
        member = self.room.participants[watcher]
        member.suspend()
        member.resume()
        member.receive_offer(f"peer {self.world.now}\ntake", {})
        self.world.now += 1

    @precondition(lambda self: self.room.publications)
    @rule()
    def nothing_happens(self) -> None:
        for _ in range(5):
            self.world.speak()  # until the last voice has ended
        before = [self.world.connection(member.user_id).playing.copy() for member in self.watchers()]
        for member in self.watchers():
            member.receive_offer(f"peer {self.world.connection(member.user_id).peer}\ntake", {})
        for _ in range(5):
            self.world.speak()
        after = [self.world.connection(member.user_id).playing for member in self.watchers()]
        assert after == before

    def word_about(self, watcher: str, track: Publication) -> Wish | None:
        own = self.tracks[watcher].get(track.track_id)
        return own or self.people[watcher].get(track.publisher.user_id)

    @invariant()
    def what_is_shown_is_what_should_be(self) -> None:
        for member in self.watchers() if "two" in self.room.participants else []:
            connection = self.world.connection(member.user_id)
            playing = member.reception.playing
            sources = {mid: track.uptrack for mid, track in playing.items()}
            assert sources == {mid: source for mid, (source, *_) in connection.playing.items()}
            assert len(set(sources.values())) == len(sources), "each track in one slot"
            for kind, limit in LIMITS.items():
                able = [
                    track
                    for track in self.room.publications.values()
                    if track.kind is kind
                    and track.codecs & connection.decodes
                    and self.word_about(member.user_id, track) is not Wish.REFUSE
                ]
                shown = [track for track in playing.values() if track.kind is kind]
                assert len(shown) == min(limit, len(able))
                assert all(track in able for track in shown)
                pinned = [t for t in able if self.word_about(member.user_id, t) is Wish.PIN]
                assert len(pinned) > limit or all(track in shown for track in pinned)
                if len(able) > limit:
                    names = [name for _, k, name, _ in connection.playing.values() if k is kind]
                    assert set(names) == {"slot"}

    @invariant()
    def the_room_knows_whom_a_change_concerns(self) -> None:
        for kind, stage in self.room.stages.items():
            for member in self.watchers() if "two" in self.room.participants else []:
                is_full = sum(t.kind is kind for t in member.reception.playing.values()) == LIMITS[kind]
                assert (member.reception in stage.full) == is_full != (member.reception in stage.hungry)
            listed = {reception for track in stage.publications.values() for reception in track.subscriptions}
            assert listed <= {member.reception for member in self.room.participants.values()}


Walk.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWalk = Walk.TestCase


def test_a_later_word_counts_and_a_newer_pin_is_higher() -> None:
    world = World()
    ada, grace = world.publish("ada"), world.publish("grace")
    (microphone, camera), (other, _) = ada.publications.values(), grace.publications.values()
    wishes = Wishes()
    wishes.say(ada, Wish.PIN)
    wishes.say(other, Wish.PIN)
    assert wishes.pin_of(camera) == wishes.pin_of(microphone) < wishes.pin_of(other)
    wishes.say(camera, Wish.REFUSE)
    assert wishes.is_refused(camera) and not wishes.is_refused(microphone) and not wishes.pin_of(camera)
    wishes.say(ada, Wish.PIN)
    assert wishes.pin_of(microphone) > wishes.pin_of(other)
    assert list(wishes.newest_pins()) == [ada, other] and set(wishes) == {ada, other, camera}
    wishes.say(camera, None)
    assert not wishes.is_refused(camera) and len(wishes) == 2


def test_slots_are_full_at_their_limit_and_free_again() -> None:
    world = World()
    first, second = world.publish("ada").publications.values()
    slots = Slots(1)
    subscription = Subscription(first, "s0", is_shared=False)
    slots.fill(subscription)
    assert slots.is_full and slots.has_own
    slots.free(subscription)
    assert not slots.is_full and not slots.has_own and slots.by_mid == {} == slots.by_track
    assert Slots(0).is_full
    assert second not in slots.by_track
