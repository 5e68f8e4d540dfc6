/**
 * The DNS server on the gateway: a forwarder. RFC 1035, 2181, 2308 (negative answers), 5452 (forged ones), 6891 (EDNS),
 * 7766 (TCP), 8020 (nothing below what does not exist), RFC 5625 (what a forwarder must leave alone).
 *
 * A query is answered by, in this order: a name that is answered here (dns/local-names.ts); what was answered before and
 * still holds; the servers of its zone, or else the host's name servers, by the way it came (UDP or TCP). To them a query
 * goes as the octets it came in, under a new id, and their answer comes back as it is: codes, authority, EDNS, unknown
 * types. An answer too long for the client is cut to its question with TC set; the client then asks by TCP, and so do we.
 * Without a name server: SERVFAIL; where the policy denies each of them: REFUSED. A record that is another name's alias is
 * followed, here or to that name's servers.
 *
 * The host's configuration is looked at with every query. When it changes the cache is emptied, and what is under way ends
 * with the servers that it began with; its answers are not kept.
 *
 * Bounds: queries under way and TCP connections per guest (policy); a repeated query that is under way is not asked twice.
 * Timers: the upstream's tries and idle connections, by `pollAt` and `poll`.
 */

import type { Address, Clock, Endpoints, NetstackPort, Random, TcpConnection, UdpDatagram } from '../stack/port.ts';
import { ADDRESS_OCTETS } from '../stack/wire/address.ts';
import { AliasedQuery } from './dns/aliased-query.ts';
import type { NameTarget } from './dns/built-in-names.ts';
import { DnsCache, type DnsCacheLimits } from './dns/cache.ts';
import { followsAlias, type LocalName, LocalNames, writeLocal } from './dns/local-names.ts';
import {
  FORMERR,
  HEADER_OCTETS,
  isQuestion,
  LARGEST_MESSAGE,
  Query,
  REFUSED,
  SERVFAIL,
  setId,
  truncate,
  writeEmpty,
} from './dns/message.ts';
import { DNS_PORT, type DnsTransport, NameServers, type ZoneServers } from './dns/name-servers.ts';
import { type AnswerSource, formatServer, QueryLog, type QueryOutcome, type QueryRecord } from './dns/query-log.ts';
import type { DnsRecord } from './dns/records.ts';
import { DnsStream, type StreamAnswer } from './dns/stream-service.ts';
import { DnsStreamUpstream } from './dns/stream-upstream.ts';
import { type AnswerHandler, DnsUpstream } from './dns/upstream.ts';
import { type Answered, type Asked, Waiting } from './dns/waiting-query.ts';
import { gather } from './fragment-list.ts';
import type { ResolvedNames } from './policy/resolved-names.ts';
import type { Policy } from './policy.ts';
import type { HostNetPort, HostResolverPort, HostsPort, NameServer } from './port.ts';

export interface DnsOptions {
  /** Where it listens: the gateway's addresses. */
  readonly addresses: readonly Address[];
  /** Names answered ahead of the host's resolvers, in lower case: see `standardNames`. */
  readonly names: ReadonlyMap<string, NameTarget>;
  /** What names of the host's loopback in its hosts file lead to. */
  readonly hostAliases?: readonly Address[];
  readonly cache?: DnsCacheLimits;
}

export interface DnsParts {
  readonly netstack: Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'listenTcp' | 'unlistenTcp' | 'sendUdp'>;
  readonly hostNet: Pick<HostNetPort, 'bindDatagram' | 'connect'>;
  readonly resolvers: HostResolverPort;
  /** The host's hosts file; undefined: guests are told nothing of it. */
  readonly hosts?: HostsPort;
  readonly policy: Pick<Policy, 'acquire' | 'release' | 'generation' | 'nameServer'>;
  /** Told which addresses a guest is given. */
  readonly resolved?: Pick<ResolvedNames, 'heard'>;
  readonly clock: Clock;
  readonly random: Random;
}

/** What is in force and how it goes, as `slipway net dns` shows it. */
export interface DnsReport {
  /** By zone; the last is what is for everything else, and has no zone. */
  readonly servers: readonly DnsZoneReport[];
  readonly search: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
  readonly cache: { readonly entries: number; readonly hits: number; readonly misses: number };
  /** The oldest first. */
  readonly queries: readonly QueryRecord[];
}

export interface DnsZoneReport {
  readonly zone?: string;
  readonly servers: readonly { readonly server: string; readonly state: 'used' | 'silent' | 'denied' }[];
}

interface CountedFor {
  readonly countedFor?: number;
}

/** Waiting queries kept for use again. */
const SPARE = 256;
/** Aliases of the user's that are followed from one to the next. */
const MAX_ALIASES = 8;

export class DnsForwarder {
  readonly #parts: DnsParts;
  readonly #options: DnsOptions;
  readonly #names: LocalNames;
  readonly #servers: NameServers;
  readonly #upstream: DnsUpstream;
  readonly #streamUpstream: DnsStreamUpstream;
  readonly #streams = new Set<DnsStream>();
  /** By guest port and id; of two that share those, the first. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #spare: Waiting[] = [];
  readonly #answered: Answered = (waiting, answer, query, server) => this.#end(waiting, answer, query, server);
  readonly #seed: number;
  /** Whose servers are to be asked for the query at hand, and for what where it is an alias. */
  #zone: ZoneServers;
  #aliased: AliasedQuery | undefined;
  readonly #query = new Query();
  readonly #in = new Uint8Array(LARGEST_MESSAGE);
  readonly #out = new Uint8Array(LARGEST_MESSAGE);
  readonly cache: DnsCache;
  readonly #log = new QueryLog();
  /** What is noted of the query at hand, once it is answered. */
  readonly #outcome: { -readonly [K in keyof QueryOutcome]-?: QueryOutcome[K] } = {
    guest: new Uint8Array(ADDRESS_OCTETS),
    ingress: 0,
    protocol: 'udp',
    source: 'none',
    server: undefined,
    zone: undefined,
    askedMs: 0,
  };
  /** Queries, and what became of them. */
  readonly counts = {
    queries: 0,
    'built-in': 0,
    forwarded: 0,
    cached: 0,
    failed: 0,
    denied: 0,
    malformed: 0,
    repeated: 0,
    capped: 0,
    'not-sent': 0,
  };

  constructor(parts: DnsParts, options: DnsOptions) {
    const { netstack, hostNet, resolvers, clock, random } = parts;
    this.#parts = parts;
    this.#options = options;
    this.#names = new LocalNames(options.names, options.hostAliases ?? [], parts.hosts);
    this.cache = new DnsCache(options.cache);
    this.#servers = new NameServers(resolvers, parts.policy);
    this.#zone = this.#servers.of(new Uint8Array(HEADER_OCTETS + 1), HEADER_OCTETS + 1);
    this.#upstream = new DnsUpstream(hostNet, clock, random);
    this.#streamUpstream = new DnsStreamUpstream(hostNet, clock, random);
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

  /** Answers with these as well from now on. */
  useRecords(records: readonly DnsRecord[]): void {
    this.#names.useRecords(records);
    this.cache.clear();
  }

  /** `epochMs`: when the clock was 0; `after`: queries with a number above that. */
  report(epochMs: number, after = 0): DnsReport {
    if (this.#servers.refresh()) this.cache.clear();
    const { size: entries, hits, misses } = this.cache;
    return {
      servers: this.#servers.all().map((of) => ({
        ...(of.zone !== undefined && { zone: of.zone }),
        servers: [
          ...of.servers.map(
            (one) => ({ server: formatServer(one), state: of.isShunned(one) ? 'silent' : 'used' }) as const,
          ),
          ...of.denied.map((one) => ({ server: formatServer(one), state: 'denied' }) as const),
        ],
      })),
      search: this.#parts.resolvers.current().search,
      counts: { ...this.counts },
      cache: { entries, hits, misses },
      queries: this.#log.list(epochMs, after),
    };
  }

  /**
   * Answers at once into `#out`: its length; 0 when it is no query and gets no answer; -1: the servers of `#zone` are to be
   * asked; -2: about what `#aliased` says.
   */
  #answerHere(bytes: Uint8Array, length: number, guest: Address, ingress: number, protocol: DnsTransport): number {
    this.counts.queries++;
    const query = this.#query;
    const nowMs = this.#parts.clock.nowMs();
    const outcome = this.#outcome;
    outcome.guest.set(guest);
    outcome.ingress = ingress;
    outcome.protocol = protocol;
    outcome.askedMs = nowMs;
    outcome.zone = undefined;
    outcome.server = undefined;
    if (!query.parse(bytes, length, this.#seed)) {
      this.counts.malformed++;
      return 0;
    }
    if (!query.sound) {
      this.counts.malformed++;
      return this.#noted(writeEmpty(query, bytes, FORMERR, this.#out), bytes, 'none');
    }
    const local = isQuestion(bytes) ? this.#names.asked(query, bytes, guest) : undefined;
    if (local) return this.#answerLocal(local, bytes, length, guest);
    const known = this.#answerKnown(query, bytes);
    return known < 0 ? -1 : this.#noted(known, bytes, outcome.source);
  }

  #answerLocal(local: LocalName, bytes: Uint8Array, length: number, guest: Address): number {
    const query = this.#query;
    const aliases: string[] = [];
    let found: LocalName | undefined = local;
    while (found?.alias !== undefined && followsAlias(query) && aliases.length < MAX_ALIASES) {
      aliases.push(found.alias);
      found = this.#names.find(found.alias, guest);
    }
    this.counts['built-in']++;
    if (found) return this.#noted(writeLocal(query, bytes, length, this.#out, found, aliases), bytes, local.source);
    const message = bytes.slice(0, length);
    const aliased = new AliasedQuery(message, query, aliases, this.#seed);
    const known = this.#answerKnown(aliased.query, aliased.message);
    if (known < 0) {
      this.#aliased = aliased;
      return -2;
    }
    const answer = aliased.answer(this.#out.subarray(0, known));
    if (!answer) return this.#noted(writeEmpty(query, bytes, SERVFAIL, this.#out), bytes, 'none');
    this.#out.set(answer);
    return this.#noted(answer.length, bytes, local.source);
  }

  /** From the cache, or that there is nobody who may be asked; -1: `#zone` is. */
  #answerKnown(query: Query, bytes: Uint8Array): number {
    if (this.#servers.refresh()) this.cache.clear();
    const zone = (this.#zone = this.#servers.of(bytes, query.nameEnd));
    this.#outcome.zone = zone.zone;
    if (query.cacheable) {
      const known = this.cache.answer(query, bytes, this.#out, this.#outcome.askedMs, zone.apex.length);
      if (known >= 0) {
        this.#outcome.source = 'cache';
        this.counts.cached++;
        return known;
      }
    }
    if (zone.servers.length > 0 || zone.denied.length === 0) return -1;
    this.#outcome.source = 'none';
    this.counts.denied++;
    return writeEmpty(query, bytes, REFUSED, this.#out);
  }

  /** Notes how the query at hand was answered; `length`. */
  #noted(length: number, bytes: Uint8Array, source: AnswerSource): number {
    const outcome = this.#outcome;
    outcome.source = source;
    this.#log.note(this.#query, bytes, this.#out, outcome, outcome.askedMs);
    return length;
  }

  /** Writes what the name servers said (or SERVFAIL) as the answer to `query` into `#out`; its length. */
  #answerFrom(answer: Uint8Array | undefined, query: Query, bytes: Uint8Array, asked: Asked): number {
    const nowMs = this.#parts.clock.nowMs();
    let { length = 0 } = answer ?? {};
    if (answer) {
      if (asked.generation === this.#servers.generation) this.cache.store(query, answer, length, nowMs);
      this.#out.set(answer);
      setId(this.#out, query.id);
    } else {
      this.counts.failed++;
      length = writeEmpty(query, bytes, SERVFAIL, this.#out);
    }
    this.#log.note(query, bytes, this.#out, asked, nowMs);
    return length;
  }

  #receive(datagram: UdpDatagram): void {
    const length = gather(datagram.payload, this.#in);
    if (length < 0) return;
    const { guestAddress, ingress } = datagram;
    const answered = this.#answerHere(this.#in, length, guestAddress, ingress, 'udp');
    if (answered > 0) this.#send(datagram, this.#query, answered);
    if (answered >= 0) return;

    // A client that asks again while we still do: one answer is enough, unless others are to be asked by now.
    const query = this.#query;
    const { generation } = this.#servers;
    const before = this.#waiting.get((datagram.guestPort << 16) | query.id);
    const current = before?.generation === generation;
    if (current && before.repeats(datagram, query)) {
      this.counts.repeated++;
      return;
    }
    if (!this.#parts.policy.acquire('dns', ingress)) {
      this.counts.capped++;
      return;
    }
    const waiting = this.#spare.pop() ?? new Waiting(this.#answered);
    waiting.begin(datagram, query, this.#zone.zone, generation, this.#parts.clock.nowMs());
    if (!current) this.#waiting.set(waiting.key, waiting);
    this.counts.forwarded++;
    const message = this.#in.subarray(0, length);
    if (answered === -1) this.#upstream.ask(message, query.questionEnd, this.#zone, waiting);
    else this.#askAliased('udp', (answer, server, original) => waiting.answered(answer, original, server));
  }

  #end(waiting: Waiting, answer: Uint8Array | undefined, message: Uint8Array, server: NameServer | undefined): void {
    if (this.#waiting.get(waiting.key) === waiting) this.#waiting.delete(waiting.key);
    this.#parts.policy.release('dns', waiting.ingress);
    // The message is the query under another id.
    const query = this.#query;
    query.parse(message, message.length, this.#seed);
    query.id = waiting.id;
    waiting.source = answer ? 'server' : 'none';
    waiting.server = server;
    this.#send(waiting, query, this.#answerFrom(answer, query, message, waiting));
    if (this.#spare.length < SPARE) this.#spare.push(waiting);
  }

  /** Asks about what the query at hand is an alias of; the answer is to the query itself, which is given back with it. */
  #askAliased(
    protocol: DnsTransport,
    done: (answer: Uint8Array | undefined, server: NameServer | undefined, original: Uint8Array) => void,
  ): void {
    const aliased = this.#aliased!;
    const { generation } = this.#servers;
    const { message, query } = aliased;
    this.#askServers(message, query, protocol, (said, server) => {
      if (said && generation === this.#servers.generation)
        this.cache.store(query, said, said.length, this.#parts.clock.nowMs());
      done(said && aliased.answer(said), server, aliased.original);
    });
  }

  /** Asks the servers of `#zone`. */
  #askServers(message: Uint8Array, { questionEnd }: Query, protocol: DnsTransport, done: AnswerHandler): void {
    if (protocol === 'tcp') this.#streamUpstream.ask(message, questionEnd, this.#zone, done);
    else
      this.#upstream.ask(message, questionEnd, this.#zone, {
        answered: (answer, _query, server) => done(answer, server),
      });
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
        this.ask(bytes, from, 'tcp', done);
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

  /**
   * Answers a query, at once or later, once. Its answer's memory is ours again on return. `countedFor`: a guest that does
   * not hear of it, but whose query it is as far as bounds go.
   */
  ask(
    bytes: Uint8Array,
    { guestAddress, ingress, countedFor = ingress }: Pick<TcpConnection, 'guestAddress' | 'ingress'> & CountedFor,
    protocol: DnsTransport,
    done: StreamAnswer,
  ): void {
    const answered = this.#answerHere(bytes, bytes.length, guestAddress, ingress, protocol);
    if (answered >= 0) {
      if (answered > 0) this.#parts.resolved?.heard(this.#out, answered, this.#query, ingress);
      done(answered === 0 ? undefined : this.#out.subarray(0, answered));
      return;
    }
    const query = Object.assign(new Query(), this.#query);
    if (!this.#parts.policy.acquire('dns', countedFor)) {
      this.counts.capped++;
      done(this.#out.subarray(0, writeEmpty(query, bytes, SERVFAIL, this.#out)));
      return;
    }
    this.counts.forwarded++;
    const message = bytes.slice();
    const asked = {
      ...{ guest: guestAddress.slice(), ingress, protocol, zone: this.#zone.zone },
      ...{ askedMs: this.#parts.clock.nowMs(), generation: this.#servers.generation },
    };
    const finish: AnswerHandler = (answer, server) => {
      this.#parts.policy.release('dns', countedFor);
      const source = answer ? 'server' : 'none';
      const length = this.#answerFrom(answer, query, message, { ...asked, source, server });
      this.#parts.resolved?.heard(this.#out, length, query, ingress);
      done(this.#out.subarray(0, length));
    };
    if (answered === -1) this.#askServers(message, query, protocol, finish);
    else this.#askAliased(protocol, finish);
  }
}
