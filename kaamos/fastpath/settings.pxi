# What Python negotiated, as structs the worker reads.  Runs in the asyncio thread.


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


cdef UpConfig *make_up_config(bytes mid, bint is_video, list payload_types, list extensions, list ssrcs,
                              bint has_pli, bint has_fir, bint has_nack, bint has_transport_cc,
                              list rtx_payload_types, list rtx_ssrcs) except NULL:
    """Return the settings of a publication; ValueError for numbers out of range."""
    cdef UpConfig *c = <UpConfig *>allocate(sizeof(UpConfig))
    cdef uint32_t i
    for i in range(128):
        c.payload_types[i].codec = NO_CODEC
        c.payload_types[i].rtx_of = NO_PAYLOAD_TYPE
    for i in range(16):
        c.kind_by_id[i] = EXTENSION_KINDS
    c.is_video = is_video
    c.has_pli = has_pli
    c.has_fir = has_fir
    c.has_nack = has_nack
    c.has_transport_cc = has_transport_cc
    try:
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
        for ssrc in ssrcs[:MAX_SSRCS]:
            c.ssrcs[c.ssrc_count] = ssrc
            c.ssrc_count += 1
    except BaseException:
        free(c)
        raise
    return c


cdef DownConfig *make_down_config(bytes mid, bytes cname, list payload_types, list extensions,
                                  list rtx_payload_types, bint allows_two_byte, bint has_history) except NULL:
    """Return the settings of a slot; ValueError for numbers out of range."""
    cdef DownConfig *c = <DownConfig *>allocate(sizeof(DownConfig))
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
        c.allows_two_byte = allows_two_byte
        if has_history:
            # The same bytes may be sent again (design 1.4): what was true when they left is not any more.
            c.extension_ids[EXT_ABS_SEND_TIME] = NO_EXTENSION
    except BaseException:
        free(c)
        raise
    return c
