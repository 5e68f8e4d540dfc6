/* See agent-session.h. */

#define _GNU_SOURCE
#include "agent-session.h"
#include "stream-line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 65536
#define LONGEST_COMMAND (1 << 20)
#define STDOUT_FRAME 1
#define STDERR_FRAME 2
#define EXIT_FRAME 3

static char octets[CHUNK];

static void become(const char *const argv[])
{
	signal(SIGPIPE, SIG_DFL);
	setenv("HOME", "/root", 1);
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	if (chdir("/root") != 0 && chdir("/") != 0)
		_exit(127);
	execv("/bin/sh", (char *const *)argv);
	_exit(127);
}

/* What is left of one chunk on its way into a file descriptor that may be full. */
struct chunk {
	size_t start, length;
	char octets[CHUNK];
};

static int push(struct chunk *chunk, int fd)
{
	ssize_t done = write(fd, chunk->octets + chunk->start, chunk->length);
	if (done < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	chunk->start += (size_t)done;
	chunk->length -= (size_t)done;
	return 0;
}

static int pull(struct chunk *chunk, int fd)
{
	ssize_t got = read(fd, chunk->octets, CHUNK);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	chunk->start = 0;
	chunk->length = (size_t)got;
	return got == 0 ? -1 : 0;
}

void serve_shell(int stream)
{
	static struct chunk typed, shown;
	static const char *const argv[] = { "-sh", NULL };
	char line[128];
	char term[64] = "dumb";
	unsigned columns = 80, rows = 24;
	int pty;
	if (read_line(stream, line, sizeof line) < 0 || sscanf(line, "%u %u %63s", &columns, &rows, term) < 2)
		return;
	struct winsize size = { .ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows };
	pid_t pid = forkpty(&pty, NULL, NULL, &size);
	if (pid < 0)
		return;
	if (pid == 0) {
		setenv("TERM", term, 1);
		become(argv);
	}
	fcntl(pty, F_SETFL, O_NONBLOCK);
	fcntl(stream, F_SETFL, O_NONBLOCK);
	for (;;) {
		struct pollfd ends[2] = {
			{ stream, (short)((typed.length == 0 ? POLLIN : 0) | (shown.length > 0 ? POLLOUT : 0)), 0 },
			{ pty, (short)((shown.length == 0 ? POLLIN : 0) | (typed.length > 0 ? POLLOUT : 0)), 0 },
		};
		if (poll(ends, 2, -1) < 0 && errno != EINTR)
			break;
		if (ends[0].revents & POLLOUT && push(&shown, stream) != 0)
			break;
		if (ends[1].revents & POLLOUT && push(&typed, pty) != 0)
			break;
		if (typed.length == 0 && ends[0].revents & (POLLIN | POLLHUP | POLLERR) && pull(&typed, stream) != 0)
			break;
		if (shown.length == 0 && ends[1].revents & (POLLIN | POLLHUP) && pull(&shown, pty) != 0)
			break;
	}
	kill(-pid, SIGHUP);
	close(pty);
}

static int send_frame(int stream, unsigned char kind, const char *body, size_t length)
{
	unsigned char header[5] = { kind, (unsigned char)length, (unsigned char)(length >> 8),
				    (unsigned char)(length >> 16), (unsigned char)(length >> 24) };
	return write_all(stream, header, sizeof header) || write_all(stream, body, length);
}

static char *read_command(int stream)
{
	char line[32];
	if (read_line(stream, line, sizeof line) < 0)
		return NULL;
	long length = strtol(line, NULL, 10);
	char *text = length > 0 && length <= LONGEST_COMMAND ? calloc(1, (size_t)length + 1) : NULL;
	for (long got = 0; text && got < length;) {
		ssize_t more = read(stream, text + got, (size_t)(length - got));
		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			return NULL;
		got += more;
	}
	return text;
}

/* Carries until the command has closed its output; -1 when the stream is gone. */
static int carry_command(int stream, int input, int outputs[2])
{
	static struct chunk waiting;
	int reading = 1;
	fcntl(input, F_SETFL, O_NONBLOCK);
	while (outputs[0] >= 0 || outputs[1] >= 0) {
		struct pollfd ends[4] = {
			{ stream, (short)(reading && waiting.length == 0 ? POLLIN : 0), 0 },
			{ waiting.length > 0 ? input : -1, POLLOUT, 0 },
			{ outputs[0], POLLIN, 0 },
			{ outputs[1], POLLIN, 0 },
		};
		if (poll(ends, 4, -1) < 0 && errno != EINTR)
			return -1;
		if (ends[0].revents & POLLIN && pull(&waiting, stream) != 0)
			reading = 0;
		else if (ends[0].revents & (POLLHUP | POLLERR))
			return -1;
		if (ends[1].revents && push(&waiting, input) != 0) {
			reading = 0;
			waiting.length = 0;
		}
		if (!reading && waiting.length == 0 && input >= 0) {
			close(input);
			input = -1;
		}
		for (int i = 0; i < 2; i++) {
			if (!ends[2 + i].revents)
				continue;
			ssize_t got = read(outputs[i], octets, sizeof octets);
			if (got < 0 && errno == EINTR)
				continue;
			if (got > 0 && send_frame(stream, i == 0 ? STDOUT_FRAME : STDERR_FRAME, octets, (size_t)got) != 0)
				return -1;
			if (got > 0)
				continue;
			close(outputs[i]);
			outputs[i] = -1;
		}
	}
	if (input >= 0)
		close(input);
	return 0;
}

void serve_command(int stream)
{
	int in[2], out[2], err[2], status = 0;
	char *text = read_command(stream);
	if (!text || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return;
	const char *const argv[] = { "sh", "-l", "-c", text, NULL };
	pid_t pid = fork();
	if (pid < 0)
		return;
	if (pid == 0) {
		setsid();
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		become(argv);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	if (carry_command(stream, in[1], (int[2]){ out[0], err[0] }) != 0) {
		kill(-pid, SIGHUP);
		return;
	}
	waitpid(pid, &status, 0);
	char text_status[16];
	int length = snprintf(text_status, sizeof text_status, "%d",
			      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	send_frame(stream, EXIT_FRAME, text_status, (size_t)length);
}
