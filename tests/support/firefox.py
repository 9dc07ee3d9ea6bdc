"""Headless Firefox with a fake camera and microphone, driven by WebDriver BiDi.

Firefox speaks that protocol itself (``--remote-debugging-port``): neither geckodriver nor selenium is needed.
It never sends to a 127.x candidate: give it a server in a network of its own (``netns.py``).
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.required import program
from tests.support.visitor import KEEP_SOCKETS, SMALL_CAMERA, Visitor

START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0

MOZILLA_HOSTS = (
    "firefox.settings.services.mozilla.com,content-signature-2.cdn.mozilla.net,detectportal.firefox.com,"
    "push.services.mozilla.com,incoming.telemetry.mozilla.org,location.services.mozilla.com,aus5.mozilla.org"
)

PREFERENCES: dict[str, str | int | bool] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.devices.insecure.enabled": True,
    "media.getusermedia.insecure.enabled": True,
    "dom.min_background_timeout_value": 4,
    "dom.timeout.enable_budget_timer_throttling": False,
    "dom.ipc.processPrelaunch.enabled": False,
    # Nothing leaves the machine: every request but to this machine goes to a proxy that is not there.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "localhost, 127.0.0.1, 10.0.0.0/8",
    "network.proxy.allow_hijacking_localhost": False,
    "network.dns.disablePrefetch": True,
    "network.dns.localDomains": MOZILLA_HOSTS,
    "network.prefetch-next": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.trr.mode": 5,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.startup.page": 0,
    "browser.shell.checkDefaultBrowser": False,
    "browser.region.network.url": "",
    "browser.aboutwelcome.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "toolkit.telemetry.server": "",
    "extensions.update.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "dom.push.connection.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": "data:,",
    "remote.prefs.recommended": True,
}

# JSON both ways, so that plain values come back whatever BiDi would make of them.
CALL = "async () => JSON.stringify((await (%s)()) ?? null)"


class Remote:
    """Commands to a running Firefox, and the errors that its pages report."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: dict[str, list[str]] = {}  # by browsing context
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Take what Firefox says, until the socket ends."""
        async for frame in self._socket:
            message = json.loads(frame.data)
            if waiting := self._waiting.pop(message.get("id"), None):
                waiting.set_result(message)
            elif message.get("method") == "log.entryAdded":
                entry = message["params"]
                if entry["level"] == "error":
                    self.errors.get(entry["source"].get("context"), []).append(entry["text"])

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        message = await asyncio.wait_for(answer, COMMAND_TIMEOUT_S)
        assert message["type"] == "success", f"{method}: {message}"
        result: dict[str, Any] = message["result"]
        return result


class FirefoxVisitor(Visitor):
    def __init__(self, remote: Remote, context: str, name: str) -> None:
        super().__init__(name)
        self._remote = remote
        self._context = context
        remote.errors[context] = self.errors

    async def evaluate(self, script: str) -> Any:
        answer = await self._remote.call(
            "script.callFunction",
            functionDeclaration=CALL % script,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    async def reload(self) -> None:
        await self._remote.call("browsingContext.reload", context=self._context, wait="complete")


class Firefox:
    """A running browser; each visitor has a window of its own."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def visit(
        self,
        url: str,
        name: str,
        *,
        camera: tuple[int, int] = (320, 240),
        script: str | None = None,
    ) -> FirefoxVisitor:
        """Open a room's page as somebody; a ``script`` run before it takes the place of ``camera``."""
        # A window each: tabs in the background of one are throttled.
        context = (await self._remote.call("browsingContext.create", type="window"))["context"]
        visitor = FirefoxVisitor(self._remote, context, name)
        await self._remote.call(
            "script.addPreloadScript",
            functionDeclaration=f"() => {{ {script or SMALL_CAMERA % camera} {KEEP_SOCKETS} }}",
            contexts=[context],
        )
        address = f"{url}?name={name}"
        await self._remote.call("browsingContext.navigate", context=context, url=address, wait="complete")
        return visitor


async def _remote_address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1]
    raise AssertionError(f"Firefox ended and said only: {said}")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


@contextlib.asynccontextmanager
async def _process(binary: str, profile: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Firefox in a process group of its own, which ends with the block."""
    quiet = {
        "HOME": profile,
        "MOZ_CRASHREPORTER_DISABLE": "1",
        "MOZ_DISABLE_CONTENT_SANDBOX": "1",
        "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *(binary, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | quiet,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)


@contextlib.asynccontextmanager
async def running_firefox() -> AsyncIterator[Firefox]:
    binary = program(("firefox-esr", "firefox"), "firefox-esr")
    async with contextlib.AsyncExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="kaamos-firefox-", ignore_cleanup_errors=True)
        profile = stack.enter_context(folder)
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("".join(lines))
        process = await stack.enter_async_context(_process(binary, profile))
        address = await asyncio.wait_for(_remote_address(process), START_TIMEOUT_S)
        assert process.stderr is not None
        session = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await stack.enter_async_context(session.ws_connect(f"{address}/session", max_msg_size=0))
        remote = Remote(socket)
        tasks = [asyncio.ensure_future(work) for work in (remote.listen(), _drain(process.stderr))]
        for task in tasks:
            stack.callback(task.cancel)
        await remote.call("session.new", capabilities={})
        await remote.call("session.subscribe", events=["log.entryAdded"])
        yield Firefox(remote)


@pytest.fixture
async def firefox(network: str) -> AsyncIterator[Firefox]:
    async with running_firefox() as browser:
        yield browser
