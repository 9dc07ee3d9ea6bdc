# Numbers and headers of what leaves: gapless sequence numbers over drops and changes of source,
# continuous timestamps, payload type and extension ids in the subscriber's numbering.


cdef inline uint32_t rewriter_elapsed(const Rewriter *r, uint32_t clock_rate, uint64_t now_us) noexcept nogil:
    """Return how many ticks went by since the newest packet, by the wall clock."""
    return <uint32_t>((now_us - r.last_us) * clock_rate // 1000000)


cdef void rewriter_open(Rewriter *r, uint32_t ssrc, uint64_t in_seq, uint64_t out_seq) noexcept nogil:
    """Begin a range behind those that are remembered."""
    if r.range_count:
        r.newest = (r.newest + 1) & (MAX_RANGES - 1)
    if r.range_count < MAX_RANGES:
        r.range_count += 1
    r.ranges[r.newest].first = in_seq
    r.ranges[r.newest].offset = out_seq - in_seq
    r.ranges[r.newest].ssrc = ssrc
    r.ranges[r.newest].timestamp_offset = r.timestamp_offset


cdef void rewriter_start(Rewriter *r, uint32_t ssrc, uint64_t in_seq, uint32_t in_timestamp,
                         uint32_t elapsed) noexcept nogil:
    """Begin a new SSRC at ``in_seq``: it becomes the number after the highest that was sent.

    The timestamp goes on by ``elapsed`` ticks, at least by one.  What the SSRC sent before
    ``in_seq`` maps to nothing.
    """
    if not r.has_sent:
        elapsed = 0
    elif elapsed == 0:
        elapsed = 1
    r.timestamp_offset = r.last_timestamp + elapsed - in_timestamp
    rewriter_open(r, ssrc, in_seq, r.highest_out + 1)
    r.highest_in = in_seq - 1


cdef void rewriter_forget(Rewriter *r, uint32_t ssrc) noexcept nogil:
    """Forget what this SSRC sent, and everything before: its numbers mean other packets now."""
    cdef uint32_t i
    for i in range(r.range_count):
        if r.ranges[(r.newest + MAX_RANGES - i) & (MAX_RANGES - 1)].ssrc == ssrc:
            r.range_count = i
            return


cdef void rewriter_rebase(Rewriter *r, uint64_t in_seq) noexcept nogil:
    """Close a gap that is too wide to be repeated but for one number, time unchanged.

    The one that stays missing tells the receiver that something was lost.
    """
    cdef uint32_t ssrc = r.ranges[r.newest].ssrc
    r.range_count = 0
    rewriter_open(r, ssrc, in_seq, r.highest_out + 2)
    r.highest_in = in_seq - 1


cdef uint64_t rewriter_map(const Rewriter *r, uint64_t in_seq) noexcept nogil:
    """Return the outgoing number, or 0 when the packet is older than all remembered ranges.

    A late packet gets the offset that held at its own number, not today's.  The number is one of
    the SSRC that plays; what is older than its start maps to nothing.
    """
    cdef uint32_t i
    cdef uint32_t at = r.newest
    for i in range(r.range_count):
        if r.ranges[at].ssrc != r.ranges[r.newest].ssrc:
            return 0
        if in_seq >= r.ranges[at].first:
            return in_seq + r.ranges[at].offset
        at = (at + MAX_RANGES - 1) & (MAX_RANGES - 1)
    return 0


cdef const Range *rewriter_unmap(const Rewriter *r, uint64_t out_seq) noexcept nogil:
    """Return the range that ``out_seq`` went out by, or would have; NULL when it is too old.

    It may be one of a layer that played before.  Ranges do not overlap on the way out either: each
    starts one number lower than the one before would have, a new SSRC behind everything sent.
    """
    cdef uint32_t i
    cdef uint32_t at = r.newest
    for i in range(r.range_count):
        if out_seq >= r.ranges[at].first + r.ranges[at].offset:
            return &r.ranges[at]
        at = (at + MAX_RANGES - 1) & (MAX_RANGES - 1)
    return NULL


cdef void rewriter_skip(Rewriter *r, uint64_t in_seq) noexcept nogil:
    """Leave ``in_seq`` out without a gap: everything after it moves down by one.

    A packet that comes late leaves a hole instead; numbers already given stay as they are.
    """
    cdef Range *newest = &r.ranges[r.newest]
    cdef uint64_t offset = newest.offset
    if in_seq <= r.highest_in:
        return
    r.highest_in = in_seq
    if newest.first == in_seq:           # nothing used this range yet: move its start
        newest.first = in_seq + 1
        newest.offset = offset - 1
    else:
        rewriter_open(r, newest.ssrc, in_seq + 1, in_seq + offset)


cdef void rewriter_sent(Rewriter *r, uint64_t in_seq, uint64_t out_seq, uint32_t timestamp,
                        uint64_t now_us) noexcept nogil:
    """Note a packet that was mapped and goes out."""
    if in_seq > r.highest_in:
        r.highest_in = in_seq
    if out_seq > r.highest_out:
        r.highest_out = out_seq
        r.last_timestamp = timestamp
        r.last_us = now_us
    r.has_sent = True


cdef inline uint32_t abs_send_time(uint64_t now_us) noexcept nogil:
    """Return the 24 bits of abs-send-time: seconds as 6.18 fixed point, of any steady clock."""
    return <uint32_t>((now_us << 12) // 15625) & 0xFFFFFF      # 2**18 / 10**6


cdef inline size_t extension_write(uint8_t *q, size_t at, bint two_byte, uint8_t identifier, const uint8_t *data,
                                   size_t length) noexcept nogil:
    """Append an element with a one-byte or two-byte header (RFC 8285 sections 4.2 and 4.3); return the new end.

    Precondition: ``identifier`` 1..14 and ``length`` 1..16, or with two bytes 1..255.
    """
    if two_byte:
        q[at] = identifier
        q[at + 1] = <uint8_t>length
        at += 1
    else:
        q[at] = <uint8_t>(identifier << 4 | (length - 1))
    memcpy(q + at + 1, data, length)
    return at + 1 + length


cdef inline size_t rtp_write(uint8_t *q, const Packet *p, const DownConfig *c, bint with_mid, uint32_t ssrc,
                             uint64_t out_seq, uint32_t timestamp, uint64_t now_us) noexcept nogil:
    """Write the packet as this subscriber gets it, without padding; return its length."""
    cdef bint is_red = red_is_wanted(p, c)
    cdef uint8_t payload_type = c.payload_types[p.red_codec if is_red else p.codec]
    cdef size_t at = rtp_write_header(q, p, c, with_mid, payload_type, ssrc, out_seq, timestamp, now_us)
    if is_red:
        return at + red_write(q + at, p, c.payload_types[p.codec])
    memcpy(q + at, p.data + p.payload_offset, p.payload_length)
    return at + p.payload_length


cdef size_t rtx_write(uint8_t *q, const Packet *p, const DownConfig *c, bint with_mid, uint32_t ssrc,
                      uint64_t rtx_seq, uint32_t timestamp, uint64_t original_seq, uint64_t now_us) noexcept nogil:
    """Write the packet as a retransmission (RFC 4588 section 4); return its length."""
    cdef size_t at = rtp_write_header(q, p, c, with_mid, c.rtx_payload_types[p.codec], ssrc, rtx_seq, timestamp,
                                      now_us)
    wr16(q + at, <uint16_t>original_seq)
    memcpy(q + at + 2, p.data + p.payload_offset, p.payload_length)
    return at + 2 + p.payload_length


cdef size_t rtp_write_header(uint8_t *q, const Packet *p, const DownConfig *c, bint with_mid, uint8_t payload_type,
                             uint32_t ssrc, uint64_t out_seq, uint32_t timestamp, uint64_t now_us) noexcept nogil:
    """Write the header and its extensions; return their length.

    Known extensions get the subscriber's ids, unknown ones are left out, and so is one that does not
    fit the headers this subscriber takes.  abs-send-time is written anew, of ``now_us``.

    Precondition: SLOT_BYTES at ``q``; the packet came from a receive slot.  The result fits, since an
    element that is sent on takes as many bytes as it took there, or one more: at most RECV_BYTES and
    ADDED_BYTES in all.
    """
    cdef size_t at = 12 + 4 * <size_t>p.csrc_count
    cdef size_t start = at + 4
    cdef size_t end = start
    cdef size_t size
    cdef bint two_byte = p.has_long and c.allows_two_byte
    cdef uint8_t send_time[3]
    cdef int kind
    q[0] = 0x80 | p.csrc_count
    q[1] = <uint8_t>(p.marker << 7) | payload_type
    wr16(q + 2, <uint16_t>out_seq)
    wr32(q + 4, timestamp)
    wr32(q + 8, ssrc)
    if p.csrc_count:
        memcpy(q + 12, p.data + 12, 4 * <size_t>p.csrc_count)
    if with_mid:
        end = extension_write(q, end, two_byte, c.extension_ids[EXT_MID], c.mid, c.mid_length)
    for kind in range(EXT_MID + 1, FORWARDED_EXTENSIONS):
        if p.ext_at[kind] and c.extension_ids[kind] != NO_EXTENSION and (two_byte or p.ext_length[kind] <= 16):
            end = extension_write(q, end, two_byte, c.extension_ids[kind], p.data + p.ext_at[kind], p.ext_length[kind])
    if c.extension_ids[EXT_ABS_SEND_TIME] != NO_EXTENSION:
        wr24(send_time, abs_send_time(now_us))
        end = extension_write(q, end, two_byte, c.extension_ids[EXT_ABS_SEND_TIME], send_time, 3)
    if end > start:
        size = (end - start + 3) >> 2
        memset(q + end, 0, size * 4 - (end - start))
        q[0] |= 0x10
        wr16(q + at, 0x1000 if two_byte else 0xBEDE)
        wr16(q + at + 2, <uint16_t>size)
        at = start + size * 4
    debug_assert(at + p.payload_length <= RECV_BYTES + ADDED_BYTES - 2)
    return at
