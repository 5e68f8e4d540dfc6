/** Timers whose clock a test moves. */

import type { Timers } from '../../../src/hypervisor/vsock/deadline-queue.ts';

export class FakeTimers implements Timers {
  #nowMs = 0;
  readonly #waiting = new Map<() => void, number>();

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const entry = () => callback();
    this.#waiting.set(entry, this.#nowMs + delayMs);
    return () => this.#waiting.delete(entry);
  }

  get size(): number {
    return this.#waiting.size;
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
    for (const [entry, atMs] of [...this.#waiting]) if (atMs <= this.#nowMs && this.#waiting.delete(entry)) entry();
  }
}
