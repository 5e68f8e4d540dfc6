/**
 * Names that this network answers for itself, ahead of the host's resolvers. A name that exists with addresses of one
 * family only has "no such data" for the other, never NXDOMAIN: musl and others would give up the name altogether
 * (RFC 2308 2.2). Their addresses resolve back (PTR).
 *
 * Answers are made by dns-packet, which throws at what it cannot read: then the query is malformed.
 */

import { type Answer, decode, encode } from 'dns-packet';
import { type Address, formatAddress, isIpv4 } from '../../stack/wire/address.ts';
import { FORMERR, HEADER_OCTETS, lower, type Query, writeEmpty } from './message.ts';

/** Whether a name stands for addresses of the network, or for the guest that asks. */
export type NameTarget = readonly Address[] | 'guest';

const TTL_SECONDS = 30;
const RECURSION_DESIRED = 1 << 8;
const RECURSION_AVAILABLE = 1 << 7;
const AUTHORITATIVE = 1 << 10;
const CHECKING_DISABLED = 1 << 4;

/** The names Docker Desktop and Podman give the host, the gateway and the machine. */
export function standardNames(
  gateways: readonly Address[],
  hostAliases: readonly Address[],
): ReadonlyMap<string, NameTarget> {
  return new Map<string, NameTarget>([
    ['host.docker.internal', hostAliases],
    ['host.containers.internal', hostAliases],
    ['gateway.docker.internal', gateways],
    ['gateway.containers.internal', gateways],
    ['http.docker.internal', gateways],
    ['vm.docker.internal', 'guest'],
  ]);
}

/** The name that an IPv4 address is looked up backwards by. RFC 1035 3.5. */
const reverseName = (address: Address): string =>
  `${address[15]}.${address[14]}.${address[13]}.${address[12]}.in-addr.arpa`;

/** A name's octets on the wire and those of its first label. */
const shape = (octets: number, firstLabel: number): number => (octets << 8) | firstLabel;
const shapeOf = (name: string): number => shape(name.length + 2, name.indexOf('.'));

/** The question's name as text in lower case; undefined when a label holds a dot or is not ASCII text: no name of ours. */
export function nameText(bytes: Uint8Array, query: Query): string | undefined {
  let text = '';
  let i = HEADER_OCTETS;
  while (i < query.nameEnd - 1) {
    const end = i + 1 + bytes[i]!;
    if (text !== '') text += '.';
    for (i++; i < end; i++) {
      const octet = lower(bytes[i]!);
      if (octet <= 0x20 || octet >= 0x7f || octet === 0x2e) return undefined;
      text += String.fromCharCode(octet);
    }
  }
  return text;
}

export class BuiltInNames {
  readonly #names: ReadonlyMap<string, NameTarget>;
  readonly #reverse = new Map<string, string>();
  /** The names' shapes on the wire: a query of another shape needs no look. */
  readonly #shapes = new Set<number>();

  constructor(names: ReadonlyMap<string, NameTarget>) {
    this.#names = names;
    for (const [name, target] of names) {
      this.#shapes.add(shapeOf(name));
      if (target === 'guest') continue;
      for (const address of target) {
        if (!isIpv4(address) || this.#reverse.has(reverseName(address))) continue;
        this.#reverse.set(reverseName(address), name);
        this.#shapes.add(shapeOf(reverseName(address)));
      }
    }
  }

  /** Writes the answer to `into`; its length, or -1: not a name of ours. */
  answer(query: Query, bytes: Uint8Array, length: number, guest: Address, into: Uint8Array): number {
    if (!this.#shapes.has(shape(query.nameEnd - HEADER_OCTETS, bytes[HEADER_OCTETS]!))) return -1;
    const name = nameText(bytes, query);
    if (name === undefined) return -1;
    const target = this.#names.get(name);
    const pointsTo = this.#reverse.get(name);
    if (!target && !pointsTo) return -1;
    try {
      const asked = decode(Buffer.from(bytes.subarray(0, length)));
      const question = asked.questions?.[0];
      if (!question) return writeEmpty(query, bytes, FORMERR, into);
      const records: Answer[] = [];
      const wants = (type: string): boolean => question.type === type || (question.type as string) === 'ANY';
      for (const address of target === 'guest' ? [guest] : (target ?? [])) {
        const type = isIpv4(address) ? 'A' : 'AAAA';
        if (wants(type)) records.push({ type, name: question.name, ttl: TTL_SECONDS, data: formatAddress(address) });
      }
      if (pointsTo && wants('PTR'))
        records.push({ type: 'PTR', name: question.name, ttl: TTL_SECONDS, data: pointsTo });
      if (question.class !== 'IN') records.length = 0;
      const answer = encode({
        type: 'response',
        id: query.id,
        flags: AUTHORITATIVE | RECURSION_AVAILABLE | ((asked.flags ?? 0) & (RECURSION_DESIRED | CHECKING_DISABLED)),
        questions: [question],
        answers: records,
        additionals: query.hasEdns
          ? [
              {
                type: 'OPT',
                name: '.',
                udpPayloadSize: 1232,
                extendedRcode: 0,
                ednsVersion: 0,
                flags: 0,
                flag_do: false,
                options: [],
              },
            ]
          : [],
      });
      into.set(answer);
      return answer.length;
    } catch {
      return writeEmpty(query, bytes, FORMERR, into);
    }
  }
}
