/**
 * A link of Web Streams: a readable of frames that come in and a writable of frames that go out, a `Uint8Array` each, as
 * v86, tcpip.js and WebTransport users have them. A Node duplex in object mode becomes such a pair by `Duplex.toWeb`.
 *
 * Frames that are there together are handed over as one batch. What is written and not yet taken is bounded; beyond
 * that the link is full, and tells when it has room. Either stream's end or failure is the link's.
 *
 * Limits: `BATCH_FRAMES`, `BATCH_OCTETS`, `OUTSTANDING` frames. Timers: none; promises only at this edge.
 */

import { FrameBatch } from '../frame-batch.ts';
import { plainArena } from '../frame-memory.ts';
import type { Arena, LinkHandler, LinkOffload, LinkPort } from '../port.ts';
import { LARGEST_FRAME } from './segmentation.ts';
import { turns } from './turn.ts';

const BATCH_FRAMES = 256;
const BATCH_OCTETS = 512 * 1024;
const OUTSTANDING = 256;

/** Frames after which others on the event loop have their turn. */
const TURN_FRAMES = 1024;

/** A pair of streams of frames. */
export interface FrameStreams {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

export interface WebStreamsLinkOptions {
  /** Largest IP packet; 1500 by default. */
  readonly mtu?: number;
  readonly name?: string;
}

export class WebStreamsLink implements LinkPort {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload = { checksum: false, segmentOctets: 0 };
  readonly txArena: Arena = plainArena(LARGEST_FRAME);
  readonly txOffset = 0;
  /** Chunks that are no frame: empty, too large, or no octets at all. */
  malformed = 0;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #rx: Arena = plainArena(BATCH_OCTETS);
  readonly #batch = new FrameBatch(BATCH_FRAMES, 1);
  #used = 0;
  #outstanding = 0;
  #refused = false;
  #handler: LinkHandler | undefined;
  #closed = false;
  readonly #taken = (): void => {
    this.#outstanding--;
    if (!this.#refused || this.#outstanding > OUTSTANDING / 2 || this.#closed) return;
    this.#refused = false;
    this.#handler?.writable();
  };
  readonly #failed = (error: unknown): void => this.#end(error);

  constructor({ readable, writable }: FrameStreams, options: WebStreamsLinkOptions = {}) {
    this.name = options.name ?? 'streams';
    this.mtu = options.mtu ?? 1500;
    this.#reader = readable.getReader();
    this.#writer = writable.getWriter();
    this.#writer.closed.catch(this.#failed);
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    this.#read().catch(this.#failed);
  }

  reserve(octets: number): boolean {
    if (!this.#closed && this.#outstanding < OUTSTANDING) return octets <= LARGEST_FRAME;
    this.#refused = true;
    return false;
  }

  commit(octets: number): void {
    this.#outstanding++;
    // A chunk is its reader's from here on, and may be transferred: it has memory of its own.
    this.#writer.write(this.txArena.bytes.slice(0, octets)).then(this.#taken, this.#failed);
  }

  flush(): void {}

  close(): void {
    this.#end();
  }

  async #read(): Promise<void> {
    const turn = turns();
    for (let frames = 1; ; frames++) {
      if (frames % TURN_FRAMES === 0) await new Promise<void>(turn);
      const pending = this.#reader.read();
      let isThere = false;
      const note = (): void => {
        isThere = true;
      };
      pending.then(note, note);
      // A frame that waits in the stream is there by now; otherwise what has been gathered need not wait for it.
      await null;
      await null;
      if (!isThere) this.#deliver();
      const { value, done } = await pending;
      if (this.#closed) return;
      if (done) break;
      this.#frame(value);
    }
    this.#deliver();
    this.#end();
  }

  #frame(frame: unknown): void {
    if (!(frame instanceof Uint8Array) || frame.length === 0 || frame.length > LARGEST_FRAME) {
      this.malformed++;
      return;
    }
    if (this.#used + frame.length > BATCH_OCTETS || this.#batch.count === BATCH_FRAMES) this.#deliver();
    // Copied, so that nobody changes what has been checked.
    this.#rx.bytes.set(frame, this.#used);
    this.#batch.push(this.#rx, this.#used, frame.length);
    this.#used += frame.length;
  }

  #deliver(): void {
    if (this.#batch.count === 0 || this.#closed) return;
    this.#handler?.input(this.#batch);
    this.#batch.clear();
    this.#used = 0;
  }

  #end(reason?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader.cancel(reason).catch(() => undefined);
    if (reason !== undefined) this.#writer.abort(reason).catch(() => undefined);
    else this.#writer.close().catch(() => undefined);
    const error = reason instanceof Error ? reason : reason === undefined ? undefined : new Error(String(reason));
    this.#handler?.closed(error);
  }
}
