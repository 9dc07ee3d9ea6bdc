"""Slots over real sockets: who is shown where not all are, who speaks, and what a client cannot decode."""

from typing import Any

import pytest

from kaamos.media.description import Kind
from tests.behaviour.test_resume import claim, cut
from tests.support.signaling_client import Client, Site, site

ROOMS = {"rooms": {"video_slots": 1, "audio_slots": 8}}


async def watching(served: Site, **join: object) -> Client:
    """Return a client that publishes nothing."""
    client = await served.connect()
    await client.join("watcher", **join)
    await client.say("offer", {"sdp": "take"})
    await client.hear("answer")
    return client


def tracks_of(client: Client, user_id: str, kind: str = "video") -> list[str]:
    """Return the tracks of somebody in the last list that a client heard."""
    lists = [message["data"] for message in client.heard if message["type"] == "participants"]
    people = {person["user_id"]: person["tracks"] for person in lists[-1]["participants"]}
    return [track["track"] for track in people[user_id] if track["kind"] == kind]


def pictures(served: Site, user_id: str = "watcher") -> list[str]:
    playing = served.connections.by_user[user_id].playing.values()
    tracks = [served.rooms.up_tracks[source] for source, kind, *_ in playing if kind is Kind.VIDEO]
    return [track.publisher.user_id for track in tracks]


def speak(served: Site, **levels: int) -> None:
    """Let people be heard twice, a third of a second apart."""
    for _ in range(2):
        served.now += 0.35
        by_source = {
            source: levels[track.publisher.user_id]
            for source, track in served.rooms.up_tracks.items()
            if track.kind is Kind.AUDIO and track.publisher.user_id in levels
        }
        served.rooms.hear(by_source)


async def test_subscribe_moves_the_picture_and_says_so_without_an_offer() -> None:
    async with site(**ROOMS) as served:
        for name in ("ada", "grace", "edsger"):
            await served.published(name)
        watcher = await watching(served)
        served.connections.by_user["watcher"].offer()
        offer = await watcher.hear("offer")
        shown = {mid: track for mid, track in offer["data"]["tracks"].items() if track["kind"] == "video"}
        [(mid, track)] = shown.items()
        assert track["user_id"] == "ada"
        needed = served.connections.by_user["watcher"].offers_needed
        await watcher.say("subscribe", {"participants": ["grace"]}, id=1)
        slots = await watcher.hear("slots")
        assert slots["data"] == {
            "slots": {
                mid: {
                    "user_id": "grace",
                    "track": tracks_of(watcher, "grace")[0],
                    "kind": "video",
                    "source": "camera",
                }
            }
        }
        await watcher.say("subscribe", {"tracks": tracks_of(watcher, "edsger")})
        assert (await watcher.hear("slots"))["data"]["slots"][mid]["user_id"] == "edsger"
        assert pictures(served) == ["edsger"]
        assert served.connections.by_user["watcher"].offers_needed == needed
        assert not [message for message in await watcher.hear_all() if message["type"] != "pong"]


async def test_unsubscribe_frees_the_slot_for_others_until_subscribe() -> None:
    async with site(**ROOMS) as served:
        await served.published("ada")
        watcher = await watching(served)
        await watcher.say("unsubscribe", {"participants": ["ada"]})
        await watcher.hear_all()
        assert served.connections.by_user["watcher"].playing == {}
        await served.published("grace")
        assert pictures(served) == ["grace"]
        await watcher.say("subscribe", {"participants": ["ada"]})
        await watcher.hear_all()
        assert pictures(served) == ["ada"]
        await watcher.say("unsubscribe", {"tracks": tracks_of(watcher, "ada")})
        assert (await watcher.hear("slots"))["data"]["slots"] != {}
        assert pictures(served) == ["grace"]


async def test_a_shared_slot_that_nobody_needs_plays_nothing() -> None:
    async with site(**ROOMS) as served:
        await served.published("ada")
        await served.published("grace")
        watcher = await watching(served)
        await watcher.say("unsubscribe", {"participants": ["grace"]})
        await watcher.say("unsubscribe", {"participants": ["ada"]})
        assert list((await watcher.hear("slots"))["data"]["slots"].values()) == [None]


@pytest.mark.parametrize("type", ["subscribe", "unsubscribe"])
async def test_ids_that_nobody_has_are_named_under_the_id_of_the_message(type: str) -> None:
    async with site(**ROOMS) as served:
        await served.published("ada")
        watcher = await watching(served)
        for data, code in (
            ({"participants": ["ada", "nobody"]}, "PARTICIPANT_NOT_FOUND"),
            ({"tracks": ["TR_nobody"]}, "TRACK_NOT_FOUND"),
            ({}, "BAD_MESSAGE"),
        ):
            await watcher.say(type, data, id=code)
            error = await watcher.hear("error")
            assert (error["id"], error["data"]["code"]) == (code, code)
        assert pictures(served) == ["ada"]


async def test_a_client_that_asks_for_fewer_slots_is_told_what_it_gets() -> None:
    async with site(rooms={"video_slots": 3, "audio_slots": 2}) as served:
        for name in ("ada", "grace", "edsger"):
            await served.published(name)
        watcher = await served.connect()
        ack = await watcher.join("watcher", slots={"video": 0, "audio": 9})
        assert ack["data"]["slots"] == {"video": 0, "audio": 2}
        await watcher.say("offer", {"sdp": "take"})
        await watcher.hear("answer")
        kinds = [kind for _, kind, *_ in served.connections.by_user["watcher"].playing.values()]
        assert kinds == [Kind.AUDIO] * 2


async def test_wishes_are_kept_while_a_client_is_away() -> None:
    async with site(**ROOMS) as served:
        for name in ("ada", "grace", "edsger"):
            await served.published(name)
        watcher = await watching(served)
        await watcher.say("subscribe", {"participants": ["edsger"]})
        await watcher.hear("slots")
        await cut(served, watcher, "watcher")
        speak(served, grace=10)
        back = await served.connect()
        await back.say("join", claim(watcher))
        assert (await back.hear("join"))["data"]["slots"]["video"] == 1
        assert pictures(served) == ["edsger"]
        await back.say("offer", {"sdp": "peer new\ntake"})
        await back.hear("answer")
        assert pictures(served) == ["edsger"]


async def test_everybody_hears_who_speaks_and_sees_them_and_it_is_said_once() -> None:
    async with site(**ROOMS) as served:
        ada = await served.published("ada")
        grace = await served.published("grace")
        watcher = await watching(served)
        await ada.hear_all()
        await watcher.hear_all()
        speak(served, grace=12)
        for client in (ada, grace, watcher):
            assert (await client.hear("speakers"))["data"] == {
                "speakers": [{"user_id": "grace", "level": 0.251}]
            }
        assert [slot["user_id"] for slot in (await watcher.hear("slots"))["data"]["slots"].values()] == [
            "grace"
        ]
        speak(served, grace=12)
        assert await ada.hear_all() == []
        late = await served.connect()
        await late.join("late")
        assert (await late.hear("speakers"))["data"]["speakers"][0]["user_id"] == "grace"
        for _ in range(3):
            speak(served)
        assert (await ada.hear("speakers"))["data"] == {"speakers": []}


async def test_who_speaks_in_another_room_is_not_heard_of() -> None:
    async with site() as served:
        await served.published("ada", "elsewhere")
        grace = await served.published("grace")
        speak(served, ada=10)
        assert not [message for message in await grace.hear_all() if message["type"] == "speakers"]


async def test_who_comes_back_is_told_who_speaks_by_then() -> None:
    async with site() as served:
        await served.published("ada")
        grace = await served.published("grace")
        speak(served, ada=12)
        await grace.hear("speakers")
        await cut(served, grace, "grace")
        for _ in range(3):
            speak(served)
        back = await served.connect()
        await back.say("join", claim(grace))
        await back.hear("join")
        heard: list[dict[str, Any]] = await back.hear_all()
        assert [message["data"] for message in heard if message["type"] == "speakers"] == [{"speakers": []}]


async def test_a_codec_that_a_client_cannot_decode_is_told_with_the_track() -> None:
    async with site() as served:
        ada = await served.published("ada")
        watcher = await watching(served)
        await watcher.hear_all()
        served.connections.by_user["watcher"].decodes = frozenset({1})
        participant = served.rooms.enter("room").participants["ada"]
        participant.on_codec("1", 2)
        [track] = tracks_of(ada, "ada")
        error = (await watcher.hear("error"))["data"]
        assert error.pop("message")
        assert error == {"code": "UNSUPPORTED_MEDIA", "track": track, "user_id": "ada"}
        assert pictures(served) == []
        await watcher.say("offer", {"sdp": "take"})
        assert [message["type"] for message in await watcher.hear_all()] == ["answer"]
        participant.on_codec("1", 1)
        assert pictures(served) == ["ada"]


async def test_a_slow_reader_gets_the_newest_speakers_only() -> None:
    async with site() as served:
        await served.published("ada")
        grace = await served.published("grace")
        await grace.hear_all()
        # All in one turn of the loop, in which nothing is written.
        speak(served, ada=12)
        served.rooms.enter("room").participants["ada"].send("between", None)
        speak(served, ada=12, grace=12)
        for _ in range(3):
            speak(served)
        heard = await grace.hear_all()
        assert [message["data"] for message in heard] == [{"speakers": []}, {"payload": "between"}]
        speak(served, grace=12)
        assert (await grace.hear("speakers"))["data"]["speakers"][0]["user_id"] == "grace"
        assert [message["seq"] for message in grace.heard] == list(range(1, len(grace.heard) + 1))
