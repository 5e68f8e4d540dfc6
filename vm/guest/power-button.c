/* See power-button.h. Keyboards have a power key too: every device that has one is watched, by one epoll descriptor. */

#include "power-button.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MOST_DEVICES 32

static int watch = -1;

static int has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1];
	memset(keys, 0, sizeof keys);
	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0 && (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1);
}

void power_button_open(void)
{
	watch = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < MOST_DEVICES; i++) {
		char path[32];
		snprintf(path, sizeof path, "/dev/input/event%d", i);
		int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
		if (fd >= 0 && (!has_power_key(fd) || epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event) != 0))
			close(fd);
	}
}

int power_button_fd(void)
{
	return watch;
}

int power_button_pressed(void)
{
	struct epoll_event ready;
	struct input_event event;
	int pressed = 0;
	if (epoll_wait(watch, &ready, 1, 0) != 1)
		return 0;
	while (read(ready.data.fd, &event, sizeof event) == (ssize_t)sizeof event)
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
			pressed = 1;
	if (errno != EAGAIN)
		close(ready.data.fd);
	return pressed;
}
