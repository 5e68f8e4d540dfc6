/* Boot marks and words for the host: lines written to a FIFO, carried to host port 62377 by a process of its own, so
 * that nobody ever waits for the host. vm/README.md gives the lines. */

#ifndef SLIPWAY_EVENTS_H
#define SLIPWAY_EVENTS_H

#define EVENTS_FIFO "/run/slipway/events"

/* Makes the FIFO and starts the carrier. */
void events_start(void);

/* Tells that a step of the boot is done, at the uptime in seconds, or now when `seconds` is negative. */
void event_mark(const char *name, double seconds);

/* A line for the host's log, and for the guest's console. */
void event_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Why the guest gives up. */
void event_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

double uptime_seconds(void);

#endif
