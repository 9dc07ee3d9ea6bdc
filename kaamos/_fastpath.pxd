# Memory layout of the native engine: every struct, enum and class, with who owns and who writes what.
#
# Two threads meet here.  The *asyncio thread* (api.pxi) allocates and frees everything; the
# *worker* only borrows.  A pointer reaches the worker in a Command and is given back when the
# worker has acknowledged the command that unlinks it.  Unless a field says otherwise, only the
# worker touches it after the hand-over.  Fields marked "stat" are written by the worker and read
# by the asyncio thread with relaxed loads.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

include "fastpath/externs.pxi"

cdef enum:
    RECV_BATCH = 64           # datagrams a recvmmsg; the spike saw no gain above
    SEND_BATCH = 256          # datagrams that wait for one sendmmsg
    RECV_BYTES = 1536         # a longer datagram is cut by the kernel and dropped here
    SLOT_BYTES = 1728         # RECV_BYTES, room for our extensions and the SRTP trailer, 64-byte lines
    CONTROL_BYTES = 64        # one in6_pktinfo control message
    MIN_DATAGRAM = 8          # shorter than any STUN, DTLS, RTP or RTCP message
    TRAILER_BYTES = 20        # most that libsrtp appends: tag 16 and SRTCP index 4
    # Most that a header may grow on its way: block header, mid, send time, a longer form of the five
    # elements that are sent on, padding; and the number in front of an RTX payload.
    ADDED_BYTES = 37          # 4 + (2 + MAX_MID) + (2 + 3) + 5 + 3 + 2

    MAX_PATHS = 32            # a transport: some interfaces against some addresses of ours, not any number of ports
    MAX_CODECS = 32           # codec ids are below this
    MAX_MID = 16              # longer mids do not fit a one-byte header extension (RFC 8285 section 4.2)
    MAX_CNAME = 64
    MAX_SSRCS = 16            # SSRCs of a section: announced, or heard of at one time
    MAX_LAYERS = 4            # encodings of a publication
    MAX_RID = 16              # longer ones do not fit a one-byte header extension either
    MAX_STREAMS = 32          # SSRCs a peer sends from at one time
    MAX_STREAMS_EVER = 256    # libsrtp keeps one stream an SSRC for the life of a session
    MAX_CREDENTIAL = 256      # ICE ufrag and pwd, RFC 8839 section 5.4
    MAX_GENERATIONS = 2       # of credentials: the one in use and that of an ICE restart
    MAX_REPORT_BLOCKS = 31    # RC is five bits

    HISTORY_PACKETS = 128     # repeated packets kept where the peer has no RTX (design 1.4)
    KEPT_PACKETS = 512        # plaintext kept of a publication: about a second of 720p ...
    MIN_KEPT_PACKETS = 128    # ... halved for each layer below the best, which sends about a third
    KEPT_US = 2000000         # and not repeated when older: the picture has moved on
    MAX_MISSING = 256         # numbers of one publication that are waited for
    MAX_NACK_TRIES = 10       # libwebrtc's; both ways: a packet is not repeated more often
    REORDER_US = 5000         # a hole this young may be reordering
    UNKNOWN_RTT_US = 100000   # of a publisher that gave us no way to measure it
    TWCC_PACKETS = 2048       # arrivals that wait for a transport-wide feedback; power of two
    TWCC_INTERVAL_US = 100000 # libwebrtc's default
    TWCC_REPORT_PACKETS = 400 # in one feedback packet: fits an MTU with large deltas
    MAX_RANGES = 16           # sequence offsets remembered for late packets
    MAX_MISORDER = 1024       # a packet older than this is a jump, not a late packet
    MAX_DROPOUT = 3000        # RFC 3550 appendix A.1
    MAX_RED_BLOCKS = 16       # older frames in one packet; browsers send at most nine
    MAX_GAP = 128             # a wider hole towards a subscriber is closed: it could not be repeated anyway

    EVENT_BYTES = 262144      # one event ring; power of two
    COMMANDS = 8192           # command ring cells; power of two

    NO_CODEC = 255
    NO_PAYLOAD_TYPE = 255
    RTX_CLOCK_RATE = 90000    # RTX is used for video only; jitter of repeats means nothing
    NO_EXTENSION = 0          # id 0 is padding in RFC 8285, so it can stand for "none"

    KEYFRAME_INTERVAL_US = 500000   # at most two key frame requests a second reach a publisher
    FIRST_REPORT_US = 50000         # browsers drop mid and rid only after a receiver report
    REPORT_INTERVAL_US = 1000000    # RR and SR; browsers use about the same for video
    TAKEOVER_US = 200000            # silence after which another SSRC may take over a section
    LAYER_SILENCE_US = 500000       # a layer so long without a packet, while another one goes on, is given up ...
    LAYER_FRAMES = 3                # ... once the other one is so many frames ahead: a still screen sends few
    LAYER_PAUSE_US = 1500000        # a layer that was given up ...
    LAYER_TRUST_US = 2000000        # ... is taken again when it came so long without such a pause
    STREAM_IDLE_US = 30000000       # a table entry this old may be used for another SSRC
    MIN_REPEAT_US = 20000           # a packet is not repeated sooner, whatever the RTT
    TICK_US = 10000                 # how often timers are looked at
    MOVED_US = 60000          # a selected path this silent, and media on another: three packets of a voice
    MOVED_INTERVAL_US = 20000 # how often Python is told so
    PATH_LEASE_US = 2000000         # so long after its owner's last word a path is not given to another
    RAISE_BURST = 400               # datagrams of a kind that a peer may hand to Python at once (design 1.5) ...
    RAISE_INTERVAL_US = 5000        # ... and one more each interval
    CODEC_INTERVAL_US = 100000      # so often Python is told what a publication sends, however often it changes

cdef enum:                    # DatagramClass: RFC 7983 section 7, and RFC 5761 for the last two
    CLASS_UNKNOWN = 0
    CLASS_STUN = 1
    CLASS_DTLS = 2
    CLASS_RTP = 3
    CLASS_RTCP = 4

cdef enum:                    # EventKind
    EVENT_STUN = 0            # a datagram for ICE ...
    EVENT_DTLS = 1            # ... or DTLS; all but EVENT_CODEC as engine.DatagramKind
    EVENT_CODEC = 2           # what a publication sends now: one byte, the codec id
    EVENT_MOVED = 3           # media comes by this path, not by the selected one; no bytes.  As engine.DatagramKind

cdef enum:                    # PayloadFormat: description.PayloadFormat
    FORMAT_OPAQUE = 0
    FORMAT_VP8 = 1
    FORMAT_H264 = 2
    FORMAT_VP9 = 3
    FORMAT_AV1 = 4
    FORMAT_RED = 5
    FORMAT_H265 = 6

cdef enum:                    # ExtensionKind: description.Extension
    EXT_MID = 0
    EXT_AUDIO_LEVEL = 1
    EXT_VIDEO_ORIENTATION = 2
    EXT_PLAYOUT_DELAY = 3
    EXT_ABS_CAPTURE_TIME = 4
    EXT_DEPENDENCY_DESCRIPTOR = 5
    EXT_ABS_SEND_TIME = 6
    EXT_TRANSPORT_CC = 7
    EXT_RID = 8
    EXT_REPAIRED_RID = 9
    EXTENSION_KINDS = 10
    FORWARDED_EXTENSIONS = 6  # kinds below this are sent on; the others are between one peer and us
    SENT_EXTENSIONS = 7       # kinds below this may be in what we send

cdef enum:                    # DropReason: every packet that goes no further increments exactly one
    DROP_NONE = 0
    # datagrams
    DROP_SHORT
    DROP_OVERSIZE
    DROP_UNKNOWN_CLASS
    DROP_NO_ADDRESS
    DROP_UNKNOWN_PATH
    DROP_EVENT_RING_FULL
    DROP_RATE_LIMITED
    # STUN
    DROP_STUN_MALFORMED
    DROP_STUN_UNEXPECTED
    DROP_STUN_UNKNOWN_UFRAG
    DROP_STUN_BAD_INTEGRITY
    # SRTP
    DROP_NO_KEYS
    DROP_TOO_MANY_SSRCS
    DROP_SRTP_AUTH
    DROP_SRTP_REPLAY
    DROP_SRTP_OTHER
    DROP_SRTCP
    # RTP
    DROP_RTP_MALFORMED
    DROP_UNKNOWN_SSRC
    DROP_UNKNOWN_PAYLOAD_TYPE
    DROP_SEQUENCE_JUMP
    DROP_DUPLICATE
    DROP_RTX_MALFORMED
    DROP_RTX_UNKNOWN
    DROP_RED_MALFORMED
    DROP_INACTIVE_STREAM
    DROP_UNWANTED_LAYER
    # RTCP
    DROP_RTCP_MALFORMED
    # towards a subscriber
    DROP_NO_PATH
    DROP_AWAITING_KEYFRAME
    DROP_CODEC_NOT_NEGOTIATED
    DROP_PADDING_ONLY
    DROP_TOO_LATE
    DROP_PROTECT
    DROP_SEND_BUFFER_FULL
    DROP_SEND_ERROR
    DROP_REASONS              # how many there are

cdef enum:                    # Counter: what went well
    COUNT_DATAGRAMS_UP
    COUNT_BYTES_UP
    COUNT_RTP_UP
    COUNT_RTCP_UP
    COUNT_DATAGRAMS_DOWN
    COUNT_BYTES_DOWN
    COUNT_RTP_DOWN
    COUNT_RTCP_DOWN
    COUNT_STUN_ANSWERED
    COUNT_STUN_RAISED
    COUNT_DTLS_RAISED
    COUNT_NACKS
    COUNT_REPEATS
    COUNT_NACKS_UP
    COUNT_REPAIRED
    COUNT_RED_STRIPPED
    COUNT_TWCC_UP
    COUNT_KEYFRAME_REQUESTS_UP
    COUNT_KEYFRAME_REQUESTS_DOWN
    COUNT_TURNS
    COUNTERS

cdef enum:                    # CommandKind
    CMD_ADD_TRANSPORT = 1     # subject Transport
    CMD_REMOVE_TRANSPORT      # subject Transport
    CMD_BIND                  # subject Path
    CMD_UNBIND                # subject Path
    CMD_SELECT                # subject Path
    CMD_DESELECT              # subject Transport
    CMD_ADD_CREDENTIAL        # subject Credential
    CMD_REMOVE_CREDENTIAL     # subject Credential
    CMD_KEYS                  # subject Transport, object Keys
    CMD_ADD_UPTRACK           # subject UpTrack
    CMD_UPDATE_UPTRACK        # subject UpTrack, object UpConfig
    CMD_ADD_LAYER             # subject UpTrack, object Repair, value which layer
    CMD_REMOVE_UPTRACK        # subject UpTrack
    CMD_ADD_DOWNTRACK         # subject DownTrack
    CMD_UPDATE_DOWNTRACK      # subject DownTrack, object DownConfig
    CMD_HISTORY               # subject DownTrack, object History or NULL
    CMD_CONNECT               # subject DownTrack, object UpTrack
    CMD_DISCONNECT            # subject DownTrack
    CMD_TWCC                  # subject Transport, object Twcc
    CMD_GROW_TABLE            # subject TableEntry array, object Table, value mask

# C arrays cannot be indexed by a named enum in Cython, so the names are plain integers.
ctypedef int DatagramClass
ctypedef int DropReason

# libsrtp's srtp_protect and its three sisters, as pylibsrtp's binding exports them.
ctypedef int (*srtp_fn)(void *session, void *packet, int *length) noexcept nogil

cdef struct Credential
cdef struct Transport
cdef struct Stream
cdef struct UpTrack
cdef struct DownTrack

cdef struct Sha1:
    uint32_t state[5]
    uint64_t length           # bytes hashed so far
    uint8_t  block[64]

cdef struct StunRequest:
    # A binding request as parsed by stun.pxi; pointers into the datagram.
    uint8_t *username         # NULL: absent
    size_t   username_length
    size_t   integrity_at     # offset of the MESSAGE-INTEGRITY attribute, 0: absent
    bint     has_controlled   # the peer thinks it is controlled: a role conflict for us
    bint     has_unknown      # a comprehension-required attribute we do not know

cdef struct Path:
    # How a peer reaches us.  Immutable after the hand-over but for `next`, the worker's.
    uint8_t  remote_ip[16]    # IPv4 in the first four bytes, the rest zero
    uint8_t  local_ip[16]
    uint16_t remote_port
    uint8_t  family           # 4 or 6
    uint8_t  needs_source     # the kernel would answer from another address: attach `control`
    uint32_t name_length
    uint32_t control_length
    uint8_t  name[32]         # sockaddr, ready to send to
    Transport *transport
    uint8_t  control[CONTROL_BYTES]   # behind a pointer, since a cmsghdr wants its alignment

cdef struct Credential:
    # What peers prove that they may reach a transport: one generation of its local ICE credentials.
    # While an ICE restart is under way there are two.  Immutable after the hand-over but for `next`.
    Credential *next
    Transport *transport
    uint16_t ufrag_length
    uint16_t pwd_length
    uint8_t  ufrag[MAX_CREDENTIAL]
    uint8_t  pwd[MAX_CREDENTIAL]

cdef struct TableEntry:
    uint64_t hash             # 0: empty
    void *item

cdef struct Table:
    # Open addressing with linear probing and backward-shift deletion; at most half full, which
    # the asyncio thread sees to by CMD_GROW_TABLE before it adds.
    uint64_t mask
    TableEntry *entries

cdef struct Command:
    uint64_t kind
    void *subject
    void *object
    uint64_t value

cdef struct CommandRing:
    # Single producer (asyncio thread), single consumer (worker).
    uint64_t head             # next cell to fill; only the producer writes it
    uint8_t  _pad[56]         # head and tail stay on separate cache lines
    uint64_t tail             # next cell to take = commands acknowledged; only the consumer writes it
    uint8_t  _pad2[56]
    Command  cells[COMMANDS]

cdef struct EventHeader:
    uint32_t length           # of the datagram after this header
    uint32_t subject_id       # transport, of EVENT_CODEC the UpTrack
    uint16_t kind             # EventKind; what follows is of datagrams only
    uint16_t remote_port
    uint32_t family
    uint8_t  remote_ip[16]
    uint8_t  local_ip[16]

cdef struct EventRing:
    # Byte ring from worker to asyncio thread: header and datagram, padded to 8 bytes.  A record
    # never wraps: `length` 0xffffffff fills the end.  Full: the new event is dropped and counted.
    uint64_t head             # bytes ever written; only the worker writes it
    uint8_t  _pad[56]
    uint64_t tail             # bytes ever read; only the asyncio thread writes it
    uint8_t  _pad2[56]
    uint8_t  bytes[EVENT_BYTES]

cdef struct Packet:
    # One decrypted RTP packet, as parsed by wire.pxi; lives in a receive slot for one turn.
    uint8_t *data
    size_t   length           # whole packet
    size_t   payload_offset
    size_t   payload_length   # without padding
    uint32_t ssrc
    uint32_t timestamp
    uint16_t seq
    uint8_t  payload_type
    uint8_t  csrc_count
    bint     marker
    uint16_t extensions_at    # offset of the first extension element, 0 when there is none
    uint16_t extensions_length
    bint     two_byte         # RFC 8285 section 4.3
    bint     has_long         # an element that is sent on does not fit a one-byte header
    uint64_t ext_seq          # set by stream_receive
    bint     is_keyframe      # set by codec_is_keyframe
    bint     is_best          # it is of the layer that subscribers are to get
    uint8_t  codec            # codec id, of RED that of the primary block
    uint32_t clock_rate
    # Of a RED packet (RFC 2198) `payload` is the primary block; this is the whole.  red_length 0: not RED.
    uint16_t red_at
    uint16_t red_length
    uint8_t  red_codec        # codec id of RED itself
    uint8_t  red_blocks       # older ones, in front of the primary
    uint16_t ext_at[EXTENSION_KINDS]      # offset of each known element's data, 0: absent
    uint8_t  ext_length[EXTENSION_KINDS]

cdef struct PayloadType:
    uint32_t clock_rate
    uint8_t  codec            # codec id, NO_CODEC: not negotiated
    uint8_t  format
    uint8_t  rtx_of           # media payload type that this one repeats, NO_PAYLOAD_TYPE: not RTX

cdef struct UpConfig:
    # What a publisher negotiated; replaced whole, never changed in place.
    PayloadType payload_types[128]
    uint8_t  kind_by_id[16]   # header extension id -> ExtensionKind, EXTENSION_KINDS: unknown
    uint8_t  is_video
    uint8_t  has_pli
    uint8_t  has_fir
    uint8_t  has_nack
    uint8_t  has_transport_cc
    uint8_t  mid_length
    uint8_t  mid[MAX_MID]
    uint32_t ssrc_count
    uint32_t ssrcs[MAX_SSRCS]
    uint32_t layer_count      # 1 without rids
    uint8_t  rid_lengths[MAX_LAYERS]      # lowest quality first
    uint8_t  rids[MAX_LAYERS][MAX_RID]
    uint32_t rtx_count
    uint32_t rtx_ssrcs[MAX_SSRCS]         # each repeats the SSRC at the same place of:
    uint32_t repaired_ssrcs[MAX_SSRCS]

cdef struct Stream:
    # One SSRC that a peer sends from: what receiver reports need (RFC 3550 appendices A.1, A.3, A.8).
    UpTrack *uptrack          # NULL: only RTCP came from it so far, or its section is not known
    uint64_t ext_seq          # highest received
    uint64_t base_ext_seq
    uint64_t received
    uint64_t expected_prior
    uint64_t received_prior
    uint64_t last_packet_us
    uint64_t sr_ntp           # of the last sender report
    uint64_t sr_arrival_us
    uint32_t sr_timestamp
    uint32_t ssrc
    uint32_t jitter_q4        # timestamp units times 16
    uint32_t transit
    uint32_t bad_seq          # RFC 3550 A.1: the number that would prove a restart; 1 << 16: none
    uint32_t clock_rate
    uint8_t  has_packets
    uint8_t  has_sr
    uint8_t  is_ended         # BYE came
    uint8_t  layer            # of the section: which one it is, or repairs
    uint8_t  has_moved        # to another section or layer, which it may once

cdef struct Keys:
    void *rx                  # srtp_t for what the peer sends, any SSRC
    void *tx                  # the one outbound session of the transport (design 1.4)

cdef struct Twcc:
    # Arrivals of a publisher's packets by transport-wide number, until they are reported.
    uint64_t arrivals_us[TWCC_PACKETS]    # 0: not arrived
    uint64_t first            # extended number of the oldest one not reported; 0: nothing came yet
    uint64_t newest
    uint64_t next_us          # when a feedback is due
    uint8_t  feedbacks        # how many were sent, modulo 256

cdef struct Missing:
    uint64_t ext_seq
    uint64_t since_us
    uint64_t asked_us         # 0: never
    uint32_t tries

cdef struct KeptPacket:
    Packet   packet           # `data` points to `bytes`; ext_seq 0: empty
    uint64_t arrival_us
    uint8_t  bytes[RECV_BYTES]

cdef struct Repair:
    # What a layer of a video publication keeps against loss, on both sides: the numbers it misses,
    # ascending, and its last packets in the clear, one copy for all subscribers.
    uint32_t ssrc             # whose numbers these are
    uint32_t missing_count
    uint64_t highest
    Missing  missing[MAX_MISSING]
    uint64_t kept_mask        # how many are kept, a power of two, less one
    KeptPacket *kept          # behind this struct, in the same piece of memory

cdef struct Transport:
    Transport *next           # worker's list of all transports
    Transport *previous
    UpTrack   *uptracks
    DownTrack *downtracks
    Path      *selected       # where media goes; NULL before ICE nominated
    Credential *credentials   # oldest first; only checks by the oldest are answered natively
    void      *rx             # NULL before DTLS finished
    void      *tx
    uint64_t   last_received_us   # stat
    uint64_t   selected_heard_us  # when authentic media last came by the selected path
    uint64_t   moved_told_us
    uint64_t   next_report_us
    uint64_t   raise_credit_us[2] # when the next datagram for Python would be paid for: STUN, DTLS
    uint64_t   rtt_us         # of the path, without waits at either end (rtt_take); 0: unknown
    Twcc      *twcc           # NULL: nothing it sends asks for transport-wide feedback
    uint32_t   rrtr_ntp       # middle 32 bits of the newest receiver reference time (RFC 3611) ...
    uint32_t   rrtr_ssrc      # ... and who sent it
    uint8_t    has_rrtr       # it waits for its answer
    int64_t    ntp_offset     # our NTP clock minus the peer's, least delay seen
    uint32_t   id
    uint32_t   rtcp_ssrc      # sender of our receiver reports and key frame requests
    uint32_t   stream_count
    uint32_t   streams_ever
    uint32_t   last_stream    # where the last look-up ended: media comes in runs
    uint8_t    has_ntp_offset
    uint8_t    fir_seq
    uint8_t    cname_length   # of our receiver reports
    uint8_t    cname[MAX_CNAME]
    uint32_t   stream_ssrcs[MAX_STREAMS]  # packed, so that a look-up reads two cache lines
    Stream     streams[MAX_STREAMS]

cdef struct Layer:
    # One encoding of a publication: simulcast has one a rid, lowest quality first, all else has one.
    Stream    *active         # the SSRC whose packets are forwarded
    Repair    *repair         # NULL: audio
    uint64_t   keyframe_asked_us
    uint64_t   arrived_us     # its newest packet with media
    uint64_t   run_since_us   # it has come since then without LAYER_PAUSE_US in between; 0: not since it was given up
    uint32_t   timestamp      # of its newest frame
    uint32_t   frames_ahead   # that came since the best layer's last packet
    uint8_t    wants_keyframe # somebody waits for one
    uint8_t    is_doubtful    # it fell silent while it was the best

cdef struct UpTrack:
    UpTrack   *next           # transport's list
    Transport *transport
    UpConfig  *config
    DownTrack *downtracks     # who receives it, linked through next_subscriber
    DownTrack *waiting        # who will from its next key frame on, linked through next_waiting
    Layer      layers[MAX_LAYERS]     # as many as config.layer_count
    uint32_t   best           # the layer that subscribers are to get
    uint32_t   id
    uint8_t    codec          # of its newest packet, NO_CODEC: nothing came yet
    uint8_t    told_codec     # what Python knows
    uint64_t   codec_told_us
    # stat; loudest RFC 6464 level of the interval that the upper bits name: interval << 8 | level.  The
    # two of even and odd intervals, so that one can be read while the next begins.
    uint64_t   levels[2]
    uint64_t   packets
    uint64_t   bytes
    uint64_t   keyframes
    uint64_t   keyframe_requests
    uint64_t   lost           # cumulative, of the best layer's active SSRC
    uint64_t   jitter_ticks

cdef struct Range:
    uint64_t first            # from this incoming number on
    uint64_t offset           # outgoing = incoming + offset, modulo 2**64
    uint32_t ssrc             # whose incoming numbers these are
    uint32_t timestamp_offset # of these packets

cdef struct Rewriter:
    # Maps incoming numbers of the current source to gapless outgoing ones (docs/rewriting.md), and back:
    # those of layers that it had before too.
    Range    ranges[MAX_RANGES]   # a ring, newest at `newest`
    uint32_t newest
    uint32_t range_count          # 0: no source yet
    uint64_t highest_in
    uint64_t highest_out          # extended; starts below 2**15, never goes back
    uint32_t timestamp_offset
    uint32_t last_timestamp       # outgoing, of the newest packet
    uint64_t last_us              # when that was
    bint     has_sent

cdef struct StoredPacket:
    uint64_t ext_seq          # 0: empty (numbers start at 2**16)
    uint64_t repeated_us      # last time a copy left, 0: never
    uint64_t queued_us        # turn in which it was encrypted; until that turn ends the send batch points here
    uint32_t length
    uint32_t repeats          # how often a copy left
    uint8_t  bytes[SLOT_BYTES]

cdef struct History:
    # Ciphertext of the last packets of one DownTrack.  Emit encrypts straight into it, and the
    # kernel reads from it, so keeping a packet costs no copy.
    StoredPacket packets[HISTORY_PACKETS]

cdef struct Repeated:
    # How a packet that a subscriber asked for again was answered by RTX.
    uint32_t ms               # when a copy last left
    uint16_t cycle            # upper bits of its outgoing number: which packet has this place
    uint16_t tries            # 0: never

cdef struct DownConfig:
    # What a subscriber negotiated for one slot; replaced whole.
    uint8_t  payload_types[MAX_CODECS]    # NO_CODEC: not negotiated
    uint8_t  rtx_payload_types[MAX_CODECS]    # NO_PAYLOAD_TYPE: no RTX
    uint32_t rtx_ssrc         # for life once it is not 0 (design 1.4)
    uint8_t  has_rtx          # repeats are RTX ...
    uint8_t  needs_history    # ... or the stored ciphertext; neither: there are none
    uint8_t  extension_ids[SENT_EXTENSIONS]   # NO_EXTENSION: not negotiated
    uint8_t  allows_two_byte  # elements longer than 16 bytes may be sent (RFC 8285 section 4.3)
    uint8_t  mid_length
    uint8_t  mid[MAX_MID]
    uint8_t  cname_length
    uint8_t  cname[MAX_CNAME]

cdef struct DownTrack:
    DownTrack *next           # transport's list
    DownTrack *next_subscriber
    DownTrack *previous_subscriber
    DownTrack *next_waiting
    DownTrack *previous_waiting
    Transport *transport
    UpTrack   *source         # what plays; NULL: idle
    UpTrack   *pending        # what takes its place at a key frame of its own; NULL: nothing
    DownConfig *config
    History   *history        # NULL: the peer sends no NACK here, or has RTX; replaced by CMD_HISTORY
    uint32_t   ssrc
    uint32_t   source_ssrc    # what the rewriter follows now
    uint32_t   id
    uint8_t    is_video
    uint8_t    is_switching   # the next packet (video: key frame) starts a new mapping
    uint8_t    is_acknowledged    # a receiver report named our SSRC: mid need not be sent any more
    Rewriter   rewriter
    uint32_t   clock_rate
    uint64_t   rtt_us         # stat, as last reported; 0: unknown
    uint64_t   rtx_seq        # extended, of the last retransmission
    Repeated   repeated[KEPT_PACKETS]     # by outgoing number
    # stat
    uint64_t   packets
    uint64_t   bytes
    uint64_t   octets         # payload only, for sender reports
    uint64_t   repeats
    uint64_t   nacks
    uint64_t   keyframe_requests
    uint64_t   lost           # cumulative, as the peer last reported
    uint64_t   jitter_ticks
    uint64_t   dropped[DROP_REASONS]

cdef struct WorkerCore:
    # Everything one worker thread touches.  Made before the thread starts, freed after its join.
    int fd4                   # -1: family not in use
    int fd6
    int epoll_fd
    int command_fd            # eventfd: a command waits
    int event_fd              # eventfd: an event waits
    uint64_t is_stopping      # set by the asyncio thread, once
    uint64_t level_interval   # written by the asyncio thread: it counts up when levels are read; starts at 1
    bint has_events           # something was pushed this turn
    uint64_t now_us           # read once a turn
    uint64_t now_ntp
    uint64_t next_tick_us
    uint64_t hash_seed        # random for each process
    uint64_t random           # xorshift state, for report intervals only
    srtp_fn protect
    srtp_fn unprotect
    srtp_fn protect_rtcp
    srtp_fn unprotect_rtcp
    const Path *path          # by which the media came that is handled now; NULL: nobody asks
    Table paths
    Table ufrags
    Transport *transports
    CommandRing commands
    EventRing known
    EventRing strangers
    uint64_t counters[COUNTERS]
    uint64_t dropped[DROP_REASONS]
    uint64_t cpu_user_us      # stat: of this thread, refreshed each tick
    uint64_t cpu_system_us
    # receive batch
    mmsghdr recv_messages[RECV_BATCH]
    iovec   recv_iov[RECV_BATCH]
    uint8_t recv_names[RECV_BATCH][32]
    uint8_t recv_controls[RECV_BATCH][CONTROL_BYTES]
    uint8_t recv_slots[RECV_BATCH][SLOT_BYTES]
    # send batch; all of it goes to one family's socket, a change of family flushes
    mmsghdr send_messages[SEND_BATCH]
    iovec   send_iov[SEND_BATCH]
    uint8_t send_slots[SEND_BATCH][SLOT_BYTES]
    uint32_t send_count
    int      send_fd

cdef class Worker:
    # The asyncio thread's side: what it allocated, and what it must not free yet.
    cdef WorkerCore *core
    cdef dict transports      # id -> address of Transport
    cdef dict credentials     # transport id -> its ufrags -> address of Credential, oldest first
    cdef dict paths           # path key -> (transport id, address of Path)
    cdef dict bound           # transport id -> its path keys, oldest first
    cdef dict selected        # transport id -> path key
    cdef dict uptracks        # id -> address of UpTrack
    cdef dict downtracks      # id -> address of DownTrack
    cdef dict configs         # track id -> address of the newest UpConfig or DownConfig
    cdef dict tracks          # transport id -> ids of its tracks
    cdef dict repairs         # UpTrack id -> addresses of its Repairs, one a layer
    cdef dict histories       # DownTrack id -> address of its History, in use or not
    cdef dict twccs           # transport id -> address of Twcc
    cdef dict sessions        # transport id -> what keeps its libsrtp sessions alive
    cdef object retired       # deque of (command number, address, object kept alive)
    cdef uint32_t next_id
    cdef uint64_t credential_count
    cdef uint64_t path_mask   # of the newest table sent to the worker
    cdef uint64_t ufrag_mask
    cdef uintptr_t path_entries
    cdef uintptr_t ufrag_entries

    cdef void need_room(self, uint64_t commands) except *
    cdef uint64_t push(self, uint64_t kind, void *subject, void *object, uint64_t value)
    cdef void retire(self, void *address, object keep)
    cdef void reclaim(self)
    cdef void link_credential(self, Credential *c, bytes ufrag) except *
    cdef void need_entry(self, Table *table, uint64_t *mask, uintptr_t *entries, uint64_t count) except *
    cdef Transport *transport(self, uint32_t transport_id) except NULL
    cdef UpTrack *uptrack(self, uint32_t uptrack_id) except NULL
    cdef DownTrack *downtrack(self, uint32_t downtrack_id) except NULL
    cdef void unbind(self, uint32_t transport_id, bytes key)
    cdef History *history(self, uint32_t downtrack_id) except NULL
    cdef void need_repairs(self, uint32_t uptrack_id, uint32_t layers) except *
    cdef void need_twcc(self, uint32_t transport_id)
    cdef void forget_track(self, uint32_t transport_id, uint32_t track_id)
