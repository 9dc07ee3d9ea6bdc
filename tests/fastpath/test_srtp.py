"""SRTP through libsrtp's function pointers, as the worker calls it: RFC vectors, an own second
implementation (tests/support/srtp_model.py) and pylibsrtp's ordinary interface, in both directions."""

import random
from collections.abc import Callable

import pytest
from pylibsrtp import Error, Policy, Session

from kaamos._fastpath import PacketRun
from kaamos.media.description import SrtpProfile
from kaamos.media.engine import RECEIVE_WINDOW, SEND_WINDOW, Engine, _libsrtp
from tests.support.packets import receiver_report, rtp_packet
from tests.support.srtp_model import SrtpModel, derive, gcm_rtp

RANDOM = random.Random(3711)
KEYS = {profile: RANDOM.randbytes(profile.key_and_salt_bytes) for profile in SrtpProfile}
every_profile = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)

PYLIBSRTP = {
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


class Side:
    """One session made as the engine makes it, called as the worker calls it."""

    def __init__(self, profile: SrtpProfile, key: bytes, *, is_sending: bool) -> None:
        kind = Policy.SSRC_ANY_OUTBOUND if is_sending else Policy.SSRC_ANY_INBOUND
        window = SEND_WINDOW if is_sending else RECEIVE_WINDOW
        self._session = Engine._session(profile, key, kind, window)
        self._address = Engine._session_address(self._session)

    def call(self, function: str, packet: bytes) -> bytes | None:
        """Return what became of the packet, or None when libsrtp refused it."""
        assert len(packet) >= 4
        run = PacketRun(packet, int.from_bytes(packet[2:4], "big"), 1)
        return None if run.apply(_libsrtp(function), self._address) else run.packets()[0]

    def protect(self, packet: bytes) -> bytes | None:
        return self.call("srtp_protect", packet)

    def sealed(self, packet: bytes) -> bytes:
        """Return the encrypted packet; fail when libsrtp refuses it."""
        data = self.protect(packet)
        assert data is not None
        return data

    def sealed_rtcp(self, packet: bytes) -> bytes:
        data = self.protect_rtcp(packet)
        assert data is not None
        return data

    def unprotect(self, packet: bytes) -> bytes | None:
        return self.call("srtp_unprotect", packet)

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        return self.call("srtp_protect_rtcp", packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        return self.call("srtp_unprotect_rtcp", packet)


def plain_session(profile: SrtpProfile, *, is_sending: bool) -> Session:
    kind = Policy.SSRC_ANY_OUTBOUND if is_sending else Policy.SSRC_ANY_INBOUND
    return Session(Policy(key=KEYS[profile], ssrc_type=kind, srtp_profile=PYLIBSRTP[profile]))


def packets(count: int, first: int = 65530) -> list[bytes]:
    """Return packets of every shape around a wrap, some of them with extensions and CSRCs."""
    shapes: list[dict[str, object]] = [
        {},
        {"extensions": {3: b"mid"}},
        {"csrcs": (1, 2)},
        {"extensions": {}, "csrcs": (7,)},
    ]
    return [
        rtp_packet(first + i, ssrc=0x4242, payload=RANDOM.randbytes(1 + i * 37 % 1200), **shapes[i % 4])  # type: ignore[arg-type]
        for i in range(count)
    ]


# -- vectors


def test_the_oracle_derives_the_keys_of_rfc_3711_appendix_b3() -> None:
    key, salt = (
        bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"),
        bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6"),
    )
    assert derive(key, salt, 0, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert derive(key, salt, 2, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert derive(key, salt, 1, 20).hex().upper() == "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"


def test_the_oracle_gives_the_packet_of_rfc_7714_section_16_1_1() -> None:
    packet = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
    sealed = gcm_rtp(bytes(range(16)), b"Quid pro quo", packet, 0)
    assert sealed.hex() == (
        "8040f17b8041f8d35501a0b2"
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
        "899d7f27beb16a9152cf765ee4390cce"
    )


PLAIN_RTP = bytes.fromhex("800f1234decafbadcafebabe" + "ab" * 16)
PLAIN_RTCP = bytes.fromhex("81c8000bcafebabe" + "ab" * 16)
RFC_3711_KEY = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de4139" + "0ec675ad498afeebb6960b3aabe6")
GCM_KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f" + "a0a1a2a3a4a5a6a7a8a9aaab")


@pytest.mark.parametrize(
    ("profile", "key", "rtp", "rtcp"),
    [
        (
            SrtpProfile.AES128_CM_SHA1_80,
            RFC_3711_KEY,
            "4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
            "7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
        ),
        (
            SrtpProfile.AEAD_AES_128_GCM,
            GCM_KEY,
            "c5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
            "c98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001",
        ),
    ],
)
def test_the_function_pointers_give_the_vectors_of_libsrtp(
    profile: SrtpProfile, key: bytes, rtp: str, rtcp: str
) -> None:
    """Vectors of libsrtp's own test driver; the first uses the master key of RFC 3711 appendix B.3."""
    sealed_rtp, sealed_rtcp = PLAIN_RTP[:12] + bytes.fromhex(rtp), PLAIN_RTCP[:8] + bytes.fromhex(rtcp)
    sender, receiver = Side(profile, key, is_sending=True), Side(profile, key, is_sending=False)
    assert sender.protect(PLAIN_RTP) == sealed_rtp
    assert sender.protect_rtcp(PLAIN_RTCP) == sealed_rtcp
    assert receiver.unprotect(sealed_rtp) == PLAIN_RTP
    assert receiver.unprotect_rtcp(sealed_rtcp) == PLAIN_RTCP


# -- against the second implementation and against pylibsrtp


@every_profile
def test_every_packet_is_byte_for_byte_what_the_rfcs_say_across_a_wrap(profile: SrtpProfile) -> None:
    model = SrtpModel(profile, KEYS[profile])
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    for i, packet in enumerate(packets(40)):
        sealed = sender.protect(packet)
        assert sealed == model.rtp(packet, roc=0 if i < 6 else 1), i
        assert receiver.unprotect(sealed) == packet
    for index in range(1, 20):
        packet = receiver_report(0x4242, bytes(24 * (index % 3))) if index % 3 else receiver_report(0x4242)
        sealed = sender.protect_rtcp(packet)
        assert sealed == model.rtcp(packet, index)
        assert receiver.unprotect_rtcp(sealed) == packet


@every_profile
def test_what_the_worker_seals_pylibsrtp_opens_and_the_other_way_round(profile: SrtpProfile) -> None:
    ours_out, ours_in = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    theirs_out, theirs_in = (plain_session(profile, is_sending=way) for way in (True, False))
    for packet in packets(40):
        sealed = ours_out.protect(packet)
        assert sealed is not None
        assert theirs_in.unprotect(sealed) == packet
        assert ours_in.unprotect(theirs_out.protect(packet)) == packet
    for sender in (1, 0x4242, 0xFFFFFFFF):
        report = receiver_report(sender, bytes(24))
        sealed = ours_out.protect_rtcp(report)
        assert sealed is not None
        assert theirs_in.unprotect_rtcp(sealed) == report
        assert ours_in.unprotect_rtcp(theirs_out.protect_rtcp(report)) == report


@every_profile
def test_the_rollover_counter_follows_many_wraps(profile: SrtpProfile) -> None:
    model = SrtpModel(profile, KEYS[profile])
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    for index in range(20_000, 5 << 16, 20_000):  # every packet a jump below half a cycle
        packet = rtp_packet(index, payload=b"x" * 20)
        sealed = sender.protect(packet)
        assert sealed == model.rtp(packet, roc=index >> 16)
        assert receiver.unprotect(sealed) == packet


@every_profile
def test_packets_may_come_late_within_the_window_also_across_a_wrap(profile: SrtpProfile) -> None:
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    plain = packets(400, first=65300)
    sealed = [sender.sealed(packet) for packet in plain]
    order = list(range(400))
    for start in range(0, 400, 100):
        part = order[start : start + 100]
        RANDOM.shuffle(part)
        order[start : start + 100] = part
    for i in order:
        assert receiver.unprotect(sealed[i]) == plain[i]


# -- refusals


@every_profile
def test_a_replayed_packet_is_refused_whenever_it_comes(profile: SrtpProfile) -> None:
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    sealed = [sender.sealed(packet) for packet in packets(RECEIVE_WINDOW + 50)]
    for packet in sealed:
        assert receiver.unprotect(packet) is not None
    assert [i for i, packet in enumerate(sealed) if receiver.unprotect(packet) is not None] == []
    report = sender.sealed_rtcp(receiver_report(1))
    assert receiver.unprotect_rtcp(report) is not None
    assert receiver.unprotect_rtcp(report) is None


@every_profile
def test_one_flipped_bit_anywhere_is_refused_and_leaves_the_session_usable(profile: SrtpProfile) -> None:
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    unprotect: Callable[[bytes], bytes | None]
    for plain, sealed, unprotect in (
        (p := rtp_packet(5, payload=b"payload"), sender.protect(p), receiver.unprotect),
        (p := receiver_report(5, bytes(24)), sender.protect_rtcp(p), receiver.unprotect_rtcp),
    ):
        assert sealed is not None
        for bit in range(len(sealed) * 8):
            broken = bytearray(sealed)
            broken[bit // 8] ^= 1 << bit % 8
            assert unprotect(bytes(broken)) is None, bit
        assert unprotect(sealed) == plain


@every_profile
def test_a_packet_cut_at_any_length_is_refused(profile: SrtpProfile) -> None:
    sender, receiver = (Side(profile, KEYS[profile], is_sending=way) for way in (True, False))
    rtp = sender.protect(rtp_packet(5, payload=b"payload", extensions={1: b"x"}, csrcs=(1, 2)))
    rtcp = sender.protect_rtcp(receiver_report(5, bytes(24)))
    assert rtp is not None and rtcp is not None
    assert [n for n in range(8, len(rtp)) if receiver.unprotect(rtp[:n]) is not None] == []
    assert [n for n in range(8, len(rtcp)) if receiver.unprotect_rtcp(rtcp[:n]) is not None] == []
    assert receiver.unprotect(rtp) is not None
    assert receiver.unprotect_rtcp(rtcp) is not None


@every_profile
def test_a_number_is_never_used_twice_for_sending(profile: SrtpProfile) -> None:
    sender = Side(profile, KEYS[profile], is_sending=True)
    assert sender.protect(rtp_packet(100, payload=b"first")) is not None
    assert sender.protect(rtp_packet(100, payload=b"other")) is None
    for seq in range(101, 400):
        assert sender.protect(rtp_packet(seq)) is not None
    assert sender.protect(rtp_packet(100, payload=b"other")) is None
    assert sender.protect(rtp_packet(350, payload=b"other")) is None


@every_profile
def test_another_key_and_the_other_direction_are_refused(profile: SrtpProfile) -> None:
    sender = plain_session(profile, is_sending=True)
    sealed = sender.protect(rtp_packet(1))
    stranger = Side(profile, RANDOM.randbytes(profile.key_and_salt_bytes), is_sending=False)
    assert stranger.unprotect(sealed) is None
    with pytest.raises(Error):
        plain_session(profile, is_sending=False).unprotect_rtcp(sealed)
