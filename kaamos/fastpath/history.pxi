# Packets kept for NACK.  Without RTX a repeat must be the very same bytes (design 1.4), so what is
# kept is ciphertext, one ring a DownTrack.


cdef inline StoredPacket *history_place(History *h, uint64_t ext_seq) noexcept nogil:
    """Return where the packet may be written, emptied, or NULL when a newer one lives there."""
    cdef StoredPacket *stored = &h.packets[ext_seq & (HISTORY_PACKETS - 1)]
    if stored.ext_seq > ext_seq:
        return NULL
    stored.ext_seq = 0
    return stored


cdef inline StoredPacket *history_find(History *h, uint64_t ext_seq) noexcept nogil:
    """Return the packet with this outgoing number, or NULL when it is gone."""
    cdef StoredPacket *stored = &h.packets[ext_seq & (HISTORY_PACKETS - 1)]
    return stored if stored.ext_seq == ext_seq else NULL
