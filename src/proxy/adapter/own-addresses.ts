/** The addresses that the host has beside its loopback's: looked up again when asked a while later. */

import { networkInterfaces } from 'node:os';
import type { Address, Clock } from '../../stack/port.ts';
import { kind, parseAddress } from '../../stack/wire/address.ts';

/** An address that is new may be a guest's to reach for this long. */
const KEEP_MS = 1000;

export class OwnAddresses {
  readonly #clock: Clock;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #addresses: readonly Address[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  current(): readonly Address[] {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#lookedAtMs < KEEP_MS) return this.#addresses;
    this.#lookedAtMs = nowMs;
    const found: Address[] = [];
    for (const interfaces of Object.values(networkInterfaces()))
      for (const { address: text } of interfaces ?? []) {
        const address = parseAddress(text.replace(/%.*/, ''));
        if (address && kind(address) !== 'loopback') found.push(address);
      }
    this.#addresses = found;
    return found;
  }
}
