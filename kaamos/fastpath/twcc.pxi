# Transport-wide arrival times for a publisher's congestion control
# (draft-holmer-rmcat-transport-wide-cc-extensions-01).


cdef void twcc_arrived(Twcc *f, uint16_t seq, uint64_t now_us) noexcept nogil:
    """Note the arrival of a packet; one older than the last feedback is too late to be told."""
    cdef uint64_t ext_seq
    if f.first == 0:
        ext_seq = (1 << 16) + <uint64_t>seq
        f.first = ext_seq
        f.newest = ext_seq
    else:
        ext_seq = seq_extend(f.newest, seq)
    if ext_seq < f.first:
        return
    if ext_seq >= f.first + TWCC_PACKETS:      # a jump, or feedback cannot keep up: start over here
        memset(f.arrivals_us, 0, sizeof(f.arrivals_us))
        f.first = ext_seq
    if ext_seq > f.newest:
        f.newest = ext_seq
    if f.arrivals_us[ext_seq & (TWCC_PACKETS - 1)] == 0:
        f.arrivals_us[ext_seq & (TWCC_PACKETS - 1)] = now_us


cdef inline uint8_t twcc_symbol(int64_t delta) noexcept nogil:
    """Return 1 for a delta that fits a byte, 2 for one that fits two (section 3.1.3)."""
    return 1 if 0 <= delta <= 255 else 2


cdef size_t twcc_write_chunks(uint8_t *q, const uint8_t *symbols, size_t count) noexcept nogil:
    """Write the packet status chunks (sections 3.1.3 and 3.1.4); return their length.

    ``symbols`` has 14 zero entries behind ``count``.
    """
    cdef size_t at = 0
    cdef size_t i = 0
    cdef size_t run
    cdef size_t k
    cdef uint16_t chunk
    cdef bint fits_one_bit
    while i < count:
        run = 1
        while i + run < count and symbols[i + run] == symbols[i] and run < 8191:
            run += 1
        fits_one_bit = True
        for k in range(14):
            if symbols[i + k] > 1:
                fits_one_bit = False
        if run >= 14 or (run >= 7 and not fits_one_bit) or i + run == count:
            wr16(q + at, <uint16_t>(<uint16_t>symbols[i] << 13 | run))
            i += run
        elif fits_one_bit:
            chunk = 0x8000
            for k in range(14):
                chunk |= <uint16_t>(symbols[i + k] << (13 - k))
            wr16(q + at, chunk)
            i += 14
        else:
            chunk = 0xC000
            for k in range(7):
                chunk |= <uint16_t>(symbols[i + k] << (12 - 2 * k))
            wr16(q + at, chunk)
            i += 7
        at += 2
    return at


cdef size_t twcc_write(Twcc *f, uint8_t *q, uint32_t sender, uint32_t media) noexcept nogil:
    """Write one feedback packet about what was not told yet; return its length, 0 when there is nothing.

    It ends early where a delta does not fit; what is left goes into the next one.
    """
    cdef uint8_t symbols[TWCC_REPORT_PACKETS + 14]
    cdef uint8_t deltas[2 * TWCC_REPORT_PACKETS]
    cdef size_t count = 0
    cdef size_t delta_bytes = 0
    cdef uint64_t ext_seq = f.first
    cdef uint64_t arrival
    cdef uint64_t last = 0               # in ticks of 250 us
    cdef uint64_t reference = 0          # in ticks of 64 ms
    cdef int64_t delta
    cdef size_t length
    memset(symbols, 0, sizeof(symbols))
    while f.first != 0 and ext_seq <= f.newest and f.arrivals_us[ext_seq & (TWCC_PACKETS - 1)] == 0:
        ext_seq += 1                     # lost ones at the start are told by the gap to the last feedback
    if f.first == 0 or ext_seq > f.newest:
        return 0
    ext_seq = f.first
    while ext_seq <= f.newest and count < TWCC_REPORT_PACKETS:
        arrival = f.arrivals_us[ext_seq & (TWCC_PACKETS - 1)]
        if arrival != 0:
            if last == 0:
                reference = arrival // 64000
                last = reference * 256
            delta = <int64_t>(arrival // 250 - last)
            if delta < -32768 or delta > 32767:
                break
            symbols[count] = twcc_symbol(delta)
            if symbols[count] == 1:
                deltas[delta_bytes] = <uint8_t>delta
                delta_bytes += 1
            else:
                wr16(deltas + delta_bytes, <uint16_t>delta)
                delta_bytes += 2
            last = arrival // 250
            f.arrivals_us[ext_seq & (TWCC_PACKETS - 1)] = 0
        count += 1
        ext_seq += 1
    wr32(q + 4, sender)
    wr32(q + 8, media)
    wr16(q + 12, <uint16_t>f.first)
    wr16(q + 14, <uint16_t>count)
    wr24(q + 16, <uint32_t>reference & 0xFFFFFF)
    q[19] = f.feedbacks
    f.feedbacks += 1
    length = 20 + twcc_write_chunks(q + 20, symbols, count)
    memcpy(q + length, deltas, delta_bytes)
    length += delta_bytes
    while length & 3:
        q[length] = 0
        length += 1
    q[0] = 0x80 | 15
    q[1] = 205
    wr16(q + 2, <uint16_t>(length // 4 - 1))
    f.first = ext_seq
    return length
