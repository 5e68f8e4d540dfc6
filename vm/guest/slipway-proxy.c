/* dockerd's userland proxy: asks the host to publish one port and keeps the listener alive for as long as dockerd keeps
 * this process. The published traffic itself does not come through here: the host connects to the container's address.
 *
 * dockerd starts one per port and family: -proto P -host-ip A -host-port N -container-ip A -container-port N, and reads
 * from descriptor 3: "0\n" published, "1\nTEXT" refused. It ends us by SIGINT, and we end with it (PR_SET_PDEATHSIG).
 * When the host's end goes away (its process was replaced), we ask again until it is there. */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "channel.h"

#define PUBLISH_PORT 62376
#define REPLY_FD 3
/* Between tries to reach a host that is being replaced. */
#define RETRY_MICROSECONDS 200000
/* Before the first answer we try for this long: dockerd gives up soon after. */
#define FIRST_TRIES 40

static int reply_open = 1;

static void reply(const char *text) {
  if (!reply_open) return;
  reply_open = 0;
  if (write(REPLY_FD, text, strlen(text)) < 0) exit(1);
  close(REPLY_FD);
}

static void refuse(const char *text) {
  char answer[600];
  snprintf(answer, sizeof answer, "1\n%s", text);
  reply(answer);
  exit(1);
}

/* Reads the host's line; 0: the stream ended. */
static int answer_of(int fd, char *line, size_t size) {
  size_t length = 0;
  while (length + 1 < size) {
    ssize_t got = read(fd, line + length, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    if (line[length] == '\n') break;
    length++;
  }
  line[length] = '\0';
  return 1;
}

int main(int argc, char **argv) {
  const char *protocol = "tcp", *host_ip = "0.0.0.0", *host_port = "0", *container_ip = "", *container_port = "0";
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i] + strspn(argv[i], "-");
    if (strcmp(name, "proto") == 0) protocol = argv[i + 1];
    else if (strcmp(name, "host-ip") == 0) host_ip = argv[i + 1];
    else if (strcmp(name, "host-port") == 0) host_port = argv[i + 1];
    else if (strcmp(name, "container-ip") == 0) container_ip = argv[i + 1];
    else if (strcmp(name, "container-port") == 0) container_port = argv[i + 1];
  }
  if (strcmp(protocol, "sctp") == 0) refuse("Slipway publishes TCP and UDP ports, not SCTP");
  char request[256];
  int length = snprintf(request, sizeof request, "EXPOSE %s %s %s %s %s\n", protocol, host_ip, host_port, container_ip,
                        container_port);
  if (length >= (int)sizeof request) refuse("the addresses to publish are too long");
  for (int tries = 0;; tries++) {
    char line[512];
    int fd = channel_connect(PUBLISH_PORT);
    if (fd < 0 || write(fd, request, (size_t)length) != length || !answer_of(fd, line, sizeof line)) {
      if (fd >= 0) close(fd);
      if (reply_open && tries >= FIRST_TRIES) refuse("Slipway's network process on the host does not answer");
      usleep(RETRY_MICROSECONDS);
      continue;
    }
    if (strncmp(line, "OK", 2) == 0) {
      reply("0\n");
      /* Silence until the host's end goes away. */
      while (answer_of(fd, line, sizeof line)) {
      }
    } else if (reply_open)
      refuse(strncmp(line, "ERROR ", 6) == 0 ? line + 6 : line);
    close(fd);
    usleep(RETRY_MICROSECONDS);
  }
}
