"""A real coturn on loopback, with short-lived credentials by a shared secret."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.required import program
from tests.support.waiting import until

SECRET = "a secret that two servers share"

# Relay addresses are on loopback, and so are the peers: coturn refuses those unless told.
CONFIGURATION = """\
listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port={port}
realm=kaamos.test
use-auth-secret
static-auth-secret={secret}
allow-loopback-peers
no-multicast-peers
fingerprint
no-tls
no-dtls
no-cli
verbose
simple-log
no-stdout-log
log-file={folder}/log
pidfile={folder}/pid
userdb={folder}/db
"""


@dataclass(frozen=True)
class Coturn:
    url: str
    folder: Path

    def log(self) -> str:
        """What it wrote so far."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""


@contextlib.asynccontextmanager
async def running_coturn(folder: Path) -> AsyncIterator[Coturn]:
    binary = program(("turnserver",), "--no-install-recommends coturn")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "turnserver.conf").write_text(CONFIGURATION.format(port=port, secret=SECRET, folder=folder))
    process = await asyncio.create_subprocess_exec(
        *(binary, "-c", str(folder / "turnserver.conf")),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    coturn = Coturn(f"turn:127.0.0.1:{port}?transport=udp", folder)

    async def log() -> str:
        assert process.returncode is None, coturn.log()
        return coturn.log()

    try:
        await until(log, lambda text: "UDP listener opened" in text, 10.0)
        yield coturn
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
