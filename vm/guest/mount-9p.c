/* Mounts directories of a file tree that the host serves over 9P, and keeps them mounted for as long as it runs:
 * `slipway-mount-9p PORT DIALECT TARGET=ANAME... [-- COMMAND...]`.
 *
 * Each mount's transport is a stream of its own to host port PORT (trans=fd), by whichever lane there is (channel.h).
 * ANAME names the directory of the host's tree that is mounted at TARGET; DIALECT is 9p2000, 9p2000.u or 9p2000.L.
 * Nothing is cached: what the host changes is seen at once. COMMAND is started once all are mounted. When it ends, or a
 * stream does, as the host's process was replaced, all are unmounted, and the program ends for its service to be started
 * again; it waits for the host as long as that takes. */

#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TARGETS 8
/* As much as one message may be: the kernel's own default. */
#define MSIZE 131072
#define PAUSE_US 300000

/* The error that was told last. */
static int waited_for;

static int mount_tree(unsigned port, const char *dialect, const char *target, const char *aname)
{
	char options[512];
	int fd;
	while ((fd = channel_connect(port)) < 0) {
		/* The host's process is not there, or not yet. */
		if (errno != waited_for) {
			waited_for = errno;
			fprintf(stderr, "slipway-mount-9p: host port %u: %s; trying again\n", port, strerror(errno));
		}
		usleep(PAUSE_US);
	}
	snprintf(options, sizeof options,
		 "trans=fd,rfdno=%d,wfdno=%d,aname=%s,version=%s,msize=%d,access=any,cache=none,dfltuid=0,dfltgid=0", fd, fd,
		 aname, dialect, MSIZE);
	mkdir(target, 0755);
	/* What a predecessor left, whose stream is gone. */
	umount2(target, MNT_DETACH);
	if (mount("slipway", target, "9p", MS_NOSUID | MS_NODEV, options) == 0)
		return fd;
	fprintf(stderr, "slipway-mount-9p: %s: %s\n", target, strerror(errno));
	close(fd);
	return -1;
}

static void interrupt(int signal_number)
{
	(void)signal_number;
}

static pid_t start(char **command)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	execv(command[0], command);
	fprintf(stderr, "slipway-mount-9p: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

/* Until a stream or the command ends. A command that ends before poll() waits is noticed a second later. */
static void wait_for_end(struct pollfd *streams, int count, pid_t command)
{
	int left;
	do
		left = poll(streams, (nfds_t)count, command > 0 ? 1000 : -1);
	while (left <= 0 && (left == 0 || errno == EINTR) && (command <= 0 || waitpid(command, NULL, WNOHANG) == 0));
}

int main(int argc, char **argv)
{
	struct pollfd streams[TARGETS];
	char *targets[TARGETS];
	int count = 0, whole = 1, end = 3;
	pid_t command = 0;
	while (end < argc && strcmp(argv[end], "--") != 0)
		end++;
	if (end < 4 || end > 3 + TARGETS) {
		fprintf(stderr, "usage: slipway-mount-9p PORT DIALECT TARGET=ANAME... [-- COMMAND...]\n");
		return 2;
	}
	for (int i = 3; i < end && whole; i++) {
		char *aname = strchr(argv[i], '=');
		if (!aname)
			return 2;
		*aname++ = 0;
		targets[count] = argv[i];
		streams[count].fd = mount_tree((unsigned)strtoul(argv[1], NULL, 10), argv[2], argv[i], aname);
		/* The kernel reads the stream; its end alone is ours to hear of. */
		streams[count].events = POLLRDHUP;
		whole = streams[count].fd >= 0;
		count += whole;
	}
	if (whole) {
		struct sigaction action = { .sa_handler = interrupt };
		sigaction(SIGCHLD, &action, NULL);
		if (end + 1 < argc)
			command = start(argv + end + 1);
		wait_for_end(streams, count, command);
	}
	while (count > 0)
		umount2(targets[--count], MNT_DETACH);
	return whole ? 0 : 1;
}
