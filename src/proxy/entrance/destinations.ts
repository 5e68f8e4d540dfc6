/**
 * Where the entrance leads: to guests and to containers behind them, by address or by name, and nowhere else. The
 * gateway, the host alias and the host's own loopback are not guests; an address outside of what a container can have
 * would only go through the guest and out again.
 */

import { type Address, contains, equal, kind, parseAddress, type Subnet, word } from '../../stack/wire/address.ts';
import type { ContainerNamesPort } from './port.ts';

export const CONTAINER_SUFFIX = '.container.slipway.internal';
const GUEST_NAME = 'vm.docker.internal';

export interface GuestNetwork {
  readonly subnet: Subnet;
  /** Addresses of the network's own: gateway, host alias. */
  readonly own: readonly Address[];
  readonly firstGuest: Address;
}

export type Destination = { readonly address: Address } | { readonly refused: 'not-allowed' | 'unknown' | 'no-answer' };

export class Destinations {
  readonly #network: GuestNetwork;
  readonly #names: ContainerNamesPort;

  constructor(network: GuestNetwork, names: ContainerNamesPort) {
    this.#network = network;
    this.#names = names;
  }

  /** The address that a host of a client's words stands for, when it is one to lead to. Never rejects. */
  async find(host: string): Promise<Destination> {
    const literal = parseAddress(host);
    if (literal) return this.#checked(literal);
    const name = host.toLowerCase().replace(/\.$/, '');
    if (name === GUEST_NAME) return { address: this.#network.firstGuest };
    if (!name.endsWith(CONTAINER_SUFFIX)) return { refused: 'unknown' };
    const container = host.slice(0, name.length - CONTAINER_SUFFIX.length);
    if (!/^[a-z0-9][a-z0-9_.-]{0,200}$/i.test(container)) return { refused: 'unknown' };
    try {
      const address = await this.#names.addressOf(container);
      return address ? this.#checked(address) : { refused: 'unknown' };
    } catch {
      return { refused: 'no-answer' };
    }
  }

  #checked(address: Address): Destination {
    const found = kind(address);
    const { subnet, own } = this.#network;
    if ((found !== 'private' && found !== 'global') || own.some((ours) => equal(ours, address)))
      return { refused: 'not-allowed' };
    if (contains(subnet.address, subnet.prefix, address)) {
      const hostMask = subnet.prefix === 96 ? 0xffffffff : 0xffffffff >>> (subnet.prefix - 96);
      const host = (word(address, 3) & hostMask) >>> 0;
      // RFC 919 7: the network itself and its broadcast address.
      if (host === 0 || host === hostMask >>> 0) return { refused: 'not-allowed' };
    }
    return { address };
  }
}
