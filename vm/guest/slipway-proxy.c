/* dockerd's userland proxy: asks the host to publish one port (vm/README.md, Publishing) and keeps the listener alive
 * for as long as dockerd keeps this process. Published traffic does not come through here: the host connects to the
 * container's address.
 *
 * dockerd starts one per port and family: -proto P -host-ip A -host-port N -container-ip A -container-port N, and reads
 * from descriptor 3: "0\n" published, "1\nTEXT" refused. It ends us by SIGINT, and we end with it (PR_SET_PDEATHSIG).
 * When the host's end goes away (its process was replaced), we ask again until it is there. */

#include "channel.h"
#include "stream-line.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PUBLISH_PORT 62376
#define REPLY_FD 3
/* Between tries to reach a host that is being replaced. */
#define RETRY_US 200000
/* Before the first answer we try for this long: dockerd gives up soon after. */
#define FIRST_TRIES 50

static int reply_open = 1;

static void reply(const char *text)
{
	if (!reply_open)
		return;
	reply_open = 0;
	if (write_all(REPLY_FD, text, strlen(text)) != 0)
		exit(1);
	close(REPLY_FD);
}

static void refuse(const char *text)
{
	char answer[600];
	snprintf(answer, sizeof answer, "1\n%s", text);
	reply(answer);
	exit(1);
}

static const char *option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i] + strspn(argv[i], "-"), name) == 0)
			return argv[i + 1];
	return "";
}

/* One try: asks, tells dockerd the answer if it is the first, and stays for as long as the host keeps the stream. */
static void publish(const char *request)
{
	char line[512];
	int fd = channel_connect(PUBLISH_PORT);
	if (fd < 0)
		return;
	if (write_all(fd, request, strlen(request)) == 0 && read_line(fd, line, sizeof line) >= 0) {
		if (strncmp(line, "OK", 2) == 0) {
			reply("0\n");
			while (read_line(fd, line, sizeof line) >= 0)
				;
		} else if (reply_open) {
			refuse(strncmp(line, "ERROR ", 6) == 0 ? line + 6 : line);
		}
	}
	close(fd);
}

int main(int argc, char **argv)
{
	char request[256];
	const char *protocol = option(argc, argv, "proto");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	if (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)
		refuse("only TCP and UDP ports can be published");
	if (snprintf(request, sizeof request, "EXPOSE %s %s %s %s %s\n", protocol, option(argc, argv, "host-ip"),
		     option(argc, argv, "host-port"), option(argc, argv, "container-ip"),
		     option(argc, argv, "container-port")) >= (int)sizeof request)
		refuse("the addresses to publish are too long");
	for (int tries = 1;; tries++) {
		publish(request);
		if (reply_open && tries >= FIRST_TRIES)
			refuse("Slipway's network process on the host does not answer");
		usleep(RETRY_US);
	}
}
