/**
 * Congestion control and loss recovery: RFC 5681 with NewReno (RFC 6582) and limited transmit (RFC 3042).
 *
 * The link is a local wire whose only queue is a ring in the guest: so the initial window is large (RFC 6928 argues the
 * size for the Internet; here nothing is shared with strangers), and slow start counts acknowledged octets
 * (RFC 3465 with L unbounded), as a guest acknowledges many segments at once.
 */

import { seqGeq, seqGt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** Segments, and octets at least. */
const INITIAL_SEGMENTS = 10;
const INITIAL_OCTETS = 131_072;
const MAX_WINDOW = 1 << 28;
/** RFC 5681 3.2. */
const DUPLICATE_THRESHOLD = 3;

/** SND.MAX - SND.UNA: octets sent and not acknowledged. */
export const flightSize = (c: Tcb): number => seqSub(c.sndMax, c.sndUna);

export function start(c: Tcb): void {
  c.cwnd = Math.max(INITIAL_SEGMENTS * c.sndMss, INITIAL_OCTETS);
  c.ssthresh = MAX_WINDOW;
  c.recover = c.iss;
}

/** SEG.ACK acknowledges `octets` more; SND.UNA has moved. `wasInFlight`: before that. */
export function acknowledged(c: Tcb, octets: number, wasInFlight: number): void {
  c.duplicateAcks = 0;
  if (c.recovering) {
    if (seqGeq(c.sndUna, c.recover)) {
      // A full acknowledgement. RFC 6582 3.2 step 3, (2): the burst that this allows is no larger than the first was.
      c.recovering = false;
      c.cwnd = c.ssthresh;
    } else {
      // A partial one: the next hole was lost too. Step 3 again.
      c.retransmitDue = true;
      c.cwnd = Math.max(c.sndMss, c.cwnd - octets + (octets >= c.sndMss ? c.sndMss : 0));
    }
    return;
  }
  // A window that is not used says nothing about the path. RFC 5681 4.1's concern; RFC 7661 4.3's rule.
  if (wasInFlight * 2 < c.cwnd || c.cwnd >= MAX_WINDOW) return;
  if (c.cwnd < c.ssthresh) c.cwnd = Math.min(c.cwnd + octets, c.ssthresh);
  else c.cwnd += Math.max(1, Math.floor((c.sndMss * octets) / c.cwnd));
}

/** A duplicate acknowledgement by the definition of RFC 5681 2. */
export function duplicate(c: Tcb): void {
  c.duplicateAcks++;
  if (c.recovering) {
    // Another segment has left the path. RFC 5681 3.2 step 4.
    c.cwnd = Math.min(c.cwnd + c.sndMss, MAX_WINDOW);
    return;
  }
  if (c.duplicateAcks < DUPLICATE_THRESHOLD) return;
  // RFC 6582 3.2 step 2: not again for a window that a timeout or a recovery has dealt with.
  if (c.duplicateAcks > DUPLICATE_THRESHOLD || !seqGt(c.sndUna, c.recover)) return;
  c.ssthresh = Math.max(Math.floor(flightSize(c) / 2), 2 * c.sndMss);
  c.recover = c.sndMax;
  c.recovering = true;
  c.retransmitDue = true;
  c.timing = false;
  c.cwnd = c.ssthresh + DUPLICATE_THRESHOLD * c.sndMss;
}

/** What limited transmit lends to the window before the third duplicate. RFC 3042 2. */
export const limitedTransmit = (c: Tcb): number => (c.recovering ? 0 : Math.min(c.duplicateAcks, 2) * c.sndMss);

/** The retransmission timer expired: go back to SND.UNA. RFC 5681 3.1, RFC 6298 5.4. */
export function timedOut(c: Tcb): void {
  if (c.backoff === 0) c.ssthresh = Math.max(Math.floor(flightSize(c) / 2), 2 * c.sndMss);
  c.cwnd = c.sndMss;
  c.recovering = false;
  c.duplicateAcks = 0;
  c.recover = c.sndMax;
  c.timing = false;
  c.sndNxt = c.sndUna;
}
