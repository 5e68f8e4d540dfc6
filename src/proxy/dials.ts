/**
 * A guest's dials under way. Each costs the host a socket, and one that nobody answers costs it for minutes: so they are
 * bounded, to one address more tightly than in all. One beyond a bound gives up the oldest there is of that address, or
 * of all: a guest that calls a black hole ten thousand times loses dials to the black hole, and no others. Of one address
 * the oldest is given its time: until then newer ones are not dialled at all, as the guest will ask again; a socket made
 * and given up for each of ten thousand would keep everybody waiting.
 */

import type { Address } from '../stack/port.ts';
import { formatAddress } from '../stack/wire/address.ts';

/** At once: in all, and to one address. */
const MOST = 4096;
const MOST_TO_ONE = 1024;
/** A guest has asked three times by then. RFC 6298 2 */
const PATIENCE_MS = 3000;

export interface Abandonable {
  /** Calls it off. It takes itself out of the list. */
  giveUp(): void;
}

interface Begun {
  readonly to: string;
  readonly atMs: number;
}

export class Dials<D extends Abandonable> {
  /** Oldest first. */
  readonly #all = new Map<D, Begun>();
  readonly #byAddress = new Map<string, Set<D>>();

  get size(): number {
    return this.#all.size;
  }

  /** Gives up the oldest where one more to `address` would be beyond a bound; false: it is too soon for that. */
  makeRoom(address: Address, nowMs: number): boolean {
    const there = this.#byAddress.get(formatAddress(address));
    if (there && there.size >= MOST_TO_ONE) {
      const oldest = there.values().next().value!;
      if (nowMs - this.#all.get(oldest)!.atMs < PATIENCE_MS) return false;
      oldest.giveUp();
    } else if (this.#all.size >= MOST) this.#all.keys().next().value?.giveUp();
    return true;
  }

  add(dial: D, address: Address, nowMs: number): void {
    const to = formatAddress(address);
    this.#all.set(dial, { to, atMs: nowMs });
    const there = this.#byAddress.get(to);
    if (there) there.add(dial);
    else this.#byAddress.set(to, new Set([dial]));
  }

  has(dial: D): boolean {
    return this.#all.has(dial);
  }

  /** False: it was not under way. */
  delete(dial: D): boolean {
    const to = this.#all.get(dial)?.to;
    if (to === undefined) return false;
    this.#all.delete(dial);
    const there = this.#byAddress.get(to)!;
    there.delete(dial);
    if (there.size === 0) this.#byAddress.delete(to);
    return true;
  }
}
