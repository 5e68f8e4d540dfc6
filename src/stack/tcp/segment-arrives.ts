/**
 * SEGMENT ARRIVES: RFC 9293 3.10.7.3 and 3.10.7.4, with RFC 5961 (blind attacks), RFC 1337 (TIME-WAIT), RFC 5681 2
 * (duplicate acknowledgements) and RFC 7323 2 (window scale).
 *
 * Nothing is sent from here: what is due is noted, and `poll` sends it, once for all segments of a batch. Payload in
 * order gathers in `arriving` and is handed over at the end of the batch, or before anything that follows it (FIN,
 * RST). What the owner does not take then counts as never received.
 */

import { Fragments } from '../fragment-list.ts';
import * as tcp from '../wire/tcp.ts';
import { parse, TcpOptions } from '../wire/tcp-options.ts';
import * as congestion from './congestion.ts';
import { TcpReassembly } from './reassembly.ts';
import { MAX_FIELD, offered } from './receive-window.ts';
import { acknowledged as rttAcknowledged } from './rtt.ts';
import type { Segment } from './segment.ts';
import { armRetransmit, DELAYED_ACK_MS } from './send.ts';
import { type Seq, seqAdd, seqGeq, seqGt, seqLeq, seqLt, seqMax, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { KEEPALIVE_MS } from './timeout.ts';

const NEVER: number = Number.POSITIVE_INFINITY;
const { FIN, SYN, RST, ACK } = tcp;
/** Fragments handed over at once, at most: what one writev takes. */
const MAX_FRAGMENTS = 1024;
/** Challenge ACKs per connection and second. RFC 5961 7 suggests 10 in 5 s for a whole host, which is itself a leak. */
const CHALLENGES = 5;
const CHALLENGE_SPAN_MS = 1000;
/** RFC 9293 3.7.1: when the peer's SYN has no MSS option. */
const DEFAULT_MSS = 536;
/** Below this no MSS is honoured: headers would cost more than payload. RFC 791's smallest datagram, 68 octets, less headers would be 28. */
const LEAST_MSS = 88;

/** What `segmentArrives` works with besides the connection. One per endpoint. */
export class Arrival {
  readonly options = new TcpOptions();
  readonly list = new Fragments();
}

/** Takes from a SYN what it offers. RFC 9293 3.7.1, RFC 7323 2.2. */
export function readSynOptions(c: Tcb, s: Segment, options: TcpOptions): void {
  const { view, transportAt } = s.packet;
  parse(view, transportAt + tcp.HEADER_OCTETS, s.headerOctets - tcp.HEADER_OCTETS, options);
  const mss = options.maximumSegmentSize < 0 ? DEFAULT_MSS : options.maximumSegmentSize;
  c.sndMss = Math.min(Math.max(mss, LEAST_MSS), c.rcvMss);
  if (options.windowScale < 0) {
    c.rcvWndShift = -1;
    c.sndWndShift = 0;
  } else c.sndWndShift = options.windowScale;
}

export function segmentArrives(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  // Header prediction: what nearly every segment of an established connection is.
  if (
    c.state === 'ESTABLISHED' &&
    (s.flags & (SYN | FIN | RST | ACK)) === ACK &&
    s.seq === c.rcvNxt &&
    s.octets <= offered(c) &&
    seqGeq(s.ack, c.sndUna) &&
    seqLeq(s.ack, c.sndMax)
  ) {
    acknowledge(c, s, nowMs);
    // The owner may have given up in `writable`.
    if (s.octets > 0 && c.state === 'ESTABLISHED') receive(c, s, 0, s.octets, nowMs);
    return;
  }
  if (c.state === 'SYN-SENT') {
    synSent(c, s, arrival, nowMs);
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
function synSent(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  const { context } = c;
  const hasAck = (s.flags & ACK) !== 0;
  // A connection that waits for its neighbour has sent nothing that could be acknowledged.
  if (hasAck && (c.sndMax === c.iss || s.ack !== c.sndMax)) {
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
  readSynOptions(c, s, arrival.options);
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
  // From here on no scale means a shift of nothing.
  if (c.rcvWndShift < 0) c.rcvWndShift = 0;
  rttAcknowledged(c, s.ack, nowMs);
  c.backoff = 0;
  c.unanswered = 0;
  c.retransmitAtMs = NEVER;
  c.sndNxt = c.sndMax;
  setWindow(c, s, shift);
  congestion.start(c);
  c.handler.established(c.connection);
  if (c.state === 'ESTABLISHED' && (c.queue.octets > 0 || c.finQueued)) c.context.ready(c);
}

/** SND.WND := SEG.WND, scaled. */
function setWindow(c: Tcb, s: Segment, shift: number): void {
  const window = s.window << shift;
  c.sndWnd = window;
  if (window > c.sndWndMax) c.sndWndMax = window;
  c.sndWl1 = s.seq;
  c.sndWl2 = s.ack;
}

/** RFC 9293 3.10.7.4 in TIME-WAIT. A new SYN was dealt with by the endpoint; RST is ignored: RFC 1337 3. */
function timeWait(c: Tcb, s: Segment, nowMs: number): void {
  if ((s.flags & RST) !== 0) return;
  if ((s.flags & FIN) !== 0) c.context.timeWait(c, nowMs);
  if (s.length === 0 && seqSub(s.seq, c.rcvNxt) === 0) return;
  if (!challengeAllowed(c, nowMs)) return;
  c.ackDue = true;
  c.context.ready(c);
}

function established(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  const { context } = c;
  const { flags } = s;
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
    } else if (s.length > 0 || challengeAllowed(c, nowMs)) acknowledgeNow(c);
    return;
  }
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
    if (!seqLt(c.sndUna, s.ack) || seqGt(s.ack, c.sndMax)) {
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
  if (s.octets > 0 || (flags & FIN) !== 0) text(c, s, arrival, nowMs);
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
  if (seqGt(s.ack, c.sndMax) || seqSub(c.sndUna, s.ack) > c.sndWndMax) {
    c.context.drops.count('tcp-ack-unacceptable');
    if (challengeAllowed(c, nowMs)) acknowledgeNow(c);
    return false;
  }
  if (seqGeq(s.ack, c.sndUna)) acknowledge(c, s, nowMs);
  return true;
}

/** SND.UNA =< SEG.ACK =< SND.MAX. */
function acknowledge(c: Tcb, s: Segment, nowMs: number): void {
  const octets = seqSub(s.ack, c.sndUna);
  c.unanswered = 0;
  if (octets > 0) {
    newlyAcknowledged(c, s.ack, octets, nowMs);
    if (c.state === 'CLOSED') return;
  } else if (
    s.octets === 0 &&
    (s.flags & FIN) === 0 &&
    c.sndMax !== c.sndUna &&
    s.window << c.sndWndShift === c.sndWnd &&
    c.sndWnd > 0
  ) {
    // RFC 5681 2: a duplicate.
    congestion.duplicate(c);
    c.context.ready(c);
  }
  // RFC 9293 3.10.7.4: the window of an older segment must not replace that of a newer one.
  if (
    s.window << c.sndWndShift !== c.sndWnd &&
    (seqLt(c.sndWl1, s.seq) || (c.sndWl1 === s.seq && seqLeq(c.sndWl2, s.ack)))
  ) {
    const before = c.sndWnd;
    setWindow(c, s, c.sndWndShift);
    if (c.sndWnd > before) {
      // What persisted may go on.
      if (before === 0 && c.sndMax !== c.sndUna) armRetransmit(c, nowMs);
      c.backoff = 0;
      if (c.queue.octets > 0 || c.finQueued) c.context.ready(c);
    }
  }
}

function newlyAcknowledged(c: Tcb, ack: Seq, octets: number, nowMs: number): void {
  const wasInFlight = congestion.flightSize(c);
  const data = Math.min(octets, c.queue.octets);
  const finAcked = octets > data;
  rttAcknowledged(c, ack, nowMs);
  c.sndUna = ack;
  c.sndNxt = seqMax(c.sndNxt, ack);
  if (data > 0) {
    c.octetsToGuest += data;
    c.queue.release(data);
  }
  c.backoff = 0;
  congestion.acknowledged(c, octets, wasInFlight);
  // RFC 6298 5.2, 5.3. The deadline moves; the timer itself is only touched when it fires too soon.
  if (c.sndMax === ack) c.retransmitAtMs = NEVER;
  else armRetransmit(c, nowMs);
  if (finAcked) {
    c.finQueued = false;
    if (finAcknowledged(c, nowMs)) return;
  }
  if (c.queue.octets > 0 || c.finQueued || c.retransmitDue) c.context.ready(c);
  if (c.wantsRoom || c.queueWasFull) room(c);
}

/** Our FIN is acknowledged; true: the connection is over for its owner. */
function finAcknowledged(c: Tcb, nowMs: number): boolean {
  if (c.state === 'FIN-WAIT-1') {
    c.state = 'FIN-WAIT-2';
    c.closeAtMs = nowMs + KEEPALIVE_MS;
    c.context.schedule(c);
  } else if (c.state === 'CLOSING') {
    c.context.timeWait(c, nowMs);
    return true;
  } else if (c.state === 'LAST-ACK') {
    c.context.release(c, 'closed');
    return true;
  }
  return false;
}

/** The queue has emptied: it grows if its limit was what held the stream back, and its owner may fill it again. */
function room(c: Tcb): void {
  const { queue } = c;
  const unsent = queue.octets - seqSub(c.sndNxt, c.sndUna);
  // All was sent while both windows had room for more, and the owner had been refused: the limit is too small.
  if (c.queueWasFull && unsent <= 0 && queue.limit < c.queueMost) {
    const open = Math.min(c.sndWnd, c.cwnd) - queue.octets;
    if (open >= queue.limit >> 1) queue.limit = Math.min(queue.limit * 2, c.queueMost);
    c.queueWasFull = false;
  }
  // A quarter at least, so that the host socket is read in large pieces.
  if (!c.wantsRoom || queue.limit - queue.octets < queue.limit >> 2) return;
  c.wantsRoom = false;
  c.handler.writable(c.connection);
}

/** Payload and FIN of an acceptable segment: cuts to the window, then in order or kept for later. */
function text(c: Tcb, s: Segment, arrival: Arrival, nowMs: number): void {
  if (c.finReceived) {
    acknowledgeNow(c);
    return;
  }
  const before = seqSub(c.rcvNxt, s.seq);
  const skip = Math.max(0, before);
  const beyond = Math.max(0, s.octets - before - offered(c));
  const octets = s.octets - skip - beyond;
  const fin = (s.flags & FIN) !== 0 && beyond === 0;
  if (octets < 0 || (octets === 0 && !fin)) {
    acknowledgeNow(c);
    return;
  }
  if (before >= 0) {
    if (skip > 0 || beyond > 0) acknowledgeNow(c);
    if (octets > 0) receive(c, s, skip, octets, nowMs);
    if (fin) receiveEnd(c, seqAdd(s.seq, s.octets), nowMs);
    return;
  }
  // Out of order: acknowledge at once, every one, so that the sender can count. RFC 5681 4.2.
  if (c.ackDue) c.extraAcks = Math.min(c.extraAcks + 1, 3);
  acknowledgeNow(c);
  if (octets === 0) return;
  c.reassembly ??= new TcpReassembly(c.context.pool);
  const { list } = arrival;
  list.clear();
  s.packet.payload(s.headerOctets + skip, octets, list);
  if (!c.reassembly.insert(seqAdd(s.seq, skip), list)) c.context.drops.count('tcp-out-of-order');
}

/** `octets` of payload at RCV.NXT. */
function receive(c: Tcb, s: Segment, skip: number, octets: number, nowMs: number): void {
  const list = c.arriving ?? c.context.arrived(c);
  s.packet.payload(s.headerOctets + skip, octets, list);
  c.rcvNxt = seqAdd(c.rcvNxt, octets);
  c.lastReceivedAtMs = nowMs;
  if (c.reassembly && !c.reassembly.empty) {
    c.rcvNxt = c.reassembly.take(c.rcvNxt, list);
    // A gap was filled: RFC 5681 4.2 wants that acknowledged at once.
    acknowledgeNow(c);
  }
  if (list.count >= MAX_FRAGMENTS) deliver(c);
}

/** FIN whose number is `end`. RFC 9293 3.10.7.4, eighth. */
function receiveEnd(c: Tcb, end: Seq, nowMs: number): void {
  deliver(c);
  // Closed by its owner meanwhile, or the owner did not take all: then the FIN has not come yet either.
  if (c.state === 'CLOSED' || c.rcvNxt !== end) return;
  c.rcvNxt = seqAdd(end, 1);
  c.rcvAdv = seqMax(c.rcvAdv, c.rcvNxt);
  c.finReceived = true;
  c.reassembly?.clear();
  acknowledgeNow(c);
  const before = c.state;
  if (before === 'ESTABLISHED') c.state = 'CLOSE-WAIT';
  else if (before === 'FIN-WAIT-1') c.state = 'CLOSING';
  c.handler.receivedEnd(c.connection);
  if (before === 'FIN-WAIT-2' && c.state === 'FIN-WAIT-2') c.context.timeWait(c, nowMs);
}

/** Hands what has arrived in order to the owner. Whatever it does not take was never received. */
export function deliver(c: Tcb): void {
  const list = c.arriving;
  if (!list || list.count === 0) return;
  const { octets } = list;
  const taken = c.handler.received(c.connection, list);
  list.clear();
  if (c.state === 'CLOSED') return;
  c.octetsToHost += taken;
  if (taken < octets) {
    c.context.drops.count('tcp-not-taken');
    c.rcvNxt = seqAdd(c.rcvNxt, taken - octets);
    c.reassembly?.clear();
    acknowledgeNow(c);
  }
  c.reassembly?.settle();
  scheduleAck(c);
}

/** RFC 9293 3.8.6.3, RFC 5681 4.2: at least every second full segment at once, anything within a delay. */
function scheduleAck(c: Tcb): void {
  if (c.ackDue) return;
  const octets = seqSub(c.rcvNxt, c.rcvAcked);
  if (octets <= 0) return;
  if (octets >= 2 * c.rcvMss || !c.pingPong) {
    acknowledgeNow(c);
    return;
  }
  if (c.ackAtMs !== NEVER) return;
  c.ackAtMs = c.lastReceivedAtMs + DELAYED_ACK_MS;
  c.context.schedule(c);
}

function acknowledgeNow(c: Tcb): void {
  c.ackDue = true;
  c.context.ready(c);
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
