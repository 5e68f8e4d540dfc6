/**
 * A stream link's socket by system calls, on the native event loop. In: one read a turn, or a few while they come back
 * full, so that what a read brought is answered before more is read. Out: written at once, from where it lies; what the
 * kernel does not take waits in order, and follows when there is room again. Linux only.
 */

import { addressOfBuffer } from '../../native/memory.ts';
import { Readiness, type ReadyHandler } from '../../native/readiness.ts';
import {
  close,
  codeOf,
  duplicate,
  EAGAIN,
  EINTR,
  EPOLLIN,
  EPOLLOUT,
  errorOf,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  recv,
  SO_SNDBUF,
  SOL_SOCKET,
  send,
  setsockopt,
} from '../../native/system-calls.ts';
import type { Arena } from '../../stack/port.ts';
import type { StreamPeer, StreamPeerHandler, StreamPeerMaker } from './stream-peer.ts';

/** Full reads of one turn, before the rest of the loop has its own. */
const READS = 4;
/** Of the kernel's send buffer: several writes, so that neither side waits for the other after each. */
const SEND_BUFFER = 1 << 21;

interface Waiting {
  /** Keeps the memory that `address` points into. */
  readonly arena: Arena;
  address: number;
  octets: number;
  readonly taken: () => void;
}

class LinuxStreamPeer implements StreamPeer, ReadyHandler {
  readonly #fd: number;
  readonly #landing: Uint8Array;
  readonly #address: number;
  readonly #handler: StreamPeerHandler;
  readonly #waiting: Waiting[] = [];
  readonly #readiness = new Readiness();
  readonly #registration: number;
  #closed = false;

  constructor(fd: number, landing: Uint8Array, handler: StreamPeerHandler) {
    this.#fd = fd;
    this.#landing = landing;
    this.#address = addressOfBuffer(landing.buffer as ArrayBuffer) + landing.byteOffset;
    this.#handler = handler;
    const size = new ArrayBuffer(4);
    new DataView(size).setInt32(0, SEND_BUFFER, true);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, addressOfBuffer(size), 4);
    this.#registration = this.#readiness.add(fd, EPOLLIN, this);
    if (this.#registration < 0) throw errorOf('epoll_ctl', this.#registration);
  }

  send(arena: Arena, from: number, to: number, taken: () => void): void {
    if (this.#closed) return;
    const address = addressOfBuffer(arena.bytes.buffer as ArrayBuffer) + arena.bytes.byteOffset + from;
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
    this.#readiness.remove(this.#registration);
    close(this.#fd);
    for (const { taken } of this.#waiting.splice(0)) taken();
  }

  /** Octets the kernel took. A failure is not looked at: the next read tells. */
  #write(address: number, octets: number): number {
    return Math.max(0, send(this.#fd, address, octets, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  #watch(writable: boolean): void {
    this.#readiness.change(this.#registration, this.#fd, writable ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  ready(): void {
    if (this.#waiting.length > 0) this.#flush();
    this.#read();
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

  #read(): void {
    const { length } = this.#landing;
    for (let i = 0; i < READS && !this.#closed; i++) {
      const octets = recv(this.#fd, this.#address, length, MSG_DONTWAIT);
      if (octets > 0) {
        this.#handler.received(octets);
        if (octets < length) return;
        continue;
      }
      if (octets !== EAGAIN && octets !== EINTR) this.#end(octets);
      return;
    }
  }

  #end(result: number): void {
    if (this.#closed) return;
    this.close();
    this.#handler.lost(result === 0 ? undefined : new Error(codeOf(result)));
  }
}

export const linuxStreamPeer: StreamPeerMaker = (socket, landing, handler) => {
  const { _handle: handle } = socket as unknown as { _handle: { readonly fd: number } };
  const fd = duplicate(handle.fd);
  socket.destroy();
  if (fd < 0) throw new Error(`cannot duplicate the socket: ${codeOf(fd)}`);
  return new LinuxStreamPeer(fd, landing, handler);
};
