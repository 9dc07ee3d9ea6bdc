"""What payload types and header extension ids mean on one connection, for its whole life.

Both number spaces are shared by all sections of a BUNDLE group (RFC 9143 sections 9.1 and 9.2), and
browsers refuse a number that changes its meaning.  The peer chooses where it speaks first; where our offer
introduces a codec or an extension we take a number that nobody has used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kaamos.media.description import Extension, Kind
from kaamos.rtc.capabilities import CODEC_IDS, EXTENSIONS, FEEDBACK, offer_fmtp, static_payload_type
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


@dataclass(slots=True)
class Numbering:
    """The numbers in use on a connection."""

    _codecs: dict[int, NumberedCodec] = field(default_factory=dict)  # by payload type: negotiated
    _payload_types: dict[int, int] = field(default_factory=dict)  # codec_id -> the payload type we offer
    _foreign_payload_types: set[int] = field(default_factory=set)  # the peer's, for codecs we do not use
    _extensions: dict[Extension, int] = field(default_factory=dict)  # negotiated
    _foreign_extension_ids: set[int] = field(default_factory=set)
    _proposed_payload_types: dict[int, int] = field(default_factory=dict)  # offered, not (yet) accepted
    _proposed_extension_ids: dict[Extension, int] = field(default_factory=dict)

    def copy(self) -> "Numbering":
        """Return an independent copy: a description is checked on one and kept only if it is sound."""
        return Numbering(
            dict(self._codecs),
            dict(self._payload_types),
            set(self._foreign_payload_types),
            dict(self._extensions),
            set(self._foreign_extension_ids),
            dict(self._proposed_payload_types),
            dict(self._proposed_extension_ids),
        )

    def learn_codecs(self, codecs: Iterable[NumberedCodec]) -> None:
        """Take in the payload types that one section of the peer has for our codecs.

        Raises:
            SdpError: a payload type that already means one of our codecs now means something else.
        """
        for codec in codecs:
            known = self._codecs.get(codec.payload_type)
            if known is not None and known.codec_id != codec.codec_id:
                raise SdpError(f"payload type {codec.payload_type} changes its meaning")
            self._codecs[codec.payload_type] = codec
            self._payload_types.setdefault(codec.codec_id, codec.payload_type)
            self._foreign_payload_types.discard(codec.payload_type)

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

    def reserve(self, payload_types: Iterable[int], extension_ids: Iterable[int]) -> None:
        """Take in the numbers that one section of the peer has for what we do not use.

        To be called after all sections of the description were learned, so that their order does not matter.

        Raises:
            SdpError: a number that means one of our codecs or extensions now means something else.
        """
        for payload_type in payload_types:
            if payload_type in self._codecs:
                raise SdpError(f"payload type {payload_type} changes its meaning")
            self._foreign_payload_types.add(payload_type)
        ours = set(self._extensions.values())
        for number in extension_ids:
            if number in ours:
                raise SdpError(f"extension id {number} changes its meaning")
            self._foreign_extension_ids.add(number)

    def propose_codecs(self, kind: Kind) -> tuple[NumberedCodec, ...]:
        """Return every codec of this kind for a new section of ours; without those that find no number."""
        proposed = []
        for codec_id in CODEC_IDS[kind]:
            known = self._payload_types.get(codec_id)
            if known is not None:
                proposed.append(self._codecs[known])
            elif (number := self._propose_payload_type(codec_id)) is not None:
                proposed.append(NumberedCodec(number, codec_id, offer_fmtp(codec_id), FEEDBACK[kind]))
        return tuple(proposed)

    def propose_extensions(self, kind: Kind) -> dict[Extension, int]:
        """Return every extension of this kind for a new section of ours."""
        proposed = {}
        for extension in EXTENSIONS[kind]:
            number = self._extensions.get(extension) or self._propose_extension_id(extension)
            if number is not None:
                proposed[extension] = number
        return proposed

    def _propose_payload_type(self, codec_id: int) -> int | None:
        taken = self._codecs.keys() | self._foreign_payload_types
        number = self._proposed_payload_types.get(codec_id)
        if number is None or number in taken:
            taken |= set(self._proposed_payload_types.values())
            static = static_payload_type(codec_id)
            favourites = () if static is None else (static,)
            number = next((n for n in (*favourites, *_FREE_PAYLOAD_TYPES) if n not in taken), None)
            if number is not None:
                self._proposed_payload_types[codec_id] = number
        return number

    def _propose_extension_id(self, extension: Extension) -> int | None:
        taken = set(self._extensions.values()) | self._foreign_extension_ids
        number = self._proposed_extension_ids.get(extension)
        if number is None or number in taken:
            taken |= set(self._proposed_extension_ids.values())
            number = next((n for n in _FREE_EXTENSION_IDS if n not in taken), None)
            if number is not None:
                self._proposed_extension_ids[extension] = number
        return number
