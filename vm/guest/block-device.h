/* Finds a virtio block device by the serial that the host gave it. */

#ifndef SLIPWAY_BLOCK_DEVICE_H
#define SLIPWAY_BLOCK_DEVICE_H

#include <stddef.h>

/* Writes the device's path under /dev into `path` and returns 0; waits up to `wait_ms` for it to appear; -1 when it
 * does not. Needs /sys and /dev. */
int find_block_device(const char *serial, char *path, size_t length, int wait_ms);

#endif
