"""A client whose socket broke comes back as the same participant, and nobody else can."""

import asyncio
from typing import Any

import pytest

from kaamos.signaling import presence
from kaamos.signaling.mailbox import MAX_KEPT
from tests.support.signaling_client import Client, Site, site, until


async def cut(served: Site, client: Client, user_id: str) -> None:
    """Cut the client's line, and wait until the server knows."""
    client.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await until(lambda: served.connections.by_user[user_id].is_suspended)


def claim(client: Client, **changes: object) -> dict[str, Any]:
    """Return the join of a client that heard all that this one heard."""
    ack = next(message["data"] for message in client.heard if message["type"] == "join")
    last = client.heard[-1]["seq"]
    return {"resume": {"session": ack["session"], "token": ack["resume_token"], "last_seq": last, **changes}}


async def test_who_comes_back_has_missed_nothing_and_was_not_missed() -> None:
    async with site() as served:
        ada, grace = await served.published("ada"), await served.published("grace")
        await ada.hear_all()
        await grace.hear_all()
        connection = served.connections.by_user["grace"]
        played = dict(connection.playing)
        await cut(served, grace, "grace")
        for text in ("one", "two"):
            await ada.say("message", {"payload": text})
        await ada.hear_all()
        back = await served.connect()
        await back.say("join", claim(grace), id="again")
        ack = await back.next()
        assert (ack["type"], ack["id"], ack["seq"]) == ("join", "again", grace.heard[-1]["seq"] + 1)
        assert (ack["data"]["user_id"], ack["data"]["resumed"]) == ("grace", True)
        heard = [ack, *await back.hear_all()]
        assert [m["data"]["payload"] for m in heard if m["type"] == "message"] == ["one", "two"]
        assert heard[-1]["data"]["count"] == 2
        assert [m["seq"] for m in heard] == list(range(ack["seq"], ack["seq"] + len(heard)))
        assert await ada.hear_all() == []
        assert served.connections.by_user["grace"] is connection
        assert (connection.playing, connection.is_suspended) == (played, False)


async def test_offers_are_not_said_again_and_the_one_that_was_out_no_longer_stands() -> None:
    async with site() as served:
        ada = await served.published("ada")
        await ada.hear_all()
        last = ada.heard[-1]["seq"]
        served.connections.by_user["ada"].offer()
        offer = await ada.hear("offer")
        await cut(served, ada, "ada")
        back = await served.connect()
        await back.say("join", claim(ada, last_seq=last))
        assert "offer" not in [message["type"] for message in await back.hear_all()]
        await back.say("answer", {"sdp": "send audio 0"}, id=offer["id"])
        assert await back.error() == "STALE_NEGOTIATION"
        served.connections.by_user["ada"].offer()
        assert (await back.hear("offer"))["id"] != offer["id"]


async def test_a_socket_whose_end_nobody_noticed_is_replaced() -> None:
    async with site() as served:
        ada = await served.published("ada")
        await ada.hear_all()
        back = await served.connect()
        await back.say("join", claim(ada))
        await back.hear("join")
        assert await ada.closed() == 4009
        await back.say("leave")
        assert await back.closed() == 1000


async def test_a_client_that_used_old_forms_is_remembered_by_them() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        await ada.say("offer", sdp="send audio 0")
        await ada.hear("answer")
        await ada.hear_all()
        await cut(served, ada, "ada")
        back = await served.connect()
        await back.say("join", claim(ada))
        await back.hear("participants")
        served.connections.by_user["ada"].offer()
        assert "sdp" in await back.hear("offer")


@pytest.mark.parametrize(
    ("room", "changes"),
    [
        ("room", {"token": "wrong"}),
        ("room", {"session": "SE_0"}),
        ("room", {"last_seq": 10_000}),
        ("elsewhere", {}),
    ],
)
async def test_what_proves_nothing_is_refused_and_a_plain_join_may_follow(
    room: str, changes: dict[str, object]
) -> None:
    async with site() as served:
        ada = await served.published("ada")
        await ada.hear_all()
        await cut(served, ada, "ada")
        back = await served.connect(room)
        await back.say("join", claim(ada, **changes), id=7)
        error = await back.hear("error")
        assert (error["data"]["code"], error["id"]) == ("RESUME_FAILED", 7)
        await back.say("ping")
        assert await back.error() == "NOT_JOINED"
        assert (await back.join("grace"))["data"]["resumed"] is False


async def test_who_missed_too_much_joins_anew_under_the_same_id() -> None:
    async with site(limits={"messages_per_second": 0}) as served:
        ada, grace = await served.joined("ada"), await served.published("grace")
        await grace.hear_all()
        await cut(served, grace, "grace")
        for n in range(MAX_KEPT + 1):
            await ada.say("message", {"payload": n})
        await ada.hear_all()
        back = await served.connect()
        await back.say("join", claim(grace))
        assert await back.error() == "RESUME_FAILED"
        assert (await back.join("grace"))["data"]["user_id"] == "grace"
        types = [message["type"] for message in await ada.hear_all()]
        assert types.count("participant-left") == types.count("participant-joined") == 1


async def test_a_page_loaded_anew_is_the_same_participant_with_a_new_connection() -> None:
    async with site() as served:
        ada, grace = await served.published("ada"), await served.published("grace")
        old = served.connections.by_user["grace"]
        await ada.hear_all()
        await grace.hear_all()
        await grace.ws.close(code=1001)
        await until(lambda: old.is_suspended)
        back = await served.connect()
        await back.say("join", claim(grace))
        await back.hear("participants")
        await back.say("offer", {"sdp": "peer new\nsend audio 0"})
        await back.hear("answer")
        assert [m["type"] for m in await back.hear_all()].count("ice-candidate") == 2
        new = served.connections.by_user["grace"]
        assert new is not old
        await until(lambda: old.is_closed)
        assert len(new.playing) == 2
        assert [played[1] for played in served.connections.by_user["ada"].playing.values()] == ["audio"]
        assert {message["type"] for message in await ada.hear_all()} == {"participants"}


# Who does not come back.


async def test_a_lost_socket_with_living_media_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SILENT_MEDIA_S", 0.0)
    async with site(rooms={"resume_s": 0.2}) as served:
        ada, grace = await served.joined("ada"), await served.published("grace")
        served.connections.by_user["grace"].last_received = asyncio.get_running_loop().time() + 60
        lost_at = asyncio.get_running_loop().time()
        await cut(served, grace, "grace")
        assert (await ada.hear("participant-left"))["data"]["reason"] == "disconnected"
        assert asyncio.get_running_loop().time() - lost_at >= 0.2


@pytest.mark.parametrize("has_packets", [True, False])
async def test_a_lost_socket_with_silent_media_is_not(
    monkeypatch: pytest.MonkeyPatch, has_packets: bool
) -> None:
    monkeypatch.setattr(presence, "SILENT_MEDIA_S", 0.1)
    async with site(rooms={"resume_s": 3600}) as served:
        ada, grace = await served.joined("ada"), await served.published("grace")
        if has_packets:
            served.connections.by_user["grace"].last_received = asyncio.get_running_loop().time()
        await cut(served, grace, "grace")
        assert (await ada.hear("participant-left"))["data"]["user_id"] == "grace"
        back = await served.connect()
        await back.say("join", claim(grace))
        assert await back.error() == "RESUME_FAILED"


async def test_a_stop_waits_for_nobody_to_come_back() -> None:
    async with site() as served:
        ada = await served.published("ada")
        await cut(served, ada, "ada")
        await served.http.stop()
        room = served.rooms.find("room")
        assert room is not None
        assert not room.participants


# The same id twice.


async def test_a_bare_id_replaces_nobody_who_answers() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        answering = asyncio.create_task(ada.hear("message"))  # and pings, meanwhile
        other = await served.connect()
        await other.say("join", {"user_id": "ada"})
        await other.say("ping")
        assert await other.error() == "DUPLICATE_IDENTITY"
        assert await other.error() == "NOT_JOINED"
        grace = await served.joined("grace")
        await grace.say("message", {"payload": "still there?"})
        await answering


async def test_a_bare_id_replaces_who_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "CLAIM_S", 0.1)
    async with site() as served:
        ada = await served.joined("ada")  # reads nothing from here on, so it answers no ping
        other = await served.connect()
        await other.say("join", {"user_id": "ada"})
        await other.say("offer", {"sdp": "send audio 0"})
        assert (await other.hear("join"))["data"]["resumed"] is False
        await other.hear("answer")
        assert await ada.closed() == 4009


async def test_a_bare_id_replaces_who_is_away_and_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "CLAIM_S", 0.1)
    async with site() as served:
        ada = await served.published("ada")
        await ada.hear_all()
        await cut(served, ada, "ada")
        other = await served.connect()
        await other.join("ada")
        back = await served.connect()
        await back.say("join", claim(ada))
        assert await back.error() == "RESUME_FAILED"


async def test_who_comes_back_in_time_keeps_the_id() -> None:
    async with site() as served:
        ada = await served.published("ada")
        await ada.hear_all()
        await cut(served, ada, "ada")
        other = await served.connect()
        await other.say("join", {"user_id": "ada"})
        back = await served.connect()
        await back.say("join", claim(ada))
        await back.hear("participants")
        assert await other.error() == "DUPLICATE_IDENTITY"
