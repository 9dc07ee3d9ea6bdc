# What the worker tells and counts, as Python values.  Runs in the asyncio thread.


cdef tuple event_values(const EventHeader *header):
    """Return an event as Worker.take_events gives it."""
    cdef size_t size = 4 if header.family == 4 else 16
    return (header.subject_id, header.kind,
            PyBytes_FromStringAndSize(<char *>header + sizeof(EventHeader), header.length),
            PyBytes_FromStringAndSize(<char *>header.remote_ip, size), header.remote_port,
            PyBytes_FromStringAndSize(<char *>header.local_ip, size))


cdef dict counter_values(WorkerCore *w):
    """Return every counter and drop reason by name."""
    cdef int i
    values = {name: load_relaxed(&w.counters[i]) for i, name in enumerate(COUNTER_NAMES)}
    for i in range(1, DROP_REASONS):
        values["dropped_" + DROP_NAMES[i]] = load_relaxed(&w.dropped[i])
    return values


cdef dict level_values(dict uptracks, uint64_t interval):
    """Return the loudest level in an interval of each publication that sent one."""
    cdef uint64_t loudest
    values = {}
    for uptrack_id, address in uptracks.items():
        loudest = load_relaxed(&(<UpTrack *><uintptr_t>address).levels[interval & 1])
        if loudest >> 8 == interval:
            values[uptrack_id] = loudest & 127
    return values


cdef tuple uptrack_values(UpTrack *u):
    """Return what Worker.uptrack_stats lists."""
    return (load_relaxed(&u.packets), load_relaxed(&u.bytes), load_relaxed(&u.keyframes),
            load_relaxed(&u.keyframe_requests), load_relaxed(&u.lost), load_relaxed(&u.jitter_ticks))


cdef tuple downtrack_values(DownTrack *d):
    """Return what Worker.downtrack_stats lists."""
    cdef int i
    dropped = {DROP_NAMES[i]: load_relaxed(&d.dropped[i]) for i in range(1, DROP_REASONS)
               if load_relaxed(&d.dropped[i])}
    return (load_relaxed(&d.packets), load_relaxed(&d.bytes), load_relaxed(&d.repeats), load_relaxed(&d.nacks),
            load_relaxed(&d.keyframe_requests), load_relaxed(&d.lost), load_relaxed(&d.jitter_ticks),
            load_relaxed(&d.rtt_us), dropped)
