# Payload descriptors, read only as far as key frames need.


cdef bint vp8_is_keyframe(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether this is the first packet of a VP8 key frame (RFC 7741 sections 4.2 and 4.3)."""
    cdef size_t at = 1
    cdef uint8_t flags
    if length < 1 or data[0] & 0x10 == 0 or data[0] & 7 != 0:    # S set, partition 0
        return False
    if data[0] & 0x80:
        if length < 2:
            return False
        flags = data[1]
        at = 2
        if flags & 0x80:                     # PictureID, 7 or 15 bits
            if at >= length:
                return False
            at += 2 if data[at] & 0x80 else 1
        if flags & 0x40:                     # TL0PICIDX
            at += 1
        if flags & 0x30:                     # TID or KEYIDX
            at += 1
    return at < length and data[at] & 1 == 0


cdef inline bint h264_starts_keyframe(uint8_t nal_type, const uint8_t *body, size_t length) noexcept nogil:
    """SPS, which some senders put alone first, or the first slice of an IDR picture (RFC 6184).

    A slice begins with first_mb_in_slice, ue(v): 0 is a single 1 bit.  ``body`` is what follows the
    NAL unit's header.
    """
    return nal_type == 7 or (nal_type == 5 and length >= 1 and body[0] & 0x80 != 0)


cdef bint h264_is_keyframe(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether a decoder can start at this packet (RFC 6184 sections 5.6 to 5.8)."""
    cdef uint8_t kind
    cdef size_t at = 1
    cdef size_t size
    if length < 1:
        return False
    kind = data[0] & 31
    if kind == 28:                           # FU-A: its first fragment
        return length >= 2 and data[1] & 0x80 != 0 and h264_starts_keyframe(data[1] & 31, data + 2, length - 2)
    if kind == 24:                           # STAP-A: any unit in it
        while at + 2 < length:
            size = rd16(data + at)
            if size == 0 or size > length - at - 2:
                return False
            if h264_starts_keyframe(data[at + 2] & 31, data + at + 3, size - 1):
                return True
            at += 2 + size
        return False
    return h264_starts_keyframe(kind, data + 1, length - 1)


cdef bint vp9_is_keyframe(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether this is the first packet of a VP9 key picture (RFC 9628 section 4.2)."""
    cdef size_t at = 1
    if length < 1 or data[0] & 0x40 or data[0] & 0x08 == 0:      # P: predicted; B: starts a frame
        return False
    if data[0] & 0x80:                       # PictureID, 7 or 15 bits
        if at >= length:
            return False
        at += 2 if data[at] & 0x80 else 1
    if data[0] & 0x20:                       # layer indices: the base spatial layer only
        return at < length and data[at] >> 1 & 7 == 0
    return at < length


cdef inline bint av1_is_keyframe(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether a coded video sequence starts here: N without Z (AV1 RTP specification, 4.4)."""
    return length >= 2 and data[0] & 0x88 == 0x08


cdef inline bint h265_starts_keyframe(uint8_t nal_type, const uint8_t *body, size_t length) noexcept nogil:
    """VPS, SPS, or the first slice segment of an IRAP picture (RFC 7798, ITU-T H.265 table 7-1).

    A slice segment begins with first_slice_segment_in_pic_flag.  ``body`` is what follows the NAL unit's
    header.
    """
    return nal_type == 32 or nal_type == 33 or (16 <= nal_type <= 21 and length >= 1 and body[0] & 0x80 != 0)


cdef bint h265_is_keyframe(const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether a decoder can start at this packet (RFC 7798 sections 4.4.1 to 4.4.3)."""
    cdef uint8_t kind
    cdef size_t at = 2
    cdef size_t size
    if length < 3:
        return False
    kind = data[0] >> 1 & 63
    if kind == 49:                           # FU: its first fragment
        return data[2] & 0x80 != 0 and h265_starts_keyframe(data[2] & 63, data + 3, length - 3)
    if kind == 48:                           # AP: any unit in it
        while at + 2 < length:
            size = rd16(data + at)
            if size < 2 or size > length - at - 2:
                return False
            if h265_starts_keyframe(data[at + 2] >> 1 & 63, data + at + 4, size - 2):
                return True
            at += 2 + size
        return False
    return h265_starts_keyframe(kind, data + 2, length - 2)


cdef inline bint codec_is_keyframe(uint8_t format, const uint8_t *data, size_t length) noexcept nogil:
    """Tell whether a receiver can start at this packet; opaque formats can at any."""
    if format == FORMAT_VP8:
        return vp8_is_keyframe(data, length)
    if format == FORMAT_H264:
        return h264_is_keyframe(data, length)
    if format == FORMAT_VP9:
        return vp9_is_keyframe(data, length)
    if format == FORMAT_AV1:
        return av1_is_keyframe(data, length)
    if format == FORMAT_H265:
        return h265_is_keyframe(data, length)
    return True
