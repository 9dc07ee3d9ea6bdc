# What a publisher sends: SSRCs, extended numbers, and what receiver reports need to know.


cdef Stream *stream_find(Transport *t, uint32_t ssrc) noexcept nogil:
    """Return the stream with this SSRC, or NULL."""
    cdef uint32_t i
    if t.last_stream < t.stream_count and t.stream_ssrcs[t.last_stream] == ssrc:
        return &t.streams[t.last_stream]
    for i in range(t.stream_count):
        if t.stream_ssrcs[i] == ssrc:
            t.last_stream = i
            return &t.streams[i]
    return NULL


cdef int stream_place(const Transport *t, uint64_t now_us) noexcept nogil:
    """Return the index where a new SSRC could go, or -1 when this peer has used up its share.

    Asked before decryption: libsrtp would make a context that lives as long as the session.
    """
    cdef uint32_t i
    if t.streams_ever >= MAX_STREAMS_EVER:
        return -1
    if t.stream_count < MAX_STREAMS:
        return <int>t.stream_count
    for i in range(t.stream_count):
        if now_us - t.streams[i].last_packet_us > STREAM_IDLE_US:
            return <int>i
    return -1


cdef Stream *stream_add(Transport *t, uint32_t ssrc, uint64_t now_us) noexcept nogil:
    """Start a stream for an SSRC that proved its key.  Precondition: stream_place is not -1."""
    cdef int place = stream_place(t, now_us)
    cdef Stream *s = &t.streams[place]
    cdef DownTrack *d = s.uptrack.downtracks if s.uptrack != NULL else NULL
    while d != NULL:                 # should the old SSRC come back, its extended numbers start over
        if d.source_ssrc == s.ssrc:
            d.is_switching = True
        d = d.next_subscriber
    if s.uptrack != NULL and s.uptrack.active == s:
        s.uptrack.active = NULL
    memset(s, 0, sizeof(Stream))
    s.ssrc = ssrc
    s.last_packet_us = now_us
    s.bad_seq = 1 << 16
    t.stream_ssrcs[place] = ssrc
    if <uint32_t>place == t.stream_count:
        t.stream_count += 1
    t.streams_ever += 1
    return s


cdef UpTrack *uptrack_by_mid(Transport *t, const uint8_t *mid, size_t length) noexcept nogil:
    """Return the section with this mid, or NULL."""
    cdef UpTrack *u = t.uptracks
    while u != NULL:
        if u.config.mid_length == length and memcmp(u.config.mid, mid, length) == 0:
            return u
        u = u.next
    return NULL


cdef UpTrack *uptrack_for(Transport *t, Packet *p) noexcept nogil:
    """Return the section a new SSRC belongs to, or NULL (RFC 9143 section 9.2).

    By announced SSRC, then by mid, then by a payload type that one section alone has.
    """
    cdef UpTrack *u = t.uptracks
    cdef UpTrack *found = NULL
    cdef uint32_t i
    cdef uint32_t matches = 0
    while u != NULL:
        for i in range(u.config.ssrc_count):
            if u.config.ssrcs[i] == p.ssrc:
                return u
        for i in range(u.config.rtx_count):
            if u.config.rtx_ssrcs[i] == p.ssrc:
                return u
        u = u.next
    u = t.uptracks
    while u != NULL:
        packet_read_extensions(p, u.config.kind_by_id)
        if p.ext_at[EXT_MID]:            # ids are the same in the whole bundle (RFC 8285 section 6)
            return uptrack_by_mid(t, p.data + p.ext_at[EXT_MID], p.ext_length[EXT_MID])
        if u.config.payload_types[p.payload_type].codec != NO_CODEC \
                or u.config.payload_types[p.payload_type].rtx_of != NO_PAYLOAD_TYPE:
            matches += 1
            found = u
        u = u.next
    return found if matches == 1 else NULL


cdef DropReason rtx_unwrap(Transport *t, UpTrack *u, Packet *p) noexcept nogil:
    """Turn a retransmission into the packet it repeats (RFC 4588 section 4).

    Which SSRC it repeats is said by FID groups; without them it is the active one.
    """
    cdef uint32_t i
    cdef Stream *media = u.active
    if p.payload_length == 0:
        return DROP_PADDING_ONLY             # a bandwidth probe
    if p.payload_length < 2:
        return DROP_RTX_MALFORMED
    for i in range(u.config.rtx_count):
        if u.config.rtx_ssrcs[i] == p.ssrc:
            media = stream_find(t, u.config.repaired_ssrcs[i])
    if media == NULL or media != u.active or not media.has_packets:
        return DROP_RTX_UNKNOWN
    p.payload_type = u.config.payload_types[p.payload_type].rtx_of
    p.ssrc = media.ssrc
    p.seq = rd16(p.data + p.payload_offset)
    p.payload_offset += 2
    p.payload_length -= 2
    p.ext_seq = seq_extend(media.ext_seq, p.seq)
    # Only what is missing is wanted, and that lies behind the newest packet.
    if p.ext_seq > media.ext_seq or media.ext_seq - p.ext_seq > MAX_MISORDER:
        return DROP_TOO_LATE
    return DROP_NONE


cdef bint uptrack_takes(UpTrack *u, Stream *s, uint64_t now_us) noexcept nogil:
    """Tell whether packets of ``s`` are forwarded, making it the active SSRC if the place is free.

    Another SSRC takes over only after the active one fell silent or said BYE, so that two senders
    in one section do not make receivers jump between them.
    """
    if u.active == s:
        return True
    if u.active != NULL and not u.active.is_ended and now_us - u.active.last_packet_us < TAKEOVER_US:
        return False
    u.active = s
    return True


cdef void uptrack_tell_codec(WorkerCore *w, UpTrack *u) noexcept nogil:
    """Tell Python what this publication sends, if that is news; the newest stands.

    Not sooner than CODEC_INTERVAL_US after the last time, so that a publisher that alternates cannot
    flood the loop; the tick tells what had to wait, also for room in the ring.
    """
    cdef EventHeader header
    if u.codec == u.told_codec or w.now_us - u.codec_told_us < CODEC_INTERVAL_US:
        return
    memset(&header, 0, sizeof(EventHeader))
    header.length = 1
    header.subject_id = u.id
    header.kind = EVENT_CODEC
    if event_push(&w.known, &header, &u.codec):
        u.told_codec = u.codec
        u.codec_told_us = w.now_us
        w.has_events = True


cdef inline void uptrack_hear(WorkerCore *w, UpTrack *u, uint8_t level) noexcept nogil:
    """Note the level of one packet, 0 loudest to 127 silence (RFC 6464 section 3).

    The loudest of an interval stands.  Number and level share a word, so the reader needs no order
    between words: what it finds under another interval's number is not the one it asks for.
    """
    cdef uint64_t interval = load_relaxed(&w.level_interval)
    cdef uint64_t *loudest = &u.levels[interval & 1]
    if loudest[0] >> 8 != interval or level < (loudest[0] & 127):
        store_relaxed(loudest, interval << 8 | level)


cdef DropReason stream_receive(Stream *s, Packet *p, uint32_t clock_rate, uint64_t now_us) noexcept nogil:
    """Give the packet its extended number and count it (RFC 3550 appendices A.1 and A.8)."""
    cdef int64_t ahead
    cdef uint32_t transit
    cdef uint32_t delta
    if not s.has_packets:
        s.has_packets = True
        s.ext_seq = (1 << 16) + <uint64_t>p.seq
        s.base_ext_seq = s.ext_seq
        s.received = s.expected_prior = s.received_prior = 0
        s.clock_rate = clock_rate
        p.ext_seq = s.ext_seq
        s.transit = <uint32_t>(now_us * clock_rate // 1000000) - p.timestamp
    else:
        p.ext_seq = seq_extend(s.ext_seq, p.seq)
        ahead = <int64_t>(p.ext_seq - s.ext_seq)
        if ahead > MAX_DROPOUT or ahead < -MAX_MISORDER:
            if s.bad_seq != p.seq:
                # Lost its place, or a stray: two in a row decide.
                s.bad_seq = <uint16_t>(p.seq + 1)
                return DROP_SEQUENCE_JUMP
            if ahead < 0:                # restarted below: keep extended numbers rising
                p.ext_seq += 1 << 16
            # What is missing in between was never sent: do not report it as lost.
            s.base_ext_seq += p.ext_seq - s.ext_seq - 1
        s.bad_seq = 1 << 16
        if p.ext_seq > s.ext_seq:
            s.ext_seq = p.ext_seq
        if clock_rate != s.clock_rate:   # another payload type: transit times do not compare
            s.clock_rate = clock_rate
            s.transit = <uint32_t>(now_us * clock_rate // 1000000) - p.timestamp
        transit = <uint32_t>(now_us * clock_rate // 1000000) - p.timestamp
        delta = transit - s.transit
        s.transit = transit
        if delta >= 0x80000000u:          # behind: the distance, without the overflow of a signed minus
            delta = 0u - delta
        s.jitter_q4 += delta - ((s.jitter_q4 + 8) >> 4)
    s.received += 1
    s.last_packet_us = now_us
    s.is_ended = False
    return DROP_NONE


cdef void stream_report(Stream *s, uint8_t *q, uint64_t now_us) noexcept nogil:
    """Write the 24 bytes of a report block and start the next interval (RFC 3550 section 6.4.1)."""
    cdef uint64_t expected = s.ext_seq - s.base_ext_seq + 1
    cdef int64_t lost = <int64_t>(expected - s.received)
    cdef int64_t interval_expected = <int64_t>(expected - s.expected_prior)
    cdef int64_t interval_lost = interval_expected - <int64_t>(s.received - s.received_prior)
    cdef uint8_t fraction = 0
    s.expected_prior = expected
    s.received_prior = s.received
    if interval_expected > 0 and interval_lost > 0:
        fraction = <uint8_t>((interval_lost << 8) // interval_expected) if interval_lost < interval_expected else 255
    if lost > 0x7FFFFF:
        lost = 0x7FFFFF
    elif lost < -0x800000:
        lost = -0x800000
    wr32(q, s.ssrc)
    q[4] = fraction
    wr24(q + 5, <uint32_t>lost)
    wr32(q + 8, <uint32_t>s.ext_seq - (1 << 16))    # the cycle count starts at zero on the wire
    wr32(q + 12, s.jitter_q4 >> 4)
    if s.has_sr:
        wr32(q + 16, <uint32_t>(s.sr_ntp >> 16))
        wr32(q + 20, <uint32_t>(((now_us - s.sr_arrival_us) << 16) // 1000000))
    else:
        wr64(q + 16, 0)
    if s.uptrack != NULL and s.uptrack.active == s:
        store_relaxed(&s.uptrack.lost, <uint64_t>lost if lost > 0 else 0)
        store_relaxed(&s.uptrack.jitter_ticks, s.jitter_q4 >> 4)
