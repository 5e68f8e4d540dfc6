/**
 * What a connection may send now. RFC 9293 3.8 and 3.10.2, RFC 5681. Called from `poll` for connections in the ready
 * list, never from within the arrival of a segment: so all segments of a batch are answered by one.
 */

import * as ethernet from '../wire/ethernet.ts';
import { FIN, HEADER_OCTETS, PSH, ACK as TCP_ACK, SYN as TCP_SYN } from '../wire/tcp.ts';
import { limitedTransmit } from './congestion.ts';
import { advertise, MAX_FIELD, offered } from './receive-window.ts';
import { time, timeoutMs } from './rtt.ts';
import { gather, hasBlocks, type SackBlocks } from './sack.ts';
import { writeSack, writeSegment, writeSyn } from './segment-writer.ts';
import { type Seq, seqAdd, seqGt, seqLt, seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { tick } from './timestamps.ts';

/** Delay of an acknowledgement that an answer is expected to carry. RFC 9293 3.8.6.3 allows 500 ms. */
export const DELAYED_ACK_MS = 20;
/** Data sent within this time after data came is an answer to it. */
const ANSWER_MS = 40;

/** The number after the last queued octet: our FIN's, when there is one. */
export const queueEnd = (c: Tcb): Seq => seqAdd(c.sndUna, c.queue.octets);

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
  if (c.retransmitDue) {
    const octets = sendFirstAgain(c, window, nowMs);
    if (octets < 0) return sent;
    sent += octets;
  }
  if (c.queue.octets > 0 || c.finQueued) sent += sendData(c, window, nowMs, budget);
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
  c.sndNxt = seqAdd(c.iss, 1);
  if (c.sndMax === c.iss) {
    c.sndMax = c.sndNxt;
    time(c, c.sndMax, nowMs);
  }
  armRetransmit(c, nowMs);
}

/**
 * In SYN-RECEIVED what is not acceptable is acknowledged too (RFC 9293 3.10.7.4, first): in a simultaneous open it is
 * this that the peer waits for. The window stays the one that the SYN offered, rounded up to the scale's unit.
 */
function sendHandshakeAck(c: Tcb, blocks: SackBlocks): void {
  // Nothing of ours has been sent yet.
  if (c.sndMax === c.iss) return;
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
  // SND.NXT that a timeout has set back would be taken for old by the peer: RFC 9293 3.10.7.4 wants the latest.
  if (!writeSegment(c, c.sndMax, c.rcvNxt, TCP_ACK, window, 0, 0)) return false;
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
  c.ackAtMs = Number.POSITIVE_INFINITY;
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

function sendData(c: Tcb, window: number, nowMs: number, budget: number): number {
  const most = largest(c);
  let sent = 0;
  while (sent < budget) {
    const end = queueEnd(c);
    const inFlight = seqSub(c.sndNxt, c.sndUna);
    const unsent = c.queue.octets - inFlight;
    // Negative: the FIN is behind SND.NXT as well.
    if (unsent < 0 || (unsent === 0 && !c.finQueued)) break;
    let octets = Math.min(unsent, most, Math.min(c.cwnd + limitedTransmit(c), c.sndWnd) - inFlight);
    if (c.probeDue) octets = Math.max(octets, Math.min(1, unsent));
    if (octets < 0) break;
    if (octets < unsent) {
      // The sender's silly window: a segment is full, or all there is, or half of what the peer ever offered.
      // RFC 9293 3.8.6.2.1. There is no Nagle: whoever wrote to the host socket has decided already.
      if (octets === 0) break;
      const again = c.probeDue || seqLt(c.sndNxt, c.sndMax);
      if (octets < c.sndMss && octets < c.sndWndMax >> 1 && !again) break;
      if (octets > c.sndMss) octets -= octets % c.sndMss;
    }
    const last = octets === unsent;
    const fin = last && c.finQueued;
    const flags = TCP_ACK | (last && octets > 0 ? PSH : 0) | (fin ? FIN : 0);
    if (!writeSegment(c, c.sndNxt, c.rcvNxt, flags, window, inFlight, octets)) break;
    ackCarried(c);
    const beyond = c.sndWnd - inFlight < octets;
    const next = seqAdd(c.sndNxt, octets + (fin ? 1 : 0));
    if (c.sndMax === c.sndUna) c.progressAtMs = nowMs;
    if (seqLt(c.sndNxt, c.sndMax)) c.retransmissions++;
    else if (!beyond) time(c, next, nowMs);
    if (fin) finSent(c);
    if (seqGt(next, c.sndMax)) c.sndMax = next;
    sent += octets;
    c.probeDue = false;
    // A probe of a closed window is sent again from the same place until the window opens.
    if (beyond) {
      armRetransmit(c, nowMs);
      break;
    }
    c.sndNxt = next;
    if (c.retransmitAtMs === Number.POSITIVE_INFINITY) armRetransmit(c, nowMs);
    if (nowMs - c.lastReceivedAtMs < ANSWER_MS) c.pingPong = true;
    if (next === end || fin) break;
  }
  // Nothing in flight will bring an acknowledgement, yet there is something to send: persist. RFC 9293 3.8.6.1.
  if (c.retransmitAtMs === Number.POSITIVE_INFINITY && c.sndUna === c.sndNxt && c.queue.octets > 0 && !c.port.blocked)
    armRetransmit(c, nowMs);
  return sent;
}

/** Our FIN went out for the first time. RFC 9293 3.10.4. */
function finSent(c: Tcb): void {
  if (c.finSent) return;
  c.finSent = true;
  if (c.state === 'ESTABLISHED') c.state = 'FIN-WAIT-1';
  else if (c.state === 'CLOSE-WAIT') c.state = 'LAST-ACK';
}

/** The segment at SND.UNA once more: fast retransmit, or the next hole. Returns its octets; -1: no room. */
function sendFirstAgain(c: Tcb, window: number, nowMs: number): number {
  const inFlight = seqSub(c.sndMax, c.sndUna);
  if (inFlight === 0) {
    c.retransmitDue = false;
    return 0;
  }
  const octets = Math.min(c.sndMss, c.queue.octets, inFlight);
  const fin = c.finSent && octets === c.queue.octets && inFlight > octets;
  const flags = TCP_ACK | (octets === c.queue.octets && octets > 0 ? PSH : 0) | (fin ? FIN : 0);
  if (!writeSegment(c, c.sndUna, c.rcvNxt, flags, window, 0, octets)) return -1;
  ackCarried(c);
  c.retransmitDue = false;
  c.retransmissions++;
  armRetransmit(c, nowMs);
  return octets;
}

export function armRetransmit(c: Tcb, nowMs: number): void {
  c.retransmitAtMs = nowMs + timeoutMs(c);
  c.context.schedule(c);
}
