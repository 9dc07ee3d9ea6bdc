# STUN of ICE: check binding requests, answer those of known paths (RFC 8489, RFC 8445).
# SHA-1 is here and nowhere else, because MESSAGE-INTEGRITY needs it.


cdef inline uint32_t rotl(uint32_t x, uint32_t n) noexcept nogil:
    return (x << n) | (x >> (32 - n))


cdef void sha1_block(uint32_t *state, const uint8_t *block) noexcept nogil:
    """One compression step (FIPS 180-4 section 6.1.2)."""
    cdef uint32_t w[80]
    cdef uint32_t a = state[0]
    cdef uint32_t b = state[1]
    cdef uint32_t c = state[2]
    cdef uint32_t d = state[3]
    cdef uint32_t e = state[4]
    cdef uint32_t f
    cdef uint32_t k
    cdef uint32_t t
    cdef int i
    for i in range(16):
        w[i] = rd32(block + 4 * i)
    for i in range(16, 80):
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            f = (b & c) | (~b & d)
            k = 0x5A827999u
        elif i < 40:
            f = b ^ c ^ d
            k = 0x6ED9EBA1u
        elif i < 60:
            f = (b & c) | (b & d) | (c & d)
            k = 0x8F1BBCDCu
        else:
            f = b ^ c ^ d
            k = 0xCA62C1D6u
        t = rotl(a, 5) + f + e + k + w[i]
        e = d
        d = c
        c = rotl(b, 30)
        b = a
        a = t
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


cdef void sha1_start(Sha1 *s) noexcept nogil:
    s.state[0] = 0x67452301u
    s.state[1] = 0xEFCDAB89u
    s.state[2] = 0x98BADCFEu
    s.state[3] = 0x10325476u
    s.state[4] = 0xC3D2E1F0u
    s.length = 0


cdef void sha1_update(Sha1 *s, const uint8_t *data, size_t length) noexcept nogil:
    cdef size_t used = s.length & 63
    cdef size_t part
    s.length += length
    while length > 0:
        part = 64 - used
        if part > length:
            part = length
        memcpy(s.block + used, data, part)
        data += part
        length -= part
        used += part
        if used == 64:
            sha1_block(s.state, s.block)
            used = 0


cdef void sha1_finish(Sha1 *s, uint8_t *digest) noexcept nogil:
    """Write the 20 bytes of the digest."""
    cdef uint64_t bits = s.length * 8
    cdef uint8_t tail[72]
    cdef size_t used = s.length & 63
    cdef size_t pad = (56 - used) if used < 56 else (120 - used)
    cdef int i
    memset(tail, 0, sizeof(tail))
    tail[0] = 0x80
    wr64(tail + pad, bits)
    sha1_update(s, tail, pad + 8)
    for i in range(5):
        wr32(digest + 4 * i, s.state[i])


cdef void hmac_sha1(const uint8_t *key, size_t key_length, const uint8_t *head, size_t head_length,
                    const uint8_t *data, size_t length, uint8_t *digest) noexcept nogil:
    """Write HMAC-SHA1 over ``head`` then ``data`` (RFC 2104); 20 bytes."""
    cdef uint8_t pad[64]
    cdef uint8_t inner[20]
    cdef Sha1 s
    cdef int i
    memset(pad, 0, sizeof(pad))
    if key_length > 64:
        sha1_start(&s)
        sha1_update(&s, key, key_length)
        sha1_finish(&s, pad)
    else:
        memcpy(pad, key, key_length)
    for i in range(64):
        pad[i] ^= 0x36
    sha1_start(&s)
    sha1_update(&s, pad, 64)
    sha1_update(&s, head, head_length)
    sha1_update(&s, data, length)
    sha1_finish(&s, inner)
    for i in range(64):
        pad[i] ^= 0x36 ^ 0x5C
    sha1_start(&s)
    sha1_update(&s, pad, 64)
    sha1_update(&s, inner, 20)
    sha1_finish(&s, digest)


cdef uint32_t crc32(const uint8_t *data, size_t length) noexcept nogil:
    """CRC-32 as FINGERPRINT wants it (RFC 8489 section 14.7); messages are short, so no table."""
    cdef uint32_t crc = 0xFFFFFFFFu
    cdef size_t i
    cdef int bit
    for i in range(length):
        crc ^= data[i]
        for bit in range(8):
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)))
    return ~crc


cdef inline bint stun_is_message(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether header, magic cookie and length fit (RFC 8489 section 5)."""
    return length >= 20 and data[0] < 4 and rd32(data + 4) == 0x2112A442u \
        and rd16(data + 2) & 3 == 0 and <size_t>rd16(data + 2) + 20 == length


cdef bint stun_parse_request(StunRequest *r, uint8_t *data, size_t length) noexcept nogil:
    """Read the attributes that decide who answers.  Return False when attribute lengths lie.

    Attributes behind MESSAGE-INTEGRITY are not protected and not read (RFC 8489 section 14.5).
    Precondition: stun_is_message.
    """
    cdef size_t at = 20
    cdef size_t size
    cdef uint16_t kind
    memset(r, 0, sizeof(StunRequest))
    while at + 4 <= length:
        kind = rd16(data + at)
        size = rd16(data + at + 2)
        if size > length - at - 4:
            return False
        if kind == 0x0008:                       # MESSAGE-INTEGRITY
            if size != 20:
                return False
            r.integrity_at = at
            return True
        elif kind == 0x0006:                     # USERNAME
            r.username = data + at + 4
            r.username_length = size
        elif kind == 0x8029:                     # ICE-CONTROLLED
            r.has_controlled = True
        elif kind < 0x8000 and kind != 0x0024 and kind != 0x0025:   # not PRIORITY, USE-CANDIDATE
            r.has_unknown = True
        at += 4 + ((size + 3) & ~<size_t>3)
    return at == length


cdef bint stun_integrity_fits(const uint8_t *data, size_t integrity_at, const uint8_t *pwd,
                              size_t pwd_length) noexcept nogil:
    """Check MESSAGE-INTEGRITY with the short-term credential ``pwd`` (RFC 8489 section 14.5).

    The hash covers the message up to the attribute, with the header's length ending behind it.
    """
    cdef uint8_t head[20]
    cdef uint8_t digest[20]
    cdef uint8_t differs = 0
    cdef int i
    memcpy(head, data, 20)
    wr16(head + 2, <uint16_t>(integrity_at + 24 - 20))
    hmac_sha1(pwd, pwd_length, head, 20, data + 20, integrity_at - 20, digest)
    for i in range(20):                          # constant time
        differs |= digest[i] ^ data[integrity_at + 4 + i]
    return differs == 0


cdef size_t stun_write_success(uint8_t *out, const uint8_t *request, const Path *path, const uint8_t *pwd,
                               size_t pwd_length) noexcept nogil:
    """Write the success response to a binding request; return its length (at most 80 bytes).

    XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT (RFC 8445 section 7.3, RFC 8489 section 14.2).
    """
    cdef size_t ip_length = 4 if path.family == 4 else 16
    cdef size_t at = 20
    cdef size_t i
    wr16(out, 0x0101)
    memcpy(out + 4, request + 4, 16)             # cookie and transaction id
    wr16(out + at, 0x0020)
    wr16(out + at + 2, <uint16_t>(4 + ip_length))
    out[at + 4] = 0
    out[at + 5] = 1 if path.family == 4 else 2
    wr16(out + at + 6, path.remote_port ^ 0x2112)
    for i in range(ip_length):
        out[at + 8 + i] = path.remote_ip[i] ^ request[4 + i]
    at += 8 + ip_length
    wr16(out + 2, <uint16_t>(at + 24 - 20))
    wr16(out + at, 0x0008)
    wr16(out + at + 2, 20)
    hmac_sha1(pwd, pwd_length, out, at, out, 0, out + at + 4)
    at += 24
    wr16(out + 2, <uint16_t>(at + 8 - 20))
    wr16(out + at, 0x8028)
    wr16(out + at + 2, 4)
    wr32(out + at + 4, crc32(out, at) ^ 0x5354554Eu)
    return at + 8
