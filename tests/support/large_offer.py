"""An offer of many sections, each with all that Chromium says in one."""

import re
from collections.abc import Sequence

from kaamos.media.description import Kind
from tests.support.hostile import split
from tests.support.negotiation import recorded

HEAD, SECTIONS = split(recorded("chromium-plain"))


def section_of(kind: Kind, number: int) -> str:
    """Return a section with a mid, streams and SSRCs of its own, and without candidates."""
    text = next(section for section in SECTIONS if section.startswith(f"m={kind} "))
    text = re.sub(r"(?m)^a=candidate:.*\r\n", "", text)
    text = re.sub(r"^(m=\w+) \d+ ", r"\1 9 ", text)
    text = re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{number}\r", text)
    text = re.sub(r"(?m)^a=msid:.*\r$", f"a=msid:stream-{number} track-{number}\r", text)
    for index, ssrc in enumerate(dict.fromkeys(re.findall(r"(?m)^a=ssrc:(\d+)", text))):
        text = text.replace(ssrc, str(1_000_000_000 + 10 * number + index))
    return text


def large_offer(kinds: Sequence[Kind]) -> str:
    """Return an offer with a section of each of these kinds, in order."""
    bundle = "".join(f" {number}" for number in range(len(kinds)))
    head = re.sub(r"a=group:BUNDLE.*", f"a=group:BUNDLE{bundle}\r", HEAD)
    return head + "".join(section_of(kind, number) for number, kind in enumerate(kinds))
