/** One end of a host stream in a test: keeps what happens to it, echoes or hoards, and lets a test wait for it. */

import type { HostStream, StreamHandler } from '../../src/proxy/port.ts';
import { END, FAILED, WOULD_BLOCK } from '../../src/proxy/port.ts';
import type { Arena, Fragment, FragmentList } from '../../src/stack/port.ts';

export function fragmentsOf(...pieces: Uint8Array[]): FragmentList {
  const items: Fragment[] = pieces.map((bytes) => ({ arena: arenaOf(bytes), offset: 0, length: bytes.length }));
  return { items, count: items.length, octets: pieces.reduce((sum, piece) => sum + piece.length, 0) };
}

export function arenaOf(bytes: Uint8Array): Arena {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

export class HostPeer implements StreamHandler {
  stream!: HostStream;
  /** Read as it comes; false: only `drain` reads. */
  reading = true;
  isConnected = false;
  ended = false;
  isClosed = false;
  code: string | undefined;
  writableCalls = 0;
  closedCalls = 0;
  readonly received: Uint8Array[] = [];
  receivedOctets = 0;
  #outgoing = new Uint8Array(0);
  #endAfter = false;
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  connected(stream: HostStream): void {
    this.stream = stream;
    this.isConnected = true;
    this.#pump();
    this.#happened();
  }

  readable(stream: HostStream): void {
    this.stream = stream;
    if (this.reading) this.drain();
    this.#happened();
  }

  writable(stream: HostStream): void {
    this.stream = stream;
    this.writableCalls++;
    this.#pump();
    this.#happened();
  }

  closed(_stream: HostStream, code?: string): void {
    this.closedCalls++;
    this.isClosed = true;
    this.code = code;
    this.#happened();
  }

  /** Reads until there is nothing, or `limit` octets. */
  drain(limit = Number.POSITIVE_INFINITY): void {
    const place = new Uint8Array(10_000);
    while (limit > 0) {
      const octets = this.stream.read(place, 0, Math.min(limit, place.length));
      if (octets === END) this.ended = true;
      if (octets === END || octets === WOULD_BLOCK || octets === FAILED) break;
      this.received.push(place.slice(0, octets));
      this.receivedOctets += octets;
      limit -= octets;
    }
    this.#happened();
  }

  /** Sends everything, as fast as the stream takes it. */
  send(bytes: Uint8Array, thenEnd = false): void {
    this.#outgoing = Buffer.concat([this.#outgoing, bytes]);
    this.#endAfter ||= thenEnd;
    if (this.isConnected) this.#pump();
  }

  get unsentOctets(): number {
    return this.#outgoing.length;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.received);
  }

  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }

  #pump(): void {
    while (this.#outgoing.length > 0) {
      const room = this.stream.writeRoom;
      const piece = this.#outgoing.subarray(0, Math.max(room, 1));
      const middle = piece.length >> 1;
      const taken = this.stream.writev(fragmentsOf(piece.subarray(0, middle), piece.subarray(middle)));
      if (taken < Math.min(piece.length, room))
        throw new Error(`took ${taken} of ${piece.length}, had promised ${room}`);
      if (taken === 0) return;
      this.#outgoing = this.#outgoing.subarray(taken);
    }
    if (this.#endAfter) this.stream.end();
  }

  #happened(): void {
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => {
      if (!condition()) return true;
      resolve();
      return false;
    });
  }
}
