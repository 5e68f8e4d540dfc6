/**
 * Round-trip time and retransmission timeout. RFC 6298. One segment is timed at a time, never a retransmitted one
 * (Karn's algorithm, section 3).
 *
 * The floor is not section 2.4's second: the link is a wire inside one machine, where a round trip takes a tenth of a
 * millisecond, and a lost segment must not cost a stream a second. It stays above the delay with which guests
 * acknowledge a lone segment (Linux: 40 ms).
 */

import { type Seq, seqGeq } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** Before the first measurement. RFC 6298 2.1. */
export const INITIAL_RTO_MS = 1000;
export const MIN_RTO_MS = 100;
export const MAX_RTO_MS = 60_000;
/** The clock's grain, the G of RFC 6298 2.2. */
const GRANULARITY_MS = 1;

/** Times the segment that ends at `end`, unless one is being timed. */
export function time(c: Tcb, end: Seq, nowMs: number): void {
  if (c.timing) return;
  c.timing = true;
  c.timedEnd = end;
  c.timedAtMs = nowMs;
}

/** SEG.ACK covers something new: takes the measurement if it covers the timed segment. */
export function acknowledged(c: Tcb, ack: Seq, nowMs: number): void {
  if (!c.timing || !seqGeq(ack, c.timedEnd)) return;
  c.timing = false;
  const r = Math.max(0, nowMs - c.timedAtMs);
  if (c.srttMs < 0) {
    // RFC 6298 2.2
    c.srttMs = r;
    c.rttvarMs = r / 2;
  } else {
    // RFC 6298 2.3
    c.rttvarMs = 0.75 * c.rttvarMs + 0.25 * Math.abs(c.srttMs - r);
    c.srttMs = 0.875 * c.srttMs + 0.125 * r;
  }
  c.rtoMs = Math.min(MAX_RTO_MS, Math.max(MIN_RTO_MS, c.srttMs + Math.max(GRANULARITY_MS, 4 * c.rttvarMs)));
}

/** The timeout with its exponential back-off. RFC 6298 5.5. */
export const timeoutMs = (c: Tcb): number => Math.min(MAX_RTO_MS, c.rtoMs * 2 ** Math.min(c.backoff, 16));
