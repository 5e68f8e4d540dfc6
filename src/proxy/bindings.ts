/**
 * Which guest has which IPv6 address by DHCPv6. A binding belongs to a client's identity association (its DUID and
 * IAID, RFC 8415 4.2) and remembers the switch port it was last asked from.
 *
 * The address of a machine that has an IPv4 lease has the same host part; any other's is PREFIX::1:X:X by a hash of
 * whom it is for, so that it is the same again when nobody remembers. Nothing else of the prefix is given away: what
 * guests have made up for themselves (RFC 4862) cannot be taken from them.
 *
 * Bounds: so many bindings per switch port, of which the ones that were only offered, or are over, give way first; so
 * many declined addresses.
 */

import { type Address, contains, formatAddress, type Subnet, setWord, word } from '../stack/wire/address.ts';

export interface Binding {
  readonly client: string;
  readonly address: Address;
  ingress: number;
  /** 'offered': advertised and held a short while; 'bound': the client's; 'free': remembered only. */
  state: 'offered' | 'bound' | 'free';
  untilMs: number;
}

/** Who asks: the identity association, where from, and the host part of the machine's IPv4 lease, if it has one. */
export interface Asker {
  readonly client: string;
  readonly ingress: number;
  readonly hostNumber: number | undefined;
}

/** The third word of addresses that a hash has chosen. */
const HASHED = 1;
const DECLINED_MS = 10 * 60_000;
const MAX_DECLINED = 16;
/** Addresses that are looked at when the first is somebody else's. */
const TRIES = 64;

export class Bindings {
  readonly #prefix: Subnet;
  readonly #perPort: number;
  readonly #byClient = new Map<string, Binding>();
  readonly #byAddress = new Map<string, Binding>();
  readonly #declinedUntilMs = new Map<string, number>();

  /** `prefix` is of 64 bits. */
  constructor(prefix: Subnet, perPort: number) {
    this.#prefix = prefix;
    this.#perPort = perPort;
  }

  of(client: string): Binding | undefined {
    return this.#byClient.get(client);
  }

  all(): readonly Binding[] {
    return [...this.#byClient.values()];
  }

  onLink(address: Address): boolean {
    return contains(this.#prefix.address, this.#prefix.prefix, address);
  }

  /** Chooses an address: that of the IPv4 lease, the client's own, one it asks for, one by its name. RFC 8415 13.1. */
  choose(asker: Asker, wanted: readonly Address[], nowMs: number): Address | undefined {
    const own = this.#byClient.get(asker.client);
    const known = [this.#byLease(asker), own?.address, ...wanted];
    const found = known.find((address) => address !== undefined && this.available(address, asker, nowMs));
    if (found) return found;
    const address = this.#byName(asker.client);
    for (let tries = 0; tries < TRIES; tries++) {
      if (this.available(address, asker, nowMs)) return address;
      setWord(address, 3, word(address, 3) + 1);
    }
    return undefined;
  }

  /** Whether the asker may have `address` now. */
  available(address: Address, { client, hostNumber }: Asker, nowMs: number): boolean {
    if (!this.onLink(address)) return false;
    const range = word(address, 2);
    if (range !== HASHED && (range !== 0 || word(address, 3) >>> 0 !== hostNumber)) return false;
    const key = formatAddress(address);
    const holder = this.#byAddress.get(key);
    if (holder && holder.client !== client && holder.state !== 'free' && holder.untilMs > nowMs) return false;
    return (this.#declinedUntilMs.get(key) ?? 0) <= nowMs;
  }

  /** Gives `address` to the asker; undefined: it is not to be had, or the port has too many. */
  hold(
    asker: Asker,
    address: Address,
    state: 'offered' | 'bound',
    untilMs: number,
    nowMs: number,
  ): Binding | undefined {
    const { client, ingress } = asker;
    if (!this.available(address, asker, nowMs)) return undefined;
    const own = this.#byClient.get(client);
    if ((!own || own.ingress !== ingress) && !this.#makeRoom(ingress, nowMs)) return undefined;
    const past = this.#byAddress.get(formatAddress(address));
    if (past) this.#remove(past);
    if (own) this.#remove(own);
    const held: Binding = { client, address: Uint8Array.from(address), ingress, state, untilMs };
    this.#byClient.set(client, held);
    this.#byAddress.set(formatAddress(address), held);
    return held;
  }

  release(binding: Binding, nowMs: number): void {
    binding.state = 'free';
    binding.untilMs = nowMs;
  }

  /** The client found the address in use. RFC 8415 18.3.8. */
  decline(binding: Binding, nowMs: number): void {
    this.#remove(binding);
    const key = formatAddress(binding.address);
    this.#declinedUntilMs.delete(key);
    this.#declinedUntilMs.set(key, nowMs + DECLINED_MS);
    const [oldest] = this.#declinedUntilMs.keys();
    if (this.#declinedUntilMs.size > MAX_DECLINED) this.#declinedUntilMs.delete(oldest!);
  }

  #byLease({ hostNumber }: Asker): Address | undefined {
    if (hostNumber === undefined) return undefined;
    const address = this.#network();
    setWord(address, 3, hostNumber);
    return address;
  }

  /** FNV-1a of whom the address is for. */
  #byName(client: string): Address {
    let hash = 0x811c9dc5;
    for (let i = 0; i < client.length; i++) hash = Math.imul(hash ^ client.charCodeAt(i), 0x01000193);
    const address = this.#network();
    setWord(address, 2, HASHED);
    setWord(address, 3, hash);
    return address;
  }

  #network(): Address {
    const address = new Uint8Array(16);
    address.set(this.#prefix.address.subarray(0, 8));
    return address;
  }

  #makeRoom(ingress: number, nowMs: number): boolean {
    let count = 0;
    let victim: Binding | undefined;
    for (const binding of this.#byClient.values()) {
      if (binding.ingress !== ingress) continue;
      count++;
      const kept = binding.state === 'bound' && binding.untilMs > nowMs;
      if (!kept && (!victim || binding.untilMs < victim.untilMs)) victim = binding;
    }
    if (count < this.#perPort) return true;
    if (victim) this.#remove(victim);
    return victim !== undefined;
  }

  #remove(binding: Binding): void {
    this.#byClient.delete(binding.client);
    this.#byAddress.delete(formatAddress(binding.address));
  }
}
