"""Which versions of a picture the server takes, and how it says so (RFC 8851, RFC 8853)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos.media.description import Extension, Kind
from kaamos.rtc.negotiation import Mid
from kaamos.rtc.sdp import Description, Draft, Media
from kaamos.rtc.simulcast import MAX_RIDS, Rid, read_rids, write_rids
from tests.support.negotiation import (
    answer_to,
    client_offers,
    established,
    negotiator,
    recorded,
    server_offers,
)

RIDS = ("q", "h", "f")


def section(*lines: str) -> Media:
    return Media.parse_one(
        "\n".join(["m=video 9 UDP/TLS/RTP/SAVPF 96 97", *(f"a={line}" for line in lines)]), {}
    )


def written(rids: tuple[Rid, ...]) -> list[str]:
    draft = Draft()
    write_rids(draft, rids)
    return str(draft).split("\r\n")[:-1]


def declared(*rids: str) -> list[str]:
    return [f"rid:{rid} send" for rid in rids]


@pytest.mark.parametrize(
    ("simulcast", "listed"),
    [
        ("send a;b;c", ["a", "b", "c"]),
        ("send c;a;b", ["c", "a", "b"]),  # as offered: that is the order of quality
        ("send a", ["a"]),
        ("send a,b;c", ["a", "c"]),  # of alternatives, the first
        ("send x,b;c", ["b", "c"]),  # that is usable
        ("send ~a;b;~c", ["~a", "b", "~c"]),
        ("send ~a,b;c", ["~a", "c"]),
        ("send a;b recv c", ["a", "b"]),
        ("recv c send a;b", ["a", "b"]),
        (" send a;b ", ["a", "b"]),
        ("send a;b;c;d;e", ["a", "b", "c", "d"]),
        ("send a;x;b", ["a", "b"]),  # x has no a=rid
        ("send a;a;b", ["a", "b"]),
        ("send a;a,b", ["a", "b"]),
        ("recv a;b;c", []),
        ("send", []),
        ("send a;b recv", []),
        ("send a recv b send c", []),
        ("send a send b", []),
        ("sendrecv a;b", []),
        ("send  a;b", []),
        ("send ;;", []),
        ("send ~~a", []),
        ("", []),
    ],
)
def test_the_versions_that_are_taken_are_those_the_peer_can_name(simulcast: str, listed: list[str]) -> None:
    media = section(*declared("a", "b", "c", "d", "e"), f"simulcast:{simulcast}")
    assert [rid.listed for rid in read_rids(media, {96})] == listed


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        (["rid:a recv", "rid:b send"], ["b"]),
        (["rid:a", "rid:b send"], ["b"]),
        (["rid:a sent", "rid:b send"], ["b"]),
        (["rid:a send", "rid:a recv", "rid:b send"], ["b"]),  # an id twice
        (["rid:a send", "rid:a send", "rid:b send"], ["b"]),
        (["rid:a  send", "rid:b send"], ["b"]),
        (["rid:a\u00e9 send", "rid:b send"], ["b"]),
        (["rid: send", "rid", "rid:b send"], ["b"]),
        ([], []),
    ],
)
def test_a_version_without_a_line_of_its_own_is_left_out(lines: list[str], taken: list[str]) -> None:
    media = section(*lines, "simulcast:send a;b;")
    assert [rid.id for rid in read_rids(media, {96})] == taken


@pytest.mark.parametrize("rid", ["a" * 17, "a.b", "\u0661", "a~", "a=b", "-" * 17])
def test_an_id_that_no_packet_can_carry_is_left_out(rid: str) -> None:
    media = section(f"rid:{rid} send", "rid:ok send", f"simulcast:send {rid};ok")
    assert [found.id for found in read_rids(media, {96})] == ["ok"]


@pytest.mark.parametrize("rid", ["a" * 16, "a-b_c", "0"])
def test_every_id_that_a_packet_can_carry_is_taken(rid: str) -> None:
    assert [found.id for found in read_rids(section(f"rid:{rid} send", f"simulcast:send {rid}"), {96})] == [
        rid
    ]


def test_two_lines_of_simulcast_are_none() -> None:
    assert not read_rids(section(*declared("a", "b"), "simulcast:send a", "simulcast:send b"), {96})


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("pt=96", "pt=96"),
        ("pt=96,97;max-width=640;x-unknown", "pt=96;max-width=640;x-unknown"),
        ("pt=97", None),
        ("pt=", None),
        ("pt=x,-96,+96,\u0669\u0666", None),
        ("max-width=640;max-fps=15", "max-width=640;max-fps=15"),
    ],
)
def test_restrictions_are_repeated_with_the_payload_types_that_are_left(
    offered: str, answered: str | None
) -> None:
    media = section(f"rid:a send {offered}", "simulcast:send ~a")
    expected = [""] if answered is None else [f"a=rid:a recv {answered}", "a=simulcast:recv ~a"]
    assert written(read_rids(media, {96})) == expected


LINES = st.text(alphabet="ab~;, =sendrcvpt96-", max_size=30)


@given(st.lists(LINES, max_size=6), LINES)
def test_whatever_a_peer_writes_the_versions_are_few_and_distinct(rids: list[str], simulcast: str) -> None:
    media = section(*(f"rid:{line}" for line in rids), f"simulcast:send {simulcast}")
    found = read_rids(media, {96})
    names = [rid.id for rid in found]
    assert len(set(names)) == len(names) <= MAX_RIDS
    assert all(
        0 < len(name) <= 16 and any(line.startswith(f"{name} send") for line in rids) for name in names
    )
    # What we wrote, its peer reads as the same.
    answer = section(
        *(line[2:].replace(" recv", " send").replace(":recv", ":send") for line in written(found) if line)
    )
    assert read_rids(answer, {96}) == found


# In a negotiation


SIMULCAST = ["chromium", "firefox", "pion", "roamhq-wrtc", "werift", "wrtc"]


@pytest.mark.parametrize("name", SIMULCAST)
def test_every_recorded_simulcast_offer_is_taken_with_its_three_versions(name: str) -> None:
    server, answer = answer_to(recorded(f"{name}-simulcast"))
    (up,) = (section.config for section in server.up_sections.values() if section.config.rids)
    assert up.rids == RIDS
    assert {Extension.MID, Extension.RID, Extension.REPAIRED_RID} <= up.extensions.keys()
    (video,) = (media for media in answer.media if media.mid == up.mid)
    assert video.all("rid") == ["q recv", "h recv", "f recv"]
    assert video.all("simulcast") == ["recv q;h;f"]


def test_an_answer_says_the_direction_of_an_extension_from_its_own_side() -> None:
    _, answer = answer_to(recorded("firefox-simulcast"))
    found = answer.media[1].all("extmap")
    assert "9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" in found
    assert "6/sendonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay" in found


def test_our_offers_go_on_receiving_what_an_answer_has_accepted() -> None:
    server, peer = established(("audio", "recvonly"))
    peer.add("video", "sendrecv", rids=RIDS)
    client_offers(server, peer)
    server.play(Mid("1"), "ada", "TR_1")
    server_offers(server, peer)
    assert server.up_sections[Mid("1")].config.rids == RIDS and server.is_sendable(Mid("1"))
    peer.transceivers[1].direction = "recvonly"
    client_offers(server, peer)
    assert not server.up_sections
    assert "simulcast" not in server.create_offer()
    server.withdraw_offer()
    peer.transceivers[1].direction = "sendrecv"
    client_offers(server, peer)
    assert server.up_sections[Mid("1")].config.rids == RIDS


def test_simulcast_may_start_in_a_section_of_ours() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    server_offers(server, peer)
    peer.line_of(mid).rids, peer.line_of(mid).direction = RIDS, "sendrecv"
    client_offers(server, peer)
    up = server.up_sections[mid].config
    assert up.rids == RIDS and Extension.RID in up.extensions and server.is_sendable(mid)


def test_an_answer_cannot_bring_versions_that_were_not_offered() -> None:
    server, peer = established(("video", "sendrecv"))
    server.create_offer()
    client = peer.offer().replace("a=setup:actpass", "a=setup:active")
    server.receive_answer(client + "a=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h\r\n")
    assert server.up_sections[Mid("0")].config.rids == ()


def test_an_answer_can_take_versions_away() -> None:
    server, peer = established()
    peer.add("video", "sendonly", rids=RIDS)
    client_offers(server, peer)
    server.create_offer()
    client = peer.offer().replace("a=setup:actpass", "a=setup:active")
    server.receive_answer(client.replace("a=simulcast:send q;h;f", "a=simulcast:send q;h"))
    assert server.up_sections[Mid("0")].config.rids == ("q", "h")


@pytest.mark.parametrize("name", SIMULCAST)
def test_a_lying_offer_is_answered_without_simulcast(name: str) -> None:
    server, answer = answer_to(recorded(f"{name}-simulcast").replace("a=rid:", "a=x:"))
    assert all(up.config.rids == () for up in server.up_sections.values())
    assert "simulcast" not in answer.write()


# Two forms of header extensions in one stream (RFC 8285)


@pytest.mark.parametrize("name", ["chromium-plain", "firefox-plain", "libdatachannel"])
def test_mixed_extensions_are_answered_where_they_were_offered(name: str) -> None:
    offer = Description.parse(recorded(name))
    server, answer = answer_to(offer.write())
    assert answer.session.has("extmap-allow-mixed") == offer.session.has("extmap-allow-mixed")
    is_allowed = name != "libdatachannel"
    assert all(down.config.allows_two_byte is is_allowed for down in server.down_sections.values())


@pytest.mark.parametrize("line", ["a=extmap-allow-mixed", "a=x"])
def test_frame_dependencies_are_sent_on_only_where_the_long_ones_can_be(line: str) -> None:
    offer = (
        recorded("chromium-simulcast")
        .replace("a=extmap-allow-mixed", line)
        .replace("a=sendonly", "a=sendrecv")
    )
    server, _ = answer_to(offer)
    for up in server.up_sections.values():
        assert (Extension.DEPENDENCY_DESCRIPTOR in up.config.extensions) is bool(up.config.rids)
        down = server.down_sections[up.mid].config
        is_sent = bool(up.config.rids) and line != "a=x"
        assert (Extension.DEPENDENCY_DESCRIPTOR in down.extensions) is is_sent


def test_mixed_extensions_are_offered_and_used_once_they_are_answered() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    offer = server.create_offer()
    assert "a=extmap-allow-mixed\r\n" in offer.partition("m=")[0]
    assert not server.down_sections[mid].config.allows_two_byte
    server.receive_answer(peer.answer(offer))
    assert server.down_sections[mid].config.allows_two_byte


def test_mixed_extensions_that_an_answer_does_not_name_are_not_used() -> None:
    server, peer = established(("video", "recvonly"))
    assert server.down_sections[Mid("0")].config.allows_two_byte
    answer = peer.answer(server.create_offer())
    server.receive_answer(answer.replace("a=extmap-allow-mixed\r\n", ""))
    assert not server.down_sections[Mid("0")].config.allows_two_byte


def test_extensions_that_only_video_needs_do_no_harm_in_audio() -> None:
    """pion and GStreamer can name an extension for every kind of section."""
    rid = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    server = negotiator()
    server.receive_offer(recorded("chromium-plain").replace("a=extmap:1 ", f"{rid}a=extmap:1 "))
    server.create_answer()
    assert server.up_sections[Mid("1")].config.extensions[Extension.RID] == 10
