/* See power-button.h. */

#include "power-button.h"

#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MOST_DEVICES 32

static int button = -1;

static int has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1];
	memset(keys, 0, sizeof keys);
	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0 && (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1);
}

void power_button_open(void)
{
	for (int i = 0; i < MOST_DEVICES && button < 0; i++) {
		char path[32];
		snprintf(path, sizeof path, "/dev/input/event%d", i);
		int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (has_power_key(fd))
			button = fd;
		else
			close(fd);
	}
}

int power_button_fd(void)
{
	return button;
}

int power_button_pressed(void)
{
	struct input_event event;
	int pressed = 0;
	while (read(button, &event, sizeof event) == (ssize_t)sizeof event)
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
			pressed = 1;
	return pressed;
}
