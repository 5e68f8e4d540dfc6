/* See ready.h. dockerd makes its socket long before it serves it: the request waits there, and its answer comes the
 * moment that dockerd is ready. */

#include "ready.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAUSE_US 10000

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
			return fd;
		if (fd >= 0)
			close(fd);
		usleep(PAUSE_US);
	}
}

int wait_for_containerd(void)
{
	close(connect_to("/run/containerd/containerd.sock"));
	return 0;
}

int wait_for_dockerd(void)
{
	static const char request[] = "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
	static const char success[] = "HTTP/1.1 200";
	char answer[sizeof success - 1];
	for (;;) {
		int fd = connect_to("/run/docker.sock");
		if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1 &&
		    recv(fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer &&
		    memcmp(answer, success, sizeof answer) == 0)
			return 0;
		close(fd);
		usleep(PAUSE_US);
	}
}
