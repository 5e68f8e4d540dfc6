/**
 * How much each stream may have held on its way to a host socket: the sum over all streams stays within the budget.
 * A quarter of the budget is shared out evenly beforehand, so that no stream gets nothing; of the rest each takes at
 * most a 64th of what is left, so that early ones are served well and late ones still get a share.
 */

export class WindowBudget {
  readonly #largest: number;
  readonly #smallest: number;
  #left: number;
  #reserved = 0;

  constructor(largest: number, streams: number, totalOctets: number) {
    this.#largest = largest;
    this.#smallest = Math.min(largest, Math.floor(totalOctets / streams / 4));
    this.#left = totalOctets - this.#smallest * streams;
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** Takes a share of the budget for one stream: its window. */
  reserve(): number {
    const octets = this.#smallest + Math.min(this.#largest - this.#smallest, Math.floor(this.#left / 64));
    this.#left -= octets - this.#smallest;
    this.#reserved += octets;
    return octets;
  }

  release(octets: number): void {
    this.#left += octets - this.#smallest;
    this.#reserved -= octets;
  }
}
