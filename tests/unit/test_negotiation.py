"""Offers of both sides in every order, with a strict model browser and with aiortc as the peer."""

import re

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from kaamos.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kaamos.media.description import Extension, Kind
from kaamos.rtc.capabilities import EXTENSION_URIS, EXTENSIONS
from kaamos.rtc.negotiation import Mid, Negotiator
from kaamos.rtc.sdp import Description, Direction, Setup
from tests.support import sdp_peer
from tests.support.negotiation import (
    LOCAL,
    answer_to,
    client_offers,
    established,
    negotiator,
    recorded,
    refused,
    server_offers,
)
from tests.support.sdp_peer import SdpPeer

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
    assert server.down_sections[mid].config.payload_types == {1: 96, 2: 102, 3: 104, 14: 98, 16: 45}


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
    types = section.payload_types
    codecs, repeats = types[::2], types[1::2]
    names = [section.rtpmaps[payload_type].encoding for payload_type in codecs]
    assert names == ["vp8", *["h264"] * 12, "vp9", "vp9", "av1", "h265", "h265"]
    assert {section.rtpmaps[payload_type].encoding for payload_type in repeats} == {"rtx"}
    assert [section.fmtps[payload_type] for payload_type in repeats] == [f"apt={number}" for number in codecs]
    assert (types[:5], codecs[13], types[-6:-4]) == ((96, 97, 102, 103, 104), 98, (45, 46))
    assert len(set(types)) == len(types) and not set(types) & {111, 63, 118, 119}
    found = {extmap.uri: extmap.id for extmap in section.extmaps}
    assert found.keys() == {EXTENSION_URIS[extension] for extension in EXTENSIONS[Kind.VIDEO]}
    assert len(set(found.values())) == len(found)
    known = {uri: number for uris in sdp_peer.EXTENSIONS.values() for number, uri in uris.items()}
    assert {uri: number for uri, number in found.items() if uri in known}.items() <= known.items()


def test_codecs_of_rfc_3551_are_offered_under_their_own_numbers() -> None:
    server, _ = answer_to(recorded("libdatachannel"))
    server.add_section(Kind.AUDIO)
    section = Description.parse(server.create_offer()).media[2]
    assert section.payload_types[2:] == (0, 8)
    assert section.all("rtpmap")[2:] == ["0 PCMU/8000", "8 PCMA/8000"]


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
    found = [(e.id, e.uri) for e in section.extmaps]
    assert found[0] == (3, "urn:ietf:params:rtp-hdrext:sdes:mid")
    assert (10, "urn:3gpp:video-orientation") in found  # Firefox uses 1 to 7, our rids take 8 and 9


def test_where_ids_are_short_the_most_needed_extensions_get_them() -> None:
    taken = "".join(f"a=extmap:{number} urn:x\r\n" for number in (9, 12))
    server, _ = answer_to(recorded("chromium-plain").replace("a=extmap:10 ", f"{taken}a=extmap:10 "))
    server.add_section(Kind.VIDEO)
    offered = {extmap.uri for extmap in Description.parse(server.create_offer()).media[3].extmaps}
    missing = {Extension.DEPENDENCY_DESCRIPTOR, Extension.ABS_CAPTURE_TIME}
    assert offered == {
        EXTENSION_URIS[extension] for extension in EXTENSIONS[Kind.VIDEO] if extension not in missing
    }


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


def test_a_track_can_move_to_another_section_at_once() -> None:
    server, peer = established(("video", "recvonly"), ("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    server_offers(server, peer)
    server.stop(Mid("0"))
    server.play(Mid("1"), "ada", "TR_1")
    server_offers(server, peer)
    assert peer.line_of("0").showing is None and peer.line_of("1").showing == "ada TR_1"


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
    server.receive_answer(peer.answer(offer))
    assert server.needs_offer and not server.is_sendable(Mid("0"))
    assert server.free_section(Kind.VIDEO) is None
    server_offers(server, peer)
    assert not server.needs_offer and peer.line_of("0").showing is None


def test_a_section_added_during_an_outstanding_offer_goes_out_with_the_next() -> None:
    server, peer = established(("video", "recvonly"))
    server.play(Mid("0"), "ada", "TR_1")
    offer = server.create_offer()
    late = server.add_section(Kind.AUDIO)
    assert server.needs_offer
    server.receive_answer(peer.answer(offer))
    assert server.needs_offer
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


def test_an_answer_that_says_more_than_was_offered_changes_nothing() -> None:
    server, peer = established(("audio", "sendonly"))
    mid = server.add_section(Kind.VIDEO)
    server.play(mid, "ada", "TR_1")
    head, tail = peer.answer(server.create_offer()).split("m=video")
    server.receive_answer(head + "m=video" + tail.replace("a=recvonly", "a=sendrecv"))
    assert mid not in server.up_sections and server.is_sendable(mid)
    assert Description.parse(server.create_offer()).media[1].direction is Direction.SENDONLY


def test_an_answer_cannot_bring_codecs_that_were_not_offered() -> None:
    server, _ = answer_to(recorded("libdatachannel"))
    server.play(Mid("0"), "ada", "TR_1")
    server.create_offer()
    head, tail = recorded("libdatachannel").replace("actpass", "active").split("m=application 38499")
    more = head.replace("SAVPF 96", "SAVPF 96 100").replace(
        "a=rtcp-mux", "a=rtcp-mux\r\na=rtpmap:100 H264/90000"
    )
    server.receive_answer(more + "m=application 0" + tail)
    assert server.down_sections[Mid("0")].config.payload_types == {1: 96} and server.is_sendable(Mid("0"))


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


def test_a_number_that_the_peer_takes_meanwhile_is_not_offered_again() -> None:
    server, peer = established(("audio", "sendrecv"))
    server.play(server.add_section(Kind.VIDEO), "ada", "TR_1")
    first = Description.parse(server.create_offer()).media[1]
    assert 118 in first.payload_types and f"2 {EXTENSION_URIS[Extension.RID]}" in first.all("extmap")
    server.withdraw_offer()
    peer.add("video", "sendonly")  # 118 is red there, extension 2 abs-send-time and 10 the rid
    client_offers(server, peer)
    second = Description.parse(server.create_offer()).media[2]
    assert 118 not in second.payload_types
    found = second.all("extmap")
    assert f"2 {EXTENSION_URIS[Extension.ABS_SEND_TIME]}" in found
    assert f"10 {EXTENSION_URIS[Extension.RID]}" in found


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
    numbers = iter([0, 7, 7, 7, 8, 7, 8, 9])
    server = Negotiator(LOCAL, session_id=5, cname="kaamos", new_ssrc=lambda: next(numbers))
    server.receive_offer(recorded("chromium-plain"))
    assert [down.config.ssrc for down in server.down_sections.values()] == [7, 8]
    assert [down.config.rtx_ssrc for down in server.down_sections.values()] == [0, 9]


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
                    server.free_section(kind) or server.add_section(kind), f"user{number}", f"{kind}{number}"
                )
            await client.setRemoteDescription(RTCSessionDescription(server.create_offer(), "offer"))
            await client.setLocalDescription(await client.createAnswer())
            server.receive_answer(client.localDescription.sdp)
            assert not server.needs_offer
        receivers = {t.mid: t.receiver.track.id for t in client.getTransceivers()}
        assert receivers == {
            **{"0": "audio0", "s0": "audio1", "s2": "audio2"},
            **{"1": "video0", "s1": "video1", "s3": "video2"},
        }
        assert all(server.is_sendable(mid) for mid in server.down_sections)
        assert list(server.up_sections) == ["0", "1"]
        names = {c.mimeType for c in video.receiver._RTCRtpReceiver__codecs.values()} - {"video/rtx"}
        assert names <= {codec}
    finally:
        await client.close()
