/**
 * Descriptors of the devices on the thread's event loop, edge-triggered: a callback learns of each change once, and works
 * until the descriptor would block. Descriptors may be shared with other processes, as a queue's eventfd is.
 *
 * After the callbacks of a turn `settled` runs once; that is where work is gathered (one flush a turn).
 */

import { Readiness, type ReadyHandler } from '../../native/readiness.ts';
import { codeOf, EPOLLET } from '../../native/system-calls.ts';

/** Called with the EPOLL* bits that became true. */
export type ReadyCallback = (events: number) => void;

export class Poller {
  readonly #readiness: Readiness;
  readonly #settled: () => void;
  readonly #registrations = new Map<number, number>();

  constructor(settled: () => void = () => {}) {
    this.#settled = settled;
    this.#readiness = new Readiness(settled);
  }

  /** Watches a descriptor. Hang-up and errors are always reported. */
  add(fd: number, events: number, callback: ReadyCallback): void {
    const handler: ReadyHandler = { ready: callback };
    const registration = this.#readiness.add(fd, events | EPOLLET, handler);
    if (registration < 0) throw new Error(`cannot watch descriptor ${fd}: ${codeOf(registration)}`);
    this.#registrations.set(fd, registration);
  }

  /** Stops watching; call it before the descriptor is closed. */
  remove(fd: number): void {
    const registration = this.#registrations.get(fd);
    if (registration === undefined) return;
    this.#registrations.delete(fd);
    this.#readiness.remove(registration, fd);
  }

  get size(): number {
    return this.#registrations.size;
  }

  /** Calls `run` at the end of a turn of the loop. */
  soon(run: () => void): void {
    this.#readiness.soon(run);
  }

  /** Ends a batch of work that began elsewhere, such as in a timer. */
  settle(): void {
    this.#settled();
  }

  close(): void {
    for (const fd of [...this.#registrations.keys()]) this.remove(fd);
  }
}
