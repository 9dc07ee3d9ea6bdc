"""Which message may come when on one socket: join first, once, and not too many.

Feed frames to receive(), act on the events it returns, then look at next_timeout().
"""

from dataclasses import dataclass
from enum import Enum, auto

from kaamos.errors import ErrorCode
from kaamos.signaling import frames, messages
from kaamos.signaling.frames import Frame
from kaamos.signaling.limits import TokenBucket
from kaamos.signaling.messages import ClientMessage, DecodeError, Dialect, Join, MessageId

CLOSE_NORMAL = 1000
CLOSE_TOO_LARGE = 1009
CLOSE_INTERNAL = 1011
CLOSE_RESTART = 1012
CLOSE_JOIN_TIMEOUT = 4008
CLOSE_REPLACED = 4009
CLOSE_RATE_LIMITED = 4029
CLOSE_SLOW_CONSUMER = 4030

# Bursts over the rate, in seconds of it: a browser sends its candidates all at once.
BURST_S = 3.0

# A long message costs more than a short one to read, and counts as one more for each of these.
HEAVY_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message that may be acted upon."""

    message: ClientMessage
    id: MessageId | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame for this client."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Close:
    """The socket is to be closed, after what is to be sent is sent."""

    code: int
    reason: str


Event = Deliver | Reply | Close


class _State(Enum):
    WAITING = auto()  # for a join
    JOINED = auto()
    ENDED = auto()


class Session:
    """The order of messages on one socket, the dialect of its client and its rate.

    ``join_timeout_s`` and ``messages_per_second`` of 0 set no limit.  ``now`` is monotonic seconds.
    """

    def __init__(self, *, join_timeout_s: float, messages_per_second: float, now: float) -> None:
        self.dialect = Dialect(0)
        self._state = _State.WAITING
        self._join_by = now + join_timeout_s if join_timeout_s else None
        burst = max(1.0, messages_per_second * BURST_S)
        self._allowed = TokenBucket(messages_per_second, burst, now)
        # Each message over the rate is refused; who goes on for another burst is closed.
        self._refused = TokenBucket(messages_per_second, burst, now)

    def joined(self) -> None:
        """Note that the room took the client in."""
        self._state = _State.JOINED

    def end(self) -> None:
        """Note that nothing is expected any more."""
        self._state = _State.ENDED

    def receive(self, frame: str | bytes, now: float) -> list[Event]:
        """Return what follows from a text frame."""
        refusal = self._admit(now, 1.0 + len(frame) // HEAVY_BYTES)
        if refusal is not None:
            return refusal
        try:
            incoming = messages.decode(frame)
        except DecodeError as error:
            return [Reply(frames.error(error.code, error.message, error.id))]
        self.dialect |= incoming.dialect
        is_join = isinstance(incoming.message, Join)
        if self._state is _State.WAITING and not is_join:
            return [Reply(frames.error(ErrorCode.NOT_JOINED, "join first", incoming.id))]
        if self._state is _State.JOINED and is_join:
            return [Reply(frames.error(ErrorCode.ALREADY_JOINED, "this socket has joined", incoming.id))]
        return [Deliver(incoming.message, incoming.id)]

    def receive_binary(self, now: float) -> list[Event]:
        """Return what follows from a binary frame: there are none in this protocol."""
        refusal = self._admit(now)
        if refusal is not None:
            return refusal
        return [Reply(frames.error(ErrorCode.BAD_MESSAGE, "frames are JSON text"))]

    def handle_timeout(self, now: float) -> list[Event]:
        """Return what follows from the time that has passed."""
        timeout = self.next_timeout()
        if timeout is None or now < timeout:
            return []
        self.end()
        return [Close(CLOSE_JOIN_TIMEOUT, "no join in time")]

    def next_timeout(self) -> float | None:
        """Return when handle_timeout() has something to do, if ever."""
        return self._join_by if self._state is _State.WAITING else None

    def _admit(self, now: float, weight: float = 1.0) -> list[Event] | None:
        """Return None for a frame within the rate, else what follows instead of reading it."""
        if self._state is _State.ENDED:
            return []
        if self._allowed.take(now, weight):
            return None
        if self._refused.take(now):
            return [Reply(frames.error(ErrorCode.RATE_LIMITED, "too many messages, this one was dropped"))]
        self.end()
        return [Close(CLOSE_RATE_LIMITED, "too many messages")]
