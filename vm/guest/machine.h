/* What a Linux userland expects of its machine before any service runs: file systems, kernel settings, name, clock. */

#ifndef SLIPWAY_MACHINE_H
#define SLIPWAY_MACHINE_H

#include <stddef.h>

/* The cgroup of containerd, dockerd and what they start for themselves. */
#define ENGINE_GROUP "/sys/fs/cgroup/slipway"

/* /proc, /sys, /dev, /run, /tmp and what belongs into them. Failures are told on the console. */
void mount_system(void);

/* The value of `key=` on the kernel's command line into `value`; 0 when it is there. */
int kernel_argument(const char *key, char *value, size_t length);

/* Sysctls, host name, loopback, resource limits, cgroups; the clock by `slipway.time` where the clock chip is wrong. */
void set_up_machine(void);

/* Sets a sysctl, by its path below /proc/sys. */
void write_setting(const char *name, const char *value);

#endif
