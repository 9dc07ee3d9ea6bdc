"""What we say takes the form that a client reads."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kaamos.events import (
    AnswerMade,
    Joined,
    LeaveReason,
    OfferMade,
    ParticipantInfo,
    ParticipantLeft,
    ParticipantList,
    Role,
    SectionInfo,
    Source,
    TrackInfo,
)
from kaamos.signaling import frames
from kaamos.signaling.frames import Frame, LimitsData, Ticket, Welcome
from kaamos.signaling.messages import Dialect

HOST_CANDIDATE = "candidate:1 1 UDP 2122252543 192.168.1.5 54321 typ host"
AT = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


def wire(frame: Frame) -> dict[str, Any]:
    value = json.loads(frames.encode(frame))
    assert isinstance(value, dict)
    return value


def test_an_answer_stands_in_data_and_at_the_top_only_for_clients_that_read_it_there() -> None:
    track = TrackInfo("ada", "TR_1", "video", Source.CAMERA)
    event = AnswerMade("v=0", {"0": SectionInfo(track, None)}, ())
    plain = wire(frames.answer(event, Dialect(0), "c-1")[0])
    assert plain == {
        "type": "answer",
        "id": "c-1",
        "data": {
            "type": "answer",
            "sdp": "v=0",
            "tracks": {"0": {"user_id": "ada", "track": "TR_1", "kind": "video", "source": "camera"}},
        },
    }
    assert wire(frames.answer(event, Dialect.TOP_LEVEL_SDP, "c-1")[0]) == {**plain, "sdp": "v=0"}


@pytest.mark.parametrize(
    ("dialect", "name", "is_lifted"),
    [
        (Dialect(0), "ice-candidate", False),
        (Dialect.UNDERSCORES, "ice_candidate", False),
        (Dialect.TOP_LEVEL_SDP, "ice-candidate", True),
        (Dialect.TOP_LEVEL_CANDIDATE, "ice-candidate", True),
    ],
)
def test_our_candidates_follow_the_first_answer_in_the_words_of_the_client(
    dialect: Dialect, name: str, is_lifted: bool
) -> None:
    candidate: dict[str, str | int] = {"candidate": HOST_CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0}
    frame = wire(frames.answer(AnswerMade("v=0", {}, (candidate,)), dialect, None)[1])
    expected = {"type": name, "data": candidate}
    assert frame == ({**expected, "candidate": candidate} if is_lifted else expected)


def test_an_offer_carries_its_id_and_names_both_directions_of_a_section() -> None:
    theirs = TrackInfo("ada", "TR_1", "audio", Source.MICROPHONE)
    own = TrackInfo("grace", "TR_2", "audio", Source.MICROPHONE)
    sections = {"0": SectionInfo(theirs, own), "1": SectionInfo(None, own)}
    frame = wire(frames.offer(OfferMade("offer-1", "v=0", sections), Dialect(0)))
    assert frame["id"] == "offer-1"
    both, sent = frame["data"]["tracks"]["0"], frame["data"]["tracks"]["1"]
    assert (both["user_id"], both["own"]["track"]) == ("ada", "TR_2")
    assert (sent["user_id"], "own" in sent) == ("grace", False)


def person(user_id: str, role: Role) -> ParticipantInfo:
    return ParticipantInfo(
        user_id, user_id.title(), role, AT, (TrackInfo(user_id, "TR_1", "audio", Source.MICROPHONE),)
    )


def test_the_list_of_participants_is_ours_and_that_of_the_original_code() -> None:
    event = ParticipantList((person("ada", Role.HOST), person("grace", Role.GUEST)))
    [frame] = [wire(frame) for frame in frames.news(event)]
    ada = {
        "user_id": "ada",
        "id": "ada",
        "name": "Ada",
        "role": "host",
        "status": "in_room",
        "joined_at": "2026-11-23T10:00:00Z",
        "tracks": [{"track": "TR_1", "kind": "audio", "source": "microphone", "muted": False}],
    }
    grace = {**ada, "user_id": "grace", "id": "grace", "name": "Grace", "role": "guest"}
    data = {"participants": [ada, grace], "host": ada, "guests": {"grace": grace}, "count": 2}
    assert frame == {"type": "participants", "data": data}


def test_the_list_has_no_host_when_there_is_none() -> None:
    [frame] = [wire(frame) for frame in frames.news(ParticipantList(()))]
    assert frame["data"] == {"participants": [], "guests": {}, "count": 0}


def test_a_departure_is_told_in_our_words_and_in_those_of_the_original_code() -> None:
    said = [wire(frame) for frame in frames.news(ParticipantLeft("ada", LeaveReason.LEFT))]
    assert said == [
        {"type": "participant-left", "data": {"user_id": "ada", "reason": "left"}},
        {"type": "leave", "data": {"user_id": "ada"}, "from": "ada"},
    ]


@pytest.mark.parametrize(("role", "types"), [(Role.HOST, ["join"]), (Role.GUEST, ["join", "allow"])])
def test_a_guest_is_allowed_right_after_the_acknowledgement(role: Role, types: list[str]) -> None:
    welcome = Welcome((), LimitsData(10, 20.0), "1.2.3")
    said = frames.acknowledgement(
        Joined("room", person("ada", role), {"audio": 8, "video": 4}), welcome, Ticket("SE_1", "secret"), 5
    )
    assert [frame.type for frame in said] == types
    first = wire(said[0])
    assert first["id"] == 5
    assert first["data"] == {
        "user_id": "ada",
        "id": "ada",
        "name": "Ada",
        "role": role.value,
        "room_id": "room",
        "session": "SE_1",
        "resume_token": "secret",
        "resumed": False,
        "ice_servers": [],
        "slots": {"audio": 8, "video": 4},
        "limits": {"message_bytes": 10, "messages_per_second": 20.0},
        "server": {"version": "1.2.3"},
    }
