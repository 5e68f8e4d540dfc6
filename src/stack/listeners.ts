/**
 * Who listens to which address and port inside the stack, of one transport. They are few, but every datagram and SYN
 * asks: IPv4 by one number, IPv6 by the port and then the address. An unspecified address stands for all of its family.
 */

import type { Packet } from './packet.ts';
import { type Address, equal, ipv4Word, isIpv4, word } from './wire/address.ts';

interface Ipv6Listener<T> {
  readonly address: Address;
  readonly listener: T;
}

const keyOf = (address: number, port: number): number => (address >>> 0) * 65536 + port;
const isUnspecified = (address: Address): boolean => address.every((octet) => octet === 0);

export class Listeners<T> {
  readonly #transport: string;
  readonly #ipv4 = new Map<number, T>();
  readonly #ipv6 = new Map<number, Ipv6Listener<T>[]>();

  constructor(transport: string) {
    this.#transport = transport;
  }

  /** Throws, with code EADDRINUSE, when somebody listens there already. */
  add(address: Address, port: number, listener: T): void {
    const before = isIpv4(address)
      ? this.#ipv4.has(keyOf(ipv4Word(address), port))
      : this.#ipv6.get(port)?.some((other) => equal(other.address, address));
    if (before) throw Object.assign(new Error(`${this.#transport} port ${port} is taken`), { code: 'EADDRINUSE' });
    if (isIpv4(address)) this.#ipv4.set(keyOf(ipv4Word(address), port), listener);
    else this.#ipv6.set(port, [...(this.#ipv6.get(port) ?? []), { address: address.slice(), listener }]);
  }

  delete(address: Address, port: number): void {
    if (isIpv4(address)) {
      this.#ipv4.delete(keyOf(ipv4Word(address), port));
      return;
    }
    const others = (this.#ipv6.get(port) ?? []).filter((other) => !equal(other.address, address));
    if (others.length > 0) this.#ipv6.set(port, others);
    else this.#ipv6.delete(port);
  }

  /** Whoever listens to this very address. */
  at(address: Address, port: number): T | undefined {
    if (isIpv4(address)) return this.#ipv4.get(keyOf(ipv4Word(address), port));
    return this.#ipv6.get(port)?.find((other) => equal(other.address, address))?.listener;
  }

  /** Whoever listens at a packet's destination. */
  of(packet: Packet, port: number): T | undefined {
    if (!packet.isIpv6) return this.#ipv4.get(keyOf(packet.destination3, port)) ?? this.#ipv4.get(port);
    const listeners = this.#ipv6.get(port);
    if (!listeners) return undefined;
    let all: T | undefined;
    for (const { address, listener } of listeners) {
      if (
        word(address, 3) === packet.destination3 &&
        word(address, 2) === packet.destination2 &&
        word(address, 1) === packet.destination1 &&
        word(address, 0) === packet.destination0
      )
        return listener;
      if (isUnspecified(address)) all = listener;
    }
    return all;
  }
}
