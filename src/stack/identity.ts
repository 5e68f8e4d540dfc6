/**
 * Who the stack is on its network: the gateway's MAC and addresses, and the subnet. IPv4 addresses as signed words; the
 * IPv6 side, where there is one, in ipv6-identity.ts.
 */

import { Ipv6Identity, type Ipv6Options } from './ipv6-identity.ts';
import type { Address } from './port.ts';
import { ipv4Word } from './wire/address.ts';
import { macOfBytes } from './wire/ethernet.ts';

export interface IdentityOptions {
  readonly macAddress: Uint8Array;
  readonly gateway: Address;
  /** The address that stands for the host's loopback. */
  readonly hostAlias: Address;
  /** IPv4 prefix length of the subnet that the gateway is in, 24 for 255.255.255.0. */
  readonly prefix: number;
  /** Undefined: the network is IPv4 alone, and IPv6 frames fall. */
  readonly ipv6?: Ipv6Options | undefined;
}

export class Identity {
  readonly mac: number;
  readonly gateway: number;
  readonly hostAlias: number;
  readonly mask: number;
  readonly network: number;
  readonly broadcast: number;
  readonly ipv6: Ipv6Identity | undefined;

  constructor(options: IdentityOptions) {
    this.mac = macOfBytes(options.macAddress);
    this.gateway = ipv4Word(options.gateway);
    this.hostAlias = ipv4Word(options.hostAlias);
    this.mask = options.prefix === 0 ? 0 : -1 << (32 - options.prefix);
    this.network = this.gateway & this.mask;
    this.broadcast = this.network | ~this.mask;
    this.ipv6 = options.ipv6 && new Ipv6Identity(options.macAddress, options.ipv6);
  }

  isOwn(address: number): boolean {
    return address === this.gateway || address === this.hostAlias;
  }

  inSubnet(address: number): boolean {
    return (address & this.mask) === this.network;
  }

  isBroadcast(address: number): boolean {
    return address === -1 || (address === this.broadcast && this.mask !== -1);
  }

  /** No guest can be the source of this: 0/8, 127/8, multicast, reserved, broadcast, or our own. RFC 1122 3.2.1.3. */
  isForeignSource(address: number): boolean {
    const first = address >>> 24;
    return first === 0 || first === 127 || first >= 224 || this.isOwn(address) || address === this.broadcast;
  }
}
