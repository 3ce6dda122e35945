/* Passes packets between TUN devices as lines do, one between any two: at a rate, after a delay, some of them lost.
 *
 * Arguments: the files of the devices, which do not block, and of a page of memory that the parent writes and reads
 * (`network.py`, `Lines`). The last byte of a packet's address is the number of its device, from 1 on. A packet takes
 * its time on the line also when it is lost. Ends with its parent.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MOST_ENDS 8
#define LARGEST_PACKET 65536
#define LARGEST_QUEUE (64L << 20) /* bytes; what comes above is lost */
#define BURST 64                  /* packets read before others are passed on */

struct page {
    double rate;     /* bits per second in each direction; 0: without limit */
    double delay;    /* seconds one way */
    double loss;     /* probability of a packet */
    double bytes[MOST_ENDS]; /* taken, by the end that sent them */
};

struct packet {
    double due;
    long size;
    struct packet *next;
    char data[];
};

struct direction {
    struct packet *first, *last;
    long queued;
    double free_at; /* when the line has sent what was put on it */
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static void take(struct direction *line, volatile struct page *page, int end, const char *data, long size) {
    double time = now();
    page->bytes[end] += size;
    line->free_at = (line->free_at > time ? line->free_at : time) + (page->rate > 0 ? 8 * size / page->rate : 0);
    if (drand48() < page->loss || line->queued + size > LARGEST_QUEUE)
        return;
    struct packet *packet = malloc(sizeof *packet + size);
    if (!packet)
        exit(1);
    packet->due = line->free_at + page->delay;
    packet->size = size;
    packet->next = NULL;
    memcpy(packet->data, data, size);
    line->queued += size;
    if (line->last)
        line->last->next = packet;
    else
        line->first = packet;
    line->last = packet;
}

static void pass_on(struct direction *line, int output) {
    double time = now();
    while (line->first && line->first->due <= time) {
        struct packet *packet = line->first;
        if (write(output, packet->data, packet->size) < 0) {
            /* a device that takes no more: lost, as on a real one */
        }
        line->first = packet->next;
        if (!line->first)
            line->last = NULL;
        line->queued -= packet->size;
        free(packet);
    }
}

/* Return the number of the end that a packet of IPv4 goes to; -1: to none. */
static int receiver(const char *data, long size, int count) {
    int end = size >= 20 && (data[0] >> 4 & 15) == 4 ? (unsigned char)data[19] - 1 : -1;
    return end < count ? end : -1;
}

/* Return the seconds until the next packet is due; -1: none is on its way. */
static double until_due(struct direction lines[][MOST_ENDS], int count) {
    double earliest = 0;
    for (int from = 0; from < count; from++)
        for (int to = 0; to < count; to++) {
            struct packet *first = lines[from][to].first;
            if (first && (!earliest || first->due < earliest))
                earliest = first->due;
        }
    double left = earliest - now();
    return !earliest ? -1 : left > 0 ? left : 0;
}

int main(int arguments_count, char **arguments) {
    static char data[LARGEST_PACKET];
    static struct direction lines[MOST_ENDS][MOST_ENDS]; /* from, to */
    struct pollfd files[MOST_ENDS];
    int count = arguments_count - 2;
    if (count < 2 || count > MOST_ENDS)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    for (int end = 0; end < count; end++)
        files[end] = (struct pollfd){atoi(arguments[1 + end]), POLLIN, 0};
    volatile struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[1 + count]), 0);
    if (page == MAP_FAILED)
        return 1;
    for (;;) {
        double left = until_due(lines, count);
        struct timespec wait = {(time_t)left, (long)(1e9 * (left - (time_t)left))};
        ppoll(files, count, left < 0 ? NULL : &wait, NULL);
        for (int from = 0; from < count; from++) {
            long size;
            for (int read_now = 0; read_now < BURST && files[from].revents & POLLIN; read_now++) {
                if ((size = read(files[from].fd, data, sizeof data)) <= 0)
                    break;
                int to = receiver(data, size, count);
                if (to >= 0)
                    take(&lines[from][to], page, from, data, size);
            }
            for (int to = 0; to < count; to++)
                pass_on(&lines[from][to], files[to].fd);
        }
    }
}
