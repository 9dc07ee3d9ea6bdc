"""A client that cannot roll back makes all offers itself, and receives what the server asks it to take."""

import contextlib
from typing import Any

from tests.interop.test_aiortc_call import BLUE, GREEN, PEOPLE, RED, perceives
from tests.support.original_client import OriginalClient, is_near
from tests.support.server import RunningServer
from tests.support.waiting import until


class Viewer(OriginalClient):
    """It only receives; with its first offer not even that, for it has a data channel only."""

    def __init__(self, socket_url: str) -> None:
        super().__init__(socket_url, colour=(0, 0, 0), tone_hz=0.0, negotiation="client")
        self.asked: list[dict[str, int]] = []
        self.unexpected: list[str] = []

    def _add_tracks(self) -> None:
        self._connection.createDataChannel("nothing")

    async def _note(self, message: dict[str, Any]) -> None:
        if message["type"] in ("offer", "error"):
            self.unexpected.append(str(message))
        if message["type"] == "negotiate":
            self.asked.append(message["data"])
            # While an offer of its own is out it waits: it is asked again if that was not enough.
            if self._connection.signalingState == "stable":
                for kind, count in message["data"].items():
                    for _ in range(count):
                        self._connection.addTransceiver(kind, direction="recvonly")
                await self._send_offer()


async def test_a_client_that_makes_all_offers_receives_whoever_is_there(server: RunningServer) -> None:
    url = server.socket("abc123xyz")
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as green:
        red = await stack.enter_async_context(OriginalClient(url, colour=RED, tone_hz=PEOPLE[RED]))
        await green.enter_async_context(OriginalClient(url, colour=GREEN, tone_hz=PEOPLE[GREEN]))
        await perceives(red, [GREEN])
        viewer = await stack.enter_async_context(Viewer(url))
        await perceives(viewer, [RED, GREEN])
        await stack.enter_async_context(OriginalClient(url, colour=BLUE, tone_hz=PEOPLE[BLUE]))
        await perceives(viewer, [RED, GREEN, BLUE])
        assert viewer.asked[0] == {"audio": 2, "video": 2}
        # Not one section more than there was somebody for.
        assert sum(asked["audio"] for asked in viewer.asked) == len(viewer.sounds) == 3
        assert sum(asked["video"] for asked in viewer.asked) == len(viewer.pictures) == 3
        assert viewer.offers_answered == 0 and viewer.unexpected == []

        # Who leaves makes room for who comes next, once the client has offered again.
        await green.aclose()

        async def asked_last() -> dict[str, int]:
            return viewer.asked[-1]

        await until(asked_last, lambda asked: asked == {"audio": 0, "video": 0}, 20.0)
        shown = sum(picture.frames for picture in viewer.pictures if is_near(picture.colour, GREEN))
        await green.enter_async_context(OriginalClient(url, colour=GREEN, tone_hz=PEOPLE[GREEN]))

        async def shown_since() -> int:
            return sum(p.frames for p in viewer.pictures if is_near(p.colour, GREEN)) - shown

        # A few pictures show that it moves: a dozen codecs share this one process, so they come slowly.
        await until(shown_since, lambda frames: frames >= 3, 20.0)
