/**
 * The DNS server on the gateway: a forwarder. RFC 1035, 2181, 2308 (negative answers), 5452 (forged ones), 6891 (EDNS),
 * 7766 (TCP), RFC 5625 (what a forwarder must leave alone).
 *
 * A query is answered by, in this order: a name of this network's own; what was answered before and still holds; the
 * host's name servers, by the way it came (UDP or TCP). To them a query goes as the octets it came in, under a new id, and
 * their answer comes back as it is: codes, authority, EDNS, unknown types. An answer too long for the client is cut to its
 * question with TC set; the client then asks by TCP, and so do we. Without a name server: SERVFAIL.
 *
 * Bounds: queries under way and TCP connections per guest (policy); a repeated query that is under way is not asked twice.
 * Timers: the upstream's tries and idle connections, by `pollAt` and `poll`.
 */

import type { Address, Clock, Endpoints, NetstackPort, Random, TcpConnection, UdpDatagram } from '../stack/port.ts';
import { ADDRESS_OCTETS, equal } from '../stack/wire/address.ts';
import { BuiltInNames, type NameTarget } from './dns/built-in-names.ts';
import { DnsCache, type DnsCacheLimits } from './dns/cache.ts';
import { FORMERR, LARGEST_MESSAGE, Query, SERVFAIL, setId, truncate, writeEmpty } from './dns/message.ts';
import { DNS_PORT, NameServers } from './dns/name-servers.ts';
import { DnsStream, type StreamAnswer } from './dns/stream-service.ts';
import { DnsStreamUpstream } from './dns/stream-upstream.ts';
import { type Asker, DnsUpstream } from './dns/upstream.ts';
import { gather } from './fragment-list.ts';
import type { ResolvedNames } from './policy/resolved-names.ts';
import type { Policy } from './policy.ts';
import type { HostNetPort, HostResolverPort } from './port.ts';

export interface DnsOptions {
  /** Where it listens: the gateway's addresses. */
  readonly addresses: readonly Address[];
  /** Names answered ahead of the host's resolvers, in lower case: see `standardNames`. */
  readonly names: ReadonlyMap<string, NameTarget>;
  readonly cache?: DnsCacheLimits;
}

export interface DnsParts {
  readonly netstack: Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'listenTcp' | 'unlistenTcp' | 'sendUdp'>;
  readonly hostNet: Pick<HostNetPort, 'bindDatagram' | 'connect'>;
  readonly resolvers: HostResolverPort;
  readonly policy: Pick<Policy, 'acquire' | 'release'>;
  /** Told which addresses a guest is given. */
  readonly resolved?: Pick<ResolvedNames, 'heard'>;
  readonly clock: Clock;
  readonly random: Random;
}

/** Waiting queries kept for use again. */
const SPARE = 256;

/** A query from a guest that waits for the host's name servers. Used again. */
class Waiting implements Endpoints, Asker {
  readonly guestAddress: Address = new Uint8Array(ADDRESS_OCTETS);
  readonly peerAddress: Address = new Uint8Array(ADDRESS_OCTETS);
  guestPort = 0;
  readonly peerPort = DNS_PORT;
  ingress = 0;
  id = 0;
  nameHash = 0;
  type = 0;
  readonly #answered: (waiting: Waiting, answer: Uint8Array | undefined, query: Uint8Array) => void;

  constructor(answered: (waiting: Waiting, answer: Uint8Array | undefined, query: Uint8Array) => void) {
    this.#answered = answered;
  }

  begin(datagram: UdpDatagram, query: Query): void {
    this.guestAddress.set(datagram.guestAddress);
    this.peerAddress.set(datagram.peerAddress);
    this.guestPort = datagram.guestPort;
    this.ingress = datagram.ingress;
    this.id = query.id;
    this.nameHash = query.nameHash;
    this.type = query.type;
  }

  /** Where such a query is looked for. */
  get key(): number {
    return (this.guestPort << 16) | this.id;
  }

  repeats(datagram: UdpDatagram, query: Query): boolean {
    return (
      this.nameHash === query.nameHash &&
      this.type === query.type &&
      this.ingress === datagram.ingress &&
      equal(this.guestAddress, datagram.guestAddress)
    );
  }

  answered(answer: Uint8Array | undefined, query: Uint8Array): void {
    this.#answered(this, answer, query);
  }
}

export class DnsForwarder {
  readonly #parts: DnsParts;
  readonly #options: DnsOptions;
  readonly #names: BuiltInNames;
  readonly #servers: NameServers;
  readonly #upstream: DnsUpstream;
  readonly #streamUpstream: DnsStreamUpstream;
  readonly #streams = new Set<DnsStream>();
  /** By guest port and id; of two that share those, the first. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #spare: Waiting[] = [];
  readonly #answered = (waiting: Waiting, answer: Uint8Array | undefined, query: Uint8Array): void =>
    this.#end(waiting, answer, query);
  readonly #seed: number;
  readonly #query = new Query();
  readonly #in = new Uint8Array(LARGEST_MESSAGE);
  readonly #out = new Uint8Array(LARGEST_MESSAGE);
  readonly cache: DnsCache;
  /** Queries, and what became of them. */
  readonly counts = {
    queries: 0,
    'built-in': 0,
    forwarded: 0,
    failed: 0,
    malformed: 0,
    repeated: 0,
    capped: 0,
    'not-sent': 0,
  };

  constructor(parts: DnsParts, options: DnsOptions) {
    const { netstack, hostNet, resolvers, clock, random } = parts;
    this.#parts = parts;
    this.#options = options;
    this.#names = new BuiltInNames(options.names);
    this.cache = new DnsCache(options.cache);
    this.#servers = new NameServers(resolvers);
    this.#upstream = new DnsUpstream(hostNet, this.#servers, clock, random);
    this.#streamUpstream = new DnsStreamUpstream(hostNet, this.#servers, clock, random);
    const seed = new Uint8Array(4);
    random.fill(seed);
    this.#seed = new DataView(seed.buffer).getInt32(0);
    for (const address of options.addresses) {
      netstack.listenUdp(address, DNS_PORT, (datagram) => this.#receive(datagram));
      netstack.listenTcp(address, DNS_PORT, (connection) => this.#accept(connection));
    }
  }

  close(): void {
    for (const address of this.#options.addresses) {
      this.#parts.netstack.unlistenUdp(address, DNS_PORT);
      this.#parts.netstack.unlistenTcp(address, DNS_PORT);
    }
    for (const stream of [...this.#streams]) stream.abort();
    this.#upstream.close();
    this.#streamUpstream.close();
  }

  pollAt(): number {
    let dueMs = Math.min(this.#upstream.pollAt(), this.#streamUpstream.pollAt());
    for (const stream of this.#streams) dueMs = Math.min(dueMs, stream.dueMs);
    return dueMs;
  }

  poll(nowMs: number): void {
    this.#upstream.poll(nowMs);
    this.#streamUpstream.poll(nowMs);
    for (const stream of [...this.#streams]) if (stream.dueMs <= nowMs) stream.idle(nowMs);
  }

  /** Answers at once into `#out`, or -1: the host's name servers are to be asked. 0: it is no query, and gets no answer. */
  #answerHere(bytes: Uint8Array, length: number, guest: Address): number {
    this.counts.queries++;
    const query = this.#query;
    if (!query.parse(bytes, length, this.#seed)) {
      this.counts.malformed++;
      return 0;
    }
    if (!query.sound) {
      this.counts.malformed++;
      return writeEmpty(query, bytes, FORMERR, this.#out);
    }
    const builtIn = this.#names.answer(query, bytes, length, guest, this.#out);
    if (builtIn >= 0) {
      this.counts['built-in']++;
      return builtIn;
    }
    if (this.#servers.refresh()) this.cache.clear();
    return query.cacheable ? this.cache.answer(query, bytes, this.#out, this.#parts.clock.nowMs()) : -1;
  }

  /** Writes what the name servers said (or SERVFAIL) as the answer to `query` into `#out`; its length. */
  #answerFrom(answer: Uint8Array | undefined, query: Query, bytes: Uint8Array): number {
    if (!answer) {
      this.counts.failed++;
      return writeEmpty(query, bytes, SERVFAIL, this.#out);
    }
    this.cache.store(query, answer, answer.length, this.#parts.clock.nowMs());
    this.#out.set(answer);
    setId(this.#out, query.id);
    return answer.length;
  }

  #receive(datagram: UdpDatagram): void {
    const length = gather(datagram.payload, this.#in);
    if (length < 0) return;
    const answered = this.#answerHere(this.#in, length, datagram.guestAddress);
    if (answered > 0) this.#send(datagram, this.#query, answered);
    if (answered >= 0) return;

    // A client that asks again while we still do: one answer is enough.
    const query = this.#query;
    const before = this.#waiting.get((datagram.guestPort << 16) | query.id);
    if (before?.repeats(datagram, query)) {
      this.counts.repeated++;
      return;
    }
    if (!this.#parts.policy.acquire('dns', datagram.ingress)) {
      this.counts.capped++;
      return;
    }
    const waiting = this.#spare.pop() ?? new Waiting(this.#answered);
    waiting.begin(datagram, query);
    if (!before) this.#waiting.set(waiting.key, waiting);
    this.counts.forwarded++;
    this.#upstream.ask(this.#in.subarray(0, length), query.questionEnd, waiting);
  }

  #end(waiting: Waiting, answer: Uint8Array | undefined, message: Uint8Array): void {
    if (this.#waiting.get(waiting.key) === waiting) this.#waiting.delete(waiting.key);
    this.#parts.policy.release('dns', waiting.ingress);
    // The message is the query under another id.
    const query = this.#query;
    query.parse(message, message.length, this.#seed);
    query.id = waiting.id;
    this.#send(waiting, query, this.#answerFrom(answer, query, message));
    if (this.#spare.length < SPARE) this.#spare.push(waiting);
  }

  #send(to: Endpoints, query: Query, length: number): void {
    const octets = length > query.udpLimit ? truncate(query, this.#out) : length;
    this.#parts.resolved?.heard(this.#out, octets, query, to.ingress);
    const sent = this.#parts.netstack.sendUdp(to, this.#out.subarray(0, octets), to);
    if (!sent) this.counts['not-sent']++;
  }

  #accept(connection: TcpConnection): void {
    const { policy, clock } = this.#parts;
    const { ingress } = connection;
    if (!policy.acquire('dns-stream', ingress)) {
      connection.reject('reset');
      return;
    }
    const stream = new DnsStream(
      connection,
      (bytes, from, done) => {
        stream.touch(clock.nowMs());
        this.#streamQuery(bytes, from, done);
      },
      (ended) => {
        this.#streams.delete(ended);
        policy.release('dns-stream', ingress);
      },
      clock.nowMs(),
    );
    this.#streams.add(stream);
    connection.accept(stream);
  }

  #streamQuery(bytes: Uint8Array, connection: TcpConnection, done: StreamAnswer): void {
    const answered = this.#answerHere(bytes, bytes.length, connection.guestAddress);
    const { ingress } = connection;
    if (answered >= 0) {
      if (answered > 0) this.#parts.resolved?.heard(this.#out, answered, this.#query, ingress);
      done(answered === 0 ? undefined : this.#out.subarray(0, answered));
      return;
    }
    const query = Object.assign(new Query(), this.#query);
    if (!this.#parts.policy.acquire('dns', ingress)) {
      this.counts.capped++;
      done(this.#out.subarray(0, writeEmpty(query, bytes, SERVFAIL, this.#out)));
      return;
    }
    this.counts.forwarded++;
    const message = bytes.slice();
    this.#streamUpstream.ask(message, query.questionEnd, (answer) => {
      this.#parts.policy.release('dns', ingress);
      const length = this.#answerFrom(answer, query, message);
      this.#parts.resolved?.heard(this.#out, length, query, ingress);
      done(this.#out.subarray(0, length));
    });
  }
}
