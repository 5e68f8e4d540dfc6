/**
 * Readiness of many descriptors on Node's own event loop: one epoll set, itself watched by one uv_poll handle, so that
 * a turn of the loop costs one call into JavaScript and one system call however many descriptors are ready.
 *
 * Watching is edge-triggered: a callback learns of each change once, and works until the descriptor would block.
 * After a batch of callbacks `settled` runs once; that is where work is gathered (one flush per batch). Callbacks may
 * add, remove and close descriptors freely: a descriptor removed within a batch gets none of that batch's events.
 *
 * koffi calls back outside Node's callback scope: promises and process.nextTick wait for the loop's next own callback.
 * Nothing here relies on them; code that must resolve a promise does so from setImmediate.
 */

import koffi from 'koffi';
import {
  addressOf,
  close,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLET,
  epollControl,
  epollCreate,
  epollDataOffset,
  epollEventOctets,
  epollWait,
  errnoName,
  SOCK_CLOEXEC,
} from './libc.ts';

/** Called with the EPOLL* bits that became true. */
export type ReadyCallback = (events: number) => void;

const batchSize = 64;
/** Batches taken in one go before the loop gets its turn. */
const batchesPerTurn = 4;

export class Poller {
  readonly #epoll: number;
  readonly #handle: ReturnType<typeof koffi.node.poll>;
  readonly #watched = new Map<number, ReadyCallback>();
  readonly #tokens = new Map<number, number>();
  readonly #settled: () => void;
  readonly #events = new ArrayBuffer(batchSize * epollEventOctets);
  readonly #eventsView = new DataView(this.#events);
  readonly #eventsAddress = addressOf(this.#events);
  readonly #one = new ArrayBuffer(16);
  readonly #oneView = new DataView(this.#one);
  readonly #oneAddress = addressOf(this.#one);
  #nextToken = 1;
  #closed = false;

  constructor(settled: () => void = () => {}) {
    this.#settled = settled;
    this.#epoll = epollCreate(SOCK_CLOEXEC);
    if (this.#epoll < 0) throw new Error(`epoll_create1 failed: ${errnoName(this.#epoll)}`);
    this.#handle = koffi.node.poll(this.#epoll, { readable: true }, () => this.#dispatch());
  }

  /** Watches a descriptor, edge-triggered. Hang-up and errors are always reported. */
  add(fd: number, events: number, callback: ReadyCallback): void {
    const token = this.#nextToken++;
    this.#oneView.setUint32(0, (events | EPOLLET) >>> 0, true);
    this.#oneView.setUint32(epollDataOffset, token >>> 0, true);
    this.#oneView.setUint32(epollDataOffset + 4, Math.floor(token / 2 ** 32), true);
    const result = epollControl(this.#epoll, EPOLL_CTL_ADD, fd, this.#oneAddress);
    if (result < 0) throw new Error(`cannot watch descriptor ${fd}: ${errnoName(result)}`);
    this.#watched.set(token, callback);
    this.#tokens.set(fd, token);
  }

  /** Stops watching; call it before the descriptor is closed. */
  remove(fd: number): void {
    const token = this.#tokens.get(fd);
    if (token === undefined) return;
    this.#tokens.delete(fd);
    this.#watched.delete(token);
    epollControl(this.#epoll, EPOLL_CTL_DEL, fd, this.#oneAddress);
  }

  get size(): number {
    return this.#watched.size;
  }

  /** Ends a batch of work that began elsewhere, such as in a timer. */
  settle(): void {
    if (!this.#closed) this.#settled();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handle.close();
    close(this.#epoll);
    this.#watched.clear();
    this.#tokens.clear();
  }

  #dispatch(): void {
    try {
      for (let batch = 0; batch < batchesPerTurn && !this.#closed; batch++) {
        const count = epollWait(this.#epoll, this.#eventsAddress, batchSize, 0);
        if (count <= 0) return;
        for (let index = 0; index < count; index++) {
          const at = index * epollEventOctets;
          const low = this.#eventsView.getUint32(at + epollDataOffset, true);
          const high = this.#eventsView.getUint32(at + epollDataOffset + 4, true);
          this.#watched.get(low + high * 2 ** 32)?.(this.#eventsView.getUint32(at, true));
        }
        this.#settled();
        if (count < batchSize) return;
      }
    } catch (error) {
      // An exception must not unwind through koffi: it is a bug, and ends the process as one.
      setImmediate(() => {
        throw error;
      });
    }
  }
}
