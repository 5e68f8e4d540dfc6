/**
 * The state of one vsock connection, without any I/O. Virtio 1.2 sections 5.10.6.3 (credit) and 5.10.6.6 (life).
 *
 * Towards the guest at most `bufAlloc - (txCnt - fwdCnt)` octets may be in flight, in the guest's figures. From the
 * guest at most `bufAlloc` octets lie between what arrived (`rxCnt`) and what the host's socket took (`fwdCnt`); more
 * is the guest's fault. Counters are free-running u32.
 */

import { shutdownBoth, shutdownReceive, shutdownSend } from './packet.ts';

/** REQUESTED: ours, unanswered. DIALLING: the guest's, the host's socket not connected yet. */
export type ConnectionState = 'REQUESTED' | 'DIALLING' | 'ESTABLISHED';

/** What the guest is to be told, sent as soon as it has a receive buffer, in this order. */
export const control = { REQUEST: 1, RESPONSE: 2, CREDIT_UPDATE: 4, SHUTDOWN: 8 } as const;

export class VsockConnection {
  readonly hostPort: number;
  readonly guestPort: number;
  /** buf_alloc as we advertise it; constant for the connection's life. */
  readonly bufAlloc: number;
  state: ConnectionState;
  /** Bits of `control` that wait to be sent. */
  pending = 0;
  /** SHUTDOWN flags the guest has sent, and those it has been (or is about to be) sent. */
  guestShutdown = 0;
  hostShutdown = 0;
  #txCnt = 0;
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  #rxCnt = 0;
  #fwdCnt = 0;
  #fwdCntTold = 0;

  constructor(hostPort: number, guestPort: number, bufAlloc: number, state: ConnectionState) {
    this.hostPort = hostPort;
    this.guestPort = guestPort;
    this.bufAlloc = bufAlloc;
    this.state = state;
  }

  /** Takes the credit that every packet carries. */
  credit(bufAlloc: number, fwdCnt: number): void {
    this.#peerBufAlloc = bufAlloc;
    this.#peerFwdCnt = fwdCnt;
  }

  /** Octets that may be sent to the guest now. */
  get peerFree(): number {
    if (this.state !== 'ESTABLISHED' || (this.guestShutdown & shutdownReceive) !== 0) return 0;
    return Math.max(0, this.#peerBufAlloc - ((this.#txCnt - this.#peerFwdCnt) >>> 0));
  }

  sent(octets: number): void {
    this.#txCnt = (this.#txCnt + octets) >>> 0;
  }

  /** Counts data from the guest; false: more than it had credit for, or after it said it would send no more. */
  received(octets: number): boolean {
    if (this.state !== 'ESTABLISHED' || (this.guestShutdown & shutdownSend) !== 0) return false;
    if (octets > this.bufAlloc - this.held) return false;
    this.#rxCnt = (this.#rxCnt + octets) >>> 0;
    return true;
  }

  /** Octets received and not yet forwarded. */
  get held(): number {
    return (this.#rxCnt - this.#fwdCnt) >>> 0;
  }

  /** The host's socket took `octets` (or they were discarded); a credit update is due after half the buffer. */
  forwarded(octets: number): void {
    this.#fwdCnt = (this.#fwdCnt + octets) >>> 0;
    if (((this.#fwdCnt - this.#fwdCntTold) >>> 0) * 2 >= this.bufAlloc) this.pending |= control.CREDIT_UPDATE;
  }

  /** fwd_cnt for a packet about to be sent: the guest is up to date with it. */
  tellFwdCnt(): number {
    this.#fwdCntTold = this.#fwdCnt;
    this.pending &= ~control.CREDIT_UPDATE;
    return this.#fwdCnt;
  }

  /** Asks for a SHUTDOWN with more flags than the guest has been sent so far. */
  shutDown(flags: number): void {
    if ((this.hostShutdown | flags) === this.hostShutdown) return;
    this.hostShutdown |= flags;
    this.pending |= control.SHUTDOWN;
  }

  /** Both directions are over for the guest: it is owed an RST, and the connection is gone. */
  get guestDone(): boolean {
    return this.guestShutdown === shutdownBoth;
  }

  get hostDone(): boolean {
    return this.hostShutdown === shutdownBoth;
  }
}
