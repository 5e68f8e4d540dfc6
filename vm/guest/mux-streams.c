/* See mux-streams.h. */

#include "mux-streams.h"
#include "mux-frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE_WINDOW (256 * 1024)
#define SMALL_WINDOW (32 * 1024)
#define LARGE_WINDOWS 64
#define MAX_STREAMS 2048
#define BUCKETS 1024

static struct stream all = { .before = &all, .after = &all };
static struct stream *buckets[BUCKETS];
static unsigned streams;

struct stream *stream_find(uint32_t id)
{
	struct stream *stream = buckets[(id >> 1) % BUCKETS];
	while (stream && stream->id != id)
		stream = stream->next;
	return stream;
}

struct stream *stream_make(enum state state, int fd)
{
	struct stream *stream = streams < MAX_STREAMS ? calloc(1, sizeof *stream) : NULL;
	if (!stream)
		return NULL;
	stream->state = state;
	stream->fd = fd;
	stream->window = streams++ < LARGE_WINDOWS ? LARGE_WINDOW : SMALL_WINDOW;
	stream->before = all.before;
	stream->after = &all;
	all.before->after = stream;
	all.before = stream;
	return stream;
}

void stream_enter(struct stream *stream, uint32_t id)
{
	stream->id = id;
	stream->next = buckets[(id >> 1) % BUCKETS];
	buckets[(id >> 1) % BUCKETS] = stream;
}

void stream_destroy(struct stream *stream)
{
	struct stream **at = &buckets[(stream->id >> 1) % BUCKETS];
	while (*at && *at != stream)
		at = &(*at)->next;
	if (*at)
		*at = stream->next;
	stream->before->after = stream->after;
	stream->after->before = stream->before;
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->held);
	free(stream);
	streams--;
}

void stream_each(void (*act)(struct stream *))
{
	for (struct stream *stream = all.after, *after; stream != &all; stream = after) {
		after = stream->after;
		act(stream);
	}
}

void stream_reset(struct stream *stream)
{
	frame_send(RESET, 0, stream->id, 0);
	stream_destroy(stream);
}

void stream_shut_down(struct stream *stream, int flags)
{
	if ((stream->sent | flags) == stream->sent)
		return;
	stream->sent |= flags;
	frame_send(SHUTDOWN, stream->sent, stream->id, 0);
}

/* Over once each side has said it sends no more, and what was held is written. True: the stream is gone. */
static int finished(struct stream *stream)
{
	if (!(stream->sent & NO_SEND) || !(stream->received & NO_SEND) || stream->length > 0)
		return 0;
	stream_destroy(stream);
	return 1;
}

/* The socket took octets (or they are of no use): credit goes back after half the window. */
static void took(struct stream *stream, uint32_t octets)
{
	stream->owed += octets;
	if (stream->owed < stream->window / 2 || (stream->received & NO_SEND))
		return;
	frame_send(CREDIT, 0, stream->id, stream->owed);
	stream->used -= stream->owed;
	stream->owed = 0;
}

/* The socket takes nothing more. */
static void discard(struct stream *stream)
{
	took(stream, stream->length);
	stream->length = 0;
	stream->broken = 1;
	stream_shut_down(stream, NO_RECEIVE);
}

int stream_drain(struct stream *stream)
{
	while (stream->length > 0) {
		uint32_t octets = stream->window - stream->start;
		if (octets > stream->length)
			octets = stream->length;
		ssize_t written = send(stream->fd, stream->held + stream->start, octets, MSG_NOSIGNAL);
		if (written < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (written < 0) {
			discard(stream);
			break;
		}
		stream->start = (stream->start + (uint32_t)written) % stream->window;
		stream->length -= (uint32_t)written;
		took(stream, (uint32_t)written);
	}
	free(stream->held);
	stream->held = NULL;
	if (stream->received & NO_SEND)
		shutdown(stream->fd, SHUT_WR);
	return finished(stream);
}

int stream_deliver(struct stream *stream, const char *data, uint32_t length)
{
	uint32_t done = 0;
	stream->used += length;
	if (stream->broken) {
		took(stream, length);
		return 0;
	}
	if (stream->length == 0) {
		ssize_t written = send(stream->fd, data, length, MSG_NOSIGNAL);
		if (written < 0 && errno != EAGAIN && errno != EINTR) {
			took(stream, length);
			discard(stream);
			return 0;
		}
		done = written > 0 ? (uint32_t)written : 0;
		took(stream, done);
		if (done == length)
			return 0;
	}
	if (!stream->held) {
		stream->held = malloc(stream->window);
		stream->start = 0;
		if (!stream->held) {
			stream_reset(stream);
			return 1;
		}
	}
	uint32_t at = (stream->start + stream->length) % stream->window;
	uint32_t first = length - done < stream->window - at ? length - done : stream->window - at;
	memcpy(stream->held + at, data + done, first);
	memcpy(stream->held, data + done + first, length - done - first);
	stream->length += length - done;
	return 0;
}

int stream_ended(struct stream *stream, int flags)
{
	int news = flags & ~stream->received;
	stream->received |= flags;
	if (news & NO_RECEIVE) {
		shutdown(stream->fd, SHUT_RD);
		stream->ended = 1;
		stream_shut_down(stream, NO_SEND);
	}
	if ((news & NO_SEND) && stream->length == 0)
		shutdown(stream->fd, SHUT_WR);
	return finished(stream);
}

int stream_read(struct stream *stream)
{
	uint32_t most = stream->credit < MAX_PAYLOAD ? stream->credit : MAX_PAYLOAD;
	if (most == 0 || stream->ended || stream->state != ESTABLISHED)
		return 0;
	ssize_t got = recv(stream->fd, frame_payload(), most, 0);
	if (got > 0) {
		frame_commit(DATA, 0, stream->id, 0, (uint32_t)got);
		stream->credit -= (uint32_t)got;
		return 0;
	}
	if (got < 0 && errno == EINTR)
		return 0;
	stream->readable = 0;
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got < 0) {
		stream_reset(stream);
		return 1;
	}
	stream->ended = 1;
	stream_shut_down(stream, NO_SEND);
	return finished(stream);
}
