"""Fixtures of the interop tests: real clients against a real server in a process of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.browsers import chromium
from tests.support.firefox import firefox
from tests.support.netns import own_network
from tests.support.server import RunningServer, running_server

__all__ = ["chromium", "firefox", "network", "server"]


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[str]:
    """Put the whole test into a network of its own, where Firefox finds the server."""
    with own_network() as address:
        yield address


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    """A server on 127.0.0.1, or in the test's own network."""
    rtc_ip = request.getfixturevalue("network") if "network" in request.fixturenames else "127.0.0.1"
    async with running_server(rtc_ip=rtc_ip) as running:
        yield running
