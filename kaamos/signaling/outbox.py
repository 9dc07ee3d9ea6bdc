"""The way out of one WebSocket: a bounded queue and the one task that writes."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from kaamos.signaling.session import CLOSE_SLOW_CONSUMER

# A join in a room of a thousand is one message of half a megabyte, a burst of joins hundreds of small ones.
MAX_MESSAGES = 512
MAX_BYTES = 4 << 20

# A burst comes in one turn of the loop, in which no writer runs: as long as the client has read all that was
# written so far, it is not slow, and more may wait. The texts are the same objects for all members of a room.
BURST_FACTOR = 16
BURST_GRACE_S = 1.0

# How long a client may take to read what is left and to answer the close.
CLOSE_TIMEOUT_S = 3.0


@dataclass(slots=True)
class _Queued:
    """A frame that waits, as Mailbox.number() made it."""

    text: str
    key: str  # of what the newest frame replaces an older one; "" for most


class Outbox:
    """What waits to be written to one client.

    A client that reads slower than its room talks is closed with 4030 when the queue is full: it can
    come back and get the whole state, which is less than what it has missed.
    """

    def __init__(self, ws: web.WebSocketResponse[Literal[False]], transport: asyncio.Transport) -> None:
        self._ws = ws
        self._transport = transport
        self._queue: deque[_Queued] = deque()
        self._replaceable: dict[str, _Queued] = {}  # by key
        self._queued_chars = 0
        self._wake = asyncio.Event()
        self._close: tuple[int, str] | None = None
        self._is_overflown = False
        self._writer: asyncio.Task[None] | None = None
        self._abort: asyncio.TimerHandle | None = None
        self._burst: asyncio.TimerHandle | None = None

    @property
    def is_closing(self) -> bool:
        """Return whether nothing more is taken."""
        return self._close is not None

    def push(self, text: str, key: str = "") -> None:
        """Queue a numbered frame, replaceable while it waits if it has a ``key``; nothing after a close."""
        if self._close is not None:
            return
        # What a client has not read of what was written makes it slow, not what no writer could write yet.
        factor = 1 if self._transport.get_write_buffer_size() else BURST_FACTOR
        if self._queue and self._is_beyond(factor, len(text)):
            self._give_up()
            return
        queued = _Queued(text, key)
        self._queue.append(queued)
        if key:
            self._replaceable[key] = queued
        self._queued_chars += len(text)
        self._wake.set()
        if self._burst is None and self._is_beyond(1):
            self._burst = asyncio.get_running_loop().call_later(BURST_GRACE_S, self._end_burst)

    def replace(self, text: str, key: str) -> bool:
        """Say ``text``, without a number, in the place of the frame of this key, if that still waits."""
        queued = self._replaceable.get(key)
        if queued is None:
            return False
        number = queued.text[: queued.text.index(",") + 1]
        self._queued_chars += len(number) + len(text) - 1 - len(queued.text)
        queued.text = number + text[1:]
        return True

    def _is_beyond(self, factor: int, more: int = 0) -> bool:
        messages, chars = len(self._queue) + bool(more), self._queued_chars + more
        return messages > MAX_MESSAGES * factor or chars > MAX_BYTES * factor

    def _end_burst(self) -> None:
        self._burst = None
        if self._close is None and self._is_beyond(1):
            self._give_up()

    def _give_up(self) -> None:
        self._is_overflown = True
        self._clear()
        self.close(CLOSE_SLOW_CONSUMER, "reads too slowly")
        if self._writer is not None:
            self._writer.cancel()  # it waits for the client to read

    def _clear(self) -> None:
        self._queue.clear()
        self._replaceable.clear()

    def close(self, code: int, reason: str) -> None:
        """Close the socket after what is queued; a client that does not read it in time is cut off."""
        if self._close is None:
            self._close = (code, reason)
            self._wake.set()
            self._abort = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    async def run(self) -> None:
        """Write until the socket is closed or gone."""
        self._writer = asyncio.current_task()
        try:
            await self._write_or_overflow()
            code, reason = self._close or (1000, "")
            await self._ws.close(code=code, message=reason.encode())
        except ConnectionError:
            self._clear()  # the client is gone; its reader finds that out too
        finally:
            self._close = self._close or (1006, "gone")
            if self._burst is not None:
                self._burst.cancel()
            # What is unsent now waits for a client that does not read: let the timer cut it off then.
            if self._abort is not None and not self._transport.get_write_buffer_size():
                self._abort.cancel()

    async def _write_or_overflow(self) -> None:
        try:
            while self._queue or self._close is None:
                while self._queue:
                    queued = self._queue.popleft()
                    self._queued_chars -= len(queued.text)
                    if self._replaceable.get(queued.key) is queued:
                        del self._replaceable[queued.key]
                    await self._ws.send_str(queued.text)
                if self._close is None:
                    self._wake.clear()
                    await self._wake.wait()
        except asyncio.CancelledError:
            if not self._is_overflown:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
