/**
 * How much each stream may have held on its way to a host socket: the sum over all streams stays within the budget,
 * and late streams get a smaller window rather than none.
 */

export class WindowBudget {
  readonly #largest: number;
  readonly #smallest: number;
  readonly #total: number;
  #reserved = 0;

  constructor(largest: number, streams: number, totalOctets: number) {
    this.#largest = largest;
    this.#total = totalOctets;
    this.#smallest = Math.min(largest, Math.max(4096, Math.floor(totalOctets / streams / 4)));
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** Takes a share of the budget for one stream: its window. */
  reserve(): number {
    const share = Math.floor((this.#total - this.#reserved) / 64);
    const octets = Math.min(this.#largest, Math.max(this.#smallest, share));
    this.#reserved += octets;
    return octets;
  }

  release(octets: number): void {
    this.#reserved -= octets;
  }
}
