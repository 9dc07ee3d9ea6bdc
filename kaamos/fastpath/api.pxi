# Where Python and C meet.  Every method runs in the asyncio thread, but for Worker.run.


@cython.no_gc_clear                      # __dealloc__ walks the dicts to free what they point to
cdef class Worker:
    """One native thread with its sockets, tables and tracks.

    ``fd4`` and ``fd6`` are bound, non-blocking UDP sockets that receive packet information (-1: not
    in use); they belong to the caller and must outlive :meth:`run`.  The four function addresses
    are libsrtp's.  ``seed`` is 64 random bits.
    """

    def __cinit__(self, int fd4, int fd6=-1, uintptr_t protect=0, uintptr_t unprotect=0, uintptr_t protect_rtcp=0,
                  uintptr_t unprotect_rtcp=0, uint64_t seed=1):
        cdef WorkerCore *w = <WorkerCore *>allocate(sizeof(WorkerCore))
        cdef epoll_event event
        self.core = w
        w.epoll_fd = w.command_fd = w.event_fd = -1
        self.transports = {}
        self.credentials = {}
        self.paths = {}
        self.bound = {}
        self.selected = {}
        self.uptracks = {}
        self.downtracks = {}
        self.configs = {}
        self.tracks = {}
        self.repairs = {}
        self.histories = {}
        self.twccs = {}
        self.sessions = {}
        self.retired = deque()
        w.fd4 = fd4
        w.fd6 = fd6
        w.protect = <srtp_fn>protect
        w.unprotect = <srtp_fn>unprotect
        w.protect_rtcp = <srtp_fn>protect_rtcp
        w.unprotect_rtcp = <srtp_fn>unprotect_rtcp
        w.hash_seed = seed
        w.random = seed | 1
        w.level_interval = 1
        self.path_mask = w.paths.mask = 1023
        self.ufrag_mask = w.ufrags.mask = 1023
        w.paths.entries = <TableEntry *>allocate(1024 * sizeof(TableEntry))
        w.ufrags.entries = <TableEntry *>allocate(1024 * sizeof(TableEntry))
        self.path_entries = <uintptr_t>w.paths.entries
        self.ufrag_entries = <uintptr_t>w.ufrags.entries
        udp_prepare(w)
        w.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        w.command_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        w.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if w.epoll_fd < 0 or w.command_fd < 0 or w.event_fd < 0:
            raise OSError(last_errno(), "epoll or eventfd")
        for fd in (fd4, fd6, w.command_fd):
            if fd >= 0:
                event.events = EPOLLIN
                event.data.u64 = fd
                if epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0:
                    raise OSError(last_errno(), "epoll_ctl")

    def __dealloc__(self):
        """Free everything.  Precondition: run has returned (Engine.close joins the thread)."""
        cdef WorkerCore *w = self.core
        if w == NULL:
            return
        for _, address, _ in self.retired:
            free(<void *><uintptr_t>address)
        for owned in (self.configs, self.twccs, self.histories, self.uptracks, self.downtracks, self.transports,
                      *self.credentials.values()):
            for address in owned.values():
                free(<void *><uintptr_t>address)
        for addresses in self.repairs.values():
            for address in addresses:
                free(<void *><uintptr_t>address)
        for _, address in self.paths.values():
            free(<void *><uintptr_t>address)
        free(<void *>self.path_entries)
        free(<void *>self.ufrag_entries)
        for fd in (w.epoll_fd, w.command_fd, w.event_fd):
            if fd >= 0:
                close(fd)
        free(w)

    def run(self):
        """Be the worker thread until :meth:`stop`; holds no GIL."""
        with nogil:
            worker_run(self.core)

    def stop(self):
        """Make :meth:`run` return after the commands given so far."""
        cdef uint64_t one = 1
        store_release(&self.core.is_stopping, 1)
        write(self.core.command_fd, &one, 8)

    @property
    def event_fd(self):
        """File descriptor that becomes readable when :meth:`take_events` has something."""
        return self.core.event_fd

    # Commands: room is checked first, so that a method is done wholly or not at all.
    cdef void need_room(self, uint64_t commands) except *:
        self.reclaim()
        if COMMANDS - (self.core.commands.head - load_acquire(&self.core.commands.tail)) < commands:
            raise OverflowError("the command ring is full: the media worker does not answer")

    cdef uint64_t push(self, uint64_t kind, void *subject, void *object, uint64_t value):
        cdef uint64_t one = 1
        command_push(&self.core.commands, kind, subject, object, value)
        write(self.core.command_fd, &one, 8)
        return self.core.commands.head

    cdef void retire(self, void *address, object keep):
        """Free ``address`` and drop ``keep`` once the worker has done every command pushed so far."""
        self.retired.append((self.core.commands.head, <uintptr_t>address, keep))

    cdef void reclaim(self):
        cdef uint64_t done = load_acquire(&self.core.commands.tail)
        while self.retired and self.retired[0][0] <= done:
            free(<void *><uintptr_t>self.retired.popleft()[1])

    cdef void need_entry(self, Table *table, uint64_t *mask, uintptr_t *entries, uint64_t count) except *:
        """Let a table of the worker with ``count`` entries grow before one more would make it half full."""
        cdef void *grown
        if (count + 1) * 2 > mask[0]:
            grown = allocate((mask[0] + 1) * 2 * sizeof(TableEntry))
            mask[0] = mask[0] * 2 + 1
            self.push(CMD_GROW_TABLE, grown, table, mask[0])
            self.retire(<void *>entries[0], None)
            entries[0] = <uintptr_t>grown

    cdef Transport *transport(self, uint32_t transport_id) except NULL:
        return <Transport *><uintptr_t>self.transports[transport_id]

    cdef UpTrack *uptrack(self, uint32_t uptrack_id) except NULL:
        return <UpTrack *><uintptr_t>self.uptracks[uptrack_id]

    cdef DownTrack *downtrack(self, uint32_t downtrack_id) except NULL:
        return <DownTrack *><uintptr_t>self.downtracks[downtrack_id]

    # -- transports

    def add_transport(self, bytes ufrag, bytes pwd, bytes cname, uint32_t rtcp_ssrc):
        """Return the id of a new transport whose peers use these local ICE credentials."""
        cdef Transport *t
        cdef Credential *c
        self.need_room(3)
        t = <Transport *>allocate(sizeof(Transport))
        try:
            t.cname_length = <uint8_t>copy_bytes(t.cname, cname, MAX_CNAME)
            c = make_credential(t, ufrag, pwd)
        except BaseException:
            free(t)
            raise
        t.rtcp_ssrc = rtcp_ssrc
        self.next_id += 1
        t.id = self.next_id
        self.transports[t.id] = <uintptr_t>t
        self.bound[t.id] = {}
        self.tracks[t.id] = {}
        self.credentials[t.id] = {}
        self.push(CMD_ADD_TRANSPORT, t, NULL, 0)
        self.link_credential(c, ufrag)
        return t.id

    cdef void link_credential(self, Credential *c, bytes ufrag) except *:
        """Let peers reach its transport by this, too.  Precondition: room for two commands."""
        self.need_entry(&self.core.ufrags, &self.ufrag_mask, &self.ufrag_entries, self.credential_count)
        self.credentials[c.transport.id][ufrag] = <uintptr_t>c
        self.credential_count += 1
        self.push(CMD_ADD_CREDENTIAL, c, NULL, 0)

    def add_credentials(self, uint32_t transport_id, bytes ufrag, bytes pwd):
        """Let an ICE restart begin: peers reach the transport by these credentials, too."""
        cdef Transport *t = self.transport(transport_id)
        self.need_room(2)
        if len(self.credentials[transport_id]) == MAX_GENERATIONS:
            raise ValueError("a transport has two generations of ICE credentials at most")
        self.link_credential(make_credential(t, ufrag, pwd), ufrag)

    def remove_credentials(self, uint32_t transport_id, bytes ufrag):
        """Let nobody in by these any more; KeyError when the transport has not got them."""
        cdef uintptr_t address
        self.need_room(1)
        address = self.credentials[transport_id].pop(ufrag)
        self.credential_count -= 1
        self.push(CMD_REMOVE_CREDENTIAL, <void *>address, NULL, 0)
        self.retire(<void *>address, None)

    def deselect(self, uint32_t transport_id):
        """Send the transport's media nowhere until a path is selected again."""
        cdef Transport *t = self.transport(transport_id)
        self.need_room(1)
        self.selected.pop(transport_id, None)
        self.push(CMD_DESELECT, t, NULL, 0)

    def remove_transport(self, uint32_t transport_id):
        """Say BYE and forget the transport with its paths and tracks; return the ids of the tracks.

        KeyError when unknown.
        """
        cdef Transport *t = self.transport(transport_id)
        self.need_room(1 + MAX_PATHS)
        self.push(CMD_REMOVE_TRANSPORT, t, NULL, 0)
        for key in list(self.bound[transport_id]):
            self.unbind(transport_id, key)
        # Nothing is reachable from here on; what follows is freed when the commands above are done.
        track_ids = list(self.tracks[transport_id])
        for track_id in track_ids:
            self.forget_track(transport_id, track_id)
        self.retire(<void *><uintptr_t>self.twccs.pop(transport_id, 0), None)
        for credential in self.credentials.pop(transport_id).values():
            self.credential_count -= 1
            self.retire(<void *><uintptr_t>credential, None)
        self.retire(t, self.sessions.pop(transport_id, None))
        self.selected.pop(transport_id, None)
        del self.bound[transport_id]
        del self.tracks[transport_id]
        del self.transports[transport_id]
        return track_ids

    def set_keys(self, uint32_t transport_id, uintptr_t rx, uintptr_t tx, object keep):
        """Give a transport its libsrtp sessions; ``keep`` owns them and lives as long as they are used."""
        cdef Transport *t = self.transport(transport_id)
        cdef Keys *keys
        self.need_room(1)
        if transport_id in self.sessions:
            raise ValueError("a transport gets its keys once: new ones would repeat nonces")
        keys = <Keys *>allocate(sizeof(Keys))
        keys.rx = <void *>rx
        keys.tx = <void *>tx
        self.sessions[transport_id] = keep
        self.push(CMD_KEYS, t, keys, 0)
        self.retire(keys, None)

    def bind_path(self, uint32_t transport_id, bytes remote_ip, uint16_t remote_port, bytes local_ip,
                  bint needs_source, bint select):
        """Let datagrams of this path belong to the transport; ``select``: and send its media there.

        Addresses are 4 or 16 bytes, both of one family.  Return False, and change nothing, when
        the path belongs to another transport that was heard of within PATH_LEASE_US: a NAT may hand
        an address on, but a peer must not take a living one by forging the source of its checks.
        """
        cdef Transport *t = self.transport(transport_id)
        cdef Path *p
        cdef bytes key
        if len(remote_ip) != len(local_ip) or len(remote_ip) not in (4, 16):
            raise ValueError("addresses of one family, please")
        self.need_room(5)
        key = remote_ip + local_ip + remote_port.to_bytes(2, "big")
        owner, address = self.paths.get(key, (0, 0))
        if owner == transport_id:
            self.bound[transport_id][key] = self.bound[transport_id].pop(key)   # the youngest again
            if select:
                self.selected[transport_id] = key
                self.push(CMD_SELECT, <void *><uintptr_t>address, NULL, 0)
            return True
        if owner:
            if clock_us() < load_relaxed(&self.transport(owner).last_received_us) + PATH_LEASE_US:
                return False
            self.unbind(owner, key)
        if len(self.bound[transport_id]) == MAX_PATHS:   # forget the oldest that is not in use
            self.unbind(transport_id, next(k for k in self.bound[transport_id] if k != self.selected.get(transport_id)))
        self.need_entry(&self.core.paths, &self.path_mask, &self.path_entries, <uint64_t>len(self.paths))
        p = make_path(t, remote_ip, remote_port, local_ip, needs_source)
        self.paths[key] = (transport_id, <uintptr_t>p)
        self.bound[transport_id][key] = None
        self.push(CMD_BIND, p, NULL, 0)
        if select:
            self.selected[transport_id] = key
            self.push(CMD_SELECT, p, NULL, 0)
        return True

    cdef void unbind(self, uint32_t transport_id, bytes key):
        """Forget a path that this transport has."""
        cdef void *p = <void *><uintptr_t>self.paths.pop(key)[1]
        del self.bound[transport_id][key]
        if self.selected.get(transport_id) == key:
            del self.selected[transport_id]
        self.push(CMD_UNBIND, p, NULL, 0)
        self.retire(p, None)

    def last_received_us(self, uint32_t transport_id):
        """Return when the peer last proved itself (CLOCK_MONOTONIC), 0 if never."""
        return load_relaxed(&self.transport(transport_id).last_received_us)

    # -- tracks

    def add_uptrack(self, uint32_t transport_id, tuple settings):
        """Return the id of a new publication; ``settings`` as make_up_config takes them."""
        cdef Transport *t = self.transport(transport_id)
        cdef UpConfig *config
        cdef UpTrack *u
        self.need_room(2 + MAX_LAYERS)
        config = make_up_config(settings)
        u = <UpTrack *>allocate(sizeof(UpTrack))
        if config.has_transport_cc:
            self.need_twcc(transport_id)
        u.transport = t
        u.config = config
        u.codec = u.told_codec = NO_CODEC
        self.next_id += 1
        u.id = self.next_id
        self.uptracks[u.id] = <uintptr_t>u
        self.configs[u.id] = <uintptr_t>config
        self.tracks[transport_id][u.id] = None
        if config.is_video:
            self.need_repairs(u.id, config.layer_count)
        self.push(CMD_ADD_UPTRACK, u, NULL, 0)
        return u.id

    def update_uptrack(self, uint32_t uptrack_id, tuple settings):
        """Replace what was negotiated for a publication."""
        cdef UpTrack *u = self.uptrack(uptrack_id)
        cdef UpConfig *config
        self.need_room(2 + MAX_LAYERS)
        config = make_up_config(settings)
        if config.has_transport_cc:
            self.need_twcc(u.transport.id)
        if config.is_video:
            self.need_repairs(uptrack_id, config.layer_count)
        self.push(CMD_UPDATE_UPTRACK, u, config, 0)
        self.retire(<void *><uintptr_t>self.configs[uptrack_id], None)
        self.configs[uptrack_id] = <uintptr_t>config

    cdef void need_repairs(self, uint32_t uptrack_id, uint32_t layers) except *:
        """Give each layer what it keeps against loss: the best one most, for it sends most."""
        cdef Repair *r
        addresses = self.repairs.setdefault(uptrack_id, [])
        for i in range(len(addresses), layers):
            r = make_repair(max(KEPT_PACKETS >> (layers - 1 - i), MIN_KEPT_PACKETS))
            addresses.append(<uintptr_t>r)
            self.push(CMD_ADD_LAYER, self.uptrack(uptrack_id), r, i)

    cdef void need_twcc(self, uint32_t transport_id):
        """Let the transport's arrivals be told from now on."""
        cdef Twcc *twcc
        if transport_id not in self.twccs:
            twcc = <Twcc *>allocate(sizeof(Twcc))
            self.twccs[transport_id] = <uintptr_t>twcc
            self.push(CMD_TWCC, self.transport(transport_id), twcc, 0)

    def remove_uptrack(self, uint32_t uptrack_id):
        """Forget a publication; who received it becomes idle."""
        cdef UpTrack *u = self.uptrack(uptrack_id)
        self.need_room(1)
        self.push(CMD_REMOVE_UPTRACK, u, NULL, 0)
        self.forget_track(u.transport.id, uptrack_id)

    cdef void forget_track(self, uint32_t transport_id, uint32_t track_id):
        """Free a track after the commands pushed so far."""
        cdef uintptr_t address = self.uptracks.pop(track_id, 0)
        if address:
            for repair in self.repairs.pop(track_id, ()):
                self.retire(<void *><uintptr_t>repair, None)
        else:
            address = self.downtracks.pop(track_id)
            self.retire(<void *><uintptr_t>self.histories.pop(track_id, 0), None)
        self.retire(<void *>address, None)
        self.retire(<void *><uintptr_t>self.configs.pop(track_id), None)
        del self.tracks[transport_id][track_id]

    def add_downtrack(self, uint32_t transport_id, bint is_video, uint32_t ssrc, uint16_t first_seq,
                      uint32_t first_timestamp, uint16_t first_rtx_seq, tuple settings):
        """Return the id of a new slot; it lives as long as its transport.

        First numbers are below 2**15, so that the receiver cannot take the first wrap for reordering
        (RFC 3711 section 3.3.1).  ``settings`` as make_down_config takes them.
        """
        cdef Transport *t = self.transport(transport_id)
        cdef DownConfig *config
        cdef DownTrack *d
        self.need_room(1)
        if first_seq >= 1 << 15 or first_rtx_seq >= 1 << 15:
            raise ValueError("first numbers must be below 2**15")
        config = make_down_config(settings)
        d = <DownTrack *>allocate(sizeof(DownTrack))
        d.transport = t
        d.config = config
        d.ssrc = ssrc
        d.rtx_seq = (1 << 16) + <uint64_t>first_rtx_seq
        d.is_video = is_video
        d.rewriter.highest_out = (1 << 16) + <uint64_t>first_seq - 1
        d.rewriter.last_timestamp = first_timestamp
        self.next_id += 1
        d.id = self.next_id
        self.downtracks[d.id] = <uintptr_t>d
        self.configs[d.id] = <uintptr_t>config
        self.tracks[transport_id][d.id] = None
        if config.needs_history:
            d.history = self.history(d.id)
        self.push(CMD_ADD_DOWNTRACK, d, NULL, 0)
        return d.id

    cdef History *history(self, uint32_t downtrack_id) except NULL:
        """Return the slot's History, made when it is needed first and kept as long as the slot."""
        if downtrack_id not in self.histories:
            self.histories[downtrack_id] = <uintptr_t>allocate(sizeof(History))
        return <History *><uintptr_t>self.histories[downtrack_id]

    def update_downtrack(self, uint32_t downtrack_id, tuple settings):
        """Replace what was negotiated for a slot; repeats go out as it says from now on.

        ValueError for another RTX SSRC than it had: its numbers must go on.
        """
        cdef DownTrack *d = self.downtrack(downtrack_id)
        cdef DownConfig *before = <DownConfig *><uintptr_t>self.configs[downtrack_id]
        cdef DownConfig *config
        self.need_room(2)
        config = make_down_config(settings)
        if config.rtx_ssrc and before.rtx_ssrc and config.rtx_ssrc != before.rtx_ssrc:
            free(config)
            raise ValueError("a slot keeps its RTX SSRC for life")
        if before.rtx_ssrc:
            config.rtx_ssrc = before.rtx_ssrc
        self.push(CMD_UPDATE_DOWNTRACK, d, config, 0)
        self.push(CMD_HISTORY, d, self.history(downtrack_id) if config.needs_history else NULL, 0)
        self.retire(<void *><uintptr_t>self.configs[downtrack_id], None)
        self.configs[downtrack_id] = <uintptr_t>config

    def connect(self, uint32_t downtrack_id, uint32_t uptrack_id):
        """Let the slot play the publication: audio at once, video from its next key frame, which is asked for."""
        cdef DownTrack *d = self.downtrack(downtrack_id)
        cdef UpTrack *u = self.uptrack(uptrack_id)
        self.need_room(1)
        self.push(CMD_CONNECT, d, u, 0)

    def disconnect(self, uint32_t downtrack_id):
        """Make the slot idle."""
        cdef DownTrack *d = self.downtrack(downtrack_id)
        self.need_room(1)
        self.push(CMD_DISCONNECT, d, NULL, 0)

    # -- events and statistics

    def take_events(self, bint strangers, int limit):
        """Return up to ``limit`` events, oldest first.  ``strangers``: datagrams that came by no known path.

        Of a datagram it is (transport id, EventKind, datagram, remote address, remote port, local
        address), the addresses as 4 or 16 bytes; of a codec (publication id, 2, codec id as one byte,
        and nothing of use).
        """
        cdef EventRing *ring = &self.core.strangers if strangers else &self.core.known
        cdef EventHeader *header
        cdef list events = []
        while len(events) < limit:
            header = event_peek(ring)
            if header == NULL:
                break
            events.append(event_values(header))
            event_pop(ring, header)
        return events

    def clear_event_fd(self):
        """Make the event file descriptor unreadable until the next event."""
        cdef uint64_t junk
        read(self.core.event_fd, &junk, 8)

    def counters(self):
        """Return every counter and drop reason by its lower-case name."""
        return counter_values(self.core)

    def audio_levels(self):
        """Return {publication id: loudest RFC 6464 level since the last call}; for one caller only.

        0 is loudest, 127 silence; only of audio that sent levels since.  A packet that arrives at this
        very moment may fall between two calls.
        """
        cdef uint64_t interval = self.core.level_interval
        store_relaxed(&self.core.level_interval, interval + 1)
        return level_values(self.uptracks, interval)

    def cpu_seconds(self):
        """Return (user, system) CPU seconds of the worker thread, at most a tick old."""
        return load_relaxed(&self.core.cpu_user_us) * 1e-6, load_relaxed(&self.core.cpu_system_us) * 1e-6

    def uptrack_stats(self, uint32_t uptrack_id):
        """Return (packets, bytes, key frames, key frame requests sent, lost, jitter in ticks)."""
        return uptrack_values(self.uptrack(uptrack_id))

    def downtrack_stats(self, uint32_t downtrack_id):
        """Return (packets, bytes, repeats, NACKs, key frame requests, lost, jitter in ticks, RTT in us,
        {drop reason: packets})."""
        return downtrack_values(self.downtrack(downtrack_id))
