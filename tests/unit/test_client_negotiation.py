"""A client that makes all offers is asked for them, and its sections are filled in the answers."""

from collections.abc import Iterator

import pytest

from kaamos.events import OfferWanted
from tests.support.virtual import Hall, Member


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall(slots=(3, 2))
    yield hall
    hall.close()


def publisher(hall: Hall, *kinds: str) -> Member:
    member = hall.join()
    for kind in kinds:
        member.peer.add(kind, "sendonly")
    hall.settle()
    return member


def viewer(hall: Hall, *kinds: str) -> Member:
    member = hall.join(client_negotiates=True)
    for kind in kinds:
        member.peer.add(kind, "recvonly")
    hall.do(member.offer)
    return member


def received(hall: Hall, member: Member) -> list[str]:
    """The tracks that somebody receives, in any order, as the peer was told and as the engine plays them."""
    playing = member.participant.reception.playing
    assert hall.playing(member) == {mid: publication.uptrack for mid, publication in playing.items()}
    assert member.shown == {
        mid: f"{publication.publisher.user_id} {publication.track_id}" for mid, publication in playing.items()
    }
    return sorted(publication.track_id for publication in playing.values())


def published(*members: Member) -> list[str]:
    return sorted(p.track_id for member in members for p in member.participant.publications.values())


def test_what_it_can_receive_is_filled_in_the_first_answer(hall: Hall) -> None:
    ada = publisher(hall, "audio", "video")
    grace = viewer(hall, "video", "audio")
    hall.do(grace.deliver)
    assert received(hall, grace) == published(ada)
    hall.wait(1.0)
    assert grace.asked == [] and not grace.down


def test_it_is_asked_once_for_all_that_is_missing_and_gets_no_offer(hall: Hall) -> None:
    people = [publisher(hall, "audio", "video") for _ in range(2)]
    grace = viewer(hall, "video")
    hall.do(grace.deliver)
    hall.wait(0.04)
    assert grace.asked == []
    hall.wait(0.02)
    assert grace.asked == [OfferWanted(audio=2, video=1)]
    hall.settle()
    assert received(hall, grace) == published(*people) and len(grace.asked) == 1
    assert len(grace.peer.lines) == 4


def test_it_is_asked_again_while_it_offers_less_than_is_missing(hall: Hall) -> None:
    people = [publisher(hall, "video") for _ in range(3)]
    grace = viewer(hall, "audio")
    hall.do(grace.deliver)
    for missing in (3, 2, 1):
        hall.wait(0.1)
        assert grace.asked.pop() == OfferWanted(audio=0, video=missing) and not grace.asked
        grace.down.clear()
        grace.peer.add("video", "recvonly")
        hall.do(grace.offer)
        hall.do(grace.deliver)
    hall.wait(1.0)
    assert grace.asked == [] and received(hall, grace) == published(*people)


def test_it_is_never_asked_for_more_than_its_slots(hall: Hall) -> None:
    for _ in range(5):
        publisher(hall, "audio", "video")
    grace = viewer(hall, "video")
    hall.settle()
    assert grace.asked[0] == OfferWanted(audio=2, video=2)
    assert len(grace.peer.lines) == 5 == len(hall.playing(grace))


def test_a_section_that_was_answered_inactive_takes_another_offer(hall: Hall) -> None:
    grace = viewer(hall, "video")
    hall.do(grace.deliver)
    assert grace.shown == {}
    ada = publisher(hall, "video")
    assert grace.asked == [OfferWanted(audio=0, video=0)]
    assert received(hall, grace) == published(ada) and len(grace.peer.lines) == 1


def test_who_leaves_makes_room_for_who_comes(hall: Hall) -> None:
    ada = publisher(hall, "video")
    grace = viewer(hall, "video")
    hall.settle()
    ada.peer.transceivers[0].direction = "inactive"
    hall.settle()
    assert received(hall, grace) == [] and grace.asked == [OfferWanted(audio=0, video=0)]
    edsger = publisher(hall, "video")
    assert received(hall, grace) == published(edsger) and len(grace.peer.lines) == 1


def test_what_played_in_a_section_that_it_stopped_is_asked_for_again(hall: Hall) -> None:
    ada = publisher(hall, "video")
    grace = viewer(hall, "video", "audio")
    hall.settle()
    grace.peer.transceivers[0].is_stopped = True
    hall.do(grace.offer)
    hall.do(grace.deliver)
    assert received(hall, grace) == []
    hall.wait(0.1)
    assert grace.asked == [OfferWanted(audio=0, video=1)]
    hall.settle()
    assert received(hall, grace) == published(ada)


def test_it_is_asked_again_when_it_has_come_back(hall: Hall) -> None:
    ada = publisher(hall, "video")
    grace = viewer(hall, "audio")
    hall.do(grace.deliver)
    hall.wait(0.1)
    assert len(grace.asked) == 1
    hall.do(grace.come_back)
    hall.wait(0.19)
    assert len(grace.asked) == 1
    hall.wait(0.02)
    assert grace.asked == [OfferWanted(audio=0, video=1)] * 2
    hall.settle()
    assert received(hall, grace) == published(ada)
