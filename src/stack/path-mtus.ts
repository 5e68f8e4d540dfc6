/**
 * What routers behind guests have said of the way to an address: packets larger than this do not get there. RFC 8201.
 * TCP keeps what it is told with its connection; this is for datagrams, which IPv6 cuts at their source alone.
 *
 * Limits: `MOST` addresses, the oldest goes; what was said is forgotten after `LIFETIME_MS` (RFC 8201 4), so that a way
 * that has become wider is found.
 */

import type { Address } from './port.ts';
import { word } from './wire/address.ts';
import { MINIMUM_MTU } from './wire/ipv6.ts';

const MOST = 256;
const LIFETIME_MS = 600_000;

interface PathMtu {
  readonly mtu: number;
  readonly untilMs: number;
}

const keyOf = (address: Address): string =>
  `${word(address, 0)},${word(address, 1)},${word(address, 2)},${word(address, 3)}`;

export class PathMtus {
  readonly #paths = new Map<string, PathMtu>();
  /** The time of the call that is under way, or was the last. */
  nowMs = 0;

  /** The largest packet for an address; Infinity: nothing is known. */
  of(destination: Address): number {
    if (this.#paths.size === 0) return Number.POSITIVE_INFINITY;
    const key = keyOf(destination);
    const path = this.#paths.get(key);
    if (!path) return Number.POSITIVE_INFINITY;
    if (path.untilMs > this.nowMs) return path.mtu;
    this.#paths.delete(key);
    return Number.POSITIVE_INFINITY;
  }

  /** A packet was too big: only less than is known, and never less than every link carries (RFC 8201 4). */
  tooBig(destination: Address, mtu: number, nowMs: number): void {
    this.nowMs = nowMs;
    if (mtu < MINIMUM_MTU || mtu >= this.of(destination)) return;
    const key = keyOf(destination);
    this.#paths.delete(key);
    if (this.#paths.size >= MOST) {
      for (const oldest of this.#paths.keys()) {
        this.#paths.delete(oldest);
        break;
      }
    }
    this.#paths.set(key, { mtu, untilMs: nowMs + LIFETIME_MS });
  }
}
