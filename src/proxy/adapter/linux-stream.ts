/**
 * A host TCP or unix socket on Linux, pulled: `HostStream` over the system calls themselves.
 *
 * In: `read` is recv(2), and `readv` readv(2), straight to where the octets are wanted; nothing lies between. Watching is edge-triggered, for
 * everything at once and for as long as the socket lives, so that no readiness is asked for twice. A read that came
 * back short has emptied the socket, and the next one is answered without a system call until there is news; not so
 * once FIN, an error or urgent data has been announced, which make a read stop short too.
 *
 * Out: `writev` hands the fragments to writev(2) where they lie. What the kernel does not take, and what is written
 * before the connection stands, is copied to slabs that all streams share, and follows when the socket has room; what
 * `writeRoom` promised is taken so. A stream holds at most `WRITE_BOUND` octets that way, and less when all streams
 * together hold much.
 *
 * Ends: END is read once, after the last octet; `end` is FIN behind what was written; `abort` is RST (a zero linger)
 * and drops everything, as an error of the socket does. `closed` comes once and last, never from within the call that
 * causes it. The descriptor itself is closed at once.
 */

import { addressOf } from '../../native/memory.ts';
import type { Deferred, ReadyHandler } from '../../native/readiness.ts';
import {
  close,
  codeOf,
  EAGAIN,
  EINTR,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
  getpeername,
  getsockname,
  readv,
  recv,
  SHUT_WR,
  SO_LINGER,
  SOL_SOCKET,
  shutdown,
  writev,
} from '../../native/system-calls.ts';
import type { FragmentList } from '../../stack/port.ts';
import { END, FAILED, type HostErrorCode, type HostStream, type StreamHandler, WOULD_BLOCK } from '../port.ts';
import { type LinuxStreamShared, VECTORS } from './linux-stream-shared.ts';
import { SLAB, type WriteSlab } from './write-pool.ts';

/** Octets one stream holds that the kernel has not taken. */
const WRITE_BOUND = 1024 * 1024;
/** Octets all streams hold together before they are asked to be modest. */
const WRITE_BUDGET = 64 * 1024 * 1024;
/** What a stream with nothing pending may always have. */
const WRITE_MODEST = 16 * 1024;
/** `writable` is called when this much is free again. */
const WORTHWHILE = WRITE_BOUND / 2;

const WATCHED = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
const INCOMING = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;
/** A short read says nothing after these. */
const UNUSUAL = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;

export class LinuxStream implements HostStream, ReadyHandler, Deferred {
  owner: unknown = undefined;
  readonly #shared: LinuxStreamShared;
  /** RST is TCP's; a unix socket is closed instead. */
  readonly #tcp: boolean;
  #fd = -1;
  #registration = -1;
  #handler: StreamHandler | undefined;
  #connecting = false;
  /** `readable` was told, and no read has come back with WOULD_BLOCK since. */
  #told = false;
  /** Nothing to read until there is news. */
  #drained = true;
  #unusual = false;
  #ended = false;
  #endWanted = false;
  #shut = false;
  #code: HostErrorCode | undefined;
  /** The kernel takes nothing until there is news. */
  #blocked = false;
  /** Octets that the kernel has not taken, in writes of the shared pool. */
  #pending = 0;
  #writes: PendingWrite[] | undefined;
  #promisedLittle = false;

  constructor(shared: LinuxStreamShared, tcp: boolean) {
    this.#shared = shared;
    this.#tcp = tcp;
  }

  /** Takes over a socket that connects: `connected` or `closed` follows. */
  dial(fd: number, handler: StreamHandler): void {
    this.#fd = fd;
    this.#handler = handler;
    this.#connecting = this.#blocked = true;
    this.#register();
  }

  /** Takes over an accepted socket. */
  adopt(fd: number, accept: (stream: HostStream) => StreamHandler): void {
    this.#fd = fd;
    this.#handler = accept(this);
    if (this.#fd >= 0) this.#register();
  }

  /** No socket was to be had, or it could not begin to connect: only `closed` follows. */
  refuse(handler: StreamHandler, code: HostErrorCode): void {
    this.#handler = handler;
    this.#code = code;
    this.#shared.readiness.defer(this);
  }

  get remoteAddress(): string {
    return this.#shared.name(getpeername, this.#fd)?.address ?? '';
  }

  get remotePort(): number {
    return this.#shared.name(getpeername, this.#fd)?.port ?? 0;
  }

  get localAddress(): string {
    return this.#shared.name(getsockname, this.#fd)?.address ?? '';
  }

  get localPort(): number {
    return this.#shared.name(getsockname, this.#fd)?.port ?? 0;
  }

  read(into: Uint8Array, offset: number, length: number): number {
    const state = this.#unreadable();
    if (state !== 0) return state;
    const address = this.#shared.addressInto(into) + offset;
    let octets = recv(this.#fd, address, length, 0);
    if (octets === EINTR) octets = recv(this.#fd, address, length, 0);
    return this.#readDone(octets, length);
  }

  readv(places: FragmentList): number {
    const { items, count } = places;
    if (count === 1) return this.read(items[0]!.arena.bytes, items[0]!.offset, items[0]!.length);
    const state = this.#unreadable();
    if (state !== 0) return state;
    const shared = this.#shared;
    for (let i = 0; i < count; i++) {
      const { arena, offset, length } = items[i]!;
      shared.setVector(i, shared.addressInto(arena.bytes) + offset, length);
    }
    let octets = readv(this.#fd, shared.vectors.address, count);
    if (octets === EINTR) octets = readv(this.#fd, shared.vectors.address, count);
    return this.#readDone(octets, places.octets);
  }

  /** What a read returns without looking; 0: it has to look. */
  #unreadable(): number {
    if (this.#fd < 0) return this.#code === undefined ? END : FAILED;
    if (this.#ended) return END;
    if (!this.#drained) return 0;
    this.#told = false;
    return WOULD_BLOCK;
  }

  /** The kernel's answer to a read of `length` octets. */
  #readDone(octets: number, length: number): number {
    if (octets > 0) {
      if (octets < length && !this.#unusual) this.#drained = true;
      return octets;
    }
    if (octets === 0) {
      this.#ended = true;
      this.#finish();
      return END;
    }
    if (octets === EAGAIN) {
      this.#drained = true;
      this.#told = false;
      return WOULD_BLOCK;
    }
    this.#fail(codeOf(octets));
    return FAILED;
  }

  get writeRoom(): number {
    if (this.#fd < 0) return 0;
    const room = this.#room();
    if (room < WORTHWHILE) this.#promisedLittle = true;
    return room;
  }

  writev(fragments: FragmentList): number {
    if (this.#fd < 0 || this.#endWanted) return fragments.octets;
    const octets = Math.min(fragments.octets, WRITE_BOUND - this.#pending);
    if (octets < fragments.octets) this.#promisedLittle = true;
    const taken = this.#blocked ? 0 : this.#offer(fragments, octets);
    if (taken < octets && this.#fd >= 0) this.#keep(fragments, taken, octets);
    return octets;
  }

  end(): void {
    if (this.#endWanted) return;
    this.#endWanted = true;
    if (!this.#connecting && this.#pending === 0) this.#shutdown();
  }

  abort(): void {
    if (this.#fd < 0) return;
    if (this.#tcp && !this.#connecting) this.#shared.setOption(this.#fd, SOL_SOCKET, SO_LINGER, 1, 0);
    this.#close();
  }

  ready(events: number): void {
    if (this.#connecting && !this.#connected(events)) return;
    if (events & INCOMING) {
      this.#drained = false;
      if (events & UNUSUAL) this.#unusual = true;
      if (this.#ended) {
        // The peer reads no more: there is nothing left to be read that would say so.
        if (events & EPOLLERR) this.#fail(codeOf(this.#shared.takeError(this.#fd)));
      } else if (!this.#told) {
        this.#told = true;
        this.#handler?.readable(this);
      }
    }
    if (events & EPOLLOUT && this.#fd >= 0) {
      this.#blocked = false;
      if (this.#pending > 0) this.#flush();
    }
  }

  /** `closed`, which the readiness set calls when the batch is done. */
  deferred(): void {
    const handler = this.#handler;
    this.#handler = undefined;
    handler?.closed(this, this.#code);
  }

  #register(): void {
    const registration = this.#shared.readiness.add(this.#fd, WATCHED, this);
    if (registration < 0) this.#fail(codeOf(registration));
    else this.#registration = registration;
  }

  /** The first news of a dial; false: it has failed, or there is none yet. */
  #connected(events: number): boolean {
    if (events & EPOLLERR) {
      const error = this.#shared.takeError(this.#fd);
      if (error !== 0) {
        this.#fail(codeOf(error));
        return false;
      }
    }
    if (!(events & EPOLLOUT)) return false;
    this.#connecting = this.#blocked = false;
    this.#handler?.connected(this);
    if (this.#fd >= 0 && this.#pending === 0 && this.#endWanted) this.#shutdown();
    return this.#fd >= 0;
  }

  #room(): number {
    const room = WRITE_BOUND - this.#pending;
    if (this.#shared.pool.pendingOctets < WRITE_BUDGET) return room;
    return Math.max(0, WRITE_MODEST - this.#pending);
  }

  /** Hands the first `octets` of the fragments to the kernel; returns how many it took. */
  #offer({ items, count }: FragmentList, octets: number): number {
    const shared = this.#shared;
    let taken = 0;
    for (let i = 0; i < count && taken < octets; ) {
      let vectors = 0;
      let offered = 0;
      for (; i < count && vectors < VECTORS && taken + offered < octets; i++) {
        const { arena, offset, length } = items[i]!;
        const take = Math.min(length, octets - taken - offered);
        shared.setVector(vectors++, shared.addressFrom(arena) + offset, take);
        offered += take;
      }
      const written = this.#write(vectors);
      if (written < 0) return taken;
      taken += written;
      if (written < offered) {
        this.#blocked = true;
        return taken;
      }
    }
    return taken;
  }

  /** Writes what the first `vectors` say; how much, or a negative number when nothing was taken, for now or for good. */
  #write(vectors: number): number {
    const { address } = this.#shared.vectors;
    let written = writev(this.#fd, address, vectors);
    if (written === EINTR) written = writev(this.#fd, address, vectors);
    if (written === EAGAIN) this.#blocked = true;
    else if (written < 0) this.#fail(codeOf(written));
    return written;
  }

  #keep(fragments: FragmentList, from: number, to: number): void {
    const { pool } = this.#shared;
    this.#writes ??= [];
    for (let done = from; done < to; ) {
      const octets = Math.min(SLAB, to - done);
      const address = addressOf(pool.gather(fragments, done, octets));
      this.#writes.push({ slab: pool.slab, octets, address, left: octets });
      this.#pending += octets;
      done += octets;
    }
  }

  #flush(): void {
    const writes = this.#writes!;
    while (writes.length > 0 && !this.#blocked) {
      const first = writes[0]!;
      this.#shared.setVector(0, first.address, first.left);
      const written = this.#write(1);
      if (written < 0) break;
      this.#pending -= written;
      first.address += written;
      first.left -= written;
      if (first.left > 0) continue;
      this.#shared.pool.release(first.slab, first.octets);
      writes.shift();
    }
    if (this.#fd < 0) return;
    if (this.#pending === 0 && this.#endWanted) this.#shutdown();
    if (!this.#promisedLittle || this.#fd < 0) return;
    if (this.#pending > 0 && this.#room() < WORTHWHILE) return;
    this.#promisedLittle = false;
    this.#handler?.writable(this);
  }

  #shutdown(): void {
    if (this.#fd < 0 || this.#shut) return;
    this.#shut = true;
    // When the peer has ended already, closing is FIN enough.
    if (!this.#ended) shutdown(this.#fd, SHUT_WR);
    this.#finish();
  }

  /** Both directions have ended in order. */
  #finish(): void {
    if (this.#ended && this.#shut) this.#close();
  }

  #fail(code: HostErrorCode): void {
    if (this.#fd < 0) return;
    this.#code = code;
    this.#close();
  }

  #close(): void {
    const { readiness, pool } = this.#shared;
    readiness.remove(this.#registration);
    close(this.#fd);
    this.#fd = -1;
    if (this.#writes) for (const { slab, octets } of this.#writes) pool.release(slab, octets);
    this.#writes = undefined;
    this.#pending = 0;
    readiness.defer(this);
  }
}

/** Octets kept for the kernel: `left` of them at `address` of the slab. */
interface PendingWrite {
  readonly slab: WriteSlab;
  readonly octets: number;
  address: number;
  left: number;
}
