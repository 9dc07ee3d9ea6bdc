"""A whole server starts on the ports it was told, says plainly when it cannot, and stops in order."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import ifaddr
import pytest

import kaamos
from kaamos.config import Config, Log, config_from
from kaamos.errors import ConfigError, EngineError
from kaamos.server import Server, candidate_addresses, guard, set_up_logging
from kaamos.signaling.logs import LOG_IDS
from tests.support.server import running_server
from tests.support.signaling_client import PATIENCE_S, Client


def configured(**http: object) -> Config:
    return config_from({"http": {"port": 0, **http}, "rtc": {"port": 0, "ip": "127.0.0.1"}})


async def test_ports_of_zero_are_real_ones_after_the_start() -> None:
    server = Server(configured())
    await server.start()
    try:
        assert server.http_port > 0
        assert server.rtc_port > 0
        assert server.url == f"http://127.0.0.1:{server.http_port}"
        async with aiohttp.ClientSession() as session, session.get(server.url + "/health") as response:
            assert response.status == 200
    finally:
        await server.stop()


async def test_a_busy_http_port_is_told_and_the_media_port_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(configured(port=port))
        with pytest.raises(
            ConfigError, match=f"cannot serve HTTP on 127.0.0.1 port {port}: another program has it"
        ):
            await server.start()
    await server.start()
    await server.stop()


async def test_a_busy_media_port_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        server = Server(config_from({"http": {"port": 0}, "rtc": {"port": port}}))
        with pytest.raises(EngineError, match=f"port {port} is in use"):
            await server.start()


async def test_a_server_that_never_started_stops() -> None:
    await Server(configured()).stop()


async def test_public_names_are_exported() -> None:
    assert kaamos.Server is Server
    assert kaamos.Config is Config
    assert isinstance(kaamos.__version__, str)
    with pytest.raises(AttributeError):
        _ = kaamos.Nothing


# The process.


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_in_order_and_clients_are_told(signum: signal.Signals) -> None:
    async with running_server() as server, aiohttp.ClientSession() as session:
        client = Client(await session.ws_connect(server.socket("room")))
        await client.join("ada")
        server.process.send_signal(signum)
        assert await client.closed() == 1012
        assert client.heard[-1]["data"]["code"] == "SERVER_DRAINING"
        async with asyncio.timeout(PATIENCE_S):
            assert await server.process.wait() == 0
        assert "Traceback" not in server.log.read_text()


async def test_what_strangers_send_instead_of_http_makes_no_noise_in_the_log() -> None:
    async with running_server() as server:
        host, port = server.url.removeprefix("http://").split(":")
        for nonsense in (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 9000):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(nonsense)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):  # it may be cut off while it still talks
                async with asyncio.timeout(PATIENCE_S):
                    await reader.read()
            writer.close()
        assert "Traceback" not in server.log.read_text()


async def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``python -m kaamos`` and return its exit code, output and complaints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaamos", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Safe: not the checkout we stand in, which need not have its extension built.
        env={"PYTHONPATH": str(Path(kaamos.__file__).resolve().parent.parent), "PYTHONSAFEPATH": "1"},
    )
    async with asyncio.timeout(PATIENCE_S):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_a_start_that_fails_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, complaint = await run("serve", "--port", port, "--rtc-port", "0")
        assert (code, complaint.splitlines()[-1]) == (
            1,
            f"kaamos: cannot serve HTTP on 127.0.0.1 port {port}: another program has it",
        )
    path = tmp_path / "kaamos.toml"
    path.write_text("rtc.prot = 1")
    code, _, complaint = await run("serve", "--config", str(path))
    assert (code, complaint) == (1, "kaamos: configuration: there is no setting rtc.prot\n")


async def test_the_version_is_told() -> None:
    for flag in ("-V", "--version"):
        assert await run(flag) == (0, f"kaamos {kaamos.__version__}\n", "")


# Addresses in candidates.


@pytest.fixture
def own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [
        ifaddr.Adapter("lo", "lo", [ifaddr.IP("127.0.0.1", 8, "lo"), ifaddr.IP(("::1", 0, 0), 128, "lo")]),
        ifaddr.Adapter(
            "eth0",
            "eth0",
            [
                ifaddr.IP(("2001:db8::5", 0, 0), 64, "eth0"),
                ifaddr.IP(("fe80::1", 0, 2), 64, "eth0"),
                ifaddr.IP("192.0.2.5", 24, "eth0"),
                ifaddr.IP("169.254.7.7", 16, "eth0"),
            ],
        ),
    ]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)


OPEN = {"mode": "open"}


@pytest.mark.usefixtures("own_addresses")
@pytest.mark.parametrize(
    ("tables", "has_ipv6", "expected"),
    [
        ({}, True, ("127.0.0.1", "192.0.2.5", "2001:db8::5")),
        ({}, False, ("127.0.0.1", "192.0.2.5")),
        ({"http": {"host": "0.0.0.0"}, "auth": OPEN}, True, ("192.0.2.5", "2001:db8::5")),
        ({"rtc": {"ip": "127.0.0.1"}}, True, ("127.0.0.1",)),
        (
            {"rtc": {"ip": ["2001:db8::9", "198.51.100.1", "198.51.100.1"]}},
            True,
            ("2001:db8::9", "198.51.100.1"),
        ),
        ({"rtc": {"ip": ["2001:db8::9", "198.51.100.1"]}}, False, ("198.51.100.1",)),
    ],
)
def test_candidates_have_the_addresses_that_clients_can_reach(
    tables: dict[str, Any], has_ipv6: bool, expected: tuple[str, ...]
) -> None:
    assert candidate_addresses(config_from(tables), has_ipv6=has_ipv6) == expected


def test_a_machine_without_network_still_has_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [])
    tables = {"http": {"host": "0.0.0.0"}, "auth": OPEN}
    assert candidate_addresses(config_from(tables), has_ipv6=True) == ("127.0.0.1",)


# Logs.


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger")
async def test_json_logs_are_one_object_a_line_with_the_ids(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(Log(format="json"))
    logger = logging.getLogger("test")
    logger.info("here\nand there", extra={"room": "r", "participant": "ada"})
    LOG_IDS.set({"room": "r", "participant": "grace"})

    async def fails() -> None:
        raise KeyError("why")

    assert await guard(fails()) is None
    logger.debug("not at this level")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["room"], first["participant"]) == ("here\nand there", "r", "ada")
    assert first["level"] == "INFO"
    assert second["participant"] == "grace"
    assert "KeyError" in second["exception"]


@pytest.mark.usefixtures("root_logger")
def test_text_logs_name_room_and_participant(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(Log())
    logging.getLogger("test").warning("lost %d", 3, extra={"room": "r", "participant": "ada"})
    assert capsys.readouterr().err.endswith("WARNING test: lost 3 room='r' participant='ada'\n")
