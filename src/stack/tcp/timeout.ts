/**
 * What happens when a connection's timer fires. RFC 6298 5.4-5.7 (retransmission), RFC 9293 3.8.6.1 (persist), 3.8.6.3
 * (delayed acknowledgement), 3.4.1 (TIME-WAIT), 3.8.4 (keep-alive, of a half-closed connection only).
 */

import type { TcpState } from '../port.ts';
import { lossTimer, timedOut } from './recovery.ts';
import { armRetransmit } from './send.ts';
import { seqSub } from './seq.ts';
import type { Tcb } from './tcb.ts';

const NEVER: number = Number.POSITIVE_INFINITY;

/** Retransmissions of a SYN or SYN-ACK before giving up: 1 + 2 + 4 + ... + 32 s = 63 s. RFC 9293 3.8.3 (R2 for SYN). */
const SYN_RETRIES = 5;
/** Timeouts in a row without any answer before giving up. RFC 9293 3.8.3 wants R2 of 100 s at least; this is minutes. */
const DATA_RETRIES = 15;
/** FIN-WAIT-2, and half-open after it: is anyone there? A guest that is answers; one that forgot us resets. */
export const KEEPALIVE_MS = 60_000;
const KEEPALIVE_RETRIES = 8;

export function expired(c: Tcb, nowMs: number): void {
  if (c.state === 'CLOSED') return;
  if (c.retransmitAtMs <= nowMs) {
    c.retransmitAtMs = NEVER;
    retransmit(c, nowMs);
  }
  if (c.lossAtMs <= nowMs) {
    c.lossAtMs = NEVER;
    lossTimer(c, nowMs);
  }
  if (c.ackAtMs <= nowMs) {
    c.ackAtMs = NEVER;
    // Nobody answered in time: next time do not wait.
    c.pingPong = false;
    c.ackDue = true;
    c.context.ready(c);
  }
  if (c.closeAtMs <= nowMs) {
    c.closeAtMs = NEVER;
    close(c, nowMs);
  }
  // It may be over by now.
  if ((c.state as TcpState) !== 'CLOSED') c.context.schedule(c);
}

function retransmit(c: Tcb, nowMs: number): void {
  const { context } = c;
  // While the link takes nothing, silence says nothing: the guest may be paused.
  if (c.port.blocked) {
    c.backoff++;
    armRetransmit(c, nowMs);
    return;
  }
  if (c.state === 'SYN-SENT' || c.state === 'SYN-RECEIVED') {
    if (c.unanswered++ >= SYN_RETRIES) {
      context.release(c, 'ETIMEDOUT');
      return;
    }
    context.reroute(c);
    c.backoff++;
    c.retransmissions++;
    c.synDue = true;
    context.ready(c);
    return;
  }
  context.reroute(c);
  const inFlight = seqSub(c.sndNxt, c.sndUna);
  if (inFlight === 0 && c.queue.octets === 0 && !c.finQueued) return;
  if (inFlight > 0 && c.unanswered++ >= DATA_RETRIES) {
    context.reset(c, c.sndNxt, c.rcvNxt);
    context.release(c, 'ETIMEDOUT');
    return;
  }
  if (inFlight === 0 || (c.sndWnd === 0 && c.queue.octets > 0)) {
    // Persist: the window may have opened by a segment that was lost, or stay closed for as long as the peer likes.
    c.flight.loseAll();
    c.probeDue = true;
  } else timedOut(c);
  c.backoff++;
  armRetransmit(c, nowMs);
  context.ready(c);
}

function close(c: Tcb, nowMs: number): void {
  const { context } = c;
  if (c.state === 'TIME-WAIT') {
    context.release(c, 'closed');
    return;
  }
  if (c.state !== 'FIN-WAIT-2') return;
  c.closeAtMs = nowMs + KEEPALIVE_MS;
  if (c.port.blocked) return;
  if (c.unanswered++ >= KEEPALIVE_RETRIES) {
    context.reset(c, c.sndNxt, c.rcvNxt);
    context.release(c, 'ETIMEDOUT');
    return;
  }
  c.keepaliveDue = true;
  context.ready(c);
}
