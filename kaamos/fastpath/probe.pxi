# Single chapters as Python functions, for tests, fuzzing and benchmarks.  The server uses none of it.


cdef void read_extension_ids(uint8_t *kind_by_id, list extensions) except *:
    memset(kind_by_id, EXTENSION_KINDS, 16)
    for kind, identifier in extensions:
        if not 1 <= identifier <= 14 or not 0 <= kind < EXTENSION_KINDS:
            raise ValueError("extension out of range")
        kind_by_id[<uint8_t>identifier] = kind


cdef uint8_t *slot_of(bytes data, uint8_t *slot) except NULL:
    """Copy a datagram to where the worker would have received it."""
    copy_bytes(slot, data, RECV_BYTES)
    return slot


def classify(bytes data):
    """Return the DatagramClass number of a datagram of at least MIN_DATAGRAM bytes."""
    if len(data) < MIN_DATAGRAM:
        raise ValueError("too short to be classed")
    return datagram_class(<const uint8_t *>PyBytes_AsString(data), <size_t>len(data))


def extend_sequence(uint64_t newest, uint16_t seq):
    """Return the extended number closest to ``newest`` with these low 16 bits."""
    return seq_extend(newest, seq)


def parse_packet(bytes data, list extensions, uint64_t repeat=1):
    """Return the parsed header as a dict, or None when lengths lie.

    ``extensions``: (kind, id) to look for.  ``repeat``: parse so often, for benchmarks.
    """
    cdef uint8_t slot[SLOT_BYTES]
    cdef uint8_t kind_by_id[16]
    cdef Packet p
    cdef bint fits = False
    cdef size_t length = <size_t>len(data)
    cdef uint64_t i
    cdef uint8_t kind
    slot_of(data, slot)
    read_extension_ids(kind_by_id, extensions)
    with nogil:
        for i in range(repeat):
            fits = packet_parse(&p, slot, length)
            if fits:
                packet_read_extensions(&p, kind_by_id)
    if not fits:
        return None
    found = {kind: data[p.ext_at[kind]:p.ext_at[kind] + p.ext_length[kind]]
             for kind in range(EXTENSION_KINDS) if p.ext_at[kind]}
    return {
        "payload_offset": p.payload_offset, "payload_length": p.payload_length, "ssrc": p.ssrc,
        "timestamp": p.timestamp, "seq": p.seq, "payload_type": p.payload_type, "marker": p.marker,
        "csrc_count": p.csrc_count, "extensions": found,
    }


def rewrite_packet(bytes data, list extensions_up, list extensions_down, bytes mid, bint with_mid, uint32_t ssrc,
                   uint64_t out_seq, uint32_t timestamp, uint8_t payload_type, uint64_t repeat=1,
                   bint allows_two_byte=False, uint64_t now_us=0):
    """Return the packet as a subscriber gets it, before encryption; None when it does not parse."""
    cdef uint8_t slot[SLOT_BYTES]
    cdef uint8_t written[SLOT_BYTES]
    cdef uint8_t kind_by_id[16]
    cdef DownConfig *config
    cdef Packet p
    cdef size_t length = <size_t>len(data)
    cdef uint64_t i
    slot_of(data, slot)
    read_extension_ids(kind_by_id, extensions_up)
    if not packet_parse(&p, slot, length):
        return None
    packet_read_extensions(&p, kind_by_id)
    p.codec = 0
    config = make_down_config((mid, b"", [(0, payload_type)], extensions_down, False, 0, [], allows_two_byte))
    with nogil:
        for i in range(repeat):
            length = rtp_write(written, &p, config, with_mid and config.extension_ids[EXT_MID] != NO_EXTENSION, ssrc,
                               out_seq + i, timestamp, now_us)
    free(config)
    return PyBytes_FromStringAndSize(<char *>written, <Py_ssize_t>length)


def is_keyframe(uint8_t payload_format, bytes payload):
    """Tell whether a receiver can start at a packet with this payload (PayloadFormat)."""
    return codec_is_keyframe(payload_format, <const uint8_t *>PyBytes_AsString(payload), <size_t>len(payload))


def hmac_sha1_of(bytes key, bytes head, bytes data):
    """Return HMAC-SHA1 over ``head`` then ``data``."""
    cdef uint8_t digest[20]
    hmac_sha1(<const uint8_t *>PyBytes_AsString(key), <size_t>len(key), <const uint8_t *>PyBytes_AsString(head),
              <size_t>len(head), <const uint8_t *>PyBytes_AsString(data), <size_t>len(data), digest)
    return PyBytes_FromStringAndSize(<char *>digest, 20)


def crc32_of(bytes data):
    """Return the CRC-32 of STUN's FINGERPRINT, before its XOR."""
    return crc32(<const uint8_t *>PyBytes_AsString(data), <size_t>len(data))


def parse_stun(bytes data):
    """Return (username, integrity offset, has ICE-CONTROLLED, has unknown), or None when malformed."""
    cdef uint8_t slot[SLOT_BYTES]
    cdef StunRequest r
    slot_of(data, slot)
    if not stun_is_message(slot, <size_t>len(data)) or not stun_parse_request(&r, slot, <size_t>len(data)):
        return None
    username = None
    if r.username != NULL:
        username = PyBytes_FromStringAndSize(<char *>r.username, <Py_ssize_t>r.username_length)
    return username, r.integrity_at, r.has_controlled, r.has_unknown


def stun_integrity_ok(bytes data, size_t integrity_at, bytes pwd):
    """Check MESSAGE-INTEGRITY; ``integrity_at`` as parse_stun returned it."""
    if integrity_at < 20 or integrity_at + 24 > <size_t>len(data):
        raise ValueError("no attribute there")
    return stun_integrity_fits(<const uint8_t *>PyBytes_AsString(data), integrity_at,
                               <const uint8_t *>PyBytes_AsString(pwd), <size_t>len(pwd))


def stun_success(bytes request, bytes remote_ip, uint16_t remote_port, bytes pwd):
    """Return the success response to a binding request from this address (4 or 16 bytes)."""
    cdef uint8_t written[SLOT_BYTES]
    cdef Path p
    if len(request) < 20:
        raise ValueError("not a STUN message")
    memset(&p, 0, sizeof(Path))
    copy_bytes(p.remote_ip, remote_ip, 16)
    p.family = 4 if len(remote_ip) == 4 else 6
    p.remote_port = remote_port
    return PyBytes_FromStringAndSize(<char *>written, <Py_ssize_t>stun_write_success(
        written, <const uint8_t *>PyBytes_AsString(request), &p, <const uint8_t *>PyBytes_AsString(pwd), <size_t>len(pwd)))


def is_rtcp_compound(bytes data):
    """Tell whether headers and lengths fill the datagram exactly."""
    return rtcp_is_compound(<const uint8_t *>PyBytes_AsString(data), <size_t>len(data))


cdef class RewriterProbe:
    """One Rewriter; numbers are extended ones, ``map`` returns 0 for "too late"."""
    cdef Rewriter r

    def __cinit__(self, uint16_t first_seq, uint32_t first_timestamp):
        memset(&self.r, 0, sizeof(Rewriter))
        self.r.highest_out = (1 << 16) + <uint64_t>first_seq - 1
        self.r.last_timestamp = first_timestamp

    def start(self, uint64_t in_seq, uint32_t timestamp, uint32_t clock_rate, uint64_t now_us):
        self.r.range_count = 0
        rewriter_start(&self.r, 0, in_seq, timestamp, rewriter_elapsed(&self.r, clock_rate, now_us))

    def switch(self, uint32_t ssrc, uint64_t in_seq, uint32_t timestamp, uint32_t elapsed):
        """Go on with another layer, ``elapsed`` ticks after the newest packet."""
        rewriter_start(&self.r, ssrc, in_seq, timestamp, elapsed)

    def rebase(self, uint64_t in_seq):
        rewriter_rebase(&self.r, in_seq)

    def skip(self, uint64_t in_seq):
        rewriter_skip(&self.r, in_seq)

    def map(self, uint64_t in_seq):
        return rewriter_map(&self.r, in_seq)

    def unmap(self, uint64_t out_seq):
        """Return (SSRC, incoming number), or None when it is forgotten."""
        cdef const Range *sent = rewriter_unmap(&self.r, out_seq)
        return None if sent == NULL else (sent.ssrc, out_seq - sent.offset)

    def send(self, uint64_t in_seq, uint32_t timestamp, uint64_t now_us):
        """Map and note a packet; return (outgoing number, outgoing timestamp), or None when too late."""
        cdef uint64_t out = rewriter_map(&self.r, in_seq)
        if out == 0:
            return None
        rewriter_sent(&self.r, in_seq, out, timestamp + self.r.timestamp_offset, now_us)
        return out, <uint32_t>(timestamp + self.r.timestamp_offset)


cdef int keep_plain(void *session, void *packet, int *length) noexcept nogil:
    """Stands in for all four libsrtp functions: no encryption."""
    return 0


cdef class ManualWorker(Worker):
    """A Worker without thread, encryption and clock: tests feed it one datagram at a time.

    ``fd4`` is a real, non-blocking UDP socket: what the worker sends goes out there, in the clear.
    Times are arguments: microseconds and 32.32 NTP.
    """

    def __cinit__(self, int fd4):
        self.core.protect = self.core.unprotect = keep_plain
        self.core.protect_rtcp = self.core.unprotect_rtcp = keep_plain

    def apply(self, uint64_t now_us, uint64_t now_ntp):
        """Carry out the commands that wait."""
        self.core.now_us = now_us
        self.core.now_ntp = now_ntp
        worker_commands(self.core)

    def receive(self, uint32_t transport_id, bytes data, uint64_t now_us, uint64_t now_ntp):
        """Take a plaintext RTP or RTCP datagram of at least MIN_DATAGRAM bytes; return a drop reason or None."""
        cdef uint8_t slot[SLOT_BYTES]
        cdef DropReason reason
        cdef Transport *t = self.transport(transport_id)
        self.core.now_us = now_us
        self.core.now_ntp = now_ntp
        slot_of(data, slot)
        if datagram_class(slot, <size_t>len(data)) == CLASS_RTCP:
            reason = rtcp_receive(self.core, t, slot, <size_t>len(data))
        else:
            reason = worker_forward(self.core, t, slot, <size_t>len(data))
        send_flush(self.core)
        return None if reason == DROP_NONE else DROP_NAMES[reason]

    def datagram(self, bytes data, bytes remote_ip, uint16_t remote_port, bytes local_ip, uint64_t now_us,
                 uint64_t now_ntp):
        """Take any datagram as if it had come from this address to that one; return a drop reason or None."""
        cdef WorkerCore *w = self.core
        cdef uint8_t remote[16]
        cdef uint8_t local[16]
        cdef uint8_t family = 4 if len(remote_ip) == 4 else 6
        cdef DropReason reason
        copy_bytes(remote, remote_ip, 16)
        copy_bytes(local, local_ip, 16)
        slot_of(data, w.recv_slots[0])
        w.now_us = now_us
        w.now_ntp = now_ntp
        w.recv_messages[0].msg_len = <unsigned int>len(data)
        w.recv_messages[0].msg_hdr.msg_flags = 0
        w.recv_messages[0].msg_hdr.msg_namelen = sockaddr_write(w.recv_names[0], remote, remote_port, family)
        w.recv_messages[0].msg_hdr.msg_controllen = pktinfo_write(w.recv_controls[0], local, family)
        reason = worker_datagram(w, 0)
        send_flush(w)
        return None if reason == DROP_NONE else DROP_NAMES[reason]

    def tick(self, uint64_t now_us, uint64_t now_ntp):
        """Look at the timers."""
        self.core.now_us = now_us
        self.core.now_ntp = now_ntp
        worker_tick(self.core)


cdef class PacketRun:
    """``count`` copies of a packet with rising numbers, to be encrypted and decrypted in one go."""
    cdef uint8_t *slots
    cdef int *lengths
    cdef uint32_t count

    def __cinit__(self, bytes packet, uint16_t first_seq, uint32_t count):
        cdef uint32_t i
        self.count = count
        self.slots = <uint8_t *>allocate(<size_t>count * SLOT_BYTES)
        self.lengths = <int *>allocate(<size_t>count * sizeof(int))
        for i in range(count):
            self.lengths[i] = <int>copy_bytes(self.slots + <size_t>i * SLOT_BYTES, packet, RECV_BYTES)
            wr16(self.slots + <size_t>i * SLOT_BYTES + 2, <uint16_t>(first_seq + i))

    def __dealloc__(self):
        free(self.slots)
        free(self.lengths)

    def apply(self, uintptr_t function, uintptr_t session):
        """Call a libsrtp function on every packet, without the GIL; return how many it refused."""
        cdef srtp_fn f = <srtp_fn>function
        cdef uint32_t refused = 0
        cdef uint32_t i
        with nogil:
            for i in range(self.count):
                if f(<void *>session, self.slots + <size_t>i * SLOT_BYTES, &self.lengths[i]) != 0:
                    refused += 1
        return refused

    def packets(self):
        """Return what the packets are now."""
        cdef uint32_t i
        return [PyBytes_FromStringAndSize(<char *>self.slots + <size_t>i * SLOT_BYTES, self.lengths[i])
                for i in range(self.count)]
