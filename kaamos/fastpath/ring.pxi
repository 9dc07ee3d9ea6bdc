# The rings between asyncio thread and worker, and the hash tables that only the worker reads.


cdef bint command_push(CommandRing *r, uint64_t kind, void *subject, void *object, uint64_t value) noexcept nogil:
    """Add a command (asyncio thread).  Return False, and change nothing, when the ring is full."""
    cdef uint64_t head = r.head
    cdef Command *cell
    if head - load_acquire(&r.tail) == COMMANDS:
        return False
    cell = &r.cells[head & (COMMANDS - 1)]
    cell.kind = kind
    cell.subject = subject
    cell.object = object
    cell.value = value
    store_release(&r.head, head + 1)    # publishes the cell
    return True


cdef bint event_push(EventRing *r, const EventHeader *header, const uint8_t *data) noexcept nogil:
    """Copy one datagram in (worker).  Return False, and change nothing, when it does not fit."""
    cdef uint64_t head = r.head
    cdef uint64_t room = EVENT_BYTES - (head - load_acquire(&r.tail))
    cdef size_t at = head & (EVENT_BYTES - 1)
    cdef size_t need = (sizeof(EventHeader) + header.length + 7) & ~<size_t>7
    cdef size_t rest = EVENT_BYTES - at
    cdef uint32_t filler = 0xFFFFFFFFu
    if rest < need:                     # a record does not wrap: fill the end and start over
        if room < rest + need:
            return False
        memcpy(r.bytes + at, &filler, 4)
        head += rest
        at = 0
    elif room < need:
        return False
    memcpy(r.bytes + at, header, sizeof(EventHeader))
    memcpy(r.bytes + at + sizeof(EventHeader), data, header.length)
    store_release(&r.head, head + need)
    return True


cdef EventHeader *event_peek(EventRing *r) noexcept nogil:
    """Return the oldest event (asyncio thread), its datagram right behind it, or NULL when empty."""
    cdef uint64_t head = load_acquire(&r.head)
    cdef uint64_t tail = r.tail
    cdef EventHeader *header
    if tail == head:
        return NULL
    header = <EventHeader *>(r.bytes + (tail & (EVENT_BYTES - 1)))
    if header.length == 0xFFFFFFFFu:
        tail += EVENT_BYTES - (tail & (EVENT_BYTES - 1))
        store_release(&r.tail, tail)
        header = <EventHeader *>(r.bytes + (tail & (EVENT_BYTES - 1)))
    return header


cdef void event_pop(EventRing *r, const EventHeader *header) noexcept nogil:
    """Give the space of the event that event_peek returned back to the worker."""
    store_release(&r.tail, r.tail + ((sizeof(EventHeader) + header.length + 7) & ~<size_t>7))


cdef inline TableEntry *table_next(const Table *t, uint64_t hash, uint64_t *cursor) noexcept nogil:
    """Return the next entry with this hash, or NULL.  Start with ``cursor`` = hash."""
    cdef TableEntry *entry
    while True:                         # bounded: the table is at most half full
        entry = &t.entries[cursor[0] & t.mask]
        if entry.hash == 0:
            return NULL
        cursor[0] += 1
        if entry.hash == hash:
            return entry


cdef void table_insert(Table *t, uint64_t hash, void *item) noexcept nogil:
    """Add an item.  Precondition: the table is less than half full."""
    cdef uint64_t at = hash
    while t.entries[at & t.mask].hash != 0:
        at += 1
    t.entries[at & t.mask].hash = hash
    t.entries[at & t.mask].item = item


cdef void table_remove(Table *t, uint64_t hash, void *item) noexcept nogil:
    """Remove an item if it is there, moving later ones of its probe run back (no tombstones)."""
    cdef uint64_t hole = hash & t.mask
    cdef uint64_t at
    cdef uint64_t home
    while t.entries[hole].item != item:
        if t.entries[hole].hash == 0:
            return
        hole = (hole + 1) & t.mask
    at = hole
    while True:
        at = (at + 1) & t.mask
        if t.entries[at].hash == 0:
            break
        home = t.entries[at].hash & t.mask
        # The entry may fill the hole unless its home lies strictly between hole and entry.
        if ((at - home) & t.mask) >= ((at - hole) & t.mask):
            t.entries[hole] = t.entries[at]
            hole = at
    t.entries[hole].hash = 0
    t.entries[hole].item = NULL


cdef void table_replace(Table *t, TableEntry *entries, uint64_t mask) noexcept nogil:
    """Move everything into a larger, empty array.  The asyncio thread frees the old one."""
    cdef TableEntry *old = t.entries
    cdef uint64_t old_mask = t.mask
    cdef uint64_t i
    t.entries = entries
    t.mask = mask
    for i in range(old_mask + 1):
        if old[i].hash != 0:
            table_insert(t, old[i].hash, old[i].item)


cdef uint64_t path_hash(const Path *p, uint64_t seed) noexcept nogil:
    """Return the hash of remote address, local address and family (36 bytes, no padding between)."""
    return hash_bytes(p.remote_ip, 35, seed)


cdef Path *path_find(const Table *t, const Path *wanted, uint64_t seed) noexcept nogil:
    """Return the bound path equal to ``wanted``, or NULL."""
    cdef uint64_t hash = path_hash(wanted, seed)
    cdef uint64_t cursor = hash
    cdef TableEntry *entry = table_next(t, hash, &cursor)
    while entry != NULL:
        if memcmp(entry.item, wanted, 35) == 0:
            return <Path *>entry.item
        entry = table_next(t, hash, &cursor)
    return NULL


cdef Credential *ufrag_find(const Table *t, const uint8_t *ufrag, size_t length, uint64_t seed) noexcept nogil:
    """Return the local credential with this ufrag, or NULL."""
    cdef uint64_t hash = hash_bytes(ufrag, length, seed)
    cdef uint64_t cursor = hash
    cdef TableEntry *entry = table_next(t, hash, &cursor)
    cdef Credential *credential
    while entry != NULL:
        credential = <Credential *>entry.item
        if credential.ufrag_length == length and memcmp(credential.ufrag, ufrag, length) == 0:
            return credential
        entry = table_next(t, hash, &cursor)
    return NULL
