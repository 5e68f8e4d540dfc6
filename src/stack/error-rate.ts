/** How many ICMP errors may be sent: a bucket of tokens that time fills. RFC 1812 4.3.2.8, RFC 4443 2.4(f). */

import { DOUBLE_ZERO } from './wire/double.ts';

const ERRORS_PER_SECOND = 1000;
const ERROR_BURST = 200;

export class ErrorRate {
  #tokens = ERROR_BURST;
  #atMs = DOUBLE_ZERO;

  /** Whether one more may go now; it is counted. */
  allows(nowMs: number): boolean {
    const more = ((nowMs - this.#atMs) * ERRORS_PER_SECOND) / 1000;
    this.#tokens = Math.min(ERROR_BURST, this.#tokens + Math.max(0, more));
    this.#atMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
