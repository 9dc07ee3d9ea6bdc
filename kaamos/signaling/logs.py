"""Which room and participant the running task works for, so that log records of every layer say it."""

from contextvars import ContextVar

# Tasks inherit it: what ICE and DTLS log belongs to whose offer started them.
LOG_IDS: ContextVar[dict[str, str]] = ContextVar("kaamos_log_ids", default={})  # noqa: B039 (never changed in place)
