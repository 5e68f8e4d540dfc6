/* PID 1 of the guest: mounts, brings up network, data disk and modules side by side, then keeps the services running:
 * the multiplexer (portable lane), the agent, containerd and dockerd. Tells the host how far the boot is.
 *
 * Steps and services are one table each. A step runs once; a service is started when the steps and services it waits
 * for are done or up, and again a second after it ends. SIGUSR2 powers off, SIGTERM reboots (as busybox's tools ask):
 * dockerd first, so that containers are stopped in order, then the rest, then the data disk is unmounted.
 * A step that fails powers the machine off with the cause on the console: a guest without its disk is of no use. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"

#define BOOT_PORT 62377
#define GRACE_SECONDS 20
#define STEP(name) "/usr/lib/slipway/" name

struct unit {
  const char *name;
  const char *argv[8];
  unsigned after; /* bits of the units that must be done (steps) or started (services) */
  int service;
  const char *ready; /* a service is up when this path exists; NULL: at once */
  int stops_first;
  pid_t pid;
  int done;
  time_t restart_at;
};

enum { MUX, AGENT, NETWORK, DISK, MODULES, CONTAINERD, DOCKERD, UNITS };
#define BIT(unit) (1u << (unit))

static struct unit units[UNITS] = {
    [MUX] = {.name = "mux", .argv = {"/usr/bin/slipway-mux"}, .service = 1, .ready = "/run/slipway/connect"},
    [AGENT] = {.name = "agent", .argv = {"/usr/bin/slipway-agent"}, .service = 1},
    [NETWORK] = {.name = "network", .argv = {STEP("network")}},
    [DISK] = {.name = "disk", .argv = {STEP("disk")}},
    [MODULES] = {.name = "modules", .argv = {STEP("modules")}},
    [CONTAINERD] = {.name = "containerd",
                    .argv = {"/usr/bin/containerd", "--log-level", "warn"},
                    .after = BIT(DISK),
                    .service = 1,
                    .ready = "/run/containerd/containerd.sock"},
    [DOCKERD] = {.name = "dockerd",
                 .argv = {"/usr/sbin/dockerd", "--containerd", "/run/containerd/containerd.sock", "--log-level", "warn"},
                 .after = BIT(NETWORK) | BIT(DISK) | BIT(MODULES) | BIT(CONTAINERD),
                 .service = 1,
                 .ready = "/run/docker.sock",
                 .stops_first = 1},
};

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("slipway-init: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

static double uptime(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Tells the host; never waits for it. */
static void tell(const char *text) {
  if (fork() != 0) return;
  int fd = channel_connect(BOOT_PORT);
  if (fd >= 0 && write(fd, text, strlen(text)) < 0) _exit(1);
  _exit(0);
}

static void mark(const char *name, double seconds) {
  char line[96];
  snprintf(line, sizeof line, "mark %s %.2f\n", name, seconds);
  tell(line);
}

static void must_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  mkdir(target, 0755);
  if (mount(source, target, type, flags, data) != 0 && errno != EBUSY) say("cannot mount %s: %s", target, strerror(errno));
}

static void mount_all(void) {
  must_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
  must_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
  must_mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  must_mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
  must_mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
  must_mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  mkdir("/run/lock", 01777);
  mkdir("/run/slipway", 0700);
  symlink("/proc/self/fd", "/dev/fd");
  symlink("/proc/self/fd/0", "/dev/stdin");
  symlink("/proc/self/fd/1", "/dev/stdout");
  symlink("/proc/self/fd/2", "/dev/stderr");
}

/* The value of `key=` on the kernel's command line, or NULL. */
static const char *argument(const char *key) {
  static char line[4096];
  static char value[256];
  FILE *file = fopen("/proc/cmdline", "re");
  if (!file) return NULL;
  const char *found = NULL;
  if (fgets(line, sizeof line, file))
    for (char *rest = line, *word; (word = strsep(&rest, " \n"));)
      if (strncmp(word, key, strlen(key)) == 0 && word[strlen(key)] == '=') {
        snprintf(value, sizeof value, "%s", word + strlen(key) + 1);
        found = value;
      }
  fclose(file);
  return found;
}

static void set_clock(void) {
  const char *text = argument("slipway.time");
  struct timeval now = {.tv_sec = text ? strtol(text, NULL, 10) : 0};
  struct timeval current;
  gettimeofday(&current, NULL);
  /* The clock chip is usually right; the host's word at start is its lower bound. */
  if (now.tv_sec > current.tv_sec && settimeofday(&now, NULL) != 0) say("cannot set the clock: %s", strerror(errno));
}

static void start(struct unit *unit) {
  pid_t pid = fork();
  if (pid < 0) {
    say("cannot start %s: %s", unit->name, strerror(errno));
    unit->restart_at = time(NULL) + 1;
    return;
  }
  if (pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (unit->service) {
      char path[64];
      snprintf(path, sizeof path, "/run/log/%s.log", unit->name);
      int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
      }
      int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
      if (score >= 0 && write(score, "-800", 4) < 0) say("cannot set the OOM score of %s", unit->name);
    }
    execv(unit->argv[0], (char *const *)unit->argv);
    say("cannot run %s: %s", unit->argv[0], strerror(errno));
    _exit(127);
  }
  unit->pid = pid;
  unit->restart_at = 0;
}

static void power(int how) {
  sync();
  umount2("/var", MNT_DETACH);
  sync();
  reboot(how);
  for (;;) pause();
}

static int wait_for(pid_t pid, int seconds) {
  for (int tenth = 0; tenth < seconds * 10; tenth++) {
    pid_t ended;
    while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
      if (ended == pid) return 1;
    if (kill(pid, 0) != 0) return 1;
    usleep(100000);
  }
  return 0;
}

static void shut_down(int how) {
  for (int first = 1; first >= 0; first--)
    for (int i = UNITS - 1; i >= 0; i--) {
      struct unit *unit = &units[i];
      if (unit->pid <= 0 || unit->stops_first != first) continue;
      kill(unit->pid, SIGTERM);
      if (!wait_for(unit->pid, first ? GRACE_SECONDS : 3)) kill(unit->pid, SIGKILL);
    }
  kill(-1, SIGTERM);
  usleep(200000);
  kill(-1, SIGKILL);
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
  power(how);
}

static int ended(pid_t pid, int status) {
  for (int i = 0; i < UNITS; i++) {
    struct unit *unit = &units[i];
    if (unit->pid != pid) continue;
    unit->pid = 0;
    if (unit->service) {
      say("%s ended (status 0x%x); starting it again", unit->name, status);
      unit->restart_at = time(NULL) + 1;
      return 1;
    }
    if (status != 0) {
      say("%s failed (status 0x%x): powering off", unit->name, status);
      shut_down(RB_POWER_OFF);
    }
    unit->done = 1;
    mark(unit->name, uptime());
    return 1;
  }
  return 0;
}

/* Starts what may start now; returns whether something is awaited that no signal announces. */
static int advance(void) {
  unsigned finished = 0;
  int polling = 0;
  for (int i = 0; i < UNITS; i++) {
    struct unit *unit = &units[i];
    if (unit->service && unit->pid > 0 && !unit->done) {
      if (!unit->ready || access(unit->ready, F_OK) == 0) {
        unit->done = 1;
        if (unit->ready) mark(unit->name, uptime());
      } else
        polling = 1;
    }
    if (unit->done) finished |= BIT(i);
  }
  for (int i = 0; i < UNITS; i++) {
    struct unit *unit = &units[i];
    if (unit->pid != 0 || (unit->done && !unit->service)) continue;
    if ((unit->after & finished) != unit->after) continue;
    if (unit->restart_at > time(NULL)) {
      polling = 1;
      continue;
    }
    start(unit);
    polling = 1;
  }
  return polling;
}

int main(void) {
  double began = uptime();
  mount_all();
  mkdir("/run/log", 0700);
  int console = open("/dev/console", O_RDWR | O_CLOEXEC);
  if (console >= 0) {
    dup2(console, 0);
    dup2(console, 1);
    dup2(console, 2);
  }
  setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  umask(022);
  set_clock();
  struct rlimit files = {1048576, 1048576};
  setrlimit(RLIMIT_NOFILE, &files);
  const char *name = argument("slipway.hostname");
  if (!name) name = "slipway";
  if (sethostname(name, strlen(name)) != 0) say("cannot set the host name: %s", strerror(errno));

  const char *channel = argument("slipway.channel");
  if (channel && strcmp(channel, "serial") == 0)
    units[AGENT].after = BIT(MUX);
  else {
    units[MUX].done = 1;
    units[MUX].service = 0;
  }

  sigset_t watched;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  sigaddset(&watched, SIGUSR2);
  sigaddset(&watched, SIGTERM);
  sigaddset(&watched, SIGINT);
  sigprocmask(SIG_BLOCK, &watched, NULL);
  reboot(RB_DISABLE_CAD);

  const char *initramfs = getenv("SLIPWAY_INITRAMFS");
  int told = 0;
  for (;;) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) ended(pid, status);
    int polling = advance();
    if (!told && units[AGENT].done) {
      told = 1;
      if (initramfs) mark("initramfs", strtod(initramfs, NULL));
      mark("init", began);
    }
    struct timespec tick = {0, 20 * 1000 * 1000};
    int signal = sigtimedwait(&watched, NULL, polling ? &tick : NULL);
    if (signal == SIGUSR2) shut_down(RB_POWER_OFF);
    if (signal == SIGTERM || signal == SIGINT) shut_down(RB_AUTOBOOT);
  }
}
