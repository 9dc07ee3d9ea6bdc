"""The Negotiator against recorded offers, a strict model browser, and aiortc's own descriptions."""

import itertools
import re
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from kaamos.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kaamos.media.description import Extension, Kind
from kaamos.rtc.negotiation import LocalTransport, Mid, Negotiator, RemoteTransport
from kaamos.rtc.sdp import Description, Direction, Setup
from tests.support.sdp_peer import SdpPeer

OFFERS = sorted((Path(__file__).parent.parent / "data" / "sdp").glob("*.sdp"))
LOCAL = LocalTransport(
    ufrag="server12",
    pwd="p" * 24,
    fingerprint="sha-256 " + ":".join(["AB"] * 32),
    addresses=(("192.0.2.1", 7882), ("2001:db8::1", 7882)),
)


def negotiator(**options: int) -> Negotiator:
    ssrcs = itertools.count(1000)
    return Negotiator(LOCAL, session_id=5, cname="kaamos", new_ssrc=lambda: next(ssrcs), **options)


def recorded(name: str) -> str:
    return next(path for path in OFFERS if path.name == f"{name}-offer.sdp").read_bytes().decode()


def answer_to(offer: str) -> tuple[Negotiator, Description]:
    server = negotiator()
    server.receive_offer(offer)
    return server, Description.parse(server.create_answer())


def established(*transceivers: tuple[str, str]) -> tuple[Negotiator, SdpPeer]:
    """A server and a peer after the peer's first offer."""
    server, peer = negotiator(), SdpPeer()
    for kind, direction in transceivers:
        peer.add(kind, direction)
    client_offers(server, peer)
    return server, peer


def client_offers(server: Negotiator, peer: SdpPeer) -> None:
    server.receive_offer(peer.offer())
    peer.accept(server.create_answer())


def server_offers(server: Negotiator, peer: SdpPeer) -> None:
    server.receive_answer(peer.answer(server.create_offer()))


def refused(server: Negotiator, offer: str) -> str:
    """Return why an offer was refused."""
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_offer(offer)
    assert caught.value.code is ErrorCode.INVALID_SDP
    return caught.value.message


# Answers to recorded offers


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_the_answer_fits_the_offer(path: Path) -> None:
    offer = Description.parse(path.read_bytes().decode())
    _, answer = answer_to(offer.write())
    assert [(m.media, m.mid, m.protocol) for m in answer.media] == [
        (m.media, m.mid, m.protocol) for m in offer.media
    ]
    accepted = [media for media in answer.media if media.port]
    assert {media.media for media in accepted} == {m.media for m in offer.media} - {"application"}
    assert answer.bundles == (tuple(media.mid for media in accepted),)
    for media in accepted:
        (offered,) = (m for m in offer.media if m.mid == media.mid)
        assert media.has("rtcp-mux") and media.has("rtcp-rsize") == offered.has("rtcp-rsize")
        assert media.setup is Setup.PASSIVE
        assert set(media.formats) <= set(offered.formats)
        assert media.rtpmaps == {pt: offered.rtpmaps[pt] for pt in media.payload_types}
        assert {(e.id, e.uri) for e in media.extmaps} <= {(e.id, e.uri) for e in offered.extmaps}
        for payload_type, feedback in media.feedback.items():
            assert feedback <= offered.feedback[payload_type] & {"nack", "nack pli", "ccm fir"}
        assert not media.has("simulcast") and not media.has("rid")
        assert not media.direction.sends
        assert media.direction.receives == (offered.direction or Direction.SENDRECV).sends


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_the_up_sections_are_what_the_peer_sends(path: Path) -> None:
    offer = Description.parse(path.read_bytes().decode())
    server, _ = answer_to(offer.write())
    sending = [m for m in offer.media if m.media != "application" and m.direction.sends]
    assert list(server.up_sections) == [media.mid for media in sending]
    for media in sending:
        up = server.up_sections[Mid(media.mid)]
        assert up.kind == media.media and up.config.mid == media.mid
        assert set(up.config.ssrcs) <= set(media.ssrcs)
        assert up.config.codecs


def test_the_answer_to_chromium_prefers_vp8_then_h264() -> None:
    _, answer = answer_to(recorded("chromium-plain"))
    audio, video, data = answer.media
    assert audio.lines[0] == "m=audio 7882 UDP/TLS/RTP/SAVPF 111"
    assert video.lines[0] == "m=video 7882 UDP/TLS/RTP/SAVPF 96 108 114 102 104 116 39"
    assert video.fmtps[39] == "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"
    assert data.lines[0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert audio.lines[1] == "c=IN IP4 192.0.2.1"
    assert [(c.address, c.port) for c in audio.candidates] == list(LOCAL.addresses)
    assert audio.candidates[0].priority > audio.candidates[1].priority
    assert audio.has("end-of-candidates") and not video.has("candidate")


def test_chromium_maps_are_in_its_own_numbers() -> None:
    server, _ = answer_to(recorded("chromium-plain"))
    up = server.up_sections[Mid("1")]
    assert [codec.payload_type for codec in up.config.codecs] == [96, 108, 114, 102, 104, 116, 39]
    assert [codec.codec_id for codec in up.config.codecs] == [1, 2, 3, 4, 5, 6, 7]
    assert up.config.extensions == {Extension.MID: 4, Extension.VIDEO_ORIENTATION: 13}
    assert up.config.ssrcs == (3586730853,)  # without the one of retransmission
    assert up.config.pli and up.config.fir
    assert up.msid == ("2a1ad32f-e2d9-47a5-98da-b43d22240190", "1e015ef4-66f4-4e42-8218-efb04fce5af6")
    down = server.down_sections[Mid("1")]
    assert down.config.payload_types == {1: 96, 2: 108, 3: 114, 4: 102, 5: 104, 6: 116, 7: 39}
    assert down.config.nack and down.config.cname == "kaamos" and down.stream_id is None
    assert server.down_sections[Mid("0")].config.extensions == {Extension.MID: 4, Extension.AUDIO_LEVEL: 1}


def test_a_recvonly_offer_is_all_slots() -> None:
    server, answer = answer_to(recorded("chromium-recvonly"))
    assert not server.up_sections
    assert list(server.down_sections) == ["0", "1", "2", "3"]
    assert len({down.config.ssrc for down in server.down_sections.values()}) == 4
    assert {media.direction for media in answer.media} == {Direction.INACTIVE}


def test_ffmpeg_with_a_passive_role_makes_us_the_dtls_client() -> None:
    offer = recorded("ffmpeg-whip").replace("a=setup:active", "a=setup:passive")
    server, answer = answer_to(offer)
    assert server.remote is not None and server.remote.is_dtls_client
    assert {media.setup for media in answer.media} == {Setup.ACTIVE}
    up = server.up_sections[Mid("1")]
    assert not up.config.extensions and not up.config.pli and up.config.ssrcs == (2112902999,)


def test_the_remote_transport_is_read_from_the_bundle() -> None:
    server, _ = answer_to(recorded("firefox-plain"))
    assert server.remote == RemoteTransport(
        "5ad1b6dc",
        "f50b3cfb9ffc4940b032efbaa8208e12",
        (
            (
                "sha-256",
                "E3:54:1D:59:01:6F:78:C7:64:84:67:9C:B1:D7:0A:10:1C:8E:95:7A:FA:0B:94:A4:09:F0:7B:4D:24:F0:70:7B",
            ),
        ),
        is_dtls_client=False,
    )


def test_lines_of_the_peer_that_bundling_makes_void_are_not_read() -> None:
    offer = recorded("chromium-plain")
    head, tail = offer.split("m=video")
    other = tail.replace("a=ice-ufrag:bZT7", "a=ice-ufrag:other").replace("a=setup:actpass", "a=setup:active")
    server, _ = answer_to(head + "m=video" + other)
    assert server.remote is not None and server.remote.ufrag == "bZT7" and not server.remote.is_dtls_client


def test_the_transport_comes_from_the_first_section_we_accept() -> None:
    offer = recorded("chromium-plain").replace("opus/48000", "speex/16000")
    _, answer = answer_to(offer)
    assert [media.port for media in answer.media] == [0, 7882, 0]
    assert answer.bundles == (("1",),)
    assert answer.media[1].has("candidate") and not answer.media[0].has("candidate")


def test_an_answer_can_carry_media_at_once() -> None:
    server = negotiator()
    server.receive_offer(recorded("chromium-plain"))
    mid = server.free_section(Kind.VIDEO)
    assert mid == "1"
    server.play(mid, "Ada Lovelace", "TR_1")
    assert not server.is_sendable(mid)
    answer = Description.parse(server.create_answer())
    assert answer.media[1].direction is Direction.SENDRECV
    assert answer.media[1].all("msid") == ["Ada%20Lovelace TR_1"]
    assert answer.media[1].all("ssrc") == [f"{server.down_sections[mid].config.ssrc} cname:kaamos"]
    assert server.is_sendable(mid) and not server.needs_offer


def test_ids_that_would_break_the_text_are_escaped() -> None:
    server = negotiator()
    server.receive_offer(recorded("chromium-plain"))
    server.play(Mid("1"), "a\r\na=setup:active %20", "")
    answer = Description.parse(server.create_answer())
    assert answer.media[1].all("msid") == ["a%0D%0Aa%3Dsetup%3Aactive%20%2520 -"]


# Bad offers


@pytest.mark.parametrize(
    ("pattern", "replacement", "reason"),
    [
        ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0", "not bundled"),
        ("a=group:BUNDLE 0 1 2", "a=x", "not bundled"),
        ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0\r\na=group:BUNDLE 1", "not bundled"),
        ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1 2 7", "not there"),
        ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1 1", "twice"),
        ("a=mid:1", "a=mid:0", "same mid"),
        ("a=mid:1\r\n", "", "not there"),
        ("a=mid:1", "a=mid:" + "1" * 17, "malformed a=mid"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("a=setup:actpass", "a=setup:holdconn", "not usable"),
        ("a=setup:actpass\r\n", "", "no usable a=setup"),
        ("a=ice-ufrag:bZT7\r\n", "", "ice-ufrag"),
        ("a=ice-ufrag:bZT7", "a=ice-ufrag:b", "malformed a=ice-ufrag"),
        ("a=ice-pwd:ktD", "a=ice-pwd:k:D", "malformed a=ice-pwd"),
        ("a=fingerprint:sha-256", "a=fingerprint:md5", "no usable a=fingerprint"),
        ("a=fingerprint:sha-256 ED:", "a=fingerprint:sha-256 ", "no usable a=fingerprint"),
        ("a=fingerprint:sha-256 ED:", "a=fingerprint:sha-256 XY:", "malformed a=fingerprint"),
        ("typ host", "type host", "malformed candidate"),
        ("127.0.0.1 43302 typ", "127.0.0.1 65536 typ", "malformed candidate port"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8", "malformed a=rtpmap"),
        ("a=rtpmap:97 rtx/90000", "a=rtpmap:96 rtx/90000", "two a=rtpmap"),
        ("SAVPF 96 97", "SAVPF 96 96", "listed twice"),
        ("SAVPF 96 97", "SAVPF 96 128", "malformed payload type"),
        ("a=extmap:13 ", "a=extmap:4 ", "given twice"),
        ("a=extmap:13 ", "a=extmap:1 ", "changes its meaning"),
        ("a=extmap:13 ", "a=extmap:13/upwards ", "malformed a=extmap"),
        ("a=sendrecv", "a=sendrecv\r\na=inactive", "two directions"),
        ("a=ssrc:3586730853 cname", "a=ssrc:4294967296 cname", "malformed SSRC"),
        ("a=ssrc:3586730853", "a=ssrc:3292948988", "two sections"),
        ("a=ssrc-group:FID 3586730853 123760403", "a=ssrc-group:FID 1 x", "malformed SSRC"),
        ("SAVPF 96 97", "SAVPF 111 96 97", "changes its meaning"),
    ],
)
def test_a_broken_offer_is_refused_and_changes_nothing(pattern: str, replacement: str, reason: str) -> None:
    server = negotiator()
    offer = recorded("chromium-plain")
    assert pattern in offer
    assert reason in refused(server, offer.replace(pattern, replacement))
    assert server.remote is None and not server.down_sections
    with pytest.raises(LocalProtocolError):
        server.create_answer()
    server.receive_offer(offer)
    server.create_answer()


def test_more_than_sixteen_ssrcs_in_a_section_are_refused() -> None:
    lines = "".join(f"a=ssrc:{number} cname:x\r\n" for number in range(1, 18))
    assert "more than 16 SSRCs" in refused(
        negotiator(), recorded("libdatachannel").replace("a=ssrc:4242 cname:x\r\n", lines)
    )


def test_more_sections_than_allowed_are_refused() -> None:
    assert "more than 2" in refused(negotiator(max_sections=2), recorded("chromium-plain"))


def test_payload_types_that_rtcp_would_hide_are_not_used() -> None:
    offer = recorded("libdatachannel").replace(" 96", " 70").replace(":96", ":70")
    _, answer = answer_to(offer)
    assert answer.media[0].port == 0


def test_extension_ids_past_the_one_byte_form_are_not_used() -> None:
    offer = recorded("chromium-plain").replace("a=extmap:13 ", "a=extmap:15 ")
    server, _ = answer_to(offer)
    assert server.up_sections[Mid("1")].config.extensions == {Extension.MID: 4}


def test_extension_directions_are_kept_apart() -> None:
    offer = recorded("chromium-plain").replace("a=extmap:13 ", "a=extmap:13/sendonly ")
    server, answer = answer_to(offer)
    assert Extension.VIDEO_ORIENTATION in server.up_sections[Mid("1")].config.extensions
    assert Extension.VIDEO_ORIENTATION not in server.down_sections[Mid("1")].config.extensions
    assert "13/recvonly urn:3gpp:video-orientation" in answer.media[1].all("extmap")


@pytest.mark.parametrize(
    "change",
    [
        ("a=ice-ufrag:bZT7", "a=ice-ufrag:bZT8"),
        ("a=ice-pwd:k", "a=ice-pwd:K"),
        ("a=fingerprint:sha-256 ED", "a=fingerprint:sha-256 EE"),
        ("a=setup:actpass", "a=setup:passive"),
    ],
)
def test_another_transport_on_a_living_connection_is_refused(change: tuple[str, str]) -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    assert "living connection" in refused(server, offer.replace(*change))
    server.receive_offer(offer)
    server.create_answer()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("a=mid:1", "a=mid:9"), "changed its mid"),
        (("m=video", "m=audio"), "changed its mid or its kind"),
        (("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid", "a=extmap:4 urn:x"), "changes its meaning"),
        (("a=rtpmap:96 VP8/90000", "a=rtpmap:96 H264/90000"), "changes its meaning"),
    ],
)
def test_a_later_offer_may_not_change_what_was_agreed(change: tuple[str, str], reason: str) -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    changed = offer.replace("BUNDLE 0 1 2", "BUNDLE 0 9 2") if "9" in change[1][-1] else offer
    assert reason in refused(server, changed.replace(*change))


def test_a_section_may_not_disappear() -> None:
    offer = recorded("libdatachannel")
    server, _ = answer_to(offer)
    shorter = offer.split("m=application")[0].replace("BUNDLE 0 1", "BUNDLE 0")
    assert "is missing" in refused(server, shorter)


# Offers of the server


def test_a_track_without_a_place_gets_a_new_section() -> None:
    server, peer = established(("audio", "sendrecv"), ("video", "sendonly"))
    assert server.free_section(Kind.VIDEO) is None
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    assert server.needs_offer and not server.is_sendable(mid)
    offer = server.create_offer()
    assert not server.needs_offer and server.has_outstanding_offer and not server.is_sendable(mid)
    server.receive_answer(peer.answer(offer))
    assert server.is_sendable(mid) and not server.has_outstanding_offer
    assert peer.line_of(mid).showing == "ada TR_1"
    assert server.down_sections[mid].config.payload_types == {1: 96, 2: 102, 3: 104}


def test_our_offers_say_actpass_and_the_role_stays() -> None:
    server, peer = established(("video", "sendrecv"))
    server.play(Mid("0"), "ada", "TR_1")
    offer = server.create_offer()
    assert Description.parse(offer).media[0].setup is Setup.ACTPASS
    answer = peer.answer(offer)
    with pytest.raises(RemoteProtocolError, match="living connection"):
        server.receive_answer(answer.replace("a=setup:active", "a=setup:passive"))
    with pytest.raises(RemoteProtocolError, match="no usable a=setup"):
        server.receive_answer(answer.replace("a=setup:active", "a=setup:actpass"))
    server.receive_answer(answer)
    assert server.is_sendable(Mid("0"))


def test_a_new_section_offers_every_codec_under_unused_numbers() -> None:
    server, _ = established(("audio", "sendrecv"), ("video", "sendrecv"))
    server.play(server.add_section(Kind.VIDEO), "ada", "TR_1")
    section = Description.parse(server.create_offer()).media[2]
    names = [section.rtpmaps[payload_type].encoding for payload_type in section.payload_types]
    assert names == ["vp8", *["h264"] * 12]
    assert section.payload_types[:3] == (96, 102, 104)
    assert not set(section.payload_types[3:]) & {111, 63, 97, 98}
    assert {(e.id, e.uri.rpartition(":")[2]) for e in section.extmaps} == {
        (4, "mid"),
        (13, "video-orientation"),
    }


def test_a_server_offer_can_bring_the_first_section() -> None:
    server, peer = established()
    assert server.is_established and server.remote is None
    mid = server.add_section(Kind.AUDIO)
    server.play(mid, "ada", "TR_1")
    server_offers(server, peer)
    assert server.is_sendable(mid) and server.remote is not None and not server.remote.is_dtls_client


def test_an_extension_the_peer_does_not_know_gets_a_free_id() -> None:
    server, _ = answer_to(recorded("firefox-plain"))
    server.add_section(Kind.VIDEO)
    section = Description.parse(server.create_offer()).media[3]
    assert [(e.id, e.uri) for e in section.extmaps] == [
        (3, "urn:ietf:params:rtp-hdrext:sdes:mid"),
        (8, "urn:3gpp:video-orientation"),
    ]


def test_a_stopped_section_turns_inactive_and_is_used_again() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    server_offers(server, peer)
    ssrc = server.down_sections[Mid("0")].config.ssrc
    server.stop(Mid("0"))
    assert not server.is_sendable(Mid("0")) and server.needs_offer
    assert server.free_section(Kind.VIDEO) is None  # the peer still shows the old track
    server_offers(server, peer)
    assert not peer.line_of("0").receives_now and peer.line_of("0").is_alive
    assert server.free_section(Kind.VIDEO) == "0"
    server.play(Mid("0"), "bob", "TR_2")
    server_offers(server, peer)
    assert peer.line_of("0").showing == "bob TR_2"
    assert server.down_sections[Mid("0")].config.ssrc == ssrc


def test_media_waits_until_the_peer_knows_the_new_track() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    server_offers(server, peer)
    server.play(Mid("0"), "bob", "TR_2")
    assert not server.is_sendable(Mid("0")) and server.needs_offer
    server_offers(server, peer)
    assert server.is_sendable(Mid("0")) and peer.line_of("0").showing == "bob TR_2"


def test_a_change_during_an_outstanding_offer_needs_another_one() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    offer = server.create_offer()
    server.stop(Mid("0"))
    assert server.needs_offer and server.free_section(Kind.VIDEO) is None
    late = server.add_section(Kind.AUDIO)
    server.receive_answer(peer.answer(offer))
    assert server.needs_offer and not server.is_sendable(Mid("0"))
    server_offers(server, peer)
    assert not server.needs_offer and peer.line_of(late).is_alive


def test_a_rejected_section_is_never_handed_out() -> None:
    server, peer = established(("video", "sendonly"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    answer = peer.answer(server.create_offer())
    head, tail = answer.rsplit("m=video 9", 1)
    server.receive_answer(head.replace(f" {mid}", "") + "m=video 0" + tail)
    assert not server.is_sendable(mid) and server.free_section(Kind.VIDEO) is None
    assert mid not in server.down_sections and not server.needs_offer
    assert Description.parse(server.create_offer()).media[1].port == 0
    with pytest.raises(LocalProtocolError):
        server.play(mid, "ada", "TR_1")
    server.stop(mid)


@pytest.mark.parametrize("change", [("a=recvonly", "a=inactive"), ("a=rtpmap", "a=xmap")])
def test_a_section_the_peer_cannot_receive_in_is_not_used(change: tuple[str, str]) -> None:
    server, peer = established(("audio", "sendonly"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    head, tail = peer.answer(server.create_offer()).split("m=video")
    server.receive_answer(head + "m=video" + tail.replace(*change))
    assert not server.is_sendable(mid) and server.free_section(Kind.VIDEO) is None
    assert not server.needs_offer


def test_a_peer_that_stops_receiving_loses_what_played() -> None:
    server, peer = established(("video", "sendrecv"))
    server.play(Mid("0"), "ada", "TR_1")
    server_offers(server, peer)
    peer.transceivers[0].direction = "sendonly"
    client_offers(server, peer)
    assert Mid("0") not in server.down_sections and not server.needs_offer
    peer.transceivers[0].direction = "sendrecv"
    client_offers(server, peer)
    assert server.free_section(Kind.VIDEO) == "0"


def test_a_peer_may_start_to_send_in_a_section_of_ours() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    server_offers(server, peer)
    assert mid not in server.up_sections
    peer.line_of(mid).direction = "sendrecv"
    client_offers(server, peer)
    assert mid in server.up_sections and server.is_sendable(mid)
    peer.line_of(mid).direction = "recvonly"
    client_offers(server, peer)
    assert mid not in server.up_sections and server.is_sendable(mid)


def test_a_refused_line_can_be_used_again_by_the_peer() -> None:
    server, peer = established(("audio", "sendrecv"), ("video", "sendrecv"))
    peer.transceivers[0].is_stopped = True
    client_offers(server, peer)
    assert list(server.down_sections) == ["1"]
    peer.add("video", "sendrecv")
    client_offers(server, peer)
    assert list(server.down_sections) == ["2", "1"] and list(server.up_sections) == ["2", "1"]


def test_a_mid_that_comes_back_has_its_ssrc_and_its_kind() -> None:
    server, peer = established(("audio", "sendrecv"), ("video", "sendrecv"))
    ssrc = server.down_sections[Mid("0")].config.ssrc
    peer.transceivers[0].is_stopped = True
    client_offers(server, peer)
    offer = peer.offer().replace("m=audio 0", "m=audio 9").replace("BUNDLE", "BUNDLE 0")
    server.receive_offer(offer)
    server.create_answer()
    assert server.down_sections[Mid("0")].config.ssrc == ssrc


# Order


def test_an_offer_that_crosses_ours_is_glare() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    peer.add("audio", "sendrecv")
    crossing, ours = peer.offer(), server.create_offer()
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_offer(crossing)
    assert caught.value.code is ErrorCode.GLARE
    server.receive_answer(peer.answer(ours))
    assert server.is_sendable(Mid("0"))
    client_offers(server, peer)
    assert list(server.up_sections) == ["2"]


def test_an_answer_without_an_offer_is_stale() -> None:
    server, peer = established(("video", "recvonly"))
    answer = peer.answer(server.create_offer())
    server.withdraw_offer()
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive_answer(answer)
    assert caught.value.code is ErrorCode.STALE_NEGOTIATION


def test_a_withdrawn_offer_goes_out_again() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    server.create_offer()
    server.withdraw_offer()
    assert server.needs_offer
    peer.add("video", "sendonly")  # takes the m-line that the withdrawn section would have had
    client_offers(server, peer)
    server_offers(server, peer)
    assert [line.mid for line in peer.lines] == ["0", "1", mid] and server.is_sendable(mid)


def test_the_peer_may_not_take_a_mid_of_ours() -> None:
    server, peer = established(("audio", "sendrecv"))
    mid = server.add_section(Kind.VIDEO)
    peer.add("video", "sendrecv")
    assert "in use elsewhere" in refused(server, re.sub(r"\b1\b(?=\r\n)", mid, peer.offer()))


def test_a_bad_answer_leaves_the_offer_outstanding() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    answer = peer.answer(server.create_offer())
    for bad in ("", answer.replace("a=mid:0", "a=mid:1"), answer + answer[answer.index("m=") :]):
        with pytest.raises(RemoteProtocolError) as caught:
            server.receive_answer(bad)
        assert caught.value.code is ErrorCode.INVALID_SDP and server.has_outstanding_offer
    server.receive_answer(answer)


def test_misuse_is_told_apart_from_what_the_peer_does() -> None:
    server = negotiator(max_sections=1)
    with pytest.raises(LocalProtocolError):
        server.create_offer()
    with pytest.raises(LocalProtocolError):
        server.create_answer()
    with pytest.raises(LocalProtocolError):
        server.play(Mid("0"), "ada", "TR_1")
    with pytest.raises(LocalProtocolError):
        server.stop(Mid("0"))
    assert not server.is_sendable(Mid("0")) and not server.needs_offer
    peer = SdpPeer()
    peer.add("audio", "sendrecv")
    server.receive_offer(peer.offer())
    with pytest.raises(LocalProtocolError):
        server.create_offer()
    with pytest.raises(LocalProtocolError):
        server.receive_offer(peer.offer() if peer.pending is None else "")
    server.create_answer()
    assert not server.can_add_section
    with pytest.raises(LocalProtocolError):
        server.add_section(Kind.AUDIO)
    server.create_offer()
    with pytest.raises(LocalProtocolError):
        server.create_offer()


def test_an_ssrc_is_never_given_twice() -> None:
    numbers = iter([0, 7, 7, 7, 8])
    server = Negotiator(LOCAL, session_id=5, cname="kaamos", new_ssrc=lambda: next(numbers))
    server.receive_offer(recorded("chromium-plain"))
    assert [down.config.ssrc for down in server.down_sections.values()] == [7, 8]


def test_the_number_of_mids_a_peer_can_burn_is_bounded() -> None:
    server, peer = established(("audio", "sendrecv"))
    offer = peer.offer()

    def burn() -> None:
        for number in range(2000):
            server.receive_offer(
                offer.replace("a=mid:0", f"a=mid:x{number}").replace("m=audio 9", "m=audio 0")
            )
            server.create_answer()

    refused_at_first = offer.replace("m=audio 9", "m=audio 0")
    server.receive_offer(refused_at_first)
    server.create_answer()
    offer = offer.replace("BUNDLE 0", "BUNDLE")
    with pytest.raises(RemoteProtocolError, match="too many different mids"):
        burn()


# aiortc


@pytest.mark.parametrize("codec", ["video/VP8", "video/H264"])
async def test_aiortc_gets_slots_in_its_own_sections_and_in_ours(codec: str) -> None:
    client = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    client.addTrack(AudioStreamTrack())
    client.addTrack(VideoStreamTrack())
    video = client.getTransceivers()[1]
    capabilities = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in capabilities if c.mimeType == codec])
    server = negotiator()
    try:
        await client.setLocalDescription(await client.createOffer())
        server.receive_offer(client.localDescription.sdp)
        answer = server.create_answer()
        await client.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        assert list(server.up_sections) == ["0", "1"]
        for number in range(3):
            for kind in Kind:
                server.play(
                    server.free_section(kind) or server.add_section(kind), f"user{number}", f"T{number}"
                )
            await client.setRemoteDescription(RTCSessionDescription(server.create_offer(), "offer"))
            await client.setLocalDescription(await client.createAnswer())
            server.receive_answer(client.localDescription.sdp)
            assert not server.needs_offer
        receivers = {t.mid: t.receiver.track.id for t in client.getTransceivers()}
        assert receivers == {"0": "T0", "1": "T0", "s0": "T1", "s1": "T1", "s2": "T2", "s3": "T2"}
        assert all(server.is_sendable(mid) for mid in server.down_sections)
        assert list(server.up_sections) == ["0", "1"]
        names = {c.mimeType for c in video.receiver._RTCRtpReceiver__codecs.values()} - {"video/rtx"}
        assert names <= {codec}
    finally:
        await client.close()
