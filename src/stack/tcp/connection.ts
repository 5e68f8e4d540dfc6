/** A TCP connection as its owner sees it: the `TcpConnection` of port.ts on top of the control block. RFC 9293 3.9.1. */

import type { ChunkWaiter } from '../chunk-pool.ts';
import type { Fragments } from '../fragment-list.ts';
import type { Address, Arena, FragmentList, TcpConnection, TcpHandler } from '../port.ts';
import { worthUpdate } from './receive-window.ts';
import { Tcb, type TcpContext } from './tcb.ts';
import { expired } from './timeout.ts';

/** The answers of `reject`. */
export type Rejection = 'reset' | 'unreachable' | 'prohibited' | 'silent';

/** What a connection asks beyond `TcpContext`. */
export interface ConnectionContext extends TcpContext {
  /** For `reserveSendList`: one for all, as what is reserved is filled before anything else happens. */
  readonly sendPlaces: Fragments;
  accepted(c: Connection): void;
  rejected(c: Connection, how: Rejection): void;
  /** A connection that holds no memory was refused any. */
  short(): void;
}

/** Stands in where there is no owner: before `accept`, and after `closed`. */
export const nobody: TcpHandler = {
  established: () => undefined,
  room: () => 0,
  received: (_connection, octets) => octets.octets,
  receivedEnd: () => undefined,
  writable: () => undefined,
  closed: () => undefined,
};

export class Connection extends Tcb implements TcpConnection, ChunkWaiter {
  readonly guestAddress: Address;
  readonly guestPort: number;
  readonly peerAddress: Address;
  /** Chosen when the neighbour is known, where it was not given. */
  peerPort: number;
  ingress: number;
  owner: unknown = undefined;
  declare readonly context: ConnectionContext;

  constructor(
    context: ConnectionContext,
    queueLimit: number,
    guestAddress: Address,
    guestPort: number,
    peerAddress: Address,
    peerPort: number,
    ingress: number,
  ) {
    super(context, queueLimit);
    this.connection = this;
    this.handler = nobody;
    this.guestAddress = guestAddress;
    this.guestPort = guestPort;
    this.peerAddress = peerAddress;
    this.peerPort = peerPort;
    this.ingress = ingress;
  }

  get sendQueueOctets(): number {
    return this.queue.octets;
  }

  accept(handler: TcpHandler): void {
    if (this.state === 'CLOSED') {
      handler.closed(this, 'ECONNRESET');
      return;
    }
    if (!this.held) return;
    this.held = false;
    this.handler = handler;
    this.synDue = true;
    this.context.accepted(this);
    this.context.ready(this);
  }

  reject(how: Rejection): void {
    if (this.state === 'CLOSED' || !this.held) return;
    this.context.rejected(this, how);
  }

  reserveSend(): boolean {
    if (this.#sendsNoMore) return false;
    return this.queue.reserve() || this.#noRoom();
  }

  reserveSendList(): FragmentList | undefined {
    if (this.#sendsNoMore) return undefined;
    const { sendPlaces } = this.context;
    if (this.queue.reserveList(sendPlaces)) return sendPlaces;
    this.#noRoom();
    return undefined;
  }

  get #sendsNoMore(): boolean {
    return this.state === 'CLOSED' || this.state === 'TIME-WAIT' || this.finQueued || this.finSent;
  }

  #noRoom(): false {
    const { queue } = this;
    this.wantsRoom = true;
    if (queue.octets >= queue.limit) this.queueWasFull = true;
    else {
      this.context.pool.wait(this);
      if (queue.chunks === 0) this.context.short();
    }
    return false;
  }

  get sendArena(): Arena {
    return this.queue.arena!;
  }

  get sendOffset(): number {
    return this.queue.offset;
  }

  get sendLength(): number {
    return this.queue.length;
  }

  commitSend(octets: number): void {
    if (this.state === 'CLOSED' || this.finQueued || this.finSent) return;
    this.queue.commit(octets);
    if (octets > 0) this.context.ready(this);
  }

  end(): void {
    if (this.state === 'CLOSED' || this.finQueued || this.finSent) return;
    this.finQueued = true;
    this.context.ready(this);
  }

  abort(): void {
    const { state } = this;
    if (state === 'CLOSED' || state === 'TIME-WAIT') return;
    if (this.held) {
      this.reject('reset');
      return;
    }
    // RFC 9293 3.10.5: a connection that the peer does not know of needs no RST.
    if (state !== 'SYN-SENT') this.context.reset(this, this.sndNxt, this.rcvNxt);
    this.context.release(this, 'aborted');
  }

  roomGrew(): void {
    // Before the handshake is through there is no window to open; the SYN will say what there is.
    if (this.state === 'CLOSED' || this.state === 'SYN-SENT' || this.state === 'SYN-RECEIVED') return;
    if (!worthUpdate(this)) return;
    this.ackDue = true;
    this.context.ready(this);
  }

  chunkFreed(): void {
    if (!this.wantsRoom) return;
    this.wantsRoom = false;
    this.handler.writable(this);
  }

  expired(nowMs: number): void {
    expired(this, nowMs);
  }
}
