/* Joins a TAP device of this network namespace with a unix socket in the framing of QEMU's -netdev stream: each frame
 * after its length, four octets big-endian.   bridge TAP MTU PATH [one]
 * Frames are read and written in batches; with `one`, each has a write of its own, as QEMU does it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FRAME = 65536 + 64, BATCH = 256 << 10, RING = 1 << 20 };
static int tap, sock, single;

static void fail(const char *what) { perror(what); exit(1); }

static void *to_socket(void *unused) {
	static uint8_t buffer[BATCH + FRAME];
	struct pollfd readable = { .fd = tap, .events = POLLIN };
	for (;;) {
		size_t end = 0;
		while (end < BATCH) {
			ssize_t octets = read(tap, buffer + end + 4, FRAME - 4);
			if (octets < 0) {
				if (errno != EAGAIN) fail("read tap");
				if (end > 0) break;
				poll(&readable, 1, -1);
				continue;
			}
			uint32_t length = htonl(octets);
			memcpy(buffer + end, &length, 4);
			end += 4 + octets;
			if (single) break;
		}
		for (size_t sent = 0; sent < end;) {
			ssize_t octets = send(sock, buffer + sent, end - sent, MSG_NOSIGNAL);
			if (octets < 0) exit(0);
			sent += octets;
		}
	}
	return unused;
}

static void to_tap(void) {
	static uint8_t buffer[RING];
	size_t have = 0;
	for (;;) {
		ssize_t octets = recv(sock, buffer + have, RING - have, 0);
		if (octets <= 0) exit(0);
		have += octets;
		size_t at = 0;
		for (uint32_t length; have - at >= 4; at += 4 + length) {
			memcpy(&length, buffer + at, 4);
			length = ntohl(length);
			if (length > FRAME) { fprintf(stderr, "a frame of %u octets\n", length); exit(1); }
			if (have - at < 4 + (size_t)length) break;
			/* What the kernel does not take is lost, as on a wire. */
			if (write(tap, buffer + at + 4, length) < 0 && errno != EAGAIN && errno != EINVAL) fail("write tap");
		}
		memmove(buffer, buffer + at, have - at);
		have -= at;
	}
}

int main(int count, char **words) {
	if (count < 4) return 2;
	single = count > 4;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, words[3], sizeof address.sun_path - 1);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	int octets = RING;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets);
	for (int tries = 0; connect(sock, (struct sockaddr *)&address, sizeof address); tries++) {
		if (tries == 200) fail(words[3]);
		usleep(50000);
	}
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
	if ((tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK)) < 0 || ioctl(tap, TUNSETIFF, &request)) fail("/dev/net/tun");
	int control = socket(AF_INET, SOCK_DGRAM, 0);
	request.ifr_mtu = atoi(words[2]);
	if (ioctl(control, SIOCSIFMTU, &request)) fail("MTU");
	request.ifr_qlen = 8192;
	ioctl(control, SIOCSIFTXQLEN, &request);
	if (ioctl(control, SIOCGIFFLAGS, &request)) fail("flags");
	request.ifr_flags |= IFF_UP;
	if (ioctl(control, SIOCSIFFLAGS, &request)) fail("up");
	pthread_t thread;
	pthread_create(&thread, NULL, to_socket, NULL);
	to_tap();
}
