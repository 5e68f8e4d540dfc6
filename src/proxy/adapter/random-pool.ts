/** Unpredictable octets in small portions: the system is asked for a page at a time, and no octet is given twice. */

import { randomFillSync } from 'node:crypto';
import type { Random } from '../../stack/port.ts';

const POOL = 4096;

export class RandomPool implements Random {
  readonly #bytes = new Uint8Array(POOL);
  #used = POOL;

  fill(into: Uint8Array): void {
    if (into.length > POOL / 8) {
      randomFillSync(into);
      return;
    }
    if (this.#used + into.length > POOL) {
      randomFillSync(this.#bytes);
      this.#used = 0;
    }
    const end = this.#used + into.length;
    into.set(this.#bytes.subarray(this.#used, end));
    // What was given is not kept.
    this.#bytes.fill(0, this.#used, end);
    this.#used = end;
  }
}
