"""A browser that may reach nothing but a TURN server calls through a real coturn."""

import json
from pathlib import Path

import pytest

from tests.support.browsers import Chromium
from tests.support.coturn import SECRET, running_coturn
from tests.support.server import running_server
from tests.support.visitor import SMALL_CAMERA
from tests.support.waiting import until

RELAY_ONLY = """(() => {
  const original = RTCPeerConnection;
  window.RTCPeerConnection = class extends original {
    constructor(configuration) {
      super({ ...configuration, iceTransportPolicy: "relay" });
    }
  };
})();"""

LOCAL_CANDIDATE = """async () => {
  const stats = await kaamos.connection.getStats();
  const transport = [...stats.values()].find((s) => s.type === "transport");
  return stats.get(stats.get(transport.selectedCandidatePairId)?.localCandidateId)?.candidateType;
}"""


@pytest.fixture
def script() -> str:
    return SMALL_CAMERA % (320, 180) + RELAY_ONLY


async def test_a_browser_forced_to_relay_sees_and_is_seen(
    chromium: Chromium, tmp_path: Path, script: str
) -> None:
    async with running_coturn(tmp_path) as coturn:
        settings = {
            "KAAMOS_ICE_SERVERS": json.dumps([{"urls": coturn.url}]),
            "KAAMOS_ICE_TURN_SECRET": SECRET,
        }
        async with running_server(**settings) as server:
            ada = await chromium.visit(server.room("turn"), "Ada")
            grace = await chromium.visit(server.room("turn"), "Grace", script=script)
            await grace.plays({"Ada"})
            await ada.plays({"Grace"})
            assert await grace.page.evaluate(LOCAL_CANDIDATE) == "relay"
            assert await ada.page.evaluate(LOCAL_CANDIDATE) != "relay"
            assert "ALLOCATE processed, success" in coturn.log()
            assert SECRET not in server.log.read_text()


async def test_with_another_secret_the_turn_server_lets_nobody_through(
    chromium: Chromium, tmp_path: Path, script: str
) -> None:
    async with running_coturn(tmp_path) as coturn:
        settings = {
            "KAAMOS_ICE_SERVERS": json.dumps([{"urls": coturn.url}]),
            "KAAMOS_ICE_TURN_SECRET": "another secret",
        }
        async with running_server(**settings) as server:
            grace = await chromium.visit(server.room("turn"), "Grace", script=script)

            async def log() -> str:
                return coturn.log()

            await until(log, lambda text: "Cannot find credentials of user" in text, 10.0)
            assert "ALLOCATE processed, success" not in coturn.log()
            assert await grace.page.evaluate(LOCAL_CANDIDATE) is None
