# Redundant audio (RFC 2198): the newest frame, the primary block, behind copies of the ones before it.
# Who negotiated RED gets the packet whole, with payload types of its own; the others the primary block.


cdef bint red_read(Packet *p, const PayloadType *types) noexcept nogil:
    """Find the primary block of a RED packet and make it the payload and codec of ``p``.

    Return False, and change nothing, when lengths lie, when there are more than MAX_RED_BLOCKS, or when
    not all blocks are of one codec that the publisher negotiated for audio (RFC 2198 section 3).
    """
    cdef const uint8_t *data = p.data + p.payload_offset
    cdef const PayloadType *primary
    cdef size_t at = 0
    cdef size_t older = 0                # bytes of the blocks before the primary
    cdef uint8_t blocks = 0
    cdef uint8_t i
    while at < p.payload_length and data[at] & 0x80:
        if blocks == MAX_RED_BLOCKS or p.payload_length - at < 4:
            return False
        older += rd16(data + at + 2) & 0x3FF     # behind 14 bits of timestamp offset
        at += 4
        blocks += 1
    if at == p.payload_length:
        return False
    primary = &types[data[at] & 127]
    if primary.codec == NO_CODEC or primary.format != FORMAT_OPAQUE:
        return False
    at += 1
    if older > p.payload_length - at:
        return False
    for i in range(blocks):
        if types[data[4 * <size_t>i] & 127].codec != primary.codec:
            return False
    p.red_at = <uint16_t>p.payload_offset
    p.red_length = <uint16_t>p.payload_length
    p.red_codec = p.codec
    p.red_blocks = blocks
    p.codec = primary.codec
    p.payload_offset += at + older
    p.payload_length -= at + older
    return True


cdef inline bint red_is_wanted(const Packet *p, const DownConfig *c) noexcept nogil:
    """Tell whether this subscriber gets the packet as RED."""
    return p.red_length != 0 and c.payload_types[p.red_codec] != NO_CODEC


cdef inline size_t red_write(uint8_t *q, const Packet *p, uint8_t payload_type) noexcept nogil:
    """Write the whole RED payload, its blocks under the subscriber's payload type; return its length."""
    cdef uint8_t i
    memcpy(q, p.data + p.red_at, p.red_length)
    for i in range(p.red_blocks):
        q[4 * <size_t>i] = 0x80 | payload_type
    q[4 * <size_t>p.red_blocks] = payload_type
    return p.red_length
