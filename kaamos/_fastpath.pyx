"""The packet path of Kaamos: SRTP in, rewrite, SRTP out, without the GIL.

Two threads meet here.  The *asyncio thread* calls the methods of :class:`Worker` (api.pxi): it
allocates, sends commands, reads counters and takes events.  The *worker thread* runs
``worker_run`` and owns the sockets, tables and tracks; it takes no GIL, no lock, and allocates
nothing.  What passes between them goes through rings (ring.pxi): commands one way, datagrams for
ICE and DTLS the other.  Memory belongs to the asyncio thread; the worker borrows it between two
commands, and what a command unlinks is freed only after the worker has acknowledged it.

The chapters stand in the order of a packet's journey; each uses only those above it.
"""

cimport cython
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from collections import deque

# In the order of enum Counter and enum DropReason; checked against their length at import.
COUNTER_NAMES = (
    "datagrams_up", "bytes_up", "rtp_up", "rtcp_up", "datagrams_down", "bytes_down", "rtp_down", "rtcp_down",
    "stun_answered", "stun_raised", "dtls_raised", "nacks", "repeats", "nacks_up", "repaired", "red_stripped", "twcc_up",
    "keyframe_requests_up",
    "keyframe_requests_down", "turns",
)
DROP_NAMES = (
    "none", "short", "oversize", "unknown_class", "no_address", "unknown_path", "event_ring_full", "rate_limited",
    "stun_malformed", "stun_unexpected",
    "stun_unknown_ufrag", "stun_bad_integrity", "no_keys", "too_many_ssrcs", "srtp_auth", "srtp_replay", "srtp_other",
    "srtcp", "rtp_malformed", "unknown_ssrc", "unknown_payload_type", "sequence_jump", "duplicate",
    "rtx_malformed", "rtx_unknown", "red_malformed", "inactive_stream", "unwanted_layer",
    "rtcp_malformed", "no_path", "awaiting_keyframe", "codec_not_negotiated", "padding_only", "too_late", "protect",
    "send_buffer_full", "send_error",
)
assert len(COUNTER_NAMES) == COUNTERS and len(DROP_NAMES) == DROP_REASONS
assert RECV_BYTES + ADDED_BYTES + TRAILER_BYTES <= SLOT_BYTES

include "fastpath/wire.pxi"        # datagram classes, RTP headers, sequence arithmetic
include "fastpath/ring.pxi"        # command and event rings, hash tables
include "fastpath/stun.pxi"        # binding requests checked and answered
include "fastpath/path.pxi"        # by which path a peer's media comes
include "fastpath/srtp.pxi"        # encryption by libsrtp
include "fastpath/codec.pxi"       # key frames
include "fastpath/red.pxi"         # redundant audio
include "fastpath/rewrite.pxi"     # outgoing numbers and headers
include "fastpath/history.pxi"     # packets kept for NACK
include "fastpath/loss.pxi"        # what a publisher's numbers lack
include "fastpath/udp.pxi"         # recvmmsg, sendmmsg
include "fastpath/uptrack.pxi"     # what a publisher sends
include "fastpath/downtrack.pxi"   # what a subscriber gets: decide, emit
include "fastpath/twcc.pxi"        # transport-wide arrival times
include "fastpath/rtcp.pxi"        # reports and feedback
include "fastpath/worker.pxi"      # the thread; composes all of the above
include "fastpath/settings.pxi"    # what was negotiated, from Python into structs
include "fastpath/values.pxi"      # what it tells and counts, from structs into Python
include "fastpath/api.pxi"         # where Python and C meet
include "fastpath/probe.pxi"       # single chapters as functions, for tests and benchmarks
