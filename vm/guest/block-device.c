/* See block-device.h. */

#include "block-device.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STEP_MS 5

static int has_serial(const char *name, const char *serial)
{
	char path[300];
	char text[64] = "";
	snprintf(path, sizeof path, "/sys/block/%s/serial", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t length = read(fd, text, sizeof text - 1);
	close(fd);
	if (length <= 0)
		return 0;
	text[strcspn(text, "\n")] = 0;
	return strcmp(text, serial) == 0;
}

static int look(const char *serial, char *path, size_t length)
{
	struct dirent *entry;
	int found = -1;
	DIR *blocks = opendir("/sys/block");
	if (!blocks)
		return -1;
	while (found != 0 && (entry = readdir(blocks)))
		if (strncmp(entry->d_name, "vd", 2) == 0 && has_serial(entry->d_name, serial))
			found = snprintf(path, length, "/dev/%s", entry->d_name) < (int)length ? 0 : -1;
	closedir(blocks);
	return found == 0 && access(path, F_OK) == 0 ? 0 : -1;
}

int find_block_device(const char *serial, char *path, size_t length, int wait_ms)
{
	for (int waited = 0;; waited += STEP_MS) {
		if (look(serial, path, length) == 0)
			return 0;
		if (waited >= wait_ms)
			return -1;
		usleep(STEP_MS * 1000);
	}
}
