# What a publication's numbers lack, and when to ask for it again (RFC 4585 section 6.2.1).


cdef void missing_remove(Repair *r, uint32_t at) noexcept nogil:
    """Take out one entry, keeping the order."""
    r.missing_count -= 1
    memmove(&r.missing[at], &r.missing[at + 1], (r.missing_count - at) * sizeof(Missing))


cdef bint missing_note(Repair *r, const Packet *p, uint64_t now_us) noexcept nogil:
    """Note that a packet came, by whatever way, and what its number says is missing.

    Return False when the hole is too wide to be repaired: only a key frame helps then.
    """
    cdef uint64_t ext_seq
    cdef uint32_t i
    if r.ssrc != p.ssrc or r.highest == 0:
        r.ssrc = p.ssrc
        r.highest = p.ext_seq
        r.missing_count = 0
        return True
    if p.ext_seq <= r.highest:
        for i in range(r.missing_count):
            if r.missing[i].ext_seq == p.ext_seq:
                missing_remove(r, i)
                break
        return True
    if p.ext_seq - r.highest - 1 > MAX_MISSING - r.missing_count:
        r.missing_count = 0
        r.highest = p.ext_seq
        return False
    for ext_seq in range(r.highest + 1, p.ext_seq):
        memset(&r.missing[r.missing_count], 0, sizeof(Missing))
        r.missing[r.missing_count].ext_seq = ext_seq
        r.missing[r.missing_count].since_us = now_us
        r.missing_count += 1
    r.highest = p.ext_seq
    return True


cdef uint64_t missing_answered_us(const Repair *r, const Packet *p, uint64_t now_us) noexcept nogil:
    """Return how long ago this repaired packet was asked for; 0 unless that was once (Karn's rule)."""
    cdef uint32_t i
    for i in range(r.missing_count):
        if r.missing[i].ext_seq == p.ext_seq and r.ssrc == p.ssrc:
            return now_us - r.missing[i].asked_us if r.missing[i].tries == 1 else 0
    return 0


cdef void rtt_take(Transport *t, uint64_t sample_us) noexcept nogil:
    """Take one measurement of the round trip.

    What a busy end or a full queue adds is no reason to wait for a repeat, so the least counts, and
    rises by an eighth of the distance each time that more is measured.
    """
    if t.rtt_us == 0 or sample_us < t.rtt_us:
        t.rtt_us = sample_us if sample_us else 1
    else:
        t.rtt_us += (sample_us - t.rtt_us) >> 3


cdef uint32_t missing_due(Repair *r, uint64_t now_us, uint64_t rtt_us, uint64_t *due) noexcept nogil:
    """Write the numbers to ask for now, ascending, at most MAX_MISSING; return how many.

    First after REORDER_US, then once a round trip; what was asked for often enough, or is older
    than anybody would wait, is given up.
    """
    cdef uint32_t count = 0
    cdef uint32_t i = 0
    cdef Missing *m
    while i < r.missing_count:
        m = &r.missing[i]
        if m.tries == MAX_NACK_TRIES or now_us - m.since_us > KEPT_US:
            missing_remove(r, i)
            continue
        if (m.asked_us == 0 and now_us - m.since_us >= REORDER_US) or (m.asked_us and now_us - m.asked_us >= rtt_us):
            m.asked_us = now_us
            m.tries += 1
            due[count] = m.ext_seq
            count += 1
        i += 1
    return count
