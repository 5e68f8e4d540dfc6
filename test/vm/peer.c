/*
 * The far end of the VM tests' connections, run inside a container.
 *
 *   peer PORT
 *     UDP and TCP on PORT. A TCP client's first line says what it wants:
 *       pour N   N octets of the pattern, then the end
 *       sink     nothing is read until a datagram says `go`; then all is read to its end and compared with the pattern,
 *                and the answer is a line: `N ok` or `N differs at K`
 *       echo     all comes back
 *     Datagrams: `count` is answered by `poured N sunk N` (octets since the start), `go` by `going`, others come back.
 *
 *   peer ask ADDRESS PORT TEXT
 *     Sends TEXT as a datagram, each second anew, until one comes back; prints that.
 *
 *   peer syn INTERFACE GATEWAY LAST:PORT DESTINATION:PORT...
 *     Sends a TCP SYN by raw Ethernet frame to each destination, whatever the kernel thinks of its address, then one to
 *     LAST; when that is answered, prints a line for each, `DESTINATION:PORT syn-ack|rst|unreachable|none`.
 *
 * The pattern is xorshift32 from seed 1, each word little-endian.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct shared {
	volatile unsigned long long poured, sunk;
	volatile int go;
} *shared;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void pattern(uint32_t *state, unsigned char *into, size_t length)
{
	for (size_t at = 0; at + 4 <= length; at += 4) {
		uint32_t x = *state;
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		*state = x;
		memcpy(into + at, &x, 4);
	}
}

static int send_all(int fd, const void *from, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = write(fd, (const char *)from + done, length - done);
		if (n <= 0)
			return -1;
		done += n;
	}
	return 0;
}

static void pour(int fd, unsigned long long total)
{
	unsigned char block[65536];
	uint32_t state = 1;
	while (total > 0) {
		size_t length = total < sizeof block ? total : sizeof block;
		pattern(&state, block, sizeof block);
		for (size_t done = 0; done < length;) {
			ssize_t n = write(fd, block + done, length - done);
			if (n <= 0)
				return;
			done += n;
			shared->poured += n;
		}
		total -= length;
	}
	shutdown(fd, SHUT_WR);
	while (read(fd, block, sizeof block) > 0)
		;
}

static void sink(int fd)
{
	unsigned char block[65536], wanted[65536];
	uint32_t state = 1;
	unsigned long long total = 0;
	long long differs = -1;
	char line[64];
	while (!shared->go)
		usleep(20000);
	for (;;) {
		size_t have = 0;
		ssize_t n = 0;
		while (have < sizeof block && (n = read(fd, block + have, sizeof block - have)) > 0)
			have += n;
		pattern(&state, wanted, sizeof wanted);
		for (size_t i = 0; i < have && differs < 0; i++)
			if (block[i] != wanted[i])
				differs = total + i;
		total += have;
		shared->sunk += have;
		if (n <= 0)
			break;
	}
	if (differs < 0)
		snprintf(line, sizeof line, "%llu ok\n", total);
	else
		snprintf(line, sizeof line, "%llu differs at %lld\n", total, differs);
	send_all(fd, line, strlen(line));
}

static void echo(int fd)
{
	char block[65536];
	ssize_t n;
	while ((n = read(fd, block, sizeof block)) > 0)
		if (send_all(fd, block, n) < 0)
			return;
}

static void serve(int fd)
{
	char line[64];
	size_t have = 0;
	while (have < sizeof line - 1 && read(fd, line + have, 1) == 1 && line[have] != '\n')
		have++;
	line[have] = 0;
	if (strncmp(line, "pour ", 5) == 0)
		pour(fd, strtoull(line + 5, NULL, 10));
	else if (strcmp(line, "sink") == 0)
		sink(fd);
	else if (strcmp(line, "echo") == 0)
		echo(fd);
}

static void answer(int udp)
{
	char text[2048];
	struct sockaddr_in from;
	socklen_t size = sizeof from;
	ssize_t n = recvfrom(udp, text, sizeof text - 1, 0, (struct sockaddr *)&from, &size);
	if (n < 0)
		return;
	text[n] = 0;
	if (strcmp(text, "count") == 0)
		n = snprintf(text, sizeof text, "poured %llu sunk %llu", shared->poured, shared->sunk);
	else if (strcmp(text, "go") == 0) {
		shared->go = 1;
		n = snprintf(text, sizeof text, "going");
	}
	sendto(udp, text, n, 0, (struct sockaddr *)&from, size);
}

static int listen_on(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(tcp, (struct sockaddr *)&at, sizeof at) || listen(tcp, 128) || bind(udp, (struct sockaddr *)&at, sizeof at))
		die("bind");
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		struct pollfd ready[2] = { { tcp, POLLIN, 0 }, { udp, POLLIN, 0 } };
		if (poll(ready, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (ready[1].revents)
			answer(udp);
		if (ready[0].revents) {
			int fd = accept(tcp, NULL, NULL);
			if (fd >= 0 && fork() == 0) {
				close(tcp);
				close(udp);
				serve(fd);
				exit(0);
			}
			if (fd >= 0)
				close(fd);
		}
	}
}

static int ask(const char *address, int port, const char *text)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address) };
	char said[2048];
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	struct pollfd ready = { udp, POLLIN, 0 };
	for (;;) {
		sendto(udp, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to);
		if (poll(&ready, 1, 1000) != 1)
			continue;
		ssize_t n = recv(udp, said, sizeof said, 0);
		if (n < 0)
			die("recv");
		printf("%.*s\n", (int)n, said);
		return 0;
	}
}

static uint32_t sum(const void *of, size_t length, uint32_t start)
{
	const unsigned char *octet = of;
	for (size_t i = 0; i + 1 < length; i += 2)
		start += octet[i] << 8 | octet[i + 1];
	return start;
}

static void put16(unsigned char *at, uint32_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static uint16_t fold(uint32_t value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return ~value;
}

static void make_syn(unsigned char *packet, in_addr_t from, in_addr_t to, int from_port, int to_port)
{
	unsigned char *tcp = packet + 20;
	memset(packet, 0, 40);
	packet[0] = 0x45;
	put16(packet + 2, 40);
	put16(packet + 4, from_port);
	packet[8] = 64;
	packet[9] = IPPROTO_TCP;
	memcpy(packet + 12, &from, 4);
	memcpy(packet + 16, &to, 4);
	put16(packet + 10, fold(sum(packet, 20, 0)));
	put16(tcp, from_port);
	put16(tcp + 2, to_port);
	put16(tcp + 4, 0x1234);
	tcp[12] = 5 << 4;
	tcp[13] = 2;
	put16(tcp + 14, 64240);
	put16(tcp + 16, fold(sum(tcp, 20, sum(packet + 12, 8, IPPROTO_TCP + 20))));
}

/* The gateway's Ethernet address, as the kernel's neighbour table has it. */
static void neighbour(const char *gateway, unsigned char *mac)
{
	char line[256], address[64], text[64];
	FILE *table = fopen("/proc/net/arp", "r");
	while (table && fgets(line, sizeof line, table))
		if (sscanf(line, "%63s %*s %*s %63s", address, text) == 2 && strcmp(address, gateway) == 0 &&
		    sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6)
			return;
	fprintf(stderr, "no neighbour %s\n", gateway);
	exit(1);
}

static const char *reply_of(const unsigned char *packet, ssize_t length, int *port)
{
	int header = (packet[0] & 15) * 4;
	const unsigned char *body = packet + header;
	if (length >= header + 20 && packet[9] == IPPROTO_TCP) {
		*port = body[2] << 8 | body[3];
		return (body[13] & 0x12) == 0x12 ? "syn-ack" : body[13] & 4 ? "rst" : "none";
	}
	if (length >= header + 8 + 24 && packet[9] == IPPROTO_ICMP && body[0] == 3) {
		*port = body[28] << 8 | body[29];
		return "unreachable";
	}
	*port = 0;
	return "none";
}

static int knock(int count, char **words)
{
	const int first = 40000;
	const char *replies[64];
	unsigned char packet[2048];
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6 };
	struct ifreq asked = { 0 };
	in_addr_t own;
	int fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
	int plain = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		die("packet socket");
	strncpy(asked.ifr_name, words[0], IFNAMSIZ - 1);
	if (ioctl(plain, SIOCGIFADDR, &asked))
		die(words[0]);
	own = ((struct sockaddr_in *)&asked.ifr_addr)->sin_addr.s_addr;
	to.sll_ifindex = if_nametoindex(words[0]);
	if (bind(fd, (struct sockaddr *)&to, sizeof to))
		die("bind");
	neighbour(words[1], to.sll_addr);
	words += 2;
	count -= 2;
	if (count < 1 || count > 64)
		return 2;
	/* words[0], the one that is answered, goes last. */
	for (int i = count - 1; i >= 0; i--) {
		char address[64];
		int port;
		if (sscanf(words[i], "%63[^:]:%d", address, &port) != 2)
			return 2;
		replies[i] = "none";
		make_syn(packet, own, inet_addr(address), first + i, port);
		if (sendto(fd, packet, 40, 0, (struct sockaddr *)&to, sizeof to) != 40)
			die("sendto");
	}
	while (strcmp(replies[0], "none") == 0) {
		int port;
		ssize_t length = recv(fd, packet, sizeof packet, 0);
		if (length < 20)
			continue;
		const char *reply = reply_of(packet, length, &port);
		if (port >= first && port < first + count && memcmp(packet + 16, &own, 4) == 0)
			replies[port - first] = reply;
	}
	for (int i = 0; i < count; i++)
		printf("%s %s\n", words[i], replies[i]);
	return 0;
}

int main(int argc, char **argv)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	if (argc > 4 && strcmp(argv[1], "syn") == 0)
		return knock(argc - 2, argv + 2);
	if (argc == 5 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], atoi(argv[3]), argv[4]);
	if (argc == 2 && atoi(argv[1]) > 0)
		return listen_on(atoi(argv[1]));
	fprintf(stderr, "usage: peer PORT | peer ask ADDRESS PORT TEXT | peer syn INTERFACE GATEWAY LAST:PORT DESTINATION:PORT...\n");
	return 2;
}
