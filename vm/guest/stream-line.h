/* Whole writes and single lines on a stream socket. */

#ifndef SLIPWAY_STREAM_LINE_H
#define SLIPWAY_STREAM_LINE_H

#include <stddef.h>

/* Writes all; -1 when the other side is gone. */
int write_all(int fd, const void *octets, size_t length);

/* A line of at most size - 1 octets, without its newline, read octet by octet as what follows belongs to others. Its
 * length, or -1 when there is none. */
int read_line(int fd, char *line, size_t size);

#endif
