/**
 * Hostile names, by a seed: guests and name servers that send octets at random, messages with octets changed, pointers in
 * circles and counts that lie, by UDP and by TCP, to a DNS forwarder with zones, records and a hosts file, over fakes. A
 * round is one forwarder and some thousand messages. Nothing may throw; a name of a zone's goes to that zone's servers
 * alone; an answer has the id of the query; and at the end nothing is left.
 */

import { HEADER_OCTETS, skipName } from '../../src/proxy/dns/message.ts';
import { NameLookup } from '../../src/proxy/dns/name-lookup.ts';
import { parseDnsRecords } from '../../src/proxy/dns/records.ts';
import { parseDnsZones } from '../../src/proxy/dns/zones.ts';
import { setUp } from '../proxy/dns-world.ts';
import { address, type FakeConnection } from '../proxy/gateway-fakes.ts';
import { seededRandom } from '../stack/world.ts';

const SERVERS = ['10.9.9.1', '10.9.9.2'] as const;
const ZONE_SERVERS = ['10.8.0.53', '10.8.1.53'] as const;
const NAMES = [
  ...['www.example.org', 'a.b.c.example.org', 'git.corp', 'x.eu.corp', 'corp', 'db.test', 'x.dev.test', 'www.test'],
  ...['host.docker.internal', 'vm.docker.internal', 'nas.local', 'localhost', '1.65.168.192.in-addr.arpa', ''],
];

export interface NamesResult {
  readonly messages: number;
  readonly answers: number;
}

export class HostileNames {
  readonly #random: () => number;
  readonly #world = setUp(
    [...SERVERS],
    { cache: { entries: 200, octets: 20_000 } },
    { dns: 40 },
    'allow *.example.org; deny 10.9.9.2',
  );
  readonly #connections: FakeConnection[] = [];
  #messages = 0;
  #answers = 0;

  constructor(seed: number) {
    // Neighbouring seeds would begin alike.
    this.#random = seededRandom(Math.imul(seed + 1, 0x9e37_79b1));
    const { dns, resolvers, useHosts } = this.#world;
    useHosts('127.0.0.1 localhost app.local\n10.1.2.3 nas.local\nfd00::3 nas.local\n');
    dns.useRecords(
      parseDnsRecords('db.test=10.0.0.5,fd00::5; *.dev.test=192.168.65.2; www.test=www.example.org; c.test=x.corp'),
    );
    resolvers.config = {
      ...resolvers.config,
      zones: parseDnsZones(`corp=${ZONE_SERVERS[0]}; eu.corp=${ZONE_SERVERS[1]}`),
    };
  }

  /** Throws where something is wrong. */
  run(messages: number): NamesResult {
    const { dns, clock, resolvers } = this.#world;
    const lookup = new NameLookup(dns, address('192.168.65.1'), () => ['corp', 'example.org']);
    while (this.#messages < messages) {
      const kind = this.#random();
      if (kind < 0.6) this.#ask();
      else if (kind < 0.7) this.#push();
      else if (kind < 0.72) void lookup.addressesOf(this.#pick(['intranet', 'www.example.org', 'git.corp', '..', '']));
      this.#look();
      for (let i = this.#below(3); i > 0; i--) this.#answer();
      clock.now += this.#pick([0, 0, 1, 20, 700, 5000]);
      if (this.#chance(0.3)) dns.poll(clock.now);
      if (this.#chance(0.002)) resolvers.config = { ...resolvers.config };
      if (this.#world.dns.cache.size > 200) throw new Error(`${dns.cache.size} answers in the cache`);
    }
    this.#settle();
    return { messages: this.#messages, answers: this.#answers };
  }

  // Chance.

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }

  #bytes(most: number): number[] {
    return Array.from({ length: this.#below(most + 1) }, () => this.#below(256));
  }

  // Messages.

  #name(): number[] {
    if (this.#chance(0.1)) return this.#bytes(20);
    if (this.#chance(0.05)) return [0xc0 | this.#below(64), this.#below(256)];
    const labels = this.#pick(NAMES)
      .split('.')
      .filter((label) => label !== '');
    if (this.#chance(0.2)) labels.unshift(this.#pick(['a', 'deeper', 'x'.repeat(63), '\x00.\\']));
    const name = labels.flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]);
    if (this.#chance(0.2))
      for (let i = 0; i < name.length; i++) if (name[i]! > 0x60 && this.#chance(0.5)) name[i]! -= 32;
    return [...name, 0];
  }

  #type(): number[] {
    return [0, this.#pick([1, 1, 28, 28, 5, 6, 12, 15, 16, 33, 41, 65, 255, 0, this.#below(256)])];
  }

  #query(): number[] {
    if (this.#chance(0.05)) return this.#bytes(80);
    const edns = this.#chance(0.3);
    const options = this.#chance(0.2) ? this.#bytes(20) : [];
    const flags = [
      this.#pick([1, 1, 1, 0, 0x28, 0x80, this.#below(256)]),
      this.#pick([0, 0, 0x10, 0x20, this.#below(256)]),
    ];
    const query = [
      ...[this.#below(256), this.#below(256), ...flags, 0, this.#pick([1, 1, 1, 1, 1, 0, 2])],
      ...[0, this.#pick([0, 0, 0, 1]), 0, 0, 0, edns ? 1 : this.#pick([0, 0, 0, 3])],
      ...[...this.#name(), ...this.#type(), 0, this.#pick([1, 1, 1, 3, 255])],
    ];
    if (edns)
      query.push(
        0,
        0,
        41,
        this.#below(8),
        this.#below(256),
        0,
        this.#pick([0, 0, 1]),
        this.#pick([0, 0x80]),
        0,
        0,
        options.length,
        ...options,
      );
    return this.#changed(query);
  }

  #changed(message: number[]): number[] {
    if (this.#chance(0.7)) return message;
    const copy = this.#chance(0.2) ? message.slice(0, this.#below(message.length + 1)) : [...message];
    for (let i = this.#below(4); i > 0 && copy.length > 0; i--) copy[this.#below(copy.length)] = this.#below(256);
    return copy;
  }

  /** An answer to what a server was asked: mostly with its id and question, then records of any sort. */
  #reply(asked: Uint8Array): Uint8Array {
    const end = skipName(asked, HEADER_OCTETS, asked.length) + 4;
    const reply = this.#chance(0.95) && end > 16 ? [...asked.subarray(0, end)] : this.#query();
    const counts = [this.#below(4), this.#below(3), this.#below(2)];
    for (let i = 0; i < 3; i++) [reply[6 + 2 * i], reply[7 + 2 * i]] = [0, counts[i]!];
    reply[2] = (reply[2] ?? 0) | 0x80;
    if (this.#chance(0.1)) reply[2] |= 2;
    reply[3] = 0x80 | this.#pick([0, 0, 0, 3, 3, 2, 5, this.#below(16)]);
    const pointer = (): number[] => [0xc0, this.#pick([12, 12, 14, 0, this.#below(256)])];
    for (let i = counts[0]! + counts[1]! + counts[2]!; i > 0; i--) {
      const owner = this.#chance(0.6) ? pointer() : this.#name();
      const [high, type] = this.#pick([this.#type(), [0, 1], [0, 28], [0, 6]]) as [number, number];
      const soa = [
        ...(this.#chance(0.5) ? pointer() : this.#name()),
        ...pointer(),
        ...Array.from({ length: 20 }, () => this.#below(3)),
      ];
      const data = type === 1 ? [10, 0, 0, this.#below(256)] : type === 6 ? soa : this.#bytes(20);
      const ttl = [this.#pick([0, 0, 0, 255]), 0, 0, this.#below(256)];
      const length = this.#chance(0.95) ? data.length : this.#below(65_536);
      reply.push(...owner, high, type, 0, 1, ...ttl, length >> 8, length & 255, ...data);
    }
    if (this.#chance(0.01)) reply.push(...new Array<number>(2000).fill(0));
    return Uint8Array.from(this.#changed(reply));
  }

  // Guests.

  #ask(): void {
    const bytes = Uint8Array.from(this.#query());
    this.#messages++;
    const guestPort = 1000 + this.#below(50);
    for (const answer of this.#world.send(bytes, { guestPort, ingress: this.#below(3) })) {
      this.#answers++;
      if (answer.length < HEADER_OCTETS || answer[0] !== bytes[0] || answer[1] !== bytes[1] || !(answer[2]! & 0x80))
        throw new Error('an answer that is none');
    }
  }

  #push(): void {
    if (this.#connections.length < 8 || this.#chance(0.1)) {
      const opened = this.#world.netstack.open('192.168.65.1', 53, this.#below(3));
      if (opened.handler) this.#connections.push(opened);
    }
    const connection = this.#pick(this.#connections);
    if (connection.aborted) this.#connections.splice(this.#connections.indexOf(connection), 1);
    else {
      const query = this.#query();
      this.#messages++;
      const length = this.#chance(0.95) ? query.length : this.#below(65_536);
      connection.push(Uint8Array.from([length >> 8, length & 255, ...query]), 1 + this.#below(100));
      if (this.#chance(0.1)) connection.handler?.receivedEnd(connection);
      if (connection.output.length > 100_000) connection.output.length = 0;
    }
  }

  // Servers.

  /** Nobody is asked for what is not theirs to know. */
  #look(): void {
    const { sockets, streams, lastSender } = this.#world.hostNet;
    prune(sockets, ({ closed }) => closed);
    prune(streams, ({ aborted }) => aborted);
    for (const { payload, server } of lastSender?.sent.slice(-2) ?? []) check(payload, server.split('#')[0]!);
    for (const { written, remoteAddress } of streams.slice(-2))
      if (written.length > 14) check(Uint8Array.from(written.slice(2)), remoteAddress);
  }

  #answer(): void {
    const { hostNet } = this.#world;
    const socket = this.#pick(hostNet.sockets);
    const what = this.#random();
    if (socket && socket.sent.length > 0 && what < 0.8) {
      const { payload, server } = this.#pick(socket.sent);
      if (socket.sent.length > 30) socket.sent.splice(0, 15);
      const [from] = server.split('#') as [string];
      this.#messages++;
      if (this.#chance(0.1)) socket.handler.failed(socket, 'ECONNREFUSED', address(from), 53);
      else if (this.#chance(0.05)) socket.handler.failed(socket, 'EMSGSIZE');
      else socket.answer(this.#reply(payload), this.#chance(0.95) ? from : this.#pick([...SERVERS, ...ZONE_SERVERS]));
      return;
    }
    const stream = this.#pick(hostNet.streams);
    if (!stream || stream.aborted) return;
    if (stream.written.length === 0) stream.handler.connected(stream);
    const reply = stream.written.length > 14 ? this.#reply(Uint8Array.from(stream.written.slice(2))) : this.#bytes(40);
    this.#messages++;
    const length = this.#chance(0.9) ? reply.length : this.#below(65_536);
    stream.incoming.push(length >> 8, length & 255, ...reply);
    stream.over = this.#chance(0.2);
    stream.handler.readable(stream);
  }

  #settle(): void {
    const { dns, clock, policy, hostNet } = this.#world;
    for (let i = 0; i < 400; i++) {
      clock.now += 1000;
      dns.poll(clock.now);
    }
    for (const connection of this.#connections) connection.abort();
    if (dns.pollAt() !== Number.POSITIVE_INFINITY) throw new Error('it still wants to be called');
    for (const ingress of [-1, 0, 1, 2])
      for (const what of ['dns', 'dns-stream'] as const)
        if (policy.held(what, ingress) !== 0)
          throw new Error(`${what} of ${ingress}: ${policy.held(what, ingress)} left`);
    if (hostNet.open > 0) throw new Error(`${hostNet.open} sockets left`);
    dns.close();
  }
}

/** Takes away those that are over, once there are many. */
function prune<T>(all: T[], isOver: (one: T) => boolean): void {
  if (all.length > 64) all.splice(0, all.length, ...all.filter((one) => !isOver(one)));
}

function check(query: Uint8Array, server: string): void {
  const labels: string[] = [];
  for (let i = HEADER_OCTETS; i < query.length && query[i] !== 0; i += 1 + query[i]!)
    labels.push(String.fromCharCode(...query.subarray(i + 1, i + 1 + query[i]!)).toLowerCase());
  const [last, before] = [labels.at(-1), labels.at(-2)];
  const expected = last !== 'corp' ? SERVERS[0] : before === 'eu' ? ZONE_SERVERS[1] : ZONE_SERVERS[0];
  if (server !== expected) throw new Error(`'${labels.join('.')}' was asked of ${server}`);
}
