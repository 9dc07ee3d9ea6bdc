"""What is asked over plain HTTP, and how it is refused."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from kaamos.room.room import Rooms
from tests.support.signaling_client import PATIENCE_S, Site, site


@pytest.fixture
async def served() -> AsyncIterator[Site]:
    async with site() as running:
        yield running


async def call(served: Site, method: str, path: str, **more: Any) -> tuple[aiohttp.ClientResponse, Any]:
    """Return the response and its JSON, or its text where it is none."""
    async with served.session.request(method, served.base + path, allow_redirects=False, **more) as response:
        is_json = response.content_type in ("application/json", "application/problem+json")
        return response, await (response.json() if is_json else response.text())


async def refused(served: Site, method: str, path: str, **more: Any) -> tuple[int, str]:
    """Return status and code of a request that must fail with a problem document."""
    response, problem = await call(served, method, path, **more)
    assert response.content_type == "application/problem+json"
    assert problem["status"] == response.status
    assert problem["type"] == "about:blank"
    assert problem["title"] and problem["detail"]
    return response.status, problem["code"]


async def test_health_is_ok_and_tells_the_time(served: Site) -> None:
    response, health = await call(served, "GET", "/health")
    assert response.status == 200
    assert health["status"] == "ok"
    time = datetime.strptime(health["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60


@pytest.mark.parametrize(
    "body", [None, b"", b"  ", b"{}", b'{"creator_user_id": 123456789, "metadata": {"a": 1}}']
)
async def test_a_room_is_made_and_found(served: Site, body: bytes | None) -> None:
    response, made = await call(served, "POST", "/api/rooms/create", data=body)
    assert response.status == 200
    assert re.fullmatch(r"[A-Za-z0-9]{10}", made["room_id"])
    assert made["url"] == f"{served.base}/room/{made['room_id']}"
    assert made["expires_at"].endswith("Z")
    response, found = await call(served, "GET", f"/api/rooms/{made['room_id']}")
    assert response.status == 200
    assert (found["room_id"], found["active"], found["participants"]) == (made["room_id"], True, 0)
    assert found["created_at"].endswith("Z")


async def test_a_caller_chooses_the_id_and_size_of_a_room(served: Site) -> None:
    wanted = {"room_id": "abc123xyz", "max_participants": 1, "ttl_s": 60}
    _, made = await call(served, "POST", "/api/rooms/create", json=wanted)
    assert made["room_id"] == "abc123xyz"
    await served.joined("ada", "abc123xyz")
    late = await served.connect("abc123xyz")
    await late.say("join", {"user_id": "grace"})
    assert await late.error() == "ROOM_FULL"
    _, found = await call(served, "GET", "/api/rooms/abc123xyz")
    assert found["participants"] == 1


async def test_an_id_that_is_taken_gives_the_room_that_has_it(served: Site) -> None:
    await call(served, "POST", "/api/rooms/create", json={"room_id": "one", "max_participants": 3})
    response, again = await call(served, "POST", "/api/rooms/create", json={"room_id": "one"})
    assert (response.status, again["room_id"]) == (200, "one")
    room = served.rooms.find("one")
    assert room is not None
    assert room.max_participants == 3


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"1",
        b"\xff",
        b"[" * 50_000,
        b'{"room_id": 1}',
        b'{"max_participants": 0}',
        b'{"ttl_s": -1}',
        b'{"ttl_s": 1e999}',
        b'{"lobby": true}',
        b'{"creator_user_id": {}}',
    ],
)
async def test_a_wrong_body_is_refused(served: Site, body: bytes) -> None:
    assert await refused(served, "POST", "/api/rooms/create", data=body) == (400, "BAD_MESSAGE")


async def test_a_badly_packed_body_is_refused(served: Site) -> None:
    more = {"data": b"zzzz", "headers": {"Content-Encoding": "gzip"}}
    assert await refused(served, "POST", "/api/rooms/create", **more) == (400, "BAD_MESSAGE")


async def test_a_huge_body_is_refused(served: Site) -> None:
    assert await refused(served, "POST", "/api/rooms/create", data=b" " * 70_000) == (
        413,
        "MESSAGE_TOO_LARGE",
    )


@pytest.mark.parametrize("room_id", ["a%20b", "x" * 65, "%C3%A4", "a.b", "%0A", "a%2Fb"])
async def test_a_wrong_room_id_is_refused_everywhere(served: Site, room_id: str) -> None:
    for path in (f"/api/rooms/{room_id}", f"/room/{room_id}", f"/ws/{room_id}"):
        assert await refused(served, "GET", path) == (400, "INVALID_ROOM_ID")
    body = {"room_id": "a b"}
    assert await refused(served, "POST", "/api/rooms/create", json=body) == (400, "INVALID_ROOM_ID")


async def test_an_unknown_room_is_not_found(served: Site) -> None:
    assert await refused(served, "GET", "/api/rooms/nobody") == (404, "ROOM_NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/rooms", "/static/none.js", "/static/../server.py", "/ws"]
)
async def test_an_unknown_path_is_not_found(served: Site, path: str) -> None:
    assert await refused(served, "GET", path) == (404, "NOT_FOUND")


async def test_a_wrong_method_is_refused_with_those_allowed(served: Site) -> None:
    response, problem = await call(served, "DELETE", "/api/rooms/create")
    assert (response.status, problem["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in response.headers["Allow"]


async def test_what_is_no_websocket_is_refused(served: Site) -> None:
    assert await refused(served, "GET", "/ws/room") == (400, "BAD_MESSAGE")


async def test_a_failure_of_ours_is_a_problem_that_tells_nothing(
    served: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Rooms, room_id: str) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Rooms, "find", broken)
    response, problem = await call(served, "GET", "/api/rooms/room", headers={"Accept": "text/html"})
    assert (response.status, problem["code"]) == (500, "INTERNAL")
    assert response.content_type == "application/problem+json"
    assert "secret" not in str(problem)


async def test_what_is_no_http_is_refused_without_markup(served: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http.port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400") or answer.startswith(b"HTTP/1.0 400")
    assert b"<html" not in answer
    assert b"Traceback" not in answer


# Links.


async def test_a_link_is_built_from_the_public_url() -> None:
    async with site(http={"public_url": "https://meet.example.org/calls/"}) as served:
        _, made = await call(served, "POST", "/api/rooms/create", json={"room_id": "one"})
        assert made["url"] == "https://meet.example.org/calls/room/one"


async def test_a_link_is_built_from_the_host_that_was_asked(served: Site) -> None:
    headers = {"Host": "meet.local:81"}
    _, made = await call(served, "POST", "/api/rooms/create", json={"room_id": "one"}, headers=headers)
    assert made["url"] == "http://meet.local:81/room/one"


@pytest.mark.parametrize("host", ["a/b", "evil@host", 'x"y', "a b", "[::1", ""])
async def test_a_host_that_is_none_makes_no_link(served: Site, host: str) -> None:
    status, code = await refused(served, "POST", "/api/rooms/create", headers={"Host": host})
    assert (status, code) == (400, "BAD_MESSAGE")


async def test_a_room_that_does_not_expire_says_so() -> None:
    async with site(rooms={"ttl_s": 0}) as served:
        _, made = await call(served, "POST", "/api/rooms/create")
        assert made["expires_at"] is None


async def test_a_room_is_gone_after_its_time() -> None:
    async with site(rooms={"ttl_s": 60}) as served:
        await call(served, "POST", "/api/rooms/create", json={"room_id": "one"})
        served.now += 60
        assert await refused(served, "GET", "/api/rooms/one") == (404, "ROOM_NOT_FOUND")


async def test_too_many_rooms_are_refused_for_a_while() -> None:
    async with site(rooms={"max_rooms": 1}) as served:
        await call(served, "POST", "/api/rooms/create")
        response, problem = await call(served, "POST", "/api/rooms/create")
        assert (response.status, problem["code"]) == (429, "RATE_LIMITED")
        assert int(response.headers["Retry-After"]) > 0


# The page.


async def test_the_start_page_makes_a_room_and_goes_there(served: Site) -> None:
    response, _ = await call(served, "GET", "/")
    assert response.status == 302
    location = response.headers["Location"]
    assert re.fullmatch(r"/room/[A-Za-z0-9]{10}", location)
    assert served.rooms.find(location.removeprefix("/room/")) is not None
    assert await refused(served, "POST", "/") == (405, "METHOD_NOT_ALLOWED")


async def test_the_page_is_there_with_all_it_loads(served: Site) -> None:
    response, page = await call(served, "GET", "/room/any-room")
    assert (response.status, response.content_type) == (200, "text/html")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    loaded = re.findall(r'(?:href|src)="(/[^"]+)"', page)
    assert loaded
    for path in loaded:
        response, _ = await call(served, "GET", path)
        assert response.status == 200
        assert response.content_type == ("text/css" if path.endswith(".css") else "text/javascript")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


# Limits per address.


async def test_rooms_and_questions_are_limited_per_address_each_by_itself() -> None:
    async with site(limits={"create_per_minute": 2, "info_per_minute": 1}) as served:
        for _ in range(2):
            response, _ = await call(served, "POST", "/api/rooms/create")
            assert response.status == 200
        response, problem = await call(served, "POST", "/api/rooms/create")
        assert (response.status, problem["code"]) == (429, "RATE_LIMITED")
        assert 0 < int(response.headers["Retry-After"]) <= 31
        assert await refused(served, "GET", "/") == (429, "RATE_LIMITED")
        assert await refused(served, "GET", "/api/rooms/nobody") == (404, "ROOM_NOT_FOUND")
        assert await refused(served, "GET", "/api/rooms/nobody") == (429, "RATE_LIMITED")
        served.now += 30
        response, _ = await call(served, "POST", "/api/rooms/create")
        assert response.status == 200
