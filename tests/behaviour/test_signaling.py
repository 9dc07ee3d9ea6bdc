"""Clients meet in a room over WebSockets: who hears what, and what happens to those who misbehave."""

import asyncio
import json
import logging
from random import Random

import aiohttp
import pytest

from kaamos.room.participant import Participant
from kaamos.signaling import app, outbox
from tests.support.signaling_client import PATIENCE_S, site, until

CANDIDATE = "candidate:1 1 UDP 2122252543 192.168.1.5 54321 typ host"

KEEP_NOBODY: dict[str, object] = {"resume_s": 0}

UPGRADE = (
    b"GET /ws/room HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_two_clients_join_and_see_each_other() -> None:
    async with site() as served:
        ada = await served.connect()
        acknowledgement = await ada.join("ada", name="Ada")
        assert acknowledgement["data"]["user_id"] == "ada"
        assert acknowledgement["data"]["role"] == "host"
        assert (await ada.hear("participants"))["data"]["count"] == 1

        grace = await served.connect()
        assert (await grace.join("grace"))["data"]["role"] == "guest"
        people = (await grace.hear("participants"))["data"]
        assert [person["user_id"] for person in people["participants"]] == ["ada", "grace"]
        assert people["host"]["name"] == "Ada"
        assert list(people["guests"]) == ["grace"]

        joined = (await ada.hear("participant-joined"))["data"]
        assert (joined["user_id"], joined["id"], joined["tracks"]) == ("grace", "grace", [])


async def test_an_offer_is_answered_under_its_id_and_our_candidates_follow_once() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        await ada.say("offer", {"sdp": "send audio 0"}, id="c-1")
        answer = await ada.hear("answer")
        assert answer["id"] == "c-1"
        assert answer["data"]["sdp"] == "answer to send audio 0"
        assert answer["data"]["type"] == "answer"
        own = answer["data"]["tracks"]["0"]
        assert (own["user_id"], own["kind"], own["source"]) == ("ada", "audio", "microphone")
        heard = await ada.hear_all()
        assert [message["type"] for message in heard].count("ice-candidate") == 2

        await ada.say("offer", {"sdp": "send audio 0"}, id="c-2")
        assert (await ada.hear("answer"))["id"] == "c-2"
        assert [message["type"] for message in await ada.hear_all()] == []


async def test_every_message_of_the_server_is_numbered_one_after_another() -> None:
    async with site() as served:
        ada = await served.connect()
        await ada.say("ping")
        await ada.error()
        await ada.join("ada")
        grace = await served.published("grace")
        await served.joined("edsger")
        await grace.say("message", {"payload": "hello"})
        await ada.hear("message")
        for client in (ada, grace):
            await client.hear_all()
            assert [message["seq"] for message in client.heard] == list(range(1, len(client.heard) + 1))


# Forms of the original clients.


async def test_a_client_of_the_original_sample_page_is_understood_and_understands() -> None:
    async with site() as served:
        page = await served.connect("r1")
        await page.say("join", room_id="r1")
        await page.say("offer", sdp="send audio 0\nsend video 1")
        candidate = {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0}
        await page.say("ice-candidate", candidate=candidate)
        answer = await page.hear("answer")
        assert answer["sdp"] == answer["data"]["sdp"]
        assert set((await page.hear("ice-candidate"))["candidate"]) == {
            "candidate",
            "sdpMid",
            "sdpMLineIndex",
        }
        await served.published("ada", "r1")
        [connection] = [c for user, c in served.connections.by_user.items() if user != "ada"]
        connection.offer()
        offer = await page.hear("offer")
        assert offer["sdp"].startswith("offer of")
        await page.say("answer", sdp="send audio 0\nsend video 1")
        assert "error" not in [message["type"] for message in await page.hear_all()]


async def test_a_client_of_the_original_code_is_understood_and_understands() -> None:
    async with site() as served:
        host = await served.joined("ada")
        guest = await served.connect()
        await guest.say("join", {"user_id": 42, "name": "Grace", "role": "guest"}, room_id="room")
        assert (await guest.hear("allow"))["data"] == {"user_id": "42"}
        await guest.say("ice_candidate", {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0})
        await guest.say("offer", {"type": "offer", "sdp": "send audio 0"})
        await guest.hear("answer")
        first = await guest.hear("ice_candidate")
        assert "candidate" not in first
        assert first["data"]["sdpMid"] == "0"
        await guest.ws.close()
        left = await host.hear("leave")
        assert left["from"] == "42"


async def test_a_room_id_in_the_join_is_that_of_the_path_or_none() -> None:
    async with site() as served:
        client = await served.connect("one")
        await client.say("join", {"room_id": "two"}, id=1)
        error = await client.hear("error")
        assert (error["data"]["code"], error["id"]) == ("BAD_MESSAGE", 1)
        await client.say("join", {"room_id": "one"})
        assert (await client.hear("join"))["data"]["room_id"] == "one"


# Tracks.


async def test_everybody_learns_of_tracks_by_the_list_and_by_the_offers_that_carry_them() -> None:
    async with site() as served:
        ada = await served.published("ada")
        grace = await served.published("grace")
        people = (await ada.hear("participants"))["data"]["participants"]
        while not people[-1]["tracks"]:
            people = (await ada.hear("participants"))["data"]["participants"]
        assert [track["kind"] for track in people[1]["tracks"]] == ["audio", "video"]
        served.connections.by_user["ada"].offer()
        tracks = (await ada.hear("offer"))["data"]["tracks"]
        assert {(entry["user_id"], entry["source"]) for entry in tracks.values()} == {
            ("ada", "microphone"),
            ("ada", "camera"),
            ("grace", "microphone"),
            ("grace", "camera"),
        }
        named = {entry["track"] for entry in tracks.values() if entry["user_id"] == "grace"}
        assert named == {track["track"] for track in people[1]["tracks"]}
        await grace.ws.close()
        await ada.hear("participant-left")
        assert served.connections.by_user["ada"].playing == {}


async def test_what_a_client_shares_is_named_as_it_says() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        hints = {"0": {"source": "screen_share"}}
        await ada.say("offer", {"sdp": "send video 0", "tracks": hints})
        assert (await ada.hear("answer"))["data"]["tracks"]["0"]["source"] == "screen_share"


async def test_an_answer_to_an_offer_that_no_longer_stands_is_refused() -> None:
    async with site() as served:
        ada = await served.published("ada")
        served.connections.by_user["ada"].offer()
        id = (await ada.hear("offer"))["id"]
        await ada.say("answer", {"sdp": "v=0"}, id="another")
        assert await ada.error() == "STALE_NEGOTIATION"
        await ada.say("answer", {"sdp": "send audio 0"}, id=id)
        await ada.say("answer", {"sdp": "send audio 0"}, id=id)
        assert await ada.error() == "STALE_NEGOTIATION"


async def test_crossing_offers_and_text_that_is_no_sdp_are_named() -> None:
    async with site() as served:
        ada = await served.published("ada")
        await ada.say("offer", {"sdp": "bad"}, id="c-9")
        error = await ada.hear("error")
        assert (error["data"]["code"], error["id"]) == ("INVALID_SDP", "c-9")
        served.connections.by_user["ada"].offer()
        await ada.say("offer", {"sdp": "send audio 0"})
        assert await ada.error() == "GLARE"


# Messages and mutes.


async def test_chat_reaches_all_others_or_one_and_says_from_whom_and_when() -> None:
    async with site() as served:
        ada, grace, edsger = [await served.joined(name) for name in ("ada", "grace", "edsger")]
        await ada.say("message", {"payload": {"text": "hello"}}, **{"from": "mallory", "timestamp": "never"})
        for client in (grace, edsger):
            message = await client.hear("message")
            assert (message["from"], message["data"]) == ("ada", {"payload": {"text": "hello"}})
            assert message["timestamp"].endswith("Z")
        await ada.say("message", {"to": "edsger", "payload": "psst"})
        assert (await edsger.hear("message"))["data"] == {"to": "edsger", "payload": "psst"}
        assert "message" not in [heard["type"] for heard in await grace.hear_all() + await ada.hear_all()]
        await ada.say("message", {"to": "nobody", "payload": 1}, id="m")
        error = await ada.hear("error")
        assert (error["data"]["code"], error["id"]) == ("PARTICIPANT_NOT_FOUND", "m")


async def test_a_mute_takes_the_track_id_of_the_answer_and_all_are_told() -> None:
    async with site() as served:
        ada = await served.published("ada")
        grace = await served.published("grace")
        track = ada.heard[-1]["data"]["tracks"]["0"]["track"]
        await ada.say("mute", {"track": track, "muted": True})
        for client in (ada, grace):
            told = (await client.hear("mute"))["data"]
            assert told == {"user_id": "ada", "track": track, "muted": True}
        await grace.say("mute", {"track": track, "muted": False})
        assert await grace.error() == "FORBIDDEN"
        await grace.say("mute", {"track": "TR_0", "muted": False})
        assert await grace.error() == "TRACK_NOT_FOUND"
        edsger = await served.connect()
        await edsger.join("edsger")
        host = (await edsger.hear("participants"))["data"]["host"]
        assert [entry["muted"] for entry in host["tracks"]] == [True, False]


# Coming and going.


async def test_a_second_join_is_refused_and_changes_nothing() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        await ada.say("join", {"user_id": "eve"}, id="again")
        error = await ada.hear("error")
        assert (error["data"]["code"], error["id"]) == ("ALREADY_JOINED", "again")
        room = served.rooms.find("room")
        assert room is not None
        assert list(room.participants) == ["ada"]


async def test_an_id_that_somebody_has_is_refused_and_another_may_follow() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        answering = asyncio.create_task(ada.hear("participant-joined"))  # and pings, meanwhile
        other = await served.connect()
        await other.say("join", {"user_id": "ada"})
        assert await other.error() == "DUPLICATE_IDENTITY"
        await other.join("grace")
        assert (await answering)["data"]["user_id"] == "grace"


async def test_who_says_leave_is_gone_and_its_socket_is_closed_in_order() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        grace = await served.joined("grace")
        await grace.say("leave")
        assert (await ada.hear("participant-left"))["data"] == {"user_id": "grace", "reason": "left"}
        assert await grace.closed() == 1000


@pytest.mark.parametrize(("code", "reason"), [(1000, "left"), (1001, "disconnected"), (4999, "disconnected")])
async def test_who_closes_its_socket_is_gone_at_once_where_nobody_is_kept(code: int, reason: str) -> None:
    async with site(rooms=KEEP_NOBODY) as served:
        ada = await served.joined("ada")
        grace = await served.published("grace")
        await grace.ws.close(code=code)
        assert (await ada.hear("participant-left"))["data"] == {"user_id": "grace", "reason": reason}
        await until(lambda: served.connections.by_user["grace"].is_closed)


async def test_who_is_cut_off_is_gone_at_once_where_nobody_is_kept_and_a_guest_becomes_host() -> None:
    async with site(rooms=KEEP_NOBODY) as served:
        ada = await served.joined("ada")
        grace = await served.joined("grace")
        transport = ada.ws.get_extra_info("socket")
        assert transport is not None
        ada.ws._response.connection.transport.abort()  # type: ignore[union-attr]
        assert (await grace.hear("participant-left"))["data"]["reason"] == "disconnected"
        assert (await grace.hear("participants"))["data"]["host"]["user_id"] == "grace"


async def test_a_lost_media_connection_removes_its_participant() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        grace = await served.published("grace")
        served.connections.by_user["grace"].events.on_closed("no consent")
        assert (await ada.hear("participant-left"))["data"] == {
            "user_id": "grace",
            "reason": "connection_lost",
        }
        error = await grace.hear("error")
        assert error["data"] == {"code": "INTERNAL", "message": "media connection lost: no consent"}
        assert await grace.closed() == 1011


async def test_a_socket_that_does_not_join_in_time_is_closed() -> None:
    async with site(limits={"join_timeout_s": 0.05}) as served:
        client = await served.connect()
        assert await client.closed() == 4008


async def test_nothing_is_heard_before_a_join() -> None:
    async with site() as served:
        client = await served.connect()
        for type in ("ping", "leave", "offer", "answer", "ice-candidate"):
            await client.say(type, {"sdp": "v=0"})
            assert await client.error() == "NOT_JOINED"
        await client.join("ada")


async def test_a_full_server_makes_no_further_room_for_a_join() -> None:
    async with site(rooms={"max_rooms": 1}) as served:
        await served.joined("ada", "one")
        other = await served.connect("two")
        await other.say("join", {})
        assert await other.error() == "RATE_LIMITED"


# Bad input.


async def test_wrong_frames_give_errors_and_the_connection_stays() -> None:
    async with site() as served:
        ada = await served.joined("ada")
        for frame, code in [
            ("", "BAD_MESSAGE"),
            ("nonsense", "BAD_MESSAGE"),
            ("[" * 5000, "BAD_MESSAGE"),
            ('{"type": "dance"}', "UNKNOWN_TYPE"),
            ('{"type": "offer"}', "BAD_MESSAGE"),
            ('{"type": "ice-candidate", "candidate": "nonsense"}', "INVALID_CANDIDATE"),
        ]:
            await ada.ws.send_str(frame)
            assert await ada.error() == code
        await ada.ws.send_bytes(b'{"type": "ping"}')
        assert await ada.error() == "BAD_MESSAGE"
        await ada.ws.send_frame(b'{"type": "ping", "x": "\xff"}', aiohttp.WSMsgType.TEXT)
        assert await ada.error() == "BAD_MESSAGE"
        await ada.say("ping", id=5)
        assert (await ada.hear("pong"))["id"] == 5


def any_json(random: Random, depth: int = 0) -> object:
    """Return JSON of any shape, with names that the protocol knows among others."""
    words = [
        "type",
        "data",
        "id",
        "sdp",
        "candidate",
        "user_id",
        "tracks",
        "join",
        "offer",
        "answer",
        "ping",
        "0",
    ]
    kind = random.randrange(9 if depth < 4 else 6)
    if kind < 3:
        return random.choice(words)
    if kind < 6:
        return random.choice([None, True, -1, 1.5, 2**70, "", "\u0000", "💫", [], {}])
    if kind == 6:
        return [any_json(random, depth + 1) for _ in range(random.randrange(4))]
    return {random.choice(words): any_json(random, depth + 1) for _ in range(random.randrange(5))}


async def test_json_of_any_shape_hurts_neither_its_sender_nor_the_others() -> None:
    random = Random(8)
    async with site(limits={"messages_per_second": 0}) as served:
        grace = await served.joined("grace")
        ada = await served.joined("ada")
        for _ in range(100):
            for _ in range(5):
                name = random.choice(["join", "offer", "answer", "ice-candidate", "ping", any_json(random)])
                frame = (
                    any_json(random) if random.randrange(3) == 0 else {"type": name, "data": any_json(random)}
                )
                await ada.ws.send_str(json.dumps(frame))
            await ada.hear_all()
        types = {message["type"] for message in await grace.hear_all()}
        assert types <= {"participant-joined", "participants"}


async def test_no_log_at_info_holds_descriptions_or_addresses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site() as served:
        ada = await served.joined("ada")
        await ada.say("ice-candidate", {"candidate": CANDIDATE})
        await ada.say("offer", {"sdp": "send audio 0\na=ice-pwd:secret"})
        await ada.hear("answer")
        await ada.say("offer", {"sdp": "bad a=ice-pwd:secret"})
        await ada.error()
        await ada.ws.send_str("a=ice-pwd:secret")
        await ada.error()
    assert "joined as host" in caplog.text
    assert "participant" in vars(next(r for r in caplog.records if "joined" in r.getMessage()))
    for secret in ("secret", "192.168.1.5", "192.0.2.1", "127.0.0.1"):
        assert secret not in caplog.text


async def test_a_large_message_passes_and_a_larger_one_is_refused_by_name() -> None:
    async with site(limits={"message_bytes": 1000}) as served:
        ada = await served.joined("ada")
        message = '{"type": "ping", "data": {"x": "%s"}}'
        room = 1000 - len(message % "")
        await ada.ws.send_str(message % ("x" * room))
        await ada.hear("pong")
        await ada.ws.send_str(message % ("x" * (room + 1)))
        assert await ada.error() == "MESSAGE_TOO_LARGE"
        assert await ada.closed() == 1009


async def test_a_huge_message_is_not_read() -> None:
    async with site(limits={"message_bytes": 1000}, rooms=KEEP_NOBODY) as served:
        grace = await served.joined("grace")
        ada = await served.joined("ada")
        await ada.ws.send_str("x" * 100_000)
        assert await ada.closed() == 1009
        await grace.hear("participant-left")


async def test_a_flood_is_refused_then_closed_and_the_others_do_not_notice() -> None:
    async with site(rooms=KEEP_NOBODY) as served:
        grace = await served.joined("grace")
        ada = await served.joined("ada")
        for _ in range(400):
            await ada.ws.send_str('{"type": "ping"}')
        assert await ada.closed() == 4029
        types = [message["type"] for message in ada.heard]
        assert "pong" in types
        assert "RATE_LIMITED" in [message["data"].get("code") for message in ada.heard]
        await grace.hear("participant-left")
        await grace.say("ping")
        await grace.hear("pong")


async def test_a_burst_throws_out_nobody_who_reads() -> None:
    """Hundreds leave at once: no writer runs before all of that is queued."""
    async with site(rooms=KEEP_NOBODY) as served:
        ada = await served.joined("ada")
        room = served.rooms.find("room")
        assert room is not None
        for n in range(2000):
            room.participants["ada"].on_offer(f"{n}" + "x" * 10_000)
        for n in range(2000):
            assert (await ada.hear("offer"))["data"]["sdp"].rstrip("x") == str(n)
        await ada.say("ping")
        await ada.hear("pong")


async def test_a_reader_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CLOSE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(outbox, "BURST_GRACE_S", 0.1)
    async with site(rooms=KEEP_NOBODY) as served:
        grace = await served.joined("grace")
        _, writer = await asyncio.open_connection("127.0.0.1", served.http.port, limit=1)
        writer.write(UPGRADE)
        join = b'{"type":"join","user_id":"ada"}'
        writer.write(bytes([0x81, 0x80 | len(join), 0, 0, 0, 0]) + join)
        await grace.hear("participant-joined")
        room = served.rooms.find("room")
        assert room is not None
        for n in range(400):
            room.participants["ada"].on_offer(f"{n}" + "x" * 100_000)
            if "ada" not in room.participants:
                break
        assert (await grace.hear("participant-left"))["data"]["user_id"] == "ada"
        writer.close()


async def test_a_failure_of_ours_closes_one_socket_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(rooms=KEEP_NOBODY) as served:
        grace = await served.joined("grace")
        ada = await served.joined("ada")

        def broken(self: Participant, *args: object) -> None:
            raise KeyError("secret")

        monkeypatch.setattr(Participant, "receive_offer", broken)
        await ada.say("offer", {"sdp": "send audio 0"})
        assert (await ada.hear("error"))["data"] == {"code": "INTERNAL", "message": "internal error"}
        assert await ada.closed() == 1011
        await grace.hear("participant-left")


async def test_a_client_that_no_longer_answers_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(rooms=KEEP_NOBODY) as served:
        grace = await served.joined("grace")
        monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
        _, writer = await asyncio.open_connection("127.0.0.1", served.http.port)
        writer.write(UPGRADE)
        join = b'{"type":"join","user_id":"ada"}'
        writer.write(bytes([0x81, 0x80 | len(join), 0, 0, 0, 0]) + join)
        await grace.hear("participant-joined")
        assert (await grace.hear("participant-left"))["data"] == {"user_id": "ada", "reason": "disconnected"}
        writer.close()


async def test_a_client_that_only_answers_pings_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    async with site(rooms=KEEP_NOBODY) as served:
        ada = await served.joined("ada")
        listening = asyncio.create_task(ada.hear("message"))
        await asyncio.sleep(0.3)  # six heartbeats: this is how long it must hold
        monkeypatch.undo()
        grace = await served.joined("grace")
        await grace.say("message", {"payload": "still there?"})
        assert (await listening)["from"] == "grace"


async def test_pings_of_a_client_are_answered() -> None:
    async with site() as served:
        ada = await served.session.ws_connect(f"{served.base}/ws/room", autoping=False)
        await ada.ping(b"there?")
        async with asyncio.timeout(PATIENCE_S):
            assert await ada.receive() == (aiohttp.WSMsgType.PONG, b"there?", "")


# Limits per address.


async def test_sockets_that_fail_are_limited_and_those_that_join_are_not() -> None:
    async with site(limits={"ws_per_minute": 2}) as served:
        for n in range(5):
            await served.joined(f"m{n}")
        for _ in range(2):
            client = await served.connect()
            await client.ws.close()
        await until(lambda: not served.http.pending_sockets)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await served.connect()
        assert caught.value.status == 429
        assert caught.value.headers is not None
        assert 0 < int(caught.value.headers["Retry-After"]) <= 31
        served.now += 30
        await served.joined("late")


async def test_sockets_that_wait_to_join_are_bounded() -> None:
    async with site(limits={"ws_per_minute": 2}) as served:
        waiting = [await served.connect() for _ in range(8)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await served.connect()
        assert caught.value.status == 429
        await waiting[0].join("ada")
        await served.connect()


# The end.


async def test_a_stop_tells_everybody_and_closes_their_connections() -> None:
    async with site() as served:
        ada = await served.published("ada")
        silent = await served.connect()
        stop = asyncio.create_task(served.http.stop())
        assert await ada.closed() == 1012
        assert ada.heard[-1]["data"]["code"] == "SERVER_DRAINING"
        assert await silent.closed() == 1012
        await stop
        await served.rooms.close()
        assert served.connections.by_user["ada"].is_closed
        with pytest.raises(aiohttp.ClientConnectorError):
            await served.connect()


async def test_a_stop_does_not_wait_for_who_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CLOSE_TIMEOUT_S", 0.1)
    async with site() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.http.port)
        writer.write(UPGRADE)
        await until(lambda: served.http.pending_sockets > 0)
        async with asyncio.timeout(PATIENCE_S):
            await served.http.stop()
        writer.close()
