/**
 * SEGMENT ARRIVES: RFC 9293 3.10.7.3 and 3.10.7.4, with RFC 5961 (blind attacks), RFC 1337 (TIME-WAIT) and RFC 7323
 * (window scale, timestamps): the checks and the states. What an acknowledgement does is in acknowledge.ts, what payload and FIN do
 * in receive.ts.
 *
 * Nothing is sent from here: what is due is noted, and `poll` sends it, once for all segments of a batch.
 */

import { Fragments } from '../fragment-list.ts';
import * as tcp from '../wire/tcp.ts';
import { parse, TIMESTAMPS_OCTETS } from '../wire/tcp-options.ts';
import { acknowledge, setWindow } from './acknowledge.ts';
import { start } from './congestion.ts';
import { acknowledgeNow, cameTwice, deliver, receive, text } from './receive.ts';
import { MAX_FIELD, offered } from './receive-window.ts';
import { heedOldBlocks } from './recovery.ts';
import { leastRttMs, measure } from './rtt.ts';
import type { Segment } from './segment.ts';
import { seqAdd, seqGeq, seqGt, seqLeq, seqLt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { isOld, remember } from './timestamps.ts';

const NEVER: number = Number.POSITIVE_INFINITY;
const { FIN, SYN, RST, ACK } = tcp;
/** Challenge ACKs per connection and second. RFC 5961 7 suggests 10 in 5 s for a whole host, which is itself a leak. */
const CHALLENGES = 5;
const CHALLENGE_SPAN_MS = 1000;
/** RFC 9293 3.7.1: when the peer's SYN has no MSS option. */
const DEFAULT_MSS = 536;
/** Below this no MSS is honoured: headers would cost more than payload. RFC 791's smallest datagram, 68 octets, less headers would be 28. */
const LEAST_MSS = 88;

/** What `segmentArrives` works with besides the connection. One per endpoint. */
export class Arrival {
  readonly list = new Fragments();
}

/** Takes from a SYN what it offers. RFC 9293 3.7.1, RFC 7323 2.2 and 3.2, RFC 2018 2. */
export function readSynOptions(c: Tcb, s: Segment, nowMs: number): void {
  const { options } = s;
  const { view, transportAt } = s.packet;
  parse(view, transportAt + tcp.HEADER_OCTETS, s.headerOctets - tcp.HEADER_OCTETS, options);
  const mss = options.maximumSegmentSize < 0 ? DEFAULT_MSS : options.maximumSegmentSize;
  c.sndMss = Math.min(Math.max(mss, LEAST_MSS), c.rcvMss);
  if (options.windowScale < 0) {
    c.rcvWndShift = -1;
    c.sndWndShift = 0;
  } else c.sndWndShift = options.windowScale;
  c.sackPermitted &&= options.sackPermitted;
  c.timestamps &&= options.hasTimestamps;
  if (!c.timestamps) return;
  c.tsRecent = options.timestampValue | 0;
  c.tsRecentAtMs = nowMs;
  // RFC 6691 2: the option counts without options; what they take, the sender deducts.
  c.optionOctets = TIMESTAMPS_OCTETS;
  c.sndMss -= TIMESTAMPS_OCTETS;
}

export function segmentArrives(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  if (s.headerOctets > tcp.HEADER_OCTETS || c.timestamps) s.readOptions();
  else s.sackBlocks = 0;
  // Header prediction: what nearly every segment of an established connection is.
  if (
    c.state === 'ESTABLISHED' &&
    (s.flags & (SYN | FIN | RST | ACK)) === ACK &&
    s.seq === c.rcvNxt &&
    s.octets <= offered(c) &&
    seqGeq(s.ack, c.sndUna) &&
    seqLeq(s.ack, c.sndNxt) &&
    (!c.timestamps || (s.hasTimestamps && ((s.timestampValue - c.tsRecent) | 0) >= 0))
  ) {
    if (c.timestamps) remember(c, s, nowMs);
    acknowledge(c, s, nowMs);
    // The owner may have given up in `writable`.
    if (s.octets > 0 && c.state === 'ESTABLISHED') receive(c, s, 0, s.octets, nowMs);
    return;
  }
  if (c.state === 'SYN-SENT') {
    synSent(c, s, nowMs);
    return;
  }
  if (c.held) {
    heldSyn(c, s);
    return;
  }
  if (c.state === 'TIME-WAIT') {
    timeWait(c, s, nowMs);
    return;
  }
  established(c, s, arrival, nowMs);
}

/** A forwarded SYN whose host is being dialled: only the guest's giving up matters. */
function heldSyn(c: Tcb, s: Segment): void {
  if ((s.flags & RST) !== 0 && seqLeq(c.irs, s.seq) && seqLeq(s.seq, c.rcvNxt)) c.context.release(c, 'ECONNRESET');
}

/** RFC 9293 3.10.7.3 */
function synSent(c: Tcb, s: Segment, nowMs: number): void {
  const { context } = c;
  const hasAck = (s.flags & ACK) !== 0;
  // A connection that waits for its neighbour has sent nothing that could be acknowledged.
  if (hasAck && (c.sndNxt === c.iss || s.ack !== c.sndNxt)) {
    context.drops.count('tcp-ack-unacceptable');
    if ((s.flags & RST) === 0) context.reset(c, s.ack);
    return;
  }
  if ((s.flags & RST) !== 0) {
    if (hasAck) context.release(c, 'ECONNREFUSED');
    return;
  }
  if ((s.flags & SYN) === 0) return;
  c.irs = s.seq;
  c.rcvNxt = seqAdd(s.seq, 1);
  c.rcvAdv = seqAdd(c.rcvNxt, Math.min(MAX_FIELD, c.rcvMost));
  c.rcvAcked = s.seq;
  readSynOptions(c, s, nowMs);
  if (hasAck) {
    c.sndUna = s.ack;
    establish(c, s, 0, nowMs);
    c.ackDue = true;
    context.ready(c);
    return;
  }
  // Simultaneous open: our SYN again, with an acknowledgement.
  c.state = 'SYN-RECEIVED';
  c.synDue = true;
  context.ready(c);
}

function establish(c: Tcb, s: Segment, shift: number, nowMs: number): void {
  c.state = 'ESTABLISHED';
  // Asked for again and then acknowledged, before it could leave.
  c.synDue = false;
  // From here on no scale means a shift of nothing.
  if (c.rcvWndShift < 0) c.rcvWndShift = 0;
  c.flight.begin();
  c.flight.acknowledge(c.sndUna, nowMs, leastRttMs(c));
  measure(c, s, nowMs);
  c.backoff = 0;
  c.unanswered = 0;
  c.progressAtMs = nowMs;
  c.retransmitAtMs = NEVER;
  setWindow(c, s, shift);
  start(c);
  c.handler.established(c.connection);
  if (c.state === 'ESTABLISHED' && (c.queue.octets > 0 || c.finQueued)) c.context.ready(c);
}

/** RFC 9293 3.10.7.4 in TIME-WAIT. A new SYN was dealt with by the endpoint; RST is ignored: RFC 1337 3. */
function timeWait(c: Tcb, s: Segment, nowMs: number): void {
  if ((s.flags & RST) !== 0) return;
  if ((s.flags & FIN) !== 0 && seqAdd(s.seq, s.length) === c.rcvNxt) c.context.timeWait(c, nowMs);
  if (s.length === 0 && seqSub(s.seq, c.rcvNxt) === 0) return;
  if (!challengeAllowed(c, nowMs)) return;
  c.ackDue = true;
  c.context.ready(c);
}

function established(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  const { context } = c;
  const { flags } = s;
  if (c.timestamps && (flags & RST) === 0 && !timely(c, s, nowMs)) return;
  // The first SYN again: our SYN-ACK was lost. RFC 9293 would acknowledge; sending it again does that and more.
  if (c.state === 'SYN-RECEIVED' && (flags & (SYN | ACK | RST)) === SYN && s.seq === c.irs) {
    c.synDue = true;
    context.ready(c);
    return;
  }
  // First, check the sequence number.
  if (!acceptable(c, s)) {
    context.drops.count('tcp-unacceptable');
    if ((flags & RST) !== 0) return;
    // With a closed window nothing is acceptable, but acknowledgements are to be heeded all the same.
    if (s.seq === c.rcvNxt && (flags & (SYN | ACK)) === ACK && c.state !== 'SYN-RECEIVED') {
      if (!acknowledgeChecked(c, s, nowMs)) return;
      if (c.state === 'CLOSED') return;
      acknowledgeNow(c);
    } else if (s.length > 0 || challengeAllowed(c, nowMs)) {
      cameTwice(c, s);
      acknowledgeNow(c);
    }
    return;
  }
  if (c.timestamps && s.hasTimestamps) remember(c, s, nowMs);
  // Second, RST. RFC 5961 3.2: only the exact number resets, others within the window are challenged.
  if ((flags & RST) !== 0) {
    if (s.seq !== c.rcvNxt) {
      challenge(c, nowMs);
      return;
    }
    deliver(c);
    if (c.state === 'CLOSED' || s.seq !== c.rcvNxt) return;
    context.release(c, c.active && c.state === 'SYN-RECEIVED' ? 'ECONNREFUSED' : 'ECONNRESET');
    return;
  }
  // Fourth, SYN. RFC 5961 4.2.
  if ((flags & SYN) !== 0) {
    challenge(c, nowMs);
    return;
  }
  // Fifth, ACK.
  if ((flags & ACK) === 0) {
    context.drops.count('tcp-no-ack');
    return;
  }
  if (c.state === 'SYN-RECEIVED') {
    if (!seqLt(c.sndUna, s.ack) || seqGt(s.ack, c.sndNxt)) {
      context.drops.count('tcp-ack-unacceptable');
      context.reset(c, s.ack);
      return;
    }
    c.sndUna = seqAdd(c.iss, 1);
    establish(c, s, c.sndWndShift, nowMs);
    // The owner may have given up in `established`.
    if ((c.state as string) === 'CLOSED') return;
  }
  if (!acknowledgeChecked(c, s, nowMs)) return;
  if ((c.state as string) === 'CLOSED') return;
  // Seventh, the payload; eighth, FIN. Sixth, URG, is heard as ordinary octets: RFC 6093 3.2.
  if (s.octets > 0 || (flags & FIN) !== 0) text(c, s, arrival.list, nowMs);
}

/** RFC 7323 3.2: what has no timestamp is dropped; 5.3 R1: what has an old one as well, and is acknowledged. */
function timely(c: Tcb, s: Segment, nowMs: number): boolean {
  if (s.hasTimestamps && !isOld(c, s, nowMs)) return true;
  if (s.hasTimestamps && s.length === 0 && s.seq === c.rcvNxt && seqLeq(s.ack, c.sndNxt)) {
    // Others overtook this acknowledgement. The blocks are worth hearing even so.
    heedOldBlocks(c, s, nowMs);
    return false;
  }
  c.context.drops.count('tcp-timestamps');
  if (s.hasTimestamps && (s.length > 0 || challengeAllowed(c, nowMs))) {
    cameTwice(c, s);
    acknowledgeNow(c);
  }
  return false;
}

/** RFC 9293 3.10.7.4, table 6. */
function acceptable(c: Tcb, s: Segment): boolean {
  const window = offered(c);
  const { length } = s;
  const before = seqSub(s.seq, c.rcvNxt);
  if (length === 0) return window === 0 ? before === 0 : before >= 0 && before < window;
  if (window === 0) return false;
  const last = before + length - 1;
  return (before >= 0 && before < window) || (last >= 0 && last < window) || (before < 0 && last >= window);
}

/** Checks SEG.ACK (RFC 5961 5.2) and heeds it; false: the segment is to be dropped. */
function acknowledgeChecked(c: Tcb, s: Segment, nowMs: number): boolean {
  if (seqGt(s.ack, c.sndNxt) || seqSub(c.sndUna, s.ack) > c.sndWndMax) {
    c.context.drops.count('tcp-ack-unacceptable');
    if (challengeAllowed(c, nowMs)) acknowledgeNow(c);
    return false;
  }
  if (seqGeq(s.ack, c.sndUna)) acknowledge(c, s, nowMs);
  else heedOldBlocks(c, s, nowMs);
  return true;
}

function challenge(c: Tcb, nowMs: number): void {
  c.context.drops.count('tcp-challenged');
  if (challengeAllowed(c, nowMs)) acknowledgeNow(c);
}

function challengeAllowed(c: Tcb, nowMs: number): boolean {
  if (nowMs - c.challengesAtMs >= CHALLENGE_SPAN_MS) {
    c.challengesAtMs = nowMs;
    c.challenges = 0;
  }
  return c.challenges++ < CHALLENGES;
}
