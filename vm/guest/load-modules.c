/* See load-modules.h. */

#include "load-modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIES 100

/* The kernel answers EBUSY while another process is loading the same module. */
static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = -1;
	if (fd < 0)
		return -1;
	for (int i = 0; i < TRIES; i++) {
		result = (int)syscall(SYS_finit_module, fd, "", 0);
		if (result == 0 || errno != EBUSY)
			break;
		usleep(10000);
	}
	if (result != 0 && errno == EEXIST)
		result = 0;
	close(fd);
	return result;
}

int load_modules(const char *list)
{
	char path[256];
	int failed = 0;
	FILE *file = fopen(list, "re");
	if (!file) {
		fprintf(stderr, "slipway: %s: %s\n", list, strerror(errno));
		return 1;
	}
	while (fgets(path, sizeof path, file)) {
		path[strcspn(path, "\n")] = 0;
		if (load(path) == 0)
			continue;
		fprintf(stderr, "slipway: module %s: %s\n", path, strerror(errno));
		failed++;
	}
	fclose(file);
	return failed;
}
