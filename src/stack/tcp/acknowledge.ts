/**
 * What an acceptable SEG.ACK and SEG.WND do: RFC 9293 3.10.7.4 (fifth), RFC 5681 2 (duplicates), RFC 6298 5. The send
 * queue empties, the windows open, our FIN may be acknowledged, and whatever may go now is made ready.
 */

import { FIN } from '../wire/tcp.ts';
import { flightSize, grow } from './congestion.ts';
import { advanced, duplicate, heedBlocks } from './recovery.ts';
import { leastRttMs, measure } from './rtt.ts';
import type { Segment } from './segment.ts';
import { armRetransmit } from './send.ts';
import { seqLeq, seqLt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { KEEPALIVE_MS } from './timeout.ts';

const NEVER: number = Number.POSITIVE_INFINITY;

/** SND.UNA =< SEG.ACK =< SND.NXT. */
export function acknowledge(c: Tcb, s: Segment, nowMs: number): void {
  const octets = seqSub(s.ack, c.sndUna);
  c.unanswered = 0;
  // Most segments of a stream towards us tell nothing about what we sent.
  const tells = octets > 0 || s.sackBlocks > 0 || c.recovering;
  if (tells) c.flight.begin();
  if (octets > 0) {
    newlyAcknowledged(c, s, octets, nowMs);
    if (c.state === 'CLOSED') return;
  } else if (c.sackPermitted) {
    // The octets and the probe for them have arrived: RFC 8985 7.4.2.
    if (c.tailEnd === s.ack && s.octets === 0 && s.sackBlocks === 0) c.tailEnd = undefined;
  } else if (
    s.octets === 0 &&
    (s.flags & FIN) === 0 &&
    c.sndNxt !== c.sndUna &&
    s.window << c.sndWndShift === c.sndWnd &&
    c.sndWnd > 0
  ) {
    // RFC 5681 2: a duplicate.
    duplicate(c);
    c.context.ready(c);
  }
  if (tells && c.sackPermitted && (s.sackBlocks > 0 || c.recovering || c.flight.heardOfAgain)) heedBlocks(c, s, nowMs);
  // RFC 9293 3.10.7.4: the window of an older segment must not replace that of a newer one.
  if (
    s.window << c.sndWndShift !== c.sndWnd &&
    (seqLt(c.sndWl1, s.seq) || (c.sndWl1 === s.seq && seqLeq(c.sndWl2, s.ack)))
  ) {
    const before = c.sndWnd;
    setWindow(c, s, c.sndWndShift);
    if (c.sndWnd > before) {
      // What persisted may go on; what was sent against the closed window, the peer has thrown away.
      if (before === 0 && c.sndNxt !== c.sndUna) {
        if (c.backoff > 0) c.flight.loseAll();
        armRetransmit(c, nowMs);
      }
      c.backoff = 0;
      if (c.queue.octets > 0 || c.finQueued) c.context.ready(c);
    }
  }
}

/** SND.WND := SEG.WND, scaled. */
export function setWindow(c: Tcb, s: Segment, shift: number): void {
  const window = s.window << shift;
  c.sndWnd = window;
  if (window > c.sndWndMax) c.sndWndMax = window;
  c.sndWl1 = s.seq;
  c.sndWl2 = s.ack;
}

function newlyAcknowledged(c: Tcb, s: Segment, octets: number, nowMs: number): void {
  const { ack } = s;
  const wasInFlight = flightSize(c);
  const data = Math.min(octets, c.queue.octets);
  const finAcked = octets > data;
  c.flight.acknowledge(ack, nowMs, leastRttMs(c));
  measure(c, s, nowMs);
  c.sndUna = ack;
  if (data > 0) {
    c.octetsToGuest += data;
    c.queue.release(data);
  }
  c.backoff = 0;
  c.progressAtMs = nowMs;
  if (!c.recovering) grow(c, octets, wasInFlight);
  advanced(c, s);
  // RFC 6298 5.2, 5.3. The deadline moves; the timer itself is only touched when it fires too soon.
  if (c.sndNxt === ack) {
    c.retransmitAtMs = NEVER;
    c.lossAtMs = NEVER;
  } else armRetransmit(c, nowMs);
  if (finAcked) {
    c.finQueued = false;
    if (finAcknowledged(c, nowMs)) return;
  }
  if (c.queue.octets > 0 || c.finQueued) c.context.ready(c);
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

/**
 * A guest whose round trip takes less than this is on the same machine: there a queue is all that is in flight, at any
 * rate, and one that is larger only leaves the processor's caches.
 */
const NEAR_MS = 2;
const NEAR_QUEUE_OCTETS = 3 << 20;

/** The queue has emptied: it grows if its limit was what held the stream back, and its owner may fill it again. */
function room(c: Tcb): void {
  const { queue } = c;
  const unsent = queue.octets - seqSub(c.sndNxt, c.sndUna);
  const most = leastRttMs(c) < NEAR_MS ? Math.min(NEAR_QUEUE_OCTETS, c.queueMost) : c.queueMost;
  // All was sent while both windows had room for more, and the owner had been refused: the limit is too small.
  if (c.queueWasFull && unsent <= 0 && queue.limit < most) {
    const open = Math.min(c.sndWnd, c.cwnd) - queue.octets;
    if (open >= queue.limit >> 1) queue.limit = Math.min(queue.limit * 2, most);
    c.queueWasFull = false;
  }
  // Half of it at least, so that the host socket is read in large pieces.
  if (!c.wantsRoom || queue.limit - queue.octets < queue.limit >> 1) return;
  c.wantsRoom = false;
  c.handler.writable(c.connection);
}
