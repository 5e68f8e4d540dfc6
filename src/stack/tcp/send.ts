/**
 * What a connection may send now. RFC 9293 3.8 and 3.10.2, RFC 5681. Called from `poll` for connections in the ready
 * list, never from within the arrival of a segment: so all segments of a batch are answered by one.
 */

import * as ethernet from '../wire/ethernet.ts';
import { FIN, HEADER_OCTETS, PSH, ACK as TCP_ACK, SYN as TCP_SYN } from '../wire/tcp.ts';
import { flightSize, pipe } from './congestion.ts';
import type { Run } from './flight.ts';
import { advertise, MAX_FIELD, offered } from './receive-window.ts';
import { armProbe, limitedTransmit } from './recovery.ts';
import { timeoutMs } from './rtt.ts';
import { gather, hasBlocks, type SackBlocks } from './sack.ts';
import { writeSack, writeSegment, writeSyn } from './segment-writer.ts';
import { seqAdd, seqGt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { tick } from './timestamps.ts';

/** Delay of an acknowledgement that an answer is expected to carry. RFC 9293 3.8.6.3 allows 500 ms. */
export const DELAYED_ACK_MS = 20;
/** Data sent within this time after data came is an answer to it. */
const ANSWER_MS = 40;

const NEVER: number = Number.POSITIVE_INFINITY;

/**
 * Sends until nothing more may go, `budget` octets have gone or the link has no room; returns the octets sent.
 * `c.port.blocked` tells whether it was the link; what is due then is still due. `blocks`: room to work in.
 */
export function output(c: Tcb, blocks: SackBlocks, nowMs: number, budget: number): number {
  if (c.timestamps) tick(c, nowMs);
  if (c.synDue) sendSyn(c, nowMs);
  if (c.state === 'SYN-RECEIVED' && c.ackDue) sendHandshakeAck(c, blocks);
  if (c.state === 'SYN-SENT' || c.state === 'SYN-RECEIVED' || c.state === 'CLOSED' || c.state === 'LISTEN') return 0;
  const window = advertise(c);
  let sent = 0;
  if (c.flight.lostOctets > 0) sent += sendLost(c, window, nowMs, budget);
  if (c.flight.lostOctets === 0) {
    if (c.queue.octets > 0 || c.finQueued) sent += sendNew(c, window, nowMs, budget - sent, limitedTransmit(c));
    if (c.tailDue) sent += sendTail(c, window, nowMs);
  }
  c.tailDue = false;
  if (c.port.blocked) return sent;
  if (c.keepaliveDue) {
    // One octet before the window: whoever is there must acknowledge it. RFC 9293 3.8.4.
    if (!writeSegment(c, seqAdd(c.sndNxt, -1), c.rcvNxt, TCP_ACK, window, 0, 0)) return sent;
    c.keepaliveDue = false;
  }
  if (c.ackDue) {
    for (; c.extraAcks > 0; c.extraAcks--) if (!sendAck(c, blocks, window)) return sent;
    sendAck(c, blocks, window);
  }
  return sent;
}

function sendSyn(c: Tcb, nowMs: number): void {
  const answer = c.state === 'SYN-RECEIVED';
  // The window of a SYN is never scaled. RFC 7323 2.2.
  const window = Math.min(MAX_FIELD, c.handler.room(c.connection), c.rcvLimit);
  const flags = answer ? TCP_SYN | TCP_ACK : TCP_SYN;
  if (!writeSyn(c, flags, window)) return;
  c.synDue = false;
  if (answer) {
    c.rcvAdv = seqAdd(c.rcvNxt, window);
    c.rcvMost = Math.max(c.rcvMost, window);
    acked(c);
  }
  if (c.sndNxt === c.iss) {
    c.sndNxt = seqAdd(c.iss, 1);
    c.flight.sent(c.iss, c.sndNxt, nowMs);
  } else c.flight.resent(0, 1, nowMs);
  armRetransmit(c, nowMs);
}

/**
 * In SYN-RECEIVED what is not acceptable is acknowledged too (RFC 9293 3.10.7.4, first): in a simultaneous open it is
 * this that the peer waits for. The window stays the one that the SYN offered, rounded up to the scale's unit.
 */
function sendHandshakeAck(c: Tcb, blocks: SackBlocks): void {
  // Nothing of ours has been sent yet.
  if (c.sndNxt === c.iss) return;
  const shift = Math.max(0, c.rcvWndShift);
  const field = Math.min(MAX_FIELD, (offered(c) + (1 << shift) - 1) >> shift);
  if (sendAck(c, blocks, field)) c.rcvAdv = seqAdd(c.rcvNxt, field << shift);
}

function sendAck(c: Tcb, blocks: SackBlocks, window: number): boolean {
  if (hasBlocks(c) && gather(c, blocks, c.extraAcks)) {
    if (!writeSack(c, window, blocks)) return false;
    acked(c);
    return true;
  }
  if (!writeSegment(c, c.sndNxt, c.rcvNxt, TCP_ACK, window, 0, 0)) return false;
  acked(c);
  return true;
}

/** A segment with data acknowledged all there is; blocks need one of their own. */
function ackCarried(c: Tcb): void {
  if (!c.ackDue || !hasBlocks(c)) acked(c);
}

/** What went out acknowledged all there is. */
function acked(c: Tcb): void {
  c.rcvAcked = c.rcvNxt;
  c.ackDue = false;
  c.ackAtMs = NEVER;
}

/** IP's and TCP's. */
const headersOctets = (c: Tcb): number => c.tcpAt - ethernet.HEADER_OCTETS + HEADER_OCTETS + c.optionOctets;

/** The largest run of octets for one frame: a segment, or what the link cuts itself. */
function largest(c: Tcb): number {
  const most = c.port.link.offload.segmentOctets;
  if (most === 0) return c.sndMss;
  // Whole segments only, so that the link's last cut is not a short one in the middle of a stream.
  return Math.max(c.sndMss, Math.floor((most - headersOctets(c)) / c.sndMss) * c.sndMss);
}

/** What was never sent, as far as the windows go; the congestion window is widened by `lent`. */
function sendNew(c: Tcb, window: number, nowMs: number, budget: number, lent: number): number {
  const most = largest(c);
  let sent = 0;
  while (sent < budget) {
    const inFlight = flightSize(c);
    const unsent = c.queue.octets - inFlight;
    // Negative: the FIN is in flight as well.
    if (unsent < 0 || (unsent === 0 && !c.finQueued)) break;
    let octets = Math.min(unsent, most, c.cwnd + lent - pipe(c), c.sndWnd - inFlight);
    if (c.probeDue) octets = Math.max(octets, Math.min(1, unsent));
    if (octets < 0) break;
    if (octets < unsent) {
      // The sender's silly window: a segment is full, or all there is, or half of what the peer ever offered.
      // RFC 9293 3.8.6.2.1. There is no Nagle: whoever wrote to the host socket has decided already.
      if (octets === 0) break;
      if (octets < c.sndMss && octets < c.sndWndMax >> 1 && !c.probeDue) break;
      if (octets > c.sndMss) octets -= octets % c.sndMss;
    }
    const last = octets === unsent;
    const fin = last && c.finQueued;
    const flags = TCP_ACK | (last && octets > 0 ? PSH : 0) | (fin ? FIN : 0);
    if (!writeSegment(c, c.sndNxt, c.rcvNxt, flags, window, inFlight, octets)) break;
    ackCarried(c);
    if (inFlight === 0) c.progressAtMs = nowMs;
    const next = seqAdd(c.sndNxt, octets + (fin ? 1 : 0));
    c.flight.sent(c.sndNxt, next, nowMs);
    c.sndNxt = next;
    if (fin) finSent(c);
    sent += octets;
    c.probeDue = false;
    if (c.retransmitAtMs === NEVER) armRetransmit(c, nowMs);
    if (nowMs - c.lastReceivedAtMs < ANSWER_MS) c.pingPong = true;
    if (last) break;
  }
  if (sent > 0 && c.sackPermitted) {
    armProbe(c, nowMs);
    c.context.schedule(c);
  }
  // Nothing in flight will bring an acknowledgement, yet there is something to send: persist. RFC 9293 3.8.6.1.
  if (c.retransmitAtMs === NEVER && c.sndUna === c.sndNxt && c.queue.octets > 0 && !c.port.blocked)
    armRetransmit(c, nowMs);
  return sent;
}

/** What is lost, once more, in its order, as far as the windows go. */
function sendLost(c: Tcb, window: number, nowMs: number, budget: number): number {
  const { flight } = c;
  let sent = 0;
  while (flight.lostOctets > 0 && sent < budget) {
    const index = flight.firstLost();
    const run = flight.runs[index]!;
    const octets = resendable(c, run);
    if (octets < 0 || !sendAgain(c, index, octets, window, nowMs)) break;
    c.firstDue = false;
    c.probeDue = false;
    sent += octets;
  }
  return sent;
}

/** How many octets of payload from the start of `run` may go again now; -1: none, not even a FIN alone. */
function resendable(c: Tcb, run: Run): number {
  const { sndMss } = c;
  const from = seqSub(run.start, c.sndUna);
  const payload = Math.min(seqSub(run.end, run.start), c.queue.octets - from);
  if (payload <= 0) return 0;
  const credit = c.cwnd - pipe(c);
  if (credit < Math.min(payload, sndMss) && !c.firstDue && !c.probeDue) return -1;
  let octets = Math.min(payload, largest(c), Math.max(credit, sndMss));
  // What never went goes with it where there is room in the segment.
  if (octets < sndMss && run.end === c.sndNxt) octets = Math.min(sndMss, c.queue.octets - from);
  const open = c.sndWnd - from;
  if (octets > open) octets = c.probeDue ? Math.max(1, open) : open;
  if (octets > sndMss && octets < payload) octets -= octets % sndMss;
  return octets > 0 ? octets : -1;
}

/** `octets` from the start of run `index` again, and its FIN if it ends there; false: the link has no room. */
function sendAgain(c: Tcb, index: number, octets: number, window: number, nowMs: number): boolean {
  const { flight } = c;
  const { start, end } = flight.runs[index]!;
  const from = seqSub(start, c.sndUna);
  const last = from + octets === c.queue.octets;
  const fin = last && c.finSent;
  const flags = TCP_ACK | (last && octets > 0 ? PSH : 0) | (fin ? FIN : 0);
  if (!writeSegment(c, start, c.rcvNxt, flags, window, from, octets)) return false;
  ackCarried(c);
  const next = seqAdd(start, octets + (fin ? 1 : 0));
  const again = Math.min(seqSub(end, start), seqSub(next, start));
  flight.resent(index, again, nowMs);
  if (seqGt(next, c.sndNxt)) {
    flight.sent(c.sndNxt, next, nowMs);
    c.sndNxt = next;
  }
  c.undoOctets += again;
  c.retransmissions++;
  if (start === c.sndUna || c.retransmitAtMs === NEVER) armRetransmit(c, nowMs);
  return true;
}

/** The probe for the tail: something new, else the last segment again. RFC 8985 7.3 */
function sendTail(c: Tcb, window: number, nowMs: number): number {
  if (c.sndNxt === c.sndUna || c.port.blocked) return 0;
  let octets = sendNew(c, window, nowMs, 1, c.sndMss);
  c.tailAgain = octets === 0;
  if (c.tailAgain) {
    const index = c.flight.splitTail(c.sndMss);
    const { start, end } = c.flight.runs[index]!;
    octets = Math.min(seqSub(end, start), c.queue.octets - seqSub(start, c.sndUna));
    if (!sendAgain(c, index, octets, window, nowMs)) return 0;
  }
  c.tailEnd = c.sndNxt;
  c.tailTick = c.tsVal;
  c.lossAtMs = NEVER;
  armRetransmit(c, nowMs);
  return octets;
}

/** Our FIN went out for the first time. RFC 9293 3.10.4. */
function finSent(c: Tcb): void {
  if (c.finSent) return;
  c.finSent = true;
  if (c.state === 'ESTABLISHED') c.state = 'FIN-WAIT-1';
  else if (c.state === 'CLOSE-WAIT') c.state = 'LAST-ACK';
}

export function armRetransmit(c: Tcb, nowMs: number): void {
  c.retransmitAtMs = nowMs + timeoutMs(c);
  if (c.sackPermitted) armProbe(c, nowMs);
  c.context.schedule(c);
}
