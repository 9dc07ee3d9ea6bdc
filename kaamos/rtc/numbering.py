"""What payload types and header extension ids mean on one connection, for its whole life.

Both number spaces are shared by all sections of a BUNDLE group (RFC 9143 sections 9.1 and 9.2), and
browsers refuse a number that changes its meaning.  The peer chooses where it speaks first; where our offer
introduces a codec or an extension we take a number that nobody has used.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kaamos.media.description import Extension, Kind
from kaamos.rtc.capabilities import (
    CODEC_IDS,
    EXTENSIONS,
    FEEDBACK,
    OPUS,
    RED,
    offer_fmtp,
    red_fmtp,
    static_payload_type,
)
from kaamos.rtc.sdp import SdpError

# The dynamic range first, then unassigned numbers below the ones that rtcp-mux takes (RFC 5761 section 4).
_FREE_PAYLOAD_TYPES = (*range(96, 128), *range(35, 64))
_FREE_EXTENSION_IDS = range(1, 15)  # one-byte headers (RFC 8285 section 4.2)


@dataclass(frozen=True, slots=True)
class NumberedCodec:
    """A codec under a payload type, as our descriptions write it.

    libwebrtc wants a payload type to carry the same parameters and feedback in every section of a bundle.
    """

    payload_type: int
    codec_id: int
    fmtp: str
    feedback: tuple[str, ...]  # what both sides use, in the order of FEEDBACK
    rtx: int | None = None  # the payload type of its repeats (RFC 4588)


@dataclass(slots=True)
class Numbering:
    """The numbers in use on a connection."""

    _codecs: dict[int, NumberedCodec] = field(default_factory=dict)  # by payload type: negotiated
    _payload_types: dict[int, int] = field(default_factory=dict)  # codec_id -> the payload type we offer
    _repeated: dict[int, int] = field(default_factory=dict)  # RTX payload type -> what it repeats: negotiated
    _foreign_payload_types: set[int] = field(default_factory=set)  # the peer's, for codecs we do not use
    _extensions: dict[Extension, int] = field(default_factory=dict)  # negotiated
    _foreign_extension_ids: set[int] = field(default_factory=set)
    _proposed_payload_types: dict[int, int] = field(default_factory=dict)  # offered, not (yet) accepted
    _proposed_rtx: dict[int, int] = field(default_factory=dict)  # payload type -> that of its repeats
    _proposed_extension_ids: dict[Extension, int] = field(default_factory=dict)

    def copy(self) -> "Numbering":
        """Return an independent copy: a description is checked on one and kept only if it is sound."""
        return Numbering(
            dict(self._codecs),
            dict(self._payload_types),
            dict(self._repeated),
            set(self._foreign_payload_types),
            dict(self._extensions),
            set(self._foreign_extension_ids),
            dict(self._proposed_payload_types),
            dict(self._proposed_rtx),
            dict(self._proposed_extension_ids),
        )

    def learn_codecs(self, codecs: Iterable[NumberedCodec]) -> None:
        """Take in the payload types that one section of the peer has for our codecs.

        Raises:
            SdpError: a payload type that already means one of our codecs now means something else.
        """
        for codec in codecs:
            number, rtx = codec.payload_type, codec.rtx
            known = self._codecs.get(number)
            if number in self._repeated or (known is not None and known.codec_id != codec.codec_id):
                raise SdpError(f"payload type {number} changes its meaning")
            self._codecs[number] = codec
            self._payload_types.setdefault(codec.codec_id, number)
            self._foreign_payload_types.discard(number)
            if rtx is None:
                continue
            if rtx in self._codecs or self._repeated.setdefault(rtx, number) != number:
                raise SdpError(f"payload type {rtx} changes its meaning")
            self._foreign_payload_types.discard(rtx)

    def learn_extensions(self, extensions: Mapping[Extension, int]) -> frozenset[Extension]:
        """Take in the ids that one section of the peer has for our extensions; return those it may use.

        An extension that already has another id is left out: the engine looks for it under one id only.

        Raises:
            SdpError: an id that already means one of our extensions now means something else.
        """
        meanings = {number: extension for extension, number in self._extensions.items()}
        for extension, number in extensions.items():
            if meanings.get(number, extension) is not extension:
                raise SdpError(f"extension id {number} changes its meaning")
            if self._extensions.setdefault(extension, number) == number:
                self._foreign_extension_ids.discard(number)
            else:
                self._foreign_extension_ids.add(number)
        return frozenset(ext for ext, number in extensions.items() if self._extensions[ext] == number)

    def reserve(self, payload_types: Mapping[int, int | None], extension_ids: Iterable[int]) -> None:
        """Take in the numbers that one section of the peer has for what we do not use.

        A payload type comes with the one it repeats, if that is what it does: beside a codec of another
        section it means the same there.  To be called after all sections of the description were learned,
        so that their order does not matter.

        Raises:
            SdpError: a number that means one of our codecs or extensions now means something else.
        """
        for payload_type, repeated in payload_types.items():
            if payload_type in self._codecs or self._repeated.get(payload_type, repeated) != repeated:
                raise SdpError(f"payload type {payload_type} changes its meaning")
            if payload_type not in self._repeated:
                self._foreign_payload_types.add(payload_type)
        ours = set(self._extensions.values())
        for number in extension_ids:
            if number in ours:
                raise SdpError(f"extension id {number} changes its meaning")
            self._foreign_extension_ids.add(number)

    def propose_codecs(self, kind: Kind) -> tuple[NumberedCodec, ...]:
        """Return every codec of this kind for a new section of ours; without those that find no number.

        Video has its repeats beside it, as far as the numbers reach: codecs come first.
        """
        proposed = []
        for codec_id in CODEC_IDS[kind]:
            known = self._payload_types.get(codec_id)
            if known is not None:
                proposed.append(self._codecs[known])
            elif (number := self._propose_payload_type(codec_id)) is not None:
                proposed.append(NumberedCodec(number, codec_id, offer_fmtp(codec_id), FEEDBACK[kind]))
        if kind is not Kind.VIDEO:
            return tuple(_with_red(proposed))
        return tuple(replace(codec, rtx=self._propose_rtx(codec.payload_type)) for codec in proposed)

    def propose_extensions(self, kind: Kind) -> dict[Extension, int]:
        """Return every extension of this kind for a new section of ours; without those that find no id.

        Also those that only a publisher sends: a browser may start to send in a section that we made.
        """
        proposed: dict[Extension, int] = {}
        for extension in EXTENSIONS[kind]:
            number = self._extensions.get(extension) or self._propose_extension_id(extension)
            if number is not None:
                proposed[extension] = number
        return proposed

    def _propose_payload_type(self, codec_id: int) -> int | None:
        number = self._proposed_payload_types.get(codec_id)
        if number is None or number in self._taken_payload_types():
            static = static_payload_type(codec_id)
            number = self._free_payload_type(() if static is None else (static,))
            if number is not None:
                self._proposed_payload_types[codec_id] = number
        return number

    def _propose_rtx(self, payload_type: int) -> int | None:
        """Return a number for the repeats of a payload type: the one they have, or one that is free."""
        known = next((rtx for rtx, repeated in self._repeated.items() if repeated == payload_type), None)
        if known is not None:
            return known
        number = self._proposed_rtx.get(payload_type)
        if number is None or number in self._taken_payload_types():
            number = self._free_payload_type(())
            if number is not None:
                self._proposed_rtx[payload_type] = number
        return number

    def _taken_payload_types(self) -> set[int]:
        return self._codecs.keys() | self._repeated.keys() | self._foreign_payload_types

    def _free_payload_type(self, favourites: tuple[int, ...]) -> int | None:
        """Return a number that neither side has used, nor we have offered, for anything."""
        taken = self._taken_payload_types()
        taken.update(self._proposed_payload_types.values(), self._proposed_rtx.values())
        return next((number for number in (*favourites, *_FREE_PAYLOAD_TYPES) if number not in taken), None)

    def _propose_extension_id(self, extension: Extension) -> int | None:
        taken = set(self._extensions.values()) | self._foreign_extension_ids
        number = self._proposed_extension_ids.get(extension)
        if number is None or number in taken:
            taken |= set(self._proposed_extension_ids.values())
            number = next((n for n in _FREE_EXTENSION_IDS if n not in taken), None)
            if number is not None:
                self._proposed_extension_ids[extension] = number
        return number


def _with_red(codecs: Sequence[NumberedCodec]) -> Iterator[NumberedCodec]:
    """Let RED name the payload type of Opus; without RED where it is known to name another one."""
    fmtp = next((red_fmtp(codec.payload_type) for codec in codecs if codec.codec_id == OPUS), None)
    for codec in codecs:
        if codec.codec_id != RED:
            yield codec
        elif fmtp is not None and codec.fmtp in ("", fmtp):
            yield replace(codec, fmtp=fmtp)
