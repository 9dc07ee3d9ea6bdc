"""What members of a room receive when not everything fits: shares, pins, speakers, codecs and costs."""

import asyncio
import gc
import itertools
from collections.abc import Iterable

import pytest

from kaamos.errors import ErrorCode
from kaamos.events import LeaveReason, OfferMade, SlotsChanged, TrackUnsupported
from kaamos.media.description import Kind
from kaamos.room import reception
from kaamos.room.participant import Participant
from kaamos.room.slots import SWITCH_S, Slots, Wish, Wishes
from kaamos.room.tracks import Subscription
from tests.support.world import World, code_of

VP8, H264 = frozenset({1}), frozenset({2})


class Theatre(World):
    """A watcher with few slots and as many people with cameras as a test wants."""

    def __init__(self, *names: str, video: int = 2, audio: int = 8) -> None:
        super().__init__(limits=(video, audio))
        for name in names:
            self.publish(name)
        self.watcher = self.join("watcher")
        self.watcher.receive_offer("take", {})

    def track(self, user_id: str, kind: Kind = Kind.VIDEO) -> str:
        publications = self.rooms.enter("room").participants[user_id].publications.values()
        return next(publication.track_id for publication in publications if publication.kind is kind)

    def pin(self, *user_ids: str) -> None:
        self.watcher.wish(user_ids, [], Wish.PIN)

    def refuse(self, *user_ids: str) -> None:
        self.watcher.wish(user_ids, [], Wish.REFUSE)

    @property
    def shown(self) -> list[str]:
        return self.pictures("watcher")

    @property
    def names(self) -> set[str]:
        """The msids of the watcher's video slots."""
        playing = self.connection("watcher").playing.values()
        return {f"{stream} {track}" for _, kind, stream, track in playing if kind is Kind.VIDEO}

    def changes(self) -> list[dict[str, str | None]]:
        """What `slots` told the watcher since the last look: whose picture or voice, by mid."""
        events = [event for event in self.heard["watcher"] if isinstance(event, SlotsChanged)]
        self.heard["watcher"].clear()
        return [{mid: track and track.user_id for mid, track in event.slots.items()} for event in events]

    def move(self, user_id: str, codecs: Iterable[int]) -> None:
        """Let somebody send their picture in another codec."""
        (codec,) = codecs
        self.rooms.enter("room").participants[user_id].on_codec("1", codec)


def test_up_to_the_limit_each_track_has_a_slot_with_its_own_name() -> None:
    theatre = Theatre("ada", "grace")
    assert theatre.shown == ["ada", "grace"]
    assert theatre.names == {f"ada {theatre.track('ada')}", f"grace {theatre.track('grace')}"}
    assert theatre.changes() == []


def test_one_track_more_makes_all_slots_of_its_kind_shared_with_one_offer_and_plays_on() -> None:
    theatre = Theatre("ada", "grace")
    theatre.publish("edsger")
    assert theatre.shown == ["ada", "grace"]
    connection = theatre.connection("watcher")
    slots = {mid for mid, (_, kind, *_) in connection.playing.items() if kind is Kind.VIDEO}
    assert theatre.names == {f"slot {mid}" for mid in slots}
    audio = [track for track in connection.playing.values() if track[1] is Kind.AUDIO]
    assert len(audio) == 3 and all(stream != "slot" for _, _, stream, _ in audio)
    needed = theatre.connection("watcher").offers_needed
    theatre.join("barbara").receive_offer("send video 0", {})
    assert theatre.connection("watcher").offers_needed == needed


def test_who_comes_to_a_crowded_room_gets_shared_slots_from_the_start() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    assert theatre.shown == ["ada", "grace"], "those who published first"
    assert all(name.startswith("slot ") for name in theatre.names)


def test_a_free_slot_gets_a_name_again_when_there_is_room_again() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    people = theatre.rooms.enter("room").participants
    for name in ("ada", "grace"):
        people[name].receive_offer("send audio 0", {})
    assert theatre.shown == ["edsger"]
    people["ada"].receive_offer("send audio 0\nsend video 1", {})
    assert f"ada {theatre.track('ada')}" in theatre.names


def test_a_pin_moves_the_picture_without_an_offer_and_the_latest_counts() -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    needed = theatre.connection("watcher").offers_needed
    (mid,) = [mid for mid, played in theatre.connection("watcher").playing.items() if played[1] is Kind.VIDEO]
    theatre.changes()
    for name in ("edsger", "grace", "ada", "edsger"):
        theatre.pin(name)
        assert theatre.shown == [name]
        assert theatre.changes() == [{mid: name}]
    theatre.pin("edsger")
    assert theatre.changes() == []
    assert theatre.connection("watcher").offers_needed == needed


def test_a_pin_that_is_taken_back_leaves_the_picture_until_there_is_a_reason() -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    theatre.pin("grace")
    for _ in range(3):
        theatre.speak(edsger=10)
    assert theatre.shown == ["grace"]
    theatre.watcher.wish(["grace"], [], None)
    assert theatre.shown == ["grace"]
    theatre.speak(edsger=10)
    assert theatre.shown == ["edsger"]


def test_an_older_pin_takes_over_when_a_newer_one_is_taken_back() -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    theatre.pin("grace")
    theatre.pin("edsger")
    assert theatre.shown == ["edsger"]
    theatre.watcher.wish(["edsger"], [], None)
    assert theatre.shown == ["grace"]


def test_what_is_refused_leaves_its_slot_to_the_next_and_stays_out_until_it_is_wanted() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    theatre.refuse("ada")
    assert sorted(theatre.shown) == ["edsger", "grace"]
    assert ("ada", "audio") not in theatre.receives("watcher")
    theatre.rooms.enter("room").participants["ada"].receive_offer("send audio 0", {})
    theatre.rooms.enter("room").participants["ada"].receive_offer("send audio 0\nsend video 1", {})
    for _ in range(5):
        theatre.speak(ada=5)
    assert ("ada", "video") not in theatre.receives("watcher")
    theatre.pin("ada")
    assert "ada" in theatre.shown and ("ada", "audio") in theatre.receives("watcher")


def test_the_word_about_a_track_goes_over_that_about_its_publisher_unless_that_is_later() -> None:
    theatre = Theatre("ada", "grace", video=5)
    theatre.refuse("ada")
    theatre.watcher.wish([], [theatre.track("ada")], Wish.PIN)
    assert {("ada", "video")} == {got for got in theatre.receives("watcher") if got[0] == "ada"}
    theatre.refuse("ada")
    assert not {got for got in theatre.receives("watcher") if got[0] == "ada"}
    theatre.watcher.wish(["ada"], [], None)
    assert {("ada", "video"), ("ada", "audio")} <= theatre.receives("watcher")


def test_a_wanted_track_of_somebody_unwanted_counts_among_those_to_be_shown() -> None:
    theatre = Theatre("ada", video=1)
    theatre.refuse("ada")
    theatre.watcher.wish([], [theatre.track("ada")], Wish.PIN)
    theatre.publish("grace")
    assert theatre.shown == ["ada"] and all(name.startswith("slot ") for name in theatre.names)


async def test_wishes_outlive_a_connection_and_not_those_whom_they_name() -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    theatre.pin("edsger")
    theatre.refuse("grace")
    theatre.watcher.suspend()
    theatre.watcher.resume()
    theatre.watcher.receive_offer("peer new\ntake", {})
    assert theatre.shown == ["edsger"]
    assert ("grace", "audio") not in theatre.receives("watcher")
    people = theatre.rooms.enter("room").participants
    edsger, grace = people["edsger"], people["grace"]
    assert edsger.wishers and grace.wishers
    grace.leave(LeaveReason.LEFT)
    theatre.publish("grace")
    assert ("grace", "audio") in theatre.receives("watcher"), "it is somebody else"
    theatre.watcher.leave(LeaveReason.LEFT)
    assert not edsger.wishers


@pytest.mark.parametrize("word", [Wish.PIN, Wish.REFUSE, None])
def test_a_word_about_nobody_is_refused_and_changes_nothing(word: Wish | None) -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    before = theatre.receives("watcher")
    known, unknown = theatre.track("grace"), "TR_nobody"
    assert code_of(lambda: theatre.watcher.wish(["grace", "nobody"], [], word)) is (
        ErrorCode.PARTICIPANT_NOT_FOUND
    )
    assert code_of(lambda: theatre.watcher.wish([], [known, unknown], word)) is ErrorCode.TRACK_NOT_FOUND
    assert theatre.receives("watcher") == before


def test_so_many_wishes_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MAX_WISHES", 20)
    theatre = Theatre(video=1)
    names = [f"m{n}" for n in range(21)]
    for name in names:
        theatre.join(name)
    theatre.watcher.wish(names[:-1], [], Wish.REFUSE)
    assert code_of(lambda: theatre.watcher.wish(names[-1:], [], Wish.PIN)) is ErrorCode.BAD_MESSAGE
    theatre.watcher.wish(names[:10], [], Wish.PIN)
    theatre.watcher.wish(names[:1], [], None)
    theatre.watcher.wish(names[-1:], [], Wish.PIN)


def test_ones_own_tracks_are_never_received() -> None:
    world = World(limits=(1, 1))
    ada = world.publish("ada")
    ada.wish(["ada"], [], Wish.PIN)
    assert world.receives("ada") == set()


def test_a_speaker_takes_the_slot_of_the_one_who_was_silent_longest() -> None:
    theatre = Theatre("ada", "grace", "edsger", "barbara")
    theatre.changes()
    for _ in range(2):
        theatre.speak(ada=20)
    assert theatre.shown == ["ada", "grace"]
    for _ in range(2):
        theatre.speak(edsger=20)
    assert theatre.shown == ["ada", "edsger"]
    theatre.now += 5
    for _ in range(2):
        theatre.speak(barbara=20)
    assert theatre.shown == ["barbara", "edsger"]
    assert [list(change.values()) for change in theatre.changes()] == [["edsger"], ["barbara"]]


def test_voices_share_slots_likewise() -> None:
    theatre = Theatre("ada", "grace", "edsger", audio=1)
    for _ in range(2):
        theatre.speak(edsger=20)
    assert ("edsger", "audio") in theatre.receives("watcher")
    assert ("ada", "audio") not in theatre.receives("watcher")


def test_of_two_who_speak_the_clearly_louder_is_shown_and_no_more_than_once_a_second() -> None:
    theatre = Theatre("ada", "grace", video=1)
    for _ in range(5):
        theatre.speak(ada=20, grace=22)
    theatre.changes()
    for _ in range(20):
        theatre.speak(ada=22, grace=20)
    assert theatre.changes() == []
    moves = []
    for n in range(100):
        theatre.speak(ada=10 + 20 * (n % 2), grace=30 - 20 * (n % 2))
        if theatre.changes():
            moves.append(theatre.now)
    assert all(later - earlier >= SWITCH_S for earlier, later in itertools.pairwise(moves))


def test_silence_moves_nothing() -> None:
    theatre = Theatre("ada", "grace", "edsger", video=1)
    for _ in range(3):
        theatre.speak(grace=20)
    theatre.changes()
    for _ in range(50):
        theatre.speak()
    assert theatre.shown == ["grace"] and theatre.changes() == []


def test_a_speaker_does_not_take_the_slot_of_a_pin() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    theatre.pin("ada", "grace")
    for _ in range(5):
        theatre.speak(edsger=0)
    assert sorted(theatre.shown) == ["ada", "grace"]


def test_a_muted_track_does_not_speak() -> None:
    theatre = Theatre("ada", "grace", video=1)
    grace = theatre.rooms.enter("room").participants["grace"]
    grace.mute(theatre.track("grace", Kind.AUDIO), True)
    for _ in range(5):
        theatre.speak(grace=0)
    assert theatre.shown == ["ada"] and not theatre.rooms.enter("room").speakers.current
    grace.mute(theatre.track("grace", Kind.AUDIO), False)
    for _ in range(2):
        theatre.speak(grace=0)
    assert theatre.shown == ["grace"]
    grace.mute(theatre.track("grace", Kind.AUDIO), True)
    theatre.speak(grace=0)
    assert not theatre.rooms.enter("room").speakers.current


async def test_the_slot_of_who_leaves_goes_to_a_pin_then_to_who_spoke_then_to_the_first() -> None:
    theatre = Theatre("ada", "grace", "edsger", "barbara", "tim", video=1)
    people = theatre.rooms.enter("room").participants
    for _ in range(2):
        theatre.speak(barbara=20)
    theatre.pin("ada")
    theatre.pin("tim")
    for expected in ("tim", "ada", "barbara", "grace", "edsger"):
        assert theatre.shown == [expected]
        people[expected].leave(LeaveReason.LEFT)
    assert theatre.shown == []


async def test_a_client_may_ask_for_fewer_slots_and_not_for_more() -> None:
    world = World(limits=(2, 2))
    for name in ("ada", "grace", "edsger"):
        world.publish(name)
    for wanted, got in (({Kind.VIDEO: 0}, 0), ({Kind.VIDEO: 1}, 1), ({Kind.VIDEO: 9}, 2), (None, 2)):
        watcher = world.join("watcher", slots=wanted)
        watcher.receive_offer("take", {})
        assert len(world.pictures("watcher")) == got == watcher.joined.slots["video"]
        for _ in range(3):
            world.speak(edsger=10)
        watcher.wish(["edsger"], [], Wish.PIN)
        assert len(world.pictures("watcher")) == got
        watcher.leave(LeaveReason.LEFT)


def test_an_offer_that_is_sent_once_more_names_what_its_slots_play_by_then() -> None:
    theatre = Theatre("ada", "grace", video=1)
    connection = theatre.connection("watcher")
    connection.offer()
    theatre.pin("grace")
    connection.offer()
    first, again = (event for event in theatre.heard["watcher"] if isinstance(event, OfferMade))
    assert first.offer_id == again.offer_id

    def shown(offer: OfferMade) -> list[str]:
        received = [section.receives for section in offer.sections.values() if section.receives]
        return [track.user_id for track in received if track.kind == "video"]

    assert (shown(first), shown(again)) == (["ada"], ["grace"])


# Codecs.


def unsupported(theatre: World, user_id: str = "watcher") -> list[str]:
    events = [event for event in theatre.heard[user_id] if isinstance(event, TrackUnsupported)]
    theatre.heard[user_id].clear()
    return [event.user_id for event in events]


def test_who_can_decode_neither_of_two_codecs_in_turn_is_told_once_until_it_could() -> None:
    theatre = Theatre("ada", video=5)
    theatre.connection("watcher").decodes = VP8
    for codec in (2, 3, 2):
        theatre.move("ada", {codec})
    assert unsupported(theatre) == ["ada"]
    theatre.move("ada", VP8)
    theatre.move("ada", H264)
    assert unsupported(theatre) == ["ada"]


def test_who_cannot_decode_a_codec_is_told_once_and_gets_the_track_when_it_changes() -> None:
    theatre = Theatre("ada", "grace", video=5)
    connection = theatre.connection("watcher")
    connection.decodes = VP8
    theatre.heard["watcher"].clear()
    theatre.move("ada", H264)
    assert theatre.shown == ["grace"] and unsupported(theatre) == ["ada"]
    theatre.move("ada", H264)
    theatre.watcher.receive_offer("take", {})
    theatre.pin("ada")
    assert theatre.shown == ["grace"] and unsupported(theatre) == []
    theatre.move("ada", {3})
    assert unsupported(theatre) == [], "that is another codec, but the same track"
    theatre.move("ada", VP8)
    assert sorted(theatre.shown) == ["ada", "grace"] and unsupported(theatre) == []


def test_each_track_that_cannot_be_decoded_is_told() -> None:
    world = World()
    for name in ("ada", "grace", "edsger"):
        world.publish(name)
    watcher = world.join("watcher")
    world.connections.decodes = H264
    watcher.receive_offer("take", {})
    assert sorted(unsupported(world)) == sorted(["ada", "grace", "edsger"] * 2)


def test_in_a_shared_slot_the_next_takes_the_place_of_what_cannot_be_decoded() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    theatre.connection("watcher").decodes = VP8
    needed = theatre.connection("watcher").offers_needed
    theatre.move("grace", H264)
    assert theatre.shown == ["ada", "edsger"]
    assert theatre.connection("watcher").offers_needed == needed


def test_a_slot_that_lacks_a_codec_gives_way_to_one_that_has_it() -> None:
    theatre = Theatre("ada", video=3)
    connection = theatre.connection("watcher")
    (mid,) = [mid for mid, played in connection.playing.items() if played[1] is Kind.VIDEO]
    connection.narrow[mid] = VP8
    theatre.move("ada", H264)
    assert theatre.shown == ["ada"] and mid not in connection.playing
    theatre.publish("grace")
    assert sorted(theatre.shown) == ["ada", "grace"]


def test_a_speaker_is_shown_in_the_slot_that_takes_its_codec() -> None:
    theatre = Theatre("ada", "grace", "edsger")
    connection = theatre.connection("watcher")
    narrow = [mid for mid, played in connection.playing.items() if played[1] is Kind.VIDEO][1]
    connection.narrow[narrow] = VP8
    theatre.move("edsger", H264)
    for _ in range(2):
        theatre.speak(edsger=20)
    assert theatre.shown == ["edsger", "grace"]


async def test_a_member_that_leaves_is_forgotten_by_the_publications() -> None:
    theatre = Theatre("ada", video=3)
    audio, video = theatre.rooms.enter("room").participants["ada"].publications.values()
    theatre.connection("watcher").decodes = H264
    theatre.move("ada", {3})
    theatre.watcher.wish(["ada"], [video.track_id], Wish.PIN)
    assert video.unable and video.wishers and audio.subscriptions
    theatre.watcher.leave(LeaveReason.LEFT)
    for publication in (audio, video):
        assert not (publication.subscriptions or publication.unable or publication.wishers)
    stages = theatre.rooms.enter("room").stages
    assert not any(
        theatre.watcher.reception in audience
        for stage in stages.values()
        for audience in (stage.hungry, stage.settled, stage.full)
    )
    await theatre.rooms.close()


# Large rooms.


async def eventually_closed(world: World, *user_ids: str) -> None:
    while not all(world.connection(user_id).is_closed for user_id in user_ids):
        await asyncio.sleep(0)


def objects() -> int:
    """Return how many objects of ours are alive that a member or a slot may need."""
    return sum(isinstance(thing, Subscription | Slots | Wishes) for thing in gc.get_objects())


async def test_a_join_in_a_large_room_costs_the_others_nothing() -> None:
    members = 500
    world = World(limits=(4, 4))
    people: list[Participant] = [world.publish(f"m{n}") for n in range(members)]
    calls = {name: connection.calls for name, connection in world.connections.by_user.items()}
    gc.collect()
    before = objects()
    newcomer = world.publish("newcomer")
    for name, called in calls.items():
        assert world.connection(name).calls == called
    # Its own: two tables of slots, its wishes, and what plays in its slots.
    gc.collect()
    assert objects() - before == 2 + 1 + 8
    assert world.connection("newcomer").calls == 8
    newcomer.leave(LeaveReason.LEFT)
    assert all(world.connection(name).calls == called for name, called in calls.items())
    # Who goes is missed by those who saw them, and each of these gets somebody else by one call.
    watchers = len(people[0].publications["1"].subscriptions)
    assert 0 < watchers < members
    people[0].leave(LeaveReason.LEFT)
    touched = [name for name, called in calls.items() if world.connection(name).calls != called]
    assert len(touched) <= 2 * watchers
    assert all(world.connection(name).calls - calls[name] <= 2 for name in touched)
    await eventually_closed(world, "m0", "newcomer")


def test_a_speaker_in_a_large_room_costs_each_member_one_call_a_kind() -> None:
    world = World(limits=(2, 2))
    for n in range(60):
        world.publish(f"m{n}")
    calls = {name: connection.calls for name, connection in world.connections.by_user.items()}
    for _ in range(20):
        world.speak(m50=20)
    assert all(world.connection(name).calls - called == 2 for name, called in calls.items() if name != "m50")
    assert world.connection("m50").calls == calls["m50"]
