"""What the Negotiator answers to recorded offers, and which offers it refuses."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from kaamos.errors import LocalProtocolError, RemoteProtocolError
from kaamos.media.description import Extension, Kind
from kaamos.rtc.capabilities import CODECS, EXTENSION_URIS, STATIC_RTPMAPS
from kaamos.rtc.negotiation import Mid, RemoteTransport
from kaamos.rtc.sdp import Description, Direction, Setup
from tests.support.negotiation import LOCAL, OFFERS, answer_to, established, negotiator, recorded, refused


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_the_answer_fits_the_offer(path: Path) -> None:
    offer = Description.parse(path.read_bytes().decode())
    _, answer = answer_to(offer.write())
    assert [(m.media, m.mid, m.protocol) for m in answer.media] == [
        (m.media, m.mid, m.protocol) for m in offer.media
    ]
    accepted = [media for media in answer.media if media.port]
    assert {media.media for media in accepted} == {m.media for m in offer.media}
    assert answer.bundles == (tuple(media.mid for media in accepted),)
    for media in accepted:
        (offered,) = (m for m in offer.media if m.mid == media.mid)
        if media.media == "application":
            assert list(media.formats) == ["webrtc-datachannel"] and media.setup is Setup.PASSIVE
            assert (media.all("sctp-port"), media.all("max-message-size")) == (["5000"], ["65536"])
            continue
        assert media.has("rtcp-mux") and media.has("rtcp-rsize") == offered.has("rtcp-rsize")
        assert media.setup is Setup.PASSIVE
        assert set(media.formats) <= set(offered.formats)
        known = {**STATIC_RTPMAPS[Kind(media.media)], **offered.rtpmaps}
        assert media.rtpmaps == {pt: known[pt] for pt in media.payload_types}
        assert {(e.id, e.uri) for e in media.extmaps} <= {(e.id, e.uri) for e in offered.extmaps}
        for payload_type in media.payload_types:
            if media.rtpmaps[payload_type].encoding == "rtx":
                assert media.fmtps[payload_type] == offered.fmtps[payload_type]
        for payload_type, feedback in media.feedback.items():
            assert feedback <= offered.feedback[payload_type] & {
                "nack",
                "nack pli",
                "ccm fir",
                "transport-cc",
            }
        has_feedback = any("transport-cc" in feedback for feedback in media.feedback.values())
        assert has_feedback == any(extmap.uri.endswith("wide-cc-extensions-01") for extmap in media.extmaps)
        assert media.all("rtcp-xr") == offered.all("rtcp-xr")
        assert media.all("simulcast") == [value.replace("send", "recv") for value in offered.all("simulcast")]
        assert media.all("rid") == [value.replace("send", "recv") for value in offered.all("rid")]
        assert media.has("extmap-allow-mixed") == offered.has("extmap-allow-mixed")
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


SPOKEN = re.compile(
    "(opus|red)/48000/2 |PCM[UA]/8000 |VP8/90000 |H264/90000 .*packetization-mode="
    "|VP9/90000 (?!.*profile-id=[13])|AV1/90000 (?!.*profile=[12])",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_all_that_we_know_of_a_recorded_offer_is_taken_under_its_own_numbers(path: Path) -> None:
    offer = Description.parse(path.read_bytes().decode())
    server, _ = answer_to(offer.write())
    for media in offer.media:
        if media.mid not in server.up_sections:
            continue
        up = server.up_sections[Mid(media.mid)].config
        lines = [value.split(" ", 1) for value in media.all("rtpmap")]
        spoken = {
            int(pt): text for pt, text in lines if SPOKEN.match(f"{text} {media.fmtps.get(int(pt), '')}")
        }
        taken = {codec.payload_type: CODECS[codec.codec_id].rtpmap_text for codec in up.codecs}
        assert {pt: text.lower() for pt, text in taken.items()} == {
            pt: text.lower() for pt, text in spoken.items()
        }
        offered = {extmap.uri: extmap.id for extmap in media.extmaps if extmap.direction.sends}
        known = {extension: offered[uri] for extension, uri in EXTENSION_URIS.items() if uri in offered}
        if not any("transport-cc" in items for items in media.feedback.values()):
            known.pop(Extension.TRANSPORT_CC, None)
        assert up.extensions == known


def test_the_answer_to_chromium_prefers_vp8_then_h264() -> None:
    _, answer = answer_to(recorded("chromium-plain"))
    audio, video, data = answer.media
    assert audio.lines[0] == "m=audio 7882 UDP/TLS/RTP/SAVPF 111 63 0 8"
    assert video.lines[0] == "m=video 7882 UDP/TLS/RTP/SAVPF " + " ".join(
        ["96 97", "108 109 114 115 102 103 104 107 116 117 39 40", "98 99 100 101", "45 46"]
    )
    assert video.fmtps[39] == "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"
    assert data.lines[0] == "m=application 7882 UDP/DTLS/SCTP webrtc-datachannel"
    assert audio.lines[1] == "c=IN IP4 192.0.2.1"
    assert [(c.address, c.port) for c in audio.candidates] == list(LOCAL.addresses)
    assert audio.candidates[0].priority > audio.candidates[1].priority
    assert audio.has("end-of-candidates") and not video.has("candidate")


@pytest.mark.parametrize("offered", ["VP9/90000", "AV1/90000"])
def test_a_section_that_offers_only_others_is_answered_with_them(offered: str) -> None:
    plain = recorded("chromium-plain").replace("VP8/90000", "x/90000").replace("H264/90000", "x/90000")
    _, answer = answer_to(plain.replace("AV1/90000" if offered[2] == "9" else "VP9/90000", "x/90000"))
    video = answer.media[1]
    names = {video.rtpmaps[payload_type].encoding for payload_type in video.payload_types}
    assert names == {offered.partition("/")[0].lower(), "rtx"}


def test_a_static_payload_type_needs_no_rtpmap() -> None:
    offer = re.sub(r"a=rtpmap:[08] .*\r\n", "", recorded("chromium-plain"))
    server, answer = answer_to(offer)
    up = server.up_sections[Mid("0")]
    assert [codec.payload_type for codec in up.config.codecs] == [111, 63, 0, 8]
    assert [codec.clock_rate for codec in up.config.codecs] == [48000, 48000, 8000, 8000]
    assert answer.media[0].all("rtpmap")[2:] == ["0 PCMU/8000", "8 PCMA/8000"]


def test_a_static_payload_type_with_another_rtpmap_means_that() -> None:
    server, _ = answer_to(recorded("chromium-plain").replace("a=rtpmap:0 PCMU", "a=rtpmap:0 L8"))
    codecs = server.up_sections[Mid("0")].config.codecs
    assert [codec.payload_type for codec in codecs] == [111, 63, 8]


def test_chromium_maps_are_in_its_own_numbers() -> None:
    server, _ = answer_to(recorded("chromium-plain"))
    up = server.up_sections[Mid("1")]
    types = [codec.payload_type for codec in up.config.codecs]
    assert types == [96, 108, 114, 102, 104, 116, 39, 98, 100, 45]
    assert [codec.codec_id for codec in up.config.codecs] == [1, 2, 3, 4, 5, 6, 7, 14, 15, 16]
    assert up.config.extensions == {
        Extension.MID: 4,
        Extension.VIDEO_ORIENTATION: 13,
        Extension.PLAYOUT_DELAY: 5,
        Extension.ABS_SEND_TIME: 2,
        Extension.TRANSPORT_CC: 3,
        Extension.RID: 10,
        Extension.REPAIRED_RID: 11,
    }
    assert up.config.ssrcs == (3586730853,)  # without the one of retransmission
    assert up.config.pli and up.config.fir
    assert up.msid == ("2a1ad32f-e2d9-47a5-98da-b43d22240190", "1e015ef4-66f4-4e42-8218-efb04fce5af6")
    down = server.down_sections[Mid("1")]
    assert down.config.payload_types == {codec.codec_id: codec.payload_type for codec in up.config.codecs}
    assert down.config.nack and down.config.cname == "kaamos" and down.stream_id is None
    sound = {Extension.MID: 4, Extension.AUDIO_LEVEL: 1, Extension.ABS_SEND_TIME: 2}
    assert server.down_sections[Mid("0")].config.extensions == sound


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


def test_the_dtls_role_outlives_a_later_actpass() -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer.replace("a=setup:actpass", "a=setup:passive"))
    server.receive_offer(offer)
    assert {media.setup for media in Description.parse(server.create_answer()).media} == {Setup.ACTIVE}


def test_a_refused_section_may_carry_the_only_transport_lines() -> None:
    session, video, data = re.split("(?=m=)", recorded("libdatachannel"))
    session = session.replace("BUNDLE 0 1", "BUNDLE 1 0")
    bare = re.sub(r"a=(ice|setup|candidate|end-of).*\r\n", "", video)
    server, answer = answer_to(session + data.replace("webrtc-datachannel", "other") + bare)
    assert server.remote is not None and server.remote.ufrag == "g+VH"
    assert [media.port for media in answer.media] == [0, 7882] and answer.bundles == (("0",),)


def test_fingerprints_may_come_in_another_order() -> None:
    offer = recorded("libdatachannel")
    one = next(line for line in offer.split("\r\n") if line.startswith("a=fingerprint"))
    two = "a=fingerprint:sha-384 " + ":".join(["EF"] * 48)
    server, _ = answer_to(offer.replace(one, f"{one}\r\n{two}"))
    server.receive_offer(offer.replace(one, f"{two}\r\n{one}"))
    assert server.remote is not None and len(server.remote.fingerprints) == 2


def test_a_codec_may_have_several_payload_types() -> None:
    offer = recorded("libdatachannel")
    twice = offer.replace("SAVPF 96", "SAVPF 96 100").replace(
        "a=rtcp-mux", "a=rtcp-mux\r\na=rtpmap:100 VP8/90000"
    )
    server, answer = answer_to(twice)
    assert answer.media[0].payload_types == (96,)
    server.add_section(Kind.VIDEO)
    added = Description.parse(server.create_offer()).media[2]
    assert added.payload_types[0] == 96 and 100 not in added.payload_types
    server.withdraw_offer()
    server.receive_offer(offer.replace("SAVPF 96", "SAVPF 100").replace(":96", ":100"))
    assert Description.parse(server.create_answer()).media[0].payload_types == (100,)
    added = Description.parse(server.create_offer()).media[2]
    assert added.payload_types[0] == 96 and 100 not in added.payload_types


def test_a_bundle_line_may_end_in_a_space() -> None:
    _, answer = answer_to(recorded("libdatachannel").replace("BUNDLE 0 1", "BUNDLE 0 1 "))
    assert answer.bundles == (("0", "1"),)


def test_lines_of_the_peer_that_bundling_makes_void_are_not_read() -> None:
    offer = recorded("chromium-plain")
    head, tail = offer.split("m=video")
    other = tail.replace("a=ice-ufrag:bZT7", "a=ice-ufrag:other").replace("a=setup:actpass", "a=setup:active")
    server, _ = answer_to(head + "m=video" + other)
    assert server.remote is not None and server.remote.ufrag == "bZT7" and not server.remote.is_dtls_client


def test_the_transport_comes_from_the_first_section_we_accept() -> None:
    offer = recorded("chromium-plain").replace("opus/48000", "speex/16000").replace("PCM", "L")
    _, answer = answer_to(offer)
    assert [media.port for media in answer.media] == [0, 7882, 7882]
    assert answer.bundles == (("1", "2"),)
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
    config = server.down_sections[mid].config
    assert answer.media[1].all("ssrc") == [f"{config.ssrc} cname:kaamos", f"{config.rtx_ssrc} cname:kaamos"]
    assert server.is_sendable(mid) and not server.needs_offer


@pytest.mark.parametrize(
    ("user_id", "track_id", "msid"),
    [
        ("ada", "TR_1", "ada TR_1"),
        ("ada@example.org", "TR_1", "ada%40example.org TR_1"),
        ("Ада", "TR_1", "%D0%90%D0%B4%D0%B0 TR_1"),
        ("a b%", "TR_1", "a%20b%25 TR_1"),
        ("a\r\na=setup:active %20", "", "a%0D%0Aa%3Dsetup%3Aactive%20%2520 -"),
    ],
)
def test_a_stream_id_is_the_user_id_where_sdp_allows_it(user_id: str, track_id: str, msid: str) -> None:
    server = negotiator()
    server.receive_offer(recorded("chromium-plain"))
    server.play(Mid("1"), user_id, track_id)
    answer = Description.parse(server.create_answer())
    assert answer.media[1].all("msid") == [msid]


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
        ("a=extmap:13 ", "a=extmap:0 ", "extension id 0"),
        ("a=extmap:13 ", "a=extmap:1 ", "changes its meaning"),
        ("a=extmap:13 ", "a=extmap:13/upwards ", "malformed a=extmap"),
        ("a=sendrecv", "a=sendrecv\r\na=inactive", "two directions"),
        ("a=ssrc:3586730853 cname", "a=ssrc:4294967296 cname", "malformed SSRC"),
        ("a=ssrc:3586730853", "a=ssrc:3292948988", "two sections"),
        ("a=ssrc-group:FID 3586730853 123760403", "a=ssrc-group:FID 1 x", "malformed SSRC"),
        ("SAVPF 96 97", "SAVPF 111 96 97", "changes its meaning"),
        ("SAVPF 111 63", "SAVPF 96 111 63", "changes its meaning"),
        ("a=extmap:1 ", "a=extmap:13 ", "changes its meaning"),
        (
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "a=extmap:13 urn:x",
            "changes its meaning",
        ),
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


def test_numbers_of_a_refused_offer_are_forgotten() -> None:
    server = negotiator()
    offer = recorded("chromium-plain")
    other = offer.replace("a=rtpmap:96 VP8/90000", "a=rtpmap:96 H264/90000")
    refused(server, other.replace("a=extmap:4 ", "a=extmap:9 ").replace("a=ice-pwd", "a=x"))
    server.receive_offer(offer)
    assert server.down_sections[Mid("1")].config.payload_types[1] == 96
    assert server.down_sections[Mid("1")].config.extensions[Extension.MID] == 4


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
    assert Extension.VIDEO_ORIENTATION not in server.up_sections[Mid("1")].config.extensions
    assert max(server.up_sections[Mid("1")].config.extensions.values()) <= 14


def test_an_extension_has_one_id_on_a_connection() -> None:
    offer = recorded("chromium-plain")
    head, tail = offer.split("m=video")
    server, answer = answer_to(head + "m=video" + tail.replace("a=extmap:4 ", "a=extmap:12 "))
    assert server.up_sections[Mid("0")].config.extensions[Extension.MID] == 4
    assert Extension.MID not in server.up_sections[Mid("1")].config.extensions
    assert 12 not in {extmap.id for extmap in answer.media[1].extmaps}


def test_extension_directions_are_kept_apart() -> None:
    offer = recorded("chromium-plain").replace("a=extmap:13 ", "a=extmap:13/sendonly ")
    server, answer = answer_to(offer)
    assert Extension.VIDEO_ORIENTATION in server.up_sections[Mid("1")].config.extensions
    assert Extension.VIDEO_ORIENTATION not in server.down_sections[Mid("1")].config.extensions
    assert "13/recvonly urn:3gpp:video-orientation" in answer.media[1].all("extmap")


@pytest.mark.parametrize(
    "change",
    [
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


@pytest.mark.parametrize("change", [("a=ice-ufrag:bZT7", "a=ice-ufrag:bZT8"), ("a=ice-pwd:k", "a=ice-pwd:K")])
def test_new_credentials_in_an_offer_are_an_ice_restart(change: tuple[str, str]) -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    before = server.remote
    assert before is not None
    server.receive_offer(offer.replace(*change))
    now = server.remote
    assert now is not None and now.restarts_ice_of(before)
    assert replace(now, ufrag=before.ufrag, pwd=before.pwd) == before
    server.local = replace(server.local, ufrag="restarted", pwd="r" * 24)
    answer = Description.parse(server.create_answer())
    assert {(media.ufrag, media.pwd) for media in answer.media} == {("restarted", "r" * 24)}
    # The credentials stay until the next restart.
    server.receive_offer(offer.replace(*change))
    assert server.remote == now


def test_new_credentials_with_another_fingerprint_or_role_are_no_restart() -> None:
    offer = recorded("chromium-plain")
    server, _ = answer_to(offer)
    known = server.remote
    restart = offer.replace("a=ice-ufrag:bZT7", "a=ice-ufrag:bZT8")
    assert "living connection" in refused(server, restart.replace("sha-256 ED", "sha-256 EE"))
    assert "living connection" in refused(server, restart.replace("actpass", "passive"))
    assert server.remote == known


def test_new_credentials_in_an_answer_are_refused() -> None:
    server, peer = established(("video", "sendrecv"))
    server.add_section(Kind.AUDIO)
    answer = peer.answer(server.create_offer())
    with pytest.raises(RemoteProtocolError, match="changed in an answer"):
        server.receive_answer(answer.replace("a=ice-ufrag:peer", "a=ice-ufrag:other"))
    server.receive_answer(answer)


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
