/**
 * A stream link's socket by system calls, on Node's event loop (uv_poll). In: one read a turn, or a few while they come
 * back full, so that what a read brought is answered before more is read. Out: written at once, from where it lies;
 * what the kernel does not take waits in order, and follows when there is room again. Linux only.
 *
 * koffi calls back outside of Node's callback scope, where promises and ticks stay undone until Node's next callback; so
 * every turn asks for one.
 */

import koffi from 'koffi';
import type { Arena } from '../../stack/port.ts';
import {
  addressOf,
  close,
  duplicate,
  errno,
  errnoName,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  recv,
  SO_SNDBUF,
  SOL_SOCKET,
  send,
  setsockopt,
} from '../vhost-user/libc.ts';
import type { StreamPeer, StreamPeerHandler, StreamPeerMaker } from './stream-peer.ts';

/** Full reads of one turn, before the rest of the loop has its own. */
const READS = 4;
/** Of the kernel's send buffer: several writes, so that neither side waits for the other after each. */
const SEND_BUFFER = 1 << 20;

interface Waiting {
  /** Keeps the memory that `address` points into. */
  readonly arena: Arena;
  address: number;
  octets: number;
  readonly taken: () => void;
}

class LinuxStreamPeer implements StreamPeer {
  readonly #fd: number;
  readonly #landing: Uint8Array;
  readonly #address: number;
  readonly #handler: StreamPeerHandler;
  readonly #waiting: Waiting[] = [];
  /** Must stay referenced: a handle that is collected stops without a word. */
  readonly #poll: ReturnType<typeof koffi.node.poll>;
  #closed = false;
  /** Called with a status first, whatever koffi's types say; negative: there was an error, and the watch is over. */
  readonly #ready = (status: unknown): void => this.#turn(typeof status === 'number' && status < 0);

  constructor(fd: number, landing: Uint8Array, handler: StreamPeerHandler) {
    this.#fd = fd;
    this.#landing = landing;
    this.#address = addressOf(landing.buffer as ArrayBuffer) + landing.byteOffset;
    this.#handler = handler;
    const size = new ArrayBuffer(4);
    new DataView(size).setInt32(0, SEND_BUFFER, true);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, addressOf(size), 4);
    this.#poll = koffi.node.poll(fd, { readable: true, writable: false }, this.#ready);
  }

  send(arena: Arena, from: number, to: number, taken: () => void): void {
    if (this.#closed) return;
    const address = addressOf(arena.bytes.buffer as ArrayBuffer) + arena.bytes.byteOffset + from;
    const octets = to - from;
    const sent = this.#waiting.length > 0 ? 0 : this.#write(address, octets);
    if (sent === octets) {
      taken();
      return;
    }
    if (this.#waiting.length === 0) this.#watch(true);
    this.#waiting.push({ arena, address: address + sent, octets: octets - sent, taken });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll.close();
    close(this.#fd);
    for (const { taken } of this.#waiting.splice(0)) taken();
  }

  /** Octets the kernel took. A failure is not looked at: the next read tells. */
  #write(address: number, octets: number): number {
    return Math.max(0, send(this.#fd, address, octets, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  #watch(writable: boolean): void {
    this.#poll.start({ readable: true, writable }, this.#ready);
  }

  #turn(last: boolean): void {
    try {
      if (this.#waiting.length > 0) this.#flush();
      this.#read(last ? Number.POSITIVE_INFINITY : READS);
    } catch (error) {
      // It must not unwind through koffi: it is a bug, and ends the process as one.
      setImmediate(() => {
        throw error;
      });
    }
    setImmediate(settle);
  }

  #flush(): void {
    while (!this.#closed) {
      const first = this.#waiting[0];
      if (!first) break;
      const sent = this.#write(first.address, first.octets);
      first.address += sent;
      first.octets -= sent;
      if (first.octets > 0) return;
      this.#waiting.shift();
      first.taken();
    }
    if (!this.#closed) this.#watch(false);
  }

  #read(most: number): void {
    const { length } = this.#landing;
    for (let i = 0; i < most && !this.#closed; i++) {
      const octets = recv(this.#fd, this.#address, length, MSG_DONTWAIT);
      if (octets > 0) {
        this.#handler.received(octets);
        if (octets < length && most === READS) return;
        continue;
      }
      if (octets !== -errno.EAGAIN && octets !== -errno.EINTR) this.#end(octets);
      return;
    }
  }

  #end(result: number): void {
    if (this.#closed) return;
    this.close();
    this.#handler.lost(result === 0 ? undefined : new Error(errnoName(result)));
  }
}

/** Node's callback after which it sees to promises and ticks. */
const settle = (): void => {};

export const linuxStreamPeer: StreamPeerMaker = (socket, landing, handler) => {
  const { _handle: handle } = socket as unknown as { _handle: { readonly fd: number } };
  const fd = duplicate(handle.fd);
  socket.destroy();
  if (fd < 0) throw new Error(`cannot duplicate the socket: ${errnoName(fd)}`);
  return new LinuxStreamPeer(fd, landing, handler);
};
