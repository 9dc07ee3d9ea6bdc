"""STUN as ICE uses it: hashes, integrity, parsing, answers (stun.pxi); aioice is the second opinion."""

import binascii
import hashlib
import hmac
import random
from ipaddress import ip_address

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from kaamos._fastpath import crc32_of, hmac_sha1_of, parse_stun, stun_integrity_ok, stun_success

PWD = b"VOkJxbRl1RmTxUk/WvJxBt"  # RFC 5769 section 2
TRANSACTION = "b7e7a701bc34d686fa87dfae"
REQUEST = bytes.fromhex(
    "000100582112a442" + TRANSACTION + "802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)  # section 2.1
RESPONSE4 = bytes.fromhex(
    "0101003c2112a442" + TRANSACTION + "8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)  # section 2.2
RESPONSE6 = bytes.fromhex(
    "010100482112a442" + TRANSACTION + "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)  # section 2.3


@pytest.mark.parametrize(
    ("key", "data", "digest"),
    [
        (b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (b"\xaa" * 20, b"\xdd" * 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (bytes(range(1, 26)), b"\xcd" * 50, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
        (b"\x0c" * 20, b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
        (
            b"\xaa" * 80,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (
            b"\xaa" * 80,
            b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
            "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
        ),
    ],
)
def test_hmac_sha1_gives_the_vectors_of_rfc_2202(key: bytes, data: bytes, digest: str) -> None:
    for cut in range(len(data) + 1):
        assert hmac_sha1_of(key, data[:cut], data[cut:]).hex() == digest


def test_hmac_sha1_agrees_with_hashlib_at_every_length_around_the_blocks() -> None:
    data = random.Random(5769).randbytes(200)
    for length in range(200):
        for key in (b"", data[:20], data[:64], data[:65], data[:128]):
            expected = hmac.new(key, data[:length], hashlib.sha1).digest()
            assert hmac_sha1_of(key, b"", data[:length]) == expected


@given(st.binary(max_size=300))
def test_crc32_agrees_with_zlib(data: bytes) -> None:
    assert crc32_of(data) == binascii.crc32(data)


def test_the_sample_request_of_rfc_5769_is_read_and_its_integrity_is_right() -> None:
    # It says ICE-CONTROLLED; SOFTWARE is comprehension-optional.
    assert parse_stun(REQUEST) == (b"evtj:h6vY", 0x4C, True, False)
    assert stun_integrity_ok(REQUEST, 0x4C, PWD)


@pytest.mark.parametrize("response", [RESPONSE4, RESPONSE6])
def test_the_sample_responses_of_rfc_5769_have_right_integrity_and_fingerprint(response: bytes) -> None:
    assert stun_integrity_ok(response, len(response) - 8 - 24, PWD)
    assert crc32_of(response[:-8]) ^ 0x5354554E == int.from_bytes(response[-4:], "big")


def test_one_flipped_bit_anywhere_before_the_fingerprint_breaks_the_integrity() -> None:
    for at in range(len(REQUEST) - 8):
        # The length is hashed as it was when the hash was made, the attribute's own header not at all.
        if at in (2, 3) or 0x4C <= at < 0x50:
            continue
        for bit in range(8):
            broken = bytearray(REQUEST)
            broken[at] ^= 1 << bit
            assert not stun_integrity_ok(bytes(broken), 0x4C, PWD), (at, bit)
    assert not stun_integrity_ok(REQUEST, 0x4C, PWD[:-1])
    assert not stun_integrity_ok(REQUEST, 0x4C, b"")


def request(username: str = "ours:theirs", **attributes: object) -> stun.Message:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.attributes["PRIORITY"] = 1845501695
    for name, value in attributes.items():
        message.attributes[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("attributes", "is_controlled"),
    [
        ({"ICE_CONTROLLING": 1}, False),
        ({"ICE_CONTROLLED": 1}, True),
        ({"ICE_CONTROLLING": 1, "USE_CANDIDATE": None}, False),
        ({"ICE_CONTROLLING": 1, "SOFTWARE": "x" * 5}, False),
    ],
)
@pytest.mark.parametrize("username", ["o:t", "four:four", "u" * 256 + ":" + "t" * 256])
def test_requests_of_aioice_are_understood(
    attributes: dict[str, object], is_controlled: bool, username: str
) -> None:
    message = request(username, **attributes)
    message.add_message_integrity(PWD)
    data = bytes(message)
    parsed = parse_stun(data)
    assert parsed is not None
    name, integrity_at, has_controlled, has_unknown = parsed
    assert (name, has_controlled, has_unknown) == (username.encode(), is_controlled, False)
    assert stun_integrity_ok(data, integrity_at, PWD)
    assert not stun_integrity_ok(data, integrity_at, PWD + b"x")


def test_an_unknown_attribute_that_must_be_understood_is_noticed() -> None:
    message = request(CHANGE_REQUEST=0)
    message.add_message_integrity(PWD)
    parsed = parse_stun(bytes(message))
    assert parsed is not None
    assert parsed[3] is True


def test_attributes_behind_the_integrity_are_not_believed() -> None:
    message = request("ours:theirs", ICE_CONTROLLING=1)
    message.add_message_integrity(PWD)
    data = bytes(message)[:-8]  # without FINGERPRINT
    forged = data + bytes.fromhex("802900080000000000000000") + b"\x00\x06\x00\x04evil"
    forged = forged[:2] + (len(forged) - 20).to_bytes(2, "big") + forged[4:]
    parsed = parse_stun(forged)
    assert parsed is not None
    assert parsed == (b"ours:theirs", len(data) - 24, False, False)
    assert stun_integrity_ok(forged, parsed[1], PWD)


@pytest.mark.parametrize(
    ("ip", "port"),
    [
        ("192.0.2.1", 32853),
        ("0.0.0.0", 0),
        ("255.255.255.255", 65535),
        ("2001:db8:1234:5678:11:2233:4455:6677", 32853),
        ("::1", 1),
    ],
)
@pytest.mark.parametrize("pwd", [PWD, b"p" * 22, b"q" * 256])
def test_our_answer_is_right_for_aioice(ip: str, port: int, pwd: bytes) -> None:
    asked = request(ICE_CONTROLLING=1)
    asked.add_message_integrity(pwd)
    answer = stun_success(bytes(asked), ip_address(ip).packed, port, pwd)
    got = stun.parse_message(answer)  # checks FINGERPRINT
    assert got.check_message_integrity(pwd)
    assert got.message_class is stun.Class.RESPONSE
    assert got.message_method is stun.Method.BINDING
    assert got.transaction_id == asked.transaction_id
    assert got.attributes["XOR-MAPPED-ADDRESS"] == (ip, port)
    assert list(got.attributes) == ["XOR-MAPPED-ADDRESS", "MESSAGE-INTEGRITY", "FINGERPRINT"]


def test_our_answer_is_the_one_of_rfc_5769_but_for_its_software() -> None:
    for response, ip, software_bytes in (
        (RESPONSE4, "192.0.2.1", 16),
        (RESPONSE6, "2001:db8:1234:5678:11:2233:4455:6677", 16),
    ):
        answer = stun_success(REQUEST, ip_address(ip).packed, 32853, PWD)
        mapped = answer[20 : len(answer) - 32]
        assert mapped == response[20 + software_bytes : len(response) - 32]


@pytest.mark.parametrize("cut", range(len(REQUEST)))
def test_a_request_cut_anywhere_is_malformed(cut: int) -> None:
    assert parse_stun(REQUEST[:cut]) is None
    honest = bytearray(REQUEST[:cut])
    if cut >= 20:  # with a header that fits, what is left may be sound but has no integrity
        honest[2:4] = (cut - 20).to_bytes(2, "big")
        parsed = parse_stun(bytes(honest))
        assert parsed is None or parsed[1] == 0 or parsed[1] + 24 <= cut


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 19, 21, 0xFFFF])
def test_an_integrity_attribute_of_another_length_is_malformed(length: int) -> None:
    data = bytearray(REQUEST)
    data[0x4E:0x50] = length.to_bytes(2, "big")
    assert parse_stun(bytes(data)) is None


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7])
def test_a_wrong_class_bit_or_cookie_is_no_stun(at: int) -> None:
    data = bytearray(REQUEST)
    data[at] ^= 0x80
    assert parse_stun(bytes(data)) is None


@given(st.binary(max_size=200))
def test_random_attributes_are_read_within_the_message(body: bytes) -> None:
    body = body[: len(body) // 4 * 4]
    data = b"\x00\x01" + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + bytes(12) + body
    parsed = parse_stun(data)
    if parsed is not None:
        username, integrity_at, _, _ = parsed
        assert username is None or username in data
        assert integrity_at == 0 or 20 <= integrity_at <= len(data) - 24
