/**
 * Readiness of all native sockets on Node's own loop: one epoll set, itself watched by one handle, so that a turn of
 * the loop costs one call into JavaScript and one system call however many sockets are ready. (A socket watched by
 * a handle of its own would lose its watch with the first error.)
 *
 * Sockets are registered once, for everything they will ever wait for, and closed without being taken out: closing does
 * that. Whoever registers with EPOLLET works until the socket would block. Handlers may add and remove freely: a
 * registration removed within a batch gets none of that batch's events, and a descriptor used anew is not mistaken for
 * the old one.
 *
 * `defer` is for what must not happen inside the call that causes it, such as telling that a stream is closed: it runs
 * after the batch's events, or soon. `serviced` is told once when the handlers of a turn have run.
 *
 * koffi calls back outside of Node's callback scope, where promises and ticks stay undone until Node's next callback;
 * so every turn asks for one.
 */

import koffi from 'koffi';
import {
  close,
  EPOLL_CTL_ADD,
  EPOLL_EVENT,
  EPOLL_EVENT_DATA,
  epollControl,
  epollCreate,
  epollWait,
  errorOf,
  Place,
  SOCK_CLOEXEC,
} from './linux-socket.ts';

const EVENTS = 128;
/** Batches of one turn, before the rest of the loop has its own. */
const BATCHES = 4;

export interface ReadyHandler {
  /** The EPOLL* bits that are set. */
  ready(events: number): void;
}

/** To be run when the batch is done. */
export interface Deferred {
  deferred(): void;
}

export class LinuxReadiness {
  readonly #serviced: () => void;
  #epoll: number;
  readonly #events = new Place(EVENTS * EPOLL_EVENT);
  readonly #event = new Place(EPOLL_EVENT);
  readonly #handlers: (ReadyHandler | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #keepsAlive: boolean[] = [];
  readonly #free: number[] = [];
  readonly #watch: ReturnType<typeof koffi.node.poll>;
  #registered = 0;
  /** Registrations that keep the process alive. */
  #alive = 0;
  #closing = false;
  #deferred: Deferred[] = [];
  #spare: Deferred[] = [];
  #dispatching = false;
  #soon = false;

  /** Throws where there is no epoll to be had. */
  constructor(serviced: () => void = () => {}) {
    this.#serviced = serviced;
    this.#epoll = epollCreate(SOCK_CLOEXEC);
    if (this.#epoll < 0) throw errorOf('epoll_create1', this.#epoll);
    this.#watch = koffi.node.poll(this.#epoll, { readable: true }, () => this.look());
    this.#watch.unref();
  }

  /**
   * Registers a descriptor; returns the registration to be given to `remove`, or the negative errno. While there is one
   * that `keepsAlive`, the process does not end for want of work.
   */
  add(fd: number, events: number, handler: ReadyHandler, keepsAlive = true): number {
    const slot = this.#free.pop() ?? this.#handlers.length;
    const generation = ((this.#generations[slot] ?? 0) + 1) >>> 0;
    const { view, address } = this.#event;
    view.setUint32(0, events >>> 0, true);
    view.setUint32(EPOLL_EVENT_DATA, slot, true);
    view.setUint32(EPOLL_EVENT_DATA + 4, generation, true);
    this.#generations[slot] = generation;
    this.#handlers[slot] = undefined;
    const result = epollControl(this.#epoll, EPOLL_CTL_ADD, fd, address);
    if (result < 0) {
      this.#free.push(slot);
      return result;
    }
    this.#handlers[slot] = handler;
    this.#keepsAlive[slot] = keepsAlive;
    this.#registered++;
    if (keepsAlive && this.#alive++ === 0) this.#watch.ref();
    return slot;
  }

  /** Forgets a registration; the descriptor is to be closed next. */
  remove(registration: number): void {
    if (this.#handlers[registration] === undefined) return;
    this.#handlers[registration] = undefined;
    this.#generations[registration] = (this.#generations[registration]! + 1) >>> 0;
    this.#free.push(registration);
    if (this.#keepsAlive[registration] && --this.#alive === 0) this.#watch.unref();
    this.#registered--;
    this.#closeWhenEmpty();
  }

  /** Runs after the events of the batch under way, or soon. */
  defer(deferred: Deferred): void {
    this.#deferred.push(deferred);
    if (this.#dispatching || this.#soon) return;
    this.#soon = true;
    setImmediate(this.#later);
  }

  /** Runs a handler that has work left from an earlier turn. From a callback of Node's. */
  run(handler: ReadyHandler): void {
    handler.ready(0);
    this.#runDeferred();
    this.#serviced();
  }

  /** Gives the epoll set back, with the last registration. */
  close(): void {
    this.#closing = true;
    this.#closeWhenEmpty();
  }

  #closeWhenEmpty(): void {
    if (!this.#closing || this.#registered > 0 || this.#epoll < 0) return;
    this.#watch.close();
    close(this.#epoll);
    this.#epoll = -1;
  }

  readonly #later = (): void => {
    this.#soon = false;
    this.#runDeferred();
    this.#serviced();
  };

  /** Tells what is ready. The loop calls it when there is something; others may, who expect that there is. */
  look(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    try {
      let told = false;
      for (let batch = 0; batch < BATCHES; batch++) {
        const count = epollWait(this.#epoll, this.#events.address, EVENTS, 0);
        if (count <= 0) break;
        told = true;
        this.#tell(count);
        this.#runDeferred();
        if (count < EVENTS) break;
      }
      if (told) {
        this.#serviced();
        setImmediate(settle);
      }
    } catch (error) {
      // It must not unwind through koffi: it is a bug, and ends the process as one.
      setImmediate(() => {
        throw error;
      });
    }
    this.#dispatching = false;
  }

  #tell(count: number): void {
    const { view } = this.#events;
    for (let i = 0, at = 0; i < count; i++, at += EPOLL_EVENT) {
      const slot = view.getUint32(at + EPOLL_EVENT_DATA, true);
      if (this.#generations[slot] !== view.getUint32(at + EPOLL_EVENT_DATA + 4, true)) continue;
      this.#handlers[slot]?.ready(view.getUint32(at, true));
    }
  }

  #runDeferred(): void {
    while (this.#deferred.length > 0) {
      const due = this.#deferred;
      this.#deferred = this.#spare;
      for (const one of due) one.deferred();
      due.length = 0;
      this.#spare = due;
    }
  }
}

/** Node's callback after which it sees to promises and ticks. */
const settle = (): void => {};
