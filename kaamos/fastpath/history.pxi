# Packets kept for NACK.  With RTX a repeat is a new packet, so one plaintext copy a publication serves
# all subscribers (Repair.kept).  Without it a repeat must be the very same bytes (design 1.4), so what
# is kept is ciphertext, one ring a DownTrack (History).


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


cdef void repair_keep(Repair *r, const Packet *p, uint64_t now_us) noexcept nogil:
    """Remember a packet, unless a newer one has its place.  Precondition: p.ext_seq is set."""
    cdef KeptPacket *kept = &r.kept[p.ext_seq & (KEPT_PACKETS - 1)]
    if kept.packet.ssrc == p.ssrc and kept.packet.ext_seq > p.ext_seq:
        return
    kept.packet = p[0]
    kept.packet.data = kept.bytes
    kept.arrival_us = now_us
    memcpy(kept.bytes, p.data, p.length)


cdef inline KeptPacket *repair_find(Repair *r, uint32_t ssrc, uint64_t ext_seq) noexcept nogil:
    """Return the kept packet with this SSRC and number, or NULL when it is gone or never came."""
    cdef KeptPacket *kept = &r.kept[ext_seq & (KEPT_PACKETS - 1)]
    return kept if kept.packet.ext_seq == ext_seq and kept.packet.ssrc == ssrc else NULL
