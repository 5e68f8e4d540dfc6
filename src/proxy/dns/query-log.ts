/**
 * The queries of late, for diagnosis: who asked what, who answered, what and how fast. A ring in memory; a new query takes
 * the place of the oldest, and its memory, so that nothing is allocated per query. Nothing of it is ever written to disk.
 */

import { type Address, formatAddress } from '../../stack/wire/address.ts';
import { DOUBLE_ZERO } from '../../stack/wire/double.ts';
import type { NameServer } from '../port.ts';
import { withoutScope } from '../scoped-address.ts';
import type { LocalSource } from './local-names.ts';
import { HEADER_OCTETS, type Query, responseCode, word } from './message.ts';
import type { DnsTransport } from './name-servers.ts';

export const KEPT_QUERIES = 512;
/** What a name has room for unless it needs more. */
const ROOM = 64;

/** Who answered: we ourselves, the cache, a server; `none`: nobody did, and we said so. */
export type AnswerSource = LocalSource | 'cache' | 'server' | 'none';

/** How a query went, as people see it. */
export interface QueryRecord {
  /** Counts up from 1. */
  readonly number: number;
  /** When it was answered, in milliseconds since the epoch. */
  readonly atMs: number;
  readonly guest: string;
  /** The guest's switch port. */
  readonly ingress: number;
  readonly protocol: DnsTransport;
  readonly name: string;
  readonly type: string;
  readonly source: AnswerSource;
  /** The server that answered. */
  readonly server?: string;
  /** The zone whose servers were to be asked. */
  readonly zone?: string;
  readonly code: string;
  /** Records in the answer. */
  readonly answers: number;
  readonly tookMs: number;
}

class Entry {
  number = 0;
  atMs = DOUBLE_ZERO;
  guest: Address = new Uint8Array(16);
  ingress = 0;
  protocol: DnsTransport = 'udp';
  name = new Uint8Array(ROOM);
  nameOctets = 0;
  type = 0;
  source: AnswerSource = 'none';
  server: NameServer | undefined;
  zone: string | undefined;
  code = 0;
  answers = 0;
  tookMs = DOUBLE_ZERO;
}

/** What is noted of a query beside its question and its answer. */
export interface QueryOutcome {
  readonly guest: Address;
  readonly ingress: number;
  readonly protocol: DnsTransport;
  readonly source: AnswerSource;
  readonly server?: NameServer | undefined;
  readonly zone?: string | undefined;
  readonly askedMs: number;
}

export class QueryLog {
  readonly #ring: Entry[] = [];
  #count = 0;

  /** `bytes` hold the question, `answer` the answer. */
  note(query: Query, bytes: Uint8Array, answer: Uint8Array, outcome: QueryOutcome, nowMs: number): void {
    const entry = (this.#ring[this.#count % KEPT_QUERIES] ??= new Entry());
    entry.number = ++this.#count;
    entry.atMs = nowMs;
    entry.guest.set(outcome.guest);
    entry.ingress = outcome.ingress;
    entry.protocol = outcome.protocol;
    const octets = query.sound ? query.nameEnd - HEADER_OCTETS : 0;
    if (octets > entry.name.length) entry.name = new Uint8Array(256);
    for (let i = 0; i < octets; i++) entry.name[i] = bytes[HEADER_OCTETS + i]!;
    entry.nameOctets = octets;
    entry.type = query.sound ? query.type : 0;
    entry.source = outcome.source;
    entry.server = outcome.server;
    entry.zone = outcome.zone;
    entry.code = responseCode(answer);
    entry.answers = word(answer, 6);
    entry.tookMs = nowMs - outcome.askedMs;
  }

  /** Those with a number above `after`, the oldest first. `epochMs`: when the clock was 0. */
  list(epochMs: number, after = 0): QueryRecord[] {
    const records: QueryRecord[] = [];
    const first = Math.max(after, this.#count - this.#ring.length, 0);
    for (let number = first; number < this.#count; number++)
      records.push(recordOf(this.#ring[number % KEPT_QUERIES]!, epochMs));
    return records;
  }
}

function recordOf(entry: Entry, epochMs: number): QueryRecord {
  const { number, ingress, protocol, source, server, zone, answers } = entry;
  return {
    number,
    atMs: Math.round(epochMs + entry.atMs),
    guest: formatAddress(entry.guest),
    ingress,
    protocol,
    name: shownName(entry.name.subarray(0, entry.nameOctets)),
    type: types[entry.type] ?? `TYPE${entry.type}`,
    source,
    ...(server && { server: formatServer(server) }),
    ...(zone !== undefined && { zone }),
    code: codes[entry.code] ?? String(entry.code),
    answers,
    tookMs: Math.round(entry.tookMs * 10) / 10,
  };
}

export const formatServer = ({ address, zone, port }: NameServer): string =>
  `${formatAddress(withoutScope(address))}${zone === undefined ? '' : `%${zone}`}${port === 53 ? '' : `#${port}`}`;

/** As zone files have it: what is no plain character is escaped. RFC 1035 5.1. */
function shownName(wire: Uint8Array): string {
  let text = '';
  for (let i = 0; i < wire.length && wire[i] !== 0; ) {
    const end = i + 1 + wire[i]!;
    if (text !== '') text += '.';
    for (i++; i < end; i++) {
      const octet = wire[i]!;
      if (octet <= 0x20 || octet >= 0x7f) text += `\\${String(octet).padStart(3, '0')}`;
      else text += octet === 0x2e || octet === 0x5c ? `\\${String.fromCharCode(octet)}` : String.fromCharCode(octet);
    }
  }
  return text === '' ? '.' : text;
}

const codes = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** IANA's names of types, as far as people meet them; others are shown by number (RFC 3597 5). */
const types: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
  35: 'NAPTR',
  43: 'DS',
  48: 'DNSKEY',
  52: 'TLSA',
  64: 'SVCB',
  65: 'HTTPS',
  255: 'ANY',
  257: 'CAA',
};
