/* PID 1 of the guest, started by initramfs.c. It ends only with the machine: its death is the kernel's panic.
 *
 * The boot, in the order of what waits for what; each line's parts run side by side:
 *   system mounts, settings, clock; the channel's and the network's modules
 *   agent (and multiplexer), DHCP | data disk on /var | modules that dockerd wants | the host's settings database
 *   containerd and dockerd, once the disk is mounted, the modules are loaded, and network and settings are there or late
 *   modules that nobody waits for, the power button
 *
 * Children that do one thing are jobs; what lasts is a service (services.c). Marks go to the host (events.c).
 * SIGUSR2 or the power button powers off, SIGTERM or SIGINT reboots, as busybox's poweroff and reboot ask for it:
 * dockerd first, which stops the containers in order, then everything else, and the disk is unmounted. */

#include "data-disk.h"
#include "events.h"
#include "load-modules.h"
#include "machine.h"
#include "power-button.h"
#include "ready.h"
#include "services.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LISTS "/usr/lib/slipway/modules/"
#define NETWORK_MARK "/run/slipway/network"
#define SETTINGS_MARK "/run/slipway/settings"
/* How long dockerd, all else being ready, waits for network and settings. */
#define NETWORK_SECONDS 5
#define SETTINGS_SECONDS 30
#define DOCKERD_SECONDS 20
#define CONTAINERD_SECONDS 3
#define REST_HUNDREDTHS 100

enum job { DISK, DATABASE_MODULES, MODULES, CONTAINERD_READY, DOCKERD_READY, LATE, JOBS };

static struct {
	const char *mark;
	pid_t pid;
	int done;
} jobs[JOBS] = {
	[DISK] = { .mark = "disk" },
	[DATABASE_MODULES] = { .mark = NULL },
	[MODULES] = { .mark = "modules" },
	[CONTAINERD_READY] = { .mark = "containerd" },
	[DOCKERD_READY] = { .mark = "dockerd" },
	[LATE] = { .mark = NULL },
};
static int containerd_started, dockerd_started;

static int load_docker_modules(void)
{
	load_modules(LISTS "docker");
	write_setting("net/netfilter/nf_conntrack_max", "262144");
	return 0;
}

static int load_database_modules(void)
{
	load_modules(LISTS "database");
	return 0;
}

static int load_late_modules(void)
{
	load_modules(LISTS "late");
	return 0;
}

static int load_and_mount_disk(void)
{
	load_modules(LISTS "disk");
	return mount_data_disk();
}

static void job_start(enum job job, int (*work)(void))
{
	pid_t pid = fork_clean();
	if (pid == 0)
		_exit(work() == 0 ? 0 : 1);
	jobs[job].pid = pid;
}

static void power(int how)
{
	event_log(how == RB_POWER_OFF ? "powering off" : "rebooting");
	service_stop(DOCKERD, DOCKERD_SECONDS);
	service_stop(CONTAINERD, CONTAINERD_SECONDS);
	for (int signal_number = SIGTERM; ; signal_number = SIGKILL) {
		kill(-1, signal_number);
		int left = REST_HUNDREDTHS;
		while (left > 0 && (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD)) {
			usleep(10000);
			left--;
		}
		if (left > 0 || signal_number == SIGKILL)
			break;
	}
	sync();
	if (umount("/var") != 0 && errno != EINVAL) {
		fprintf(stderr, "slipway: /var: %s\n", strerror(errno));
		mount(NULL, "/var", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	}
	sync();
	reboot(how);
	exit(1);
}

static void job_ended(pid_t pid, int status)
{
	for (int i = 0; i < JOBS; i++) {
		if (jobs[i].pid != pid)
			continue;
		jobs[i].pid = 0;
		jobs[i].done = 1;
		if (i == DISK && status != 0) {
			/* Let the host hear why. */
			sleep(1);
			power(RB_POWER_OFF);
		}
		if (jobs[i].mark && status == 0)
			event_mark(jobs[i].mark, -1);
		if (i == DATABASE_MODULES)
			service_start(DATABASE);
		if (i == LATE)
			power_button_open();
	}
}

/* dockerd's settings, if nobody has written them yet (root/usr/lib/slipway/daemon-json). */
static void provide_daemon_json(void)
{
	static char text[4096];
	int from = open("/etc/docker/daemon.json", O_RDONLY | O_CLOEXEC);
	int into = open("/run/slipway/daemon.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t length = from >= 0 && into >= 0 ? read(from, text, sizeof text) : 0;
	if (length > 0 && write(into, text, (size_t)length) != length)
		event_log("daemon.json: %s", strerror(errno));
	if (from >= 0)
		close(from);
	if (into >= 0)
		close(into);
}

/* Whether network and settings are there, or dockerd has waited long enough for them. */
static int may_start_dockerd(void)
{
	static double since;
	double now = uptime_seconds();
	if (since == 0)
		since = now;
	return (access(NETWORK_MARK, F_OK) == 0 || now - since > NETWORK_SECONDS) &&
	       (access(SETTINGS_MARK, F_OK) == 0 || now - since > SETTINGS_SECONDS);
}

static void advance(void)
{
	if (jobs[DISK].done && !containerd_started) {
		containerd_started = 1;
		service_start(CONTAINERD);
		job_start(CONTAINERD_READY, wait_for_containerd);
	}
	if (containerd_started && jobs[MODULES].done && !dockerd_started && may_start_dockerd()) {
		dockerd_started = 1;
		provide_daemon_json();
		service_start(DOCKERD);
		job_start(DOCKERD_READY, wait_for_dockerd);
	}
	if (jobs[DOCKERD_READY].done && !jobs[LATE].done && jobs[LATE].pid == 0)
		job_start(LATE, load_late_modules);
}

static int watch_signals(void)
{
	sigset_t watched;
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	sigaddset(&watched, SIGUSR2);
	sigaddset(&watched, SIGTERM);
	sigaddset(&watched, SIGINT);
	sigprocmask(SIG_BLOCK, &watched, NULL);
	return signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void on_signal(int fd)
{
	struct signalfd_siginfo info;
	while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGUSR2)
			power(RB_POWER_OFF);
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			power(RB_AUTOBOOT);
	}
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!service_ended(pid, status))
			job_ended(pid, status);
}

static void tell_marks(int argc, char **argv, double began)
{
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value)
			continue;
		*value++ = 0;
		event_mark(argv[i], strtod(value, NULL));
	}
	event_mark("init", began);
}

int main(int argc, char **argv)
{
	char channel[16] = "vsock";
	double began = uptime_seconds();
	umask(022);
	mount_system();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	set_up_machine();
	reboot(RB_DISABLE_CAD);
	int signals = watch_signals();
	job_start(DISK, load_and_mount_disk);
	load_modules(LISTS "early");
	events_start();
	tell_marks(argc, argv, began);
	kernel_argument("slipway.channel", channel, sizeof channel);
	if (strcmp(channel, "serial") == 0)
		service_start(MUX);
	service_start(AGENT);
	service_start(DHCP);
	job_start(DATABASE_MODULES, load_database_modules);
	job_start(MODULES, load_docker_modules);
	for (;;) {
		struct pollfd fds[] = { { signals, POLLIN, 0 }, { power_button_fd(), POLLIN, 0 } };
		advance();
		poll(fds, 2, dockerd_started ? 1000 : 20);
		if (fds[1].revents && power_button_pressed())
			power(RB_POWER_OFF);
		on_signal(signals);
		services_tick();
	}
}
