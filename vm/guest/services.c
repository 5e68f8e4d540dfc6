/* See services.h. Each service's output goes to a log of its own in /run/log, or in /var/log for those that run on the
 * data disk; a log beyond its bound is moved aside, once. */

#include "services.h"
#include "events.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_OCTETS (4 << 20)
#define LOOK_SECONDS 30
/* After its end a service waits this long, twice as long each time that it ended soon again. */
#define RESTART_SECONDS 1
#define LONGEST_RESTART_SECONDS 32
#define SOON_SECONDS 60

struct program {
	const char *name;
	const char *log;
	/* The kernel's inclination to end it when memory is short. */
	const char *oom_score;
	const char *group;
	const char *argv[20];
	pid_t pid;
	time_t started, due;
	int pause_seconds;
	int stopped;
};

static struct program programs[SERVICES] = {
	[MUX] = { "slipway-mux", "/run/log/mux.log", "-1000", NULL, { "/usr/lib/slipway/slipway-mux" } },
	[AGENT] = { "slipway-agent", "/run/log/agent.log", "-1000", NULL, { "/usr/lib/slipway/slipway-agent" } },
	[DHCP] = { "udhcpc",
		   "/run/log/dhcp.log",
		   "-1000",
		   NULL,
		   { "/usr/bin/busybox", "udhcpc", "-f", "-i", "eth0", "-s", "/usr/lib/slipway/dhcp", "-O", "mtu", "-O",
		     "search", "-t", "5", "-T", "1", "-A", "2" } },
	[CONTAINERD] = { "containerd",
			 "/var/log/containerd.log",
			 "-999",
			 ENGINE_GROUP "/cgroup.procs",
			 { "/usr/bin/containerd", "--config", "/etc/containerd/config.toml" } },
	[DOCKERD] = { "dockerd",
		      "/var/log/dockerd.log",
		      "-500",
		      ENGINE_GROUP "/cgroup.procs",
		      { "/usr/sbin/dockerd", "--config-file", "/run/slipway/daemon.json", "--containerd",
			"/run/containerd/containerd.sock" } },
	[DATABASE] = { "slipway-mount-9p",
		       "/run/log/database.log",
		       "0",
		       NULL,
		       { "/usr/lib/slipway/slipway-mount-9p", "62378", "9p2000.L", "/db=/", "/Database=branch/state/ro", "--",
			 "/usr/lib/slipway/follow-settings" } },
};

static time_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

pid_t fork_clean(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
	}
	return pid;
}

static void redirect(const char *log)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(null, 0);
	if (fd < 0)
		return;
	dup2(fd, 1);
	dup2(fd, 2);
}

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fprintf(stderr, "slipway: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void service_start(enum service service)
{
	struct program *program = &programs[service];
	program->due = 0;
	program->started = now();
	program->pid = fork_clean();
	if (program->pid < 0) {
		event_log("%s cannot be started: %s", program->name, strerror(errno));
		program->due = now() + RESTART_SECONDS;
	}
	if (program->pid != 0)
		return;
	set("/proc/self/oom_score_adj", program->oom_score);
	if (program->group)
		set(program->group, "0");
	redirect(program->log);
	execv(program->argv[0], (char *const *)program->argv);
	fprintf(stderr, "%s: %s\n", program->argv[0], strerror(errno));
	_exit(127);
}

int service_ended(pid_t pid, int status)
{
	for (int i = 0; i < SERVICES; i++) {
		struct program *program = &programs[i];
		if (program->pid != pid)
			continue;
		program->pid = 0;
		if (program->stopped)
			return 1;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			/* It was asked to. */
			program->pause_seconds = 0;
		else if (now() - program->started > SOON_SECONDS || program->pause_seconds == 0)
			program->pause_seconds = RESTART_SECONDS;
		else if (program->pause_seconds < LONGEST_RESTART_SECONDS)
			program->pause_seconds *= 2;
		event_log("%s ended (%s %d) and is started again in %d s", program->name,
			  WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
			  program->pause_seconds);
		program->due = now() + program->pause_seconds;
		return 1;
	}
	return 0;
}

/* The service appends, so that its log can be cut while it is open. */
static void bound_log(const char *log)
{
	static char octets[65536];
	char aside[64];
	struct stat stat;
	if (lstat(log, &stat) != 0 || stat.st_size <= LOG_OCTETS)
		return;
	snprintf(aside, sizeof aside, "%s.1", log);
	int from = open(log, O_RDWR | O_CLOEXEC);
	int into = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t length = 1;
	while (from >= 0 && into >= 0 && (length = read(from, octets, sizeof octets)) > 0)
		if (write(into, octets, (size_t)length) != length)
			break;
	if (from >= 0 && ftruncate(from, 0) != 0)
		event_log("%s cannot be cut: %s", log, strerror(errno));
	if (from >= 0)
		close(from);
	if (into >= 0)
		close(into);
}

void services_tick(void)
{
	static time_t looked;
	time_t time = now();
	for (int i = 0; i < SERVICES; i++)
		if (programs[i].due != 0 && programs[i].due <= time && !programs[i].stopped)
			service_start((enum service)i);
	if (time - looked < LOOK_SECONDS)
		return;
	looked = time;
	for (int i = 0; i < SERVICES; i++)
		bound_log(programs[i].log);
}

void service_stop(enum service service, int seconds)
{
	struct program *program = &programs[service];
	program->stopped = 1;
	if (program->pid <= 0)
		return;
	kill(program->pid, SIGTERM);
	for (int hundredth = 0; program->pid > 0; hundredth++) {
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			service_ended(pid, status);
		if (pid < 0 && errno == ECHILD)
			return;
		if (hundredth == seconds * 100) {
			event_log("%s did not end within %d s and is killed", program->name, seconds);
			kill(program->pid, SIGKILL);
		}
		if (program->pid > 0)
			usleep(10000);
	}
}
