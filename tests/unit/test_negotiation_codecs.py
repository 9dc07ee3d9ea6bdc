"""Which codecs are preferred, and what becomes of Opus with redundancy (RED) on the way."""

import re

import pytest

from kaamos.media.description import Kind, PayloadFormat
from kaamos.rtc.capabilities import CODECS, OPUS, RED
from kaamos.rtc.negotiation import Mid
from kaamos.rtc.sdp import Description
from tests.support.negotiation import (
    answer_to,
    client_offers,
    established,
    negotiator,
    recorded,
    refused,
    server_offers,
)


def video_names(description: Description, index: int) -> list[str]:
    """The codecs of a section, each once, best first, without repeats."""
    media = description.media[index]
    names = [media.rtpmaps[number].encoding for number in media.payload_types]
    return [name for name in dict.fromkeys(names) if name != "rtx"]


# The order


def test_an_offer_in_any_order_is_answered_in_that_of_the_room() -> None:
    offer = recorded("chromium-plain")
    (line,) = re.findall("m=video .*", offer)
    head, numbers = line.split(" SAVPF ") if " SAVPF " in line else line.split("SAVPF ")
    backwards = f"{head}SAVPF {' '.join(reversed(numbers.split()))}"
    _, answer = answer_to(offer.replace(line, backwards))
    assert video_names(answer, 1) == ["vp8", "h264", "vp9", "av1"]


def test_our_own_sections_offer_the_order_of_the_room() -> None:
    server, _ = answer_to(recorded("firefox-plain"))
    server.add_section(Kind.VIDEO)
    offer = Description.parse(server.create_offer())
    assert video_names(offer, 3) == ["vp8", "h264", "vp9", "av1", "h265"]


@pytest.mark.parametrize("name", ["VP9", "AV1", "H264"])
def test_a_section_that_offers_only_one_is_answered_with_that(name: str) -> None:
    others = {"VP8", "H264", "VP9", "AV1"} - {name}
    offer = recorded("chromium-plain")
    for other in others:
        offer = offer.replace(f" {other}/90000", " x/90000")
    _, answer = answer_to(offer)
    assert video_names(answer, 1) == [name.lower()]


def test_h265_is_taken_where_it_is_offered_and_comes_last() -> None:
    offer = recorded("chromium-plain").replace("a=rtpmap:100 VP9/90000", "a=rtpmap:100 H265/90000")
    offer = offer.replace(
        "a=fmtp:100 profile-id=2", "a=fmtp:100 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"
    )
    server, answer = answer_to(offer)
    assert video_names(answer, 1) == ["vp8", "h264", "vp9", "av1", "h265"]
    (codec,) = (c for c in server.up_sections[Mid("1")].config.codecs if c.payload_type == 100)
    assert codec.format is PayloadFormat.H265 and CODECS[codec.codec_id].profile == "1"
    assert answer.media[1].fmtps[100] == "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"
    assert answer.media[1].fmtps[101] == "apt=100"


# Opus with redundancy


def test_red_is_taken_beside_its_opus_and_opus_stays_first() -> None:
    server, answer = answer_to(recorded("chromium-plain"))
    up = server.up_sections[Mid("0")].config
    assert [(codec.payload_type, codec.format) for codec in up.codecs[:2]] == [
        (111, PayloadFormat.OPAQUE),
        (63, PayloadFormat.RED),
    ]
    assert answer.media[0].fmtps[63] == "111/111" and answer.media[0].rtpmaps[63] == ("red", 48000, 2)
    down = server.down_sections[Mid("0")].config
    assert down.payload_types[OPUS] == 111 and down.payload_types[RED] == 63


def test_a_page_that_prefers_red_sends_red() -> None:
    _, answer = answer_to(recorded("chromium-plain").replace("SAVPF 111 63 9", "SAVPF 63 9 111"))
    assert answer.media[0].payload_types == (63, 111, 0, 8)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("a=fmtp:63 111/111", "a=fmtp:63 110/110"),
        ("a=fmtp:63 111/111", "a=fmtp:63 111/0"),
        ("a=fmtp:63 111/111", "a=fmtp:63 111"),
        ("a=fmtp:63 111/111", "a=x"),
        ("a=rtpmap:63 red/48000/2", "a=rtpmap:63 red/8000"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 x/48000/2"),
    ],
)
def test_red_of_something_else_is_not_ours(pattern: str, replacement: str) -> None:
    offer = recorded("chromium-plain")
    assert pattern in offer
    _, answer = answer_to(offer.replace(pattern, replacement))
    assert 63 not in answer.media[0].payload_types


def test_red_beside_a_second_opus_is_not_ours() -> None:
    """Packets of one payload type go out under one payload type: RED has to wrap that one."""
    offer = recorded("chromium-plain").replace(
        "a=rtpmap:110 telephone-event/48000", "a=rtpmap:110 opus/48000/2"
    )
    _, answer = answer_to(offer.replace("a=fmtp:63 111/111", "a=fmtp:63 110/110"))
    assert answer.media[0].payload_types == (111, 0, 8)


def test_our_own_sections_offer_red_around_the_opus_they_offer() -> None:
    server, peer = established()  # nothing is numbered yet
    mid = server.add_section(Kind.AUDIO)
    server.play(mid, "ada", "TR_1")
    media = Description.parse(server.create_offer()).media[0]
    opus, red = media.payload_types[:2]
    assert (media.rtpmaps[opus].encoding, media.rtpmaps[red].encoding) == ("opus", "red")
    assert media.fmtps[red] == f"{opus}/{opus}"
    server.withdraw_offer()
    server_offers(server, peer)
    assert server.down_sections[mid].config.payload_types[RED] == red
    peer.add("audio", "sendrecv")
    client_offers(server, peer)
    assert {server.down_sections[Mid(m)].config.payload_types[RED] for m in (mid, "0")} == {red}


def test_red_is_not_offered_around_an_opus_that_the_section_has_not_got() -> None:
    """The peer's second section numbers Opus anew and wraps that; a section of ours has the first number."""
    head, rest = recorded("chromium-plain").split("m=video")
    again = re.sub(r"a=(ice-|ssrc|candidate|msid).*\r\n", "", head[head.index("m=audio") :])
    again = (
        again.replace("a=mid:0", "a=mid:3")
        .replace("111", "112")
        .replace("63", "62")
        .replace("a=fmtp:62 112/112", "a=fmtp:62 112/112")
    )
    offer = (head + "m=video" + rest).replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + again
    server, answer = answer_to(offer)
    assert answer.media[3].payload_types[:2] == (112, 62)
    server.add_section(Kind.AUDIO)
    media = Description.parse(server.create_offer()).media[4]
    assert media.payload_types[0] == 111
    assert all(media.fmtps[number] == "111/111" for number in (62, 63) if number in media.payload_types)


def test_a_number_of_red_may_not_get_another_meaning() -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    changed = offer.replace("a=rtpmap:63 red/48000/2", "a=rtpmap:63 opus/48000/2").replace(
        "a=fmtp:63 111/111", "a=x"
    )
    assert "changes its meaning" in refused(server, changed)


# What Opus is asked for


def test_a_publisher_of_stereo_is_asked_for_stereo_and_its_listeners_are_told() -> None:
    offer = recorded("chromium-plain").replace(
        "a=fmtp:111 minptime=10;useinbandfec=1", "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;usedtx=1"
    )
    _, answer = answer_to(offer)
    assert answer.media[0].fmtps[111] == "minptime=10;useinbandfec=1;stereo=1;usedtx=1"
    server = negotiator()
    server.receive_offer(recorded("chromium-recvonly"))
    server.create_answer()
    server.add_section(Kind.AUDIO)
    for media in Description.parse(server.create_offer()).media:
        if media.media == "audio":
            assert media.fmtps[111] == "minptime=10;useinbandfec=1"


def test_who_says_nothing_of_stereo_or_silence_is_not_asked_for_it() -> None:
    _, answer = answer_to(recorded("chromium-plain"))
    assert answer.media[0].fmtps[111] == "minptime=10;useinbandfec=1"
