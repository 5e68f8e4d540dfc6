/** The system clock of Linux and what the kernel knows of its quality: adjtimex(2) without a change. */

import { Place } from '../../native/memory.ts';
import { adjtimex } from '../../native/system-calls.ts';
import type { WallClock, WallTime } from '../port.ts';

/** struct timex with 64-bit longs, and offsets in it. */
const TIMEX = 208;
const MAX_ERROR = 24;
const STATUS = 40;
const SECONDS = 72;
const FRACTION = 80;

const STA_UNSYNC = 0x40;
/** The fraction is of nanoseconds, not microseconds. */
const STA_NANO = 0x2000;
/** Results: a second is inserted, or left out, at the end of the day; the clock is not in step. */
const TIME_INS = 1;
const TIME_DEL = 2;
const TIME_ERROR = 5;

export class LinuxClock implements WallClock {
  readonly #timex = new Place(TIMEX);
  readonly #precision: number;
  readonly #other: WallClock;

  /** `other` is read where the system call is forbidden. */
  constructor(precision: number, other: WallClock) {
    this.#precision = precision;
    this.#other = other;
  }

  read(): WallTime {
    const { view, address } = this.#timex;
    view.setUint32(0, 0, true);
    const state = adjtimex(address);
    if (state < 0) return this.#other.read();
    const status = view.getInt32(STATUS, true);
    const perMs = (status & STA_NANO) !== 0 ? 1e6 : 1e3;
    return {
      epochMs: Number(view.getBigInt64(SECONDS, true)) * 1000 + Number(view.getBigInt64(FRACTION, true)) / perMs,
      inStep: state !== TIME_ERROR && (status & STA_UNSYNC) === 0,
      leap: state === TIME_INS || state === TIME_DEL ? state : 0,
      maxErrorMs: Number(view.getBigInt64(MAX_ERROR, true)) / 1000,
      precision: this.#precision,
    };
  }
}
