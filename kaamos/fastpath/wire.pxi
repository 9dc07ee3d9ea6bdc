# Datagram classes, RTP headers, sequence arithmetic.  Pure functions over bytes.


cdef inline DatagramClass datagram_class(const uint8_t *data, size_t length) noexcept nogil:
    """Return what a datagram of at least MIN_DATAGRAM bytes claims to be.

    RFC 7983 section 7 by the first byte; RTP and RTCP apart by the second (RFC 5761 section 4).
    """
    cdef uint8_t first = data[0]
    if 128 <= first <= 191:
        return CLASS_RTCP if 192 <= data[1] <= 223 else CLASS_RTP
    if first <= 3:
        return CLASS_STUN
    if 20 <= first <= 63:
        return CLASS_DTLS
    return CLASS_UNKNOWN


cdef inline uint64_t seq_extend(uint64_t newest, uint16_t seq) noexcept nogil:
    """Return the number closest to ``newest`` whose low 16 bits are ``seq`` (RFC 3711 section 3.3.1).

    Extended numbers start at 2**16, so the result cannot go below zero.
    """
    return newest + <uint64_t><int64_t><int16_t>(<uint16_t>(seq - <uint16_t>newest))


cdef bint packet_parse(Packet *p, uint8_t *data, size_t length) noexcept nogil:
    """Read the fixed header, bounds of extensions, payload and padding (RFC 3550 section 5.1).

    Return False when lengths lie.  Afterwards every offset in ``p`` is inside the packet.
    """
    cdef size_t at
    cdef size_t words
    cdef uint16_t profile
    cdef uint8_t padding
    if length < 12 or data[0] >> 6 != 2:
        return False
    p.data = data
    p.length = length
    p.csrc_count = data[0] & 15
    p.marker = data[1] >> 7
    p.payload_type = data[1] & 127
    p.seq = rd16(data + 2)
    p.timestamp = rd32(data + 4)
    p.ssrc = rd32(data + 8)
    p.extensions_at = 0
    p.extensions_length = 0
    p.two_byte = False
    p.red_at = p.red_length = 0
    p.red_codec = p.red_blocks = 0
    at = 12 + 4 * <size_t>p.csrc_count
    if at > length:
        return False
    if data[0] & 0x10:
        if at + 4 > length:
            return False
        profile = rd16(data + at)
        words = rd16(data + at + 2)
        at += 4
        if words * 4 > length - at:
            return False
        if profile == 0xBEDE or profile & 0xFFF0 == 0x1000:
            p.extensions_at = <uint16_t>at
            p.extensions_length = <uint16_t>(words * 4)
            p.two_byte = profile != 0xBEDE
        at += words * 4
    p.payload_offset = at
    p.payload_length = length - at
    if data[0] & 0x20:
        if p.payload_length == 0:
            return False
        padding = data[length - 1]
        if padding == 0 or padding > p.payload_length:
            return False
        p.payload_length -= padding
    return True


cdef void packet_read_extensions(Packet *p, const uint8_t *kind_by_id) noexcept nogil:
    """Find the data of each known header extension (RFC 8285 sections 4.2 and 4.3).

    ``kind_by_id`` has 16 entries.  An element that runs past the block ends the search: what came
    before it stands.  Precondition: packet_parse returned True.
    """
    cdef size_t at = p.extensions_at
    cdef size_t end = at + p.extensions_length
    cdef uint8_t identifier
    cdef uint8_t kind
    cdef size_t size
    memset(p.ext_at, 0, sizeof(p.ext_at))
    p.has_long = False
    while at < end:
        if p.data[at] == 0:
            at += 1
            continue
        if p.two_byte:
            if at + 2 > end:
                return
            identifier = p.data[at]
            size = p.data[at + 1]
            at += 2
        else:
            identifier = p.data[at] >> 4
            size = (p.data[at] & 15) + 1
            if identifier == 15 or identifier == 0:   # stop; id 0 with a length is malformed
                return
            at += 1
        if size > end - at:
            return
        if identifier < 16:
            kind = kind_by_id[identifier]
            if kind < EXTENSION_KINDS and size > 0:
                p.ext_at[kind] = <uint16_t>at
                p.ext_length[kind] = <uint8_t>size
                if size > 16 and kind < FORWARDED_EXTENSIONS:
                    p.has_long = True
        at += size


cdef inline uint64_t hash_bytes(const uint8_t *data, size_t length, uint64_t seed) noexcept nogil:
    """Return a 64-bit hash that is never zero, eight bytes at a time.

    The seed is random for each process and secret, so that nobody outside can choose addresses
    that share a bucket.
    """
    cdef uint64_t h = length
    cdef uint64_t word
    while length > 0:
        word = 0
        memcpy(&word, data, 8 if length >= 8 else length)
        h = multiply_fold(h ^ word ^ seed, (seed << 1) ^ <uint64_t>0x9E3779B97F4A7C15)
        if length <= 8:
            break
        data += 8
        length -= 8
    return multiply_fold(h ^ <uint64_t>0xBF58476D1CE4E5B9, seed | 1) | 1
