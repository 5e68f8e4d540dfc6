/* The multiplexer's streams: each a program's socket, the host's credit and ours, and how far each side has ended. */

#ifndef SLIPWAY_MUX_STREAMS_H
#define SLIPWAY_MUX_STREAMS_H

#include <stdint.h>

/* SHUTDOWN flags, cumulative: the sender will not receive, or send, any more. */
enum { NO_RECEIVE = 1, NO_SEND = 2 };

/* WANTED: a client of DIR/connect that has not written its line; OPENING: the host has not accepted; DIALLING: the
 * host's, our socket not connected yet. */
enum state { WANTED, OPENING, DIALLING, ESTABLISHED };

struct stream {
	struct stream *next; /* in its bucket */
	struct stream *before, *after; /* of all streams */
	uint32_t id;
	enum state state;
	int fd;
	unsigned port;
	unsigned redials;
	uint32_t credit; /* octets that may be sent to the host */
	uint32_t window; /* octets the host may have on their way here, or held */
	uint32_t used; /* of the window */
	uint32_t owed; /* octets taken since the last CREDIT */
	int sent, received; /* SHUTDOWN flags */
	int readable, ended, broken;
	char *held; /* window octets, from `start`, `length` of them, going round */
	uint32_t start, length;
};

/* NULL: there are too many. */
struct stream *stream_make(enum state state, int fd);
void stream_destroy(struct stream *stream);

/* Gives a stream its id, by which it is found. */
void stream_enter(struct stream *stream, uint32_t id);
struct stream *stream_find(uint32_t id);

/* Calls `act`, which may destroy the stream it is given, for every stream. */
void stream_each(void (*act)(struct stream *));

/* RESET, and the stream is gone. */
void stream_reset(struct stream *stream);

void stream_shut_down(struct stream *stream, int flags);

/* The functions below return true when the stream is gone. */

/* Data from the host: written to the socket, or held until it takes them. */
int stream_deliver(struct stream *stream, const char *data, uint32_t length);

/* Writes what is held, then passes on the host's end. */
int stream_drain(struct stream *stream);

/* The host's SHUTDOWN. */
int stream_ended(struct stream *stream, int flags);

/* Reads the socket into a frame, as far as the credit goes. */
int stream_read(struct stream *stream);

#endif
