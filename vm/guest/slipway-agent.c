/* The guest's services for the host (vm/README.md, Streams), one process a stream:
 *   2376  the Docker API: octets to and from /run/docker.sock, half-close kept
 *   2222  a root shell on a pty
 *   2223  a command without a pty
 *   2224  control: poweroff, reboot, time SECONDS.NANOS, ping
 * Listens on AF_VSOCK, for the host (CID 2) alone, and on unix sockets CHANNEL_DIRECTORY/port/N, where the portable
 * lane's multiplexer connects. Who reaches these is root in the guest: containers have neither. */

#define _GNU_SOURCE
#include "agent-session.h"
#include "channel.h"
#include "relay.h"
#include "stream-line.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define BACKLOG 128
/* A client may come before dockerd does: how long it is kept waiting. */
#define DOCKER_WAIT_MS 60000
#define DOCKER_STEP_MS 50
#ifndef DOCKER_SOCKET
#define DOCKER_SOCKET "/run/docker.sock"
#endif

static int connect_docker(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = DOCKER_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void serve_docker(int stream)
{
	int docker = connect_docker();
	for (int waited = 0; docker < 0 && waited < DOCKER_WAIT_MS; waited += DOCKER_STEP_MS) {
		struct pollfd client = { stream, 0, 0 };
		if (poll(&client, 1, DOCKER_STEP_MS) > 0)
			return;
		docker = connect_docker();
	}
	if (docker >= 0)
		relay(stream, docker);
}

/* What is wrong, or NULL. */
static const char *control(const char *line)
{
	long long seconds;
	char nanos[10] = "";
	if (strcmp(line, "ping") == 0)
		return NULL;
	if (strcmp(line, "poweroff") == 0)
		return kill(1, SIGUSR2) == 0 ? NULL : strerror(errno);
	if (strcmp(line, "reboot") == 0)
		return kill(1, SIGTERM) == 0 ? NULL : strerror(errno);
	if (sscanf(line, "time %lld.%9[0-9]", &seconds, nanos) >= 1) {
		/* A fraction: 5 is half a second. */
		while (strlen(nanos) < sizeof nanos - 1)
			strcat(nanos, "0");
		struct timespec now = { .tv_sec = (time_t)seconds, .tv_nsec = strtol(nanos, NULL, 10) };
		return clock_settime(CLOCK_REALTIME, &now) == 0 ? NULL : strerror(errno);
	}
	return "unknown command; there are poweroff, reboot, time SECONDS.NANOS, ping";
}

static void serve_control(int stream)
{
	char line[128], answer[256];
	while (read_line(stream, line, sizeof line) >= 0) {
		const char *error = control(line);
		int length = error ? snprintf(answer, sizeof answer, "error %s\n", error) :
				     snprintf(answer, sizeof answer, "ok\n");
		if (write_all(stream, answer, (size_t)length) != 0)
			return;
	}
}

static const struct {
	unsigned port;
	void (*serve)(int stream);
} services[] = { { 2376, serve_docker }, { 2222, serve_shell }, { 2223, serve_command }, { 2224, serve_control } };

#define SERVICES (sizeof services / sizeof *services)

/* -1 where there is no vsock. */
static int listen_vsock(unsigned port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	close(fd);
	return -1;
}

static int listen_unix(unsigned port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, CHANNEL_DIRECTORY "/port/%u", port);
	unlink(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	perror(address.sun_path);
	exit(1);
}

static int accept_host(int listener, int by_vsock)
{
	struct sockaddr_vm peer = { .svm_cid = VMADDR_CID_ANY };
	socklen_t length = sizeof peer;
	int stream = accept4(listener, by_vsock ? (struct sockaddr *)&peer : NULL, by_vsock ? &length : NULL, SOCK_CLOEXEC);
	if (stream < 0 || !by_vsock || peer.svm_cid == VMADDR_CID_HOST)
		return stream;
	close(stream);
	return -1;
}

int main(void)
{
	struct pollfd listeners[2 * SERVICES];
	umask(077);
	mkdir(CHANNEL_DIRECTORY, 0700);
	mkdir(CHANNEL_DIRECTORY "/port", 0700);
	signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; i < SERVICES; i++) {
		listeners[2 * i] = (struct pollfd){ listen_unix(services[i].port), POLLIN, 0 };
		listeners[2 * i + 1] = (struct pollfd){ listen_vsock(services[i].port), POLLIN, 0 };
	}
	umask(022);
	for (;;) {
		if (poll(listeners, 2 * SERVICES, -1) < 0 && errno != EINTR)
			return 1;
		for (size_t i = 0; i < 2 * SERVICES; i++) {
			if (!listeners[i].revents)
				continue;
			int stream = accept_host(listeners[i].fd, i % 2 == 1);
			if (stream < 0)
				continue;
			if (fork() == 0) {
				signal(SIGCHLD, SIG_DFL);
				signal(SIGPIPE, SIG_IGN);
				services[i / 2].serve(stream);
				_exit(0);
			}
			close(stream);
		}
	}
}
