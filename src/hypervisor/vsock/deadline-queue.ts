/** Items that expire after one fixed delay, first in first out: one timer for all, O(1) to add and delete. */

export interface Timers {
  nowMs(): number;
  /** Returns the way to cancel. */
  after(delayMs: number, callback: () => void): () => void;
}

export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

export class DeadlineQueue<T> {
  readonly #delayMs: number;
  readonly #timers: Timers;
  readonly #onExpired: (item: T) => void;
  /** Item to deadline; insertion order is deadline order. */
  readonly #items = new Map<T, number>();
  #cancel: (() => void) | undefined;

  constructor(delayMs: number, timers: Timers, onExpired: (item: T) => void) {
    this.#delayMs = delayMs;
    this.#timers = timers;
    this.#onExpired = onExpired;
  }

  get size(): number {
    return this.#items.size;
  }

  /** The item that expires first. */
  get oldest(): T | undefined {
    return this.#items.keys().next().value;
  }

  add(item: T): void {
    this.#items.delete(item);
    this.#items.set(item, this.#timers.nowMs() + this.#delayMs);
    this.#cancel ??= this.#timers.after(this.#delayMs, () => this.#expire());
  }

  delete(item: T): boolean {
    const had = this.#items.delete(item);
    if (this.#items.size === 0) this.#stop();
    return had;
  }

  clear(): void {
    this.#items.clear();
    this.#stop();
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #expire(): void {
    this.#cancel = undefined;
    const nowMs = this.#timers.nowMs();
    for (const [item, deadline] of this.#items) {
      if (deadline > nowMs) {
        this.#cancel ??= this.#timers.after(deadline - nowMs, () => this.#expire());
        return;
      }
      this.#items.delete(item);
      this.#onExpired(item);
    }
  }
}
