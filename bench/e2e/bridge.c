/* Joins a TAP device of this network namespace with a unix socket in the framing of QEMU's -netdev stream: each frame
 * after its length, four octets big-endian.   bridge TAP MTU PATH [offload] [one]
 * offload: the guest's kernel hands over whole TCP segments of up to 64 KiB and takes such; they are cut, summed and
 * joined here, as a virtual machine's network card spares its guest the work. The socket sees ordinary frames.
 * one: each frame has a write of its own, as QEMU does it; otherwise they travel in batches. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { ETHERNET = 14, FRAME = 65536 + 64, BATCH = 256 << 10, RING = 1 << 20, JOINED = 60 };
typedef struct virtio_net_hdr Offload;
static int tap, sock, offload, single;

static void fail(const char *what) { perror(what); exit(1); }

/* ---- checksums, in the machine's own octet order (RFC 1071 2(B)) ---- */

static uint64_t sum(const void *from, size_t octets) {
	const uint8_t *at = from;
	uint64_t total = 0;
	uint32_t word;
	for (; octets >= 4; at += 4, octets -= 4) { memcpy(&word, at, 4); total += word; }
	word = 0;
	memcpy(&word, at, octets);
	return total + word;
}

static uint16_t folded(uint64_t total) {
	while (total >> 16) total = (total & 0xffff) + (total >> 16);
	return total;
}

static uint64_t pseudo_header(const struct iphdr *ip, size_t octets) { return sum(&ip->saddr, 8) + htons(IPPROTO_TCP) + htons(octets); }

static void sum_ip(struct iphdr *ip) { ip->check = 0; ip->check = ~folded(sum(ip, ip->ihl * 4)); }

/* ---- from the guest ---- */

static void *put_length(uint8_t *at, uint32_t octets) {
	octets = htonl(octets);
	memcpy(at, &octets, 4);
	return at + 4;
}

/* Cuts a frame into segments of `size` octets of payload, each after its length. Returns the octets written. */
static size_t cut(const uint8_t *frame, size_t octets, size_t size, uint8_t *into) {
	const struct iphdr *whole = (const void *)(frame + ETHERNET);
	const size_t tcp_at = ETHERNET + whole->ihl * 4;
	const struct tcphdr *first = (const void *)(frame + tcp_at);
	const size_t header = tcp_at + first->doff * 4;
	uint8_t *at = into;
	for (size_t from = header, i = 0; from < octets; from += size, i++) {
		const size_t payload = octets - from < size ? octets - from : size;
		uint8_t *out = put_length(at, header + payload);
		memcpy(out, frame, header);
		memcpy(out + header, frame + from, payload);
		struct iphdr *ip = (void *)(out + ETHERNET);
		struct tcphdr *tcp = (void *)(out + tcp_at);
		ip->tot_len = htons(header - ETHERNET + payload);
		ip->id = htons(ntohs(whole->id) + i);
		sum_ip(ip);
		tcp->seq = htonl(ntohl(first->seq) + (from - header));
		if (from + payload < octets) tcp->fin = tcp->psh = 0;
		tcp->check = 0;
		const size_t segment = header - tcp_at + payload;
		tcp->check = ~folded(pseudo_header(ip, segment) + sum(tcp, segment));
		at = out + header + payload;
	}
	return at - into;
}

static void *to_socket(void *unused) {
	static uint8_t buffer[BATCH + 2 * FRAME], frame[FRAME];
	struct pollfd readable = { .fd = tap, .events = POLLIN };
	for (;;) {
		size_t end = 0;
		while (end < BATCH) {
			Offload hints = { 0 };
			struct iovec parts[] = { { &hints, sizeof hints }, { frame, sizeof frame } };
			ssize_t octets = offload ? readv(tap, parts, 2) : read(tap, frame, sizeof frame);
			if (octets < 0) {
				if (errno != EAGAIN) fail("read tap");
				if (end > 0) break;
				poll(&readable, 1, -1);
				continue;
			}
			if (offload) octets -= sizeof hints;
			if (hints.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
				end += cut(frame, octets, hints.gso_size, buffer + end);
			} else {
				if (hints.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
					uint16_t check = ~folded(sum(frame + hints.csum_start, octets - hints.csum_start));
					/* 0 would say that there is none (RFC 768). */
					if (check == 0) check = 0xffff;
					memcpy(frame + hints.csum_start + hints.csum_offset, &check, 2);
				}
				memcpy(put_length(buffer + end, octets), frame, octets);
				end += 4 + octets;
			}
			if (single) break;
		}
		for (size_t sent = 0; sent < end;) {
			size_t octets = end - sent;
			uint32_t length;
			if (single) { memcpy(&length, buffer + sent, 4); octets = 4 + ntohl(length); }
			for (size_t target = sent + octets; sent < target;) {
				ssize_t taken = send(sock, buffer + sent, target - sent, MSG_NOSIGNAL);
				if (taken < 0) exit(0);
				sent += taken;
			}
		}
	}
	return unused;
}

/* ---- to the guest ---- */

/* Frames of one stream that follow each other: the first whole, of the others the payload. */
static struct { struct iovec parts[JOINED + 1]; int count; uint8_t *frame; size_t header, segment, octets; uint32_t next; } run;

static void flush(void) {
	if (run.count == 0) return;
	Offload hints = { 0 };
	run.parts[0] = (struct iovec){ &hints, sizeof hints };
	if (run.count > 1) {
		struct iphdr *ip = (void *)(run.frame + ETHERNET);
		struct tcphdr *tcp = (void *)(ip + 1);
		hints = (Offload){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = run.header,
			.gso_size = run.segment, .csum_start = ETHERNET + sizeof *ip, .csum_offset = offsetof(struct tcphdr, check) };
		ip->tot_len = htons(run.octets - ETHERNET);
		sum_ip(ip);
		tcp->check = folded(pseudo_header(ip, run.octets - hints.csum_start));
	}
	/* What the kernel does not take is lost, as on a wire. */
	const int first = offload ? 0 : 1;
	if (writev(tap, run.parts + first, run.count + 1 - first) < 0 && errno != EAGAIN && errno != EINVAL) fail("write tap");
	run.count = 0;
}

/* The header's octets where a frame is a plain IPv4 TCP segment with payload that may be joined, or 0. */
static size_t joinable(const uint8_t *frame, size_t octets) {
	const struct iphdr *ip = (const void *)(frame + ETHERNET);
	const struct tcphdr *tcp = (const void *)(ip + 1);
	if (!offload || octets < ETHERNET + sizeof *ip + sizeof *tcp || frame[12] != 8 || frame[13] != 0) return 0;
	if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_TCP || (ip->frag_off & htons(0x3fff))) return 0;
	if (!tcp->ack || tcp->syn || tcp->fin || tcp->rst || tcp->urg) return 0;
	const size_t header = ETHERNET + sizeof *ip + tcp->doff * 4;
	return header < octets && ETHERNET + ntohs(ip->tot_len) == (int)octets ? header : 0;
}

/* Same addresses, ports, acknowledgement, window and options. */
static int alike(const uint8_t *a, const uint8_t *b, size_t header) {
	enum { SOURCE = ETHERNET + 12, SEQUENCE = ETHERNET + 24, WINDOW = ETHERNET + 34, OPTIONS = ETHERNET + 40 };
	return !memcmp(a + SOURCE, b + SOURCE, SEQUENCE - SOURCE) && !memcmp(a + SEQUENCE + 4, b + SEQUENCE + 4, 4) &&
		!memcmp(a + WINDOW, b + WINDOW, 2) && !memcmp(a + OPTIONS, b + OPTIONS, header - OPTIONS);
}

static void deliver(uint8_t *frame, size_t octets) {
	const size_t header = joinable(frame, octets), payload = octets - header;
	const struct tcphdr *tcp = (const void *)(frame + ETHERNET + sizeof(struct iphdr));
	if (run.count > 0 && (header == 0 || header != run.header || run.count == JOINED || payload > run.segment ||
	    ntohl(tcp->seq) != run.next || run.octets + payload > 65000 || !alike(frame, run.frame, header)))
		flush();
	if (run.count == 0) {
		run.frame = frame, run.header = header, run.segment = payload, run.octets = octets;
		run.parts[++run.count] = (struct iovec){ frame, octets };
	} else {
		run.parts[++run.count] = (struct iovec){ frame + header, payload };
		run.octets += payload;
		((struct tcphdr *)(run.frame + ETHERNET + sizeof(struct iphdr)))->psh |= tcp->psh;
	}
	if (header == 0 || payload < run.segment || tcp->psh) flush();
	else run.next = ntohl(tcp->seq) + payload;
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
			deliver(buffer + at + 4, length);
		}
		flush();
		memmove(buffer, buffer + at, have - at);
		have -= at;
	}
}

int main(int count, char **words) {
	if (count < 4) return 2;
	for (int i = 4; i < count; i++) {
		if (!strcmp(words[i], "offload")) offload = 1;
		if (!strcmp(words[i], "one")) single = 1;
	}
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, words[3], sizeof address.sun_path - 1);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	int octets = RING;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets);
	for (int tries = 0; connect(sock, (struct sockaddr *)&address, sizeof address); tries++) {
		if (tries == 200) fail(words[3]);
		usleep(50000);
	}
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0) };
	strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
	if ((tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK)) < 0 || ioctl(tap, TUNSETIFF, &request)) fail("/dev/net/tun");
	if (ioctl(tap, TUNSETOFFLOAD, offload ? TUN_F_CSUM | TUN_F_TSO4 : 0)) fail("offload");
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
