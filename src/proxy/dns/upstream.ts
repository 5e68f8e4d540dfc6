/**
 * Asks the host's name servers over UDP, with failover. RFC 5452: every query goes out with an unguessable id, from one of
 * a few sockets chosen at random, whose ports the host chose and which are replaced before long; only an answer from a
 * server that was asked, at that socket, with that id and question, counts. (A socket for every query would guess-proof
 * the port still a little better, and cost more than all the rest of a query.) Queries of one moment share the socket
 * that was drawn for the first, so that they leave and their answers come by one system call; nobody off the path can
 * tell, and each one's port is as hard to guess as before.
 *
 * An exchange asks the servers in order: the next one when the last has not answered for a second, at once when it is
 * known to be unreachable or answers SERVFAIL, NOTIMP or REFUSED (as resolvers do). Such an answer is what the client gets
 * if none does better. Twice round, then the exchange ends with nothing.
 *
 * Timers: per exchange the next try; sockets that have long been idle are closed. Both are looked at by `poll`.
 * Exchanges are used again, with their memory.
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
/** Queries, and time, until a socket is drawn again. */
const DRAW_QUERIES = 16;
const DRAW_MS = 1;
/** Exchanges kept for use again, and the message that one has room for unless it needs more. */
const SPARE = 256;
const MESSAGE = 512;

/** Given the answer (valid during the call, its id still ours), or undefined: none came. */
export type AnswerHandler = (answer: Uint8Array | undefined) => void;

/** Who asks: told once, with the query as it was asked; both valid during the call. The answer's id is still ours. */
export interface Asker {
  answered(answer: Uint8Array | undefined, query: Uint8Array): void;
}

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

/** The sockets of a family, and the one that was drawn last. */
class Family {
  readonly slots: Slot[] = [];
  drawn: Slot | undefined;
  drawnQueries = 0;
  drawnMs = 0;
}

class Exchange {
  /** The query under an id of ours; `message` is the part of `bytes` that it fills. */
  bytes = new Uint8Array(MESSAGE);
  message: Uint8Array = this.bytes;
  fragment = new SingleFragment(this.bytes);
  questionEnd = 0;
  servers: readonly NameServer[] = [];
  asker: Asker | undefined;
  slot4: Slot | undefined;
  slot6: Slot | undefined;
  /** Tries made; server `tried % servers.length` is next. */
  tried = 0;
  /** Servers that have answered with a failure. */
  readonly refused: NameServer[] = [];
  failure: Uint8Array | undefined;
  /** Datagrams sent, and how many of them the host has reported as undeliverable. */
  sent = 0;
  undeliverable = 0;
  nextMs = 0;

  begin(message: Uint8Array, questionEnd: number, servers: readonly NameServer[], asker: Asker): void {
    const { length } = message;
    if (length > this.bytes.length) {
      this.bytes = new Uint8Array(length);
      this.message = this.bytes;
      this.fragment = new SingleFragment(this.bytes);
    }
    this.bytes.set(message);
    if (this.message.length !== length) this.message = this.bytes.subarray(0, length);
    this.fragment.narrow(0, length);
    this.questionEnd = questionEnd;
    this.servers = servers;
    this.asker = asker;
    this.slot4 = undefined;
    this.slot6 = undefined;
    this.tried = 0;
    if (this.refused.length > 0) this.refused.length = 0;
    this.failure = undefined;
    this.sent = 0;
    this.undeliverable = 0;
    this.nextMs = 0;
  }
}

export class DnsUpstream implements HostDatagramHandler {
  readonly #hostNet: Pick<HostNetPort, 'bindDatagram'>;
  readonly #servers: NameServers;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #exchanges = new Set<Exchange>();
  readonly #spare: Exchange[] = [];
  readonly #families = { 4: new Family(), 6: new Family() } as const;
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

  /** Sends a copy of `message` under another id. `questionEnd`: after its question. */
  ask(message: Uint8Array, questionEnd: number, asker: Asker): void {
    const nowMs = this.#clock.nowMs();
    const exchange = this.#spare.pop() ?? new Exchange();
    exchange.begin(message, questionEnd, this.#servers.inOrder(nowMs), asker);
    setId(exchange.message, this.#random16());
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
    for (const { slots } of [this.#families[4], this.#families[6]])
      for (let i = slots.length - 1; i >= 0; i--) {
        if (slots[i]!.untilMs <= nowMs) this.#retire(slots.splice(i, 1)[0]!);
        else this.#due(slots[i]!.untilMs);
      }
  }

  close(): void {
    for (const exchange of this.#exchanges) this.#end(exchange, undefined);
    for (const { slots } of [this.#families[4], this.#families[6]])
      for (const slot of slots.splice(0)) this.#retire(slot);
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
    const slot = this.#draw(family, nowMs);
    if (!slot) return undefined;
    // The id may be changed for as long as nothing was sent under it.
    while (exchange.sent === 0 && slot.waiting.has(id(exchange.message))) setId(exchange.message, this.#random16());
    if (slot.waiting.has(id(exchange.message))) return undefined;
    slot.waiting.set(id(exchange.message), exchange);
    if (++slot.queries >= SOCKET_QUERIES) {
      const { slots } = this.#families[family];
      slots.splice(slots.indexOf(slot), 1);
      this.#retired.add(slot);
    }
    return slot;
  }

  #draw(family: 4 | 6, nowMs: number): Slot | undefined {
    const of = this.#families[family];
    const { slots, drawn } = of;
    // One that is no longer used has left a gap, which is filled first.
    if (slots.length === SOCKETS && drawn && of.drawnQueries < DRAW_QUERIES && nowMs - of.drawnMs < DRAW_MS) {
      of.drawnQueries++;
      return drawn;
    }
    const slot = (slots.length < SOCKETS && this.#open(family, nowMs)) || slots[this.#random16() % slots.length];
    of.drawn = slot;
    of.drawnQueries = 1;
    of.drawnMs = nowMs;
    return slot;
  }

  #open(family: 4 | 6, nowMs: number): Slot | undefined {
    let socket: HostDatagramSocket;
    try {
      socket = this.#hostNet.bindDatagram(family, this);
    } catch {
      return undefined;
    }
    if (socket.port === 0) {
      socket.close();
      return undefined;
    }
    const slot: Slot = { socket, waiting: new Map(), queries: 0, untilMs: nowMs + SOCKET_MS };
    socket.owner = slot;
    this.#families[family].slots.push(slot);
    this.#due(slot.untilMs);
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
    const server = exchange && serverAt(exchange, address, port);
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

  /**
   * A server cannot be reached: whatever waits for it at this socket is tried elsewhere. Where the host does not say
   * which server it was, the oldest exchange that can be meant is, which does no harm.
   */
  failed(socket: HostDatagramSocket, _code: HostErrorCode, address?: Address, port?: number): void {
    const slot = socket.owner as Slot | undefined;
    if (!slot) return;
    const nowMs = this.#clock.nowMs();
    for (const exchange of [...slot.waiting.values()]) {
      if (exchange.undeliverable + exchange.refused.length >= exchange.sent) continue;
      if (address) {
        const last = exchange.servers[(exchange.tried - 1) % exchange.servers.length];
        if (!last || !isServer(last, address, port ?? 0)) continue;
        this.#servers.failed(last, nowMs);
      }
      exchange.undeliverable++;
      this.#tryNext(exchange, nowMs);
      if (!address) return;
    }
  }

  #end(exchange: Exchange, answer: Uint8Array | undefined): void {
    this.#exchanges.delete(exchange);
    this.#leave(exchange, exchange.slot4);
    this.#leave(exchange, exchange.slot6);
    const { asker } = exchange;
    exchange.asker = undefined;
    asker?.answered(answer, exchange.message);
    exchange.failure = undefined;
    if (this.#spare.length < SPARE && exchange.bytes.length === MESSAGE) this.#spare.push(exchange);
  }

  #leave(exchange: Exchange, slot: Slot | undefined): void {
    if (!slot) return;
    slot.waiting.delete(id(exchange.message));
    this.#closeIfDone(slot);
  }
}

/** The server that an answer from there is by, if the exchange has asked it. */
function serverAt(exchange: Exchange, address: Address, port: number): NameServer | undefined {
  const { servers } = exchange;
  const asked = Math.min(exchange.tried, servers.length);
  for (let i = 0; i < asked; i++) if (isServer(servers[i]!, address, port)) return servers[i];
  return undefined;
}
