/* The guest's lasting programs: started, watched, started again when they end, stopped in order. */

#ifndef SLIPWAY_SERVICES_H
#define SLIPWAY_SERVICES_H

#include <sys/types.h>

enum service { MUX, AGENT, DHCP, CONTAINERD, DOCKERD, DATABASE, SERVICES };

void service_start(enum service service);

/* Takes note of a child's end; 1 when it was a service's. One that nobody stopped is started again by
 * services_tick(). */
int service_ended(pid_t pid, int status);

/* Restarts what is due, and bounds the logs; to be called every second. */
void services_tick(void);

/* Asks a service to end, and waits for it up to `seconds`, then ends it. */
void service_stop(enum service service, int seconds);

/* A child process without its parent's signal mask and session; as fork(). */
pid_t fork_clean(void);

#endif
