"""Speakers: who speaks, by audio levels and a clock that the test turns."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kaamos.room.speakers import GOES_ON_DB, HOLD_S, LOUD_DB, MAX_SPEAKERS, Speakers

POLL_S = 0.35


class Table:
    """People around a microphone each; every poll takes a third of a second."""

    def __init__(self) -> None:
        self.speakers = Speakers()
        self.now = 100.0

    def poll(self, **levels: int) -> list[str]:
        self.now += POLL_S
        for user_id, level in levels.items():
            self.speakers.hear(user_id, level)
        self.speakers.update(self.now)
        return self.names

    @property
    def names(self) -> list[str]:
        return [user_id for user_id, _ in self.speakers.current]


def test_a_voice_begins_at_its_second_loud_poll_and_a_click_is_none() -> None:
    table = Table()
    assert table.poll(ada=20) == []
    assert table.poll(ada=127) == []
    assert table.poll(ada=20) == []
    assert table.poll(ada=20) == ["ada"]


def test_a_voice_ends_after_a_second_of_silence_and_not_with_a_breath() -> None:
    table = Table()
    table.poll(ada=20)
    table.poll(ada=20)
    assert table.poll(ada=127) == table.poll() == ["ada"]
    assert table.poll(ada=20) == ["ada"]
    while table.names:
        table.poll()
    assert HOLD_S < table.now - table.speakers.standing("ada")[0] < HOLD_S + 2 * POLL_S
    assert table.speakers.is_quiet


def test_who_speaks_may_trail_off_further_than_a_voice_begins() -> None:
    table = Table()
    for _ in range(4):
        assert table.poll(ada=LOUD_DB + 5) == []
    for _ in range(2):
        table.poll(ada=LOUD_DB)
    for _ in range(20):
        assert table.poll(ada=LOUD_DB + 5) == ["ada"]


def test_the_loudest_come_first_with_a_linear_level_in_steps() -> None:
    table = Table()
    for _ in range(2):
        table.poll(ada=36, grace=12, edsger=0)
    assert table.speakers.current == (("edsger", 1.0), ("grace", 0.251), ("ada", 0.016))


def test_of_equals_whoever_speaks_longer_stays_in_front() -> None:
    table = Table()
    for _ in range(2):
        table.poll(grace=20)
    for _ in range(3):
        table.poll(ada=20, grace=20)
    assert table.names == ["grace", "ada"]


def test_a_change_is_reported_once_and_a_small_one_not_at_all() -> None:
    speakers = Speakers()
    changes = []
    for n, level in enumerate([24, 24, 25, 23, 24, 12, 12, 12, 12]):
        speakers.hear("ada", level)
        changes.append(speakers.update(n * POLL_S))
    assert changes[:5] == [False, True, False, False, False]
    assert changes[5:].count(True) <= 2
    assert speakers.current == (("ada", 0.251),)


def test_of_two_tracks_of_one_person_the_louder_counts() -> None:
    table = Table()
    for _ in range(2):
        for level in (90, 20, 50):
            table.speakers.hear("ada", level)
        table.poll()
    assert table.names == ["ada"]


def test_who_is_muted_stops_to_speak_at_once_and_keeps_its_place_among_those_who_spoke() -> None:
    table = Table()
    for _ in range(2):
        table.poll(ada=20, grace=20)
    table.speakers.hear("ada", 20)
    table.speakers.silence("ada")
    assert table.poll(grace=20) == ["grace"]
    assert set(table.speakers.recent()) == {"ada", "grace"}
    assert table.speakers.standing("ada")[1] == 0


def test_who_left_is_forgotten() -> None:
    table = Table()
    for _ in range(2):
        table.poll(ada=20)
    table.speakers.forget("ada")
    assert table.poll() == [] and list(table.speakers.recent()) == []
    assert table.speakers.standing("ada") == (-math.inf, 0)


def test_nothing_is_kept_of_people_who_are_silent() -> None:
    speakers = Speakers()
    for n in range(1000):
        speakers.hear(f"m{n}", 127)
        speakers.hear(f"m{n}", GOES_ON_DB + 1)
    assert speakers.is_quiet and not speakers.update(0.0) and speakers.is_quiet


def test_of_a_shouting_crowd_some_are_named() -> None:
    table = Table()
    for _ in range(2):
        table.poll(**{f"m{n}": 10 for n in range(50)})
    assert len(table.names) == MAX_SPEAKERS


LEVELS = st.dictionaries(st.sampled_from(["ada", "grace", "edsger"]), st.integers(0, 127))


@given(st.lists(LEVELS, max_size=40))
def test_whatever_is_heard_the_speakers_are_ordered_recent_and_changes_are_told(
    polls: list[dict[str, int]],
) -> None:
    speakers = Speakers()
    now, told = 0.0, speakers.current
    heard_at: dict[str, float] = {}
    for levels in polls:
        now += POLL_S
        for user_id, level in levels.items():
            speakers.hear(user_id, level)
            if level <= GOES_ON_DB:
                heard_at[user_id] = now
        has_changed = speakers.update(now)
        assert has_changed == (speakers.current != told)
        told = speakers.current
        values = [level for _, level in told]
        assert values == sorted(values, reverse=True) and all(0 < level <= 1 for level in values)
        for user_id, _ in told:
            assert now - heard_at[user_id] <= HOLD_S
            assert speakers.standing(user_id)[1] > 0
