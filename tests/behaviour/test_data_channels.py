"""Whole members on data channels of a whole server, and what one that floods may cost the loop."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaamos.config import Config, Http, Rtc
from kaamos.server import Server
from tests.support.data_client import DataClient
from tests.support.ortc import eventually

CHECKOUT = Path(__file__).resolve().parent.parent.parent

FLOOD_S = 6.0
MAX_LAG_S = 0.05  # the issue's own number
SAMPLE_S = 0.005


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(Config(http=Http(port=0), rtc=Rtc(port=0, ip=("127.0.0.1",))))
    await server.start()
    yield server
    await server.stop()


def room(server: Server) -> str:
    return f"ws://127.0.0.1:{server.http_port}/ws/data"


async def test_members_hear_each_other_on_channels_of_the_same_name(server: Server) -> None:
    fast: dict[str, Any] = {"ordered": False, "maxRetransmits": 0}
    async with (
        DataClient(room(server), "ada", {"chat": {}, "fast": fast}) as ada,
        DataClient(room(server), "grace", {"chat": {"protocol": "kaamos.from"}}, has_audio=True) as grace,
        DataClient(room(server), "edsger", {"other": {}}) as edsger,
    ):
        for message in ("hello", b"\x00\x01", "", b""):
            ada.channels["chat"].send(message)
        told = [("chat", head) for head in ("ada\nhello", b"ada\n\x00\x01", "ada\n", b"ada\n")]
        await eventually(lambda: grace.heard == told)
        # Who has no such channel gets one made, and can answer on it.
        await eventually(lambda: edsger.heard == [("chat", m) for m in ("hello", b"\x00\x01", "", b"")])
        edsger.channels["chat"].send("hi")
        await eventually(lambda: ada.heard == [("chat", "hi")] and grace.heard[-1] == ("chat", "edsger\nhi"))
        ada.channels["fast"].send(b"now")
        await eventually(lambda: edsger.heard[-1] == ("fast", b"now"))
        assert edsger.channels["fast"].maxRetransmits == 0 and not edsger.channels["fast"].ordered


async def test_channels_added_in_the_middle_of_a_call_work(server: Server) -> None:
    async with (
        DataClient(room(server), "ada", {}, has_audio=True) as ada,
        DataClient(room(server), "grace", {"chat": {}}) as grace,
    ):
        await eventually(lambda: ada.connection.connectionState == "connected")
        ada.create("chat")
        await ada.offer()
        await ada.is_open("chat")
        ada.channels["chat"].send("late")
        await eventually(lambda: grace.heard == [("chat", "late")])
        grace.channels["chat"].send("welcome")
        await eventually(lambda: ada.heard == [("chat", "welcome")])


class Stopwatch:
    """How late the loop is, and how long it computes at a stretch."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.busy_s: list[float] = []

    async def run(self) -> None:
        while True:
            due, began = time.monotonic() + SAMPLE_S, time.thread_time()
            await asyncio.sleep(SAMPLE_S)
            self.late_s.append(time.monotonic() - due)
            self.busy_s.append(time.thread_time() - began)


async def start(act: str, server: Server) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.data_client", act, room(server), f"{FLOOD_S}"),
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )


async def result(process: asyncio.subprocess.Process) -> dict[str, Any]:
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def test_who_floods_is_throttled_and_the_loop_stays_free(server: Server) -> None:
    talking = await start("talk", server)
    assert talking.stdout is not None
    assert await asyncio.wait_for(talking.stdout.readline(), 30) == b"ready\n"
    watch = Stopwatch()
    watching = asyncio.create_task(watch.run())
    flooding = await start("flood", server)
    talked, flooded = await asyncio.gather(result(talking), result(flooding))
    watching.cancel()
    print(talked, flooded, max(watch.late_s), max(watch.busy_s))
    assert flooded["state"] == "connected" and flooded["errors"] == []
    assert flooded["sent"] > 2000, "that was no flood"
    # 400 at once and 200 a second, of what is not acknowledged from packet to packet.
    assert 0 < talked["flood"] < 400 + 200 * (FLOOD_S + 5)
    assert talked["audio"] > 0
    # The machine may give the processor to somebody else; then only the loop's own work counts.
    assert max(map(min, watch.late_s, watch.busy_s)) < MAX_LAG_S
