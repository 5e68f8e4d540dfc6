/**
 * A live file of lines: a read waits for the next one. What is read is a stream with a position, so that a reader may go
 * back within the line it has.
 *
 * A read gives at most the rest of a line. The Linux client goes on asking until a read is full or gives nothing, and keeps
 * what it has from the application meanwhile. So after a read that was not full the next one, at the line's end, gives
 * nothing at once; only the one after that waits. This is DataKit's way, whose clients take two empty reads in a row for
 * the end. A read that was full (a shell's, octet by octet) is followed by no empty one.
 *
 * Events: a line, from whoever publishes; a reader; `close`. It holds the line being read, and what `keep` says of those
 * to come: all of them, up to a limit, or the newest only.
 */

import type { Cancellation } from './cancellation.ts';
import { FileError } from './file-error.ts';
import type { OpenFile } from './node.ts';

const encoder = new TextEncoder();

/** Lines of a stream that nobody reads, beyond which the oldest go. */
const KEPT_LINES = 10_000;

export class LineStream implements OpenFile {
  readonly #keep: 'all' | 'newest';
  readonly #end: () => void;
  #waiting: string[] = [];
  /** The line being read, and the offset of its first octet. */
  #line = new Uint8Array(0);
  #start = 0;
  /** The last read was not full. */
  #short = false;
  #readers: (() => void)[] = [];
  #closed = false;

  /** @param end called once, when nobody reads any more */
  constructor(keep: 'all' | 'newest', end: () => void) {
    this.#keep = keep;
    this.#end = end;
  }

  /** A line, without its newline. */
  publish(line: string): void {
    if (this.#closed) return;
    if (this.#keep === 'newest') this.#waiting = [line];
    else this.#waiting.push(line);
    if (this.#waiting.length > KEPT_LINES) this.#waiting.shift();
    for (const wake of this.#readers.splice(0)) wake();
  }

  async read(offset: number, count: number, cancellation: Cancellation): Promise<Uint8Array> {
    for (;;) {
      if (this.#closed || cancellation.cancelled) throw new FileError('EINTR');
      if (offset < this.#start || offset > this.#start + this.#line.length)
        throw new FileError('ESPIPE', 'a live file is read on from where it was read to');
      const at = offset - this.#start;
      if (at < this.#line.length) {
        const data = this.#line.subarray(at, at + count);
        this.#short = data.length < count;
        return data;
      }
      if (this.#short) {
        this.#short = false;
        return this.#line.subarray(at);
      }
      const next = this.#waiting.shift();
      if (next !== undefined) {
        this.#start += this.#line.length;
        this.#line = encoder.encode(`${next}\n`);
      } else await this.#published(cancellation);
    }
  }

  write(): never {
    throw new FileError('EROFS');
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const wake of this.#readers.splice(0)) wake();
    this.#end();
  }

  #published(cancellation: Cancellation): Promise<void> {
    return new Promise((resolve) => {
      this.#readers.push(resolve);
      cancellation.listener = () => {
        const index = this.#readers.indexOf(resolve);
        if (index >= 0) this.#readers.splice(index, 1);
        resolve();
      };
    });
  }
}
