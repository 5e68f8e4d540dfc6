/* See mux-frames.h. */

#include "mux-frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER 12
#define TRAILER 4
#define MAX_FRAME (HEADER + MAX_PAYLOAD + TRAILER)

static char input[2 * MAX_FRAME];
static size_t input_length;
static int hunting = 1;

/* Octets to be written: `output_length` of them from `output_start`. */
static char *output;
static size_t output_start, output_length, output_size;

void put32(char *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

uint32_t get32(const char *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return value;
}

/* Room for `octets` more at the end of the output. */
static char *reserve(size_t octets)
{
	if (output_start > 0 && output_start + output_length + octets > output_size) {
		memmove(output, output + output_start, output_length);
		output_start = 0;
	}
	if (output_length + octets > output_size) {
		output_size = (output_length + octets) * 2;
		output = realloc(output, output_size);
		if (!output) {
			fputs("slipway-mux: out of memory\n", stderr);
			exit(1);
		}
	}
	return output + output_start + output_length;
}

char *frame_payload(void)
{
	return reserve(MAX_FRAME) + HEADER;
}

void frame_commit(int type, int flags, uint32_t id, uint32_t value, uint32_t length)
{
	char *frame = output + output_start + output_length;
	uint32_t first = (uint32_t)type | (uint32_t)flags << 8 | length << 16;
	put32(frame, first);
	put32(frame + 4, id);
	put32(frame + 8, value);
	put32(frame + HEADER + length, MUX_MAGIC ^ first ^ id ^ value);
	output_length += HEADER + length + TRAILER;
}

void frame_send(int type, int flags, uint32_t id, uint32_t value)
{
	reserve(HEADER + TRAILER);
	frame_commit(type, flags, id, value, 0);
}

void frame_filler(void)
{
	memset(reserve(MAX_FRAME), 0, MAX_FRAME);
	output_length += MAX_FRAME;
}

size_t frames_waiting(void)
{
	return output_length;
}

int frames_write(int port)
{
	while (output_length > 0) {
		ssize_t written = write(port, output + output_start, output_length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return 0;
		output_start += (size_t)written;
		output_length -= (size_t)written;
		if (output_length == 0)
			output_start = 0;
	}
	return 1;
}

void frames_hunt(void)
{
	hunting = 1;
}

/* The first frame of [at, end): its octets; 0: not whole yet; -1: no frame. */
static ssize_t parse(const char *at, const char *end, struct frame *frame)
{
	if (end - at < HEADER)
		return 0;
	uint32_t first = get32(at);
	*frame = (struct frame){ .type = (int)(first & 0xff), .flags = (int)(first >> 8 & 0xff), .id = get32(at + 4),
				 .value = get32(at + 8), .length = first >> 16, .payload = at + HEADER };
	if (frame->type < HELLO || frame->type > RESET || frame->length > MAX_PAYLOAD)
		return -1;
	if (frame->type == HELLO &&
	    (frame->flags != MUX_VERSION || frame->length != HELLO_PAYLOAD || frame->id != MUX_MAGIC))
		return -1;
	if (hunting && frame->type != HELLO)
		return -1;
	if (end - at < (ptrdiff_t)(HEADER + frame->length + TRAILER))
		return 0;
	if (get32(frame->payload + frame->length) != (MUX_MAGIC ^ first ^ frame->id ^ frame->value))
		return -1;
	return (ssize_t)(HEADER + frame->length + TRAILER);
}

long frames_read(int port, void (*take)(const struct frame *), void (*lost)(void))
{
	ssize_t got = read(port, input + input_length, sizeof input - input_length);
	if (got <= 0)
		return got;
	input_length += (size_t)got;
	size_t at = 0;
	for (;;) {
		struct frame frame;
		ssize_t used = parse(input + at, input + input_length, &frame);
		if (used == 0)
			break;
		if (used > 0) {
			hunting = 0;
			take(&frame);
		} else if (!hunting) {
			hunting = 1;
			lost();
		}
		at += used > 0 ? (size_t)used : 1;
	}
	input_length -= at;
	if (at > 0)
		memmove(input, input + at, input_length);
	return got;
}
