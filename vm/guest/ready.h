/* Waiting, in a process of its own, until a service answers. */

#ifndef SLIPWAY_READY_H
#define SLIPWAY_READY_H

/* 0 once containerd's socket takes connections. */
int wait_for_containerd(void);

/* 0 once the Docker API answers /_ping. */
int wait_for_dockerd(void);

#endif
