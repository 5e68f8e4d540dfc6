/**
 * Which names the network's own resolver has given which guest addresses for: what a rule's name means. Kept for as long
 * as the answer itself says (RFC 1035 3.2.1), and `GRACE_MS` more, in which a client that got it connects.
 *
 * A name is the one that was asked for, not those of aliases on the way to its addresses. Nothing is kept while no rule
 * has a name. Bounded per guest: of more than `ADDRESSES`, or `NAMES` for one of them, the first kept go first. No timers.
 */

import type { Address, Clock } from '../../stack/port.ts';
import { ADDRESS_OCTETS, setIpv4 } from '../../stack/wire/address.ts';
import { NOERROR, nameText, type Query, responseCode, skipName } from '../dns/message.ts';
import { type EndpointKey, endpointKey } from '../endpoint-key.ts';

const GRACE_MS = 10_000;
const LONGEST_MS = 24 * 3600 * 1000;
const ADDRESSES = 4096;
const NAMES = 32;
const TYPE_A = 1;
const TYPE_AAAA = 28;
const CLASS_IN = 1;

/** Names and when each is over. */
type Names = Map<string, number>;

export class ResolvedNames {
  readonly #clock: Clock;
  /** Per guest (switch port), by address. */
  readonly #guests = new Map<number, Map<EndpointKey, Names>>();
  #active = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get active(): boolean {
    return this.#active;
  }

  set active(active: boolean) {
    this.#active = active;
    if (!active) this.#guests.clear();
  }

  /** An answer of the resolver's, as it goes to a guest: `length` octets of `bytes`, to `query`. */
  heard(bytes: Uint8Array, length: number, query: Query, ingress: number): void {
    if (!this.#active || !query.sound || length < query.questionEnd || responseCode(bytes) !== NOERROR) return;
    const name = nameText(bytes, query);
    if (!name) return;
    const word = (at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
    let i = query.questionEnd;
    let leastMs = LONGEST_MS;
    for (let left = word(6); left > 0; left--) {
      const at = skipName(bytes, i, length);
      if (at < 0 || at + 10 > length) return;
      const data = at + 10;
      const octets = word(at + 8);
      i = data + octets;
      if (i > length) return;
      const type = word(at);
      if (word(at + 2) !== CLASS_IN) continue;
      // RFC 2181 8: with the top bit set it is 0. An alias on the way holds for no longer than it says either.
      const ttl = word(at + 4) * 65536 + word(at + 6);
      leastMs = Math.min(leastMs, ttl >= 0x8000_0000 ? 0 : ttl * 1000);
      const address = new Uint8Array(ADDRESS_OCTETS);
      if (type === TYPE_A && octets === 4) setIpv4(address, (word(data) << 16) | word(data + 2));
      else if (type === TYPE_AAAA && octets === 16) address.set(bytes.subarray(data, data + 16));
      else continue;
      this.learn(ingress, name, address, leastMs);
    }
  }

  /** A guest was given `address` for `name` (lower case, no dot at its end) by us, for `ttlMs`. */
  learn(ingress: number, name: string, address: Address, ttlMs: number): void {
    if (!this.#active) return;
    const addresses = entry(this.#guests, ingress, () => new Map<EndpointKey, Names>());
    const key = endpointKey(address, 0);
    const names = addresses.get(key) ?? new Map<string, number>();
    // What was told last is the last to go.
    addresses.delete(key);
    addresses.set(key, names);
    const untilMs = Math.max(names.get(name) ?? 0, this.#clock.nowMs() + ttlMs + GRACE_MS);
    names.delete(name);
    names.set(name, untilMs);
    dropFirst(names, NAMES);
    dropFirst(addresses, ADDRESSES);
  }

  /** Whether a guest was given `address` for a name that `matches`; `ingress` undefined: whether any was. */
  some(ingress: number | undefined, address: Address, matches: (name: string) => boolean): boolean {
    if (ingress === undefined) return [...this.#guests.keys()].some((one) => this.some(one, address, matches));
    const addresses = this.#guests.get(ingress);
    const key = endpointKey(address, 0);
    const names = addresses?.get(key);
    if (!names) return false;
    const nowMs = this.#clock.nowMs();
    for (const [name, untilMs] of names)
      if (untilMs < nowMs) names.delete(name);
      else if (matches(name)) return true;
    if (names.size === 0) addresses!.delete(key);
    return false;
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

function dropFirst<K>(map: Map<K, unknown>, limit: number): void {
  while (map.size > limit) map.delete(map.keys().next().value as K);
}
