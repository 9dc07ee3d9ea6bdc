"""Kaamos, a WebRTC SFU in Python whose media path is native."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaamos.config import Config
    from kaamos.server import Server, __version__

__all__ = ["Config", "Server", "__version__"]


def __getattr__(name: str) -> Any:
    # Late: parts without the native engine can then be imported by themselves.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kaamos import config, server

    return getattr(config if name == "Config" else server, name)
