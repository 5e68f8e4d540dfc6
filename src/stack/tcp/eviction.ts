/**
 * Who gives way when all memory for send queues is taken and a connection has none at all: the one whose guest has
 * read nothing for longest. A guest that stopped reading keeps its connections as long as others need nothing
 * (timeout.ts probes it for ever); a thousand such must not keep all others from sending.
 */

import type { Connection } from './connection.ts';

/** A connection that got on within this time is not stalled. */
const STALLED_MS = 60_000;
/** At most one goes in this time: its chunks come back at once. */
export const EVICTION_INTERVAL_MS = 100;

/** The connection that holds memory and has been stalled longest; undefined: none is. */
export function longestStalled(connections: Iterable<Connection>, nowMs: number): Connection | undefined {
  let found: Connection | undefined;
  for (const c of connections) {
    if (c.queue.chunks === 0 || nowMs - c.progressAtMs < STALLED_MS) continue;
    if (!found || c.progressAtMs < found.progressAtMs) found = c;
  }
  return found;
}
