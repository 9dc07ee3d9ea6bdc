"""A browser as far as its descriptions go: transceivers, stable numbers, rollback (RFC 9429).

It is the other side of the negotiation tests, and a strict one: whatever the server says is checked against
all that was said before on the connection.  It reads text by itself, so an error of our parser cannot hide.
"""

import itertools
from dataclasses import dataclass

CODECS = {
    "audio": {
        111: ("opus/48000/2", "minptime=10;useinbandfec=1"),
        0: ("PCMU/8000", ""),
    },
    "video": {
        96: ("VP8/90000", ""),
        98: ("VP9/90000", "profile-id=0"),
        102: ("H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        104: ("H264/90000", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
        118: ("red/90000", ""),
        119: ("rtx/90000", "apt=118"),
        45: ("AV1/90000", "level-idx=5;profile=0;tier=0"),
    },
}
RED = 63  # its fmtp names Opus, whatever number that has
RTX = {97: 96, 99: 98, 103: 102, 46: 45}  # favourite -> the favourite it repeats; H264 in mode 0 has none
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
EXTENSIONS = {
    "audio": {
        1: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        3: TRANSPORT_CC,
        4: "urn:ietf:params:rtp-hdrext:sdes:mid",
    },
    "video": {
        3: TRANSPORT_CC,
        13: "urn:3gpp:video-orientation",
        2: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        4: "urn:ietf:params:rtp-hdrext:sdes:mid",
        5: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        10: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        11: "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    },
}
RIDS = ("q", "h", "f")  # of a page that sends its camera in three sizes
FEEDBACK = {
    "audio": ("transport-cc",),
    "video": ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"),
}
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
REVERSED = dict(zip(DIRECTIONS, ("sendrecv", "recvonly", "sendonly", "inactive"), strict=True))
FINGERPRINT = "sha-256 " + ":".join(["CD"] * 32)
MAX_LINES = 100
RTX_SSRC = 10_000  # what a line's SSRC of repeats is above that of its media


def sends(direction: str) -> bool:
    return direction in ("sendrecv", "sendonly")


def receives(direction: str) -> bool:
    return direction in ("sendrecv", "recvonly")


def meet(one: str, other: str) -> str:
    """What both directions have."""
    does_send, does_receive = sends(one) and sends(other), receives(one) and receives(other)
    return DIRECTIONS[2 * (not does_send) + (not does_receive)]


def is_known(codec: tuple[str, str]) -> bool:
    """We speak it, so it keeps its number."""
    return any(codec in codecs.values() for codecs in CODECS.values())


def repeated(codec: tuple[str, str]) -> int | None:
    """Which payload type it repeats."""
    return int(codec[1].removeprefix("apt=")) if codec[0] == "rtx/90000" else None


def is_red(codec: tuple[str, str], beside: dict[int, tuple[str, str]]) -> bool:
    """It is RED of the Opus that is beside it."""
    return codec[0] == "red/48000/2" and any(
        codec[1] == f"{number}/{number}" for number, known in beside.items() if known == CODECS["audio"][111]
    )


@dataclass
class ServerSection:
    """What the server wrote of one section."""

    lines: list[str]

    def values(self, name: str) -> list[str]:
        return [line[len(name) + 3 :] for line in self.lines if line.startswith(f"a={name}:")]

    @property
    def head(self) -> list[str]:
        return self.lines[0].removeprefix("m=").split(" ")

    @property
    def mid(self) -> str:
        (mid,) = self.values("mid")
        return mid

    @property
    def is_rejected(self) -> bool:
        return self.head[1] == "0"

    @property
    def direction(self) -> str:
        (direction,) = (line[2:] for line in self.lines if line[2:] in DIRECTIONS)
        return direction

    @property
    def codecs(self) -> dict[int, tuple[str, str, tuple[str, ...]]]:
        fmtps = dict(value.split(" ", 1) for value in self.values("fmtp"))
        rtpmaps = dict(value.split(" ", 1) for value in self.values("rtpmap"))
        return {
            # Without transport-cc.
            int(pt): (rtpmaps[pt], fmtps.get(pt, ""), tuple(self._feedback(pt)))
            for pt in self.head[3:]
            if not self.is_rejected
        }

    def _feedback(self, payload_type: str) -> list[str]:
        entries = (value.split(" ", 1) for value in self.values("rtcp-fb"))
        return [item for number, item in entries if number == payload_type and item != "transport-cc"]

    @property
    def has_transport_cc(self) -> bool:
        """Extension and feedback go together."""
        media = [pt for pt, (name, _, _) in self.codecs.items() if name != "rtx/90000"]
        found = TRANSPORT_CC in self.extensions.values()
        assert [value for value in self.values("rtcp-fb") if value.endswith(" transport-cc")] == [
            f"{pt} transport-cc" for pt in media if found
        ]
        return found

    @property
    def lacks_repeats(self) -> bool:
        """It is video without RTX: towards a subscriber nothing numbers its packets."""
        return self.head[0] == "video" and all(name != "rtx/90000" for name, _, _ in self.codecs.values())

    @property
    def rids(self) -> tuple[str, ...]:
        """What the server receives by simulcast."""
        rids = tuple(value.removesuffix(" recv") for value in self.values("rid"))
        assert self.values("simulcast") == ([f"recv {';'.join(rids)}"] if rids else [])
        assert not rids or "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" in self.extensions.values()
        assert not rids or receives(self.direction)
        return rids

    @property
    def extensions(self) -> dict[int, str]:
        return {int(number): uri for number, uri in (value.split(" ") for value in self.values("extmap"))}


def _ice_of(sections: list[ServerSection]) -> tuple[str, str]:
    """The credentials, which all sections have in common."""
    ((ice),) = {(*section.values("ice-ufrag"), *section.values("ice-pwd")) for section in sections}
    ufrag, pwd = ice
    return ufrag, pwd


@dataclass
class Transceiver:
    kind: str
    direction: str
    ssrc: int
    mid: str | None = None
    offered: str = "inactive"  # the direction in our last offer
    said: str = "inactive"  # the direction in our last description that stands
    allowed: str = "sendrecv"  # what the server's offer left us to say there; everything in an offer of ours
    is_stopped: bool = False
    is_alive: bool = False  # in use as far as both sides have agreed
    codecs: dict[int, tuple[str, str]] | None = None  # offered or negotiated
    extensions: dict[int, str] | None = None
    sends_now: bool = False
    receives_now: bool = False
    showing: str | None = None  # the msid that the server told
    rids: tuple[str, ...] = ()  # simulcast: what the page asked for
    agreed_rids: tuple[str, ...] = ()  # what we send now, as the server accepted it
    source: str | None = None  # what the page says of it beside its descriptions


class SdpPeer:
    """One side of a connection; the other is a :class:`kaamos.rtc.negotiation.Negotiator`."""

    def __init__(self, *, ufrag: str = "peer") -> None:
        self.transceivers: list[Transceiver] = []
        self.lines: list[Transceiver] = []  # negotiated m-lines; a stopped one may be used again
        self.ufrag, self.pwd = ufrag, "x" * 24
        self.server_ice: tuple[str, str] | None = None  # ufrag and pwd in its last description that stands
        self.wants_restart = False  # of ICE; stays so until one is through
        self.is_ice_unsure = False  # the server may be ahead of us or behind: something was not heard
        self._ice_before: tuple[str, str] | None = None  # ours, while an offer to restart is pending
        self._generations = itertools.count(1)
        self._seen_ice: set[tuple[str, str]] = set()
        self.pending: list[Transceiver] | None = None  # the m-lines of an offer without answer
        self._next_mid = 0
        self._next_ssrc = 1
        self._version = 0
        self._payload_types: dict[tuple[str, str], int] = {}
        self._extension_ids: dict[str, int] = {}
        self._before_offer = self._payload_types, self._extension_ids
        self._server_version = 0
        self._last_read = ""
        self._server_codecs: dict[int, tuple[str, str, tuple[str, ...]]] = {}
        self._server_extensions: dict[int, str] = {}
        self._server_ssrcs: dict[tuple[str, str], str] = {}

    def add(self, kind: str, direction: str, *, rids: tuple[str, ...] = ()) -> Transceiver:
        transceiver = Transceiver(kind, direction, ssrc=self._next_ssrc, rids=rids)
        self._next_ssrc += 1
        self.transceivers.append(transceiver)
        return transceiver

    def line_of(self, mid: str) -> Transceiver:
        (found,) = (line for line in self.lines if line.mid == mid)
        return found

    @property
    def needs_offer(self) -> bool:
        """What a browser raises ``negotiationneeded`` for (webrtc-pc section 4.7.3)."""
        if self.wants_restart and any(line.is_alive and not line.is_stopped for line in self.lines):
            return True
        return any(self._needs_offer(transceiver) for transceiver in self.transceivers)

    def _needs_offer(self, line: Transceiver) -> bool:
        if line.is_stopped or line.mid is None:
            return line.is_alive or not line.is_stopped
        # An answer that could not say "send" has no a=msid, so a line that wants to send asks again.
        lacks_msid = sends(line.direction) and not sends(line.said)
        return lacks_msid or meet(line.direction, line.allowed) != line.said

    # ICE

    def restart_ice(self) -> None:
        """Let the next offer have new credentials; nothing is to be done before there are any."""
        self.wants_restart = self.server_ice is not None

    def _renew_ice(self) -> None:
        number = next(self._generations)
        self.ufrag, self.pwd = f"peer{number}", f"{number:024}"

    def _offer_ice(self, order: list[Transceiver]) -> None:
        # Without a section there is no transport, and nothing of it in the offer.
        if self.wants_restart and not all(line.is_stopped for line in order):
            self._ice_before = self.ufrag, self.pwd
            self._renew_ice()

    def _roll_back_ice(self) -> None:
        if self._ice_before is not None:
            self.ufrag, self.pwd = self._ice_before
            self._ice_before = None
            self.is_ice_unsure = True

    def _accept_ice(self, sections: list[ServerSection]) -> None:
        """Check that an answer has new credentials after new ones of ours, and the known ones else."""
        if all(section.is_rejected for section in sections):
            return
        ice = _ice_of(sections)
        if self._ice_before is not None:
            assert ice not in self._seen_ice
            self._ice_before, self.wants_restart = None, False
        else:
            assert self.is_ice_unsure or self.server_ice in (None, ice)
        self.is_ice_unsure = False
        self.server_ice = ice
        self._seen_ice.add(ice)

    def _answer_ice(self, sections: list[ServerSection]) -> None:
        """Answer new credentials of the server with new ones (RFC 9429 section 5.3.1)."""
        lines = itertools.zip_longest(sections, self.lines)
        if all(section.is_rejected or (line and line.is_stopped) for section, line in lines):
            return
        ice = _ice_of(sections)
        if self.server_ice not in (None, ice):
            assert self.is_ice_unsure and ice not in self._seen_ice
            self._renew_ice()
            self.wants_restart = False
        self.server_ice = ice
        self._seen_ice.add(ice)

    # Offering

    def offer(self) -> str:
        assert self.pending is None
        order = list(self.lines)
        self._before_offer = dict(self._payload_types), dict(self._extension_ids)
        for transceiver in self.transceivers:
            if transceiver.mid is not None or transceiver.is_stopped:
                continue
            reusable = next(
                (i for i, line in enumerate(order) if line.is_stopped and not line.is_alive), None
            )
            if reusable is not None:
                order[reusable] = transceiver
            elif len(order) < MAX_LINES:
                order.append(transceiver)
            self._number(transceiver)
            transceiver.mid = str(self._next_mid)
            self._next_mid += 1
        self.pending = order
        self._offer_ice(order)
        for line in order:
            line.offered = line.direction
            if line.extensions is not None and not line.is_stopped:
                self._number_extensions(line)
        return self._write(
            [self._section(t, t.direction, "actpass", t.rids) for t in self.pending],
            [t.mid or "" for t in self.pending if not t.is_stopped],
        )

    def rollback(self) -> None:
        assert self.pending is not None
        for line in self.pending:
            if line not in self.lines:
                line.mid = None
        self._payload_types, self._extension_ids = self._before_offer
        self._roll_back_ice()
        self.pending = None

    def accept(self, answer: str) -> None:
        """Take the server's answer to the pending offer."""
        assert self.pending is not None
        bundle, sections = self._read(answer)
        assert len(sections) == len(self.pending)
        for section, line in zip(sections, self.pending, strict=True):
            assert section.head[0] == line.kind
            assert section.mid == line.mid
            if line.is_stopped:
                assert section.is_rejected
            if section.is_rejected:
                self._refuse(line)
                continue
            assert line.codecs is not None and line.extensions is not None
            assert section.codecs.keys() <= line.codecs.keys()
            assert section.extensions.items() <= line.extensions.items()
            assert not sends(section.direction) or receives(line.offered)
            assert not receives(section.direction) or sends(line.offered)
            line.codecs = {pt: (name, fmtp) for pt, (name, fmtp, _) in section.codecs.items()}
            assert section.has_transport_cc or section.lacks_repeats
            line.agreed_rids = line.rids if sends(line.offered) else ()
            assert section.rids == line.agreed_rids
            line.said, line.allowed = line.offered, "sendrecv"
            self._settle(line, section, receives(section.direction), sends(section.direction))
        assert bundle == [s.mid for s in sections if not s.is_rejected]
        self._accept_ice(sections)
        self.lines = self.pending
        self.pending = None

    # Answering

    def answer(self, offer: str) -> str:
        """Take an offer of the server, rolling back one of our own, and answer it; perhaps once more."""
        if self.pending is not None:
            self.rollback()
        bundle, sections = self._read(offer)
        assert len(sections) >= len(self.lines)
        assert bundle == [section.mid for section in sections if not section.is_rejected]
        self._answer_ice(sections)
        lines: list[Transceiver] = []
        texts = []
        for index, section in enumerate(sections):
            line = self._line_for(index, section)
            lines.append(line)
            if section.is_rejected or line.is_stopped:
                self._refuse(line)
                texts.append(self._section(line, "inactive", "active", ()))
                continue
            self._agree(line, section)
            line.allowed = REVERSED[section.direction]
            line.said = direction = meet(line.direction, line.allowed)
            assert section.has_transport_cc or section.lacks_repeats
            # Chromium refuses its own answer where simulcast goes away or has no extension to name it by.
            # More than that is there if an answer of ours got lost.
            assert set(line.agreed_rids) <= set(section.rids)
            line.agreed_rids = line.agreed_rids if sends(direction) else ()
            self._settle(line, section, sends(direction), receives(direction))
            texts.append(self._section(line, direction, "active", line.agreed_rids))
        self.lines = lines
        return self._write(texts, [line.mid or "" for line in lines if not line.is_stopped])

    def _line_for(self, index: int, section: ServerSection) -> Transceiver:
        if index < len(self.lines):
            line = self.lines[index]
        else:
            assert not section.is_rejected
            line = self.add(section.head[0], "recvonly")
            line.mid = section.mid
        assert (line.mid, line.kind) == (section.mid, section.head[0])
        return line

    def _agree(self, line: Transceiver, section: ServerSection) -> None:
        """Take the numbers of the server for what we know, too."""
        known, uris = CODECS[line.kind].values(), EXTENSIONS[line.kind].values()
        line.codecs = {pt: (name, f) for pt, (name, f, _) in section.codecs.items() if (name, f) in known}
        has_rtx = [CODECS["video"][favourite] for favourite in RTX.values()]
        for pt, (name, fmtp, _) in section.codecs.items():
            if line.codecs.get(repeated((name, fmtp)) or -1) in has_rtx or is_red((name, fmtp), line.codecs):
                line.codecs[pt] = (name, fmtp)
        line.extensions = {number: uri for number, uri in section.extensions.items() if uri in uris}
        assert line.codecs
        for payload_type, codec in line.codecs.items():
            assert self._payload_types.setdefault(codec, payload_type) == payload_type
        for number, uri in line.extensions.items():
            assert self._extension_ids.setdefault(uri, number) == number

    def _number(self, line: Transceiver) -> None:
        """Give a line of our own its numbers: those in use, our favourites, or free ones."""
        line.codecs = {}
        for favourite, codec in CODECS[line.kind].items():
            used = self._payload_types.values()
            number = next(n for n in [favourite, *range(127, 95, -1), *range(35, 64)] if n not in used)
            line.codecs[self._payload_types.setdefault(codec, number)] = codec
        numbers = {
            favourite: self._payload_types.get(CODECS["video"][media]) for favourite, media in RTX.items()
        }
        beside = {favourite: ("rtx/90000", f"apt={number}") for favourite, number in numbers.items()}
        if line.kind == "audio":
            opus = self._payload_types[CODECS["audio"][111]]
            beside = {RED: ("red/48000/2", f"{opus}/{opus}")}
        for favourite, codec in beside.items():
            used = self._payload_types.values()
            number = next(n for n in [favourite, *range(127, 95, -1), *range(35, 64)] if n not in used)
            line.codecs[self._payload_types.setdefault(codec, number)] = codec
        self._number_extensions(line)

    def _number_extensions(self, line: Transceiver) -> None:
        line.extensions = {}
        for favourite, uri in EXTENSIONS[line.kind].items():
            taken = self._extension_ids.values()
            number = next(n for n in [favourite, *range(1, 15)] if n not in taken)
            line.extensions[self._extension_ids.setdefault(uri, number)] = uri

    def _refuse(self, line: Transceiver) -> None:
        line.is_stopped = True
        line.is_alive = False
        line.sends_now = line.receives_now = False
        line.showing = None

    def _settle(self, line: Transceiver, section: ServerSection, sends_now: bool, receives_now: bool) -> None:
        line.is_alive = True
        line.sends_now, line.receives_now = sends_now, receives_now
        line.showing = section.values("msid")[0] if receives_now else None

    # Text

    def _section(self, line: Transceiver, direction: str, setup: str, rids: tuple[str, ...]) -> list[str]:
        if line.codecs is None or line.extensions is None:
            self._number(line)  # refused before it was ever agreed on
        codecs = line.codecs or {}
        port = 0 if line.is_stopped else 9
        formats = " ".join(map(str, codecs))
        lines = [f"m={line.kind} {port} UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0"]
        lines.append(f"a=mid:{line.mid}")
        lines += [f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.pwd}", f"a=fingerprint:{FINGERPRINT}"]
        lines += [f"a=setup:{setup}", f"a={direction}", "a=rtcp-mux", "a=rtcp-rsize"]
        lines.append("a=rtcp-xr:rcvr-rtt=all")
        lines += [f"a=extmap:{number} {uri}" for number, uri in (line.extensions or {}).items()]
        for payload_type, (name, fmtp) in codecs.items():
            lines.append(f"a=rtpmap:{payload_type} {name}")
            lines += [f"a=fmtp:{payload_type} {fmtp}"] if fmtp else []
            has_transport_cc = TRANSPORT_CC in (line.extensions or {}).values()
            for feedback in FEEDBACK[line.kind] if name != "rtx/90000" else ():
                if feedback != "transport-cc" or has_transport_cc:
                    lines.append(f"a=rtcp-fb:{payload_type} {feedback}")
        if sends(direction):
            rtx = [line.ssrc + RTX_SSRC] if any(name == "rtx/90000" for name, _ in codecs.values()) else []
            lines += [f"a=msid:camera {line.kind}{line.ssrc}"]
            if rids and not line.is_stopped:
                return [*lines, *(f"a=rid:{rid} send" for rid in rids), f"a=simulcast:send {';'.join(rids)}"]
            lines += [f"a=ssrc-group:FID {line.ssrc} {ssrc}" for ssrc in rtx]
            lines += [f"a=ssrc:{ssrc} cname:peer" for ssrc in [line.ssrc, *rtx]]
        return lines

    def _write(self, sections: list[list[str]], bundle: list[str]) -> str:
        self._version += 1
        session = ["v=0", f"o=- 77 {self._version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        session.append("a=group:BUNDLE" + "".join(f" {mid}" for mid in bundle))
        session.append("a=extmap-allow-mixed")
        return "".join(line + "\r\n" for block in [session, *sections] for line in block)

    def _read(self, sdp: str) -> tuple[list[str], list[ServerSection]]:
        """Return the server's bundle and sections, checked against all it said before."""
        assert sdp.endswith("\r\n")
        session, *blocks = [part.split("\r\n") for part in sdp.removesuffix("\r\n").split("\r\nm=")]
        version = int(session[1].split(" ")[2])
        assert version > self._server_version or sdp == self._last_read
        self._last_read = sdp
        self._server_version = version
        sections = [ServerSection(["m=" + block[0], *block[1:]]) for block in blocks]
        mids = [section.mid for section in sections if section.values("mid")]
        assert len(set(mids)) == len(mids)
        ours = {payload_type: codec for codec, payload_type in self._payload_types.items()}
        for section in sections:
            for payload_type, codec in section.codecs.items():
                assert ours.get(payload_type, codec[:2]) == codec[:2]
                # Only what both sides use keeps its number; what we never accepted is free again.
                known = self._server_codecs.setdefault(payload_type, codec)
                assert known == codec or not self._is_spoken(known[:2])
                self._server_codecs[payload_type] = codec
                if (media := repeated(codec[:2])) is not None:
                    assert media in section.codecs and not codec[2]
            for number, uri in section.extensions.items():
                known_uri = self._server_extensions.setdefault(number, uri)
                assert known_uri == uri or not any(known_uri in uris.values() for uris in EXTENSIONS.values())
                self._server_extensions[number] = uri
            assert section.is_rejected or section.values("rtcp-xr") == ["rcvr-rtt=all"]
            self._check_ssrcs(section)
        assert len(set(self._server_ssrcs.values())) == len(self._server_ssrcs)
        assert "a=extmap-allow-mixed" in session
        (group,) = (line for line in session if line.startswith("a=group:BUNDLE"))
        return group.split(" ")[1:], sections

    def _check_ssrcs(self, section: ServerSection) -> None:
        ssrcs = [value.split(" ")[0] for value in section.values("ssrc")]
        groups = section.values("ssrc-group")
        if section.is_rejected or not sends(section.direction):
            assert not ssrcs and not groups and not section.values("msid")
            return
        assert len(section.values("msid")) == 1
        assert self._server_ssrcs.setdefault((section.mid, "media"), ssrcs[0]) == ssrcs[0]
        if any(repeated(codec[:2]) is not None for codec in section.codecs.values()):
            assert len(ssrcs) == 2 and groups == [f"FID {ssrcs[0]} {ssrcs[1]}"]
            assert self._server_ssrcs.setdefault((section.mid, "rtx"), ssrcs[1]) == ssrcs[1]
        else:
            assert len(ssrcs) == 1 and not groups

    def _is_spoken(self, codec: tuple[str, str]) -> bool:
        """We speak it under the number it has, so both may not change."""
        return is_known(codec) or codec in self._payload_types
