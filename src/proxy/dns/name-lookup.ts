/**
 * Addresses of names for the guests' HTTP proxy: what a guest would be told, from the same names, cache, zones and servers,
 * so that no name goes anywhere else because it is asked for by a proxy. A name of one label is looked for in the host's
 * search domains first, as the host itself would do.
 */

import { ADDRESS_OCTETS, type Address, setIpv4 } from '../../stack/wire/address.ts';
import type { NameLookupPort } from '../http-proxy/port.ts';
import type { HostsPort } from '../port.ts';
import { untoldAddresses } from './hosts.ts';
import {
  CLASS_IN,
  HEADER_OCTETS,
  isTruncated,
  LARGEST_MESSAGE,
  NOERROR,
  responseCode,
  skipName,
  word,
} from './message.ts';
import type { DnsTransport } from './name-servers.ts';
import { plainName, wireName } from './zones.ts';

const TYPE_A = 1;
const TYPE_AAAA = 28;
/** Who asks, where it is no guest. */
const OURSELVES = -1;

/** Answers a query once; the answer's memory is valid during the call. */
export interface Resolver {
  ask(
    query: Uint8Array,
    who: { readonly guestAddress: Address; readonly ingress: number; readonly countedFor: number },
    protocol: DnsTransport,
    done: (answer: Uint8Array | undefined) => void,
  ): void;
}

export class NameLookup implements NameLookupPort {
  readonly #resolver: Resolver;
  readonly #asker: Address;
  readonly #search: () => readonly string[];
  readonly #hosts: HostsPort | undefined;

  /** `asker`: on whose address' behalf it asks, for the log. */
  constructor(resolver: Resolver, asker: Address, search: () => readonly string[], hosts?: HostsPort) {
    this.#resolver = resolver;
    this.#asker = asker;
    this.#search = search;
    this.#hosts = hosts;
  }

  /** `ingress`: the guest that it is asked for, whose queries are bounded; undefined: none. */
  async addressesOf(name: string, ingress = OURSELVES): Promise<readonly Address[]> {
    const plain = plainName(name);
    if (plain === undefined) return [];
    const domains = plain.includes('.') || plain === 'localhost' ? [] : this.#search();
    for (const full of [...domains.map((domain) => plainName(`${plain}.${domain}`)), plain]) {
      if (full === undefined) continue;
      const found = await Promise.all([TYPE_A, TYPE_AAAA].map((type) => this.#addresses(full, type, ingress)));
      if (found.some((addresses) => addresses.length > 0)) return found.flat();
    }
    return [];
  }

  /** The same, and what else this machine may have for it: whoever is handed the name, not an address, may go there. */
  async allAddressesOf(name: string, ingress: number): Promise<readonly Address[]> {
    return [...(await this.addressesOf(name, ingress)), ...untoldAddresses(this.#hosts?.current() ?? new Map(), name)];
  }

  async #addresses(name: string, type: number, ingress: number): Promise<Address[]> {
    const query = Uint8Array.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...wireName(name), 0, type, 0, CLASS_IN]);
    const answer = await this.#ask(query, 'udp', ingress);
    const whole = answer && isTruncated(answer) ? await this.#ask(query, 'tcp', ingress) : answer;
    return whole ? addressesIn(whole, query.length, type) : [];
  }

  #ask(query: Uint8Array, protocol: DnsTransport, ingress: number): Promise<Uint8Array | undefined> {
    // No guest hears the answer: it is nothing that rules with names go by.
    const who = { guestAddress: this.#asker, ingress: OURSELVES, countedFor: ingress };
    return new Promise((resolve) => {
      this.#resolver.ask(query, who, protocol, (answer) => resolve(answer?.slice(0, LARGEST_MESSAGE)));
    });
  }
}

/** The addresses in an answer whose question ends at `questionEnd`. */
function addressesIn(answer: Uint8Array, questionEnd: number, type: number): Address[] {
  const found: Address[] = [];
  const { length } = answer;
  if (length < HEADER_OCTETS || responseCode(answer) !== NOERROR) return found;
  let i = questionEnd;
  for (let left = word(answer, 6); left > 0; left--) {
    const at = skipName(answer, i, length);
    if (at < 0 || at + 10 > length) return found;
    const data = at + 10;
    const octets = word(answer, at + 8);
    i = data + octets;
    if (i > length) return found;
    if (word(answer, at) !== type || word(answer, at + 2) !== CLASS_IN) continue;
    const address = new Uint8Array(ADDRESS_OCTETS);
    if (type === TYPE_A && octets === 4) setIpv4(address, (word(answer, data) << 16) | word(answer, data + 2));
    else if (type === TYPE_AAAA && octets === 16) address.set(answer.subarray(data, data + 16));
    else continue;
    found.push(address);
  }
  return found;
}
