/** Who is where, whichever the family: the neighbours that ARP knows (neighbor.ts) and those of NDP (ndp.ts). */

import type { Ndp } from './ndp.ts';
import type { Neighbor, Neighbors } from './neighbor.ts';
import { type Address, ipv4Word, isIpv4 } from './wire/address.ts';

export class NextHops {
  readonly #neighbors: Neighbors;
  readonly #ndp: Ndp | undefined;

  constructor(neighbors: Neighbors, ndp: Ndp | undefined) {
    this.#neighbors = neighbors;
    this.#ndp = ndp;
  }

  /** Undefined: nobody known (see `ask`). */
  resolve(address: Address): Neighbor | undefined {
    return isIpv4(address) ? this.#neighbors.resolve(ipv4Word(address)) : this.#ndp?.resolve(address);
  }

  /** Asks who has an address, on every port, at most once a second. */
  ask(address: Address, nowMs: number): void {
    if (isIpv4(address)) this.#neighbors.ask(ipv4Word(address), nowMs);
    else this.#ndp?.ask(address, nowMs);
  }
}
