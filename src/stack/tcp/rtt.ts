/**
 * Round-trip time and retransmission timeout. RFC 6298. Each acknowledgement measures the octets of those it is about
 * that went out last, if once only (Karn's algorithm, section 3). Where all had gone out again, timestamps tell which
 * time it was that arrived (RFC 7323 4.1); their clock is a coarse one.
 *
 * The floor is not section 2.4's second: the link is a wire inside one machine, where a round trip takes a tenth of a
 * millisecond, and a lost segment must not cost a stream a second. It stays above the delay with which guests
 * acknowledge a lone segment (Linux: 40 ms).
 */

import type { Segment } from './segment.ts';
import type { Tcb } from './tcb.ts';

/** Before the first measurement. RFC 6298 2.1. */
export const INITIAL_RTO_MS = 1000;
export const MIN_RTO_MS = 100;
export const MAX_RTO_MS = 60_000;
/** The clock's grain, the G of RFC 6298 2.2. */
const GRANULARITY_MS = 1;
/** The least round trip is that of this time and the one before it: paths change. */
const LEAST_SPAN_MS = 10_000;

/** RACK.min_RTT: RFC 8985 5.2. */
export const leastRttMs = (c: Tcb): number => Math.min(c.leastRttMs, c.leastRttBeforeMs);

/** SEG.ACK or its blocks cover something new: takes what was measured. */
export function measure(c: Tcb, s: Segment, nowMs: number): void {
  const { sampleMs, heardOfAgain } = c.flight;
  if (sampleMs >= 0) {
    if (nowMs - c.leastRttSinceMs > LEAST_SPAN_MS) {
      c.leastRttSinceMs = nowMs;
      c.leastRttBeforeMs = c.leastRttMs;
      c.leastRttMs = sampleMs;
    } else if (sampleMs < c.leastRttMs) c.leastRttMs = sampleMs;
    take(c, sampleMs);
  } else if (heardOfAgain && c.timestamps && s.hasTimestamps) {
    const r = (Math.floor(nowMs) + c.tsOffset - s.timestampEcho) | 0;
    if (r >= 0 && r <= MAX_RTO_MS) take(c, r);
  }
}

function take(c: Tcb, r: number): void {
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
