/* What a Linux userland expects of its machine before any service runs: file systems, kernel settings, name, clock. */

#ifndef SLIPWAY_MACHINE_H
#define SLIPWAY_MACHINE_H

#include <stddef.h>

/* /proc, /sys, /dev, /run, /tmp and what belongs into them. Failures are told on the console. */
void mount_system(void);

/* The value of `key=` on the kernel's command line into `value`; 0 when it is there. */
int kernel_argument(const char *key, char *value, size_t length);

/* Sysctls, host name, loopback, resource limits; the clock by `slipway.time` where the clock chip is wrong. */
void set_up_machine(void);

#endif
