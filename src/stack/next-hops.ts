/** Who is where, whichever the family: the neighbours that ARP knows (neighbor.ts) and those of NDP (ndp.ts). */

import type { Ndp } from './ndp.ts';
import type { Neighbors } from './neighbor.ts';
import type { Neighbor } from './neighbor-cache.ts';
import type { Address } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { ipv4Word, isIpv4 } from './wire/address.ts';

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

  /** A lease: this address is behind this port and MAC address, whatever others say. */
  pin(address: Address, port: SwitchPort, mac: number): void {
    if (isIpv4(address)) this.#neighbors.pin(ipv4Word(address), port, mac);
    else this.#ndp?.pin(address, port, mac);
  }

  unpin(address: Address): void {
    if (isIpv4(address)) this.#neighbors.unpin(ipv4Word(address));
    else this.#ndp?.unpin(address);
  }

  /** Reaches a network through the guest that has the address `via`. `prefix` is of the family's bits. */
  route(network: Address, prefix: number, via: Address): void {
    if (isIpv4(network)) this.#neighbors.route(ipv4Word(network), prefix, ipv4Word(via));
    else this.#ndp?.route(network, prefix, via);
  }

  /** Forgets all that is behind a port. */
  forget(port: SwitchPort): void {
    this.#neighbors.forget(port);
    this.#ndp?.forget(port);
  }

  /** Asks where an address is; `waiting` sends what waits for it. */
  ask(address: Address, waiting?: () => void): void {
    if (isIpv4(address)) this.#neighbors.ask(ipv4Word(address), waiting);
    else this.#ndp?.ask(address, waiting);
  }

  /** What was sent there was not acknowledged in time. */
  doubt(address: Address): void {
    if (isIpv4(address)) this.#neighbors.doubt(ipv4Word(address));
    else this.#ndp?.doubt(address);
  }

  /** Whether an address is being asked for. */
  isAsked(address: Address): boolean {
    return isIpv4(address) ? this.#neighbors.isAsked(ipv4Word(address)) : (this.#ndp?.isAsked(address) ?? false);
  }
}
