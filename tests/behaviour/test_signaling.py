"""Clients meet in a room over WebSockets: who hears what, and what happens to those who misbehave."""

from tests.support.signaling_client import site


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
