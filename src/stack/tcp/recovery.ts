/**
 * Loss recovery. With a peer that reports blocks (RFC 2018) it is RACK-TLP, RFC 8985: octets are lost when others that
 * went out after them have arrived, and a round trip and the time in which segments may overtake each other are over;
 * what is sent again may be found lost in the same way. The last octets of a flight, which no later ones vouch for, are
 * probed for. Without blocks it is NewReno, RFC 6582. What may be on its way meanwhile: RFC 6675 (`pipe`), with limited
 * transmit (RFC 3042), which `pipe` brings about by itself where there are blocks.
 *
 * Whatever is lost is noted in the flight (flight.ts); send.ts sends it again as the windows allow.
 * Was nothing lost, as timestamps (RFC 3522, 4015) or blocks for octets that came twice (RFC 3708) tell, the windows
 * are what they were before.
 */

import { flightSize, half, MAX_WINDOW, pipe } from './congestion.ts';
import { leastRttMs, measure } from './rtt.ts';
import type { Segment } from './segment.ts';
import { type Seq, seq, seqGeq, seqGt, seqLeq, seqLt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

const NEVER: number = Number.POSITIVE_INFINITY;
/** RFC 5681 3.2. */
const DUPLICATE_THRESHOLD = 3;
/** Recoveries for which a wider reordering window is kept. RFC 8985 6.2, step 4. */
const PERSIST = 16;
/** A guest that was not scheduled for a while has not lost anything. */
const LEAST_PROBE_MS = 20;
/** With which a guest may delay the acknowledgement of a lone segment (Linux: 40 ms). RFC 8985 7.2 */
const DELAYED_ACK_MS = 50;

/** SEG.ACK acknowledges `octets` more; SND.UNA has moved. */
export function advanced(c: Tcb, s: Segment): void {
  c.duplicateAcks = 0;
  if (!c.undoDecided) {
    // The first acknowledgement tells which of the two it was that arrived. RFC 3522 3.2
    c.undoDecided = true;
    if (c.timestamps && s.hasTimestamps && ((s.timestampEcho - c.undoTick) | 0) < 0) undo(c);
  }
  if (c.tailEnd !== undefined && seqGeq(s.ack, c.tailEnd)) tailHeard(c, s);
  if (!c.recovering) return;
  if (seqGeq(c.sndUna, c.recover)) {
    c.recovering = false;
    c.cwnd = c.ssthresh;
    if (c.reorderPersist > 0 && --c.reorderPersist === 0) c.reorderSteps = 1;
  } else if (!c.sackPermitted) {
    // A partial acknowledgement: the next hole was lost too. RFC 6582 3.2 step 3.
    c.flight.loseFirst(c.sndMss);
    c.firstDue = true;
  }
}

/** A duplicate acknowledgement by the definition of RFC 5681 2, of a peer that reports no blocks. */
export function duplicate(c: Tcb): void {
  c.duplicateAcks++;
  if (c.recovering) {
    // Another segment has left the path. RFC 5681 3.2 step 4.
    c.cwnd = Math.min(c.cwnd + c.sndMss, MAX_WINDOW);
    return;
  }
  // RFC 6582 3.2 step 2: not again for a window that a timeout or a recovery has dealt with.
  if (c.duplicateAcks !== DUPLICATE_THRESHOLD || !seqGt(c.sndUna, c.recover)) return;
  enter(c);
  c.cwnd = c.ssthresh + DUPLICATE_THRESHOLD * c.sndMss;
  c.flight.loseFirst(c.sndMss);
}

/** What limited transmit lends to new octets before the third duplicate. RFC 3042 2. */
export const limitedTransmit = (c: Tcb): number => (c.recovering ? 0 : Math.min(c.duplicateAcks, 2) * c.sndMss);

/** Takes the blocks of `s`, after its SEG.ACK, and looks for what is lost. */
export function heedBlocks(c: Tcb, s: Segment, nowMs: number): void {
  const { flight } = c;
  const { options } = s;
  const leastMs = leastRttMs(c);
  let news = 0;
  for (let i = 0; i < s.sackBlocks; i++) {
    const left = seq(options.sackLeft[i]!);
    const right = seq(options.sackRight[i]!);
    if (i === 0 && isDuplicate(s, left, right)) cameTwice(c, s, seqSub(right, left));
    else if (seqGeq(left, c.sndUna) && seqLt(left, right) && seqLeq(right, c.sndNxt))
      news += flight.sack(left, right, nowMs, leastMs);
  }
  if (news > 0) {
    measure(c, s, nowMs);
    // Less is in flight: more may go.
    c.context.ready(c);
  }
  if (news > 0 || flight.heardOfAgain || c.recovering) findLost(c, nowMs);
}

/** The same for a segment that later ones have overtaken, of which nothing else counts any more. */
export function heedOldBlocks(c: Tcb, s: Segment, nowMs: number): void {
  if (!c.sackPermitted || s.sackBlocks === 0 || seqSub(c.sndUna, s.ack) > c.sndWndMax) return;
  c.flight.begin();
  heedBlocks(c, s, nowMs);
}

/** RFC 2883 4: the first block is below SEG.ACK, or within the second. */
function isDuplicate(s: Segment, left: Seq, right: Seq): boolean {
  if (!seqLt(left, right)) return false;
  if (seqLeq(right, s.ack)) return true;
  const { sackLeft, sackRight } = s.options;
  return s.sackBlocks > 1 && seqGeq(left, seq(sackLeft[1]!)) && seqLeq(right, seq(sackRight[1]!));
}

/** Octets came twice: what was sent again had not been lost. RFC 8985 6.2 step 4, RFC 3708 */
function cameTwice(c: Tcb, s: Segment, octets: number): void {
  if (c.tailEnd !== undefined && c.tailAgain && seqGeq(s.ack, c.tailEnd)) {
    c.tailEnd = undefined;
    return;
  }
  c.flight.reordered = true;
  if (seqGeq(c.sndUna, c.reorderRound)) {
    c.reorderRound = c.sndNxt;
    c.reorderSteps++;
    c.reorderPersist = PERSIST;
  }
  c.undoOctets -= octets;
  if (c.undoCwnd > 0 && c.undoOctets === 0 && c.flight.lostOctets === 0) undo(c);
}

/** RFC 8985 6.2 step 4: how long a segment may be overtaken before it counts as lost. */
function reorderingMs(c: Tcb): number {
  const { reordered, sackedOctets } = c.flight;
  if (!reordered && (c.recovering || sackedOctets > (DUPLICATE_THRESHOLD - 1) * c.sndMss)) return 0;
  return Math.max(0, Math.min((c.reorderSteps * leastRttMs(c)) / 4, c.srttMs));
}

/** RFC 8985 6.2 step 5: what was sent before something that has arrived, long enough ago, is lost. */
export function findLost(c: Tcb, nowMs: number): void {
  const { flight } = c;
  const { lastSentAtMs, lastEnd } = flight;
  if (lastSentAtMs < 0) return;
  const patienceMs = flight.lastRttMs + reorderingMs(c);
  const before = flight.lostOctets;
  let waitMs = 0;
  for (let i = 0; i < flight.runs.length; i++) {
    const run = flight.runs[i]!;
    if (run.fate !== 'flying' || run.sentAtMs > lastSentAtMs) continue;
    if (run.sentAtMs === lastSentAtMs && seqGt(run.end, lastEnd)) continue;
    const leftMs = run.sentAtMs + patienceMs - nowMs;
    if (leftMs <= 0) i = flight.lose(i);
    else waitMs = Math.max(waitMs, leftMs);
  }
  if (waitMs > 0) {
    c.lossAtMs = nowMs + waitMs;
    c.probing = false;
    c.context.schedule(c);
  } else if (!c.probing) c.lossAtMs = NEVER;
  if (flight.lostOctets === before) return;
  if (!c.recovering && seqGeq(c.sndUna, c.recover)) enter(c);
  c.context.ready(c);
}

/** Fast recovery begins. RFC 5681 3.2, RFC 6675 5 */
function enter(c: Tcb): void {
  remember(c);
  c.ssthresh = half(c);
  c.cwnd = c.ssthresh;
  c.recover = c.sndNxt;
  c.recovering = true;
  c.firstDue = true;
  if (c.probing) c.lossAtMs = NEVER;
  c.probing = false;
}

/** The retransmission timer expired: whatever the peer has not reported is lost. RFC 5681 3.1, RFC 6298 5.4 */
export function timedOut(c: Tcb): void {
  const { flight } = c;
  if (c.backoff === 0) {
    remember(c);
    c.ssthresh = half(c);
  }
  // RFC 2018 8: it says it has the octets at SND.UNA, and does not acknowledge them. So it has not, not any more.
  if (flight.runs[0]?.fate === 'sacked') flight.forgetSacks();
  flight.loseAll();
  c.cwnd = c.sndMss;
  c.recovering = false;
  c.duplicateAcks = 0;
  c.recover = c.sndNxt;
  c.tailEnd = undefined;
  c.lossAtMs = NEVER;
}

/** What the windows are, should nothing have been lost. */
function remember(c: Tcb): void {
  c.undoCwnd = c.cwnd;
  c.undoSsthresh = c.ssthresh;
  c.undoTick = (Math.floor(c.context.nowMs) + c.tsOffset) | 0;
  c.undoOctets = 0;
  c.undoDecided = false;
}

/** Nothing was. RFC 4015 3 */
function undo(c: Tcb): void {
  c.cwnd = Math.max(c.cwnd, c.undoCwnd);
  c.ssthresh = c.undoSsthresh;
  c.undoCwnd = 0;
  c.undoDecided = true;
  c.recovering = false;
  c.flight.reordered = true;
  c.flight.findAll();
}

/** When to probe for the tail of the flight, if nothing is heard of it before: RFC 8985 7.2. */
export function armProbe(c: Tcb, nowMs: number): void {
  const { flight } = c;
  if (!c.probing && c.lossAtMs !== NEVER) return;
  if (c.recovering || c.tailEnd !== undefined || c.backoff > 0 || c.srttMs < 0) c.lossAtMs = NEVER;
  else if (flight.sackedOctets > 0 || flight.lostOctets > 0) c.lossAtMs = NEVER;
  else {
    c.probing = true;
    c.lossAtMs = nowMs + Math.max(LEAST_PROBE_MS, 2 * c.srttMs);
    if (flightSize(c) <= c.sndMss) c.lossAtMs += DELAYED_ACK_MS;
  }
}

/** What `armProbe` or `findLost` waited for is due. */
export function lossTimer(c: Tcb, nowMs: number): void {
  if (!c.probing) {
    findLost(c, nowMs);
    return;
  }
  c.probing = false;
  // While the link takes nothing, silence says nothing.
  if (c.port.blocked || c.sndNxt === c.sndUna || pipe(c) === 0) return;
  c.tailDue = true;
  c.context.ready(c);
}

/** The probe, and all before it, is acknowledged. RFC 8985 7.4.2 */
function tailHeard(c: Tcb, s: Segment): void {
  // The echo is of before the probe: what the probe repeated had arrived.
  if (c.timestamps && s.hasTimestamps && ((s.timestampEcho - c.tailTick) | 0) < 0) {
    c.tailEnd = undefined;
    return;
  }
  // A probe that was sent for the first time tells nothing; one that was sent again mended a loss, if it did not come twice.
  const mended = c.tailAgain && seqGt(s.ack, c.tailEnd!);
  if (mended && !c.recovering) {
    c.ssthresh = Math.max(c.cwnd >> 1, 2 * c.sndMss);
    c.cwnd = c.ssthresh;
  }
  if (mended || !c.tailAgain) c.tailEnd = undefined;
}
