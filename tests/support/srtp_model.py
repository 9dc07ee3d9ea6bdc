"""SRTP and SRTCP written a second time, from RFC 3711 and RFC 7714, on `cryptography`'s primitives.

Slow and plain: the oracle that libsrtp through our function pointers is compared with.
"""

import hashlib
import hmac
from struct import pack

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from kaamos.media.description import SrtpProfile

RTP_CIPHER, RTP_AUTH, RTP_SALT, RTCP_CIPHER, RTCP_AUTH, RTCP_SALT = range(6)


def _counter_stream(key: bytes, counter: int, length: int) -> bytes:
    encryptor = Cipher(AES(key), CTR(counter.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(length)) + encryptor.finalize()


def derive(master_key: bytes, master_salt: bytes, label: int, length: int) -> bytes:
    """Return a session key (RFC 3711 section 4.3.1, key derivation rate 0; RFC 7714 section 11)."""
    salt = int.from_bytes(master_salt.ljust(14, b"\0"), "big")
    return _counter_stream(master_key, (salt ^ label << 48) << 16, length)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _header_length(packet: bytes) -> int:
    length = 12 + 4 * (packet[0] & 15)
    if packet[0] & 0x10:
        length += 4 + 4 * int.from_bytes(packet[length + 2 : length + 4], "big")
    return length


def gcm_rtp(key: bytes, salt: bytes, packet: bytes, roc: int) -> bytes:
    """Return the SRTP packet of RFC 7714 section 8 under session keys."""
    at = _header_length(packet)
    nonce = _xor(bytes(2) + packet[8:12] + pack("!I", roc) + packet[2:4], salt)
    return packet[:at] + AESGCM(key).encrypt(nonce, packet[at:], packet[:at])


def gcm_rtcp(key: bytes, salt: bytes, packet: bytes, index: int) -> bytes:
    """Return the SRTCP packet of RFC 7714 section 9 under session keys."""
    word = pack("!I", 1 << 31 | index)
    nonce = _xor(bytes(2) + packet[4:8] + bytes(2) + pack("!I", index), salt)
    return packet[:8] + AESGCM(key).encrypt(nonce, packet[8:], packet[:8] + word) + word


def cm_rtp(key: bytes, salt: bytes, auth: bytes, packet: bytes, roc: int) -> bytes:
    """Return the SRTP packet of RFC 3711 section 4 with an 80-bit tag under session keys."""
    at = _header_length(packet)
    index = roc << 16 | int.from_bytes(packet[2:4], "big")
    counter = int.from_bytes(salt, "big") << 16 ^ int.from_bytes(packet[8:12], "big") << 64 ^ index << 16
    sealed = packet[:at] + _xor(packet[at:], _counter_stream(key, counter, len(packet) - at))
    return sealed + hmac.new(auth, sealed + pack("!I", roc), hashlib.sha1).digest()[:10]


def cm_rtcp(key: bytes, salt: bytes, auth: bytes, packet: bytes, index: int) -> bytes:
    """Return the SRTCP packet of RFC 3711 section 3.4 under session keys."""
    counter = int.from_bytes(salt, "big") << 16 ^ int.from_bytes(packet[4:8], "big") << 64 ^ index << 16
    sealed = packet[:8] + _xor(packet[8:], _counter_stream(key, counter, len(packet) - 8))
    sealed += pack("!I", 1 << 31 | index)
    return sealed + hmac.new(auth, sealed, hashlib.sha1).digest()[:10]


class SrtpModel:
    """The sending side of one session: master key and salt in, packets out."""

    def __init__(self, profile: SrtpProfile, key_and_salt: bytes) -> None:
        self._is_gcm = profile is not SrtpProfile.AES128_CM_SHA1_80
        key_bytes = 32 if profile is SrtpProfile.AEAD_AES_256_GCM else 16
        key, salt = key_and_salt[:key_bytes], key_and_salt[key_bytes:]
        lengths = {RTP_CIPHER: key_bytes, RTP_SALT: len(salt), RTP_AUTH: 20}
        self._keys = [derive(key, salt, label, lengths[label % 3]) for label in range(6)]

    def rtp(self, packet: bytes, roc: int) -> bytes:
        cipher, auth, salt = self._keys[:3]
        return gcm_rtp(cipher, salt, packet, roc) if self._is_gcm else cm_rtp(cipher, salt, auth, packet, roc)

    def rtcp(self, packet: bytes, index: int) -> bytes:
        cipher, auth, salt = self._keys[3:]
        if self._is_gcm:
            return gcm_rtcp(cipher, salt, packet, index)
        return cm_rtcp(cipher, salt, auth, packet, index)
