/**
 * A guest's dials under way. Each costs the host a socket, and one that nobody answers costs it for minutes: so they are
 * bounded, to one address more tightly than in all. One beyond a bound gives up the oldest there is of that address, or
 * of all: a guest that calls a black hole ten thousand times loses dials to the black hole, and no others.
 */

import type { Address } from '../stack/port.ts';
import { formatAddress } from '../stack/wire/address.ts';

/** At once: in all, and to one address. */
const MOST = 4096;
const MOST_TO_ONE = 1024;

export interface Abandonable {
  /** Calls it off. It takes itself out of the list. */
  giveUp(): void;
}

export class Dials<D extends Abandonable> {
  /** With where to. Oldest first. */
  readonly #all = new Map<D, string>();
  readonly #byAddress = new Map<string, Set<D>>();

  get size(): number {
    return this.#all.size;
  }

  /** Gives up the oldest where one more to `address` would be beyond a bound. */
  makeRoom(address: Address): void {
    const there = this.#byAddress.get(formatAddress(address));
    if (there && there.size >= MOST_TO_ONE) there.values().next().value?.giveUp();
    else if (this.#all.size >= MOST) this.#all.keys().next().value?.giveUp();
  }

  add(dial: D, address: Address): void {
    const to = formatAddress(address);
    this.#all.set(dial, to);
    const there = this.#byAddress.get(to);
    if (there) there.add(dial);
    else this.#byAddress.set(to, new Set([dial]));
  }

  has(dial: D): boolean {
    return this.#all.has(dial);
  }

  /** False: it was not under way. */
  delete(dial: D): boolean {
    const to = this.#all.get(dial);
    if (to === undefined) return false;
    this.#all.delete(dial);
    const there = this.#byAddress.get(to)!;
    there.delete(dial);
    if (there.size === 0) this.#byAddress.delete(to);
    return true;
  }
}
