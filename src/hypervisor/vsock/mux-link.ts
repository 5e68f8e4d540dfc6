/**
 * The octet stream to the guest's virtio-serial port, with frames in and out. Output gathers in slabs, one write per
 * batch, recycled when written. Beyond `roomOctets` waiting no more data are taken from streams (`room`, `onRoom`);
 * beyond `stopOctets`, which control frames alone reach only with a guest that asks and never listens, input stops too.
 */

import type { Duplex } from 'node:stream';
import {
  type FrameHandler,
  FrameParser,
  frameHeaderOctets,
  frameTrailerOctets,
  maxFrameOctets,
  sealFrame,
} from './mux-frame.ts';

const slabOctets = 256 * 1024;
const roomOctets = 512 * 1024;
const stopOctets = 1024 * 1024;
const sparesKept = 4;
/** A batch up to this size is copied out, so that small writes do not each hold a slab. */
const smallOctets = 8192;

export interface MuxLinkEvents {
  readonly onFrame: FrameHandler;
  /** The input makes no sense: everything up to the next HELLO is ignored. */
  readonly onLost: (reason: string) => void;
  /** A batch of frames has been handed over. */
  readonly onBatch: () => void;
  /** Room again for data. */
  readonly onRoom: () => void;
  readonly onClose: () => void;
}

export class MuxLink {
  readonly #duplex: Duplex;
  readonly #events: MuxLinkEvents;
  readonly #parser: FrameParser;
  readonly #spares: Buffer[] = [];
  #slab: Buffer | undefined;
  #filled = 0;
  #waiting = 0;
  #parsing = false;
  #flushing = false;
  #closed = false;

  constructor(duplex: Duplex, events: MuxLinkEvents) {
    this.#duplex = duplex;
    this.#events = events;
    this.#parser = new FrameParser(events.onFrame, events.onLost);
    duplex.on('data', (octets: Buffer) => {
      this.#parsing = true;
      this.#parser.push(octets);
      this.#parsing = false;
      events.onBatch();
      this.flush();
    });
    duplex.on('error', () => {});
    duplex.once('end', () => this.close());
    duplex.once('close', () => this.close());
  }

  /** Whether data may be sent. */
  get room(): boolean {
    return this.#waiting + this.#filled < roomOctets;
  }

  hunt(): void {
    this.#parser.hunt();
  }

  /** Octets of nothing, which end whatever frame the other side believes to be in. */
  filler(): void {
    const at = this.#reserve(maxFrameOctets);
    this.#slab!.fill(0, at, at + maxFrameOctets);
    this.#filled += maxFrameOctets;
  }

  /** Appends a frame; it goes out at `flush`. */
  send(type: number, flags: number, id: number, value: number, payload: Uint8Array = new Uint8Array(0)): void {
    if (this.#closed) return;
    const at = this.#reserve(frameHeaderOctets + payload.length + frameTrailerOctets);
    this.#slab!.set(payload, at + frameHeaderOctets);
    this.#filled += sealFrame(this.#slab!, at, type, flags, id, value, payload.length);
  }

  /** Sends what has been appended; within a batch of frames that happens at its end. */
  flush(): void {
    if (!this.#parsing) this.#write();
  }

  /** Flushes at the end of the loop's turn: for frames that come singly and are in no hurry. */
  flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#write();
    });
  }

  #write(): void {
    const slab = this.#slab;
    const octets = this.#filled;
    if (!slab || octets === 0 || this.#closed) return;
    this.#filled = 0;
    this.#waiting += octets;
    if (this.#waiting > stopOctets) this.#duplex.pause();
    const small = octets <= smallOctets;
    if (!small) this.#slab = undefined;
    this.#duplex.write(small ? Buffer.from(slab.subarray(0, octets)) : slab.subarray(0, octets), () => {
      const hadRoom = this.room;
      this.#waiting -= octets;
      if (!small && this.#spares.length < sparesKept) this.#spares.push(slab);
      if (this.#closed) return;
      if (this.#waiting < stopOctets && this.#duplex.isPaused()) this.#duplex.resume();
      if (!hadRoom && this.room) this.#events.onRoom();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#duplex.destroy();
    this.#events.onClose();
  }

  /** Where the next `octets` go; a slab without that much left goes out first. */
  #reserve(octets: number): number {
    if (this.#slab && this.#filled + octets > slabOctets) this.#write();
    this.#slab ??= this.#spares.pop() ?? Buffer.allocUnsafeSlow(slabOctets);
    return this.#filled;
  }
}
