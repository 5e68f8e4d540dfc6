/**
 * The Timestamps option of a connection that has both sides' consent. RFC 7323 3 to 5: each segment says when it was
 * sent and echoes when the one that it acknowledges was, and a segment older than the last one taken in order is a
 * stray of sequence numbers that have come round (PAWS).
 *
 * Our clock ticks in milliseconds from a number that is the tuple's own (section 5.4), so that a later connection of the
 * same tuple goes on where the earlier one was (RFC 6191).
 */

import type { Segment } from './segment.ts';
import { seqLeq } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** Longer than this TS.Recent says nothing: the clock of the peer may have come round. RFC 7323 5.5. */
const OUTDATED_MS = 24 * 24 * 3600 * 1000;

/** The tick that segments carry from now on: TSval. */
export const tick = (c: Tcb, nowMs: number): void => {
  c.tsVal = (Math.floor(nowMs) + c.tsOffset) | 0;
};

/** PAWS: SEG.TSval before TS.Recent. RFC 7323 5.3 R1. */
export const isOld = (c: Tcb, s: Segment, nowMs: number): boolean =>
  ((s.timestampValue - c.tsRecent) | 0) < 0 && nowMs - c.tsRecentAtMs <= OUTDATED_MS;

/** RFC 7323 5.3 R3, of an acceptable segment: what is echoed is of the earliest that is not acknowledged. */
export function remember(c: Tcb, s: Segment, nowMs: number): void {
  if (!seqLeq(s.seq, c.rcvAcked)) return;
  if (((s.timestampValue - c.tsRecent) | 0) < 0 && nowMs - c.tsRecentAtMs <= OUTDATED_MS) return;
  c.tsRecent = s.timestampValue;
  c.tsRecentAtMs = nowMs;
}
