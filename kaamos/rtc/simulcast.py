"""The versions of one picture that a peer sends side by side, each under a rid (RFC 8851, RFC 8853).

An RTP packet names its version by the rid in a header extension.  A line here that is malformed, or that says
what another one contradicts, loses its peer a version or all of them, never the section: without simulcast a
peer sends one stream, and that is sound.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from kaamos.rtc.sdp import Draft, Terms

MAX_RIDS = 4  # a section; browsers send three

# RFC 8851 section 10 allows any length: 16 is what a one-byte header extension can carry (RFC 8285).
_RID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)


class Rid(NamedTuple):
    """One version as its sender announced it."""

    id: str
    restrictions: str  # RFC 8851 section 5: "pt=96;max-width=640", or ""
    is_paused: bool  # not sent for now

    @property
    def listed(self) -> str:
        """How ``a=simulcast`` lists it."""
        return f"~{self.id}" if self.is_paused else self.id


def read_rids(media: Terms, payload_types: Collection[int]) -> tuple[Rid, ...]:
    """Return the versions we take of those the writer of a section sends, in its order.

    That is the order of quality, lowest first, as browsers list them.  Of alternatives (``a,b``) the first
    usable one is taken.  Left out are those without an ``a=rid`` line of their own that says ``send``, those
    named twice, those only in payload types that are not among ``payload_types``, and what goes beyond
    :data:`MAX_RIDS`.
    """
    sent = _listed(media)
    if not sent:
        return ()
    declared = _declared(media, payload_types)
    found: dict[str, Rid] = {}
    for alternatives in sent:
        for name in alternatives.split(","):
            rid = name.removeprefix("~")
            if rid in declared and rid not in found:
                found[rid] = Rid(rid, declared[rid], name != rid)
                break
    return tuple(found.values())[:MAX_RIDS]


def write_rids(media: Draft, rids: tuple[Rid, ...]) -> None:
    """Append the lines with which we receive these versions."""
    for rid in rids:
        media.add("rid", f"{rid.id} recv {rid.restrictions}".rstrip(" "))
    if rids:
        media.add("simulcast", "recv " + ";".join(rid.listed for rid in rids))


def _listed(media: Terms) -> list[str]:
    """Return the send half of ``a=simulcast``, an item a version; nothing if the line is malformed."""
    values = media.all("simulcast")
    fields = values[0].strip(" ").split(" ") if len(values) == 1 else []
    directions, lists = fields[::2], fields[1::2]
    if len(directions) != len(lists) or directions not in (
        ["send"],
        ["recv"],
        ["send", "recv"],
        ["recv", "send"],
    ):
        return []
    return lists[directions.index("send")].split(";") if "send" in directions else []


def _declared(media: Terms, payload_types: Collection[int]) -> dict[str, str]:
    """Return the restrictions of each ``a=rid:… send``."""
    found: dict[str, str] = {}
    doubtful = set()
    for value in media.all("rid"):
        rid, _, rest = value.partition(" ")
        direction, _, restrictions = rest.partition(" ")
        if rid in found or rid in doubtful or not _RID.fullmatch(rid):
            doubtful.add(rid)  # an id has one line (RFC 8851 section 4)
            continue
        usable = _usable(restrictions.strip(" "), payload_types)
        if direction == "send" and usable is not None:
            found[rid] = usable
        else:
            doubtful.add(rid)
    return {rid: restrictions for rid, restrictions in found.items() if rid not in doubtful}


def _usable(restrictions: str, payload_types: Collection[int]) -> str | None:
    """Return the restrictions with payload types that we accept, None where none is left.

    All others concern the sender alone: they say what it will not go beyond, and an answer repeats them.
    """
    first, _, others = restrictions.partition(";")
    name, _, numbers = first.partition("=")
    if name != "pt":
        return restrictions
    accepted = [n for n in numbers.split(",") if _NUMBER.fullmatch(n) and int(n) in payload_types]
    if not accepted:
        return None
    return ";".join(filter(None, ["pt=" + ",".join(accepted), others]))
