"""Fixtures of the interop tests: real clients against a real server in a process of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.support.browsers import chromium
from tests.support.server import RunningServer, running_server

__all__ = ["chromium", "server"]


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running
