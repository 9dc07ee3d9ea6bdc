"""A real ``kaamos serve`` in a process of its own, on ports that the kernel chose."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import kaamos

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class RunningServer:
    url: str  # "http://127.0.0.1:41234", without a slash at the end
    process: asyncio.subprocess.Process
    log: Path  # what it wrote to standard error so far

    @property
    def rtc_port(self) -> int:
        """The UDP port of its media, as its log tells."""
        found = re.search(r"media on UDP port (\d+)", self.log.read_text())
        assert found is not None, "the log does not tell the media port"
        return int(found[1])

    def room(self, room_id: str) -> str:
        return f"{self.url}/room/{room_id}"

    def socket(self, room_id: str) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws/{room_id}"


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """Return our environment without what configures a server, and with the kaamos that we import."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAAMOS_") and k != "PORT"}
    package = str(Path(kaamos.__file__).resolve().parent.parent)
    return inherited | {"PYTHONPATH": package, "PYTHONUNBUFFERED": "1"} | settings


async def _read_address(process: asyncio.subprocess.Process) -> str:
    """Return the address that the server prints for people to open."""
    assert process.stdout is not None
    printed = ""
    while line := await process.stdout.readline():
        printed += line.decode()
        if found := re.search(r"http://[0-9.:\[\]a-z]+:\d+", printed):
            return found[0]
    raise AssertionError(f"the server ended and printed only: {printed!r}")


@contextlib.asynccontextmanager
async def running_server(
    *flags: str, rtc_ip: str = "127.0.0.1", **settings: str
) -> AsyncIterator[RunningServer]:
    """Start a server, and stop it by SIGTERM: it must end by itself, in time, with exit code 0.

    What it did not foresee and only logged fails the test as well.

    ``rtc_ip`` is its address for media. ``settings`` are environment variables beside the defaults of a test:
    no limit on how many rooms and sockets one address opens.
    """
    defaults = {f"KAAMOS_LIMITS_{name}_PER_MINUTE": "0" for name in ("CREATE", "INFO", "WS")}
    with tempfile.TemporaryDirectory(prefix="kaamos-server-") as folder:
        log = Path(folder) / "stderr"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kaamos", "serve"),
                *("--port", "0", "--rtc-port", "0", "--rtc-ip", rtc_ip),
                *flags,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=folder,  # so that the checkout is not imported by accident
                env=_environment(defaults | settings),
            )
        try:
            try:
                url = await asyncio.wait_for(_read_address(process), START_TIMEOUT_S)
            except (TimeoutError, AssertionError) as error:
                raise AssertionError(f"the server did not start ({error}):\n{log.read_text()}") from error
            yield RunningServer(url, process, log)
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            assert code == 0, f"the server ended with {code}:\n{log.read_text()}"
            assert "Traceback" not in log.read_text(), log.read_text()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
