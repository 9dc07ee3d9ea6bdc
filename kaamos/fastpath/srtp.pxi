# SRTP and SRTCP by libsrtp through C function pointers (design 1.4).  One inbound session and one
# outbound session a transport; both are touched by the worker only.


cdef inline DropReason srtp_reason(int status) noexcept nogil:
    """Return the drop reason for a libsrtp status other than 0 (srtp_err_status_t)."""
    if status == 7:                     # srtp_err_status_auth_fail
        return DROP_SRTP_AUTH
    if status == 9 or status == 10:     # replay_fail, replay_old
        return DROP_SRTP_REPLAY
    return DROP_SRTP_OTHER


cdef inline DropReason srtp_open(WorkerCore *w, Transport *t, uint8_t *data, size_t *length) noexcept nogil:
    """Authenticate and decrypt an RTP packet in place; ``length`` becomes that of the plaintext."""
    cdef int size = <int>length[0]      # at most RECV_BYTES
    cdef int status = w.unprotect(t.rx, data, &size)
    if status != 0:
        return srtp_reason(status)
    length[0] = <size_t>size
    return DROP_NONE


cdef inline DropReason srtcp_open(WorkerCore *w, Transport *t, uint8_t *data, size_t *length) noexcept nogil:
    """Authenticate and decrypt an RTCP packet in place."""
    cdef int size = <int>length[0]
    if w.unprotect_rtcp(t.rx, data, &size) != 0:
        return DROP_SRTCP
    length[0] = <size_t>size
    return DROP_NONE


cdef inline bint srtp_seal(WorkerCore *w, Transport *t, uint8_t *data, size_t *length) noexcept nogil:
    """Encrypt an RTP packet in place.  Precondition: TRAILER_BYTES of room behind it.

    libsrtp refuses an (SSRC, index) that was used before, so a nonce cannot repeat; that we never
    ask for one is asserted in debug builds.
    """
    cdef int size = <int>length[0]
    cdef int status = w.protect(t.tx, data, &size)
    debug_assert(status != 9)           # srtp_err_status_replay_fail
    if status != 0:
        return False
    length[0] = <size_t>size
    return True


cdef inline bint srtcp_seal(WorkerCore *w, Transport *t, uint8_t *data, size_t *length) noexcept nogil:
    """Encrypt an RTCP packet in place.  Precondition: TRAILER_BYTES of room behind it."""
    cdef int size = <int>length[0]
    if w.protect_rtcp(t.tx, data, &size) != 0:
        return False
    length[0] = <size_t>size
    return True
