# RTCP both ways: reports and feedback in, receiver and sender reports, key frame requests and BYE out.


cdef inline size_t rtcp_header(uint8_t *q, uint8_t count, uint8_t kind, size_t length) noexcept nogil:
    """Write the common header of a packet of ``length`` bytes (a multiple of four); return length."""
    q[0] = 0x80 | count
    q[1] = kind
    wr16(q + 2, <uint16_t>(length // 4 - 1))
    return length


cdef size_t rtcp_write_sdes(uint8_t *q, uint32_t ssrc, const uint8_t *cname, size_t cname_length) noexcept nogil:
    """Write an SDES packet with one chunk, one CNAME item; return its length (RFC 3550 section 6.5)."""
    cdef size_t length = (8 + 2 + cname_length + 1 + 3) & ~<size_t>3
    rtcp_header(q, 1, 202, length)
    wr32(q + 4, ssrc)
    memset(q + 8, 0, length - 8)
    q[8] = 1
    q[9] = <uint8_t>cname_length
    memcpy(q + 10, cname, cname_length)
    return length


cdef void rtcp_push(WorkerCore *w, Transport *t, uint8_t *q, size_t length) noexcept nogil:
    """Encrypt and queue what was written into the current send slot."""
    if not srtcp_seal(w, t, q, &length):
        drop(w, DROP_PROTECT)
        return
    counter_add(&w.counters[COUNT_RTCP_DOWN], 1)
    send_push(w, t.selected, q, length)


cdef void rtcp_ask_layer_keyframe(WorkerCore *w, UpTrack *u, Layer *layer) noexcept nogil:
    """Send PLI or FIR if somebody waits and the last one is long enough ago (RFC 4585, RFC 5104).

    All wishes of all subscribers meet in one flag; it stays up until a key frame comes.
    """
    cdef Transport *t = u.transport
    cdef uint8_t *q
    cdef uint32_t media_ssrc
    cdef size_t length
    if not layer.wants_keyframe or t.selected == NULL or t.tx == NULL:
        return
    if (u.downtracks == NULL and u.waiting == NULL) or not (u.config.has_pli or u.config.has_fir):
        layer.wants_keyframe = False
        return
    if w.now_us - layer.keyframe_asked_us < KEYFRAME_INTERVAL_US:
        return
    if layer.active != NULL:
        media_ssrc = layer.active.ssrc
    elif u.config.layer_count == 1 and u.config.ssrc_count:
        media_ssrc = u.config.ssrcs[0]
    else:
        return                           # its first packet will tell the SSRC
    layer.keyframe_asked_us = w.now_us
    q = send_slot(w)
    wr32(q + 4, t.rtcp_ssrc)
    length = rtcp_header(q, 0, 201, 8)   # an empty RR first: not every peer takes reduced size
    wr32(q + length + 4, t.rtcp_ssrc)
    if u.config.has_pli:
        wr32(q + length + 8, media_ssrc)
        length += rtcp_header(q + length, 1, 206, 12)
    else:
        wr32(q + length + 8, 0)
        wr32(q + length + 12, media_ssrc)
        t.fir_seq += 1
        wr32(q + length + 16, <uint32_t>t.fir_seq << 24)
        length += rtcp_header(q + length, 4, 206, 20)
    rtcp_push(w, t, q, length)
    counter_add(&u.keyframe_requests, 1)
    counter_add(&w.counters[COUNT_KEYFRAME_REQUESTS_UP], 1)


cdef void rtcp_ask_keyframe(WorkerCore *w, UpTrack *u) noexcept nogil:
    """Ask for a key frame of each layer that somebody waits for."""
    cdef uint32_t i
    for i in range(u.config.layer_count):
        rtcp_ask_layer_keyframe(w, u, &u.layers[i])


cdef void rtcp_ask_repair(WorkerCore *w, UpTrack *u, Repair *r) noexcept nogil:
    """Send a generic NACK for what a layer misses and what is due (RFC 4585 section 6.2.1)."""
    cdef Transport *t = u.transport
    cdef uint64_t due[MAX_MISSING]
    cdef uint32_t count
    cdef uint32_t i = 0
    cdef uint16_t pid
    cdef uint16_t mask
    cdef uint8_t *q
    cdef size_t at
    if r.missing_count == 0 or (u.downtracks == NULL and u.waiting == NULL) or not u.config.has_nack:
        return
    count = missing_due(r, w.now_us, t.rtt_us if t.rtt_us else UNKNOWN_RTT_US, due)
    if count == 0:
        return
    q = send_slot(w)
    wr32(q + 4, t.rtcp_ssrc)
    at = rtcp_header(q, 0, 201, 8)
    wr32(q + at + 4, t.rtcp_ssrc)
    wr32(q + at + 8, r.ssrc)
    at += 12
    while i < count:                         # at most MAX_MISSING pairs: 1 KB
        pid = <uint16_t>due[i]
        mask = 0
        i += 1
        while i < count and due[i] - due[i - 1] <= 16 and <uint16_t>(<uint16_t>due[i] - pid) <= 16:
            mask |= <uint16_t>(1 << (<uint16_t>(<uint16_t>due[i] - pid) - 1))
            i += 1
        wr16(q + at, pid)
        wr16(q + at + 2, mask)
        at += 4
    rtcp_header(q + 8, 1, 205, at - 8)
    rtcp_push(w, t, q, at)
    counter_add(&w.counters[COUNT_NACKS_UP], 1)


cdef void rtcp_ask_repairs(WorkerCore *w, UpTrack *u) noexcept nogil:
    """Ask for what is missing of each layer: whichever is watched next is whole then."""
    cdef uint32_t i
    for i in range(u.config.layer_count):
        if u.layers[i].repair != NULL:
            rtcp_ask_repair(w, u, u.layers[i].repair)


cdef void rtcp_report_arrivals(WorkerCore *w, Transport *t) noexcept nogil:
    """Send transport-wide feedback when it is due."""
    cdef uint8_t *q
    cdef size_t length
    cdef int packets
    if t.twcc == NULL or w.now_us < t.twcc.next_us:
        return
    t.twcc.next_us = w.now_us + TWCC_INTERVAL_US
    for packets in range(TWCC_PACKETS // TWCC_REPORT_PACKETS + 1):
        q = send_slot(w)
        length = twcc_write(t.twcc, q, t.rtcp_ssrc, t.stream_ssrcs[0])
        if length == 0:
            return
        rtcp_push(w, t, q, length)
        counter_add(&w.counters[COUNT_TWCC_UP], 1)


cdef void rtcp_answer_rrtr(WorkerCore *w, Transport *t) noexcept nogil:
    """Answer a receiver's reference time, so that it learns the round trip (RFC 3611 section 4.5)."""
    cdef uint8_t *q
    if not t.has_rrtr or t.tx == NULL or t.selected == NULL:
        return
    t.has_rrtr = False
    q = send_slot(w)
    wr32(q + 4, t.rtcp_ssrc)
    rtcp_header(q, 0, 201, 8)
    wr32(q + 12, t.rtcp_ssrc)
    q[16] = 5                                # DLRR, three words, one sub-block
    q[17] = 0
    wr16(q + 18, 3)
    wr32(q + 20, t.rrtr_ssrc)
    wr32(q + 24, t.rrtr_ntp)
    wr32(q + 28, 0)                          # answered in the same turn
    rtcp_push(w, t, q, 8 + rtcp_header(q + 8, 0, 207, 24))


cdef void rtcp_report_up(WorkerCore *w, Transport *t) noexcept nogil:
    """Send receiver reports on every SSRC the peer sends from (RFC 3550 section 6.4.2)."""
    cdef uint32_t i
    cdef uint32_t blocks = 0
    cdef uint8_t *q = send_slot(w)
    cdef Stream *s
    cdef size_t length
    for i in range(t.stream_count):
        s = &t.streams[i]
        if s.uptrack == NULL or not s.has_packets or s.is_ended or blocks == MAX_REPORT_BLOCKS:
            continue
        stream_report(s, q + 8 + 24 * blocks, w.now_us)
        blocks += 1
    if blocks == 0:
        return
    wr32(q + 4, t.rtcp_ssrc)
    length = rtcp_header(q, <uint8_t>blocks, 201, 8 + 24 * <size_t>blocks)
    length += rtcp_write_sdes(q + length, t.rtcp_ssrc, t.cname, t.cname_length)
    rtcp_push(w, t, q, length)


cdef bint sender_time(const WorkerCore *w, const DownTrack *d, uint32_t *timestamp) noexcept nogil:
    """Return the outgoing RTP timestamp of w.now_ntp, from the publisher's own sender report.

    Both tracks of a publisher share one clock offset, so a receiver that lines up our NTP times
    lines up what the publisher captured together.  False when the publisher sent no report yet.
    """
    cdef Stream *s
    cdef int64_t since
    if d.source == NULL or d.is_switching:
        return False
    s = stream_find(d.source.transport, d.source_ssrc)
    if s == NULL or not s.has_sr:
        return False
    since = <int64_t>(w.now_ntp - <uint64_t>d.source.transport.ntp_offset - s.sr_ntp)
    if since > (<int64_t>60 << 32) or since < -(<int64_t>60 << 32):
        return False                     # the publisher's clock jumped: wait for its next report
    timestamp[0] = s.sr_timestamp + <uint32_t>((since * <int64_t>d.clock_rate) >> 32) + d.rewriter.timestamp_offset
    return True


cdef void rtcp_report_down(WorkerCore *w, Transport *t) noexcept nogil:
    """Send a sender report and CNAME for each slot that plays (RFC 3550 section 6.4.1)."""
    cdef DownTrack *d = t.downtracks
    cdef uint8_t *q = NULL
    cdef size_t at = 0
    cdef uint32_t timestamp = 0
    while d != NULL:
        if d.rewriter.has_sent and w.now_us - d.rewriter.last_us < 2 * REPORT_INTERVAL_US \
                and sender_time(w, d, &timestamp):
            if q == NULL:
                q = send_slot(w)
            wr32(q + at + 4, d.ssrc)
            wr64(q + at + 8, w.now_ntp)
            wr32(q + at + 16, timestamp)
            wr32(q + at + 20, <uint32_t>d.packets)
            wr32(q + at + 24, <uint32_t>d.octets)
            at += rtcp_header(q + at, 0, 200, 28)
            at += rtcp_write_sdes(q + at, d.ssrc, d.config.cname, d.config.cname_length)
            if at > 1000:                # the next pair might not fit a usual MTU
                rtcp_push(w, t, q, at)
                q = NULL
                at = 0
        d = d.next
    if q != NULL:
        rtcp_push(w, t, q, at)


cdef void rtcp_say_bye(WorkerCore *w, Transport *t) noexcept nogil:
    """Tell the peer that our SSRCs end (RFC 3550 section 6.6)."""
    cdef DownTrack *d = t.downtracks
    cdef uint8_t *q
    cdef uint32_t count = 0
    if t.selected == NULL or t.tx == NULL:
        return
    q = send_slot(w)
    while d != NULL and count < MAX_REPORT_BLOCKS:
        if d.rewriter.has_sent:
            wr32(q + 12 + 4 * count, d.ssrc)
            count += 1
        d = d.next
    if count == 0:
        return
    wr32(q + 4, t.rtcp_ssrc)
    rtcp_header(q, 0, 201, 8)
    rtcp_push(w, t, q, 8 + rtcp_header(q + 8, <uint8_t>count, 203, 4 + 4 * <size_t>count))


cdef DownTrack *downtrack_by_ssrc(Transport *t, uint32_t ssrc) noexcept nogil:
    """Return the slot of this peer with this SSRC, or NULL."""
    cdef DownTrack *d = t.downtracks
    while d != NULL:
        if d.ssrc == ssrc:
            return d
        d = d.next
    return NULL


cdef void rtcp_take_block(WorkerCore *w, Transport *t, const uint8_t *block) noexcept nogil:
    """Take one report block on a slot of ours: loss, jitter, round-trip time."""
    cdef DownTrack *d = downtrack_by_ssrc(t, rd32(block))
    cdef uint32_t lost
    cdef uint32_t lsr
    cdef uint32_t rtt
    cdef uint64_t rtt_us
    if d == NULL:
        return
    d.is_acknowledged = True
    lost = rd24(block + 5)
    store_relaxed(&d.lost, 0 if lost & 0x800000 else lost)
    store_relaxed(&d.jitter_ticks, rd32(block + 12))
    lsr = rd32(block + 16)
    if lsr != 0:
        rtt = <uint32_t>(w.now_ntp >> 16) - lsr - rd32(block + 20)
        if rtt < 10 << 16:               # else the peer's delay does not fit: not a time at all
            rtt_us = (<uint64_t>rtt * 1000000) >> 16
            store_relaxed(&d.rtt_us, rtt_us)
            rtt_take(t, rtt_us)


cdef void rtcp_take_sr(WorkerCore *w, Transport *t, const uint8_t *body) noexcept nogil:
    """Take the sender info of a publisher: NTP and RTP time that belong together."""
    cdef Stream *s = stream_find(t, rd32(body))
    cdef int64_t offset
    if s == NULL:
        return
    s.sr_ntp = rd64(body + 4)
    s.sr_timestamp = rd32(body + 12)
    s.sr_arrival_us = w.now_us
    s.has_sr = True
    # Differences wrap as unsigned numbers: a hostile clock must not overflow a signed one.
    offset = <int64_t>(w.now_ntp - s.sr_ntp)
    if not t.has_ntp_offset or offset < t.ntp_offset \
            or <uint64_t>offset - <uint64_t>t.ntp_offset > <uint64_t>1 << 32:
        t.ntp_offset = offset            # least delay seen, or the peer's clock was set back
        t.has_ntp_offset = True
    else:
        t.ntp_offset += (offset - t.ntp_offset) >> 6    # let it follow a drifting clock


cdef void rtcp_take_nack(WorkerCore *w, Transport *t, const uint8_t *body, size_t length) noexcept nogil:
    """Repeat what the peer misses: pairs of number and bit mask (RFC 4585 section 6.2.1)."""
    cdef DownTrack *d = downtrack_by_ssrc(t, rd32(body + 4))
    cdef size_t at = 8
    cdef uint16_t seq
    cdef uint16_t mask
    cdef int bit
    if d == NULL or (d.history == NULL and not d.config.has_rtx) or t.selected == NULL or t.tx == NULL:
        return
    counter_add(&d.nacks, 1)
    counter_add(&w.counters[COUNT_NACKS], 1)
    while at + 4 <= length:
        seq = rd16(body + at)
        mask = rd16(body + at + 2)
        downtrack_repeat(w, d, seq)
        for bit in range(16):
            if mask >> bit & 1:
                downtrack_repeat(w, d, <uint16_t>(seq + bit + 1))
        at += 4


cdef void rtcp_take_keyframe_wish(WorkerCore *w, Transport *t, uint32_t ssrc) noexcept nogil:
    """Pass PLI or FIR of a subscriber on to the publisher of what it watches."""
    cdef DownTrack *d = downtrack_by_ssrc(t, ssrc)
    if d == NULL:
        return
    counter_add(&d.keyframe_requests, 1)
    counter_add(&w.counters[COUNT_KEYFRAME_REQUESTS_DOWN], 1)
    if d.source != NULL and d.is_video:
        uptrack_want_keyframe(d.source)
        rtcp_ask_keyframe(w, d.source)


cdef void rtcp_take(WorkerCore *w, Transport *t, uint8_t count, uint8_t kind, const uint8_t *body,
                    size_t length) noexcept nogil:
    """Act on one packet of a compound.  ``body`` is what follows the common header.

    A packet too short for what it claims is taken as far as it goes.
    """
    cdef size_t at
    cdef int i
    cdef Stream *s
    if kind == 200 or kind == 201:                        # SR, RR
        at = 24 if kind == 200 else 4
        if kind == 200 and length >= 24:
            rtcp_take_sr(w, t, body)
        for i in range(count):
            if at + 24 > length:
                return
            rtcp_take_block(w, t, body + at)
            at += 24
    elif kind == 203:                                     # BYE
        for i in range(count):
            if 4 * <size_t>i + 4 > length:
                return
            s = stream_find(t, rd32(body + 4 * i))
            if s != NULL:
                s.is_ended = True
    elif kind == 205 and count == 1 and length >= 12:     # generic NACK
        rtcp_take_nack(w, t, body, length)
    elif kind == 206 and count == 1 and length >= 8:      # PLI
        rtcp_take_keyframe_wish(w, t, rd32(body + 4))
    elif kind == 207 and length >= 4:                     # XR: only the newest reference time matters
        at = 4
        while at + 12 <= length:
            if body[at] == 4 and rd16(body + at + 2) == 2:
                t.rrtr_ssrc = rd32(body)
                t.rrtr_ntp = <uint32_t>(rd64(body + at + 4) >> 16)
                t.has_rrtr = True
            at += 4 + 4 * <size_t>rd16(body + at + 2)
    elif kind == 206 and count == 4:                      # FIR
        at = 8
        while at + 8 <= length:
            rtcp_take_keyframe_wish(w, t, rd32(body + at))
            at += 8


cdef bint rtcp_is_compound(const uint8_t *data, size_t length) noexcept nogil:
    """Check that headers and lengths of all packets fill the datagram exactly."""
    cdef size_t at = 0
    cdef size_t size
    if length < 8:
        return False
    while at < length:
        if length - at < 4 or data[at] >> 6 != 2:
            return False
        size = (<size_t>rd16(data + at + 2) + 1) * 4
        if size > length - at:
            return False
        at += size
    return True


cdef DropReason rtcp_receive(WorkerCore *w, Transport *t, uint8_t *data, size_t length) noexcept nogil:
    """Take one SRTCP datagram of a peer."""
    cdef size_t at = 0
    cdef size_t size
    cdef size_t payload
    cdef DropReason reason
    cdef uint32_t sender = rd32(data + 4)
    if length < 8 or t.rx == NULL:
        return DROP_RTCP_MALFORMED if length < 8 else DROP_NO_KEYS
    if stream_find(t, sender) == NULL and stream_place(t, w.now_us) < 0:
        return DROP_TOO_MANY_SSRCS
    reason = srtcp_open(w, t, data, &length)
    if reason != DROP_NONE:
        return reason
    if stream_find(t, sender) == NULL:
        stream_add(t, sender, w.now_us)   # libsrtp has made a context for it: count it
    path_heard(w, t)
    if not rtcp_is_compound(data, length):
        return DROP_RTCP_MALFORMED
    while at < length:
        size = (<size_t>rd16(data + at + 2) + 1) * 4
        payload = size - 4
        if data[at] & 0x20 and data[at + size - 1] <= payload:
            payload -= data[at + size - 1]
        rtcp_take(w, t, data[at] & 31, data[at + 1], data + at + 4, payload)
        at += size
    rtcp_answer_rrtr(w, t)
    counter_add(&w.counters[COUNT_RTCP_UP], 1)
    return DROP_NONE
