"""Rooms with a connection that only takes notes: who hears what, who is host, who receives which track."""

import asyncio

import pytest

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import (
    AnswerMade,
    Joined,
    LeaveReason,
    MessageSent,
    OfferMade,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantList,
    Role,
    Source,
    TrackMuted,
)
from kaamos.room import participant
from kaamos.room.room import SMALL_ROOM
from tests.support.world import World, code_of


def test_the_newcomer_is_told_of_itself_and_everybody_and_the_others_of_the_newcomer() -> None:
    world = World()
    world.join("ada")
    assert world.types("ada") == [Joined, ParticipantList]
    world.join("grace")
    assert world.types("grace") == [Joined, ParticipantList]
    assert world.types("ada") == [ParticipantJoined, ParticipantList]


def test_the_first_is_host_and_the_one_longest_there_is_the_next() -> None:
    world = World()
    ada, grace, edsger = (world.join(name) for name in ("ada", "grace", "edsger"))
    assert [member.role for member in (ada, grace, edsger)] == [Role.HOST, Role.GUEST, Role.GUEST]
    ada.leave(LeaveReason.LEFT)
    assert [member.role for member in (grace, edsger)] == [Role.HOST, Role.GUEST]
    roles = {person.user_id: person.role for person in world.last_list("edsger").participants}
    assert roles == {"grace": Role.HOST, "edsger": Role.GUEST}


def test_a_departure_is_told_once_with_its_reason() -> None:
    world = World()
    ada = world.join("ada")
    world.join("grace")
    world.types("grace")
    ada.leave(LeaveReason.LEFT)
    ada.leave(LeaveReason.DISCONNECTED)
    assert [event for event in world.heard["grace"] if isinstance(event, ParticipantLeft)] == [
        ParticipantLeft("ada", LeaveReason.LEFT)
    ]
    assert not world.removed


def test_a_late_goodbye_does_not_remove_who_has_the_same_id_now() -> None:
    world = World()
    old = world.join("ada")
    old.leave(LeaveReason.LEFT)
    world.join("ada")
    old.leave(LeaveReason.DISCONNECTED)
    assert list(world.rooms.enter("room").participants) == ["ada"]


def test_the_same_id_twice_is_refused_and_the_first_stays() -> None:
    world = World()
    world.join("ada")
    assert code_of(lambda: world.join("ada")) is ErrorCode.DUPLICATE_IDENTITY
    world.join("ada", "elsewhere")
    assert list(world.rooms.enter("room").participants) == ["ada"]


def test_a_full_room_is_full_until_somebody_leaves() -> None:
    world = World(max_participants=2)
    ada = world.join("ada")
    world.join("grace")
    with pytest.raises(RemoteProtocolError, match="this room is full: it takes 2 at most") as caught:
        world.join("edsger")
    assert caught.value.code is ErrorCode.ROOM_FULL
    ada.leave(LeaveReason.LEFT)
    world.join("edsger")


def test_who_has_no_id_gets_one_that_can_stand_in_an_msid() -> None:
    world = World()
    room = world.rooms.enter("room")
    ids = {
        room.join(None, None, outbox=lambda event: None, on_removed=lambda reason: None).user_id
        for _ in range(3)
    }
    assert len(ids) == 3
    assert all(id.isascii() and id.replace("-", "").replace("_", "").isalnum() for id in ids)


def test_everybody_receives_what_everybody_else_publishes_whoever_came_first() -> None:
    world = World()
    for name in ("ada", "grace", "edsger"):
        world.publish(name)
    for name in ("ada", "grace", "edsger"):
        others = {"ada", "grace", "edsger"} - {name}
        assert world.receives(name) == {(other, kind) for other in others for kind in ("audio", "video")}


def test_a_member_without_a_connection_gets_everything_with_its_first_offer() -> None:
    world = World()
    watcher = world.join("watcher")
    world.publish("ada")
    assert "watcher" not in world.connections.by_user
    answer = watcher.receive_offer("take video 0", {})
    assert world.receives("watcher") == {("ada", "audio"), ("ada", "video")}
    assert answer.sections == {}, "the answer is older than what is played next"
    assert len(answer.candidates) == 2
    assert watcher.receive_offer("take video 0", {}).candidates == ()


def test_a_refused_first_offer_can_be_followed_by_a_right_one() -> None:
    world = World()
    world.publish("ada")
    grace = world.join("grace")
    assert code_of(lambda: grace.receive_offer("bad", {})) is ErrorCode.INVALID_SDP
    assert world.receives("grace") == set()
    world.publish("edsger")
    assert len(grace.receive_offer("send audio 0", {}).candidates) == 2
    assert len(world.receives("grace")) == 4


def test_a_track_that_ends_is_taken_from_those_who_received_it() -> None:
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    ada.receive_offer("send audio 0", {})
    assert world.receives("grace") == {("ada", "audio")}
    assert [publication.kind for publication in ada.publications.values()] == ["audio"]


async def test_who_leaves_is_taken_from_the_others_and_its_connection_is_closed() -> None:
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    ada.leave(LeaveReason.LEFT)
    assert world.receives("grace") == set()
    await world.rooms.close()
    assert world.connection("ada").is_closed
    assert world.connection("grace").is_closed


async def test_a_lost_connection_removes_its_participant_and_tells_its_client_and_the_others() -> None:
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    ada.on_closed("consent lost")
    assert world.removed == {"ada": "consent lost"}
    assert ParticipantLeft("ada", LeaveReason.CONNECTION_LOST) in world.heard["grace"]
    ada.on_closed("again")
    assert world.removed == {"ada": "consent lost"}
    await world.rooms.close()


async def test_a_peer_that_closes_its_connection_is_gone_if_its_client_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(participant, "RELOAD_S", 0.0)
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    ada.on_closed("closed by peer")
    assert world.receives("grace") == set()
    assert not world.removed
    while not world.removed:
        await asyncio.sleep(0)
    assert world.removed == {"ada": "closed by peer"}
    await world.rooms.close()


@pytest.mark.parametrize("reason", ["closed by peer", "connection lost", "negotiation timeout"])
async def test_a_connection_that_ends_because_all_is_stopped_leaves_its_participant(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(participant, "RELOAD_S", 0.0)
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    ada.receive_offer("", {})
    world.connection("ada").is_empty = True
    ada.on_closed(reason)
    await asyncio.sleep(0.01)  # longer than RELOAD_S
    assert ("ada" in world.removed) is (reason == "negotiation timeout")
    if not world.removed:
        assert ada.last_received is None
        ada.receive_offer("send video 0", {})
        assert world.receives("grace") == {("ada", "video")}
        assert world.receives("ada") == {("grace", "audio"), ("grace", "video")}
    await world.rooms.close()


@pytest.mark.parametrize("is_socket_first", [True, False])
async def test_a_peer_that_closes_its_connection_and_is_loaded_anew_stays(
    monkeypatch: pytest.MonkeyPatch, is_socket_first: bool
) -> None:
    monkeypatch.setattr(participant, "RELOAD_S", 0.0)
    world = World()
    ada = world.publish("ada")
    assert ada.last_received == 0.0
    assert world.join("grace").last_received is None
    if is_socket_first:
        ada.suspend()
        ada.on_closed("closed by peer")
    else:
        ada.on_closed("closed by peer")
        ada.suspend()
    await asyncio.sleep(0.01)  # longer than RELOAD_S
    assert not world.removed
    ada.resume()
    ada.receive_offer("peer new\nsend video 0", {})
    assert [track.kind for track in ada.info.tracks] == ["video"]
    await world.rooms.close()


async def test_only_a_client_that_came_back_may_be_a_new_peer() -> None:
    world = World()
    ada = world.publish("ada")
    world.publish("grace")
    first = world.connection("ada")
    ada.receive_offer("peer other\nsend audio 0\nsend video 1", {})
    assert world.connection("ada") is first, "and it is for the connection to refuse"
    ada.suspend()
    ada.resume()
    ada.receive_offer("peer other\nsend audio 0", {})
    assert world.connection("ada") is first
    ada.receive_offer("peer third\nsend audio 0", {})
    assert world.connection("ada") is first, "that was for its first offer only"
    ada.suspend()
    ada.resume()
    ada.receive_offer("peer fourth\nsend video 0", {})
    assert world.connection("ada") is not first
    assert world.receives("grace") == {("ada", "video")}
    assert world.receives("ada") == {("grace", "audio"), ("grace", "video")}
    await world.rooms.close()


def test_what_waits_is_tried_again_with_every_description() -> None:
    world = World(slots=0)
    world.publish("ada")
    watcher = world.join("watcher")
    watcher.receive_offer("take", {})
    connection = world.connection("watcher")
    connection.slots = 16
    watcher.receive_offer("take", {})
    assert world.receives("watcher") == {("ada", "audio"), ("ada", "video")}


def test_an_offer_names_what_it_carries_and_the_same_offer_again_keeps_its_id() -> None:
    world = World()
    ada = world.publish("ada")
    grace = world.publish("grace")
    connection = world.connection("grace")
    connection.offer()
    connection.offer()
    first, again = (event for event in world.heard["grace"] if isinstance(event, OfferMade))
    assert first == again
    received = {info.receives.track for info in first.sections.values() if info.receives}
    assert received == {publication.track_id for publication in ada.publications.values()}
    sent = {mid: info.sends.track for mid, info in first.sections.items() if info.sends}
    assert sent == {mid: publication.track_id for mid, publication in grace.publications.items()}
    assert all(track.startswith("TR_") for track in received | set(sent.values()))


def test_an_answer_fits_the_offer_that_stands() -> None:
    world = World()
    world.publish("ada")
    grace = world.publish("grace")
    assert code_of(lambda: grace.receive_answer("v=0", {}, None)) is ErrorCode.STALE_NEGOTIATION
    world.connection("grace").offer()
    assert code_of(lambda: grace.receive_answer("v=0", {}, "offer-0")) is ErrorCode.STALE_NEGOTIATION
    assert code_of(lambda: grace.receive_answer("bad", {}, "offer-1")) is ErrorCode.INVALID_SDP
    grace.receive_answer("send audio 0\nsend video 1", {}, "offer-1")
    assert code_of(lambda: grace.receive_answer("v=0", {}, "offer-1")) is ErrorCode.STALE_NEGOTIATION


def test_a_crossing_offer_is_refused_and_changes_nothing() -> None:
    world = World()
    world.publish("ada")
    grace = world.publish("grace")
    world.connection("grace").offer()
    sources = {"1": Source.SCREEN_SHARE}
    assert code_of(lambda: grace.receive_offer("send nothing", sources)) is ErrorCode.GLARE
    assert [publication.source for publication in grace.publications.values()] == ["microphone", "camera"]


def test_a_client_may_start_to_send_with_its_answer() -> None:
    world = World()
    world.publish("ada")
    grace = world.join("grace")
    grace.receive_offer("take video 0", {})
    world.connection("grace").offer()
    grace.receive_answer("send video s0", {"s0": Source.SCREEN_SHARE}, None)
    assert ("grace", "video") in world.receives("ada")
    assert grace.publications["s0"].source is Source.SCREEN_SHARE


def test_the_source_is_what_the_client_says_where_it_fits_the_kind() -> None:
    world = World()
    ada = world.join("ada")
    hints = {"0": Source.SCREEN_SHARE_AUDIO, "1": Source.MICROPHONE, "2": Source.SCREEN_SHARE}
    ada.receive_offer("send audio 0\nsend video 1\nsend video 2", hints)
    sources = {mid: publication.source for mid, publication in ada.publications.items()}
    assert sources == {"0": Source.SCREEN_SHARE_AUDIO, "1": Source.CAMERA, "2": Source.SCREEN_SHARE}


def test_a_source_that_changes_is_told_with_the_same_track() -> None:
    world = World()
    ada = world.publish("ada")
    [before] = [p for p in ada.publications.values() if p.kind == "video"]
    world.types("ada")
    ada.receive_offer("send audio 0\nsend video 1", {"1": Source.SCREEN_SHARE})
    tracks = world.last_list("ada").participants[0].tracks
    assert [(track.track, track.source) for track in tracks if track.kind == "video"] == [
        (before.track_id, Source.SCREEN_SHARE)
    ]
    world.types("ada")
    ada.receive_offer("send audio 0\nsend video 1", {})
    assert world.types("ada") == [], "nothing changed, nothing is told"


def test_new_tracks_are_told_once_for_each_description() -> None:
    world = World()
    world.join("watcher")
    world.join("ada")
    world.types("watcher")
    participant = world.rooms.enter("room").participants["ada"]
    participant.receive_offer("send audio 0\nsend video 1", {})
    assert world.types("watcher") == [ParticipantList]


def test_large_rooms_are_told_changes_only_and_newcomers_the_whole() -> None:
    world = World()
    for n in range(SMALL_ROOM):
        world.join(f"m{n}")
    world.types("m0")
    last = world.join("last")
    assert world.types("m0") == [ParticipantJoined]
    assert world.types("last") == [Joined, ParticipantList]
    last.receive_offer("send audio 0", {})
    assert world.types("m1")[-1] is ParticipantJoined
    world.rooms.enter("room").participants["m0"].leave(LeaveReason.LEFT)
    assert world.types("last") == [ParticipantLeft, ParticipantList], "there is a new host"


def test_a_list_for_all_is_one_object() -> None:
    world = World()
    for name in ("ada", "grace", "edsger"):
        world.join(name)
    assert world.last_list("ada") is world.last_list("edsger")


def test_a_message_goes_to_all_others_or_to_one() -> None:
    world = World()
    ada, *_ = (world.join(name) for name in ("ada", "grace", "edsger"))
    ada.send("for all", None)
    ada.send("for one", "grace")

    def said(user_id: str) -> list[tuple[str, str | None, object]]:
        events = world.heard[user_id]
        return [(e.sender, e.to, e.payload) for e in events if isinstance(e, MessageSent)]

    assert said("ada") == []
    assert said("grace") == [("ada", None, "for all"), ("ada", "grace", "for one")]
    assert said("edsger") == [("ada", None, "for all")]
    assert code_of(lambda: ada.send("anybody?", "nobody")) is ErrorCode.PARTICIPANT_NOT_FOUND


def test_a_mute_is_told_to_all_once_and_kept_for_those_who_come_later() -> None:
    world = World()
    ada = world.publish("ada")
    world.join("grace")
    track = ada.publications["0"].track_id
    for name in ("ada", "grace"):
        world.types(name)
    ada.mute(track, True)
    ada.mute(track, True)
    assert world.heard["ada"] == world.heard["grace"] == [TrackMuted("ada", track, True)]
    world.join("edsger")
    tracks = world.last_list("edsger").participants[0].tracks
    assert [(info.kind, info.muted) for info in tracks] == [("audio", True), ("video", False)]
    ada.mute(track, False)
    assert world.heard["edsger"][-1] == TrackMuted("ada", track, False)


def test_only_a_host_mutes_others_and_they_may_unmute_themselves() -> None:
    world = World()
    ada, grace = world.publish("ada"), world.publish("grace")
    track = grace.publications["0"].track_id
    ada.mute(track, True)
    assert grace.publications["0"].is_muted
    assert code_of(lambda: grace.mute(ada.publications["0"].track_id, True)) is ErrorCode.FORBIDDEN
    assert not ada.publications["0"].is_muted
    grace.mute(track, False)
    assert not grace.publications["0"].is_muted


async def test_a_track_that_is_gone_or_of_another_room_cannot_be_muted() -> None:
    world = World()
    ada = world.publish("ada")
    other = world.publish("grace", "elsewhere")
    track = ada.publications["0"].track_id
    assert code_of(lambda: other.mute(track, True)) is ErrorCode.TRACK_NOT_FOUND
    ada.receive_offer("send nothing", {})
    assert code_of(lambda: ada.mute(track, True)) is ErrorCode.TRACK_NOT_FOUND
    other.leave(LeaveReason.LEFT)
    assert other.room.publications == {}
    await world.rooms.close()


def test_an_answer_lists_the_clients_own_tracks() -> None:
    world = World()
    answer = world.join("ada").receive_offer("send video 1", {})
    assert isinstance(answer, AnswerMade)
    assert answer.sections["1"].sends is not None
    assert answer.sections["1"].sends.user_id == "ada"
