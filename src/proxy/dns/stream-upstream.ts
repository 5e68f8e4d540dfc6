/**
 * Asks the host's name servers over TCP, for what the guest asked over TCP. RFC 7766. A connection per query, closed when
 * the answer is there; servers are asked one after another, as over UDP, when one refuses, fails or takes too long.
 *
 * Timers: per exchange a deadline for the server being asked, looked at by `poll`.
 */

import type { Clock, Random } from '../../stack/port.ts';
import { SingleFragment } from '../fragment-list.ts';
import {
  type HostErrorCode,
  type HostNetPort,
  type HostStream,
  type NameServer,
  type StreamHandler,
  WOULD_BLOCK,
} from '../port.ts';
import { answers, HEADER_OCTETS, setId } from './message.ts';
import type { ZoneServers } from './name-servers.ts';
import { type AnswerHandler, isFailure } from './upstream.ts';

/** How long one server may take to connect and answer. */
export const SERVER_MS = 4000;

export class DnsStreamUpstream {
  readonly #hostNet: Pick<HostNetPort, 'connect'>;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #exchanges = new Set<StreamExchange>();
  readonly #idBytes = new Uint8Array(2);

  constructor(hostNet: Pick<HostNetPort, 'connect'>, clock: Clock, random: Random) {
    this.#hostNet = hostNet;
    this.#clock = clock;
    this.#random = random;
  }

  /** Sends `message` to the zone's servers; `questionEnd` as for UDP. */
  ask(message: Uint8Array, questionEnd: number, zone: ZoneServers, done: AnswerHandler): void {
    this.#random.fill(this.#idBytes);
    const framed = new Uint8Array(message.length + 2);
    framed[0] = message.length >> 8;
    framed[1] = message.length;
    framed.set(message, 2);
    setId(framed.subarray(2), (this.#idBytes[0]! << 8) | this.#idBytes[1]!);
    const ended = (exchange: StreamExchange, answer: Uint8Array | undefined): void => {
      this.#exchanges.delete(exchange);
      done(answer, answer && exchange.server);
    };
    const exchange = new StreamExchange(this.#hostNet, zone, this.#clock, framed, questionEnd, ended);
    this.#exchanges.add(exchange);
    exchange.tryNext();
  }

  pollAt(): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const exchange of this.#exchanges) dueMs = Math.min(dueMs, exchange.dueMs);
    return dueMs;
  }

  poll(nowMs: number): void {
    for (const exchange of this.#exchanges) if (exchange.dueMs <= nowMs) exchange.timedOut();
  }

  close(): void {
    for (const exchange of this.#exchanges) exchange.end(undefined);
  }
}

class StreamExchange implements StreamHandler {
  readonly #hostNet: Pick<HostNetPort, 'connect'>;
  readonly #zone: ZoneServers;
  readonly #clock: Clock;
  readonly #framed: Uint8Array;
  readonly #questionEnd: number;
  readonly #ended: (exchange: StreamExchange, answer: Uint8Array | undefined) => void;
  readonly #order: readonly NameServer[];
  #next = 0;
  #stream: HostStream | undefined;
  #sent = 0;
  #answer = new Uint8Array(514);
  #received = 0;
  #failure: Uint8Array | undefined;
  /** Who answered last. */
  server: NameServer | undefined;
  dueMs = Number.POSITIVE_INFINITY;

  constructor(
    hostNet: Pick<HostNetPort, 'connect'>,
    zone: ZoneServers,
    clock: Clock,
    framed: Uint8Array,
    questionEnd: number,
    ended: (exchange: StreamExchange, answer: Uint8Array | undefined) => void,
  ) {
    this.#hostNet = hostNet;
    this.#zone = zone;
    this.#clock = clock;
    this.#framed = framed;
    this.#questionEnd = questionEnd;
    this.#ended = ended;
    this.#order = zone.inOrder('tcp', clock.nowMs()).servers;
  }

  tryNext(): void {
    this.#drop();
    const server = this.#order[this.#next++];
    if (!server) {
      this.end(this.#failure);
      return;
    }
    this.#sent = 0;
    this.#received = 0;
    this.dueMs = this.#clock.nowMs() + SERVER_MS;
    try {
      this.#stream = this.#hostNet.connect(server.address, server.port, this);
    } catch {
      this.tryNext();
    }
  }

  timedOut(): void {
    this.#failed();
  }

  end(answer: Uint8Array | undefined): void {
    this.#drop();
    this.#ended(this, answer);
  }

  #failed(): void {
    this.#zone.silent(this.#order[this.#next - 1]!, this.#clock.nowMs());
    this.tryNext();
  }

  #drop(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    this.dueMs = Number.POSITIVE_INFINITY;
    stream?.abort();
  }

  connected(stream: HostStream): void {
    if (stream === this.#stream) this.writable(stream);
  }

  writable(stream: HostStream): void {
    if (stream !== this.#stream || this.#sent === this.#framed.length) return;
    const rest = new SingleFragment(this.#framed).narrow(this.#sent, this.#framed.length - this.#sent);
    this.#sent += Math.max(0, stream.writev(rest));
  }

  readable(stream: HostStream): void {
    while (stream === this.#stream) {
      const octets = stream.read(this.#answer, this.#received, this.#answer.length - this.#received);
      if (octets === WOULD_BLOCK) return;
      if (octets <= 0) this.#failed();
      else this.#take(octets);
    }
  }

  #take(octets: number): void {
    this.#received += octets;
    if (this.#received < 2) return;
    const length = (this.#answer[0]! << 8) | this.#answer[1]!;
    if (length < HEADER_OCTETS) this.#failed();
    else if (this.#received >= length + 2) this.#complete(this.#answer.subarray(2, length + 2));
    else if (this.#answer.length < length + 2) {
      const larger = new Uint8Array(length + 2);
      larger.set(this.#answer.subarray(0, this.#received));
      this.#answer = larger;
    }
  }

  #complete(answer: Uint8Array): void {
    if (!answers(answer, answer.length, this.#framed.subarray(2), this.#questionEnd)) {
      this.#failed();
      return;
    }
    this.server = this.#order[this.#next - 1]!;
    this.#zone.answered(this.server);
    if (isFailure(answer)) {
      this.#failure = answer.slice();
      this.tryNext();
    } else this.end(answer);
  }

  closed(stream: HostStream, _code?: HostErrorCode): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.#failed();
  }
}
