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


cdef void uptrack_break(UpTrack *u, uint32_t ssrc) noexcept nogil:
    """Let who follows this SSRC start anew, and nobody look back at its numbers: it may start over."""
    cdef DownTrack *d = u.downtracks
    while d != NULL:
        if d.source_ssrc == ssrc:
            d.is_switching = True
        rewriter_forget(&d.rewriter, ssrc)
        d = d.next_subscriber


cdef void stream_unplace(Stream *s) noexcept nogil:
    """Take a stream out of its section.  Should its SSRC come back there, it starts over."""
    cdef UpTrack *u = s.uptrack
    cdef int i
    uptrack_break(u, s.ssrc)
    for i in range(MAX_LAYERS):
        if u.layers[i].active == s:
            u.layers[i].active = NULL
        if u.layers[i].repair != NULL:
            repair_forget(u.layers[i].repair, s.ssrc)
    s.uptrack = NULL


cdef Stream *stream_add(Transport *t, uint32_t ssrc, uint64_t now_us) noexcept nogil:
    """Start a stream for an SSRC that proved its key.  Precondition: stream_place is not -1."""
    cdef int place = stream_place(t, now_us)
    cdef Stream *s = &t.streams[place]
    if s.uptrack != NULL:
        stream_unplace(s)
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


cdef bint section_announces(const UpConfig *c, uint32_t ssrc) noexcept nogil:
    """Tell whether the section's description names this SSRC, for media or for repeats."""
    cdef uint32_t i
    for i in range(c.ssrc_count):
        if c.ssrcs[i] == ssrc:
            return True
    for i in range(c.rtx_count):
        if c.rtx_ssrcs[i] == ssrc:
            return True
    return False


cdef UpTrack *uptrack_for(Transport *t, Packet *p) noexcept nogil:
    """Return the section a new SSRC belongs to, or NULL (RFC 9143 section 9.2).

    By announced SSRC, then by mid, then by a payload type that one section alone has.
    """
    cdef UpTrack *u = t.uptracks
    cdef UpTrack *found = NULL
    cdef uint32_t matches = 0
    while u != NULL:
        if section_announces(u.config, p.ssrc):
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


cdef uint32_t layer_named(const UpConfig *c, const Packet *p, int kind) noexcept nogil:
    """Return which layer this rid or repaired rid of a packet names; MAX_LAYERS: none of them."""
    cdef uint32_t i
    for i in range(c.layer_count):
        if c.rid_lengths[i] == p.ext_length[kind] and memcmp(c.rids[i], p.data + p.ext_at[kind], p.ext_length[kind]) == 0:
            return i
    return MAX_LAYERS


cdef uint32_t layer_for(Transport *t, UpTrack *u, const Stream *s, const Packet *p) noexcept nogil:
    """Return the layer that a packet of a section belongs to or repairs; MAX_LAYERS: it does not say.

    By rid or repaired rid (RFC 8852), else as known, else by the SSRC that it repeats.
    """
    cdef uint32_t i
    cdef Stream *media
    if u.config.layer_count == 1:
        return 0
    if p.ext_at[EXT_RID]:
        return layer_named(u.config, p, EXT_RID)
    if p.ext_at[EXT_REPAIRED_RID]:
        return layer_named(u.config, p, EXT_REPAIRED_RID)
    if s.uptrack == u:
        return s.layer
    for i in range(u.config.rtx_count):
        if u.config.rtx_ssrcs[i] == p.ssrc:
            media = stream_find(t, u.config.repaired_ssrcs[i])
            if media != NULL and media.uptrack == u:
                return media.layer
    return MAX_LAYERS


cdef uint32_t section_streams(const Transport *t, const UpTrack *u, uint64_t now_us) noexcept nogil:
    """Return how many SSRCs a section has in use."""
    cdef uint32_t i
    cdef uint32_t count = 0
    for i in range(t.stream_count):
        if t.streams[i].uptrack == u and now_us - t.streams[i].last_packet_us <= STREAM_IDLE_US:
            count += 1
    return count


cdef DropReason stream_place_in(Transport *t, Stream *s, Packet *p, uint64_t now_us) noexcept nogil:
    """Find out where a packet's SSRC belongs and remember it; read the packet's extensions (design 1.5).

    What was found stands.  A mid or rid that says otherwise moves the SSRC once, unless the section
    announced it.
    """
    cdef UpTrack *u = s.uptrack if s.uptrack != NULL else uptrack_for(t, p)
    cdef UpTrack *named
    cdef uint32_t layer
    if u == NULL:
        return DROP_UNKNOWN_SSRC
    packet_read_extensions(p, u.config.kind_by_id)
    if p.ext_at[EXT_MID] and (u.config.mid_length != p.ext_length[EXT_MID] or memcmp(
            u.config.mid, p.data + p.ext_at[EXT_MID], p.ext_length[EXT_MID]) != 0):
        named = uptrack_by_mid(t, p.data + p.ext_at[EXT_MID], p.ext_length[EXT_MID])
        if named != NULL and not s.has_moved and not section_announces(u.config, p.ssrc):
            u = named
    layer = layer_for(t, u, s, p)
    if s.uptrack == u and (layer == s.layer or layer == MAX_LAYERS or s.has_moved):
        return DROP_NONE
    if layer == MAX_LAYERS:
        return DROP_UNKNOWN_SSRC if s.uptrack == NULL else DROP_NONE
    if s.uptrack != u and section_streams(t, u, now_us) >= MAX_SSRCS:
        return DROP_TOO_MANY_SSRCS
    if s.uptrack != NULL:
        s.has_moved = True
        stream_unplace(s)
    s.uptrack = u
    s.layer = <uint8_t>layer
    if t.next_report_us > now_us + FIRST_REPORT_US:
        t.next_report_us = now_us + FIRST_REPORT_US
    return DROP_NONE


cdef DropReason rtx_unwrap(Transport *t, UpTrack *u, const Layer *layer, Packet *p) noexcept nogil:
    """Turn a retransmission into the packet it repeats (RFC 4588 section 4).

    Which SSRC it repeats is said by its layer; where there is but one, FID groups may be more exact.
    """
    cdef uint32_t i
    cdef Stream *media = layer.active
    if p.payload_length == 0:
        return DROP_PADDING_ONLY             # a bandwidth probe
    if p.payload_length < 2:
        return DROP_RTX_MALFORMED
    for i in range(u.config.rtx_count if u.config.layer_count == 1 else 0):
        if u.config.rtx_ssrcs[i] == p.ssrc:
            media = stream_find(t, u.config.repaired_ssrcs[i])
    if media == NULL or media != layer.active or not media.has_packets:
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


cdef inline void uptrack_want_keyframe(UpTrack *u) noexcept nogil:
    """Somebody cannot go on without a key frame of the layer that subscribers are to get."""
    u.layers[u.best].wants_keyframe = True


cdef KeptPacket *uptrack_find(UpTrack *u, uint32_t ssrc, uint64_t ext_seq) noexcept nogil:
    """Return the kept packet with this SSRC and number, whatever its layer, or NULL."""
    cdef KeptPacket *kept = NULL
    cdef int i
    for i in range(MAX_LAYERS):
        if kept == NULL and u.layers[i].repair != NULL:
            kept = repair_find(u.layers[i].repair, ssrc, ext_seq)
    return kept


cdef bint layer_takes(UpTrack *u, Layer *layer, Stream *s, uint64_t now_us) noexcept nogil:
    """Tell whether packets of ``s`` are forwarded, making it the active SSRC if the place is free.

    Another SSRC takes over only after the active one fell silent or said BYE, so that two senders
    of one layer do not make receivers jump between them.
    """
    if layer.active == s:
        return True
    if layer.active != NULL and not layer.active.is_ended and now_us - layer.active.last_packet_us < TAKEOVER_US:
        return False
    if layer.active != NULL:
        uptrack_break(u, layer.active.ssrc)
    layer.active = s
    return True


cdef void uptrack_choose(UpTrack *u, uint32_t index, const Packet *p, uint64_t now_us) noexcept nogil:
    """Say which layer subscribers are to get, now that a packet of this one came: the best that arrives.

    A better one is taken at once.  It is given up when it has been silent for LAYER_SILENCE_US while
    another one went on; after that it must come for a while before it is taken again, so that a layer
    on the edge does not make the picture jump.
    """
    cdef Layer *layer = &u.layers[index]
    cdef Layer *best = &u.layers[u.best]
    cdef bint is_silent
    cdef uint32_t i
    if layer.run_since_us == 0 or now_us - layer.arrived_us > LAYER_PAUSE_US:
        layer.run_since_us = now_us
    if layer.arrived_us == 0 or <int32_t>(p.timestamp - layer.timestamp) > 0:
        layer.timestamp = p.timestamp
        layer.frames_ahead += 1
    layer.arrived_us = now_us
    if index != u.best:
        is_silent = now_us - best.arrived_us >= LAYER_SILENCE_US and layer.frames_ahead >= LAYER_FRAMES
        if index < u.best and not is_silent:
            return
        if index > u.best and layer.is_doubtful and now_us - layer.run_since_us < LAYER_TRUST_US and not is_silent:
            return
        if is_silent:
            best.is_doubtful = True
            best.run_since_us = 0
        best.wants_keyframe = False
        layer.is_doubtful = False
        u.best = index
    for i in range(u.config.layer_count):
        u.layers[i].frames_ahead = 0


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
    if s.uptrack != NULL and s.uptrack.layers[s.uptrack.best].active == s:
        store_relaxed(&s.uptrack.lost, <uint64_t>lost if lost > 0 else 0)
        store_relaxed(&s.uptrack.jitter_ticks, s.jitter_q4 >> 4)


cdef uint32_t stream_elapsed(const Stream *a, uint32_t a_timestamp, const Stream *b, uint32_t b_timestamp,
                             uint32_t clock_rate, uint32_t measured) noexcept nogil:
    """Return how many ticks after ``a_timestamp`` of ``a`` the other packet was captured; at least 1.

    Layers of one source share the clock that their sender reports name, but not the offset of their
    timestamps.  ``measured``: by arrival, which holds where there are no reports, or where they are
    more than a second off it.
    """
    cdef int64_t between
    if a == NULL or b == NULL or not a.has_sr or not b.has_sr or a.clock_rate != b.clock_rate:
        return measured
    between = <int64_t>(b.sr_ntp - a.sr_ntp)
    if between > (<int64_t>60 << 32) or between < -(<int64_t>60 << 32):
        return measured
    between = ((between * <int64_t>clock_rate) >> 32) + <int32_t>(b_timestamp - b.sr_timestamp) \
        - <int32_t>(a_timestamp - a.sr_timestamp)
    if between - <int64_t>measured > <int64_t>clock_rate or between - <int64_t>measured < -<int64_t>clock_rate:
        return measured
    return <uint32_t>between if between > 0 else 1


cdef void uptrack_configure(UpTrack *u, UpConfig *c) noexcept nogil:
    """Replace what was negotiated.  Other rids: every SSRC must say anew which layer it is."""
    cdef UpConfig *before = u.config
    cdef int i
    cdef bint is_same = c.layer_count == before.layer_count \
        and memcmp(c.rid_lengths, before.rid_lengths, sizeof(c.rid_lengths)) == 0 \
        and memcmp(c.rids, before.rids, sizeof(c.rids)) == 0
    u.config = c
    if is_same:
        return
    for i in range(MAX_STREAMS):
        if u.transport.streams[i].uptrack == u:
            stream_unplace(&u.transport.streams[i])
    for i in range(MAX_LAYERS):
        u.layers[i].arrived_us = 0
        u.layers[i].run_since_us = 0
        u.layers[i].wants_keyframe = False
        u.layers[i].is_doubtful = False
    u.best = 0
