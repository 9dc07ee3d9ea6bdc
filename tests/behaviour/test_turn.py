"""What a join hands out for STUN and TURN."""

import time
from typing import Any

from kaamos.signaling.turn import credential
from tests.support.signaling_client import site

STUN, TURN = "stun:stun.example.org", "turn:turn.example.org:3478?transport=udp"
SECRET = "a secret that two servers share"
ICE = {"servers": [{"urls": [STUN, TURN]}], "turn_secret": SECRET, "turn_ttl_s": 600}


def turn_of(joined: dict[str, Any]) -> tuple[int, str]:
    """Return until when its TURN credentials are good, and for whom; they are checked."""
    stun, turn = joined["data"]["ice_servers"]
    assert stun == {"urls": [STUN]} and turn["urls"] == [TURN]
    assert turn["credential"] == credential(SECRET, turn["username"])
    expires_at, name = turn["username"].split(":")
    return int(expires_at), name


async def test_each_join_brings_credentials_of_its_own() -> None:
    async with site(ice=ICE) as served:
        before = int(time.time())
        ada = await (await served.connect()).join("ada")
        grace = await (await served.connect()).join("grace")
        for joined in (ada, grace):
            assert before + 600 <= turn_of(joined)[0] <= time.time() + 600
        assert turn_of(ada)[1] != turn_of(grace)[1]
        assert "ada" not in turn_of(ada)[1], "the TURN server need not know who calls"


async def test_who_comes_back_gets_fresh_ones() -> None:
    async with site(ice=ICE) as served:
        client = await served.connect()
        first = await client.join("ada")
        await client.ws.close(code=4999)
        ticket = {"session": first["data"]["session"], "token": first["data"]["resume_token"], "last_seq": 1}
        again = await (await served.connect()).join(resume=ticket)
        assert again["data"]["resumed"] is True and turn_of(again)[1] != turn_of(first)[1]


async def test_without_servers_the_list_is_empty() -> None:
    async with site() as served:
        assert (await (await served.connect()).join("ada"))["data"]["ice_servers"] == []
