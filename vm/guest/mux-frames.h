/* The frames of the portable lane, as src/hypervisor/vsock/serial-mux.ts describes them: written to and read from the
 * virtio-serial port. */

#ifndef SLIPWAY_MUX_FRAMES_H
#define SLIPWAY_MUX_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum { HELLO = 1, OPEN, ACCEPT, DATA, CREDIT, SHUTDOWN, RESET };

#define MUX_MAGIC 0x584d5753u /* "SWMX" */
#define MUX_VERSION 1
#define MAX_PAYLOAD 32752
#define HELLO_PAYLOAD 16

struct frame {
	int type, flags;
	uint32_t id, value, length;
	const char *payload;
};

/* Where the next frame's payload is to be put, at most MAX_PAYLOAD octets of it. */
char *frame_payload(void);

/* Completes the frame whose `length` octets of payload are there. */
void frame_commit(int type, int flags, uint32_t id, uint32_t value, uint32_t length);

/* A frame without payload. */
void frame_send(int type, int flags, uint32_t id, uint32_t value);

/* One frame's length of zeros, which ends whatever frame the other side believes to be in. */
void frame_filler(void);

/* Octets not yet written. */
size_t frames_waiting(void);

/* Writes what the port takes. False: it takes no more now. */
int frames_write(int port);

/* Reads once, and hands each whole frame to `take`; calls `lost` when the octets are none. What read() returned. */
long frames_read(int port, void (*take)(const struct frame *), void (*lost)(void));

/* Ignores everything up to the next HELLO. */
void frames_hunt(void);

void put32(char *at, uint32_t value);
uint32_t get32(const char *at);

#endif
