/**
 * Payload and FIN: RFC 9293 3.10.7.4 (seventh, eighth). Octets in order gather in `arriving` and are handed over at the
 * end of the batch, or before anything that follows them (FIN, RST); what the owner does not take then counts as never
 * received. Octets out of order wait in reassembly.ts. When to acknowledge: RFC 9293 3.8.6.3, RFC 5681 4.2. What may
 * have an answer within microseconds (less than a segment, or FIN) is acknowledged by that, or when nothing else has come.
 */

import type { Fragments } from '../fragment-list.ts';
import { FIN } from '../wire/tcp.ts';
import { TcpReassembly } from './reassembly.ts';
import { offered } from './receive-window.ts';
import { reportTwice } from './sack.ts';
import type { Segment } from './segment.ts';
import { DELAYED_ACK_MS } from './send.ts';
import { type Seq, seqAdd, seqMax, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

const NEVER: number = Number.POSITIVE_INFINITY;
/** Fragments handed over at once, at most: what one writev takes. */
const MAX_FRAGMENTS = 1024;

/** Payload and FIN of an acceptable segment: cuts to the window, then in order or kept for later. */
export function text(c: Tcb, s: Segment, scratch: Fragments, nowMs: number): void {
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
    if (skip > 0) cameTwice(c, s);
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
  scratch.clear();
  s.packet.payload(s.headerOctets + skip, octets, scratch);
  if (!c.reassembly.insert(seqAdd(s.seq, skip), scratch)) c.context.drops.count('tcp-out-of-order');
  if (c.sackPermitted) c.reassembly.note(seqAdd(s.seq, skip));
}

/** `octets` of payload at RCV.NXT. */
export function receive(c: Tcb, s: Segment, skip: number, octets: number, nowMs: number): void {
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
  c.context.acknowledgeWhenQuiet(c);
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
  const whole = c.rcvMss - c.optionOctets;
  if (octets >= (c.pingPong ? 2 : 1) * whole) acknowledgeNow(c);
  else if (!c.pingPong) c.context.acknowledgeWhenQuiet(c);
  else if (c.ackAtMs === NEVER) {
    c.ackAtMs = c.lastReceivedAtMs + DELAYED_ACK_MS;
    c.context.schedule(c);
  }
}

/** Octets of `s` that had been taken before are reported. RFC 2883 4. */
export function cameTwice(c: Tcb, s: Segment): void {
  reportTwice(c, s.seq, Math.min(s.octets, seqSub(c.rcvNxt, s.seq)));
}

export function acknowledgeNow(c: Tcb): void {
  c.ackDue = true;
  c.context.ready(c);
}
