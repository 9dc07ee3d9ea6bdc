"""Session descriptions: nothing gets lost, and nothing but SdpError comes out of hostile text."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaamos.errors import ErrorCode
from kaamos.rtc import sdp
from kaamos.rtc.sdp import (
    Candidate,
    Description,
    Direction,
    ExtMap,
    Fingerprint,
    Media,
    Msid,
    RtpMap,
    SdpError,
)
from tests.fuzz.sdp import fuzz_one

OFFERS = sorted((Path(__file__).parent.parent / "data" / "sdp").glob("*.sdp"))
HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
CHROMIUM = Description.parse((OFFERS[0].parent / "chromium-plain-offer.sdp").read_bytes().decode())
FIREFOX = Description.parse((OFFERS[0].parent / "firefox-simulcast-offer.sdp").read_bytes().decode())


def section(*lines: str) -> Media:
    """A video section with these attributes."""
    text = HEAD + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + "".join(f"a={line}\r\n" for line in lines)
    return Description.parse(text).media[0]


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_a_recorded_offer_is_written_as_it_was_read(path: Path) -> None:
    text = path.read_bytes().decode()
    assert Description.parse(text).write() == text
    assert Description.parse(text.replace("\r\n", "\n")).write() == text
    assert Description.parse(text.rstrip("\r\n")).write() == text


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_an_offer_cut_anywhere_is_taken_or_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        try:
            Description.parse(data[:length].decode())
        except SdpError as error:
            assert error.code is ErrorCode.INVALID_SDP
    # A whole negotiation at every line end and beside it: there are too many bytes to do it at each.
    ends = [index for index, byte in enumerate(data) if byte == ord("\n")]
    for end in ends[:: max(1, len(ends) // 12)]:
        for length in (end - 3, end - 1, end + 1, end + 4):
            fuzz_one(data[:length])


def test_random_damage_gives_nothing_but_sdp_errors() -> None:
    random_numbers = random.Random(8)
    for _ in range(200):
        data = bytearray(random_numbers.choice(OFFERS).read_bytes())
        for _ in range(random_numbers.randint(1, 12)):
            place = random_numbers.randrange(len(data))
            match random_numbers.randrange(3):
                case 0:
                    data[place] = random_numbers.randrange(256)
                case 1:
                    del data[place : place + random_numbers.randint(1, 40)]
                case _:
                    other = random_numbers.randrange(len(data))
                    data[place:place] = data[other : other + random_numbers.randint(1, 80)]
        fuzz_one(bytes(data))


# Lines of which sections differ in few: some that are a section's own, some that look like it, some for all.
LINES = (
    *(
        "a=mid:0",
        "a=mid:1",
        "a=mid",
        "a=midi:0",
        "a=msid:s t",
        "a=msid:s u",
        "a=msid-semantic: WMS",
        "b=AS:0",
    ),
    *("a=ssrc:1 cname:c", "a=ssrc:2 msid:s t", "a=ssrc-group:FID 1 2", "a=ssrcs:1", "a=ssrc", "a=sendonly"),
    *("a=recvonly", "a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=rtcp-mux"),
    *("a=rtcp-fb:96 nack", "a=extmap:4 urn:x", "a=extmap:4/recvonly urn:y", "a=setup:active", "i=a=mid:2"),
)
VIEWS = (
    *(
        "lines",
        "media",
        "port",
        "protocol",
        "formats",
        "mid",
        "payload_types",
        "rtpmaps",
        "fmtps",
        "feedback",
    ),
    *("extmaps", "msid", "ssrcs", "ssrc_groups", "direction", "setup", "candidates"),
)


def views(media: Media) -> list[object]:
    """All that a section says, with what is refused of it in its place."""
    found: list[object] = [{name: media.all(name) for name in ("mid", "midi", "rtpmap", "ssrcs", "b")}]
    for name in VIEWS:
        try:
            found.append(getattr(media, name))
        except SdpError as error:
            found.append(error.message)
    return found


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from(LINES), max_size=8), min_size=1, max_size=6), st.data())
def test_sections_say_the_same_together_as_each_alone(sections: list[list[str]], data: st.DataObject) -> None:
    sections += [data.draw(st.permutations(lines)) for lines in sections]
    texts = ["\r\n".join(["m=video 9 UDP/TLS/RTP/SAVPF 96 97", *lines, ""]) for lines in sections]
    together = Description.parse(HEAD + "".join(texts))
    alone = [Description.parse(HEAD + text).media[0] for text in texts]
    assert together.write() == HEAD + "".join(texts)
    assert [views(media) for media in together.media] == [views(media) for media in alone]
    terms = {media.terms.text: media.terms for media in together.media}
    assert all(media.terms is terms[media.terms.text] for media in together.media)
    assert [media.terms.text for media in together.media] == [media.terms.text for media in alone]


def test_all_that_sections_have_in_common_is_kept_once() -> None:
    own = [
        f"a=mid:{i}\r\na=msid:s t{i}\r\na=ssrc-group:FID {i} {i + 9}\r\na=ssrc:{i} cname:c\r\n"
        for i in (1, 2)
    ]
    head, shared = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "a=rtpmap:96 VP8/90000\r\n"
    one, two, other = Description.parse(HEAD + "".join(head + text + shared for text in [*own, ""])).media
    assert one.terms is two.terms is other.terms and (one.mid, two.mid, other.mid) == ("1", "2", None)
    assert one.ssrcs == (1,) and two.ssrcs == (2,) and other.ssrcs == ()
    (different,) = Description.parse(HEAD + head + own[0] + "a=sendonly\r\n" + shared).media
    assert different.terms.text != one.terms.text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_any_text_is_taken_or_refused(text: str) -> None:
    for prefix in ("", HEAD, HEAD + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na="):
        try:
            description = Description.parse(prefix + text)
        except SdpError:
            continue
        assert Description.parse(description.write()).write() == description.write()


# The frame


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a line"),
        ("hello", "not a line"),
        ("{}", "not a line"),
        ("v=0\r\n", "does not start"),
        ("v=1\r\no=- 1 1 IN IP4 x\r\ns=-\r\nt=0 0\r\n", "does not start"),
        ("v=0\r\ns=-\r\no=- 1 1 IN IP4 x\r\nt=0 0\r\n", "does not start"),
        ("v=0\r\no=- 1 x IN IP4 x\r\ns=-\r\nt=0 0\r\n", "malformed o="),
        ("v=0\r\no=- 1 1 IN IP4\r\ns=-\r\nt=0 0\r\n", "malformed o="),
        ("v=0\r\no=- 1 1 IN IP4 x\r\ns=-\r\n", "no t="),
        (HEAD + "\r\nm=audio 9 X 0\r\n", "not a line"),
        (HEAD + "a=x\ry\r\n", "carriage return"),
        (HEAD + "a=x\0\r\n", "not UTF-8"),
        (HEAD + "a=\ud800\r\n", "not UTF-8"),
        (HEAD + "m=audio 9 RTP/AVP\r\n", "malformed media line"),
        (HEAD + "m=audio  9 RTP/AVP 0\r\n", "malformed media line"),
        (HEAD + "m=audio 65536 RTP/AVP 0\r\n", "malformed media port"),
        (HEAD + "m=audio 9/2 RTP/AVP 0\r\n", "malformed media port"),
        (HEAD + "m=audio ٩ RTP/AVP 0\r\n", "malformed media line"),
    ],
)
def test_what_is_not_sdp_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SdpError, match=reason):
        Description.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + "a=x\r\n" * (sdp.MAX_BYTES // 5), "too large"),
        (HEAD + ("a=" + "é" * 4000 + "\r\n") * 140, "not UTF-8"),
        (HEAD + "m=audio 9 X 0\r\n" * 101, "more than 100 media sections"),
        (HEAD + "a=" + "x" * 4095 + "\r\n", "a line is too long"),
        (HEAD + "m=audio 9 X 0\r\n" + "a=x\r\n" * 1024, "too many lines"),
        (HEAD + "m=audio 9 X " + "0 " * 128 + "0\r\n", "129 formats"),
    ],
)
def test_every_size_is_bounded(text: str, reason: str) -> None:
    with pytest.raises(SdpError, match=reason):
        Description.parse(text)


def test_the_largest_sizes_are_taken() -> None:
    Description.parse(HEAD + "m=audio 9 X 0\r\n" * 100)
    Description.parse(HEAD + "a=" + "x" * 4094 + "\r\n")
    Description.parse(HEAD + "m=audio 9 X 0\r\n" + "a=x\r\n" * 1023)


def test_an_error_does_not_repeat_a_long_line() -> None:
    with pytest.raises(SdpError) as caught:
        Description.parse("\N{PILE OF POO}" * 4000)
    assert len(str(caught.value)) < 800 and str(caught.value).isascii()


# The views, on real lines


def test_views_of_a_chromium_section() -> None:
    video = CHROMIUM.media[1]
    assert (video.media, video.port, video.protocol) == ("video", 9, "UDP/TLS/RTP/SAVPF")
    assert (video.mid, video.direction, video.ufrag) == ("1", Direction.SENDRECV, "bZT7")
    assert video.payload_types[:3] == (96, 97, 102)
    assert video.rtpmaps[96] == RtpMap("vp8", 90000, 1)
    assert video.fmtps[97] == "apt=96"
    assert video.feedback[96] == {"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}
    assert ExtMap(13, Direction.SENDRECV, "urn:3gpp:video-orientation") in video.extmaps
    assert video.ssrcs == (3586730853, 123760403)
    assert video.ssrc_groups == (("FID", (3586730853, 123760403)),)
    assert CHROMIUM.bundles == (("0", "1", "2"),)
    audio = CHROMIUM.media[0]
    assert audio.rtpmaps[111] == RtpMap("opus", 48000, 2)
    assert audio.candidates[0] == Candidate("2111714114", 1, "udp", 2122194687, "127.0.0.1", 43302, "host")
    assert [candidate.transport for candidate in audio.candidates] == ["udp"] * 4 + ["tcp"] * 4


def test_views_of_a_firefox_session() -> None:
    (fingerprint,) = FIREFOX.session.fingerprints
    assert fingerprint.algorithm == "sha-256" and len(fingerprint.value) == 95
    assert FIREFOX.session.direction is Direction.SENDRECV
    assert {extmap.direction for extmap in FIREFOX.media[1].extmaps} == {
        Direction.SENDRECV,
        Direction.SENDONLY,
        Direction.RECVONLY,
    }
    assert FIREFOX.media[0].msid == Msid(
        "{25faaae2-7aba-463c-a1f7-9c42b73c6994}", "{4ac06079-7044-4878-8466-271d217747ab}"
    )


def test_an_msid_may_stand_on_an_ssrc_line_only() -> None:
    assert section("ssrc:1 cname:x", "ssrc:1 msid:stream track").msid == ("stream", "track")
    assert section("msid:stream").msid == ("stream", "")
    assert section("ssrc:1 cname:x").msid is None


def test_a_feedback_type_may_be_followed_by_a_space() -> None:
    assert section("rtcp-fb:96 nack ", "rtcp-fb:* ccm  fir").feedback == {96: {"nack"}, None: {"ccm fir"}}


def test_format_parameters_are_read_without_their_spaces() -> None:
    assert sdp.format_parameters("A=1; b = 2;;0-15;c=x=y") == {"a": "1", "b": "2", "0-15": "", "c": "x=y"}


def test_hex_of_fingerprints_is_compared_in_one_case() -> None:
    assert section("fingerprint:SHA-256 ab:cd").fingerprints == (Fingerprint("sha-256", "AB:CD"),)


@pytest.mark.parametrize("direction", Direction)
def test_a_direction_is_its_two_halves(direction: Direction) -> None:
    assert Direction.of(sends=direction.sends, receives=direction.receives) is direction
    assert direction.reversed.reversed is direction
    assert (direction.reversed.sends, direction.reversed.receives) == (direction.receives, direction.sends)


@pytest.mark.parametrize(
    ("lines", "view"),
    [
        (["mid:a", "mid:a"], lambda media: media.mid),
        (["mid:"], lambda media: media.mid),
        (["mid:a b"], lambda media: media.mid),
        (["ice-ufrag:abc"], lambda media: media.ufrag),
        (["ice-ufrag:" + "a" * 257], lambda media: media.ufrag),
        (["ice-pwd:" + "a" * 21], lambda media: media.pwd),
        (["ice-pwd:" + "a" * 22 + "é"], lambda media: media.pwd),
        (["setup:holdconn"], lambda media: media.setup),
        (["sendonly", "recvonly"], lambda media: media.direction),
        (["fingerprint:sha-256"], lambda media: media.fingerprints),
        (["fingerprint:sha-256 AB:C"], lambda media: media.fingerprints),
        (["fingerprint:sha-256 " + ":".join(["AB"] * 65)], lambda media: media.fingerprints),
        (["rtpmap:96"], lambda media: media.rtpmaps),
        (["rtpmap:96 VP8/x"], lambda media: media.rtpmaps),
        (["rtpmap:96 VP8/1/2/3"], lambda media: media.rtpmaps),
        (["rtpmap:128 VP8/90000"], lambda media: media.rtpmaps),
        (["rtpmap:+96 VP8/90000"], lambda media: media.rtpmaps),
        (["rtpmap:9_6 VP8/90000"], lambda media: media.rtpmaps),
        (["fmtp:96 a", "fmtp:96 b"], lambda media: media.fmtps),
        (["fmtp:200 a"], lambda media: media.fmtps),
        (["rtcp-fb:x nack"], lambda media: media.feedback),
        (["extmap:1"], lambda media: media.extmaps),
        (["extmap:1/both urn:x"], lambda media: media.extmaps),
        (["extmap:4352 urn:x"], lambda media: media.extmaps),
        (["extmap:1 urn:x", "extmap:1 urn:y"], lambda media: media.extmaps),
        (["ssrc:x cname:y"], lambda media: media.ssrcs),
        (["ssrc:4294967296 cname:y"], lambda media: media.ssrcs),
        (["ssrc-group:FID 1 -2"], lambda media: media.ssrc_groups),
        (["ssrc-group:SIM" + " 1" * 33], lambda media: media.ssrc_groups),
        (["msid:a b c"], lambda media: media.msid),
        (["msid:" + "a" * 257], lambda media: media.msid),
        (["msid:"], lambda media: media.msid),
    ],
)
def test_a_malformed_attribute_is_refused_by_its_view(
    lines: list[str], view: Callable[[Media], object]
) -> None:
    media = section(*lines)
    with pytest.raises(SdpError):
        view(media)


# Candidates


@pytest.mark.parametrize(
    "text",
    [
        "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host",
        "1 1 UDP 2130706431 192.0.2.1 5000 typ host",
        "1 1 udp 2130706431 2001:db8::1 5000 typ srflx raddr :: rport 0 generation 0",
        "a+/Z 2 tcp 1 fe80::1 9 typ host tcptype active ",
        "1 1 udp 1 3f2a1c1e-0000-4000-8000-000000000000.local 5000 typ host",
    ],
)
def test_a_candidate_of_any_kind_is_read(text: str) -> None:
    assert Candidate.parse(text).transport in ("udp", "tcp")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "candidate:",
        "1 1 udp 1 192.0.2.1 5000 typ",
        "1 1 udp 1 192.0.2.1 5000 host typ",
        "1 1 udp 1 192.0.2.1 65536 typ host",
        "1 1 udp 4294967296 192.0.2.1 1 typ host",
        "1 257 udp 1 192.0.2.1 1 typ host",
        "1 x udp 1 192.0.2.1 1 typ host",
        "1 1 udp 1 192.0.2.1 1 typ host raddr",
        "1 1 udp 1  1 typ host",
        "1 1 udp 1 " + "a" * 256 + " 1 typ host",
        "é 1 udp 1 192.0.2.1 1 typ host",
        "a" * 33 + " 1 udp 1 192.0.2.1 1 typ host",
        "1 1 udp 1 192.0.2.1 1 typ host" + " a b" * 2000,
        "1 1 udp 1 192.0.2.1\r\n 1 typ host",
    ],
)
def test_a_malformed_candidate_is_refused(text: str) -> None:
    with pytest.raises(SdpError):
        Candidate.parse(text)
