/**
 * Asks the host's name servers over UDP, with failover. RFC 5452: every query goes out with an id of its own, unguessable,
 * from a socket of its own (a port that the host chooses), and only an answer from a server that was asked, with that id
 * and question, counts.
 *
 * An exchange asks the servers in order: the next one when the last has not answered for a second, at once when it is
 * known to be unreachable or answers SERVFAIL, NOTIMP or REFUSED (as resolvers do). Such an answer is what the client gets
 * if none does better. Twice round, then the exchange ends with nothing.
 *
 * Timers: per exchange the next try, looked at by `poll`.
 */

import type { Address, Clock, Random } from '../../stack/port.ts';
import { isIpv4 } from '../../stack/wire/address.ts';
import { SingleFragment } from '../fragment-list.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostErrorCode, HostNetPort, NameServer } from '../port.ts';
import { answers, NOTIMP, REFUSED, responseCode, SERVFAIL, setId } from './message.ts';
import { isServer, type NameServers } from './name-servers.ts';

/** How long a server may take before the next one is asked too, in the first round and in the second. */
export const TRY_MS = [1000, 2500] as const;

/** Given the answer (valid during the call, its id still ours), or undefined: none came. */
export type AnswerHandler = (answer: Uint8Array | undefined) => void;

/** Answers that another server may better. */
export const isFailure = (answer: Uint8Array): boolean => {
  const code = responseCode(answer);
  return code === SERVFAIL || code === NOTIMP || code === REFUSED;
};

interface Exchange {
  readonly message: Uint8Array;
  readonly questionEnd: number;
  readonly servers: readonly NameServer[];
  readonly done: AnswerHandler;
  readonly sockets: (HostDatagramSocket | undefined)[];
  /** Tries made; server `tried % servers.length` is next. */
  tried: number;
  /** Servers that have answered with a failure. */
  readonly refused: Set<NameServer>;
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
  readonly #idBytes = new Uint8Array(2);
  /** No later than the earliest `nextMs`. */
  #dueMs = Number.POSITIVE_INFINITY;
  /** Datagrams that were not the answer to anything asked. */
  mismatched = 0;

  constructor(hostNet: Pick<HostNetPort, 'bindDatagram'>, servers: NameServers, clock: Clock, random: Random) {
    this.#hostNet = hostNet;
    this.#servers = servers;
    this.#clock = clock;
    this.#random = random;
  }

  /** Sends `message` (its memory is ours from now on). `questionEnd`: after its question, 12 when it has none. */
  ask(message: Uint8Array, questionEnd: number, done: AnswerHandler): void {
    this.#random.fill(this.#idBytes);
    setId(message, (this.#idBytes[0]! << 8) | this.#idBytes[1]!);
    const exchange: Exchange = {
      message,
      questionEnd,
      servers: this.#servers.inOrder(this.#clock.nowMs()),
      done,
      sockets: [],
      tried: 0,
      refused: new Set(),
      failure: undefined,
      sent: 0,
      undeliverable: 0,
      nextMs: 0,
    };
    this.#exchanges.add(exchange);
    this.#tryNext(exchange);
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
        if (last && !exchange.refused.has(last)) this.#servers.failed(last, nowMs);
        this.#tryNext(exchange);
      } else this.#dueMs = Math.min(this.#dueMs, exchange.nextMs);
    }
  }

  close(): void {
    for (const exchange of this.#exchanges) this.#end(exchange, undefined);
  }

  #tryNext(exchange: Exchange): void {
    const { servers, refused } = exchange;
    const nowMs = this.#clock.nowMs();
    while (exchange.tried < servers.length * TRY_MS.length && refused.size < servers.length) {
      const server = servers[exchange.tried % servers.length]!;
      const round = Math.floor(exchange.tried / servers.length);
      exchange.tried++;
      if (refused.has(server) || !this.#send(exchange, server)) continue;
      exchange.sent++;
      exchange.nextMs = nowMs + TRY_MS[round]!;
      this.#dueMs = Math.min(this.#dueMs, exchange.nextMs);
      return;
    }
    // Out of tries, but one that is still on its way gets its time.
    const waits = exchange.undeliverable + refused.size < exchange.sent && exchange.nextMs > nowMs;
    if (waits) this.#dueMs = Math.min(this.#dueMs, exchange.nextMs);
    else this.#end(exchange, exchange.failure);
  }

  #send(exchange: Exchange, server: NameServer): boolean {
    const family = isIpv4(server.address) ? 4 : 6;
    try {
      let socket = exchange.sockets[family];
      if (!socket) {
        socket = this.#hostNet.bindDatagram(family, this);
        socket.owner = exchange;
        exchange.sockets[family] = socket;
      }
      return socket.send(new SingleFragment(exchange.message), server.address, server.port);
    } catch {
      // No socket to be had (EMFILE, no such family): as if the server did not answer.
      return false;
    }
  }

  received(socket: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void {
    const exchange = socket.owner as Exchange;
    const asked = exchange.servers.slice(0, exchange.tried);
    const server = asked.find((one) => isServer(one, address, port));
    if (!server || !this.#exchanges.has(exchange) || !this.#isAnswer(payload, exchange)) {
      this.mismatched++;
      return;
    }
    this.#servers.answered(server);
    if (isFailure(payload)) {
      exchange.failure = payload.slice();
      exchange.refused.add(server);
      this.#tryNext(exchange);
    } else this.#end(exchange, payload);
  }

  #isAnswer(payload: Uint8Array, exchange: Exchange): boolean {
    return answers(payload, payload.length, exchange.message, exchange.questionEnd);
  }

  failed(socket: HostDatagramSocket, _code: HostErrorCode): void {
    const exchange = socket.owner as Exchange;
    if (!this.#exchanges.has(exchange)) return;
    exchange.undeliverable++;
    this.#tryNext(exchange);
  }

  #end(exchange: Exchange, answer: Uint8Array | undefined): void {
    this.#exchanges.delete(exchange);
    for (const socket of exchange.sockets) socket?.close();
    exchange.done(answer);
  }
}
