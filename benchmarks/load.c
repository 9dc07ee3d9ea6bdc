/* The two ends of a forwarding benchmark: a publisher and the subscribers' sockets, in C so that
 * they cost less than what is measured.  Compiled by load.py at the first use. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define SLOT 1600

typedef int (*protect_fn)(void *session, void *packet, int *length);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Send `count` copies of `packet` with rising sequence numbers, encrypted by `session`, to the peer
 * that `fd` is connected to.  Never more than `window` packets are ahead of what the sinks got
 * (`received` counts `subscribers` datagrams a packet), so nothing is lost on the way.
 * Returns how many were sent; fewer when `deadline_s` passed. */
uint32_t publish(int fd, const uint8_t *packet, int length, uint16_t *seq, uint32_t count, protect_fn protect,
                 void *session, const uint64_t *received, uint32_t subscribers, uint32_t window, double deadline_s) {
    static __thread uint8_t slots[BATCH][SLOT];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    uint32_t sent = 0;
    uint64_t base = __atomic_load_n(received, __ATOMIC_RELAXED);
    double end = now() + deadline_s;
    memset(messages, 0, sizeof(messages));
    while (sent < count && now() < end) {
        uint64_t done = (__atomic_load_n(received, __ATOMIC_RELAXED) - base) / subscribers;
        uint32_t room = window - (uint32_t)(sent - done);
        if (room == 0 || room > window) {
            usleep(50);
            continue;
        }
        if (room > BATCH) room = BATCH;
        if (room > count - sent) room = count - sent;
        for (uint32_t i = 0; i < room; i++) {
            int size = length;
            memcpy(slots[i], packet, (size_t)length);
            slots[i][2] = (uint8_t)(*seq >> 8);
            slots[i][3] = (uint8_t)*seq;
            (*seq)++;
            if (protect(session, slots[i], &size) != 0) return sent;
            vectors[i].iov_base = slots[i];
            vectors[i].iov_len = (size_t)size;
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        int n = sendmmsg(fd, messages, room, 0);
        if (n > 0) sent += (uint32_t)n;
    }
    return sent;
}

/* Empty the sockets until `*stop`; `*received` counts datagrams of media (RTCP is left out). */
void drain(const int *fds, int count, uint64_t *received, const uint32_t *stop) {
    static __thread uint8_t slots[BATCH][SLOT];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct epoll_event event, events[64];
    int ep = epoll_create1(0);
    memset(messages, 0, sizeof(messages));
    for (int i = 0; i < BATCH; i++) {
        vectors[i].iov_base = slots[i];
        vectors[i].iov_len = SLOT;
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < count; i++) {
        event.events = EPOLLIN;
        event.data.fd = fds[i];
        epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &event);
    }
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        int ready = epoll_wait(ep, events, 64, 20);
        for (int i = 0; i < ready; i++) {
            int n = recvmmsg(events[i].data.fd, messages, BATCH, MSG_DONTWAIT, 0);
            uint64_t media = 0;
            for (int k = 0; k < n; k++)
                if (messages[k].msg_len > 200) media++;
            if (media) __atomic_fetch_add(received, media, __ATOMIC_RELAXED);
        }
    }
    close(ep);
}
