"""A client in a call says everything that no honest client says: it is told so, and the call goes on."""

import contextlib

from tests.interop.test_aiortc_call import BLUE, PEOPLE, RED, perceives
from tests.support.hostile import CANDIDATES, DESCRIPTIONS
from tests.support.original_client import OriginalClient
from tests.support.server import running_server
from tests.support.waiting import until

# Room for 1 MB of SDP in JSON, and for all of it at once: the limits themselves are tested elsewhere.
LIMITS = {"KAAMOS_LIMITS_MESSAGE_BYTES": str(8 << 20), "KAAMOS_LIMITS_MESSAGES_PER_SECOND": "0"}


async def test_the_call_goes_on_whatever_one_of_them_says() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(**LIMITS))
        url = server.socket("abc123xyz")
        honest, hostile = [
            await stack.enter_async_context(OriginalClient(url, colour=colour, tone_hz=PEOPLE[colour]))
            for colour in (RED, BLUE)
        ]
        await perceives(honest, [BLUE])
        await perceives(hostile, [RED])
        said: dict[object, str] = {}
        for name, damage in DESCRIPTIONS.items():
            # Half a character is no text, so the frame is no JSON, and nobody can tell what its id was.
            said[None if name == "half a character" else name] = "INVALID_SDP or BAD_MESSAGE"
            await hostile.send({"type": "offer", "id": name, "data": {"sdp": damage(hostile.sdp)}})
        for number, candidate in enumerate(CANDIDATES):
            said[number] = "INVALID_CANDIDATE or BAD_MESSAGE"
            await hostile.send({"type": "ice-candidate", "id": number, "data": candidate})

        async def errors() -> list[tuple[object, str]]:
            return hostile.errors

        heard = await until(errors, lambda heard: len(heard) >= len(said), 30.0)
        assert all(code in said[id] for id, code in heard) and {id for id, _ in heard} == set(said)
        # Neither missed anything of the other: the very connections that stood before carry more of the same.
        before = [client.pictures[0].frames for client in (honest, hostile)]

        async def shown_since() -> list[int]:
            clients = zip((honest, hostile), before, strict=True)
            return [client.pictures[0].frames - count for client, count in clients]

        await until(shown_since, lambda shown: min(shown) >= 30, 20.0)
        await perceives(honest, [BLUE])
        await perceives(hostile, [RED])
