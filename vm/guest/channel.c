/* See channel.h. AF_VSOCK to CID 2 first; where there is no vsock, CHANNEL_DIRECTORY/connect: the line
 * `00000002.PPPPPPPP`, answered `OK` or a closed socket. */

#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* linux/vm_sockets.h of older headers clashes with sys/socket.h: the few words needed. */
#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif
#define HOST_CID 2

struct vsock_address {
	unsigned short family;
	unsigned short reserved;
	unsigned int port;
	unsigned int cid;
	unsigned char zero[4];
};

static int fail(int fd, int error)
{
	close(fd);
	errno = error;
	return -1;
}

static int connect_vsock(unsigned port)
{
	struct vsock_address address = { .family = AF_VSOCK, .port = port, .cid = HOST_CID };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		return fail(fd, errno);
	return fd;
}

static int connect_mux(unsigned port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CHANNEL_DIRECTORY "/connect" };
	char line[32];
	char answer[3];
	int length = snprintf(line, sizeof line, "%08x.%08x\n", HOST_CID, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		return fail(fd, errno);
	if (send(fd, line, (size_t)length, MSG_NOSIGNAL) != length)
		return fail(fd, ECONNREFUSED);
	if (recv(fd, answer, sizeof answer, MSG_WAITALL) != (ssize_t)sizeof answer || memcmp(answer, "OK\n", 3) != 0)
		return fail(fd, ECONNREFUSED);
	return fd;
}

int channel_connect(unsigned port)
{
	int fd = connect_vsock(port);
	if (fd >= 0)
		return fd;
	int error = errno;
	fd = connect_mux(port);
	if (fd < 0 && errno == ENOENT)
		errno = error;
	return fd;
}
