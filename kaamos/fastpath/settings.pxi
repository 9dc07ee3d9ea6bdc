# What Python knows, as structs the worker reads.  Runs in the asyncio thread.


cdef void *allocate(size_t size) except NULL:
    """Return zeroed memory; MemoryError when there is none."""
    cdef void *address = calloc(1, size)
    if address == NULL:
        raise MemoryError
    return address


cdef size_t copy_bytes(uint8_t *target, bytes source, size_t limit) except? 0xFFFF:
    """Copy a Python bytes object; ValueError when it is longer than ``limit``."""
    cdef size_t length = <size_t>PyBytes_GET_SIZE(source)
    if length > limit:
        raise ValueError(f"{length} bytes do not fit {limit}")
    memcpy(target, PyBytes_AsString(source), length)
    return length


cdef Credential *make_credential(Transport *t, bytes ufrag, bytes pwd) except NULL:
    """Return local ICE credentials; ValueError when they are too long."""
    cdef Credential *c = <Credential *>allocate(sizeof(Credential))
    c.transport = t
    try:
        c.ufrag_length = <uint16_t>copy_bytes(c.ufrag, ufrag, MAX_CREDENTIAL)
        c.pwd_length = <uint16_t>copy_bytes(c.pwd, pwd, MAX_CREDENTIAL)
    except BaseException:
        free(c)
        raise
    return c


cdef UpConfig *make_up_config(tuple settings) except NULL:
    """Return the settings of a publication; ValueError for numbers out of range.

    ``settings``: mid, is video, payload types as (payload type, codec id, format, clock rate), extensions
    as (kind, id), SSRCs, has PLI, FIR, NACK, transport-cc, RTX types and RTX SSRCs as (RTX, what it
    repeats), and the rids of simulcast, lowest quality first.
    """
    cdef bytes mid
    cdef list payload_types, extensions, ssrcs, rtx_payload_types, rtx_ssrcs, rids
    cdef UpConfig *c
    cdef uint32_t i
    (mid, is_video, payload_types, extensions, ssrcs, has_pli, has_fir, has_nack, has_transport_cc,
     rtx_payload_types, rtx_ssrcs, rids) = settings
    c = <UpConfig *>allocate(sizeof(UpConfig))
    for i in range(128):
        c.payload_types[i].codec = NO_CODEC
        c.payload_types[i].rtx_of = NO_PAYLOAD_TYPE
    for i in range(16):
        c.kind_by_id[i] = EXTENSION_KINDS
    try:
        c.is_video = bool(is_video)
        c.has_pli = bool(has_pli)
        c.has_fir = bool(has_fir)
        c.has_nack = bool(has_nack)
        c.has_transport_cc = bool(has_transport_cc)
        if len(mid) <= MAX_MID:
            c.mid_length = <uint8_t>copy_bytes(c.mid, mid, MAX_MID)
        for payload_type, codec, payload_format, clock_rate in payload_types:
            if not 0 <= payload_type < 128 or not 0 <= codec < MAX_CODECS:
                raise ValueError("payload type or codec id out of range")
            c.payload_types[<uint8_t>payload_type].codec = codec
            c.payload_types[<uint8_t>payload_type].format = payload_format
            c.payload_types[<uint8_t>payload_type].clock_rate = clock_rate
        for rtx_payload_type, payload_type in rtx_payload_types:
            if not 0 <= rtx_payload_type < 128 or not 0 <= payload_type < 128:
                raise ValueError("payload type out of range")
            c.payload_types[<uint8_t>rtx_payload_type].rtx_of = payload_type
        for rtx_ssrc, ssrc in rtx_ssrcs[:MAX_SSRCS]:
            c.rtx_ssrcs[c.rtx_count] = rtx_ssrc
            c.repaired_ssrcs[c.rtx_count] = ssrc
            c.rtx_count += 1
        for kind, identifier in extensions:
            if not 1 <= identifier <= 14 or not 0 <= kind < EXTENSION_KINDS:
                raise ValueError("extension out of range")
            c.kind_by_id[<uint8_t>identifier] = kind
        c.layer_count = 1
        if EXT_RID in [kind for kind, _ in extensions]:      # else no packet could say which layer it is of
            c.layer_count = <uint32_t>min(max(len(rids), 1), MAX_LAYERS)
            for i, rid in enumerate(rids[:MAX_LAYERS]):
                if len(rid) <= MAX_RID:
                    c.rid_lengths[i] = <uint8_t>copy_bytes(c.rids[i], rid, MAX_RID)
        for ssrc in ssrcs[:MAX_SSRCS]:
            c.ssrcs[c.ssrc_count] = ssrc
            c.ssrc_count += 1
    except BaseException:
        free(c)
        raise
    return c


cdef DownConfig *make_down_config(tuple settings) except NULL:
    """Return the settings of a slot; ValueError for numbers out of range.

    ``settings``: mid, CNAME, payload types as (codec id, payload type), extensions as (kind, id), has
    NACK, RTX SSRC (0: no RTX), RTX types as (codec id, payload type), takes two-byte extension headers.
    """
    cdef bytes mid, cname
    cdef list payload_types, extensions, rtx_payload_types
    cdef uint32_t rtx_ssrc
    cdef DownConfig *c
    mid, cname, payload_types, extensions, has_nack, rtx_ssrc, rtx_payload_types, allows_two_byte = settings
    c = <DownConfig *>allocate(sizeof(DownConfig))
    memset(c.payload_types, NO_CODEC, MAX_CODECS)
    memset(c.rtx_payload_types, NO_PAYLOAD_TYPE, MAX_CODECS)
    try:
        c.cname_length = <uint8_t>copy_bytes(c.cname, cname, MAX_CNAME)
        for codec, payload_type in payload_types:
            if not 0 <= payload_type < 128 or not 0 <= codec < MAX_CODECS:
                raise ValueError("payload type or codec id out of range")
            c.payload_types[<uint8_t>codec] = payload_type
        for codec, payload_type in rtx_payload_types:
            if not 0 <= payload_type < 128 or not 0 <= codec < MAX_CODECS:
                raise ValueError("payload type or codec id out of range")
            c.rtx_payload_types[<uint8_t>codec] = payload_type
        for kind, identifier in extensions:
            if not 1 <= identifier <= 14 or not 0 <= kind < SENT_EXTENSIONS:
                raise ValueError("extension out of range")
            c.extension_ids[<uint8_t>kind] = identifier
        if 0 < len(mid) <= MAX_MID:
            c.mid_length = <uint8_t>copy_bytes(c.mid, mid, MAX_MID)
        else:
            c.extension_ids[EXT_MID] = NO_EXTENSION
        c.allows_two_byte = bool(allows_two_byte)
        c.rtx_ssrc = rtx_ssrc
        c.has_rtx = rtx_ssrc != 0
        c.needs_history = bool(has_nack) and not rtx_ssrc
        if c.needs_history:
            # The same bytes may be sent again (design 1.4): what was true when they left is not any more.
            c.extension_ids[EXT_ABS_SEND_TIME] = NO_EXTENSION
    except BaseException:
        free(c)
        raise
    return c


cdef Path *make_path(Transport *t, bytes remote_ip, uint16_t remote_port, bytes local_ip,
                     bint needs_source) except NULL:
    """Return a path of this transport; addresses of 4 or 16 bytes, both of one family."""
    cdef Path *p = <Path *>allocate(sizeof(Path))
    memcpy(p.remote_ip, PyBytes_AsString(remote_ip), <size_t>len(remote_ip))
    memcpy(p.local_ip, PyBytes_AsString(local_ip), <size_t>len(local_ip))
    p.remote_port = remote_port
    p.family = 4 if len(remote_ip) == 4 else 6
    p.needs_source = needs_source
    p.transport = t
    p.name_length = sockaddr_write(p.name, p.remote_ip, remote_port, p.family)
    p.control_length = pktinfo_write(p.control, p.local_ip, p.family)
    return p


cdef Repair *make_repair(size_t kept) except NULL:
    """Return what one layer keeps against loss: ``kept`` packets, a power of two."""
    cdef Repair *r = <Repair *>allocate(sizeof(Repair) + kept * sizeof(KeptPacket))
    r.kept = <KeptPacket *>(r + 1)
    r.kept_mask = kept - 1
    return r
