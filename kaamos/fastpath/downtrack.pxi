# Towards a subscriber, in two steps (design 1.3): *decide* takes or drops a packet and numbers it,
# *emit* writes, encrypts and queues it when it really leaves.


cdef void downtrack_start(DownTrack *d, const Packet *p, uint64_t now_us) noexcept nogil:
    """Follow the packet's SSRC from here on.  Layers of one source are put on one time line."""
    cdef Transport *t = d.source.transport
    cdef uint32_t elapsed = rewriter_elapsed(&d.rewriter, p.clock_rate, now_us)
    if d.is_switching:
        d.rewriter.range_count = 0           # numbers of another source mean nothing here
    else:
        elapsed = stream_elapsed(stream_find(t, d.source_ssrc), d.rewriter.last_timestamp - d.rewriter.timestamp_offset,
                                 stream_find(t, p.ssrc), p.timestamp, p.clock_rate, elapsed)
    rewriter_start(&d.rewriter, p.ssrc, p.ext_seq, p.timestamp, elapsed)
    d.source_ssrc = p.ssrc
    d.clock_rate = p.clock_rate
    d.is_switching = False


cdef inline bint downtrack_follows(const DownTrack *d, const Packet *p) noexcept nogil:
    """Tell whether this subscriber gets what the packet's SSRC sends."""
    return p.ssrc == d.source_ssrc and not d.is_switching


cdef DropReason downtrack_decide(DownTrack *d, const Packet *p, uint64_t now_us, uint64_t *out_seq,
                                 uint32_t *out_timestamp) noexcept nogil:
    """Say whether this subscriber gets the packet, and under which number and timestamp.

    A new source, layer or SSRC starts at a key frame; until one comes the source is asked for it,
    and a layer that played goes on.  Precondition: the packet is of the best layer, or followed.
    """
    cdef Rewriter *r = &d.rewriter
    cdef bint follows = downtrack_follows(d, p)
    if d.transport.selected == NULL or d.transport.tx == NULL:
        return DROP_NO_PATH
    if p.payload_length == 0:
        if follows:
            rewriter_skip(r, p.ext_seq)
        return DROP_PADDING_ONLY
    if d.config.payload_types[p.codec] == NO_CODEC:
        if follows:
            rewriter_skip(r, p.ext_seq)
        return DROP_CODEC_NOT_NEGOTIATED
    if not follows:
        if not p.is_keyframe:
            uptrack_want_keyframe(d.source)
            return DROP_AWAITING_KEYFRAME
        downtrack_start(d, p, now_us)
    out_seq[0] = rewriter_map(r, p.ext_seq)
    if out_seq[0] > r.highest_out + MAX_GAP:
        # Measured on what goes out, for numbers that were left out count too: a jump of 2**15 would
        # cost the receiver its rollover counter, and this SSRC with it (RFC 3711 section 3.3.1).
        rewriter_rebase(r, p.ext_seq)
        out_seq[0] = rewriter_map(r, p.ext_seq)
        if d.is_video:
            uptrack_want_keyframe(d.source)
    if out_seq[0] == 0:
        return DROP_TOO_LATE
    out_timestamp[0] = p.timestamp + r.timestamp_offset
    rewriter_sent(r, p.ext_seq, out_seq[0], out_timestamp[0], now_us)
    return DROP_NONE


cdef DropReason downtrack_emit(WorkerCore *w, DownTrack *d, const Packet *p, uint64_t out_seq,
                               uint32_t timestamp) noexcept nogil:
    """Write the packet for this subscriber, encrypt it and queue it.  Precondition: decide took it."""
    cdef Transport *t = d.transport
    cdef StoredPacket *stored = NULL
    cdef uint8_t *q
    cdef size_t length
    # mid in every packet until the peer has shown that it knows the SSRC (design 1.5).
    cdef bint with_mid = not d.is_acknowledged and d.config.extension_ids[EXT_MID] != NO_EXTENSION
    if d.history != NULL:
        stored = history_place(d.history, out_seq)
        if stored != NULL and stored.queued_us == w.now_us:
            send_flush(w)                # what it held may still wait in this batch
    q = &stored.bytes[0] if stored != NULL else send_slot(w)
    length = rtp_write(q, p, d.config, with_mid, d.ssrc, out_seq, timestamp, w.now_us)
    if not srtp_seal(w, t, q, &length):
        return DROP_PROTECT
    if stored != NULL:
        stored.ext_seq = out_seq
        stored.queued_us = w.now_us
        stored.length = <uint32_t>length
        stored.repeated_us = 0
        stored.repeats = 0
    send_push(w, t.selected, q, length)
    counter_add(&d.packets, 1)
    counter_add(&d.bytes, length)
    if p.red_length == 0:
        counter_add(&d.octets, p.payload_length)
    elif red_is_wanted(p, d.config):
        counter_add(&d.octets, p.red_length)
    else:
        counter_add(&d.octets, p.payload_length)
        counter_add(&w.counters[COUNT_RED_STRIPPED], 1)
    counter_add(&w.counters[COUNT_RTP_DOWN], 1)
    return DROP_NONE


cdef inline uint64_t repeat_wait_us(const DownTrack *d) noexcept nogil:
    """Return how long a repeat is not repeated: a round trip, less an eighth that the peer may be early."""
    cdef uint64_t rtt_us = d.transport.rtt_us
    return rtt_us - (rtt_us >> 3) if rtt_us > MIN_REPEAT_US else MIN_REPEAT_US


cdef void downtrack_retransmit(WorkerCore *w, DownTrack *d, uint64_t out_seq) noexcept nogil:
    """Emit a packet once more as RTX: from the publication's own copy, under a new number.

    What was repeated in vain goes out twice: one more loss and the picture would stand still.
    """
    cdef const Range *sent = rewriter_unmap(&d.rewriter, out_seq)
    cdef KeptPacket *kept
    cdef Repeated *repeated = &d.repeated[out_seq & (KEPT_PACKETS - 1)]
    cdef uint16_t cycle = <uint16_t>(out_seq // KEPT_PACKETS)
    cdef uint32_t now_ms = <uint32_t>(w.now_us // 1000)
    if sent == NULL or d.source == NULL or d.is_switching:
        return
    kept = uptrack_find(d.source, sent.ssrc, out_seq - sent.offset)
    if kept == NULL or w.now_us - kept.arrival_us > KEPT_US or kept.packet.payload_length == 0 \
            or d.config.rtx_payload_types[kept.packet.codec] == NO_PAYLOAD_TYPE:
        return
    if repeated.cycle != cycle:
        repeated.cycle = cycle
        repeated.tries = 0
    if repeated.tries == MAX_NACK_TRIES \
            or (repeated.tries and <uint64_t>(now_ms - repeated.ms) * 1000 < repeat_wait_us(d)):
        return
    repeated.ms = now_ms
    repeated.tries += 1
    downtrack_emit_rtx(w, d, kept, sent, out_seq)
    if repeated.tries > 1:
        downtrack_emit_rtx(w, d, kept, sent, out_seq)


cdef void downtrack_emit_rtx(WorkerCore *w, DownTrack *d, const KeptPacket *kept, const Range *sent,
                             uint64_t out_seq) noexcept nogil:
    """Write a kept packet as RTX, encrypt it and queue it."""
    cdef bint with_mid = not d.is_acknowledged and d.config.extension_ids[EXT_MID] != NO_EXTENSION
    cdef uint8_t *q = send_slot(w)
    cdef size_t length
    d.rtx_seq += 1
    length = rtx_write(q, &kept.packet, d.config, with_mid, d.config.rtx_ssrc, d.rtx_seq,
                       kept.packet.timestamp + sent.timestamp_offset, out_seq, w.now_us)
    if not srtp_seal(w, d.transport, q, &length):
        drop(w, DROP_PROTECT)
        return
    send_push(w, d.transport.selected, q, length)
    counter_add(&d.repeats, 1)
    counter_add(&w.counters[COUNT_REPEATS], 1)


cdef inline void downtrack_prefetch(const DownTrack *d, size_t length) noexcept nogil:
    """Fetch what the next packet of this subscriber will write: its place in History is cold."""
    if d.history != NULL:
        prefetch_write(<const uint8_t *>&d.history.packets[(d.rewriter.highest_out + 1) & (HISTORY_PACKETS - 1)],
                       sizeof(StoredPacket) - SLOT_BYTES + length + TRAILER_BYTES)


cdef void downtrack_repeat(WorkerCore *w, DownTrack *d, uint16_t seq) noexcept nogil:
    """Answer one lost number of a NACK: by RTX, or with the stored ciphertext.

    The first NACK is answered at once, another one for the same packet not before the last copy
    can have arrived (one RTT), and no more than MAX_NACK_TRIES times: what a peer asks for costs us
    only so much.
    """
    cdef uint64_t out_seq = seq_extend(d.rewriter.highest_out, seq)
    cdef StoredPacket *stored = NULL
    cdef uint8_t *q
    if out_seq > d.rewriter.highest_out:
        return                               # not sent yet
    if d.config.has_rtx:
        downtrack_retransmit(w, d, out_seq)
        return
    if d.history != NULL:
        stored = history_find(d.history, out_seq)
    if stored == NULL or stored.repeats == MAX_NACK_TRIES or w.now_us - stored.repeated_us < repeat_wait_us(d):
        return
    stored.repeated_us = w.now_us
    stored.repeats += 1
    q = send_slot(w)                     # a copy: the stored one may be replaced before the flush
    memcpy(q, stored.bytes, stored.length)
    send_push(w, d.transport.selected, q, stored.length)
    counter_add(&d.repeats, 1)
    counter_add(&w.counters[COUNT_REPEATS], 1)


cdef void downtrack_attach(DownTrack *d, UpTrack *u) noexcept nogil:
    """Make ``u`` the source.  Precondition: the DownTrack is idle."""
    d.source = u
    d.is_switching = True
    d.previous_subscriber = NULL
    d.next_subscriber = u.downtracks
    if u.downtracks != NULL:
        u.downtracks.previous_subscriber = d
    u.downtracks = d


cdef void downtrack_detach(DownTrack *d) noexcept nogil:
    """Play nothing; numbering stays where it is (design 1.4), and so does what waits."""
    if d.source == NULL:
        return
    if d.previous_subscriber != NULL:
        d.previous_subscriber.next_subscriber = d.next_subscriber
    else:
        d.source.downtracks = d.next_subscriber
    if d.next_subscriber != NULL:
        d.next_subscriber.previous_subscriber = d.previous_subscriber
    d.source = NULL
    d.next_subscriber = NULL
    d.previous_subscriber = NULL


cdef void downtrack_await(DownTrack *d, UpTrack *u) noexcept nogil:
    """Let ``u`` take over at its next key frame.  Precondition: nothing else waits here."""
    d.pending = u
    d.previous_waiting = NULL
    d.next_waiting = u.waiting
    if u.waiting != NULL:
        u.waiting.previous_waiting = d
    u.waiting = d


cdef void downtrack_forgo(DownTrack *d) noexcept nogil:
    """Wait for no other source any more."""
    if d.pending == NULL:
        return
    if d.previous_waiting != NULL:
        d.previous_waiting.next_waiting = d.next_waiting
    else:
        d.pending.waiting = d.next_waiting
    if d.next_waiting != NULL:
        d.next_waiting.previous_waiting = d.previous_waiting
    d.pending = NULL
    d.next_waiting = NULL
    d.previous_waiting = NULL


cdef void downtrack_connect(DownTrack *d, UpTrack *u) noexcept nogil:
    """Change the source: a picture that plays goes on until the new one can start, all else ends at once."""
    downtrack_forgo(d)
    if d.source == u:
        return
    if d.is_video and d.source != NULL and not d.is_switching:
        downtrack_await(d, u)
    else:
        downtrack_detach(d)
        downtrack_attach(d, u)


cdef void uptrack_relieve(UpTrack *u, const Packet *p) noexcept nogil:
    """Let those who wait for ``u`` have it from this key frame on; ask for one if it is none.

    Who cannot decode the codec goes on with what it has.
    """
    cdef DownTrack *d = u.waiting
    cdef DownTrack *following
    while d != NULL:
        following = d.next_waiting
        if p.payload_length and d.config.payload_types[p.codec] != NO_CODEC:
            if p.is_keyframe:
                downtrack_forgo(d)
                downtrack_detach(d)
                downtrack_attach(d, u)
            else:
                uptrack_want_keyframe(u)
        d = following


cdef void uptrack_abandon(UpTrack *u) noexcept nogil:
    """Let nobody play ``u`` or wait for it; a slot that plays something else goes on with that."""
    while u.downtracks != NULL:
        downtrack_detach(u.downtracks)
    while u.waiting != NULL:
        downtrack_forgo(u.waiting)
