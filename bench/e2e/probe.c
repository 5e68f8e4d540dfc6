/* The race's small programs at both ends. A client prints one line of JSON.
 *   probe serve                     TCP echo, UDP echo, count and flood, DNS: ports 7001, 7002 and 53
 *   probe rr ADDR SECONDS [PORT]    one octet to and fro on a connection
 *   probe udprr ADDR SECONDS        the same in datagrams of 64 octets
 *   probe connect ADDR SECONDS N    connect, an octet to and fro, close; N at once
 *   probe many ADDR N               N connections open at once, an octet to and fro on each
 *   probe up|down ADDR SECONDS RATE UDP datagrams of 1400 octets; RATE a second, 0: as many as go
 *   probe dns ADDR SECONDS          queries for one name, 16 outstanding */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TCP_PORT = 7001, UDP_PORT = 7002, DNS_PORT = 53, DATAGRAM = 1400, EVENTS = 256 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) { perror(what); exit(1); }

static struct sockaddr_in address(const char *host, int port) {
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

static int make(int type, int flags) {
	int s = socket(AF_INET, type | flags, 0), on = 1, octets = 4 << 20;
	if (s < 0) fail("socket");
	if (type == SOCK_STREAM) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	else setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	return s;
}

static int listening(int type, int port) {
	struct sockaddr_in a = address("0.0.0.0", port);
	int s = make(type, SOCK_NONBLOCK);
	if (bind(s, (struct sockaddr *)&a, sizeof a) || (type == SOCK_STREAM && listen(s, 4096))) fail("bind");
	return s;
}

static int connected(int type, const char *host, int port) {
	struct sockaddr_in a = address(host, port);
	struct timeval patience = { .tv_usec = 500000 };
	int s = make(type, 0);
	if (connect(s, (struct sockaddr *)&a, sizeof a)) fail("connect");
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return s;
}

static void watch(int epoll, int s, int id, int events, int how) {
	struct epoll_event e = { .events = events, .data.u32 = id };
	epoll_ctl(epoll, how, s, &e);
}

/* ---- the server ---- */

static struct { int on; struct sockaddr_in to; double begin, seconds, rate; uint32_t sent; } flood;

/* 'E': echo. 'D': a datagram to count. 'Q': how many were counted; begins anew. 'F': flood whoever asks. */
static void serve_udp(int s) {
	static uint32_t counted;
	struct sockaddr_in from;
	char data[2048];
	for (;;) {
		socklen_t size = sizeof from;
		ssize_t octets = recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&from, &size);
		if (octets < 0) return;
		if (data[0] == 'D') { counted++; continue; }
		if (data[0] == 'Q') { memcpy(data + 1, &counted, 4); counted = 0; }
		if (data[0] == 'F') {
			flood.on = 1, flood.to = from, flood.begin = now(), flood.sent = 0;
			memcpy(&flood.seconds, data + 8, 8);
			memcpy(&flood.rate, data + 16, 8);
		}
		sendto(s, data, octets, 0, (struct sockaddr *)&from, size);
	}
}

static void serve_flood(int s) {
	static char data[DATAGRAM] = "D";
	double elapsed = now() - flood.begin;
	struct sockaddr *to = (struct sockaddr *)&flood.to;
	if (elapsed > flood.seconds) {
		/* What was sent, when the last of it has arrived. */
		if (elapsed < flood.seconds + 0.3) return;
		data[0] = 'Q';
		memcpy(data + 1, &flood.sent, 4);
		for (int i = 0; i < 3; i++) sendto(s, data, 64, 0, to, sizeof flood.to);
		data[0] = 'D';
		flood.on = 0;
		return;
	}
	for (int i = 0; i < 32 && (flood.rate == 0 || flood.sent < elapsed * flood.rate); i++)
		if (sendto(s, data, sizeof data, 0, to, sizeof flood.to) > 0) flood.sent++;
}

static void serve_dns(int s) {
	static const uint8_t answer[16] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 1 };
	struct sockaddr_in from;
	uint8_t data[600];
	for (;;) {
		socklen_t size = sizeof from;
		ssize_t octets = recvfrom(s, data, 512, 0, (struct sockaddr *)&from, &size);
		if (octets < 12) return;
		size_t end = 12;
		while (end < (size_t)octets && data[end]) end += data[end] + 1;
		end += 5;
		if (end > (size_t)octets) continue;
		/* A response, recursion available; one question, one answer. */
		data[2] = 0x81, data[3] = 0x80, data[7] = 1;
		memset(data + 8, 0, 4);
		memcpy(data + end, answer, sizeof answer);
		sendto(s, data, end + sizeof answer, 0, (struct sockaddr *)&from, size);
	}
}

static void serve(void) {
	int tcp = listening(SOCK_STREAM, TCP_PORT), udp = listening(SOCK_DGRAM, UDP_PORT), dns = listening(SOCK_DGRAM, DNS_PORT);
	int epoll = epoll_create1(0), on = 1;
	struct epoll_event events[EVENTS];
	watch(epoll, tcp, tcp, EPOLLIN, EPOLL_CTL_ADD);
	watch(epoll, udp, udp, EPOLLIN, EPOLL_CTL_ADD);
	watch(epoll, dns, dns, EPOLLIN, EPOLL_CTL_ADD);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, !flood.on ? -1 : flood.rate > 0 ? 1 : 0);
		for (int i = 0; i < count; i++) {
			int s = events[i].data.u32;
			char data[4096];
			ssize_t octets;
			if (s == udp) serve_udp(s);
			else if (s == dns) serve_dns(s);
			else if (s == tcp) {
				for (int c; (c = accept4(tcp, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
					setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
					watch(epoll, c, c, EPOLLIN, EPOLL_CTL_ADD);
				}
			} else if ((octets = recv(s, data, sizeof data, 0)) <= 0) { if (octets == 0 || errno != EAGAIN) close(s); }
			else if (send(s, data, octets, MSG_NOSIGNAL) < 0) close(s);
		}
		if (flood.on) serve_flood(udp);
	}
}

/* ---- the clients ---- */

static int by_size(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static void round_trips(int s, int octets, double seconds) {
	enum { MOST = 1 << 20 };
	static double took[MOST];
	char data[64] = "E";
	int count = 0;
	double begin = now(), at = begin;
	for (int i = 0; at - begin < seconds && count < MOST; i++) {
		if (send(s, data, octets, MSG_NOSIGNAL) < 0) fail("send");
		if (recv(s, data, octets, 0) != octets) continue;
		double then = now();
		/* The first ones warm up. */
		if (i >= 200) took[count++] = (then - at) * 1e6;
		at = then;
	}
	qsort(took, count, sizeof *took, by_size);
	printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", took[count / 2], took[(int)(count * .99)]);
}

/* `total` 0: for `seconds`, each connection closed when it is answered; otherwise that many, kept open. */
static void connections(const char *host, double seconds, int at_once, int total) {
	struct sockaddr_in a = address(host, TCP_PORT);
	struct epoll_event events[EVENTS];
	int *sockets = calloc(total + at_once, sizeof *sockets), epoll = epoll_create1(0);
	int started = 0, pending = 0, answered = 0, failed = 0;
	double begin = now();
	while (now() - begin < seconds && (total == 0 || answered + failed < total)) {
		while (pending < at_once && (total == 0 || started < total)) {
			int s = make(SOCK_STREAM, SOCK_NONBLOCK);
			connect(s, (struct sockaddr *)&a, sizeof a);
			watch(epoll, s, s, EPOLLOUT, EPOLL_CTL_ADD);
			started++, pending++;
		}
		int count = epoll_wait(epoll, events, EVENTS, 100);
		for (int i = 0; i < count; i++) {
			int s = events[i].data.u32;
			char octet = 'x';
			if (!(events[i].events & (EPOLLERR | EPOLLHUP))) {
				if (events[i].events & EPOLLOUT) {
					if (send(s, &octet, 1, MSG_NOSIGNAL) == 1) { watch(epoll, s, s, EPOLLIN, EPOLL_CTL_MOD); continue; }
				} else if (recv(s, &octet, 1, 0) == 1) {
					answered++, pending--;
					if (total == 0) close(s);
					else epoll_ctl(epoll, EPOLL_CTL_DEL, s, NULL);
					continue;
				}
			}
			failed++, pending--;
			close(s);
		}
	}
	double elapsed = now() - begin;
	if (total > 0) printf("{\"echoed\":%d,\"failed\":%d,\"seconds\":%.3f}\n", answered, failed, elapsed);
	else printf("{\"rate\":%.0f,\"ok\":%d,\"failed\":%d}\n", answered / elapsed, answered, failed);
}

/* The server's count of datagrams, which begins anew. */
static uint32_t ask_count(int s) {
	char data[2048];
	uint32_t counted;
	for (int i = 0; i < 20; i++) {
		send(s, "Q1234", 5, 0);
		if (recv(s, data, sizeof data, 0) > 4 && data[0] == 'Q') { memcpy(&counted, data + 1, 4); return counted; }
	}
	fail("no answer over UDP");
	return 0;
}

static void datagrams(const char *host, int up, double seconds, double rate) {
	int s = connected(SOCK_DGRAM, host, UDP_PORT);
	char data[2048] = "D";
	uint32_t sent = 0, received = 0;
	ask_count(s);
	double begin = now(), elapsed = 0, last = begin;
	if (up) {
		for (; (elapsed = now() - begin) < seconds;) {
			for (int i = 0; i < 32 && (rate == 0 || sent < elapsed * rate); i++)
				if (send(s, data, DATAGRAM, 0) > 0) sent++;
			if (rate > 0) usleep(500);
		}
		usleep(300000);
		received = ask_count(s);
	} else {
		data[0] = 'F';
		memcpy(data + 8, &seconds, 8);
		memcpy(data + 16, &rate, 8);
		send(s, data, 64, 0);
		while (now() - begin < seconds + 3) {
			if (recv(s, data, sizeof data, 0) < 5) continue;
			if (data[0] == 'Q') { memcpy(&sent, data + 1, 4); break; }
			if (data[0] == 'D') received++, last = now();
		}
		elapsed = last - begin;
	}
	double lost = sent > received ? 100.0 * (sent - received) / sent : 0;
	printf("{\"sent\":%u,\"received\":%u,\"recv_pps\":%.0f,\"loss_pct\":%.2f}\n", sent, received, received / elapsed, lost);
}

static void queries(const char *host, double seconds) {
	/* Recursion desired, one question: race.test, an address. */
	uint8_t query[27] = { 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 'r', 'a', 'c', 'e', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1 };
	uint8_t data[600];
	int s = connected(SOCK_DGRAM, host, DNS_PORT), outstanding = 0, answered = 0, lost = 0;
	uint16_t id = 0;
	double begin = now();
	while (now() - begin < seconds) {
		for (; outstanding < 16; outstanding++) {
			memcpy(query, &id, 2);
			id++;
			send(s, query, sizeof query, 0);
		}
		ssize_t octets = recv(s, data, sizeof data, 0);
		if (octets < 12) { lost += outstanding; outstanding = 0; continue; }
		outstanding--;
		if ((data[3] & 15) == 0 && data[7] > 0) answered++;
		else lost++;
	}
	printf("{\"qps\":%.0f,\"ok\":%d,\"lost\":%d}\n", answered / (now() - begin), answered, lost);
}

int main(int count, char **words) {
	struct rlimit files = { 20000, 20000 };
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	const char *what = count > 1 ? words[1] : "", *host = count > 2 ? words[2] : "";
	double first = count > 3 ? atof(words[3]) : 0, second = count > 4 ? atof(words[4]) : 0;
	if (!strcmp(what, "serve")) serve();
	else if (!strcmp(what, "rr")) round_trips(connected(SOCK_STREAM, host, second > 0 ? second : TCP_PORT), 1, first);
	else if (!strcmp(what, "udprr")) round_trips(connected(SOCK_DGRAM, host, UDP_PORT), 64, first);
	else if (!strcmp(what, "connect")) connections(host, first, second, 0);
	else if (!strcmp(what, "many")) connections(host, 10, 128, first);
	else if (!strcmp(what, "up") || !strcmp(what, "down")) datagrams(host, what[0] == 'u', first, second);
	else if (!strcmp(what, "dns")) queries(host, first);
	else return 2;
}
