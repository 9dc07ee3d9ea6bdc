"""Descriptions and candidates that no honest peer sends, made from sound ones.

Each is refused as a whole (INVALID_SDP, INVALID_CANDIDATE or BAD_MESSAGE), whenever it comes.
"""

import re
from collections.abc import Callable

MIB = 1 << 20
FINGERPRINT = re.compile(r"a=fingerprint:sha-256 [0-9A-F:]{95}")

Damage = Callable[[str], str]


def split(sdp: str) -> tuple[str, list[str]]:
    """Return the session part and the media sections."""
    head, *sections = re.split(r"(?m)^(?=m=)", sdp)
    return head, sections


def within(damage: Damage, number: int = -1) -> Damage:
    """Do it to one section only."""

    def apply(sdp: str) -> str:
        head, sections = split(sdp)
        sections[number] = damage(sections[number])
        return head + "".join(sections)

    return apply


def added(lines: str) -> Damage:
    """Append to the last section."""
    return lambda sdp: sdp + lines


def replaced(pattern: str, new: str, count: int = 0) -> Damage:
    """Replace what has to be there."""

    def apply(sdp: str) -> str:
        text, found = re.subn(pattern, new, sdp, count=count, flags=re.MULTILINE)
        assert found, f"nothing like {pattern} is there"
        return text

    return apply


def with_sections(count: int) -> Damage:
    """Bring the number of sections to ``count``, all bundled, with mids and streams of their own."""

    def apply(sdp: str) -> str:
        head, sections = split(sdp)
        for number in range(count - len(sections)):
            text = re.sub(r"(?m)^a=(?:ssrc|ssrc-group|msid):.*\r\n", "", sections[-1])
            sections.append(re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:more{number}\r", text))
        mids = [re.findall(r"(?m)^a=mid:(.*)\r$", section)[0] for section in sections]
        return re.sub(r"a=group:BUNDLE.*", f"a=group:BUNDLE {' '.join(mids)}\r", head) + "".join(sections)

    return apply


def duplicate_mids(sdp: str) -> str:
    mid = re.findall(r"(?m)^a=mid:(.*)\r$", sdp)[0]
    return within(replaced(r"^a=mid:.*\r$", f"a=mid:{mid}\r"))(sdp)


CANDIDATE = "1 1 udp 2130706431 192.0.2.7 40000 typ host"

DESCRIPTIONS: dict[str, Damage] = {
    "nothing": lambda sdp: "",
    "prose": lambda sdp: "I would like to join.",
    "1 MB in one line": lambda sdp: sdp + "a=" + "x" * (MIB - len(sdp) - 4) + "\r\n",
    "1 MB in short lines": lambda sdp: sdp + "a=x\r\n" * ((MIB - len(sdp)) // 5),
    "more than 1 MB": lambda sdp: sdp + "a=x\r\n" * (MIB // 5),
    "1 MB of line feeds": lambda sdp: sdp + "\n" * (MIB - len(sdp) - 1) + "x",
    "1 MB of mids": lambda sdp: sdp + "a=mid:1\r\n" * ((MIB - len(sdp)) // 9),
    "1 MB of m= lines": lambda sdp: sdp + "m=x 9 y z\r\n" * ((MIB - len(sdp)) // 11),
    "500 sections": with_sections(500),
    "10 000 attributes": added("a=attribute:value\r\n" * 10_000),
    "10 000 candidates": added(f"a=candidate:{CANDIDATE}\r\n" * 10_000),
    "10 000 fingerprints": within(added("a=fingerprint:sha-256 " + "AB:" * 31 + "AB\r\n"), 0),
    "a NUL": added("a=x\0\r\n"),
    "half a character": added("a=\ud800\r\n"),
    "a bare carriage return": added("a=x\ry\r\n"),
    "a mid twice": duplicate_mids,
    "two mids in a section": added("a=mid:other\r\n"),
    "a mid that is none": within(replaced(r"^a=mid:.*\r$", "a=mid:a b\r")),
    "a BUNDLE of nobody": replaced(r"^a=group:BUNDLE .*\r$", "a=group:BUNDLE nobody\r"),
    "a BUNDLE with one twice": replaced(r"^(a=group:BUNDLE (\S+).*)\r$", r"\1 \2\r"),
    "a BUNDLE without one of them": replaced(r"^(a=group:BUNDLE .*) \S+\r$", r"\1\r"),
    "two BUNDLEs": replaced(r"^(a=group:BUNDLE .*) (\S+)\r$", r"\1\r\na=group:BUNDLE \2\r"),
    "no BUNDLE": replaced(r"^a=group:BUNDLE .*\r\n", ""),
    "a section without rtcp-mux": within(replaced(r"^a=rtcp-mux\r\n", "")),
    "another fingerprint": replaced(FINGERPRINT.pattern, "a=fingerprint:sha-256 " + "EF:" * 31 + "EF"),
    "another fingerprint in one place": replaced(
        FINGERPRINT.pattern, "a=fingerprint:sha-256 " + "EF:" * 31 + "EF", 1
    ),
    "a fingerprint too many": within(added("a=fingerprint:sha-512 " + "EF:" * 63 + "EF\r\n"), 0),
    "no fingerprint": replaced(r"^a=fingerprint:.*\r\n", ""),
    "a fingerprint that is none": replaced(r"^a=fingerprint:.*\r$", "a=fingerprint:sha-256 hello\r"),
    "a fingerprint by a broken hash": replaced(FINGERPRINT.pattern, "a=fingerprint:md5 " + "EF:" * 15 + "EF"),
    "no way to open DTLS": replaced(r"^a=setup:.*\r$", "a=setup:holdconn\r"),
    "no ICE credentials": replaced(r"^a=ice-(?:ufrag|pwd):.*\r\n", ""),
    "an ICE password too short": replaced(r"^a=ice-pwd:.*\r$", "a=ice-pwd:short\r"),
    "a section less": lambda sdp: "".join([split(sdp)[0], *split(sdp)[1][:-1]]),
    "a section of another kind": within(replaced(r"^m=\w+", "m=text")),
    "two directions": added("a=sendrecv\r\na=sendonly\r\na=inactive\r\n"),
    "a payload type twice": within(replaced(r"^(m=\S+ \S+ \S+ (\S+).*)\r$", r"\1 \2\r")),
    "a payload type past 127": within(replaced(r"^(m=.*)\r$", r"\1 128\r")),
    "129 formats": within(replaced(r"^(m=.*)\r$", r"\1" + " 1" * 129 + r"\r")),
    "a payload type with two meanings": added("a=rtpmap:96 x/1\r\na=rtpmap:96 y/1\r\n"),
    "a rtpmap of nothing": added("a=rtpmap:nothing\r\n"),
    "an extension id with two meanings": added("a=extmap:14 urn:x\r\na=extmap:14 urn:y\r\n"),
    "an extension id past all": added("a=extmap:99999 urn:x\r\n"),
    "an SSRC past 32 bits": added("a=ssrc:4294967296 cname:x\r\n"),
    "17 SSRCs": added("".join(f"a=ssrc:{7000 + n} cname:x\r\n" for n in range(17))),
    "an SSRC that repeats two": added(
        "".join(f"a=ssrc:{n} cname:x\r\na=ssrc-group:FID {n} 7002\r\n" for n in (7000, 7001))
    ),
    "an SSRC group of 1000": added("a=ssrc-group:SIM" + " 1" * 1000 + "\r\n"),
    "a candidate of nothing": added("a=candidate:\r\n"),
    "a candidate with a port past all": added("a=candidate:1 1 udp 1 192.0.2.7 65536 typ host\r\n"),
    "a candidate with a negative priority": added("a=candidate:1 1 udp -1 192.0.2.7 1 typ host\r\n"),
    "a candidate with a huge address": added(f"a=candidate:1 1 udp 1 {'a' * 3000} 1 typ host\r\n"),
    "a candidate that ends early": added("a=candidate:1 1 udp 1 192.0.2.7 1 typ\r\n"),
}

# The `data` of ice-candidate messages.
CANDIDATES: list[object] = [
    *(
        {"candidate": text}
        for text in ("candidate:", "hello", "1 1 udp 1", CANDIDATE + " raddr", "é " + CANDIDATE)
    ),
    {"candidate": CANDIDATE.replace("40000", "65536")},
    {"candidate": CANDIDATE.replace("2130706431", "4294967296")},
    {"candidate": CANDIDATE.replace("192.0.2.7", "a" * 256)},
    {"candidate": CANDIDATE + " a b" * 2000},
    {"candidate": f"{CANDIDATE}\r\na=setup:active"},
    {"candidate": 7},
    {"candidate": [CANDIDATE]},
    {"candidate": {"candidate": {"candidate": CANDIDATE}}},
    {"candidate": CANDIDATE, "sdpMid": 0},
    {"candidate": CANDIDATE, "sdpMid": "m" * 65},
    {"candidate": CANDIDATE, "sdpMLineIndex": -1},
    {"candidate": CANDIDATE, "sdpMLineIndex": 65536},
    {"candidate": CANDIDATE, "sdpMLineIndex": "0"},
    [],
    CANDIDATE,
]
