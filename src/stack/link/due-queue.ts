/** Frames in the order in which they are due: a binary heap by time, and by arrival where times are equal. */

export class DueQueue {
  readonly #at: number[] = [];
  readonly #order: number[] = [];
  readonly #frame: number[] = [];
  #arrivals = 0;

  get size(): number {
    return this.#at.length;
  }

  /** When the first is due; Infinity: there is none. */
  get nextMs(): number {
    return this.#at[0] ?? Number.POSITIVE_INFINITY;
  }

  /** The first. Meaningful while there is one. */
  get first(): number {
    return this.#frame[0]!;
  }

  push(frame: number, atMs: number): void {
    let i = this.#at.length;
    const order = this.#arrivals++;
    // Up, until the one above is due no later.
    while (i > 0) {
      const above = (i - 1) >> 1;
      if (this.#at[above]! <= atMs) break;
      this.#move(above, i);
      i = above;
    }
    this.#put(i, atMs, order, frame);
  }

  shift(): number {
    const frame = this.first;
    const [atMs, order, last] = [this.#at.pop()!, this.#order.pop()!, this.#frame.pop()!];
    const size = this.#at.length;
    if (size === 0) return frame;
    let i = 0;
    for (let below = 1; below < size; below = 2 * i + 1) {
      if (below + 1 < size && this.#before(below + 1, this.#at[below]!, this.#order[below]!)) below++;
      if (!this.#before(below, atMs, order)) break;
      this.#move(below, i);
      i = below;
    }
    this.#put(i, atMs, order, last);
    return frame;
  }

  #before(i: number, atMs: number, order: number): boolean {
    return this.#at[i]! < atMs || (this.#at[i]! === atMs && this.#order[i]! < order);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#at[from]!, this.#order[from]!, this.#frame[from]!);
  }

  #put(i: number, atMs: number, order: number, frame: number): void {
    this.#at[i] = atMs;
    this.#order[i] = order;
    this.#frame[i] = frame;
  }
}
