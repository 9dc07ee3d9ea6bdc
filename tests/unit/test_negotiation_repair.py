"""What keeps media whole on a bad network: RTX, NACK, transport-wide feedback and round-trip times."""

import re

import pytest

from kaamos.media.description import Extension, Kind
from kaamos.rtc.capabilities import EXTENSION_URIS
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

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

# RTX (RFC 4588) from the peer


def test_the_repeats_of_chromium_are_taken_for_every_codec() -> None:
    server, answer = answer_to(recorded("chromium-plain"))
    up = server.up_sections[Mid("1")].config
    media = [codec.payload_type for codec in up.codecs]
    assert list(up.rtx_payload_types.values()) == media
    assert up.rtx_payload_types[97] == 96 and up.rtx_payload_types[109] == 108
    assert (up.ssrcs, up.rtx_ssrcs) == ((3586730853,), {123760403: 3586730853})
    assert up.nack
    video = answer.media[1]
    assert video.rtpmaps[97].encoding == "rtx" and video.fmtps[97] == "apt=96"
    assert not video.feedback.keys() & up.rtx_payload_types.keys()
    audio = server.up_sections[Mid("0")].config
    assert not audio.rtx_payload_types and not audio.rtx_ssrcs and not audio.nack


def test_the_repeats_of_a_codec_that_is_not_ours_are_not_answered() -> None:
    _, answer = answer_to(recorded("chromium-plain"))
    assert 119 not in answer.media[1].payload_types  # apt=118, which is red


@pytest.mark.parametrize(
    "fmtp", ["apt=200", "apt=97", "apt=-96", "apt=", "apt=x", "rtx-time=3000", "apt=\u0669"]
)
def test_repeats_of_nothing_are_not_answered(fmtp: str) -> None:
    server, answer = answer_to(recorded("chromium-plain").replace("a=fmtp:97 apt=96", f"a=fmtp:97 {fmtp}"))
    assert 97 not in answer.media[1].payload_types and 96 in answer.media[1].payload_types
    assert 97 not in server.up_sections[Mid("1")].config.rtx_payload_types


def test_repeats_under_a_number_that_rtcp_would_hide_are_not_answered() -> None:
    _, answer = answer_to(recorded("chromium-plain").replace(" 97 ", " 70 ", 1).replace(":97 ", ":70 "))
    assert answer.media[1].payload_types[:2] == (96, 108)


def test_repeats_with_another_clock_are_not_answered() -> None:
    _, answer = answer_to(recorded("chromium-plain").replace("a=rtpmap:97 rtx/90000", "a=rtpmap:97 rtx/8000"))
    assert answer.media[1].payload_types[:2] == (96, 108)


def test_a_codec_has_one_number_for_its_repeats_in_a_section() -> None:
    server, answer = answer_to(recorded("chromium-plain").replace("apt=108", "apt=96"))
    assert answer.media[1].payload_types[:4] == (96, 97, 108, 114)
    assert 109 not in server.up_sections[Mid("1")].config.rtx_payload_types


def test_a_peer_without_repeats_gets_none() -> None:
    server, answer = answer_to(recorded("libdatachannel"))
    server.play(Mid("0"), "ada", "TR_1")
    assert "rtx" not in server.create_offer() and not answer.media[0].all("ssrc-group")
    down = server.down_sections[Mid("0")].config
    assert down.rtx_payload_types == {} and down.rtx_ssrc == 0


@pytest.mark.parametrize(
    ("groups", "ssrcs", "rtx_ssrcs"),
    [
        (["FID 1 2"], (1, 3), {2: 1}),
        (["FID 1 2", "FID 3 4"], (1, 3), {2: 1, 4: 3}),
        (["FID 1 2 3"], (1,), {2: 1, 3: 1}),
        (["FID 1 2", "FEC-FR 1 3"], (1,), {2: 1}),
        (["FID 1 2", "FID 1 2"], (1, 3), {2: 1}),
        (["FID 2 1"], (2, 3), {1: 2}),
        (["FID 1"], (1, 2, 3), {}),
        (["FID"], (1, 2, 3), {}),
        (["FID 1 1"], (2, 3), {}),
        (["FID 1 2", "FID 2 1"], (3,), {}),
        (["FID 9 2"], (1, 3), {}),  # repeats of an SSRC that is not announced
        (["SIM 1 2 3"], (1, 2, 3), {}),
    ],
)
def test_an_ssrc_of_repeats_belongs_to_one_of_media(
    groups: list[str], ssrcs: tuple[int, ...], rtx_ssrcs: dict[int, int]
) -> None:
    lines = "".join(f"a=ssrc-group:{group}\r\n" for group in groups)
    lines += "".join(f"a=ssrc:{ssrc} cname:x\r\n" for ssrc in (1, 2, 3))
    server, _ = answer_to(_with_ssrc_lines(lines))
    up = server.up_sections[Mid("1")].config
    assert (up.ssrcs, up.rtx_ssrcs) == (ssrcs, rtx_ssrcs)


def test_an_ssrc_cannot_repeat_two_others() -> None:
    lines = "a=ssrc-group:FID 1 2\r\na=ssrc-group:FID 3 2\r\na=ssrc:1 cname:x\r\na=ssrc:3 cname:x\r\n"
    assert "repeats two others" in refused(negotiator(), _with_ssrc_lines(lines))


def test_more_than_sixteen_ssrcs_of_repeats_are_refused() -> None:
    lines = "a=ssrc:1 cname:x\r\na=ssrc-group:FID 1 " + " ".join(map(str, range(2, 19))) + "\r\n"
    assert "more than 16 SSRCs" in refused(negotiator(), _with_ssrc_lines(lines))


def test_an_ssrc_of_repeats_is_not_one_of_another_section() -> None:
    offer = recorded("chromium-plain").replace("123760403", "3292948988")
    assert "two sections" in refused(negotiator(), offer)


def _with_ssrc_lines(lines: str) -> str:
    """Chromium's offer with other SSRC lines in its video section."""
    head, tail = recorded("chromium-plain").split("m=video")
    section, data = tail.split("m=application")
    section = re.sub(r"a=ssrc.*\r\n", "", section)
    return f"{head}m=video{section}{lines}m=application{data}"


# RTX to the peer


def test_a_section_that_sends_names_both_of_its_ssrcs() -> None:
    server, peer = established(("audio", "sendrecv"), ("video", "sendrecv"))
    for mid in ("0", "1"):
        server.play(Mid(mid), "ada", f"TR_{mid}")
    audio, video = Description.parse(server.create_offer()).media
    heard, seen = (server.down_sections[Mid(mid)].config for mid in ("0", "1"))
    assert not audio.has("ssrc-group") and audio.ssrcs == (heard.ssrc,) and heard.rtx_ssrc == 0
    assert video.all("ssrc-group") == [f"FID {seen.ssrc} {seen.rtx_ssrc}"]
    assert video.all("ssrc") == [f"{ssrc} cname:kaamos" for ssrc in (seen.ssrc, seen.rtx_ssrc)]
    assert seen.rtx_payload_types == {1: 97, 2: 103, 14: 99, 16: 46}  # H264 in mode 0 has none there
    server.withdraw_offer()
    server_offers(server, peer)


def test_both_ssrcs_live_as_long_as_the_connection() -> None:
    server, peer = established(("video", "recvonly"))
    before = server.down_sections[Mid("0")].config
    assert before.rtx_ssrc not in (0, before.ssrc)
    for track in ("TR_1", "TR_2"):
        server.play(Mid("0"), "ada", track)
        server_offers(server, peer)
        server.stop(Mid("0"))
        server_offers(server, peer)
        client_offers(server, peer)
    assert server.down_sections[Mid("0")].config == before


def test_repeats_that_go_and_come_back_have_their_ssrc() -> None:
    server, peer = established(("video", "recvonly"))
    before = server.down_sections[Mid("0")].config
    offer = peer.offer()
    server.receive_offer(_without_rtx(offer))
    server.create_answer()
    without = server.down_sections[Mid("0")].config
    assert (without.rtx_payload_types, without.rtx_ssrc, without.ssrc) == ({}, 0, before.ssrc)
    server.receive_offer(offer)
    server.create_answer()
    assert server.down_sections[Mid("0")].config == before


def test_a_section_of_ours_keeps_the_repeats_that_the_peer_accepts() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    offered = server.down_sections[mid].config
    assert offered.rtx_ssrc != 0 and len(offered.rtx_payload_types) == 18
    server_offers(server, peer)
    config = server.down_sections[mid].config
    assert config.rtx_payload_types.items() <= offered.rtx_payload_types.items()
    assert sorted(config.rtx_payload_types) == [1, 2, 14, 16] and config.rtx_ssrc == offered.rtx_ssrc


def test_an_answer_without_repeats_leaves_one_ssrc() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    server.receive_answer(_without_rtx(peer.answer(server.create_offer())))
    config = server.down_sections[mid].config
    assert server.is_sendable(mid) and config.payload_types
    assert config.rtx_payload_types == {} and config.rtx_ssrc == 0
    section = Description.parse(server.create_offer()).media[1]
    assert section.ssrcs == (config.ssrc,) and not section.has("ssrc-group")


def test_an_answer_cannot_bring_repeats_that_were_not_offered() -> None:
    server, peer = established(("video", "recvonly"))
    client = peer.offer()
    server.receive_offer(_without_rtx(client))
    server.create_answer()
    server.play(Mid("0"), "ada", "TR_1")
    server.create_offer()
    server.receive_answer(client.replace("a=setup:actpass", "a=setup:active"))
    assert server.is_sendable(Mid("0")) and not server.down_sections[Mid("0")].config.rtx_payload_types


def _without_rtx(sdp: str) -> str:
    """The same description as one without repeats would be."""
    for number in re.findall(r"a=rtpmap:([0-9]+) rtx/90000", sdp):
        sdp = re.sub(rf"a=(rtpmap|fmtp):{number} .*\r\n", "", sdp)
        sdp = re.sub(rf"(m=video .*) {number}\b", r"\1", sdp)
    return sdp


# Numbers


def test_repeats_have_the_same_number_in_every_section() -> None:
    server, _ = established(("video", "recvonly"))
    first = server.down_sections[Mid("0")].config.rtx_payload_types
    server.play(server.add_section(Kind.VIDEO), "ada", "TR_1")
    section = Description.parse(server.create_offer()).media[1]
    assert {section.fmtps[number] for number in first.values()} == {"apt=96", "apt=98", "apt=102", "apt=45"}


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("a=fmtp:97 apt=96", "a=fmtp:97 apt=98"),
        ("a=rtpmap:97 rtx/90000", "a=rtpmap:97 red/90000"),
        ("a=rtpmap:97 rtx/90000", "a=rtpmap:97 VP8/90000"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 rtx/90000\r\na=fmtp:96 apt=102"),
    ],
)
def test_a_number_of_repeats_may_not_get_another_meaning(pattern: str, replacement: str) -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    # 98 loses its own repeats, so that 97 could have it.
    changed = offer.replace("a=fmtp:99 apt=98", "a=x").replace(pattern, replacement)
    assert changed != offer and "changes its meaning" in refused(server, changed)


def test_repeats_listed_without_their_codec_keep_their_meaning() -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    server.receive_offer(offer.replace("SAVPF 96 97", "SAVPF 97"))
    answer = Description.parse(server.create_answer())
    assert not {96, 97} & set(answer.media[1].payload_types)
    server.receive_offer(offer)
    assert Description.parse(server.create_answer()).media[1].payload_types[:2] == (96, 97)


def test_codecs_come_before_repeats_where_numbers_are_short() -> None:
    _, peer = established()
    peer.add("audio", "sendrecv")
    numbers = [number for number in (*range(96, 128), *range(35, 64)) if number not in (111, 63)][:-22]
    formats = " ".join(map(str, numbers))
    maps = "".join(f"a=rtpmap:{number} x/8000\r\n" for number in numbers)
    offer = peer.offer().replace("SAVPF 111 0 63", f"SAVPF 111 0 63 {formats}") + maps
    server, _ = answer_to(offer)
    server.add_section(Kind.VIDEO)
    section = Description.parse(server.create_offer()).media[1]
    names = [section.rtpmaps[number].encoding for number in section.payload_types]
    assert len(names) == 22 and names.count("rtx") == 4


# Transport-wide feedback


def test_chromium_gets_feedback_on_all_that_it_sends() -> None:
    server, answer = answer_to(recorded("chromium-plain"))
    for mid, media in zip("01", answer.media, strict=False):
        up, down = server.up_sections[Mid(mid)].config, server.down_sections[Mid(mid)].config
        assert up.transport_cc and up.extensions[Extension.TRANSPORT_CC] == 3
        assert Extension.TRANSPORT_CC not in down.extensions
        assert f"3 {TRANSPORT_CC}" in media.all("extmap")
        with_feedback = {number for number, items in media.feedback.items() if "transport-cc" in items}
        types = {codec.payload_type for codec in up.codecs}
        assert with_feedback == types - {63, 0, 8}  # Chromium asks for none on others than Opus


@pytest.mark.parametrize("name", ["chromium-recvonly", "firefox-recvonly"])
def test_who_only_receives_keeps_the_feedback_for_when_it_sends(name: str) -> None:
    server, answer = answer_to(recorded(name))
    for media in answer.media:
        (way,) = (extmap.direction for extmap in media.extmaps if extmap.uri == TRANSPORT_CC)
        assert way.receives and "transport-cc" in media.feedback[media.payload_types[0]]
    for down in server.down_sections.values():
        assert Extension.TRANSPORT_CC not in down.config.extensions  # we number nothing that we send


@pytest.mark.parametrize(
    ("direction", "has_feedback"),
    [("recvonly", False), ("inactive", True), ("sendrecv", True), ("sendonly", True)],
)
def test_a_subscriber_without_repeats_gets_nothing_that_changes_a_packet(
    direction: str, has_feedback: bool
) -> None:
    _, peer = established()
    peer.add("video", direction)
    _, answer = answer_to(_without_rtx(peer.offer()))
    uris = {extmap.uri for extmap in answer.media[0].extmaps}
    assert (TRANSPORT_CC in uris) is has_feedback is ("transport-cc" in answer.media[0].feedback[96])
    assert (EXTENSION_URIS[Extension.ABS_SEND_TIME] in uris) is (direction in ("sendonly", "inactive"))


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r" transport-cc\r\n", " x\r\n"),
        (rf"a=extmap:3 {TRANSPORT_CC}", "a=extmap:3 urn:x"),
        (rf"a=extmap:3 {TRANSPORT_CC}", f"a=extmap:3/recvonly {TRANSPORT_CC}"),
        (rf"a=extmap:3 {TRANSPORT_CC}", f"a=extmap:15 {TRANSPORT_CC}"),
    ],
)
def test_feedback_and_its_extension_go_together(pattern: str, replacement: str) -> None:
    server, answer = answer_to(re.sub(pattern, replacement, recorded("chromium-plain")))
    assert "transport-cc" not in answer.write() and TRANSPORT_CC not in answer.write()
    up = server.up_sections[Mid("1")].config
    assert not up.transport_cc and Extension.TRANSPORT_CC not in up.extensions


def test_a_section_with_another_id_for_the_extension_has_no_feedback() -> None:
    head, tail = recorded("chromium-plain").split("m=video")
    server, answer = answer_to(head + "m=video" + tail.replace("a=extmap:3 ", "a=extmap:12 "))
    assert server.up_sections[Mid("0")].config.transport_cc
    assert not server.up_sections[Mid("1")].config.transport_cc
    assert not any("transport-cc" in feedback for feedback in answer.media[1].feedback.values())


def test_feedback_may_be_offered_for_all_payload_types_at_once() -> None:
    offer = recorded("chromium-plain").replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:* transport-cc")
    server, answer = answer_to(offer)
    assert server.up_sections[Mid("0")].config.transport_cc
    assert answer.media[0].feedback == {number: {"transport-cc"} for number in (111, 63, 0, 8)}


def test_feedback_stays_whatever_the_direction_and_our_offers_repeat_it() -> None:
    server, peer = established(("video", "sendrecv"))
    server.play(Mid("0"), "ada", "TR_1")
    server.play(server.add_section(Kind.VIDEO), "bob", "TR_2")
    both, ours = Description.parse(server.create_offer()).media
    assert "transport-cc" in both.feedback[96] and "transport-cc" in ours.feedback[96]
    server.withdraw_offer()
    server_offers(server, peer)
    assert server.up_sections[Mid("0")].config.transport_cc
    for direction in ("recvonly", "sendrecv"):
        peer.transceivers[0].direction = direction
        client_offers(server, peer)
        again = Description.parse(server.create_offer()).media[0]
        assert "transport-cc" in again.feedback[96]
        server.withdraw_offer()


def test_a_peer_that_starts_to_send_in_a_section_of_ours_gets_feedback() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    server_offers(server, peer)
    peer.line_of(mid).direction = "sendrecv"
    client_offers(server, peer)
    assert server.up_sections[mid].config.transport_cc and server.is_sendable(mid)


def test_an_answer_cannot_bring_feedback_that_was_not_offered() -> None:
    server, peer = established(("video", "recvonly"))
    client = peer.offer().replace("a=recvonly", "a=sendrecv")
    server.receive_offer(re.sub("a=rtcp-fb:.* transport-cc\r\n", "", client))
    server.create_answer()
    server.create_offer()
    server.receive_answer(client.replace("a=setup:actpass", "a=setup:active"))
    assert not server.up_sections[Mid("0")].config.transport_cc


# The round-trip time of who only receives (RFC 3611)


@pytest.mark.parametrize(
    ("value", "is_answered"),
    [
        ("rcvr-rtt=all", True),
        ("rcvr-rtt=all:1200 stat-summary=loss", True),
        ("pkt-loss-rle rcvr-rtt=all", True),
        ("rcvr-rtt=sender", False),
        ("rcvr-rtt=allx", False),
        ("", False),
    ],
)
def test_round_trip_times_are_reported_to_who_asks(value: str, is_answered: bool) -> None:
    server, answer = answer_to(recorded("chromium-plain").replace("rtcp-xr:rcvr-rtt=all", f"rtcp-xr:{value}"))
    server.add_section(Kind.AUDIO)
    offer = Description.parse(server.create_offer())
    expected = ["rcvr-rtt=all"] if is_answered else []
    assert [media.all("rtcp-xr") for media in answer.media] == [expected, expected, []]
    assert [media.all("rtcp-xr") for media in offer.media] == [expected, expected, [], ["rcvr-rtt=all"]]
