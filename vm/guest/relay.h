/* Copies octets both ways between two stream sockets until both directions have ended. */

#ifndef SLIPWAY_RELAY_H
#define SLIPWAY_RELAY_H

/* An end of input on one side is passed on as half-close to the other, whose answer still flows. When one side is gone
 * altogether, nothing more is read for it. Returns when nothing is left to do; both sockets are left to the caller. */
void relay(int one, int other);

#endif
