/** The tuples of connections that are over: how long they stay taken, and for whom they are free before. RFC 9293 3.6.1. */

import * as tcp from '../wire/tcp.ts';
import type { Segment } from './segment.ts';
import { seqGt } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** TIME-WAIT lasts this long. Two MSL by RFC 9293 would be 4 minutes for the Internet; nothing lives that long on the link. */
export const TIME_WAIT_MS = 10_000;

/** Whether `s` is a new SYN that may take the place of `c`, which is in TIME-WAIT. RFC 1122 4.2.2.13, RFC 6191 2. */
export function reopens(c: Tcb, s: Segment): boolean {
  if ((s.flags & (tcp.SYN | tcp.ACK | tcp.RST | tcp.FIN)) !== tcp.SYN) return false;
  s.readOptions();
  if (s.hasTimestamps) {
    if (!c.timestamps) return true;
    const later = (s.timestampValue - c.tsRecent) | 0;
    if (later !== 0) return later > 0;
  }
  return seqGt(s.seq, c.rcvNxt);
}
