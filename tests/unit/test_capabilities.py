"""Which codecs are the same, and what we say of them."""

import pytest

from kaamos.media.description import Extension, Kind, PayloadFormat
from kaamos.rtc import capabilities
from kaamos.rtc.capabilities import CODEC_IDS, CODECS, H264Profile, find_codec, h264_profile
from kaamos.rtc.sdp import RtpMap

H264 = RtpMap("h264", 90000, 1)


def test_the_order_of_codecs_is_the_preference_of_the_room() -> None:
    assert [codec.rtpmap.encoding for codec in CODECS[:3]] == ["opus", "vp8", "h264"]
    assert len(set(CODECS)) == len(CODECS) <= 32  # what a slot's table of payload types holds
    names = {kind: [CODECS[codec_id].rtpmap_text for codec_id in CODEC_IDS[kind]] for kind in Kind}
    assert names[Kind.AUDIO] == ["opus/48000/2", "red/48000/2", "PCMU/8000", "PCMA/8000"]
    video = ["VP8", *["H264"] * 12, *["VP9"] * 2, "AV1", *["H265"] * 2]
    assert names[Kind.VIDEO] == [f"{name}/90000" for name in video]


@pytest.mark.parametrize("codec_id", range(len(CODECS)))
def test_what_we_offer_is_what_we_find(codec_id: int) -> None:
    codec = CODECS[codec_id]
    assert find_codec(codec.kind, codec.rtpmap, capabilities.offer_fmtp(codec_id)) == codec_id


@pytest.mark.parametrize(
    ("kind", "rtpmap"),
    [
        (Kind.AUDIO, RtpMap("opus", 48000, 1)),
        (Kind.AUDIO, RtpMap("opus", 16000, 2)),
        (Kind.AUDIO, RtpMap("red", 8000, 1)),
        (Kind.AUDIO, RtpMap("telephone-event", 48000, 1)),
        (Kind.AUDIO, RtpMap("cn", 8000, 1)),
        (Kind.VIDEO, RtpMap("red", 90000, 1)),
        (Kind.VIDEO, RtpMap("ulpfec", 90000, 1)),
        (Kind.VIDEO, RtpMap("h265", 8000, 1)),
        (Kind.AUDIO, RtpMap("vp8", 90000, 1)),
        (Kind.VIDEO, RtpMap("opus", 48000, 2)),
        (Kind.AUDIO, RtpMap("pcmu", 16000, 1)),
        (Kind.AUDIO, RtpMap("g722", 8000, 1)),
        (Kind.VIDEO, RtpMap("pcma", 8000, 1)),
        (Kind.VIDEO, RtpMap("rtx", 90000, 1)),
        (Kind.VIDEO, RtpMap("vp8", 8000, 1)),
    ],
)
def test_other_codecs_are_not_ours(kind: Kind, rtpmap: RtpMap) -> None:
    assert find_codec(kind, rtpmap, "") is None


@pytest.mark.parametrize(
    ("profile_level_id", "profile"),
    [
        ("42e01f", H264Profile.CONSTRAINED_BASELINE),
        ("42E034", H264Profile.CONSTRAINED_BASELINE),
        ("42c01e", H264Profile.CONSTRAINED_BASELINE),  # GStreamer
        ("4d801f", H264Profile.CONSTRAINED_BASELINE),
        ("58c01f", H264Profile.CONSTRAINED_BASELINE),
        ("42001f", H264Profile.BASELINE),
        ("42001e", H264Profile.BASELINE),  # FFmpeg
        ("58801f", H264Profile.BASELINE),
        ("4d001f", H264Profile.MAIN),
        ("4d401f", H264Profile.MAIN),
        ("640c1f", H264Profile.CONSTRAINED_HIGH),
        ("640032", H264Profile.HIGH),
        ("f4001f", H264Profile.HIGH_444),
        ("58001f", None),  # Extended
        ("64081f", None),
        ("6e001f", None),  # High 10
        ("42e01", None),
        ("42e01f0", None),
        ("42e0xf", None),
        ("", None),
        ("\uff14\uff12e01f", None),
    ],
)
def test_a_profile_is_told_by_its_bits_and_not_by_its_level(
    profile_level_id: str, profile: H264Profile | None
) -> None:
    assert h264_profile(profile_level_id) is profile


@pytest.mark.parametrize(
    ("fmtp", "mode", "profile"),
    [
        ("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f", 1, H264Profile.BASELINE),
        ("profile-level-id=4D001F; packetization-mode=0", 0, H264Profile.MAIN),
        ("profile-level-id=42e01f", 0, H264Profile.CONSTRAINED_BASELINE),
        ("packetization-mode=1", 1, H264Profile.CONSTRAINED_BASELINE),
        ("", 0, H264Profile.CONSTRAINED_BASELINE),
    ],
)
def test_h264_is_told_by_profile_and_packetization_mode(fmtp: str, mode: int, profile: H264Profile) -> None:
    codec_id = find_codec(Kind.VIDEO, H264, fmtp)
    assert codec_id is not None
    codec = CODECS[codec_id]
    assert (codec.packetization_mode, codec.profile, codec.format) == (mode, profile, PayloadFormat.H264)


@pytest.mark.parametrize("fmtp", ["packetization-mode=2", "packetization-mode=x", "profile-level-id=x"])
def test_h264_of_another_kind_is_not_ours(fmtp: str) -> None:
    assert find_codec(Kind.VIDEO, H264, fmtp) is None


@pytest.mark.parametrize(
    ("encoding", "fmtp", "profile"),
    [
        ("vp9", "", "0"),
        ("vp9", "profile-id=0", "0"),
        ("vp9", "max-fs=12288;profile-id=2", "2"),
        ("av1", "", "0"),
        ("av1", "level-idx=5;profile=0;tier=0", "0"),
        ("av1", "level-idx=19", "0"),
    ],
)
def test_vp9_and_av1_are_told_by_their_profile(encoding: str, fmtp: str, profile: str) -> None:
    codec_id = find_codec(Kind.VIDEO, RtpMap(encoding, 90000, 1), fmtp)
    assert codec_id is not None
    codec = CODECS[codec_id]
    assert (codec.rtpmap.encoding, codec.profile) == (encoding, profile)
    assert codec.format is (PayloadFormat.VP9 if encoding == "vp9" else PayloadFormat.AV1)


@pytest.mark.parametrize(
    ("encoding", "fmtp"),
    [("vp9", "profile-id=1"), ("vp9", "profile-id=3"), ("vp9", "profile-id="), ("av1", "profile=1")],
)
def test_other_profiles_of_vp9_and_av1_are_not_ours(encoding: str, fmtp: str) -> None:
    assert find_codec(Kind.VIDEO, RtpMap(encoding, 90000, 1), fmtp) is None


def test_an_answer_repeats_the_profile_and_level_of_vp9_and_av1() -> None:
    def answer(encoding: str, fmtp: str) -> str:
        codec_id = find_codec(Kind.VIDEO, RtpMap(encoding, 90000, 1), fmtp)
        assert codec_id is not None
        return capabilities.answer_fmtp(codec_id, fmtp)

    assert answer("vp9", "max-fr=60;profile-id=2") == "profile-id=2"
    assert answer("vp9", "max-fs=12288") == ""
    assert answer("av1", "tier=0; level-idx=19; profile=0; x=y") == "level-idx=19;profile=0;tier=0"


def test_an_answer_repeats_the_level_of_the_peer_and_nothing_else() -> None:
    fmtp = (
        "packetization-mode=1;sprop-parameter-sets=Z0LAHtoC;profile-level-id=42c01e;level-asymmetry-allowed=1"
    )
    codec_id = find_codec(Kind.VIDEO, H264, fmtp)
    assert codec_id is not None
    expected = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01e"
    assert capabilities.answer_fmtp(codec_id, fmtp) == expected


def test_vp8_is_answered_in_our_words() -> None:
    assert capabilities.answer_fmtp(1, "max-fs=12288;max-fr=60") == ""


@pytest.mark.parametrize(
    ("offered", "wishes"),
    [
        ("", ""),
        ("minptime=20;useinbandfec=0;maxplaybackrate=16000", ""),
        ("maxplaybackrate=48000;stereo=1;useinbandfec=1", ";stereo=1"),  # Firefox
        ("minptime=10;useinbandfec=1;stereo=1;usedtx=1", ";stereo=1;usedtx=1"),
        ("sprop-stereo=1", ";stereo=1"),
        ("stereo=0;usedtx=0;cbr=0", ""),
        ("usedtx=1; cbr=1; maxaveragebitrate=128000", ";usedtx=1;cbr=1;maxaveragebitrate=128000"),
        ("maxaveragebitrate=0128000", ""),
        ("maxaveragebitrate=1e6", ""),
        ("maxaveragebitrate=99999999;stereo=11", ""),
    ],
)
def test_an_answer_asks_a_publisher_for_the_opus_that_it_speaks_of(offered: str, wishes: str) -> None:
    assert capabilities.answer_fmtp(0, offered) == f"minptime=10;useinbandfec=1{wishes}"


@pytest.mark.parametrize(
    ("fmtp", "profile"),
    [
        ("", "1"),
        ("level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST", "1"),
        ("profile-id=2;level-id=93", "2"),
        ("profile-id=3", None),
        ("tier-flag=1", None),
        ("tx-mode=MRST", None),
        ("profile-id=", None),
    ],
)
def test_h265_is_told_by_its_profile(fmtp: str, profile: str | None) -> None:
    codec_id = find_codec(Kind.VIDEO, RtpMap("h265", 90000, 1), fmtp)
    if profile is None:
        assert codec_id is None
        return
    assert codec_id is not None
    assert (CODECS[codec_id].profile, CODECS[codec_id].format) == (profile, PayloadFormat.H265)
    repeated = set(capabilities.answer_fmtp(codec_id, fmtp).split(";"))
    assert repeated == set(fmtp.split(";"))


def test_every_extension_is_known_by_its_uri_and_offered_somewhere() -> None:
    assert {capabilities.extension_of(uri) for uri in capabilities.EXTENSION_URIS.values()} == set(Extension)
    assert capabilities.extension_of("urn:x") is None
    offered = {extension for extensions in capabilities.EXTENSIONS.values() for extension in extensions}
    assert offered == set(Extension)
    assert all(extensions[0] is Extension.MID for extensions in capabilities.EXTENSIONS.values())
