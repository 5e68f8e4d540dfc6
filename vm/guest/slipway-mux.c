/* slipway-mux: the guest's end of the portable lane. Carries streams over one virtio-serial port where there is no
 * vsock. The frames are described at the head of src/hypervisor/vsock/serial-mux.ts.
 *
 *   slipway-mux [--device PATH] [--directory DIR]
 *
 * Streams the host opens to port N reach the unix socket DIR/port/N (N in decimal); programs here reach host port P
 * by connecting to DIR/connect and writing `00000002.PPPPPPPP\n` (hexadecimal): the answer is `OK\n` and the stream,
 * or a closed socket. DIR is /run/slipway unless given; the device is found by its name, slipway.mux. A PATH of the form
 * fd:N is an inherited descriptor.
 *
 * One thread, one epoll set. Frames from the device are taken in at once, always: what a socket does not take waits in
 * that stream's buffer, which the credit given to the host bounds, so no stream holds up another. Sockets are read only
 * into the output buffer's room and the stream's credit.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HELLO = 1, OPEN, ACCEPT, DATA, CREDIT, SHUTDOWN, RESET };
enum { NO_RECEIVE = 1, NO_SEND = 2 };

#define MAGIC 0x584d5753u /* "SWMX" */
#define VERSION 1
#define HEADER 12
#define TRAILER 4
#define MAX_PAYLOAD 32752
#define MAX_FRAME (HEADER + MAX_PAYLOAD + TRAILER)
#define HELLO_PAYLOAD 16

#define LARGE_WINDOW (256 * 1024)
#define SMALL_WINDOW (32 * 1024)
#define LARGE_WINDOWS 64
#define MAX_STREAMS 2048
#define BUCKETS 1024
/* Output beyond which no more data is read from sockets. */
#define OUTPUT_MARK (256 * 1024)
#define REDIAL_MS 10
#define REDIALS 200
#define LINE 18 /* 00000002.PPPPPPPP\n */

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
	uint32_t credit;	 /* octets that may be sent to the host */
	uint32_t window;	 /* octets the host may have on its way here, or held */
	uint32_t used;		 /* of the window */
	uint32_t owed;		 /* octets taken since the last CREDIT */
	int sent, received; /* SHUTDOWN flags */
	int readable, ended, broken;
	char *held; /* window octets, from `start`, `length` of them, going round */
	uint32_t start, length;
};

static const char *directory = "/run/slipway";
static int device = -1, listener = -1, events = -1;
static struct stream all = { .before = &all, .after = &all };
static struct stream *buckets[BUCKETS];
static unsigned streams, dialling;
static uint32_t next_id = 1; /* ours are odd */
static uint64_t own_nonce, peer_nonce;
static int up, acknowledged, hunting = 1;

static char input[2 * MAX_FRAME];
static size_t input_length;
static char *output;
static size_t output_start, output_length, output_size;
static int device_writable = 1, device_readable = 1;

static void say(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("slipway-mux: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
}

static void put32(char *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

static uint32_t get32(const char *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return value;
}

/* Output. */

/* Room for `octets` more at the end of the output. */
static char *reserve(size_t octets)
{
	if (output_start > 0 && output_start + output_length + octets > output_size) {
		memmove(output, output + output_start, output_length);
		output_start = 0;
	}
	if (output_length + octets > output_size) {
		output_size = (output_length + octets) * 2;
		output = realloc(output, output_size);
		if (!output) {
			say("out of memory");
			exit(1);
		}
	}
	return output + output_start + output_length;
}

/* Completes the frame whose payload is already at reserve(MAX_FRAME) + HEADER. */
static void commit(int type, int flags, uint32_t id, uint32_t value, uint32_t length)
{
	char *frame = output + output_start + output_length;
	uint32_t first = (uint32_t)type | (uint32_t)flags << 8 | length << 16;
	put32(frame, first);
	put32(frame + 4, id);
	put32(frame + 8, value);
	put32(frame + HEADER + length, MAGIC ^ first ^ id ^ value);
	output_length += HEADER + length + TRAILER;
}

static void frame(int type, int flags, uint32_t id, uint32_t value)
{
	reserve(HEADER + TRAILER);
	commit(type, flags, id, value, 0);
}

/* A new nonce for a new session; never 0, which means none. */
static void draw_nonce(void)
{
	do
		while (getrandom(&own_nonce, sizeof own_nonce, 0) != sizeof own_nonce)
			;
	while (own_nonce == 0);
}

static void hello(void)
{
	char *at = reserve(MAX_FRAME) + HEADER;
	memcpy(at, &own_nonce, 8);
	memcpy(at + 8, &peer_nonce, 8);
	commit(HELLO, VERSION, MAGIC, 0, HELLO_PAYLOAD);
	acknowledged = peer_nonce != 0;
}

static void flush_output(void)
{
	while (device_writable && output_length > 0) {
		ssize_t written = write(device, output + output_start, output_length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			device_writable = 0;
			return;
		}
		output_start += (size_t)written;
		output_length -= (size_t)written;
		if (output_length == 0)
			output_start = 0;
	}
}

/* Streams. */

static struct stream *find(uint32_t id)
{
	struct stream *stream = buckets[(id >> 1) % BUCKETS];
	while (stream && stream->id != id)
		stream = stream->next;
	return stream;
}

static struct stream *make(enum state state, int fd)
{
	struct stream *stream = streams < MAX_STREAMS ? calloc(1, sizeof *stream) : NULL;
	if (!stream)
		return NULL;
	stream->state = state;
	stream->fd = fd;
	dialling += state == DIALLING;
	stream->window = streams++ < LARGE_WINDOWS ? LARGE_WINDOW : SMALL_WINDOW;
	stream->before = all.before;
	stream->after = &all;
	all.before->after = stream;
	all.before = stream;
	return stream;
}

static void enter(struct stream *stream, uint32_t id)
{
	stream->id = id;
	stream->next = buckets[(id >> 1) % BUCKETS];
	buckets[(id >> 1) % BUCKETS] = stream;
}

static void destroy(struct stream *stream)
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
	dialling -= stream->state == DIALLING;
	free(stream->held);
	free(stream);
	streams--;
}

static void watch(int fd, void *what, uint32_t interest)
{
	struct epoll_event event = { .events = interest | EPOLLET, .data.ptr = what };
	if (epoll_ctl(events, EPOLL_CTL_ADD, fd, &event) != 0) {
		say("epoll_ctl: %s", strerror(errno));
		exit(1);
	}
}

static void reset(struct stream *stream)
{
	frame(RESET, 0, stream->id, 0);
	destroy(stream);
}

static void send_shutdown(struct stream *stream, int flags)
{
	if ((stream->sent | flags) == stream->sent)
		return;
	stream->sent |= flags;
	frame(SHUTDOWN, stream->sent, stream->id, 0);
}

/* Over once each side has said it sends no more, and what was held is written. True: the stream is gone. */
static int finished(struct stream *stream)
{
	if (!(stream->sent & NO_SEND) || !(stream->received & NO_SEND) || stream->length > 0)
		return 0;
	destroy(stream);
	return 1;
}

static void took(struct stream *stream, uint32_t octets)
{
	stream->owed += octets;
	if (stream->owed < stream->window / 2 || (stream->received & NO_SEND))
		return;
	frame(CREDIT, 0, stream->id, stream->owed);
	stream->used -= stream->owed;
	stream->owed = 0;
}

static void discard(struct stream *stream)
{
	took(stream, stream->length);
	stream->length = 0;
	stream->broken = 1;
	send_shutdown(stream, NO_RECEIVE);
}

/* Writes what is held, then passes on the host's end. True: the stream is gone. */
static int drain(struct stream *stream)
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

/* Data from the host. */
static void deliver(struct stream *stream, const char *data, uint32_t length)
{
	uint32_t done = 0;
	stream->used += length;
	if (stream->broken) {
		took(stream, length);
		return;
	}
	if (stream->length == 0) {
		ssize_t written = send(stream->fd, data, length, MSG_NOSIGNAL);
		if (written < 0 && errno != EAGAIN && errno != EINTR) {
			took(stream, length);
			discard(stream);
			return;
		}
		done = written > 0 ? (uint32_t)written : 0;
		took(stream, done);
		if (done == length)
			return;
	}
	if (!stream->held) {
		stream->held = malloc(stream->window);
		stream->start = 0;
		if (!stream->held) {
			reset(stream);
			return;
		}
	}
	uint32_t at = (stream->start + stream->length) % stream->window;
	uint32_t first = length - done < stream->window - at ? length - done : stream->window - at;
	memcpy(stream->held + at, data + done, first);
	memcpy(stream->held, data + done + first, length - done - first);
	stream->length += length - done;
}

static void established(struct stream *stream)
{
	stream->state = ESTABLISHED;
	stream->readable = 1;
}

/* Connects to the socket of the port the host asked for. */
static void dial(struct stream *stream)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s/port/%u", directory, stream->port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
		stream->fd = fd;
		watch(fd, stream, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
		frame(ACCEPT, 0, stream->id, stream->window);
		dialling--;
		established(stream);
		return;
	}
	int full = fd >= 0 && errno == EAGAIN;
	if (fd >= 0)
		close(fd);
	/* A full backlog is worth waiting for. */
	if (!full || stream->redials++ >= REDIALS)
		reset(stream);
}

/* Reads a client's line, and asks the host for the port. */
static void greet(struct stream *stream)
{
	char line[LINE + 1] = "";
	unsigned cid, port;
	ssize_t peeked = recv(stream->fd, line, LINE, MSG_PEEK);
	if (peeked < 0 && errno == EAGAIN)
		return;
	if (peeked > 0 && peeked < LINE && !memchr(line, '\n', (size_t)peeked))
		return;
	if (peeked > 0 && !up)
		return; /* until the host is there */
	if (peeked != LINE || sscanf(line, "%8x.%8x\n", &cid, &port) != 2 || cid != 2 || line[LINE - 1] != '\n') {
		destroy(stream);
		return;
	}
	recv(stream->fd, line, LINE, 0);
	while (find(next_id))
		next_id += 2;
	enter(stream, next_id);
	next_id += 2;
	stream->state = OPENING;
	put32(reserve(MAX_FRAME) + HEADER, stream->window);
	commit(OPEN, 0, stream->id, port, 4);
}

/* Frames from the host. */

static void forget_all(void)
{
	for (struct stream *stream = all.after, *after; stream != &all; stream = after) {
		after = stream->after;
		if (stream->state != WANTED)
			destroy(stream);
	}
}

static void end_session(void)
{
	forget_all();
	up = 0;
	hunting = 1;
	peer_nonce = 0;
	draw_nonce();
}

static void lose_sync(const char *why)
{
	say("out of step with the host: %s", why);
	end_session();
	hello();
}

static void greet_all(void)
{
	for (struct stream *stream = all.after, *after; stream != &all; stream = after) {
		after = stream->after;
		if (stream->state == WANTED)
			greet(stream);
	}
}

static void take_hello(const char *payload)
{
	uint64_t peer, acknowledgement;
	memcpy(&peer, payload, 8);
	memcpy(&acknowledgement, payload + 8, 8);
	hunting = 0;
	/* A host that does not know us has begun anew, whatever its nonce. */
	if (peer != peer_nonce || acknowledgement != own_nonce) {
		forget_all();
		acknowledged &= peer == peer_nonce;
		peer_nonce = peer;
	}
	up = acknowledgement == own_nonce;
	if (!up || !acknowledged)
		hello();
	if (up)
		greet_all();
}

static void take(int type, int flags, uint32_t id, uint32_t value, const char *payload, uint32_t length)
{
	struct stream *stream = find(id);
	if (type == HELLO) {
		take_hello(payload);
	} else if (!up) {
		return;
	} else if (type == OPEN) {
		stream = stream || length != 4 ? NULL : make(DIALLING, -1);
		if (!stream) {
			frame(RESET, 0, id, 0);
			return;
		}
		enter(stream, id);
		stream->port = value;
		stream->credit = get32(payload);
		dial(stream);
	} else if (!stream) {
		return;
	} else if (type == RESET) {
		destroy(stream);
	} else if (type == ACCEPT && stream->state == OPENING) {
		stream->credit = value;
		established(stream);
		if (send(stream->fd, "OK\n", 3, MSG_NOSIGNAL) != 3)
			reset(stream);
	} else if (stream->state != ESTABLISHED) {
		reset(stream);
	} else if (type == DATA) {
		if (length > stream->window - stream->used || (stream->received & NO_SEND))
			reset(stream);
		else
			deliver(stream, payload, length);
	} else if (type == CREDIT) {
		stream->credit += value;
	} else if (type == SHUTDOWN) {
		int news = flags & ~stream->received;
		stream->received |= flags;
		if (news & NO_RECEIVE) {
			shutdown(stream->fd, SHUT_RD);
			stream->ended = 1;
			send_shutdown(stream, NO_SEND);
		}
		if ((news & NO_SEND) && stream->length == 0)
			shutdown(stream->fd, SHUT_WR);
		finished(stream);
	} else {
		reset(stream);
	}
}

/* Takes the first frame of [at, end): octets consumed; 0: not whole yet; -1: no frame. */
static ssize_t parse(const char *at, const char *end)
{
	if (end - at < HEADER)
		return 0;
	uint32_t first = get32(at), id = get32(at + 4), value = get32(at + 8);
	uint32_t type = first & 0xff, flags = first >> 8 & 0xff, length = first >> 16;
	if (type < HELLO || type > RESET || length > MAX_PAYLOAD)
		return -1;
	if (type == HELLO && (flags != VERSION || length != HELLO_PAYLOAD || id != MAGIC))
		return -1;
	if (hunting && type != HELLO)
		return -1;
	if (end - at < (ptrdiff_t)(HEADER + length + TRAILER))
		return 0;
	if (get32(at + HEADER + length) != (MAGIC ^ first ^ id ^ value))
		return -1;
	take((int)type, (int)flags, id, value, at + HEADER, length);
	return HEADER + length + TRAILER;
}

static void read_device(void)
{
	/* A round, then the sockets have their turn. */
	for (int round = 0; round < 16; round++) {
		ssize_t got = read(device, input + input_length, sizeof input - input_length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			/* 0: the host's end is not there. Readiness is told when it is, and it says HELLO first. */
			if (got == 0 && up)
				end_session();
			device_readable = 0;
			return;
		}
		input_length += (size_t)got;
		size_t at = 0;
		for (;;) {
			ssize_t used = parse(input + at, input + input_length);
			if (used == 0)
				break;
			if (used < 0) {
				if (!hunting)
					lose_sync("a frame that is none");
				used = 1;
			}
			at += (size_t)used;
		}
		input_length -= at;
		if (at > 0)
			memmove(input, input + at, input_length);
	}
}

/* The programs' sockets. */

/* Reads one frame's worth into the output. */
static void read_socket(struct stream *stream)
{
	uint32_t most = stream->credit < MAX_PAYLOAD ? stream->credit : MAX_PAYLOAD;
	if (most == 0 || stream->ended || stream->state != ESTABLISHED)
		return;
	ssize_t got = recv(stream->fd, reserve(MAX_FRAME) + HEADER, most, 0);
	if (got > 0) {
		commit(DATA, 0, stream->id, 0, (uint32_t)got);
		stream->credit -= (uint32_t)got;
		return;
	}
	if (got < 0 && errno == EINTR)
		return;
	stream->readable = 0;
	if (got < 0 && errno == EAGAIN)
		return;
	if (got < 0) {
		reset(stream);
		return;
	}
	stream->ended = 1;
	send_shutdown(stream, NO_SEND);
	finished(stream);
}

static void socket_ready(struct stream *stream, uint32_t what)
{
	if (stream->state == WANTED) {
		greet(stream);
		return;
	}
	if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->readable = 1;
	if ((what & (EPOLLOUT | EPOLLHUP)) && stream->length > 0 && drain(stream))
		return;
	if ((what & EPOLLHUP) && stream->state == ESTABLISHED)
		send_shutdown(stream, NO_RECEIVE);
	if ((what & EPOLLHUP) && stream->state == OPENING)
		reset(stream);
}

static void accept_clients(void)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		struct stream *stream = make(WANTED, fd);
		if (stream)
			watch(fd, stream, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
		else
			close(fd);
	}
}

/* Reads the sockets in turn while the output has room. True: there is more to do at once. */
static int read_sockets(void)
{
	int more = 0;
	for (struct stream *stream = all.after, *after; stream != &all; stream = after) {
		after = stream->after;
		if (output_length >= OUTPUT_MARK)
			return 0;
		if (!stream->readable || stream->credit == 0)
			continue;
		uint32_t before = output_length;
		read_socket(stream);
		more |= output_length > before;
	}
	return more;
}

/* Tries again, every REDIAL_MS, the sockets whose backlog was full. */
static void redial(void)
{
	static int64_t last;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	if (now_ms - last < REDIAL_MS)
		return;
	last = now_ms;
	for (struct stream *stream = all.after, *after; stream != &all && dialling > 0; stream = after) {
		after = stream->after;
		if (stream->state == DIALLING)
			dial(stream);
	}
}

/* Starting. */

static int find_device(char *path, size_t size)
{
	snprintf(path, size, "/dev/virtio-ports/slipway.mux");
	if (access(path, F_OK) == 0)
		return 1;
	DIR *ports = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	int found = 0;
	while (ports && !found && (entry = readdir(ports))) {
		char name[64] = "";
		char file[400];
		snprintf(file, sizeof file, "/sys/class/virtio-ports/%s/name", entry->d_name);
		int fd = open(file, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, name, sizeof name - 1) > 0 && strncmp(name, "slipway.mux\n", 12) == 0) {
			snprintf(path, size, "/dev/%s", entry->d_name);
			found = 1;
		}
		close(fd);
	}
	if (ports)
		closedir(ports);
	return found;
}

static int listen_clients(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (snprintf(address.sun_path, sizeof address.sun_path, "%s/connect", directory) >= (int)sizeof address.sun_path)
		return -1;
	mkdir(directory, 0700);
	unlink(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask = umask(0177);
	int bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1024) == 0;
	umask(mask);
	return bound ? fd : -1;
}

int main(int count, char **arguments)
{
	static char path[512];
	for (int index = 1; index + 1 < count; index += 2) {
		if (strcmp(arguments[index], "--device") == 0)
			snprintf(path, sizeof path, "%s", arguments[index + 1]);
		else if (strcmp(arguments[index], "--directory") == 0)
			directory = arguments[index + 1];
	}
	signal(SIGPIPE, SIG_IGN);
	if (path[0] == 0 && !find_device(path, sizeof path)) {
		say("no virtio-serial port is named slipway.mux");
		return 1;
	}
	if (sscanf(path, "fd:%d", &device) == 1)
		fcntl(device, F_SETFL, fcntl(device, F_GETFL) | O_NONBLOCK);
	else
		device = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (device < 0) {
		say("%s: %s", path, strerror(errno));
		return 1;
	}
	listener = listen_clients();
	if (listener < 0) {
		say("%s/connect: %s", directory, strerror(errno));
		return 1;
	}
	events = epoll_create1(EPOLL_CLOEXEC);
	watch(device, &device, EPOLLIN | EPOLLOUT);
	watch(listener, &listener, EPOLLIN);
	/* Whatever the host's parser was in the middle of, this much of nothing ends it. */
	memset(reserve(MAX_FRAME), 0, MAX_FRAME);
	output_length += MAX_FRAME;
	draw_nonce();
	hello();

	int timeout = 0;
	for (;;) {
		struct epoll_event ready[64];
		int many = epoll_wait(events, ready, 64, timeout);
		for (int index = 0; index < many; index++) {
			void *what = ready[index].data.ptr;
			if (what == &device) {
				if (ready[index].events & (EPOLLIN | EPOLLHUP))
					device_readable = 1;
				if (ready[index].events & EPOLLOUT)
					device_writable = 1;
			} else if (what == &listener)
				accept_clients();
			else
				socket_ready(what, ready[index].events);
		}
		/* Only now: a frame may end any stream, and the batch above must not meet it again. */
		if (device_readable)
			read_device();
		if (dialling > 0)
			redial();
		int more = read_sockets();
		flush_output();
		timeout = more || device_readable ? 0 : dialling > 0 ? REDIAL_MS : -1;
	}
}
