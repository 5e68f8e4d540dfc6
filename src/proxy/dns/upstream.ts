/**
 * Asks the host's name servers over UDP, with failover. RFC 5452: every query goes out with an unguessable id, from one of
 * a few sockets chosen at random, whose ports the host chose and which are replaced before long; only an answer from a
 * server that was asked, at that socket, with that id and question, counts. (A socket for every query would guess-proof
 * the port still a little better, and cost more than all the rest of a query.) Queries of one moment share the socket
 * that was drawn for the first, so that they leave and their answers come by one system call; nobody off the path can
 * tell, and each one's port is as hard to guess as before.
 *
 * An exchange goes by rounds: the first server; when it has not answered for half a second, all the others at once; then
 * twice all of them. A round is over as well when everybody that it asked is known to be unreachable or has answered
 * SERVFAIL, NOTIMP or REFUSED (as resolvers do). Such an answer is what the client gets if none does better. Whoever was
 * asked may answer for as long as the exchange lasts. Nobody but the servers that it began with is asked, whatever the
 * host's configuration becomes meanwhile.
 *
 * Timers: per exchange the next try; sockets that have long been idle are closed. Both are looked at by `poll`.
 * Exchanges are used again, with their memory.
 */

import type { Address, Clock, Random } from '../../stack/port.ts';
import { isIpv4 } from '../../stack/wire/address.ts';
import { DOUBLE_ZERO } from '../../stack/wire/double.ts';
import { SingleFragment } from '../fragment-list.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostErrorCode, HostNetPort, NameServer } from '../port.ts';
import { answers, id, NOTIMP, REFUSED, responseCode, SERVFAIL, setId } from './message.ts';
import { isServer, type Order, type ZoneServers } from './name-servers.ts';

/** How long each round waits for answers; the first, where there is nobody else to ask, as long as the second. */
export const ROUND_MS = [500, 1000, 1500, 1500] as const;
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

/** Given the answer (valid during the call, its id still ours) and who gave it, or undefined: none came. */
export type AnswerHandler = (answer: Uint8Array | undefined, server: NameServer | undefined) => void;

/** Who asks: told once, with the query as it was asked; both valid during the call. The answer's id is still ours. */
export interface Asker {
  answered(answer: Uint8Array | undefined, query: Uint8Array, server: NameServer | undefined): void;
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
  drawnMs = DOUBLE_ZERO;
}

class Exchange {
  /** The query under an id of ours; `message` is the part of `bytes` that it fills. */
  bytes = new Uint8Array(MESSAGE);
  message: Uint8Array = this.bytes;
  fragment = new SingleFragment(this.bytes);
  questionEnd = 0;
  zone: ZoneServers | undefined;
  servers: readonly NameServer[] = [];
  atOnce = 1;
  asker: Asker | undefined;
  slot4: Slot | undefined;
  slot6: Slot | undefined;
  /** The next round, and how many of the servers have been asked. */
  round = 0;
  asked = 0;
  /** Servers that have answered with a failure; the last such answer, and whose it is. */
  readonly refused: NameServer[] = [];
  failure: Uint8Array | undefined;
  failedBy: NameServer | undefined;
  /** How many of this round's may still be answered. */
  open = 0;
  nextMs = DOUBLE_ZERO;

  begin(message: Uint8Array, questionEnd: number, zone: ZoneServers, order: Order, asker: Asker): void {
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
    this.zone = zone;
    this.servers = order.servers;
    this.atOnce = order.atOnce;
    this.asker = asker;
    this.slot4 = undefined;
    this.slot6 = undefined;
    this.round = 0;
    this.asked = 0;
    if (this.refused.length > 0) this.refused.length = 0;
    this.failure = undefined;
    this.failedBy = undefined;
    this.open = 0;
    this.nextMs = 0;
  }
}

export class DnsUpstream implements HostDatagramHandler {
  readonly #hostNet: Pick<HostNetPort, 'bindDatagram'>;
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

  constructor(hostNet: Pick<HostNetPort, 'bindDatagram'>, clock: Clock, random: Random) {
    this.#hostNet = hostNet;
    this.#clock = clock;
    this.#random = random;
  }

  /** Sends a copy of `message` under another id to the zone's servers. `questionEnd`: after its question. */
  ask(message: Uint8Array, questionEnd: number, zone: ZoneServers, asker: Asker): void {
    const nowMs = this.#clock.nowMs();
    const exchange = this.#spare.pop() ?? new Exchange();
    exchange.begin(message, questionEnd, zone, zone.inOrder('udp', nowMs), asker);
    setId(exchange.message, this.#random16());
    this.#exchanges.add(exchange);
    this.#nextRound(exchange, nowMs);
  }

  pollAt(): number {
    return this.#dueMs;
  }

  poll(nowMs: number): void {
    if (nowMs < this.#dueMs) return;
    this.#dueMs = Number.POSITIVE_INFINITY;
    for (const exchange of this.#exchanges) {
      if (exchange.nextMs <= nowMs) {
        this.#noteSilence(exchange, nowMs);
        this.#nextRound(exchange, nowMs);
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

  /** Whoever this round was the first to ask has not answered: once per exchange. */
  #noteSilence({ round, servers, atOnce, asked, refused, zone }: Exchange, nowMs: number): void {
    if (round > 2) return;
    for (let i = round === 1 ? 0 : atOnce; i < asked; i++)
      if (!refused.includes(servers[i]!)) zone?.silent(servers[i]!, nowMs);
  }

  #nextRound(exchange: Exchange, nowMs: number): void {
    const { servers, refused, atOnce } = exchange;
    while (exchange.round < ROUND_MS.length && refused.length < servers.length) {
      const round = exchange.round++;
      const first = round === 1 ? atOnce : 0;
      const end = round === 0 ? Math.min(atOnce, servers.length) : servers.length;
      exchange.open = 0;
      exchange.asked = Math.max(exchange.asked, end);
      for (let i = first; i < end; i++)
        if (!refused.includes(servers[i]!) && this.#send(exchange, servers[i]!, nowMs)) exchange.open++;
      if (exchange.open === 0) continue;
      exchange.nextMs = nowMs + ROUND_MS[round === 0 && end === servers.length ? 1 : round]!;
      this.#due(exchange.nextMs);
      return;
    }
    this.#end(exchange, exchange.failure, exchange.failedBy);
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
    // The id may be changed for as long as nothing waits under it.
    while (!exchange.slot4 && !exchange.slot6 && slot.waiting.has(id(exchange.message)))
      setId(exchange.message, this.#random16());
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
    exchange.zone?.answered(server);
    if (isFailure(payload)) {
      // Again by one that was asked twice: nothing new.
      if (exchange.refused.includes(server)) return;
      exchange.failure = payload.slice();
      exchange.failedBy = server;
      exchange.refused.push(server);
      this.#close(exchange);
    } else this.#end(exchange, payload, server);
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
      if (exchange.open <= 0) continue;
      if (address) {
        const server = serverAt(exchange, address, port ?? 0);
        if (!server || exchange.refused.includes(server)) continue;
        exchange.zone?.unreachable(server, nowMs);
      }
      this.#close(exchange);
      if (!address) return;
    }
  }

  /** One that this round asked will not answer, or not better. */
  #close(exchange: Exchange): void {
    if (--exchange.open <= 0) this.#nextRound(exchange, this.#clock.nowMs());
  }

  #end(exchange: Exchange, answer: Uint8Array | undefined, server?: NameServer): void {
    this.#exchanges.delete(exchange);
    this.#leave(exchange, exchange.slot4);
    this.#leave(exchange, exchange.slot6);
    const { asker } = exchange;
    exchange.asker = undefined;
    asker?.answered(answer, exchange.message, server);
    exchange.failure = undefined;
    exchange.zone = undefined;
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
  const { servers, asked } = exchange;
  for (let i = 0; i < asked; i++) if (isServer(servers[i]!, address, port)) return servers[i];
  return undefined;
}
