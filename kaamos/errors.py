"""Every error that Kaamos raises on purpose, and the codes that clients see.

Two sides (as in h11): :class:`RemoteProtocolError` is what a peer did to us and becomes
an ``error`` message or a problem document; :class:`LocalProtocolError` is misuse by our own code.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable codes of ``error.data.code`` and of REST problem documents (docs/protocol.md)."""

    BAD_MESSAGE = "BAD_MESSAGE"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    NOT_JOINED = "NOT_JOINED"
    ALREADY_JOINED = "ALREADY_JOINED"
    INVALID_ROOM_ID = "INVALID_ROOM_ID"
    ROOM_NOT_FOUND = "ROOM_NOT_FOUND"
    ROOM_FULL = "ROOM_FULL"
    DUPLICATE_IDENTITY = "DUPLICATE_IDENTITY"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    INVALID_SDP = "INVALID_SDP"
    UNSUPPORTED_MEDIA = "UNSUPPORTED_MEDIA"
    GLARE = "GLARE"
    STALE_NEGOTIATION = "STALE_NEGOTIATION"
    INVALID_CANDIDATE = "INVALID_CANDIDATE"
    TRACK_NOT_FOUND = "TRACK_NOT_FOUND"
    PARTICIPANT_NOT_FOUND = "PARTICIPANT_NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    RESUME_FAILED = "RESUME_FAILED"
    RATE_LIMITED = "RATE_LIMITED"
    SERVER_DRAINING = "SERVER_DRAINING"
    INTERNAL = "INTERNAL"


class KaamosError(Exception):
    """Base of everything Kaamos raises on purpose."""


class LocalProtocolError(KaamosError):
    """Our own code asked for something that cannot be."""


class ConfigError(KaamosError):
    """A setting is unknown, malformed or refused; the text is meant for the operator."""


class EngineError(KaamosError):
    """The native engine could not start or could not take a command."""


class RemoteProtocolError(KaamosError):
    """A peer sent something that is not allowed; ``code`` tells the client what."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
