/* See events.h. The carrier reads lines from the FIFO (which it holds open for writing too, so that it never ends) and
 * connects when there is one to send: from the start of the boot again and again, as the lane comes up some time after
 * us; a stream that broke is opened anew and the line that it lost sent again. */

#include "events.h"
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HOST_EVENTS 62377
#define LINE_OCTETS 1024
/* Tries after 10 ms at first, then ever more seldom. */
#define FIRST_PAUSE_US 10000
#define LAST_PAUSE_US 1000000

double uptime_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int send_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		text += sent;
		length -= (size_t)sent;
	}
	return 0;
}

static int connect_patiently(void)
{
	useconds_t pause = FIRST_PAUSE_US;
	for (;;) {
		int fd = channel_connect(HOST_EVENTS);
		if (fd >= 0)
			return fd;
		usleep(pause);
		if (pause < LAST_PAUSE_US)
			pause += pause / 2;
	}
}

static void carry(FILE *fifo)
{
	char line[LINE_OCTETS];
	int fd = -1;
	while (fgets(line, sizeof line, fifo)) {
		size_t length = strlen(line);
		if (line[length - 1] != '\n')
			line[length - 1] = '\n';
		for (;;) {
			if (fd < 0)
				fd = connect_patiently();
			if (send_all(fd, line, length) == 0)
				break;
			close(fd);
			fd = -1;
		}
	}
}

void events_start(void)
{
	/* Opened before the fork: the first events come before the carrier has run. */
	mkfifo(EVENTS_FIFO, 0600);
	int fd = open(EVENTS_FIFO, O_RDWR | O_CLOEXEC);
	if (fork() != 0) {
		close(fd);
		return;
	}
	prctl(PR_SET_NAME, "slipway-events");
	signal(SIGPIPE, SIG_IGN);
	FILE *fifo = fd < 0 ? NULL : fdopen(fd, "r");
	if (fifo)
		carry(fifo);
	_exit(1);
}

/* A line is less than PIPE_BUF: it arrives whole, or not at all when the FIFO is full. */
static void event_line(const char *kind, const char *text)
{
	char line[LINE_OCTETS];
	int length = snprintf(line, sizeof line - 1, "%s %s", kind, text);
	if (length > (int)sizeof line - 2)
		length = (int)sizeof line - 2;
	for (int i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[length] = '\n';
	int fd = open(EVENTS_FIFO, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, line, (size_t)length + 1) < 0)
		fprintf(stderr, "slipway: an event is lost: %s\n", strerror(errno));
	close(fd);
}

void event_mark(const char *name, double seconds)
{
	char text[80];
	snprintf(text, sizeof text, "%s %.3f", name, seconds < 0 ? uptime_seconds() : seconds);
	event_line("mark", text);
}

static void say(const char *kind, const char *format, va_list arguments)
{
	char text[LINE_OCTETS / 2];
	vsnprintf(text, sizeof text, format, arguments);
	fprintf(stderr, "slipway: %s\n", text);
	event_line(kind, text);
}

void event_log(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	say("log", format, arguments);
	va_end(arguments);
}

void event_panic(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	say("panic", format, arguments);
	va_end(arguments);
}
