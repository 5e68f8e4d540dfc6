/* See stream-line.h. */

#include "stream-line.h"

#include <errno.h>
#include <unistd.h>

int write_all(int fd, const void *octets, size_t length)
{
	const char *rest = octets;
	while (length > 0) {
		ssize_t done = write(fd, rest, length);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		rest += done;
		length -= (size_t)done;
	}
	return 0;
}

int read_line(int fd, char *line, size_t size)
{
	for (size_t length = 0; length < size;) {
		ssize_t got = read(fd, line + length, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		if (line[length] == '\n') {
			line[length] = 0;
			return (int)length;
		}
		length++;
	}
	return -1;
}
