/**
 * A host TCP or unix socket, pulled: `HostStream` over Node's `net.Socket`.
 *
 * In: Node reads into one buffer that all streams share (`onread`), and calls back; the callback tells the handler,
 * whose `read` copies straight from that buffer to where the octets are wanted. What the handler leaves is put by, and
 * the socket is not read again until that is gone: the kernel's buffer fills up, and TCP holds the far side.
 *
 * Out: `writev` copies into slabs shared by all streams, one socket write per call, and takes no more than
 * `WRITE_BOUND` octets that the kernel has not taken; `writeRoom` promises less when all streams together hold much.
 * What was promised is taken: only `writeRoom` looks at the others.
 *
 * Ends: END is read once, after the last octet; `end` is FIN behind what was written; `abort`, and an error of the
 * socket, drop everything. `closed` comes once, after both directions have ended or when the socket has failed.
 */

import type net from 'node:net';
import type { FragmentList } from '../../stack/port.ts';
import { END, FAILED, type HostErrorCode, type HostStream, type StreamHandler, WOULD_BLOCK } from '../port.ts';
import type { ReadPool } from './read-pool.ts';
import { SLAB, type WritePool, type WriteSlab } from './write-pool.ts';

/** Octets one stream holds that the kernel has not taken. */
const WRITE_BOUND = 1024 * 1024;
/** Octets all streams hold together before they are asked to be modest. */
const WRITE_BUDGET = 64 * 1024 * 1024;
/** What a stream with nothing pending may always have. */
const WRITE_MODEST = 16 * 1024;
/** `writable` is called when this much is free again. */
const WORTHWHILE = WRITE_BOUND / 2;

/** What all streams of one adapter share. */
export interface StreamShared {
  readonly read: ReadPool;
  readonly write: WritePool;
  /** A handler was called: what it did may have made work for the stack. */
  readonly serviced: () => void;
}

export class NodeStream implements HostStream {
  owner: unknown = undefined;
  #socket: net.Socket | undefined;
  #handler: StreamHandler | undefined;
  readonly #shared: StreamShared;
  /** RST is TCP's; a unix socket is closed instead. */
  readonly #tcp: boolean;
  /** Unread octets: of the shared buffer during its callback, of `#stash` at other times. */
  #from = 0;
  #to = 0;
  #source: Uint8Array;
  #stash: Uint8Array | undefined;
  #ended = false;
  #endWanted = false;
  #aborted = false;
  #code: HostErrorCode | undefined;
  #closed = false;
  /** Octets the kernel has not taken, and per write where they are. */
  #pending = 0;
  readonly #writes: WriteSlab[] = [];
  readonly #sizes: number[] = [];
  #promisedLittle = false;
  readonly #written = () => this.#writeDone();

  constructor(shared: StreamShared, tcp: boolean) {
    this.#shared = shared;
    this.#tcp = tcp;
    this.#source = shared.read.bytes;
  }

  /** To be passed to the socket's constructor. */
  onread(): net.OnReadOpts {
    return { buffer: this.#shared.read.bytes, callback: (octets) => this.#arrived(octets) };
  }

  /** Takes the socket over; its errors become the code of `closed`. */
  attach(socket: net.Socket, handler: StreamHandler): void {
    this.#socket = socket;
    this.#handler = handler;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#code ??= error.code ?? 'EIO';
    });
    socket.on('end', () => {
      this.#ended = true;
      if (!this.#aborted) this.#handler?.readable(this);
      this.#shared.serviced();
    });
    socket.on('close', () => this.#close());
    if (!socket.connecting) return;
    socket.once('connect', () => {
      this.#handler?.connected(this);
      this.#shared.serviced();
    });
  }

  /** A socket that was accepted; `accept` may ask whose it is, and abort it. */
  adopt(socket: net.Socket, accept: (stream: HostStream) => StreamHandler): void {
    this.#socket = socket;
    this.attach(socket, accept(this));
  }

  get remoteAddress(): string {
    return this.#socket?.remoteAddress ?? '';
  }

  get remotePort(): number {
    return this.#socket?.remotePort ?? 0;
  }

  get localAddress(): string {
    return this.#socket?.localAddress ?? '';
  }

  get localPort(): number {
    return this.#socket?.localPort ?? 0;
  }

  read(into: Uint8Array, offset: number, length: number): number {
    const unread = this.#to - this.#from;
    if (unread > 0) {
      const octets = Math.min(unread, length);
      into.set(this.#source.subarray(this.#from, this.#from + octets), offset);
      this.#from += octets;
      if (octets === unread && this.#stash) this.#unstash();
      return octets;
    }
    if (this.#closed) return this.#code === undefined ? END : FAILED;
    return this.#ended ? END : WOULD_BLOCK;
  }

  get writeRoom(): number {
    const room = this.#room();
    if (room < WORTHWHILE) this.#promisedLittle = true;
    return room;
  }

  writev(fragments: FragmentList): number {
    const socket = this.#socket;
    if (!socket || this.#aborted) return fragments.octets;
    const octets = Math.min(fragments.octets, WRITE_BOUND - this.#pending);
    if (octets < fragments.octets) this.#promisedLittle = true;
    for (let done = 0; done < octets; ) {
      const chunk = Math.min(SLAB, octets - done);
      const bytes = this.#shared.write.gather(fragments, done, chunk);
      this.#writes.push(this.#shared.write.slab);
      this.#sizes.push(chunk);
      this.#pending += chunk;
      done += chunk;
      socket.write(bytes, this.#written);
    }
    return octets;
  }

  end(): void {
    this.#endWanted = true;
    if (this.#pending === 0) this.#socket?.end();
  }

  abort(): void {
    const socket = this.#socket;
    if (!socket || this.#aborted) return;
    this.#aborted = true;
    this.#discard();
    if (socket.connecting || !this.#tcp) socket.destroy();
    // While FIN is on its way to the kernel, libuv has no reset.
    else if (socket.writableEnded && !socket.writableFinished) socket.once('finish', () => socket.resetAndDestroy());
    else socket.resetAndDestroy();
  }

  #room(): number {
    const room = WRITE_BOUND - this.#pending;
    if (this.#shared.write.pendingOctets < WRITE_BUDGET) return room;
    return Math.max(0, WRITE_MODEST - this.#pending);
  }

  #writeDone(): void {
    const octets = this.#sizes.shift()!;
    this.#shared.write.release(this.#writes.shift()!, octets);
    this.#pending -= octets;
    if (this.#aborted || this.#closed) return;
    if (this.#endWanted && this.#pending === 0) this.#socket?.end();
    if (!this.#promisedLittle) return;
    if (this.#pending > 0 && this.#room() < WORTHWHILE) return;
    this.#promisedLittle = false;
    this.#handler?.writable(this);
    this.#shared.serviced();
  }

  /** `octets` lie in the shared buffer until this returns; false: do not read on. */
  #arrived(octets: number): boolean {
    if (this.#aborted) return false;
    this.#from = 0;
    this.#to = octets;
    this.#handler?.readable(this);
    this.#shared.serviced();
    if (this.#from === this.#to) return true;
    this.#stash = this.#shared.read.keep(this.#from, this.#to);
    this.#source = this.#stash;
    this.#to -= this.#from;
    this.#from = 0;
    return false;
  }

  #unstash(): void {
    this.#discard();
    this.#socket?.resume();
  }

  #discard(): void {
    this.#from = 0;
    this.#to = 0;
    if (!this.#stash) return;
    this.#shared.read.giveBack(this.#stash);
    this.#stash = undefined;
    this.#source = this.#shared.read.bytes;
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#discard();
    this.#handler?.closed(this, this.#code);
    this.#shared.serviced();
    this.#handler = undefined;
    this.#socket = undefined;
  }
}
