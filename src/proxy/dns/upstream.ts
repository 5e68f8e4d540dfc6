/**
 * Asks the host's name servers over UDP, with failover. RFC 5452: every query goes out with an unguessable id, from one of
 * a few sockets chosen at random, whose ports the host chose and which are replaced before long; only an answer from a
 * server that was asked, at that socket, with that id and question, counts. (A socket for every query would guess-proof
 * the port still a little better, and cost more than all the rest of a query.)
 *
 * An exchange asks the servers in order: the next one when the last has not answered for a second, at once when it is
 * known to be unreachable or answers SERVFAIL, NOTIMP or REFUSED (as resolvers do). Such an answer is what the client gets
 * if none does better. Twice round, then the exchange ends with nothing.
 *
 * Timers: per exchange the next try; sockets that have long been idle are closed. Both are looked at by `poll`.
 */

import type { Address, Clock, Random } from '../../stack/port.ts';
import { isIpv4 } from '../../stack/wire/address.ts';
import { SingleFragment } from '../fragment-list.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostErrorCode, HostNetPort, NameServer } from '../port.ts';
import { answers, id, NOTIMP, REFUSED, responseCode, SERVFAIL, setId } from './message.ts';
import { isServer, type NameServers } from './name-servers.ts';

/** How long a server may take before the next one is asked too, in the first round and in the second. */
export const TRY_MS = [1000, 2500] as const;
/** Sockets per family, how many queries one may send, and how long one is kept. */
const SOCKETS = 8;
const SOCKET_QUERIES = 2000;
const SOCKET_MS = 30_000;

/** Given the answer (valid during the call, its id still ours), or undefined: none came. */
export type AnswerHandler = (answer: Uint8Array | undefined) => void;

/** Answers that another server may better. */
export const isFailure = (answer: Uint8Array): boolean => {
  const code = responseCode(answer);
  return code === SERVFAIL || code === NOTIMP || code === REFUSED;
};

/** A socket and the exchanges that wait for answers at it, by id. */
interface Slot {
  readonly socket: HostDatagramSocket;
  readonly waiting: Map<number, Exchange>;
  queries: number;
  readonly untilMs: number;
}

interface Exchange {
  readonly message: Uint8Array;
  readonly fragment: SingleFragment;
  readonly questionEnd: number;
  readonly servers: readonly NameServer[];
  readonly done: AnswerHandler;
  slot4: Slot | undefined;
  slot6: Slot | undefined;
  /** Tries made; server `tried % servers.length` is next. */
  tried: number;
  /** Servers that have answered with a failure. */
  readonly refused: NameServer[];
  failure: Uint8Array | undefined;
  /** Datagrams sent, and how many of them the host has reported as undeliverable. */
  sent: number;
  undeliverable: number;
  nextMs: number;
}

export class DnsUpstream implements HostDatagramHandler {
  readonly #hostNet: Pick<HostNetPort, 'bindDatagram'>;
  readonly #servers: NameServers;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #exchanges = new Set<Exchange>();
  readonly #slots: { readonly 4: Slot[]; readonly 6: Slot[] } = { 4: [], 6: [] };
  /** Sockets that send no more and wait for their last answers. */
  readonly #retired = new Set<Slot>();
  readonly #randomOctets = new Uint8Array(256);
  #randomLeft = 0;
  /** No later than the earliest deadline. */
  #dueMs = Number.POSITIVE_INFINITY;
  /** Datagrams that were not the answer to anything asked. */
  mismatched = 0;

  constructor(hostNet: Pick<HostNetPort, 'bindDatagram'>, servers: NameServers, clock: Clock, random: Random) {
    this.#hostNet = hostNet;
    this.#servers = servers;
    this.#clock = clock;
    this.#random = random;
  }

  /** Sends `message` (its memory is ours from now on). `questionEnd`: after its question. */
  ask(message: Uint8Array, questionEnd: number, done: AnswerHandler): void {
    setId(message, this.#random16());
    const nowMs = this.#clock.nowMs();
    const exchange: Exchange = {
      message,
      fragment: new SingleFragment(message),
      questionEnd,
      servers: this.#servers.inOrder(nowMs),
      done,
      slot4: undefined,
      slot6: undefined,
      tried: 0,
      refused: [],
      failure: undefined,
      sent: 0,
      undeliverable: 0,
      nextMs: 0,
    };
    this.#exchanges.add(exchange);
    this.#tryNext(exchange, nowMs);
  }

  pollAt(): number {
    return this.#dueMs;
  }

  poll(nowMs: number): void {
    if (nowMs < this.#dueMs) return;
    this.#dueMs = Number.POSITIVE_INFINITY;
    for (const exchange of this.#exchanges) {
      if (exchange.nextMs <= nowMs) {
        const last = exchange.servers[(exchange.tried - 1) % exchange.servers.length];
        if (last && !exchange.refused.includes(last)) this.#servers.failed(last, nowMs);
        this.#tryNext(exchange, nowMs);
      } else this.#due(exchange.nextMs);
    }
    for (const slots of [this.#slots[4], this.#slots[6]])
      for (let i = slots.length - 1; i >= 0; i--) {
        if (slots[i]!.untilMs <= nowMs) this.#retire(slots.splice(i, 1)[0]!);
        else this.#due(slots[i]!.untilMs);
      }
  }

  close(): void {
    for (const exchange of this.#exchanges) this.#end(exchange, undefined);
    for (const slot of [...this.#slots[4].splice(0), ...this.#slots[6].splice(0)]) this.#retire(slot);
  }

  #due(ms: number): void {
    if (ms < this.#dueMs) this.#dueMs = ms;
  }

  #random16(): number {
    if (this.#randomLeft < 2) {
      this.#random.fill(this.#randomOctets);
      this.#randomLeft = this.#randomOctets.length;
    }
    this.#randomLeft -= 2;
    return (this.#randomOctets[this.#randomLeft]! << 8) | this.#randomOctets[this.#randomLeft + 1]!;
  }

  #tryNext(exchange: Exchange, nowMs: number): void {
    const { servers, refused } = exchange;
    while (exchange.tried < servers.length * TRY_MS.length && refused.length < servers.length) {
      const server = servers[exchange.tried % servers.length]!;
      const round = Math.floor(exchange.tried / servers.length);
      exchange.tried++;
      if (refused.includes(server) || !this.#send(exchange, server, nowMs)) continue;
      exchange.sent++;
      exchange.nextMs = nowMs + TRY_MS[round]!;
      this.#due(exchange.nextMs);
      return;
    }
    // Out of tries, but one that is still on its way gets its time.
    const waits = exchange.undeliverable + refused.length < exchange.sent && exchange.nextMs > nowMs;
    if (waits) this.#due(exchange.nextMs);
    else this.#end(exchange, exchange.failure);
  }

  #send(exchange: Exchange, server: NameServer, nowMs: number): boolean {
    const slot = isIpv4(server.address)
      ? (exchange.slot4 ??= this.#slotFor(4, exchange, nowMs))
      : (exchange.slot6 ??= this.#slotFor(6, exchange, nowMs));
    return slot?.socket.send(exchange.fragment, server.address, server.port) ?? false;
  }

  /** A socket of the family where the exchange's id is free; undefined: none is to be had (EMFILE, no such family). */
  #slotFor(family: 4 | 6, exchange: Exchange, nowMs: number): Slot | undefined {
    const slots = this.#slots[family];
    let slot: Slot | undefined;
    if (slots.length < SOCKETS) {
      try {
        const socket = this.#hostNet.bindDatagram(family, this);
        socket.owner = slot = { socket, waiting: new Map(), queries: 0, untilMs: nowMs + SOCKET_MS };
        slots.push(slot);
        this.#due(slot.untilMs);
      } catch {
        // Those there are will do.
      }
    }
    slot ??= slots[this.#random16() % slots.length];
    if (!slot) return undefined;
    // The id may be changed for as long as nothing was sent under it.
    while (exchange.sent === 0 && slot.waiting.has(id(exchange.message))) setId(exchange.message, this.#random16());
    if (slot.waiting.has(id(exchange.message))) return undefined;
    slot.waiting.set(id(exchange.message), exchange);
    if (++slot.queries >= SOCKET_QUERIES) {
      slots.splice(slots.indexOf(slot), 1);
      this.#retired.add(slot);
    }
    return slot;
  }

  #retire(slot: Slot): void {
    this.#retired.add(slot);
    this.#closeIfDone(slot);
  }

  #closeIfDone(slot: Slot): void {
    if (slot.waiting.size === 0 && this.#retired.delete(slot)) slot.socket.close();
  }

  received(socket: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void {
    const { waiting } = socket.owner as Slot;
    const exchange = payload.length < 2 ? undefined : waiting.get(id(payload));
    const server = exchange?.servers.find((one, i) => i < exchange.tried && isServer(one, address, port));
    if (!exchange || !server || !answers(payload, payload.length, exchange.message, exchange.questionEnd)) {
      this.mismatched++;
      return;
    }
    this.#servers.answered(server);
    if (isFailure(payload)) {
      // Again by one that was asked twice: nothing new.
      if (exchange.refused.includes(server)) return;
      exchange.failure = payload.slice();
      exchange.refused.push(server);
      this.#tryNext(exchange, this.#clock.nowMs());
    } else this.#end(exchange, payload);
  }

  /** The host does not say which datagram it was: the oldest that can be meant is tried elsewhere, which does no harm. */
  failed(socket: HostDatagramSocket, _code: HostErrorCode): void {
    for (const exchange of (socket.owner as Slot).waiting.values()) {
      if (exchange.undeliverable + exchange.refused.length >= exchange.sent) continue;
      exchange.undeliverable++;
      this.#tryNext(exchange, this.#clock.nowMs());
      return;
    }
  }

  #end(exchange: Exchange, answer: Uint8Array | undefined): void {
    this.#exchanges.delete(exchange);
    for (const slot of [exchange.slot4, exchange.slot6]) {
      if (!slot) continue;
      slot.waiting.delete(id(exchange.message));
      this.#closeIfDone(slot);
    }
    exchange.done(answer);
  }
}
