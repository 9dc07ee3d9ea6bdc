# The worker: one thread's turn, from waiting to sending, and the commands between turns.
# Only this chapter composes the others.


cdef DropReason worker_forward(WorkerCore *w, Transport *t, uint8_t *data, size_t length) noexcept nogil:
    """Take one SRTP packet of a publisher to every subscriber (style: one row a step)."""
    cdef Packet p
    cdef Stream *s
    cdef UpTrack *u
    cdef Layer *layer
    cdef DownTrack *d
    cdef DownTrack *following
    cdef PayloadType *payload_type
    cdef bint is_repair
    cdef DropReason reason
    cdef DropReason unwanted
    cdef uint64_t answered_us
    cdef uint64_t out_seq = 0
    cdef uint32_t out_timestamp = 0
    cdef uint32_t ssrc
    if length < 12:
        return DROP_RTP_MALFORMED
    if t.rx == NULL:
        return DROP_NO_KEYS
    ssrc = rd32(data + 8)
    s = stream_find(t, ssrc)
    if s == NULL and stream_place(t, w.now_us) < 0:
        return DROP_TOO_MANY_SSRCS
    reason = srtp_open(w, t, data, &length)
    if reason != DROP_NONE:
        return reason
    path_heard(w, t)
    if s == NULL:
        s = stream_add(t, ssrc, w.now_us)
    if not packet_parse(&p, data, length):
        return DROP_RTP_MALFORMED
    reason = stream_place_in(t, s, &p, w.now_us)
    if reason != DROP_NONE:
        return reason
    u = s.uptrack
    layer = &u.layers[s.layer]
    if p.ext_at[EXT_TRANSPORT_CC] and p.ext_length[EXT_TRANSPORT_CC] >= 2 and t.twcc != NULL:
        twcc_arrived(t.twcc, rd16(data + p.ext_at[EXT_TRANSPORT_CC]), w.now_us)
    payload_type = &u.config.payload_types[p.payload_type]
    is_repair = payload_type.rtx_of != NO_PAYLOAD_TYPE
    if is_repair:
        reason = stream_receive(s, &p, RTX_CLOCK_RATE, w.now_us)
        if reason == DROP_NONE:
            reason = rtx_unwrap(t, u, layer, &p)
        if reason != DROP_NONE:
            return reason
        payload_type = &u.config.payload_types[p.payload_type]
    if payload_type.codec == NO_CODEC:
        return DROP_UNKNOWN_PAYLOAD_TYPE
    p.codec = payload_type.codec
    p.clock_rate = payload_type.clock_rate
    if not is_repair:
        reason = stream_receive(s, &p, payload_type.clock_rate, w.now_us)
        if reason != DROP_NONE:
            return reason
        if not layer_takes(u, layer, s, w.now_us):
            return DROP_INACTIVE_STREAM
        if u.config.layer_count > 1 and p.payload_length:
            uptrack_choose(u, s.layer, &p, w.now_us)
    if payload_type.format == FORMAT_RED and p.payload_length and not red_read(&p, u.config.payload_types):
        return DROP_RED_MALFORMED
    p.is_best = s.layer == u.best
    if layer.repair != NULL:
        if repair_knows(layer.repair, &p):
            return DROP_DUPLICATE            # it came both ways
        if is_repair:
            counter_add(&w.counters[COUNT_REPAIRED], 1)
            answered_us = missing_answered_us(layer.repair, &p, w.now_us)
            if answered_us:
                rtt_take(t, answered_us)
        if not missing_note(layer.repair, &p, w.now_us) and p.is_best:
            uptrack_want_keyframe(u)
        repair_keep(layer.repair, &p, w.now_us)
    counter_add(&w.counters[COUNT_RTP_UP], 1)
    counter_add(&u.packets, 1)
    counter_add(&u.bytes, length)
    if p.is_best and not is_repair and p.payload_length and p.ext_seq == s.ext_seq:
        u.codec = p.codec
        if u.codec != u.told_codec:
            uptrack_tell_codec(w, u)
    if p.ext_at[EXT_AUDIO_LEVEL] and not u.config.is_video:
        uptrack_hear(w, u, data[p.ext_at[EXT_AUDIO_LEVEL]] & 127)
    # Nobody starts at a repaired packet: what follows it has gone by already.
    p.is_keyframe = not is_repair and codec_is_keyframe(payload_type.format, data + p.payload_offset, p.payload_length)
    if p.is_keyframe and u.config.is_video:
        layer.wants_keyframe = False
        counter_add(&u.keyframes, 1)
    if u.waiting != NULL and p.is_best:
        uptrack_relieve(u, &p)
    unwanted = DROP_NONE if p.is_best else DROP_UNWANTED_LAYER      # unless somebody still follows it
    d = u.downtracks
    while d != NULL:
        following = d.next_subscriber
        if following != NULL and p.is_best:
            downtrack_prefetch(following, length)
        if p.is_best or downtrack_follows(d, &p):
            unwanted = DROP_NONE
            reason = downtrack_decide(d, &p, w.now_us, &out_seq, &out_timestamp)
            if reason == DROP_NONE:
                reason = downtrack_emit(w, d, &p, out_seq, out_timestamp)
            if reason != DROP_NONE:
                counter_add(&d.dropped[reason], 1)
                drop(w, reason)
        d = following
    return unwanted


cdef DropReason worker_raise(WorkerCore *w, EventRing *ring, Transport *t, DatagramClass kind, const Path *path,
                             const uint8_t *data, size_t length) noexcept nogil:
    """Hand a datagram to the asyncio thread, within what one peer may cost it.

    A bucket each for DTLS and STUN, which holds RAISE_BURST datagrams and fills by one each
    RAISE_INTERVAL_US: a handshake with all its checks takes a few dozen, and who floods data
    channels keeps its consent.
    """
    cdef EventHeader header
    cdef uint64_t *credit_us = &t.raise_credit_us[1 if kind == CLASS_DTLS else 0]
    if credit_us[0] + RAISE_BURST * RAISE_INTERVAL_US < w.now_us:
        credit_us[0] = w.now_us - RAISE_BURST * RAISE_INTERVAL_US
    if credit_us[0] >= w.now_us:
        return DROP_RATE_LIMITED
    credit_us[0] += RAISE_INTERVAL_US
    header.length = <uint32_t>length
    header.subject_id = t.id
    header.kind = EVENT_DTLS if kind == CLASS_DTLS else EVENT_STUN
    header.remote_port = path.remote_port
    header.family = path.family
    memcpy(header.remote_ip, path.remote_ip, 16)
    memcpy(header.local_ip, path.local_ip, 16)
    if not event_push(ring, &header, data):
        return DROP_EVENT_RING_FULL
    w.has_events = True
    counter_add(&w.counters[COUNT_DTLS_RAISED if kind == CLASS_DTLS else COUNT_STUN_RAISED], 1)
    return DROP_NONE


cdef DropReason worker_stun(WorkerCore *w, Path *from_path, Path *bound, uint8_t *data, size_t length) noexcept nogil:
    """Check a STUN message; answer it here when it only keeps a known path alive, else raise it.

    Requests are looked up by ufrag even on a bound path: a port may be used again by a new
    connection.  The check of an ICE restart is aioice's even on the path in use.  What fails its
    integrity check is dropped, not answered: nobody is amplified.
    """
    cdef StunRequest r
    cdef Credential *c
    cdef Transport *t
    cdef uint8_t *q
    cdef size_t i = 0
    cdef DropReason reason
    cdef uint16_t kind = rd16(data)
    if not stun_is_message(data, length):
        return DROP_STUN_MALFORMED
    if kind == 0x0101 or kind == 0x0111:         # answers to aioice's own checks
        if bound == NULL:
            return DROP_UNKNOWN_PATH
        return worker_raise(w, &w.known, bound.transport, CLASS_STUN, bound, data, length)
    if kind != 0x0001:                           # an indication, or not a binding at all
        return DROP_STUN_UNEXPECTED
    if not stun_parse_request(&r, data, length):
        return DROP_STUN_MALFORMED
    if r.username == NULL or r.integrity_at == 0:
        return DROP_STUN_MALFORMED
    while i < r.username_length and r.username[i] != 58:     # ufrag of ours, colon, ufrag of theirs
        i += 1
    c = ufrag_find(&w.ufrags, r.username, i, w.hash_seed)
    if c == NULL:
        return DROP_STUN_UNKNOWN_UFRAG
    if not stun_integrity_fits(data, r.integrity_at, c.pwd, c.pwd_length):
        return DROP_STUN_BAD_INTEGRITY
    t = c.transport
    store_relaxed(&t.last_received_us, w.now_us)
    if bound != NULL and bound.transport == t and bound == t.selected and c == t.credentials \
            and not r.has_controlled and not r.has_unknown:
        q = send_slot(w)
        send_push(w, bound, q, stun_write_success(q, data, bound, c.pwd, c.pwd_length))
        counter_add(&w.counters[COUNT_STUN_ANSWERED], 1)
        return DROP_NONE
    if bound != NULL and bound.transport == t:
        reason = worker_raise(w, &w.known, t, CLASS_STUN, from_path, data, length)
    else:
        reason = worker_raise(w, &w.strangers, t, CLASS_STUN, from_path, data, length)
    return reason


cdef DropReason worker_datagram(WorkerCore *w, uint32_t index) noexcept nogil:
    """Class a datagram, find its path, and give it to who handles it (RFC 7983)."""
    cdef msghdr *m = &w.recv_messages[index].msg_hdr
    cdef size_t length = w.recv_messages[index].msg_len
    cdef uint8_t *data = w.recv_slots[index]
    cdef DatagramClass kind
    cdef DropReason reason
    cdef Path from_path
    cdef Path *bound
    counter_add(&w.counters[COUNT_BYTES_UP], length)
    if length < MIN_DATAGRAM:
        return DROP_SHORT
    if m.msg_flags & MSG_TRUNC:
        return DROP_OVERSIZE
    kind = datagram_class(data, length)
    if kind == CLASS_UNKNOWN:
        return DROP_UNKNOWN_CLASS
    if not sockaddr_read(m.msg_name, from_path.remote_ip, &from_path.remote_port, &from_path.family) \
            or not pktinfo_read(m, from_path.local_ip):
        return DROP_NO_ADDRESS
    bound = path_find(&w.paths, &from_path, w.hash_seed)
    if kind == CLASS_STUN:
        return worker_stun(w, &from_path, bound, data, length)
    if bound == NULL:
        return DROP_UNKNOWN_PATH
    if kind == CLASS_DTLS:
        return worker_raise(w, &w.known, bound.transport, CLASS_DTLS, bound, data, length)
    w.path = bound
    if kind == CLASS_RTP:
        reason = worker_forward(w, bound.transport, data, length)
    else:
        w.now_ntp = clock_ntp()              # round-trip times want better than a tick
        reason = rtcp_receive(w, bound.transport, data, length)
    w.path = NULL
    return reason


cdef bint worker_receive(WorkerCore *w, int fd) noexcept nogil:
    """Handle one batch from a socket.  Return True when there may be more."""
    cdef int count = udp_receive(w, fd)
    cdef int i
    cdef DropReason reason
    if count == 0:
        return False
    w.now_us = clock_us()
    counter_add(&w.counters[COUNT_DATAGRAMS_UP], <uint64_t>count)
    for i in range(count):
        reason = worker_datagram(w, <uint32_t>i)
        if reason != DROP_NONE:
            drop(w, reason)
    send_flush(w)       # History hands out memory that must have left before the next batch
    return count == RECV_BATCH


cdef void credential_link(WorkerCore *w, Credential *c) noexcept nogil:
    """Let peers reach its transport by it; behind those that are there."""
    cdef Credential **link = &c.transport.credentials
    while link[0] != NULL:                       # at most MAX_GENERATIONS
        link = &link[0].next
    link[0] = c
    table_insert(&w.ufrags, hash_bytes(c.ufrag, c.ufrag_length, w.hash_seed), c)


cdef void credential_unlink(WorkerCore *w, Credential *c) noexcept nogil:
    """Let nobody in by it any more.  Precondition: it is linked."""
    cdef Credential **link = &c.transport.credentials
    while link[0] != c:
        link = &link[0].next
    link[0] = c.next
    table_remove(&w.ufrags, hash_bytes(c.ufrag, c.ufrag_length, w.hash_seed), c)


cdef void transport_unlink(WorkerCore *w, Transport *t) noexcept nogil:
    """Take a transport and its tracks out of everything the worker can reach."""
    cdef UpTrack *u = t.uptracks
    cdef DownTrack *d = t.downtracks
    rtcp_say_bye(w, t)
    send_flush(w)       # queued datagrams point into paths and histories that will be freed
    while u != NULL:
        uptrack_abandon(u)
        u = u.next
    while d != NULL:
        downtrack_forgo(d)
        downtrack_detach(d)
        d = d.next
    while t.credentials != NULL:
        credential_unlink(w, t.credentials)
    if t.previous != NULL:
        t.previous.next = t.next
    else:
        w.transports = t.next
    if t.next != NULL:
        t.next.previous = t.previous


cdef void uptrack_unlink(WorkerCore *w, UpTrack *u) noexcept nogil:
    """Take a publication out: nobody receives it, its SSRCs belong to nobody."""
    cdef Transport *t = u.transport
    cdef UpTrack **link = &t.uptracks
    cdef uint32_t i
    uptrack_abandon(u)
    while link[0] != u:
        link = &link[0].next
    link[0] = u.next
    for i in range(t.stream_count):
        if t.streams[i].uptrack == u:
            t.streams[i].uptrack = NULL
            t.streams[i].has_packets = False
            t.streams[i].has_moved = False


cdef void worker_apply(WorkerCore *w, const Command *c) noexcept nogil:
    """Carry out one command of the asyncio thread."""
    cdef Transport *t = <Transport *>c.subject
    cdef UpTrack *u = <UpTrack *>c.subject
    cdef DownTrack *d = <DownTrack *>c.subject
    cdef Path *path = <Path *>c.subject
    if c.kind == CMD_CONNECT:
        u = <UpTrack *>c.object
        downtrack_connect(d, u)
        if d.is_video and (d.pending == u or d.is_switching):
            uptrack_want_keyframe(u)
            rtcp_ask_keyframe(w, u)
    elif c.kind == CMD_DISCONNECT:
        downtrack_forgo(d)
        downtrack_detach(d)
    elif c.kind == CMD_BIND:
        table_insert(&w.paths, path_hash(path, w.hash_seed), path)
    elif c.kind == CMD_UNBIND:
        send_flush(w)
        table_remove(&w.paths, path_hash(path, w.hash_seed), path)
        if path.transport.selected == path:
            path.transport.selected = NULL
    elif c.kind == CMD_SELECT:
        path.transport.selected = path
        path.transport.selected_heard_us = w.now_us
    elif c.kind == CMD_DESELECT:
        t.selected = NULL
    elif c.kind == CMD_ADD_CREDENTIAL:
        credential_link(w, <Credential *>c.subject)
    elif c.kind == CMD_REMOVE_CREDENTIAL:
        credential_unlink(w, <Credential *>c.subject)
    elif c.kind == CMD_KEYS:
        t.rx = (<Keys *>c.object).rx
        t.tx = (<Keys *>c.object).tx
    elif c.kind == CMD_ADD_TRANSPORT:
        t.previous = NULL
        t.next = w.transports
        if w.transports != NULL:
            w.transports.previous = t
        w.transports = t
    elif c.kind == CMD_REMOVE_TRANSPORT:
        transport_unlink(w, t)
    elif c.kind == CMD_ADD_UPTRACK:
        u.next = u.transport.uptracks
        u.transport.uptracks = u
    elif c.kind == CMD_UPDATE_UPTRACK:
        uptrack_configure(u, <UpConfig *>c.object)
    elif c.kind == CMD_ADD_LAYER:
        u.layers[c.value].repair = <Repair *>c.object
    elif c.kind == CMD_REMOVE_UPTRACK:
        uptrack_unlink(w, u)
    elif c.kind == CMD_ADD_DOWNTRACK:
        d.next = d.transport.downtracks
        d.transport.downtracks = d
    elif c.kind == CMD_UPDATE_DOWNTRACK:
        d.config = <DownConfig *>c.object
    elif c.kind == CMD_HISTORY:
        d.history = <History *>c.object
    elif c.kind == CMD_TWCC:
        t.twcc = <Twcc *>c.object
    elif c.kind == CMD_GROW_TABLE:
        table_replace(<Table *>c.object, <TableEntry *>c.subject, c.value)


cdef void worker_commands(WorkerCore *w) noexcept nogil:
    """Apply what waits in the command ring; a cell is acknowledged when it is done."""
    cdef uint64_t head = load_acquire(&w.commands.head)
    cdef uint64_t tail = w.commands.tail
    if head == tail:
        return
    while tail != head:
        worker_apply(w, &w.commands.cells[tail & (COMMANDS - 1)])
        tail += 1
        store_release(&w.commands.tail, tail)
    send_flush(w)


cdef uint64_t worker_random(WorkerCore *w) noexcept nogil:
    """xorshift64*: spreads report times, nothing more."""
    w.random ^= w.random >> 12
    w.random ^= w.random << 25
    w.random ^= w.random >> 27
    return w.random * <uint64_t>0x2545F4914F6CDD1D


cdef void worker_tick(WorkerCore *w) noexcept nogil:
    """Look at the timers: reports, feedback, what is missing, unanswered key frame requests."""
    cdef Transport *t = w.transports
    cdef UpTrack *u
    cdef double user = 0
    cdef double system = 0
    while t != NULL:
        u = t.uptracks
        while u != NULL:
            uptrack_tell_codec(w, u)
            u = u.next
        if t.tx != NULL and t.selected != NULL:
            if w.now_us >= t.next_report_us:
                # RFC 3550 section 6.3.1: 0.5 to 1.5 of the interval, so that reports do not march in step
                t.next_report_us = w.now_us + REPORT_INTERVAL_US // 2 + worker_random(w) % REPORT_INTERVAL_US
                rtcp_report_up(w, t)
                rtcp_report_down(w, t)
            u = t.uptracks
            while u != NULL:
                rtcp_ask_keyframe(w, u)
                rtcp_ask_repairs(w, u)
                u = u.next
            rtcp_report_arrivals(w, t)
        t = t.next
    send_flush(w)
    thread_cpu(&user, &system)
    store_relaxed(&w.cpu_user_us, <uint64_t>(user * 1e6))
    store_relaxed(&w.cpu_system_us, <uint64_t>(system * 1e6))


cdef void worker_run(WorkerCore *w) noexcept nogil:
    """The thread: wait, apply commands, move packets, look at timers; until told to stop."""
    cdef epoll_event events[4]
    cdef bint more4 = False
    cdef bint more6 = False
    cdef int count
    cdef int i
    cdef uint64_t one = 1
    cdef uint64_t junk = 0
    w.now_us = clock_us()
    w.now_ntp = clock_ntp()
    while not load_acquire(&w.is_stopping):
        # Asked even while one socket has more, or a flood of one family would silence the other.
        count = epoll_wait(w.epoll_fd, events, 4, 0 if more4 or more6 else TICK_US // 1000)
        for i in range(count):
            if <int>events[i].data.u64 == w.fd4:
                more4 = True
            elif <int>events[i].data.u64 == w.fd6:
                more6 = True
            else:
                read(w.command_fd, &junk, 8)
        w.now_us = clock_us()
        worker_commands(w)
        if more4:
            more4 = worker_receive(w, w.fd4)
        if more6:
            more6 = worker_receive(w, w.fd6)
        if w.now_us >= w.next_tick_us:
            w.next_tick_us = w.now_us + TICK_US
            w.now_ntp = clock_ntp()
            worker_tick(w)
        if w.has_events:
            w.has_events = False
            write(w.event_fd, &one, 8)
        counter_add(&w.counters[COUNT_TURNS], 1)
    worker_commands(w)                   # the goodbyes that were asked for before the stop
