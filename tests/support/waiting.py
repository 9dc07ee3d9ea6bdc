"""Waiting for something in another process, with a bound and a complaint that shows what was seen."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.1


async def until(look: Callable[[], Awaitable[T]], is_right: Callable[[T], bool], within_s: float) -> T:
    """Look again and again until it is right, and return what was seen then."""
    deadline = time.monotonic() + within_s
    while not is_right(seen := await look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still not right after {within_s} s: {seen}")
        await asyncio.sleep(POLL_S)
    return seen
