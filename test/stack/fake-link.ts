/** A link for tests: keeps copies of what the stack commits, has as much room as it is told, and hands in what it is given. */

import { CHECKSUM_UNKNOWN, FrameBatch } from '../../src/stack/frame-batch.ts';
import type { Arena, LinkHandler, LinkOffload, LinkPort } from '../../src/stack/port.ts';

export interface SentFrame {
  readonly bytes: Uint8Array;
  readonly checksumStart: number;
  readonly checksumOffset: number;
  readonly segmentOctets: number;
}

export const arenaOf = (bytes: Uint8Array): Arena => ({
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
});

export class FakeLink implements LinkPort {
  readonly name = 'fake';
  readonly mtu: number;
  readonly offload: LinkOffload;
  readonly txArena: Arena = arenaOf(new Uint8Array(131072));
  /** Odd on purpose: nothing may rely on alignment. */
  readonly txOffset = 7;
  readonly sent: SentFrame[] = [];
  /** Takes what is not to be `sent`; true: it has. */
  answers: (frame: Uint8Array) => boolean = () => false;
  /** Frames that still find room. */
  room: number = Number.POSITIVE_INFINITY;
  flushes = 0;
  closed = false;
  #handler: LinkHandler | undefined;

  constructor(mtu = 1500, offload: LinkOffload = { checksum: false, segmentOctets: 0 }) {
    this.mtu = mtu;
    this.offload = offload;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
  }

  reserve(octets: number): boolean {
    if (octets > this.txArena.bytes.length - this.txOffset) throw new Error(`reserved ${octets} octets`);
    return this.room > 0;
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    if (this.room <= 0) throw new Error('committed without room');
    this.room--;
    const bytes = this.txArena.bytes.slice(this.txOffset, this.txOffset + octets);
    if (this.answers(bytes)) return;
    this.sent.push({ bytes, checksumStart, checksumOffset, segmentOctets });
  }

  flush(): void {
    this.flushes++;
  }

  close(): void {
    this.closed = true;
  }

  /** Frames that arrive together. `split`: octets of each frame's first fragment, the rest being a second one. */
  input(frames: readonly Uint8Array[], checksum: number = CHECKSUM_UNKNOWN, split = Number.POSITIVE_INFINITY): void {
    const batch = new FrameBatch(Math.max(1, frames.length), 2);
    for (const frame of frames) {
      const head = Math.min(split, frame.length);
      // A copy at an odd offset, with rubbish before and after.
      const bytes = new Uint8Array(frame.length + 16).fill(0xee);
      bytes.set(frame, 3);
      const arena = arenaOf(bytes);
      batch.push(arena, 3, head, checksum);
      if (head < frame.length) batch.extend(arena, 3 + head, frame.length - head);
    }
    this.#handler!.input(batch);
  }

  /** A batch as it is. */
  deliver(batch: FrameBatch): void {
    this.#handler!.input(batch);
  }

  desert(): void {
    this.#handler!.deserted?.();
  }

  writable(): void {
    this.#handler!.writable();
  }

  gone(): void {
    this.#handler!.closed();
  }

  /** Takes what was sent. */
  take(): SentFrame[] {
    return this.sent.splice(0);
  }
}
