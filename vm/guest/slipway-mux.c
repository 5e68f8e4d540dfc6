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
#include "channel.h"
#include "mux-frames.h"
#include "mux-streams.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

/* Output beyond which no more data is read from sockets. */
#define OUTPUT_MARK (256 * 1024)
#define REDIAL_MS 10
#define REDIALS 200
#define LINE 18 /* 00000002.PPPPPPPP\n */

static const char *directory = CHANNEL_DIRECTORY;
static int device = -1, listener = -1, events = -1;
static int device_writable = 1, device_readable = 1;
static uint32_t next_id = 1; /* ours are odd */
static uint64_t own_nonce, peer_nonce;
static int up, acknowledged;
/* Some stream is DIALLING. */
static int dialling;
/* A socket may have more data, and credit for them. */
static int more;

static int complain(const char *what)
{
	fprintf(stderr, "slipway-mux: %s: %s\n", what, strerror(errno));
	return 1;
}

static void watch(int fd, void *what, uint32_t interest)
{
	struct epoll_event event = { .events = interest | EPOLLET, .data.ptr = what };
	if (epoll_ctl(events, EPOLL_CTL_ADD, fd, &event) != 0)
		exit(complain("epoll_ctl"));
}

static void watch_socket(struct stream *stream)
{
	watch(stream->fd, stream, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

/* Streams that begin. */

static void established(struct stream *stream)
{
	stream->state = ESTABLISHED;
	stream->readable = 1;
}

/* Connects a stream of the host's to the socket of the port it asked for. */
static void dial(struct stream *stream)
{
	if (stream->state != DIALLING)
		return;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s/port/%u", directory, stream->port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
		stream->fd = fd;
		watch_socket(stream);
		frame_send(ACCEPT, 0, stream->id, stream->window);
		established(stream);
		return;
	}
	int full = fd >= 0 && errno == EAGAIN;
	if (fd >= 0)
		close(fd);
	/* A full backlog is worth waiting for. */
	if (full && stream->redials++ < REDIALS)
		dialling = 1;
	else
		stream_reset(stream);
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
	dialling = 0;
	stream_each(dial);
}

/* Reads the line of a client of DIR/connect, and asks the host for the port. */
static void greet(struct stream *stream)
{
	if (stream->state != WANTED)
		return;
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
		stream_destroy(stream);
		return;
	}
	recv(stream->fd, line, LINE, 0);
	while (stream_find(next_id))
		next_id += 2;
	stream_enter(stream, next_id);
	next_id += 2;
	stream->state = OPENING;
	put32(frame_payload(), stream->window);
	frame_commit(OPEN, 0, stream->id, port, 4);
}

static void accept_clients(void)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		struct stream *stream = stream_make(WANTED, fd);
		if (stream)
			watch_socket(stream);
		else
			close(fd);
	}
}

/* The session. */

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
	char *payload = frame_payload();
	memcpy(payload, &own_nonce, 8);
	memcpy(payload + 8, &peer_nonce, 8);
	frame_commit(HELLO, MUX_VERSION, MUX_MAGIC, 0, HELLO_PAYLOAD);
	acknowledged = peer_nonce != 0;
}

static void forget(struct stream *stream)
{
	if (stream->state != WANTED)
		stream_destroy(stream);
}

static void end_session(void)
{
	stream_each(forget);
	frames_hunt();
	up = 0;
	peer_nonce = 0;
	draw_nonce();
}

static void lose_step(void)
{
	fputs("slipway-mux: out of step with the host\n", stderr);
	end_session();
	hello();
}

static void take_hello(const char *payload)
{
	uint64_t peer, acknowledgement;
	memcpy(&peer, payload, 8);
	memcpy(&acknowledgement, payload + 8, 8);
	/* A host that does not know us has begun anew, whatever its nonce. */
	if (peer != peer_nonce || acknowledgement != own_nonce) {
		stream_each(forget);
		acknowledged &= peer == peer_nonce;
		peer_nonce = peer;
	}
	up = acknowledgement == own_nonce;
	if (!up || !acknowledged)
		hello();
	if (up)
		stream_each(greet);
}

static void open_stream(const struct frame *frame)
{
	struct stream *stream = frame->length == 4 ? stream_make(DIALLING, -1) : NULL;
	if (!stream) {
		frame_send(RESET, 0, frame->id, 0);
		return;
	}
	stream_enter(stream, frame->id);
	stream->port = frame->value;
	stream->credit = get32(frame->payload);
	dial(stream);
}

static void take(const struct frame *frame)
{
	struct stream *stream = stream_find(frame->id);
	if (frame->type == HELLO) {
		take_hello(frame->payload);
	} else if (!up) {
		return;
	} else if (frame->type == OPEN && !stream) {
		open_stream(frame);
	} else if (!stream) {
		return;
	} else if (frame->type == RESET) {
		stream_destroy(stream);
	} else if (frame->type == ACCEPT && stream->state == OPENING) {
		stream->credit = frame->value;
		established(stream);
		if (send(stream->fd, "OK\n", 3, MSG_NOSIGNAL) != 3)
			stream_reset(stream);
	} else if (stream->state != ESTABLISHED) {
		stream_reset(stream);
	} else if (frame->type == DATA) {
		if (frame->length > stream->window - stream->used || (stream->received & NO_SEND))
			stream_reset(stream);
		else
			stream_deliver(stream, frame->payload, frame->length);
	} else if (frame->type == CREDIT) {
		stream->credit += frame->value;
	} else if (frame->type == SHUTDOWN) {
		stream_ended(stream, frame->flags);
	} else {
		stream_reset(stream);
	}
}

/* A round of frames; then the sockets have their turn. */
static void read_device(void)
{
	for (int round = 0; round < 16; round++) {
		long got = frames_read(device, take, lose_step);
		if (got > 0 || (got < 0 && errno == EINTR))
			continue;
		/* 0: the host's end is not there. Readiness is told when it is, and it says HELLO first. */
		if (got == 0 && up)
			end_session();
		device_readable = 0;
		return;
	}
}

/* The programs' sockets. */

static void socket_ready(struct stream *stream, uint32_t what)
{
	if (stream->state == WANTED) {
		greet(stream);
		return;
	}
	if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->readable = 1;
	if ((what & (EPOLLOUT | EPOLLHUP)) && stream->length > 0 && stream_drain(stream))
		return;
	if ((what & EPOLLHUP) && stream->state == ESTABLISHED)
		stream_shut_down(stream, NO_RECEIVE);
	if ((what & EPOLLHUP) && stream->state == OPENING)
		stream_reset(stream);
}

/* Reads a socket's frame of data, while the output has room. */
static void read_socket(struct stream *stream)
{
	if (!stream->readable || stream->ended || stream->credit == 0)
		return;
	more = 1;
	if (frames_waiting() < OUTPUT_MARK)
		stream_read(stream);
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
		fputs("slipway-mux: no virtio-serial port is named slipway.mux\n", stderr);
		return 1;
	}
	if (sscanf(path, "fd:%d", &device) == 1)
		fcntl(device, F_SETFL, fcntl(device, F_GETFL) | O_NONBLOCK);
	else
		device = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (device < 0)
		return complain(path);
	listener = listen_clients();
	if (listener < 0)
		return complain("the connect socket");
	events = epoll_create1(EPOLL_CLOEXEC);
	watch(device, &device, EPOLLIN | EPOLLOUT);
	watch(listener, &listener, EPOLLIN);
	/* Whatever the host's parser was in the middle of, this much of nothing ends it. */
	frame_filler();
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
		if (dialling)
			redial();
		more = 0;
		stream_each(read_socket);
		if (device_writable)
			device_writable = frames_write(device);
		/* With the output full, the port says when it goes on. */
		int pressing = more && frames_waiting() < OUTPUT_MARK;
		timeout = pressing || device_readable ? 0 : dialling ? REDIAL_MS : -1;
	}
}
