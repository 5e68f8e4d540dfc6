/* Streams from the guest to the host, whichever lane carries them: vsock, or the multiplexer's unix socket. */

#ifndef SLIPWAY_CHANNEL_H
#define SLIPWAY_CHANNEL_H

/* Where the multiplexer serves the portable lane. */
#ifndef CHANNEL_DIRECTORY
#define CHANNEL_DIRECTORY "/run/slipway"
#endif

/* A connected stream socket to host port `port` (close-on-exec, blocking), or -1 with errno set: ECONNREFUSED or
 * ECONNRESET when nobody listens there. */
int channel_connect(unsigned port);

#endif
