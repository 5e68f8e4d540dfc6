/**
 * Which guest has which address. A lease belongs to a MAC address and remembers the switch port it was last asked from;
 * a client that comes back gets the address it had, also after its lease has run out, as long as nobody else needed it.
 * First come, first host number. RFC 2131 4.3.1.
 *
 * Bounds: one lease per address of the pool, and so many per switch port, so that one guest that makes up MAC addresses
 * cannot take the others' addresses: it displaces its own, those that were only offered first.
 */

export interface Lease {
  readonly mac: number;
  /** A signed 32-bit word. */
  readonly address: number;
  ingress: number;
  /** 'offered': asked for and held a short while; 'bound': acknowledged; 'free': remembered only. */
  state: 'offered' | 'bound' | 'free';
  untilMs: number;
  /** What the client calls itself, in lower case. */
  name?: string;
}

export interface LeasePool {
  /** First and last address to give away, as signed 32-bit words. */
  readonly first: number;
  readonly last: number;
  /** Addresses within that are someone else's. */
  readonly reserved: readonly number[];
  /** Addresses kept for certain MAC addresses; may lie outside first to last. */
  readonly fixed?: ReadonlyMap<number, number>;
  readonly perPort: number;
}

/** How long an address that a client found in use is left alone. */
const DECLINED_MS = 10 * 60_000;
/** How many such addresses are remembered: a guest that declines everything must not empty the pool. */
const MAX_DECLINED = 16;

export class Leases {
  readonly #pool: LeasePool;
  readonly #byMac = new Map<number, Lease>();
  readonly #byAddress = new Map<number, Lease>();
  readonly #taken: Set<number>;
  readonly #declinedUntilMs = new Map<number, number>();

  constructor(pool: LeasePool) {
    this.#pool = pool;
    this.#taken = new Set([...pool.reserved, ...(pool.fixed?.values() ?? [])]);
  }

  ofMac(mac: number): Lease | undefined {
    return this.#byMac.get(mac);
  }

  all(): readonly Lease[] {
    return [...this.#byMac.values()];
  }

  #inUse(lease: Lease, nowMs: number): boolean {
    return lease.state !== 'free' && lease.untilMs > nowMs;
  }

  /** Whether `mac` may have `address` now. */
  available(address: number, mac: number, nowMs: number): boolean {
    const fixed = this.#pool.fixed?.get(mac);
    if (fixed !== undefined) return fixed === address;
    if (address < this.#pool.first || address > this.#pool.last || this.#taken.has(address)) return false;
    const holder = this.#byAddress.get(address);
    if (holder && holder.mac !== mac && this.#inUse(holder, nowMs)) return false;
    return (this.#declinedUntilMs.get(address) ?? 0) <= nowMs;
  }

  /** Chooses an address for `mac`: its own, the one it asks for, a new one, the longest unused one. RFC 2131 4.3.1. */
  choose(mac: number, wanted: number | undefined, nowMs: number): number | undefined {
    const fixed = this.#pool.fixed?.get(mac);
    if (fixed !== undefined) return fixed;
    const own = this.#byMac.get(mac);
    if (own && this.available(own.address, mac, nowMs)) return own.address;
    if (wanted !== undefined && this.available(wanted, mac, nowMs)) return wanted;
    let oldest: Lease | undefined;
    for (let address = this.#pool.first; address <= this.#pool.last; address++) {
      if (!this.available(address, mac, nowMs)) continue;
      const past = this.#byAddress.get(address);
      if (!past) return address;
      if (!oldest || past.untilMs < oldest.untilMs) oldest = past;
    }
    return oldest?.address;
  }

  /** Gives `address` to `mac`; undefined: it is not to be had, or the port has too many. */
  hold(
    mac: number,
    address: number,
    ingress: number,
    state: 'offered' | 'bound',
    untilMs: number,
    nowMs: number,
  ): Lease | undefined {
    if (!this.available(address, mac, nowMs)) return undefined;
    let own = this.#byMac.get(mac);
    if ((!own || own.ingress !== ingress) && !this.#makeRoom(ingress)) return undefined;
    const past = this.#byAddress.get(address);
    if (past && past !== own) this.#remove(past);
    if (own && own.address !== address) {
      this.#remove(own);
      own = undefined;
    }
    if (!own) {
      own = { mac, address, ingress, state, untilMs };
      this.#byMac.set(mac, own);
      this.#byAddress.set(address, own);
    } else {
      own.ingress = ingress;
      own.untilMs = untilMs;
      own.state = state;
    }
    return own;
  }

  /** Whether the port may have one more lease, after its oldest unused one was dropped where it has as many as it may. */
  #makeRoom(ingress: number): boolean {
    let count = 0;
    let victim: Lease | undefined;
    for (const lease of this.#byMac.values()) {
      if (lease.ingress !== ingress) continue;
      count++;
      if (lease.state !== 'bound' && (!victim || lease.untilMs < victim.untilMs)) victim = lease;
    }
    if (count < this.#pool.perPort) return true;
    if (victim) this.#remove(victim);
    return victim !== undefined;
  }

  /** The client is done with it (RELEASE), or took another server's offer: remembered, to be had by others. */
  release(lease: Lease, nowMs: number): void {
    lease.state = 'free';
    lease.untilMs = nowMs;
  }

  /** The client found the address in use. RFC 2131 4.3.3. */
  decline(lease: Lease, nowMs: number): void {
    this.#remove(lease);
    this.#declinedUntilMs.delete(lease.address);
    this.#declinedUntilMs.set(lease.address, nowMs + DECLINED_MS);
    for (const address of this.#declinedUntilMs.keys()) {
      if (this.#declinedUntilMs.size <= MAX_DECLINED) break;
      this.#declinedUntilMs.delete(address);
    }
  }

  #remove(lease: Lease): void {
    this.#byMac.delete(lease.mac);
    this.#byAddress.delete(lease.address);
  }
}
