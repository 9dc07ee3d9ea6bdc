"""The ``m=application`` section of data channels: SCTP over DTLS (RFC 8841).

There is at most one in a connection, it is always the peer's, and it shares the transport of the media.
"""

import re
from dataclasses import dataclass

from kaamos.rtc.channel import MAX_MESSAGE_BYTES
from kaamos.rtc.sdp import Draft, SdpError, Terms

SCTP_PORT = 5000  # ours; the number means nothing under DTLS, and everybody uses this one

_PROTOCOLS = frozenset(("UDP/DTLS/SCTP", "TCP/DTLS/SCTP"))
_FORMAT = "webrtc-datachannel"  # RFC 8832 section 8.1
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_DEFAULT_MAX_MESSAGE_BYTES = 65536  # RFC 8841 section 6.1


@dataclass(frozen=True, slots=True)
class SctpParameters:
    """What the peer says of its SCTP; a ``max_message_bytes`` of 0 sets no limit."""

    port: int
    max_message_bytes: int


def read_sctp(media: Terms) -> SctpParameters | None:
    """Return what an application section says, None where it is for something else.

    Raises:
        SdpError: its port or its message size is no number, or out of range.
    """
    if media.media != "application" or media.protocol not in _PROTOCOLS or list(media.formats) != [_FORMAT]:
        return None
    port = _number(media, "sctp-port", 0xFFFF)
    if not port:  # none (RFC 8841 section 5 wants one), or 0: the association is not wanted
        return None
    size = _number(media, "max-message-size", 0xFFFFFFFF)
    return SctpParameters(port, _DEFAULT_MAX_MESSAGE_BYTES if size is None else size)


def write_sctp(protocol: str, address: tuple[str, int], mid: str | None) -> Draft:
    """Return our side of the section without its transport lines; ``address`` as for other sections."""
    media = Draft(f"m=application {address[1]} {protocol} {_FORMAT}", f"c={address[0]}")
    media.add("mid", mid)
    media.add("sctp-port", str(SCTP_PORT))
    media.add("max-message-size", str(MAX_MESSAGE_BYTES))
    return media


def _number(media: Terms, name: str, highest: int) -> int | None:
    values = media.all(name)
    if not values:
        return None
    if not _NUMBER.fullmatch(values[0]) or int(values[0]) > highest:
        raise SdpError(f"a={name} is no number up to {highest}")
    return int(values[0])
