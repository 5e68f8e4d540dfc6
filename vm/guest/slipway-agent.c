/* The guest's services for the host, one process a stream:
 *   2376  the Docker API: copies octets to and from /run/docker.sock, half-close kept
 *   2222  a root shell on a pty; first line `COLUMNS ROWS TERM`
 *   2223  a command without a pty; first line LENGTH, then the text for `sh -c`, then its stdin; the answer is framed
 *   2224  control: poweroff, reboot, time SECONDS.NANOS, ping
 * Listens on AF_VSOCK for the host (CID 2) alone, and on unix sockets /run/slipway/port/N, where the multiplexer of the
 * portable lane connects. Who reaches these is root in the guest: containers have neither. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "channel.h"

#define BACKLOG 128
#define CHUNK 65536
#define LONGEST_COMMAND (1 << 20)

typedef void service(int stream);

/* Writes all; -1 when the other side is gone. */
static int write_all(int fd, const char *octets, size_t length) {
  while (length > 0) {
    ssize_t done = write(fd, octets, length);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return -1;
    octets += done;
    length -= (size_t)done;
  }
  return 0;
}

/* A line of at most size - 1 octets without its newline, octet by octet: what follows belongs to others. -1: none. */
static int read_line(int fd, char *line, size_t size) {
  size_t length = 0;
  for (;;) {
    char octet;
    ssize_t got = read(fd, &octet, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -1;
    if (octet == '\n') break;
    if (length + 1 >= size) return -1;
    line[length++] = octet;
  }
  line[length] = '\0';
  return (int)length;
}

/* One direction of a two-way copy. */
struct pipe_end {
  int from, into;
  char octets[CHUNK];
  size_t start, length;
  int ended, closed;
};

static void fill(struct pipe_end *p) {
  ssize_t got = read(p->from, p->octets, CHUNK);
  if (got > 0) {
    p->start = 0;
    p->length = (size_t)got;
  } else if (got == 0 || (errno != EINTR && errno != EAGAIN))
    p->ended = 1;
}

static int drain(struct pipe_end *p) {
  ssize_t done = write(p->into, p->octets + p->start, p->length);
  if (done < 0) return errno == EINTR || errno == EAGAIN ? 0 : -1;
  p->start += (size_t)done;
  p->length -= (size_t)done;
  return 0;
}

/* Copies both ways until both directions have ended; an end is passed on as half-close. */
static void splice_both(int a, int b) {
  static struct pipe_end ways[2];
  ways[0].from = ways[1].into = a;
  ways[0].into = ways[1].from = b;
  fcntl(a, F_SETFL, O_NONBLOCK);
  fcntl(b, F_SETFL, O_NONBLOCK);
  while (!ways[0].closed || !ways[1].closed) {
    struct pollfd fds[4];
    for (int i = 0; i < 2; i++) {
      struct pipe_end *p = &ways[i];
      if (p->ended && p->length == 0 && !p->closed) {
        shutdown(p->into, SHUT_WR);
        p->closed = 1;
      }
      fds[2 * i] = (struct pollfd){p->length == 0 && !p->ended ? p->from : -1, POLLIN, 0};
      fds[2 * i + 1] = (struct pollfd){p->length > 0 ? p->into : -1, POLLOUT, 0};
    }
    if (ways[0].closed && ways[1].closed) return;
    if (poll(fds, 4, -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    for (int i = 0; i < 2; i++) {
      if (fds[2 * i].revents) fill(&ways[i]);
      if (fds[2 * i + 1].revents && drain(&ways[i]) < 0) return;
    }
  }
}

static void serve_docker(int stream) {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/docker.sock"};
  int docker = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (docker < 0 || connect(docker, (struct sockaddr *)&address, sizeof address) != 0) {
    struct linger hard = {1, 0};
    setsockopt(stream, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    return;
  }
  splice_both(stream, docker);
}

static void serve_shell(int stream) {
  char line[128], term[64] = "xterm";
  unsigned columns = 80, rows = 24;
  if (read_line(stream, line, sizeof line) < 0) return;
  if (sscanf(line, "%u %u %63s", &columns, &rows, term) < 2) return;
  struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
  int pty;
  pid_t pid = forkpty(&pty, NULL, NULL, &size);
  if (pid < 0) return;
  if (pid == 0) {
    setenv("TERM", term, 1);
    setenv("HOME", "/root", 1);
    if (chdir("/root") != 0 && chdir("/") != 0) _exit(1);
    execl("/bin/sh", "-sh", (char *)NULL);
    _exit(127);
  }
  splice_both(stream, pty);
  kill(pid, SIGHUP);
}

static int frame(int stream, unsigned char kind, const char *octets, size_t length) {
  unsigned char header[5] = {kind, (unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16),
                             (unsigned char)(length >> 24)};
  return write_all(stream, (const char *)header, sizeof header) || write_all(stream, octets, length) ? -1 : 0;
}

static void serve_command(int stream) {
  char line[32];
  if (read_line(stream, line, sizeof line) < 0) return;
  long length = strtol(line, NULL, 10);
  if (length <= 0 || length > LONGEST_COMMAND) return;
  char *text = calloc(1, (size_t)length + 1);
  for (long got = 0; text && got < length;) {
    ssize_t more = read(stream, text + got, (size_t)(length - got));
    if (more <= 0) return;
    got += more;
  }
  int in[2], out[2], err[2];
  if (!text || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) return;
  pid_t pid = fork();
  if (pid < 0) return;
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    setsid();
    setenv("HOME", "/root", 1);
    if (chdir("/root") != 0 && chdir("/") != 0) _exit(1);
    execl("/bin/sh", "sh", "-c", text, (char *)NULL);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  signal(SIGPIPE, SIG_IGN);
  static char octets[CHUNK];
  static char pending[CHUNK];
  size_t start = 0, waiting = 0;
  int input = stream, sink = in[1], outputs[2] = {out[0], err[0]};
  fcntl(sink, F_SETFL, O_NONBLOCK);
  while (outputs[0] >= 0 || outputs[1] >= 0) {
    struct pollfd fds[4] = {{waiting ? -1 : input, POLLIN, 0},
                            {waiting ? sink : -1, POLLOUT, 0},
                            {outputs[0], POLLIN, 0},
                            {outputs[1], POLLIN, 0}};
    if (poll(fds, 4, -1) < 0 && errno != EINTR) break;
    if (fds[0].revents) {
      ssize_t got = read(stream, pending, sizeof pending);
      if (got > 0) {
        start = 0;
        waiting = (size_t)got;
      } else {
        /* Half-close ends stdin; a reset is seen when writing. */
        input = -1;
        if (sink >= 0) close(sink);
        sink = -1;
      }
    }
    if (fds[1].revents) {
      ssize_t done = write(sink, pending + start, waiting);
      if (done > 0) {
        start += (size_t)done;
        waiting -= (size_t)done;
      } else if (errno != EAGAIN && errno != EINTR) {
        close(sink);
        sink = -1;
        input = -1;
        waiting = 0;
      }
    }
    for (int i = 0; i < 2; i++) {
      if (!fds[2 + i].revents) continue;
      ssize_t got = read(outputs[i], octets, sizeof octets);
      if (got > 0) {
        if (frame(stream, (unsigned char)(1 + i), octets, (size_t)got) == 0) continue;
        kill(-pid, SIGHUP);
        return;
      }
      if (got < 0 && errno == EINTR) continue;
      close(outputs[i]);
      outputs[i] = -1;
    }
  }
  int status = 0;
  waitpid(pid, &status, 0);
  int length_of = snprintf(line, sizeof line, "%d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  frame(stream, 3, line, (size_t)length_of);
}

static const char *control(const char *line) {
  if (strcmp(line, "ping") == 0) return NULL;
  if (strcmp(line, "poweroff") == 0) return kill(1, SIGUSR2) == 0 ? NULL : strerror(errno);
  if (strcmp(line, "reboot") == 0) return kill(1, SIGTERM) == 0 ? NULL : strerror(errno);
  long long seconds;
  long nanos = 0;
  if (sscanf(line, "time %lld.%9ld", &seconds, &nanos) >= 1) {
    struct timespec now = {.tv_sec = (time_t)seconds, .tv_nsec = nanos};
    return clock_settime(CLOCK_REALTIME, &now) == 0 ? NULL : strerror(errno);
  }
  return "unknown command; there are poweroff, reboot, time SECONDS.NANOS, ping";
}

static void serve_control(int stream) {
  char line[128], answer[256];
  while (read_line(stream, line, sizeof line) >= 0) {
    const char *error = control(line);
    int length = error ? snprintf(answer, sizeof answer, "error %s\n", error) : snprintf(answer, sizeof answer, "ok\n");
    if (write_all(stream, answer, (size_t)length) != 0) return;
  }
}

static const struct {
  unsigned port;
  service *serve;
} services[] = {{2376, serve_docker}, {2222, serve_shell}, {2223, serve_command}, {2224, serve_control}};
#define SERVICES (sizeof services / sizeof *services)

static int listen_vsock(unsigned port) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, BACKLOG) == 0) return fd;
  close(fd);
  return -1;
}

static int listen_unix(unsigned port) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, CHANNEL_DIRECTORY "/port/%u", port);
  unlink(address.sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, BACKLOG) == 0) return fd;
  perror(address.sun_path);
  exit(1);
}

int main(void) {
  umask(077);
  mkdir(CHANNEL_DIRECTORY, 0700);
  mkdir(CHANNEL_DIRECTORY "/port", 0700);
  signal(SIGCHLD, SIG_IGN);
  struct pollfd fds[2 * SERVICES];
  for (size_t i = 0; i < SERVICES; i++) {
    fds[2 * i] = (struct pollfd){listen_unix(services[i].port), POLLIN, 0};
    fds[2 * i + 1] = (struct pollfd){listen_vsock(services[i].port), POLLIN, 0};
  }
  for (;;) {
    if (poll(fds, 2 * SERVICES, -1) < 0 && errno != EINTR) return 1;
    for (size_t i = 0; i < 2 * SERVICES; i++) {
      if (fds[i].fd < 0 || !fds[i].revents) continue;
      struct sockaddr_vm peer = {0};
      socklen_t length = sizeof peer;
      int stream = accept4(fds[i].fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);
      if (stream < 0) continue;
      if (i % 2 == 1 && peer.svm_cid != VMADDR_CID_HOST) {
        close(stream);
        continue;
      }
      if (fork() == 0) {
        signal(SIGCHLD, SIG_DFL);
        signal(SIGPIPE, SIG_IGN);
        umask(022);
        services[i / 2].serve(stream);
        _exit(0);
      }
      close(stream);
    }
  }
}
