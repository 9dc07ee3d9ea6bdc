"""The section of data channels in descriptions: taken when the peer offers one, never offered by us first."""

import re

import pytest

from kaamos.media.description import Kind
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.negotiation import Negotiator
from kaamos.rtc.sdp import Description
from tests.support.negotiation import answer_to, established, negotiator, recorded, refused


def parted(offer: str) -> tuple[str, str, str]:
    """Chromium's offer in pieces: session, media, data channels."""
    session, audio, video, data = re.split("(?=m=)", offer)
    return session, audio + video, data


OFFER = recorded("chromium-plain")
SESSION, MEDIA, DATA = parted(OFFER)
MEDIA_ONLY = SESSION.replace("BUNDLE 0 1 2", "BUNDLE 0 1") + MEDIA
DATA_ONLY = SESSION.replace("BUNDLE 0 1 2", "BUNDLE 2") + DATA
DATA_REFUSED = MEDIA_ONLY + DATA.replace("m=application 9", "m=application 0")
WANTED = SctpParameters(port=5000, max_message_bytes=262144)


def take(server: Negotiator, offer: str) -> Description:
    server.receive_offer(offer)
    return Description.parse(server.create_answer())


def test_data_channels_are_taken_beside_media() -> None:
    server, answer = answer_to(OFFER)
    assert server.sctp == WANTED
    assert answer.bundles == (("0", "1", "2"),)
    assert list(server.up_sections) == ["0", "1"] and list(server.down_sections) == ["0", "1"]


def test_an_offer_of_nothing_but_data_channels_connects() -> None:
    server, answer = answer_to(DATA_ONLY)
    assert server.sctp == WANTED and server.remote is not None
    assert answer.bundles == (("2",),) and answer.media[0].has("candidate")
    assert server.is_established and not server.needs_offer


def test_data_channels_come_and_go_and_come_back() -> None:
    server, _ = answer_to(MEDIA_ONLY)
    assert server.sctp is None
    take(server, OFFER)
    assert server.sctp == WANTED
    answer = take(server, DATA_REFUSED)
    assert server.sctp is None and [media.port for media in answer.media] == [7882, 7882, 0]
    take(server, OFFER)
    assert server.sctp == WANTED
    take(server, DATA_REFUSED)
    take(server, OFFER.replace("BUNDLE 0 1 2", "BUNDLE 0 1 7").replace("a=mid:2", "a=mid:7"))
    assert server.sctp == WANTED


def test_the_place_of_refused_data_channels_may_become_media() -> None:
    server, _ = answer_to(OFFER)
    take(server, DATA_REFUSED)
    video = "m=video" + MEDIA.partition("m=video")[2]
    again = re.sub(r"a=(ssrc|msid).*\r\n", "", video).replace("a=mid:1", "a=mid:2")
    answer = take(server, SESSION + MEDIA + again)
    assert server.sctp is None and answer.media[2].port == 7882 and "2" in server.up_sections


def test_our_offer_keeps_them_and_the_answer_may_refuse_them() -> None:
    server, _ = answer_to(OFFER)
    server.play(server.add_section(Kind.VIDEO), "ada", "TR_1")
    offer = Description.parse(server.create_offer())
    assert offer.media[2].port == 7882 and offer.media[2].all("sctp-port") == ["5000"]
    new = "m=video" + MEDIA.partition("m=video")[2]
    new = re.sub(r"a=(ssrc|msid).*\r\n", "", new).replace("a=mid:1", "a=mid:s0")
    answer = (
        OFFER.replace("BUNDLE 0 1 2", "BUNDLE 0 1 s0").replace("m=application 9", "m=application 0") + new
    )
    server.receive_answer(answer.replace("actpass", "active").replace("sendrecv", "inactive"))
    assert server.sctp is None


def test_we_never_offer_them_first() -> None:
    server, _ = established(("video", "sendrecv"))
    server.play(server.add_section(Kind.VIDEO), "ada", "TR_1")
    assert {media.media for media in Description.parse(server.create_offer()).media} == {"video"}


def test_a_second_section_of_data_channels_is_refused() -> None:
    twice = DATA_ONLY.replace("BUNDLE 2", "BUNDLE 2 3") + DATA.replace("a=mid:2", "a=mid:3")
    server, answer = answer_to(twice)
    assert [media.port for media in answer.media] == [7882, 0] and answer.bundles == (("2",),)
    assert server.sctp == WANTED


@pytest.mark.parametrize(
    ("line", "size"),
    [("", 65536), ("a=max-message-size:0\r\n", 0), ("a=max-message-size:1073741823\r\n", 1073741823)],
)
def test_the_peer_says_how_much_it_takes(line: str, size: int) -> None:
    server, _ = answer_to(DATA_ONLY.replace("a=max-message-size:262144\r\n", line))
    assert server.sctp == SctpParameters(5000, size)


@pytest.mark.parametrize(
    "change",
    [
        ("a=sctp-port:5000\r\n", ""),
        ("a=sctp-port:5000", "a=sctp-port:0"),
        ("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"),
        ("webrtc-datachannel", "other"),
        ("UDP/DTLS/SCTP webrtc-datachannel", "UDP/BFCP *"),
    ],
)
def test_what_is_no_data_channels_is_refused_in_the_answer(change: tuple[str, str]) -> None:
    server, answer = answer_to(OFFER.replace(*change))
    assert server.sctp is None and [media.port for media in answer.media] == [7882, 7882, 0]


@pytest.mark.parametrize(
    "line",
    [
        *("a=sctp-port:x", "a=sctp-port:65536", "a=sctp-port:-1", "a=sctp-port:", "a=sctp-port:5000 1"),
        *("a=max-message-size:x", "a=max-message-size:4294967296", "a=max-message-size:\u0663"),
    ],
)
def test_a_malformed_number_is_refused(line: str) -> None:
    name = line.partition(":")[0]
    assert "no number" in refused(negotiator(), re.sub(rf"{name}:\d+", line, DATA_ONLY))


def test_data_channels_outside_of_the_bundle_are_refused() -> None:
    assert "not bundled" in refused(negotiator(), OFFER.replace("BUNDLE 0 1 2", "BUNDLE 0 1"))
