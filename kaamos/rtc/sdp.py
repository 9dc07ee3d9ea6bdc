"""Session descriptions: lossless parse and write, with typed views of the attributes we use (RFC 8866).

A description is kept as its lines, in order.  Parsing checks the frame (line shape, ``m=`` lines, bounds)
and nothing else; what an attribute means is checked by the view that reads it, so a line that we do
not understand costs nothing and survives.  Everything that a peer can get wrong is a :class:`SdpError`.

The sections of a large description mostly say the same, but for their mids and streams.  What they have in
common is read once for all of them (:class:`Terms`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from kaamos.errors import ErrorCode, RemoteProtocolError

MAX_BYTES = 1 << 20  # 100 full-codec Chromium sections are 499 KB
MAX_SECTIONS = 100
MAX_LINE_CHARS = 4096  # the longest line in real offers, an H.264 sprop-parameter-sets, is below 500
MAX_SECTION_LINES = 1024  # a full-codec Chromium section has 165
MAX_FORMATS = 128  # there are no more payload types
MAX_MID_BYTES = 16  # what a one-byte header extension can carry (RFC 9143 section 15.1, RFC 8285 section 4.2)
MAX_GROUP_SSRCS = 32  # simulcast groups have three
MAX_SSRC = 2**32 - 1

_LINE = re.compile(rf"[a-z]=[^\r\n]{{0,{MAX_LINE_CHARS - 2}}}")
_LINES = re.compile(rf"{_LINE.pattern}(?:\n{_LINE.pattern})*+")
# What tells sections apart that are otherwise the same.
_OWN_LINE = re.compile(r"\n(a=(?:mid|msid|ssrc|ssrc-group)(?![^:\n])[^\n]*)")
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")  # RFC 8866 section 9, token
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")  # RFC 8839 section 5.4
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*")
_PRINTABLE = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"\S+ [0-9]{1,20} [0-9]{1,20} \S+ \S+ \S+", re.ASCII)


class SdpError(RemoteProtocolError):
    """A description is malformed, too large, or says something that cannot be accepted."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_SDP, message)


class Direction(StrEnum):
    """``a=sendrecv`` and its like, from the side of whoever wrote it (RFC 8866 section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, sends: bool, receives: bool) -> "Direction":
        """Return the direction with these two halves."""
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    @property
    def sends(self) -> bool:
        """The writer sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """The writer receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> "Direction":
        """The same as the other side writes it."""
        return Direction.of(sends=self.receives, receives=self.sends)


class Setup(StrEnum):
    """Who opens the DTLS association (RFC 8842 section 5; ``holdconn`` must not be used there)."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"


class RtpMap(NamedTuple):
    """``a=rtpmap``: the encoding name is lower case here; ``channels`` is 1 where none is given."""

    encoding: str
    clock_rate: int
    channels: int


class ExtMap(NamedTuple):
    """``a=extmap`` (RFC 8285 section 8): id 1..255, the direction as the writer means it."""

    id: int
    direction: Direction
    uri: str


class Fingerprint(NamedTuple):
    """``a=fingerprint`` (RFC 8122): lower-case algorithm, upper-case hex pairs with colons."""

    algorithm: str
    value: str


class Msid(NamedTuple):
    """``a=msid`` (RFC 8830): stream id (``-``: in no stream) and track id (``""``: none given)."""

    stream_id: str
    track_id: str


class SsrcGroup(NamedTuple):
    """``a=ssrc-group`` (RFC 5576 section 4.2)."""

    semantics: str
    ssrcs: tuple[int, ...]


class Candidate(NamedTuple):
    """``a=candidate`` (RFC 8839 section 5.1); extensions after the type are checked for shape only."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    type: str

    @classmethod
    def parse(cls, value: str) -> "Candidate":
        """Return the candidate in ``value``: what follows ``a=``, with or without ``candidate:`` before it.

        Raises:
            SdpError: it is longer than a line may be, or a field is missing or out of its range.
        """
        if len(value) > MAX_LINE_CHARS:
            raise SdpError("candidate is too long")
        fields = value.removeprefix("candidate:").rstrip(" ").split(" ")
        if (
            len(fields) < 8
            or len(fields) % 2
            or fields[6] != "typ"
            or not all(map(_PRINTABLE.fullmatch, fields))
        ):
            raise SdpError(f"malformed candidate {_excerpt(value)}")
        foundation, component, transport, priority, address, port, _, kind = fields[:8]
        if len(foundation) > 32 or not _ICE_CHARS.fullmatch(foundation):
            raise SdpError(f"malformed candidate foundation {_excerpt(foundation)}")
        if len(address) > 255 or not _TOKEN.fullmatch(transport) or not _TOKEN.fullmatch(kind):
            raise SdpError(f"malformed candidate {_excerpt(value)}")
        return cls(
            foundation,
            _uint(component, 256, "candidate component"),
            transport.lower(),
            _uint(priority, 2**32 - 1, "candidate priority"),
            address,
            _uint(port, 65535, "candidate port"),
            kind,
        )


class Block:
    """Lines of a description that belong together; read-only.

    Attributes:
        text: the lines with a line feed between two.
    """

    __slots__ = ("_attributes", "text")

    def __init__(self, text: str, attributes: Mapping[str, list[str]]) -> None:
        self.text = text
        self._attributes = attributes  # every value of an attribute, in order

    @property
    def lines(self) -> list[str]:
        """The lines, without their line endings."""
        return self.text.split("\n")

    def _values(self, name: str) -> list[str] | None:
        return self._attributes.get(name)

    def has(self, name: str) -> bool:
        """Return whether the attribute is there at least once."""
        return self._values(name) is not None

    def all(self, name: str) -> list[str]:
        """Return the values of every ``a=<name>`` line, in order; ``""`` for one without a value."""
        return self._values(name) or []

    def one(self, name: str) -> str | None:
        """Return the value of the only ``a=<name>`` line, or None.

        Raises:
            SdpError: the attribute is repeated.
        """
        values = self._values(name)
        if values is None:
            return None
        if len(values) > 1:
            raise SdpError(f"a={name} is given twice")
        return values[0]

    @property
    def ufrag(self) -> str | None:
        """``a=ice-ufrag`` (RFC 8839 section 5.4: 4 to 256 characters)."""
        return self._ice_chars("ice-ufrag", 4)

    @property
    def pwd(self) -> str | None:
        """``a=ice-pwd`` (RFC 8839 section 5.4: 22 to 256 characters)."""
        return self._ice_chars("ice-pwd", 22)

    def _ice_chars(self, name: str, least: int) -> str | None:
        value = self.one(name)
        if value is not None and not (least <= len(value) <= 256 and _ICE_CHARS.fullmatch(value)):
            raise SdpError(f"malformed a={name}")
        return value

    @property
    def setup(self) -> Setup | None:
        """``a=setup``."""
        value = self.one("setup")
        if value is None:
            return None
        try:
            return Setup(value)
        except ValueError:
            raise SdpError(f"a=setup:{_excerpt(value)} is not usable") from None

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """Every ``a=fingerprint``, in order."""
        found = []
        for value in self.all("fingerprint"):
            algorithm, _, digest = value.partition(" ")
            if len(digest) > 191 or not _TOKEN.fullmatch(algorithm) or not _FINGERPRINT.fullmatch(digest):
                raise SdpError("malformed a=fingerprint")
            found.append(Fingerprint(algorithm.lower(), digest.upper()))
        return tuple(found)

    @property
    def direction(self) -> Direction | None:
        """The direction attribute, None where there is none."""
        found = [direction for direction in Direction if self.has(direction)]
        if len(found) > 1:
            raise SdpError("two directions in one section")
        return found[0] if found else None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every ``a=candidate``, in order."""
        return tuple(Candidate.parse(value) for value in self.all("candidate"))


class Terms(Block):
    """What a section says besides its mid and its streams.

    Sections of one description that say the same have the same object (:attr:`Media.terms`), so whatever
    follows from it has to be worked out only once.
    """

    __slots__ = ("formats", "media", "port", "protocol")

    def __init__(
        self,
        text: str,
        attributes: Mapping[str, list[str]],
        media: str,
        port: int,
        protocol: str,
        formats: Sequence[str],
    ) -> None:
        super().__init__(text, attributes)
        self.media = media
        self.port = port
        self.protocol = protocol
        self.formats = formats

    @classmethod
    def parse(cls, text: str) -> "Terms":
        """Return the section with these lines, the first of them an ``m=`` line (RFC 8866 section 5.14)."""
        lines = _split(text)
        fields = lines[0][2:].split(" ")
        if len(fields) < 4 or not all(map(_PRINTABLE.fullmatch, fields)):
            raise SdpError(f"malformed media line {_excerpt(lines[0])}")
        media, port, protocol, *formats = fields
        if len(formats) > MAX_FORMATS:
            raise SdpError(f"a media line with {len(formats)} formats")
        return cls(text, _read_attributes(lines), media, _uint(port, 65535, "media port"), protocol, formats)

    @property
    def payload_types(self) -> tuple[int, ...]:
        """The formats of an RTP section as payload types 0..127, each once, in the order of the line."""
        found = tuple(_uint(value, 127, "payload type") for value in self.formats)
        if len(set(found)) != len(found):
            raise SdpError("a payload type is listed twice")
        return found

    @property
    def rtpmaps(self) -> dict[int, RtpMap]:
        """``a=rtpmap`` by payload type (RFC 8866 section 6.6)."""
        found: dict[int, RtpMap] = {}
        for value in self.all("rtpmap"):
            number, _, text = value.partition(" ")
            payload_type = _uint(number, 127, "payload type")
            if payload_type in found:
                raise SdpError(f"payload type {payload_type} has two a=rtpmap")
            encoding, *numbers = text.strip(" ").split("/")
            if not 1 <= len(numbers) <= 2 or not _TOKEN.fullmatch(encoding):
                raise SdpError(f"malformed a=rtpmap:{_excerpt(value)}")
            clock_rate = _uint(numbers[0], 2**32 - 1, "clock rate")
            channels = _uint(numbers[1], 255, "channel count") if len(numbers) == 2 else 1
            found[payload_type] = RtpMap(encoding.lower(), clock_rate, channels)
        return found

    @property
    def fmtps(self) -> dict[int, str]:
        """``a=fmtp`` by payload type, the parameters as one text (RFC 8866 section 6.15)."""
        found: dict[int, str] = {}
        for value in self.all("fmtp"):
            number, _, text = value.partition(" ")
            if not number.isascii() or not number.isdigit():
                continue  # formats of other media than RTP need not be numbers
            payload_type = _uint(number, 127, "payload type")
            if payload_type in found:
                raise SdpError(f"payload type {payload_type} has two a=fmtp")
            found[payload_type] = text
        return found

    @property
    def feedback(self) -> dict[int | None, set[str]]:
        """``a=rtcp-fb`` by payload type, None for ``*`` (RFC 4585 section 4.2); spaces made single."""
        found: dict[int | None, set[str]] = {}
        for value in self.all("rtcp-fb"):
            number, _, text = value.partition(" ")
            payload_type = None if number == "*" else _uint(number, 127, "payload type")
            # pion writes "nack " for a type without parameter
            found.setdefault(payload_type, set()).add(" ".join(text.split()))
        return found

    @property
    def extmaps(self) -> tuple[ExtMap, ...]:
        """Every ``a=extmap``, in order, each id once."""
        found = []
        for value in self.all("extmap"):
            fields = value.split(" ")
            number, _, direction = fields[0].partition("/")
            if len(fields) < 2 or not _PRINTABLE.fullmatch(fields[1]):
                raise SdpError(f"malformed a=extmap:{_excerpt(value)}")
            try:
                way = Direction(direction or "sendrecv")
            except ValueError:
                raise SdpError(f"malformed a=extmap:{_excerpt(value)}") from None
            # 4096..4351: "a request for an id" in offers (RFC 8285 section 8); never usable as one
            identifier = _uint(number, 4351, "extension id")
            if identifier == 0:  # it is padding in both forms of the header
                raise SdpError("extension id 0")
            found.append(ExtMap(identifier, way, fields[1]))
        if len({extmap.id for extmap in found}) != len(found):
            raise SdpError("an extension id is given twice")
        return tuple(found)


class Media(Terms):
    """One media section.

    Attributes:
        terms: all of it but its own lines.
    """

    __slots__ = ("_own", "terms")

    def __init__(self, text: str, terms: Terms, own: Mapping[str, list[str]]) -> None:
        super().__init__(text, terms._attributes, terms.media, terms.port, terms.protocol, terms.formats)
        self.terms = terms
        self._own = own

    @classmethod
    def parse_one(cls, text: str, known: dict[str, Terms]) -> "Media":
        """Return the section with these lines; ``known``: the terms of earlier ones, by their text.

        Raises:
            SdpError: there are too many lines, or a malformed one.
        """
        if text.count("\n") >= MAX_SECTION_LINES:
            raise SdpError("a section has too many lines")
        pieces = _OWN_LINE.split(text)
        shared = "".join(pieces[::2])
        terms = known.get(shared)
        if terms is None:
            terms = known[shared] = Terms.parse(shared)
        own = _read_attributes(_split("\n".join(pieces[1::2]))) if len(pieces) > 1 else {}
        return cls(text, terms, own)

    def _values(self, name: str) -> list[str] | None:
        return self._own.get(name) or self._attributes.get(name)

    @property
    def mid(self) -> str | None:
        """``a=mid`` (RFC 5888), at most 16 characters of ``token``."""
        value = self.one("mid")
        if value is not None and not (len(value) <= MAX_MID_BYTES and _TOKEN.fullmatch(value)):
            raise SdpError(f"malformed a=mid:{_excerpt(value)}")
        return value

    @property
    def msid(self) -> Msid | None:
        """The first ``a=msid``, else that of the first ``a=ssrc:… msid:`` (older libwebrtc, GStreamer)."""
        values = self.all("msid")[:1] or [text for _, name, text in self._ssrc_lines() if name == "msid"][:1]
        if not values:
            return None
        fields = values[0].split(" ")
        if len(fields) > 2 or not all(_PRINTABLE.fullmatch(field) and len(field) <= 256 for field in fields):
            raise SdpError(f"malformed msid {_excerpt(values[0])}")
        return Msid(fields[0], fields[1] if len(fields) == 2 else "")

    @property
    def ssrcs(self) -> tuple[int, ...]:
        """The SSRCs that ``a=ssrc`` lines name (RFC 5576), each once, in order."""
        return tuple(dict.fromkeys(ssrc for ssrc, _, _ in self._ssrc_lines()))

    @property
    def ssrc_groups(self) -> tuple[SsrcGroup, ...]:
        """Every ``a=ssrc-group``, in order."""
        found = []
        for value in self.all("ssrc-group"):
            semantics, *numbers = value.split(" ")
            if len(numbers) > MAX_GROUP_SSRCS or not _TOKEN.fullmatch(semantics):
                raise SdpError(f"malformed a=ssrc-group:{_excerpt(value)}")
            found.append(SsrcGroup(semantics, tuple(_uint(number, MAX_SSRC, "SSRC") for number in numbers)))
        return tuple(found)

    def _ssrc_lines(self) -> Iterator[tuple[int, str, str]]:
        for value in self.all("ssrc"):
            number, _, text = value.partition(" ")
            name, _, rest = text.partition(":")
            yield _uint(number, MAX_SSRC, "SSRC"), name, rest


class Description:
    """A whole session description: the session part and its media sections, in order."""

    __slots__ = ("media", "session")

    def __init__(self, session: Block, media: Sequence[Media]) -> None:
        self.session = session
        self.media = media

    @classmethod
    def parse(cls, text: str) -> "Description":
        """Return ``text`` as its lines; CRLF and LF both end a line.

        Raises:
            SdpError: too large, not SDP, or a malformed ``v=``, ``o=`` or ``m=`` line.
        """
        if len(text) > MAX_BYTES:
            raise SdpError("description is too large")
        if "\0" in text or not (text.isascii() or _is_utf8(text)):
            raise SdpError("description is not UTF-8 text")
        session, *sections = text.replace("\r\n", "\n").rstrip("\n").split("\nm=")
        if session.count("\n") >= MAX_SECTION_LINES:
            raise SdpError("a section has too many lines")
        if len(sections) > MAX_SECTIONS:
            raise SdpError(f"more than {MAX_SECTIONS} media sections")
        lines = _split(session)
        _check_session(lines)
        known: dict[str, Terms] = {}
        media = [Media.parse_one(f"m={section}", known) for section in sections]
        return cls(Block(session, _read_attributes(lines)), media)

    def write(self) -> str:
        """Return the text, every line ended by CRLF."""
        blocks = (self.session, *self.media)
        return "".join([block.text.replace("\n", "\r\n") + "\r\n" for block in blocks])

    @property
    def bundles(self) -> tuple[tuple[str, ...], ...]:
        """The mids of every ``a=group:BUNDLE`` (RFC 9143), in order."""
        found = []
        for value in self.session.all("group"):
            semantics, *mids = value.rstrip(" ").split(" ")
            if semantics == "BUNDLE":
                found.append(tuple(mids))
        return tuple(found)


class Draft:
    """The lines of a session part or a media section that we write."""

    __slots__ = ("_lines",)

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def add(self, name: str, value: str | None = None) -> None:
        """Append the attribute ``a=<name>`` or ``a=<name>:<value>``."""
        self._lines.append(f"a={name}" if value is None else f"a={name}:{value}")

    def extend(self, other: "Draft") -> None:
        """Append all lines of another draft."""
        if other._lines:
            if len(other._lines) > 1:
                other._lines = ["\r\n".join(other._lines)]
            self._lines += other._lines

    def __str__(self) -> str:
        """Return the lines, each ended by CRLF."""
        return "\r\n".join(self._lines) + "\r\n"


def format_parameters(fmtp: str) -> dict[str, str]:
    """Return ``a=1; b=2`` as a mapping with lower-case names; a part without ``=`` has the value ``""``."""
    found = {}
    for part in fmtp.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = value.strip()
    return found


def _uint(text: str, most: int, what: str) -> int:
    """Return a decimal number 0..``most``, without the signs, spaces and underscores that ``int`` takes."""
    if not 0 < len(text) <= 20 or not text.isascii() or not text.isdigit() or (value := int(text)) > most:
        raise SdpError(f"malformed {what} {_excerpt(text)}")
    return value


def _split(text: str) -> list[str]:
    """Return the lines of a text, each checked for its shape."""
    lines = text.split("\n")
    if not _LINES.fullmatch(text):
        raise SdpError(_wrong_line(lines))
    return lines


def _wrong_line(lines: Sequence[str]) -> str:
    """Say what is wrong with the first line that is none."""
    line = next(line for line in lines if not _LINE.fullmatch(line))
    if len(line) > MAX_LINE_CHARS:
        return "a line is too long"
    if "\r" in line:
        return "a carriage return inside a line"
    return f"not a line of SDP: {_excerpt(line)}"


def _read_attributes(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of every ``a=`` line by its name; ``""`` for one without a value."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line[0] == "a":
            name, _, value = line[2:].partition(":")
            if name in found:
                found[name].append(value)
            else:
                found[name] = [value]
    return found


def _check_session(lines: Sequence[str]) -> None:
    """``v=0``, ``o=`` and ``s=`` come first (RFC 8866 section 5), and there is a ``t=``."""
    if len(lines) < 3 or lines[0] != "v=0" or not lines[2].startswith("s="):
        raise SdpError("description does not start with v=0, o= and s=")
    if not lines[1].startswith("o=") or not _ORIGIN.fullmatch(lines[1][2:]):
        raise SdpError("malformed o= line")
    if not any(line.startswith("t=") for line in lines):
        raise SdpError("description has no t= line")


def _is_utf8(text: str) -> bool:
    """JSON can carry lone surrogates, which no encoder takes."""
    try:
        return len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False


def _excerpt(text: str) -> str:
    return ascii(text[:60])
