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
    """Remember a packet.  Precondition: repair_knows returned False."""
    cdef KeptPacket *kept = &r.kept[p.ext_seq & r.kept_mask]
    kept.packet = p[0]
    kept.packet.data = kept.bytes
    kept.arrival_us = now_us
    memcpy(kept.bytes, p.data, p.length)


cdef inline KeptPacket *repair_find(Repair *r, uint32_t ssrc, uint64_t ext_seq) noexcept nogil:
    """Return the kept packet with this SSRC and number, or NULL when it is gone or never came."""
    cdef KeptPacket *kept = &r.kept[ext_seq & r.kept_mask]
    return kept if kept.packet.ext_seq == ext_seq and kept.packet.ssrc == ssrc else NULL


cdef inline bint repair_knows(const Repair *r, const Packet *p) noexcept nogil:
    """Tell whether the packet came before, or is so old that nobody can say: its place holds a newer one.

    Nothing is forwarded twice, for that would be one number for two packets (design 1.4).
    """
    cdef const KeptPacket *kept = &r.kept[p.ext_seq & r.kept_mask]
    return kept.packet.ssrc == p.ssrc and kept.packet.ext_seq >= p.ext_seq


cdef void repair_forget(Repair *r, uint32_t ssrc) noexcept nogil:
    """Forget the packets of an SSRC whose extended numbers may start over."""
    cdef uint64_t i
    for i in range(r.kept_mask + 1):
        if r.kept[i].packet.ssrc == ssrc:
            r.kept[i].packet.ssrc = 0
            r.kept[i].packet.ext_seq = 0
    if r.ssrc == ssrc:
        r.highest = 0                    # missing_note starts anew
