/**
 * The host's clock as the time server tells it. On Linux by adjtimex(2), which says with the time how good it is;
 * elsewhere Node's, to the millisecond, about which nothing more is known.
 */

import type { WallClock, WallTime } from '../port.ts';

/** Exponents of two, in seconds: a microsecond, and a millisecond. */
const MICROSECOND = -20;
const MILLISECOND = -9;

export const nodeClock: WallClock = {
  read: () => ({ epochMs: Date.now(), inStep: false, leap: 0, maxErrorMs: 0, precision: MILLISECOND }),
};

/** Where the system has a better clock, it is loaded with the first question; Node's answers that one. */
export class HostClock implements WallClock {
  #clock: WallClock = nodeClock;
  #loading = process.platform !== 'linux';

  read(): WallTime {
    if (!this.#loading) void this.#load();
    return this.#clock.read();
  }

  async #load(): Promise<void> {
    this.#loading = true;
    try {
      const { LinuxClock } = await import('./linux-clock.ts');
      this.#clock = new LinuxClock(MICROSECOND, nodeClock);
    } catch {
      // No foreign functions here: Node's clock will do.
    }
  }
}
