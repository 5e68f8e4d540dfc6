/**
 * Names that are answered here, ahead of any server, in this order: the network's own (built-in-names.ts), the user's
 * records, the host's hosts file, and localhost, which is whoever asks (RFC 6761 6.3). A name that has addresses of one
 * family only has "no such data" for the other and for every other type, never NXDOMAIN: musl and others would give up the
 * name altogether (RFC 2308 2.2). Addresses of exact names resolve back (PTR).
 *
 * Answers are made by dns-packet, which throws at what it cannot read: then the query is malformed.
 */

import { type Answer, decode, encode } from 'dns-packet';
import { type Address, formatAddress, isIpv4, parseAddress } from '../../stack/wire/address.ts';
import type { HostsPort, HostsTable } from '../port.ts';
import type { NameTarget } from './built-in-names.ts';
import { hostsForGuests } from './hosts.ts';
import { CLASS_IN, FORMERR, HEADER_OCTETS, nameText, type Query, writeEmpty } from './message.ts';
import type { DnsRecord } from './records.ts';
import { isWithin, wireName } from './zones.ts';

/** Where an answer is from that no server gave. */
export type LocalSource = 'built-in' | 'record' | 'hosts';

export interface LocalName {
  readonly source: LocalSource;
  readonly addresses: readonly Address[];
  /** Another name that it stands for. */
  readonly alias?: string | undefined;
  /** The name of an address that is looked up backwards. */
  readonly pointsTo?: string | undefined;
}

const TTL_SECONDS = 30;
const RECURSION_DESIRED = 1 << 8;
const RECURSION_AVAILABLE = 1 << 7;
export const AUTHORITATIVE = 1 << 10;
const CHECKING_DISABLED = 1 << 4;
const TYPE_CNAME = 5;
const TYPE_ANY = 255;

const loopback = [parseAddress('127.0.0.1')!, parseAddress('::1')!];
const localhost: LocalName = { source: 'built-in', addresses: loopback };

/** The name that an address is looked up backwards by. RFC 1035 3.5, RFC 3596 2.5. */
export function reverseName(address: Address): string {
  if (isIpv4(address)) return `${address[15]}.${address[14]}.${address[13]}.${address[12]}.in-addr.arpa`;
  const nibbles = [...address].flatMap((octet) => [octet >> 4, octet & 15]);
  return `${nibbles
    .reverse()
    .map((nibble) => nibble.toString(16))
    .join('.')}.ip6.arpa`;
}

/** A name's octets on the wire and those of its first label. */
const shape = (octets: number, firstLabel: number): number => (octets << 8) | firstLabel;
const shapeOf = (name: string): number => {
  const dot = name.indexOf('.');
  return shape(name.length + 2, dot < 0 ? name.length : dot);
};

interface Wildcard {
  readonly apex: Uint8Array;
  readonly found: LocalName;
}

const localhostApex = wireName('localhost');

export class LocalNames {
  readonly #builtIn: ReadonlyMap<string, NameTarget>;
  readonly #hosts: HostsPort | undefined;
  readonly #hostAliases: readonly Address[];
  #records: readonly DnsRecord[] = [];
  #hostsTable: HostsTable | undefined;
  /** Exact names; the guest's own are made when asked. */
  #names = new Map<string, LocalName | 'guest'>();
  /** The longest first. */
  #wildcards: readonly Wildcard[] = [];
  /** The exact names' shapes on the wire: a query of another shape needs no look. */
  #shapes = new Set<number>();

  constructor(builtIn: ReadonlyMap<string, NameTarget>, hostAliases: readonly Address[], hosts?: HostsPort) {
    this.#builtIn = builtIn;
    this.#hostAliases = hostAliases;
    this.#hosts = hosts;
    this.#build();
  }

  useRecords(records: readonly DnsRecord[]): void {
    this.#records = records;
    this.#build();
  }

  /** By the question of a query; undefined: it is not ours to answer. */
  asked(query: Query, bytes: Uint8Array, guest: Address): LocalName | undefined {
    this.#refresh();
    const { nameEnd } = query;
    const exact = this.#shapes.has(shape(nameEnd - HEADER_OCTETS, bytes[HEADER_OCTETS]!));
    const below =
      exact || (this.#wildcards.length > 0 && this.#wildcards.some(({ apex }) => isWithin(apex, bytes, nameEnd)));
    if (!below && !isWithin(localhostApex, bytes, nameEnd)) return undefined;
    const name = nameText(bytes, query);
    return name === undefined ? undefined : this.find(name, guest);
  }

  /** By a name in lower case without a dot at its end. */
  find(name: string, guest: Address): LocalName | undefined {
    const exact = this.#names.get(name);
    if (exact === 'guest') return { source: 'built-in', addresses: [guest] };
    if (exact && exact.source !== 'hosts') return exact;
    const wire = this.#wildcards.length > 0 ? wireName(name) : undefined;
    if (wire) {
      const bytes = new Uint8Array(HEADER_OCTETS + wire.length);
      bytes.set(wire, HEADER_OCTETS);
      const wildcard = this.#wildcards.find(
        ({ apex }) => apex.length < wire.length && isWithin(apex, bytes, bytes.length),
      );
      if (wildcard) return wildcard.found;
    }
    if (exact) return exact;
    return name === 'localhost' || name.endsWith('.localhost') ? localhost : undefined;
  }

  #refresh(): void {
    if (this.#hosts && this.#hosts.current() !== this.#hostsTable) this.#build();
  }

  #build(): void {
    this.#names = new Map();
    this.#shapes = new Set();
    const add = (name: string, found: LocalName | 'guest'): void => {
      if (this.#names.has(name)) return;
      this.#names.set(name, found);
      this.#shapes.add(shapeOf(name));
    };
    const addAddresses = (source: LocalSource, name: string, addresses: readonly Address[]): void => {
      add(name, { source, addresses });
      for (const address of addresses) add(reverseName(address), { source, addresses: [], pointsTo: name });
    };
    for (const [name, target] of this.#builtIn)
      if (target === 'guest') add(name, target);
      else addAddresses('built-in', name, target);
    for (const { name, wildcard, addresses, alias } of this.#records)
      if (alias !== undefined && !wildcard) add(name, { source: 'record', addresses, alias });
      else if (!wildcard) addAddresses('record', name, addresses);
    this.#hostsTable = this.#hosts?.current();
    const hosts = hostsForGuests(this.#hostsTable ?? new Map(), this.#hostAliases);
    for (const [name, addresses] of hosts) addAddresses('hosts', name, addresses);
    this.#wildcards = this.#records
      .filter(({ wildcard }) => wildcard)
      .map(({ name, addresses, alias }) => {
        const found: LocalName = { source: 'record', addresses, alias };
        return { apex: wireName(name), found };
      })
      .sort((a, b) => b.apex.length - a.apex.length);
  }
}

/** Whether the type that is asked for is not of the name itself, but of the one that it is an alias of. */
export const followsAlias = ({ type }: Query): boolean => type !== TYPE_CNAME && type !== TYPE_ANY;

/**
 * Writes the answer to `into`; its length. `aliases` lead from the name that was asked for to the one that `found` is of.
 */
export function writeLocal(
  query: Query,
  bytes: Uint8Array,
  length: number,
  into: Uint8Array,
  found: LocalName,
  aliases: readonly string[] = [],
): number {
  try {
    const asked = decode(Buffer.from(bytes.subarray(0, length)));
    const question = asked.questions?.[0];
    if (!question) return writeEmpty(query, bytes, FORMERR, into);
    const { name: original } = question;
    const records = aliasRecords(original, aliases);
    const name = aliases.at(-1) ?? original;
    const wants = (type: string): boolean => question.type === type || query.type === TYPE_ANY;
    for (const address of found.addresses) {
      const type = isIpv4(address) ? 'A' : 'AAAA';
      if (wants(type)) records.push({ type, name, ttl: TTL_SECONDS, data: formatAddress(address) });
    }
    if (found.pointsTo !== undefined && wants('PTR'))
      records.push({ type: 'PTR', name, ttl: TTL_SECONDS, data: found.pointsTo });
    if (found.alias !== undefined && wants('CNAME'))
      records.push({ type: 'CNAME', name, ttl: TTL_SECONDS, data: found.alias });
    if (query.class !== CLASS_IN) records.length = 0;
    const opt = asked.additionals?.find((record) => record.type === 'OPT');
    // RFC 6891 6.1.3: BADVERS, for all but version 0.
    const badVersion = opt?.type === 'OPT' && opt.ednsVersion > 0;
    if (badVersion) records.length = 0;
    const answer = encode({
      type: 'response',
      id: query.id,
      flags: AUTHORITATIVE | RECURSION_AVAILABLE | ((asked.flags ?? 0) & (RECURSION_DESIRED | CHECKING_DISABLED)),
      questions: [question],
      answers: records,
      // RFC 2308 3: who says that there is no such data says for how long.
      authorities: !badVersion && records.length === aliases.length ? [startOfAuthority(name)] : [],
      additionals: query.hasEdns ? [edns(badVersion ? 1 : 0)] : [],
    });
    into.set(answer);
    return answer.length;
  } catch {
    return writeEmpty(query, bytes, FORMERR, into);
  }
}

export function aliasRecords(name: string, aliases: readonly string[]): Answer[] {
  return aliases.map((data, i) => ({ type: 'CNAME', name: aliases[i - 1] ?? name, ttl: TTL_SECONDS, data }));
}

function startOfAuthority(name: string): Answer {
  const times = { serial: 1, refresh: 3600, retry: 600, expire: 86_400, minimum: TTL_SECONDS };
  const data = { mname: 'gateway.docker.internal', rname: 'nobody.invalid', ...times };
  return { type: 'SOA', name, ttl: TTL_SECONDS, data };
}

/** `extendedCode`: the upper bits of the response code. */
export function edns(extendedCode = 0): Answer {
  const flags = { extendedRcode: extendedCode, ednsVersion: 0, flags: 0, flag_do: false };
  return { type: 'OPT', name: '.', udpPayloadSize: 1232, ...flags, options: [] };
}
