/**
 * Congestion control: RFC 5681. What is lost, and when, recovery.ts says.
 *
 * The link is a local wire whose only queue is a ring in the guest: so the initial window is large (RFC 6928 argues the
 * size for the Internet; here nothing is shared with strangers), and slow start counts acknowledged octets
 * (RFC 3465 with L unbounded), as a guest acknowledges many segments at once.
 */

import { seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** Segments, and octets at least. */
const INITIAL_SEGMENTS = 10;
const INITIAL_OCTETS = 131_072;
export const MAX_WINDOW = 1 << 28;

/** SND.NXT - SND.UNA: octets sent and not acknowledged. */
export const flightSize = (c: Tcb): number => seqSub(c.sndNxt, c.sndUna);

/** Octets that are thought to be on their way: without those that the peer has, and those that are lost. RFC 6675 4 */
export const pipe = (c: Tcb): number => flightSize(c) - c.flight.sackedOctets - c.flight.lostOctets;

export function start(c: Tcb): void {
  c.cwnd = Math.max(INITIAL_SEGMENTS * c.sndMss, INITIAL_OCTETS);
  c.ssthresh = MAX_WINDOW;
  c.recover = c.iss;
  c.reorderRound = c.iss;
}

/** `octets` more are acknowledged, outside of a recovery. `wasInFlight`: before that. */
export function grow(c: Tcb, octets: number, wasInFlight: number): void {
  // A window that is not used says nothing about the path. RFC 5681 4.1's concern; RFC 7661 4.3's rule.
  if (wasInFlight * 2 < c.cwnd || c.cwnd >= MAX_WINDOW) return;
  if (c.cwnd < c.ssthresh) c.cwnd = Math.min(c.cwnd + octets, c.ssthresh);
  else c.cwnd += Math.max(1, Math.floor((c.sndMss * octets) / c.cwnd));
}

/** Half of what was in flight: RFC 5681 3.1, equation 4. */
export const half = (c: Tcb): number => Math.max(Math.floor(flightSize(c) / 2), 2 * c.sndMss);
