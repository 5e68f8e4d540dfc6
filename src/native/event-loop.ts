/**
 * The event loop of the data path: one epoll set for every link and socket that is served by system calls, waited on
 * here and not in libuv. A turn is one epoll_wait, the handlers of what is ready, and what they put off; libuv's own turn
 * around a callback costs more than all of a small packet's work.
 *
 * Who has the thread: libuv's descriptor (`uv_backend_fd`, an epoll set itself) is a member of the set. While libuv has
 * nothing to do, turn follows turn in here; as soon as it has (its descriptor is readable, its next timer is due, an
 * immediate or a new handle waits for it: `uv_backend_timeout` tells), the thread goes back to it for one turn of its
 * own. An eventfd that libuv polls, set on the way out, brings it back here. So Node's timers, sockets, signals and workers
 * go on as ever, and while both are busy they alternate.
 * Promises and ticks that handlers leave behind are run at the end of each turn, as Node does after each callback. What
 * they do may call back through Node itself, as its HTTP parser does, which takes itself for the outermost callback where
 * there is none and aborts. So turns are run inside of one: koffi's is none, the immediate that it asks for is. (It must be
 * without a reference: one with it would make libuv say that it has something to do.)
 *
 * There is one loop a thread, as there is one of libuv's, and this is the main thread's: libuv tells no other.
 *
 * What is best done when nothing else comes at once (`quiet`) is done when no event has come and the thread would sleep,
 * and after `MOST_TURNS` turns in any case.
 *
 * Registrations are for as long as the descriptor is open. Handlers may add and remove freely: a registration removed
 * within a turn gets none of that turn's events, and a descriptor used anew is not mistaken for the old one. A handler
 * that throws is a bug, and ends the process as one.
 */

import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';
import { Place } from './memory.ts';
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLL_EVENT,
  EPOLL_EVENT_DATA,
  EPOLLIN,
  epollControl,
  epollCreate,
  epollWait,
  errorOf,
  eventfd,
  read,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  write,
  yieldThread,
} from './system-calls.ts';

const EVENTS = 128;
/**
 * How long events are looked for before the thread sleeps, when one follows the other within three times as long, work
 * included: to be woken takes longer than a small packet does. Where they come seldom, or are much work, nobody looks.
 */
const BRISK_MS = 0.03;
/** What waits for quiet waits for no more turns than these. */
const MOST_TURNS = 4;
/** The registration of libuv's descriptor. */
const LIBUV = 0;

export interface ReadyHandler {
  /** The EPOLL* bits that are set. */
  ready(events: number): void;
}

/** Whose handlers have run is told so, once, at the end of the turn. */
export interface TurnHandler {
  turnOver(): void;
}

let loop: EventLoop | undefined;

export class EventLoop {
  readonly #epoll: number;
  readonly #uv: Libuv;
  readonly #wake: number;
  readonly #counter = new Place(8);
  readonly #watch: ReturnType<typeof koffi.node.poll>;
  readonly #events = new Place(EVENTS * EPOLL_EVENT);
  readonly #event = new Place(EPOLL_EVENT);
  readonly #handlers: (ReadyHandler | undefined)[] = [];
  readonly #owners: (TurnHandler | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #free: number[] = [];
  /** Who is to be told at the end of the turn. */
  readonly #told: TurnHandler[] = [];
  readonly #soon = new CallList();
  /** What waits for quiet, and turns since it was empty. */
  readonly #quiet = new CallList();
  #turns = 0;
  /** How many keep the process alive. */
  #held = 0;
  /** The last events came at once. */
  #brisk = false;
  #heardMs = 0;
  #heldForSoon = false;
  #inside = false;

  /** The main thread's loop. Throws where there is none to be had: another thread, another system. */
  static get(): EventLoop {
    loop ??= new EventLoop();
    return loop;
  }

  private constructor() {
    if (!isMainThread) throw new Error('only the main thread has a native event loop');
    this.#uv = libuv();
    this.#epoll = epollCreate(SOCK_CLOEXEC);
    if (this.#epoll < 0) throw errorOf('epoll_create1', this.#epoll);
    const result = this.#control(EPOLL_CTL_ADD, this.#uv.fd, EPOLLIN, LIBUV);
    if (result < 0) throw errorOf('epoll_ctl', result);
    this.#handlers[LIBUV] = { ready: () => {} };
    this.#wake = eventfd(1, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (this.#wake < 0) throw errorOf('eventfd', this.#wake);
    this.#watch = koffi.node.poll(this.#wake, { readable: true }, () => void setImmediate(this.#run).unref());
    this.#watch.unref();
    // Node runs libuv once more at its end, when nothing may be called any more.
    process.once('exit', () => this.#watch.close());
  }

  /** Registers a descriptor; returns the registration, or the negative errno. */
  add(fd: number, events: number, handler: ReadyHandler, owner: TurnHandler): number {
    const registration = this.#free.pop() ?? this.#handlers.length;
    this.#generations[registration] = ((this.#generations[registration] ?? 0) + 1) >>> 0;
    this.#handlers[registration] = undefined;
    const result = this.#control(EPOLL_CTL_ADD, fd, events, registration);
    if (result < 0) {
      this.#free.push(registration);
      return result;
    }
    this.#handlers[registration] = handler;
    this.#owners[registration] = owner;
    return registration;
  }

  /** Waits for other events of `fd`. */
  change(registration: number, fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, registration);
  }

  /** Forgets a registration. Without `fd` the descriptor is closed next, and no other process has a copy of it. */
  remove(registration: number, fd?: number): void {
    if (this.#handlers[registration] === undefined) return;
    if (fd !== undefined) this.#control(EPOLL_CTL_DEL, fd, 0, registration);
    this.#handlers[registration] = undefined;
    this.#owners[registration] = undefined;
    this.#generations[registration] = (this.#generations[registration]! + 1) >>> 0;
    this.#free.push(registration);
  }

  /** Calls `run` at the end of this turn, or of the next when it is too late for this one. The process does not end before. */
  soon(run: () => void): void {
    if (this.#soon.add(run) === 1 && !this.#inside) this.#holdForSoon();
  }

  /** Calls `run` when nothing has come at once, or a few turns from now. The process does not end before. */
  quiet(run: () => void): void {
    if (this.#quiet.add(run) > 1) return;
    this.#turns = 0;
    if (!this.#inside) this.#holdForSoon();
  }

  /** The process does not end before as many calls of `release`. */
  hold(): void {
    if (this.#held++ === 0) this.#watch.ref();
  }

  release(): void {
    if (--this.#held === 0) this.#watch.unref();
  }

  #holdForSoon(): void {
    if (this.#heldForSoon) return;
    this.#heldForSoon = true;
    this.hold();
  }

  #control(operation: number, fd: number, events: number, registration: number): number {
    const { view, address } = this.#event;
    view.setUint32(0, events >>> 0, true);
    view.setUint32(EPOLL_EVENT_DATA, registration, true);
    view.setUint32(EPOLL_EVENT_DATA + 4, this.#generations[registration] ?? 0, true);
    return epollControl(this.#epoll, operation, fd, address);
  }

  /** Turn after turn, until libuv is needed. */
  readonly #run = (): void => {
    read(this.#wake, this.#counter.address, 8);
    this.#inside = true;
    if (this.#heldForSoon) {
      this.#heldForSoon = false;
      this.release();
    }
    try {
      while (this.#turn());
    } finally {
      this.#inside = false;
      if (this.#soon.size + this.#quiet.size > 0) this.#holdForSoon();
      this.#counter.view.setUint32(0, 1, true);
      write(this.#wake, this.#counter.address, 8);
    }
  };

  /** False: libuv has something to do. */
  #turn(): boolean {
    const uv = this.#uv;
    const timeoutMs = uv.timeoutMs();
    const count = this.#wait(this.#soon.size > 0 ? 0 : timeoutMs);
    const nothing = count === 0 && this.#soon.size === 0;
    const isQuiet = this.#quiet.size > 0 && (nothing || ++this.#turns === MOST_TURNS);
    let forUv = timeoutMs === 0 || (nothing && !isQuiet);
    // Timers are set by libuv's time.
    uv.updateTime();
    if (count > 0 && this.#tell(count)) forUv = true;
    for (const handler of this.#told) handler.turnOver();
    this.#told.length = 0;
    if (isQuiet) this.#quiet.run();
    this.#soon.run();
    uv.settle();
    return !forUv;
  }

  /** Waits for events; with something to do when it is quiet, no longer than it is worth. */
  #wait(timeoutMs: number): number {
    const events = this.#events.address;
    if (timeoutMs === 0) return epollWait(this.#epoll, events, EVENTS, 0);
    const startMs = performance.now();
    let count = 0;
    if (this.#brisk)
      do {
        // Whoever is to answer may be waiting for this very core.
        yieldThread();
        count = epollWait(this.#epoll, events, EVENTS, 0);
      } while (count === 0 && performance.now() - startMs < BRISK_MS);
    if (count === 0) {
      const hasQuietWork = this.#quiet.size > 0;
      count = epollWait(this.#epoll, events, EVENTS, hasQuietWork ? 0 : timeoutMs);
      if (count === 0 && hasQuietWork) {
        // Nobody looks twice.
        this.#brisk = false;
        return 0;
      }
    }
    const nowMs = performance.now();
    this.#brisk = nowMs - this.#heardMs < 3 * BRISK_MS;
    this.#heardMs = nowMs;
    return count;
  }

  /** True: libuv's descriptor is ready. */
  #tell(count: number): boolean {
    const { view } = this.#events;
    const told = this.#told;
    let forUv = false;
    for (let i = 0, at = 0; i < count; i++, at += EPOLL_EVENT) {
      const registration = view.getUint32(at + EPOLL_EVENT_DATA, true);
      if (registration === LIBUV) forUv = true;
      else if (this.#generations[registration] === view.getUint32(at + EPOLL_EVENT_DATA + 4, true)) {
        const owner = this.#owners[registration]!;
        if (!told.includes(owner)) told.push(owner);
        this.#handlers[registration]!.ready(view.getUint32(at, true));
      }
    }
    return forUv;
  }
}

/** What is to be called once. */
class CallList {
  #calls: (() => void)[] = [];
  #spare: (() => void)[] = [];

  get size(): number {
    return this.#calls.length;
  }

  /** How many there are now. */
  add(run: () => void): number {
    return this.#calls.push(run);
  }

  /** Makes the calls there are; what they add waits for the next time. */
  run(): void {
    const due = this.#calls;
    this.#calls = this.#spare;
    for (const run of due) run();
    due.length = 0;
    this.#spare = due;
  }
}

interface Libuv {
  readonly fd: number;
  /** How long libuv would wait: 0, it has something to do; -1, for ever. */
  timeoutMs(): number;
  updateTime(): void;
  /** Runs ticks and promises. */
  settle(): void;
}

/** The thread's libuv, by the functions that it offers to those who embed it. Throws where Node does not export them. */
function libuv(): Libuv {
  const lib = koffi.load(null);
  const bind = (prototype: string): ((loop: number) => number) =>
    lib.func(prototype) as unknown as (loop: number) => number;
  const loop = (lib.func('uintptr_t uv_default_loop()') as unknown as () => number)();
  const fd = bind('int uv_backend_fd(uintptr_t)')(loop);
  const timeout = bind('int uv_backend_timeout(uintptr_t)');
  const update = bind('void uv_update_time(uintptr_t)');
  // Node's own name for what runs after each of its callbacks; undocumented, and as old as Node.
  const settle = (process as unknown as { _tickCallback?: () => void })._tickCallback;
  if (!settle) throw new Error('this Node does not let its ticks be run');
  return { fd, timeoutMs: () => timeout(loop), updateTime: () => void update(loop), settle };
}
