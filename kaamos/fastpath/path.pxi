# By which path a peer's media comes.


cdef void path_heard(WorkerCore *w, Transport *t) noexcept nogil:
    """Note an authentic packet of media; tell Python when media has moved to another bound path.

    A peer whose NAT gave it another port does not know that, so it does not nominate the new path;
    but who nominates a path sends there.  So media on one path while the selected one is silent says
    where the peer is.  Whether anything may be sent there is Python's to say: ICE must have had an answer.
    """
    cdef EventHeader header
    cdef const Path *path = w.path
    store_relaxed(&t.last_received_us, w.now_us)
    if path == t.selected:
        t.selected_heard_us = w.now_us
    elif path != NULL and t.selected != NULL and w.now_us >= t.selected_heard_us + MOVED_US \
            and w.now_us >= t.moved_told_us + MOVED_INTERVAL_US:
        header.length = 0
        header.subject_id = t.id
        header.kind = EVENT_MOVED
        header.remote_port = path.remote_port
        header.family = path.family
        memcpy(header.remote_ip, path.remote_ip, 16)
        memcpy(header.local_ip, path.local_ip, 16)
        t.moved_told_us = w.now_us
        if event_push(&w.known, &header, path.remote_ip):      # else: told again soon
            w.has_events = True
