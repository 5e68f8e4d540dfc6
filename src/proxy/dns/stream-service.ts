/**
 * DNS over TCP for the guest. RFC 7766: queries may be pipelined, answers go out as they come (6.2.1.1), a half-closed
 * client still gets its answers, an idle connection is closed (6.2.3).
 *
 * Back-pressure: with enough queries under way, or answers that the guest does not take, no more octets are taken from
 * it. Timers: one idle deadline per connection, looked at by `poll`.
 */

import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../../stack/port.ts';
import { LARGEST_MESSAGE } from './message.ts';

/** Takes an answer, whose memory is the caller's again on return; undefined: it was no query, the stream is out of step. */
export type StreamAnswer = (answer: Uint8Array | undefined) => void;

/** Answers a query now or later, once. */
export type StreamQuery = (query: Uint8Array, connection: TcpConnection, done: StreamAnswer) => void;

export const IDLE_MS = 30_000;
/** Queries under way, and octets of answers waiting, per connection. */
const MAX_PENDING = 64;
const MAX_QUEUED_OCTETS = 2 * LARGEST_MESSAGE;

export class DnsStream implements TcpHandler {
  readonly #connection: TcpConnection;
  readonly #query: StreamQuery;
  readonly #ended: (stream: DnsStream) => void;
  #in: Uint8Array = new Uint8Array(1024);
  #inOctets = 0;
  #pending = 0;
  readonly #out: Uint8Array[] = [];
  /** Octets in `#out`, and how many of its first item are gone already. */
  #outOctets = 0;
  #outSent = 0;
  #guestEnded = false;
  #closing = false;
  /** Octets have gone to the guest since the last look. */
  #moved = false;
  #lastMs: number;

  constructor(connection: TcpConnection, query: StreamQuery, ended: (stream: DnsStream) => void, nowMs: number) {
    this.#connection = connection;
    this.#query = query;
    this.#ended = ended;
    this.#lastMs = nowMs;
  }

  /** When the connection has been idle for long enough to be closed. */
  get dueMs(): number {
    return this.#lastMs + IDLE_MS;
  }

  /** Closes an idle connection; one whose guest has not taken anything of its answers since is reset. */
  idle(nowMs: number): void {
    this.#lastMs = nowMs;
    const moved = this.#moved;
    this.#moved = false;
    if (moved || this.#pending > 0) return;
    if (this.#closing || this.#outOctets > 0) this.#connection.abort();
    else this.#end();
  }

  touch(nowMs: number): void {
    this.#lastMs = nowMs;
  }

  abort(): void {
    this.#connection.abort();
  }

  established(): void {}

  room(): number {
    return this.#full() ? 0 : LARGEST_MESSAGE + 2 - this.#inOctets;
  }

  #full(): boolean {
    return this.#closing || this.#pending >= MAX_PENDING || this.#outOctets > MAX_QUEUED_OCTETS;
  }

  received(_connection: TcpConnection, octets: FragmentList): number {
    const room = LARGEST_MESSAGE + 2 - this.#inOctets;
    let taken = 0;
    for (let i = 0; i < octets.count && taken < room; i++) {
      const { arena, offset, length } = octets.items[i]!;
      const part = Math.min(length, room - taken);
      this.#makeRoom(this.#inOctets + part);
      this.#in.set(arena.bytes.subarray(offset, offset + part), this.#inOctets);
      this.#inOctets += part;
      taken += part;
    }
    this.#serve();
    return taken;
  }

  #makeRoom(octets: number): void {
    if (octets <= this.#in.length) return;
    const larger = new Uint8Array(Math.min(LARGEST_MESSAGE + 2, Math.max(octets, 2 * this.#in.length)));
    larger.set(this.#in.subarray(0, this.#inOctets));
    this.#in = larger;
  }

  /** Asks what has arrived whole, as far as there may be more under way. */
  #serve(): void {
    let at = 0;
    while (!this.#full() && this.#inOctets - at >= 2) {
      const length = (this.#in[at]! << 8) | this.#in[at + 1]!;
      if (this.#inOctets - at < length + 2) break;
      this.#ask(this.#in.subarray(at + 2, at + 2 + length));
      at += length + 2;
    }
    if (at > 0) {
      this.#in.copyWithin(0, at, this.#inOctets);
      this.#inOctets -= at;
    }
    this.#flush();
  }

  #ask(query: Uint8Array): void {
    let answered = false;
    this.#pending++;
    this.#query(query, this.#connection, (answer) => {
      this.#pending--;
      if (this.#closing) return;
      if (!answer) {
        this.#connection.abort();
        return;
      }
      const framed = new Uint8Array(answer.length + 2);
      framed[0] = answer.length >> 8;
      framed[1] = answer.length;
      framed.set(answer, 2);
      this.#out.push(framed);
      this.#outOctets += framed.length;
      if (!answered) return;
      // Later than the call: what waited for this one to be done goes on.
      this.#serve();
      this.#connection.roomGrew();
    });
    answered = true;
  }

  #flush(): void {
    const connection = this.#connection;
    let first: Uint8Array | undefined;
    while (!this.#closing && (first = this.#out[0]) && connection.reserveSend()) {
      const part = Math.min(connection.sendLength, first.length - this.#outSent);
      connection.sendArena.bytes.set(first.subarray(this.#outSent, this.#outSent + part), connection.sendOffset);
      connection.commitSend(part);
      this.#moved = true;
      this.#outSent += part;
      this.#outOctets -= part;
      if (this.#outSent < first.length) continue;
      this.#out.shift();
      this.#outSent = 0;
    }
    if (this.#guestEnded && this.#pending === 0 && this.#outOctets === 0) this.#end();
  }

  #end(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#connection.end();
  }

  receivedEnd(): void {
    this.#guestEnded = true;
    this.#flush();
  }

  writable(): void {
    const wasFull = this.#full();
    this.#serve();
    if (wasFull && !this.#full()) this.#connection.roomGrew();
  }

  closed(_connection: TcpConnection, _reason: CloseReason): void {
    this.#closing = true;
    this.#out.length = 0;
    this.#outOctets = 0;
    this.#ended(this);
  }
}
