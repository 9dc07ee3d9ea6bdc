# The only chapter with C text: system calls, byte order, atomics.  Included by _fastpath.pxd.

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/resource.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <arpa/inet.h>

    /* Network byte order without alignment assumptions. */
    static inline uint16_t rd16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
    static inline uint32_t rd24(const uint8_t *p) { return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]; }
    static inline uint32_t rd32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return ntohl(v); }
    static inline void wr16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
    static inline void wr24(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 16); wr16(p + 1, (uint16_t)v); }
    static inline void wr32(uint8_t *p, uint32_t v) { v = htonl(v); memcpy(p, &v, 4); }
    static inline uint64_t rd64(const uint8_t *p) { return (uint64_t)rd32(p) << 32 | rd32(p + 4); }
    static inline void wr64(uint8_t *p, uint64_t v) { wr32(p, (uint32_t)(v >> 32)); wr32(p + 4, (uint32_t)v); }

    /* Ring indexes: acquire and release.  Counters: one writer, torn-free for readers. */
    static inline uint64_t load_acquire(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint64_t load_relaxed(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void store_relaxed(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline void counter_add(uint64_t *p, uint64_t n) { store_relaxed(p, load_relaxed(p) + n); }

    /* The 128-bit product of two words, folded: mixes every bit into every bit. */
    static inline uint64_t multiply_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    /* Ask for `length` bytes of cache lines that will be overwritten. */
    static inline void prefetch_write(const uint8_t *p, size_t length) {
        for (size_t i = 0; i < length; i += 64) __builtin_prefetch(p + i, 1);
    }

    #ifdef KAAMOS_DEBUG
    #include <stdlib.h>
    static inline void debug_assert(int holds) { if (!holds) abort(); }
    #else
    static inline void debug_assert(int holds) { (void)holds; }
    #endif

    static inline uint64_t clock_us(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
    }
    /* 32.32 fixed point seconds since 1900 (RFC 3550 section 4). */
    static inline uint64_t clock_ntp(void) {
        struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
        return ((uint64_t)t.tv_sec + 2208988800u) << 32 | (((uint64_t)t.tv_nsec << 32) / 1000000000u);
    }
    static void thread_cpu(double *user_s, double *system_s) {
        struct rusage r; getrusage(RUSAGE_THREAD, &r);
        *user_s = (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec * 1e-6;
        *system_s = (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec * 1e-6;
    }
    static inline int last_errno(void) { return errno; }

    /* The address of one received datagram.  Returns 0 when it cannot be a peer of ours. */
    static int sockaddr_read(const void *name, uint8_t *ip, uint16_t *port, uint8_t *family) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)name;
        const struct sockaddr_in6 *b = (const struct sockaddr_in6 *)name;
        if (a->sin_family == AF_INET) {
            memset(ip, 0, 16); memcpy(ip, &a->sin_addr, 4); *port = ntohs(a->sin_port); *family = 4; return 1;
        }
        if (b->sin6_family == AF_INET6) {
            memcpy(ip, &b->sin6_addr, 16); *port = ntohs(b->sin6_port); *family = 6; return 1;
        }
        return 0;
    }
    static uint32_t sockaddr_write(void *name, const uint8_t *ip, uint16_t port, uint8_t family) {
        if (family == 4) {
            struct sockaddr_in *a = (struct sockaddr_in *)name;
            memset(a, 0, sizeof(*a)); a->sin_family = AF_INET; a->sin_port = htons(port);
            memcpy(&a->sin_addr, ip, 4); return sizeof(*a);
        }
        struct sockaddr_in6 *b = (struct sockaddr_in6 *)name;
        memset(b, 0, sizeof(*b)); b->sin6_family = AF_INET6; b->sin6_port = htons(port);
        memcpy(&b->sin6_addr, ip, 16); return sizeof(*b);
    }
    /* The local address a datagram came to (IP_PKTINFO, IPV6_RECVPKTINFO).  Returns 0 when absent. */
    static int pktinfo_read(struct msghdr *m, uint8_t *ip) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
            if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                memset(ip, 0, 16); memcpy(ip, &((struct in_pktinfo *)CMSG_DATA(c))->ipi_spec_dst, 4); return 1;
            }
            if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
                memcpy(ip, &((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr, 16); return 1;
            }
        }
        return 0;
    }
    /* The control message that makes `ip` the source of a datagram; returns its length. */
    static uint32_t pktinfo_write(void *control, const uint8_t *ip, uint8_t family) {
        struct msghdr m; memset(&m, 0, sizeof(m));
        m.msg_control = control;
        if (family == 4) {
            m.msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo));
            memset(control, 0, m.msg_controllen);
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            c->cmsg_level = IPPROTO_IP; c->cmsg_type = IP_PKTINFO; c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
            memcpy(&((struct in_pktinfo *)CMSG_DATA(c))->ipi_spec_dst, ip, 4);
        } else {
            m.msg_controllen = CMSG_SPACE(sizeof(struct in6_pktinfo));
            memset(control, 0, m.msg_controllen);
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            c->cmsg_level = IPPROTO_IPV6; c->cmsg_type = IPV6_PKTINFO; c->cmsg_len = CMSG_LEN(sizeof(struct in6_pktinfo));
            memcpy(&((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr, ip, 16);
        }
        return (uint32_t)m.msg_controllen;
    }
    """
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    cdef struct timespec:
        long tv_sec
    enum: EPOLLIN, EPOLL_CTL_ADD, EPOLL_CLOEXEC, MSG_DONTWAIT, MSG_TRUNC, EFD_NONBLOCK, EFD_CLOEXEC
    enum: EAGAIN, EINTR, ENOBUFS
    int recvmmsg(int, mmsghdr *, unsigned int, int, timespec *) nogil
    int sendmmsg(int, mmsghdr *, unsigned int, int) nogil
    int epoll_create1(int) nogil
    int epoll_ctl(int, int, int, epoll_event *) nogil
    int epoll_wait(int, epoll_event *, int, int) nogil
    int eventfd(unsigned int, int) nogil
    ssize_t read(int, void *, size_t) nogil
    ssize_t write(int, const void *, size_t) nogil
    int close(int) nogil
    void *memcpy(void *, const void *, size_t) nogil
    void *memset(void *, int, size_t) nogil
    void *memmove(void *, const void *, size_t) nogil
    int memcmp(const void *, const void *, size_t) nogil
    uint16_t rd16(const uint8_t *) nogil
    uint32_t rd24(const uint8_t *) nogil
    uint32_t rd32(const uint8_t *) nogil
    uint64_t rd64(const uint8_t *) nogil
    void wr16(uint8_t *, uint16_t) nogil
    void wr24(uint8_t *, uint32_t) nogil
    void wr32(uint8_t *, uint32_t) nogil
    void wr64(uint8_t *, uint64_t) nogil
    uint64_t load_acquire(uint64_t *) nogil
    void store_release(uint64_t *, uint64_t) nogil
    uint64_t load_relaxed(uint64_t *) nogil
    void store_relaxed(uint64_t *, uint64_t) nogil
    void counter_add(uint64_t *, uint64_t) nogil
    uint64_t multiply_fold(uint64_t, uint64_t) nogil
    void prefetch_write(const uint8_t *, size_t) nogil
    void debug_assert(bint) nogil
    uint64_t clock_us() nogil
    uint64_t clock_ntp() nogil
    void thread_cpu(double *, double *) nogil
    int last_errno() nogil
    bint sockaddr_read(const void *, uint8_t *, uint16_t *, uint8_t *) nogil
    uint32_t sockaddr_write(void *, const uint8_t *, uint16_t, uint8_t) nogil
    bint pktinfo_read(msghdr *, uint8_t *) nogil
    uint32_t pktinfo_write(void *, const uint8_t *, uint8_t) nogil
