/* See relay.h. */

#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536

struct way {
	int from, into;
	size_t start, length;
	/* The source has ended; the sink has been told, or is gone. */
	int ended, closed;
	char octets[CHUNK];
};

static void fill(struct way *way)
{
	ssize_t got = read(way->from, way->octets, CHUNK);
	if (got > 0) {
		way->start = 0;
		way->length = (size_t)got;
	} else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
		way->ended = 1;
	}
}

static void drain(struct way *way)
{
	ssize_t done = send(way->into, way->octets + way->start, way->length, MSG_NOSIGNAL);
	if (done >= 0) {
		way->start += (size_t)done;
		way->length -= (size_t)done;
	} else if (errno != EINTR && errno != EAGAIN) {
		way->closed = 1;
	}
}

static void settle(struct way *way)
{
	if (way->ended && way->length == 0 && !way->closed) {
		shutdown(way->into, SHUT_WR);
		way->closed = 1;
	}
}

void relay(int one, int other)
{
	static struct way ways[2];
	ways[0] = (struct way){ .from = one, .into = other };
	ways[1] = (struct way){ .from = other, .into = one };
	fcntl(one, F_SETFL, O_NONBLOCK);
	fcntl(other, F_SETFL, O_NONBLOCK);
	while (!ways[0].closed || !ways[1].closed) {
		/* ways[i].from is ends[i]: readable for ways[i], writable for the other way; hang-ups are told unasked. */
		struct pollfd ends[2];
		for (int i = 0; i < 2; i++) {
			struct way *out = &ways[i], *in = &ways[1 - i];
			short events = 0;
			if (!out->ended && !out->closed && out->length == 0)
				events |= POLLIN;
			if (!in->closed && in->length > 0)
				events |= POLLOUT;
			/* An end that hung up and has nothing more for us would be told of for ever. */
			ends[i] = (struct pollfd){ out->ended && in->closed ? -1 : out->from, events, 0 };
		}
		if (poll(ends, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		for (int i = 0; i < 2; i++) {
			struct way *out = &ways[i], *in = &ways[1 - i];
			if (ends[i].revents & POLLIN)
				fill(out);
			if (ends[i].revents & POLLOUT)
				drain(in);
			if (!(ends[i].revents & (POLLHUP | POLLERR)))
				continue;
			/* Gone: nothing can be sent there any more, but what it sent before is still to be read. */
			in->closed = 1;
			in->length = 0;
			if (!out->ended && !out->closed && out->length == 0 && !(ends[i].revents & POLLIN))
				fill(out);
		}
		settle(&ways[0]);
		settle(&ways[1]);
	}
}
