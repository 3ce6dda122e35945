/* Passes packets between two TUN devices as a line does: at a rate, after a delay, some of them lost.
 *
 * Arguments: the files of the two devices, which do not block, and of a page of memory that the parent writes and reads
 * (`network.py`, `Line`). A packet takes its time on the line also when it is lost. Ends with its parent.
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

#define LARGEST_PACKET 65536
#define LARGEST_QUEUE (64L << 20) /* bytes; what comes above is lost */
#define BURST 64                  /* packets read before others are passed on */

struct page {
    double rate;     /* bits per second in each direction; 0: without limit */
    double delay;    /* seconds one way */
    double loss;     /* probability of a packet */
    double bytes[2]; /* taken, by the end that sent them */
    double lost[2];  /* packets */
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
    if (drand48() < page->loss || line->queued + size > LARGEST_QUEUE) {
        page->lost[end]++;
        return;
    }
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

int main(int count, char **arguments) {
    static char data[LARGEST_PACKET];
    struct direction lines[2] = {{0}};
    if (count != 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    int ends[2] = {atoi(arguments[1]), atoi(arguments[2])};
    volatile struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[3]), 0);
    if (page == MAP_FAILED)
        return 1;
    for (;;) {
        struct pollfd files[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLIN, 0}};
        struct timespec wait = {0}, *limit = NULL;
        double earliest = 0;
        for (int end = 0; end < 2; end++)
            if (lines[end].first && (!earliest || lines[end].first->due < earliest))
                earliest = lines[end].first->due;
        if (earliest) {
            double left = earliest - now();
            if (left > 0) {
                wait.tv_sec = (time_t)left;
                wait.tv_nsec = (long)(1e9 * (left - (time_t)left));
            }
            limit = &wait;
        }
        ppoll(files, 2, limit, NULL);
        for (int end = 0; end < 2; end++) {
            long size;
            for (int read_now = 0; read_now < BURST && files[end].revents & POLLIN; read_now++) {
                if ((size = read(ends[end], data, sizeof data)) <= 0)
                    break;
                take(&lines[end], page, end, data, size);
            }
            pass_on(&lines[end], ends[1 - end]);
        }
    }
}
