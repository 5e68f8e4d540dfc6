/**
 * The receive window: what the owner has promised to take, never less than was offered before (RFC 9293 3.8.6,
 * SHLD-14: do not shrink), and opened only by steps worth a segment (3.8.6.2.2, the receiver's silly window).
 */

import { seqAdd, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** The largest SEG.WND that the field holds. */
export const MAX_FIELD = 0xffff;

/** RCV.WND as offered last: what the peer may still send. */
export const offered = (c: Tcb): number => seqSub(c.rcvAdv, c.rcvNxt);

/** What a step must bring: a segment, or half of the most there ever was. */
const step = (c: Tcb): number => Math.max(1, Math.min(c.rcvMss, c.rcvMost >> 1));

function room(c: Tcb): number {
  const octets = Math.max(0, Math.min(c.handler.room(c.connection), c.rcvLimit));
  if (octets > c.rcvMost) c.rcvMost = octets;
  return octets;
}

/** Decides the window for the segment being written; returns SEG.WND, scaled, and moves the right edge. */
export function advertise(c: Tcb): number {
  const before = offered(c);
  // After the peer's FIN nothing more can come.
  const now = c.finReceived ? 0 : room(c);
  if (now - before >= step(c)) {
    const field = Math.min(MAX_FIELD, now >> c.rcvWndShift);
    if (field << c.rcvWndShift >= before) {
      c.rcvAdv = seqAdd(c.rcvNxt, field << c.rcvWndShift);
      return field;
    }
  }
  // The edge stays; a window that is no multiple of the scale's unit is rounded up, as rounding down would shrink it.
  const unit = (1 << c.rcvWndShift) - 1;
  const field = Math.min(MAX_FIELD, (before + unit) >> c.rcvWndShift);
  c.rcvAdv = seqAdd(c.rcvNxt, Math.max(before, field << c.rcvWndShift));
  return field;
}

/** Whether the window has grown enough, since it was offered last, to be worth a segment of its own. */
export function worthUpdate(c: Tcb): boolean {
  if (c.finReceived) return false;
  const before = offered(c);
  // While the peer has half of the most to go on with, the next acknowledgement will do.
  if (before >= c.rcvMost >> 1 && before >= 2 * c.rcvMss) return false;
  const grown = room(c) - before;
  return grown > 0 && grown >= Math.min(Math.max(2 * c.rcvMss, c.rcvMost >> 2), Math.max(1, c.rcvMost >> 1));
}
