# System calls of the packet path: one recvmmsg in, one sendmmsg out.  Nowhere else.


cdef void udp_prepare(WorkerCore *w) noexcept nogil:
    """Point every message of both batches to its buffers, once."""
    cdef int i
    for i in range(RECV_BATCH):
        w.recv_iov[i].iov_base = w.recv_slots[i]
        w.recv_iov[i].iov_len = RECV_BYTES
        w.recv_messages[i].msg_hdr.msg_iov = &w.recv_iov[i]
        w.recv_messages[i].msg_hdr.msg_iovlen = 1
        w.recv_messages[i].msg_hdr.msg_name = w.recv_names[i]
        w.recv_messages[i].msg_hdr.msg_control = w.recv_controls[i]
    for i in range(SEND_BATCH):
        w.send_messages[i].msg_hdr.msg_iov = &w.send_iov[i]
        w.send_messages[i].msg_hdr.msg_iovlen = 1


cdef inline void drop(WorkerCore *w, DropReason reason) noexcept nogil:
    counter_add(&w.dropped[reason], 1)


cdef int udp_receive(WorkerCore *w, int fd) noexcept nogil:
    """Fill the receive slots with what waits on ``fd``; return how many datagrams came."""
    cdef int i
    cdef int count
    for i in range(RECV_BATCH):
        w.recv_messages[i].msg_hdr.msg_namelen = 32
        w.recv_messages[i].msg_hdr.msg_controllen = CONTROL_BYTES
    count = recvmmsg(fd, w.recv_messages, RECV_BATCH, MSG_DONTWAIT, NULL)
    return count if count > 0 else 0


cdef void send_flush(WorkerCore *w) noexcept nogil:
    """Send the batch.  What the kernel does not take now is dropped and counted: a media packet
    that waits is worth less than the next one."""
    cdef uint32_t done = 0
    cdef uint64_t octets = 0
    cdef uint32_t i
    cdef int sent
    cdef int error
    while done < w.send_count:
        sent = sendmmsg(w.send_fd, w.send_messages + done, w.send_count - done, MSG_DONTWAIT)
        if sent > 0:
            for i in range(done, done + <uint32_t>sent):
                octets += w.send_iov[i].iov_len
            counter_add(&w.counters[COUNT_DATAGRAMS_DOWN], <uint64_t>sent)
            done += <uint32_t>sent
            continue
        error = last_errno()
        if error == EINTR:
            continue
        if error == EAGAIN or error == ENOBUFS:
            counter_add(&w.dropped[DROP_SEND_BUFFER_FULL], w.send_count - done)
            break
        drop(w, DROP_SEND_ERROR)        # this one destination: go on behind it
        done += 1
    counter_add(&w.counters[COUNT_BYTES_DOWN], octets)
    w.send_count = 0


cdef inline uint8_t *send_slot(WorkerCore *w) noexcept nogil:
    """Return SLOT_BYTES to write the next datagram into; it counts once send_push is called."""
    if w.send_count == SEND_BATCH:
        send_flush(w)
    return w.send_slots[w.send_count]


cdef inline void send_push(WorkerCore *w, const Path *path, uint8_t *data, size_t length) noexcept nogil:
    """Queue a datagram.  ``data`` is the current send slot or memory that outlives the flush."""
    cdef int fd = w.fd4 if path.family == 4 else w.fd6
    cdef mmsghdr *message
    cdef uint32_t slot = w.send_count
    if slot == SEND_BATCH or (slot and fd != w.send_fd):
        send_flush(w)
        if slot < SEND_BATCH and data == w.send_slots[slot]:
            # The batch starts over, and this slot would be handed out again while it waits.
            memcpy(w.send_slots[0], data, length)
            data = w.send_slots[0]
    w.send_fd = fd
    message = &w.send_messages[w.send_count]
    w.send_iov[w.send_count].iov_base = data
    w.send_iov[w.send_count].iov_len = length
    message.msg_hdr.msg_name = <void *>path.name
    message.msg_hdr.msg_namelen = path.name_length
    if path.needs_source:
        message.msg_hdr.msg_control = <void *>path.control
        message.msg_hdr.msg_controllen = path.control_length
    else:
        message.msg_hdr.msg_control = NULL
        message.msg_hdr.msg_controllen = 0
    w.send_count += 1
