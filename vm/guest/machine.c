/* See machine.h. */

#include "machine.h"
#include "events.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define CLOCK_CHIP_SECONDS 2
#define OPEN_FILES 1048576

static const struct {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
} mounts[] = {
	{ "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,gid=5,ptmxmode=666" },
	{ "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate" },
	{ "bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700" },
	{ "run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755" },
	{ "tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" },
};

static const struct {
	const char *path, *target;
} links[] = {
	{ "/dev/fd", "/proc/self/fd" },
	{ "/dev/stdin", "/proc/self/fd/0" },
	{ "/dev/stdout", "/proc/self/fd/1" },
	{ "/dev/stderr", "/proc/self/fd/2" },
};

/* The limits that containers inherit or that count for the machine as a whole are as developers know them. */
static const struct {
	const char *name, *value;
} settings[] = {
	{ "fs/inotify/max_user_instances", "8192" },
	{ "fs/inotify/max_user_watches", "1048576" },
	{ "fs/aio-max-nr", "1048576" },
	{ "kernel/keys/maxkeys", "20000" },
	{ "kernel/keys/maxbytes", "2000000" },
	{ "kernel/panic_on_oops", "1" },
	{ "kernel/pid_max", "4194304" },
	{ "net/ipv4/ip_forward", "1" },
	{ "net/ipv4/neigh/default/gc_thresh1", "1024" },
	{ "net/ipv4/neigh/default/gc_thresh2", "4096" },
	{ "net/ipv4/neigh/default/gc_thresh3", "8192" },
	/* A forwarder that still takes the host's router advertisements. */
	{ "net/ipv6/conf/default/accept_ra", "2" },
	{ "net/ipv6/conf/all/forwarding", "1" },
	/* The machine may be killed at any moment: what nobody synced is on the disk within about two seconds (data-disk.c). */
	{ "vm/dirty_expire_centisecs", "100" },
	{ "vm/dirty_writeback_centisecs", "100" },
	{ "vm/max_map_count", "1048576" },
};

void mount_system(void)
{
	for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
		mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options) != 0)
			fprintf(stderr, "slipway: %s: %s\n", mounts[i].target, strerror(errno));
	}
	/* Volumes with shared propagation need a shared root. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) != 0)
		fprintf(stderr, "slipway: sharing the root: %s\n", strerror(errno));
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		if (symlink(links[i].target, links[i].path) != 0)
			fprintf(stderr, "slipway: %s: %s\n", links[i].path, strerror(errno));
	mkdir("/run/lock", 01777);
	mkdir("/run/slipway", 0700);
	mkdir("/run/log", 0700);
}

int kernel_argument(const char *key, char *value, size_t length)
{
	static char line[4096];
	size_t key_length = strlen(key);
	if (!line[0]) {
		FILE *file = fopen("/proc/cmdline", "re");
		if (!file)
			return -1;
		if (!fgets(line, sizeof line, file))
			line[0] = 0;
		fclose(file);
	}
	for (const char *word = line; *word; word += strspn(word, " \n")) {
		size_t octets = strcspn(word, " \n");
		if (octets > key_length && strncmp(word, key, key_length) == 0 && word[key_length] == '=')
			return snprintf(value, length, "%.*s", (int)(octets - key_length - 1), word + key_length + 1) <
					       (int)length
				       ? 0
				       : -1;
		word += octets;
	}
	return -1;
}

static void write_file(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void write_file(const char *path, const char *format, ...)
{
	va_list arguments;
	FILE *file = fopen(path, "we");
	if (!file) {
		fprintf(stderr, "slipway: %s: %s\n", path, strerror(errno));
		return;
	}
	va_start(arguments, format);
	vfprintf(file, format, arguments);
	va_end(arguments);
	if (fclose(file) != 0)
		fprintf(stderr, "slipway: %s: %s\n", path, strerror(errno));
}

void write_setting(const char *name, const char *value)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/%s", name);
	write_file(path, "%s\n", value);
}

/* A group of the engine's own: swap accounting shows only below the root. Containers get theirs beside it. */
static void make_engine_group(void)
{
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset +cpu +io +memory +hugetlb +pids +rdma\n");
	if (mkdir(ENGINE_GROUP, 0755) != 0)
		fprintf(stderr, "slipway: %s: %s\n", ENGINE_GROUP, strerror(errno));
}

static void bring_up_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		fprintf(stderr, "slipway: lo: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void set_clock(void)
{
	char text[32];
	struct timeval now;
	if (kernel_argument("slipway.time", text, sizeof text) != 0 || gettimeofday(&now, NULL) != 0)
		return;
	long long expected = strtoll(text, NULL, 10) + (long long)uptime_seconds();
	if (expected < CLOCK_CHIP_SECONDS || llabs((long long)now.tv_sec - expected) <= CLOCK_CHIP_SECONDS)
		return;
	now = (struct timeval){ .tv_sec = expected };
	if (settimeofday(&now, NULL) != 0)
		fprintf(stderr, "slipway: the clock: %s\n", strerror(errno));
}

void set_up_machine(void)
{
	char name[64] = "slipway";
	struct rlimit files = { OPEN_FILES, OPEN_FILES };
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	set_clock();
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		write_setting(settings[i].name, settings[i].value);
	kernel_argument("slipway.hostname", name, sizeof name);
	if (sethostname(name, strlen(name)) != 0)
		fprintf(stderr, "slipway: the host name: %s\n", strerror(errno));
	write_file("/etc/hosts", "127.0.0.1 localhost %s\n::1 localhost ip6-localhost ip6-loopback\n", name);
	make_engine_group();
	bring_up_loopback();
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_NPROC, &unlimited);
	setrlimit(RLIMIT_CORE, &unlimited);
}
