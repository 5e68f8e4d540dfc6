/**
 * One owner's share of the thread's event loop: its descriptors, what it puts off, and its word when a turn is over.
 *
 * Sockets are registered once, for everything they will ever wait for. Whoever registers with EPOLLET works until the
 * socket would block. `defer` is for what must not happen inside the call that causes it, such as telling that a stream
 * is closed: it runs after the turn's events, before `turnOver` is told.
 */

import { EventLoop, type ReadyHandler, type TurnHandler } from './event-loop.ts';

export type { ReadyHandler } from './event-loop.ts';

/** To be run when the turn's events are done. */
export interface Deferred {
  deferred(): void;
}

export class Readiness implements TurnHandler {
  readonly #loop = EventLoop.get();
  readonly #turnOver: () => void;
  /** Whether a registration keeps the process alive. */
  readonly #holds: boolean[] = [];
  #deferred: Deferred[] = [];
  #spare: Deferred[] = [];
  readonly #later = (): void => {
    if (this.#deferred.length > 0) this.turnOver();
  };

  /** `turnOver` is called once after handlers have run. Throws where there is no native loop to be had. */
  constructor(turnOver: () => void = () => {}) {
    this.#turnOver = turnOver;
  }

  /**
   * Registers a descriptor; returns the registration to be given to `remove`, or the negative errno. While there is one
   * that `keepsAlive`, the process does not end for want of work.
   */
  add(fd: number, events: number, handler: ReadyHandler, keepsAlive = true): number {
    const registration = this.#loop.add(fd, events, handler, this);
    if (registration < 0) return registration;
    this.#holds[registration] = keepsAlive;
    if (keepsAlive) this.#loop.hold();
    return registration;
  }

  /** Waits for other events of `fd`. */
  change(registration: number, fd: number, events: number): void {
    this.#loop.change(registration, fd, events);
  }

  /** Forgets a registration. Without `fd` the descriptor is closed next, and no other process has a copy of it. */
  remove(registration: number, fd?: number): void {
    if (this.#holds[registration] === undefined) return;
    this.#loop.remove(registration, fd);
    if (this.#holds[registration]) this.#loop.release();
    delete this.#holds[registration];
  }

  /** Runs after the events of the turn under way, or soon. */
  defer(deferred: Deferred): void {
    if (this.#deferred.push(deferred) === 1) this.#loop.soon(this.#later);
  }

  /** Calls `run` at the end of a turn. */
  soon(run: () => void): void {
    this.#loop.soon(run);
  }

  /** Calls `run` when nothing has come at once, or a few turns from now. */
  quiet(run: () => void): void {
    this.#loop.quiet(run);
  }

  turnOver(): void {
    while (this.#deferred.length > 0) {
      const due = this.#deferred;
      this.#deferred = this.#spare;
      for (const one of due) one.deferred();
      due.length = 0;
      this.#spare = due;
    }
    this.#turnOver();
  }
}
