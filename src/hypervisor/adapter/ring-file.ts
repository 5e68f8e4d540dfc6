/**
 * A log of bounded size, on disk and in memory. Octets are appended; when the file has reached its bound it is cut to
 * nothing and begins again with the newest half, in place, so that `tail -f` follows and other writers that append to
 * the same file go on. What the disk refuses (it is full) is lost from the file, never an error to whoever wrote.
 */

import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';

export class RingFile {
  readonly #limitOctets: number;
  #fd: number | undefined;
  #size = 0;
  #tail: Buffer[] = [];
  #tailOctets = 0;

  /** Appends to the file at `path`, made with mode 0600; without a path only the memory's tail is kept. */
  constructor(path: string | undefined, limitOctets: number) {
    this.#limitOctets = limitOctets;
    if (path === undefined) return;
    this.#fd = openSync(path, 'a', 0o600);
    this.#size = fstatSync(this.#fd).size;
  }

  write(octets: Buffer | string): void {
    const chunk = typeof octets === 'string' ? Buffer.from(octets) : octets;
    if (chunk.length === 0) return;
    this.#keep(chunk);
    if (this.#fd === undefined) return;
    try {
      if (this.#size + chunk.length > this.#limitOctets) {
        ftruncateSync(this.#fd, 0);
        this.#size = writeSync(this.#fd, Buffer.concat(this.#tail));
      } else {
        this.#size += writeSync(this.#fd, chunk);
      }
    } catch {
      // A full disk takes no log line; the memory still has it.
    }
  }

  /** The newest octets, at most half the bound. */
  text(): string {
    return Buffer.concat(this.#tail).toString('utf8');
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #keep(chunk: Buffer): void {
    const half = this.#limitOctets >> 1;
    this.#tail.push(chunk.length > half ? chunk.subarray(chunk.length - half) : chunk);
    this.#tailOctets += Math.min(chunk.length, half);
    while (this.#tailOctets > half) {
      const excess = this.#tailOctets - half;
      const first = this.#tail[0]!;
      if (first.length <= excess) this.#tail.shift();
      else this.#tail[0] = first.subarray(excess);
      this.#tailOctets -= Math.min(first.length, excess);
    }
    // Many small chunks cost more than their octets: keep them together.
    if (this.#tail.length > 256) this.#tail = [Buffer.concat(this.#tail)];
  }
}

/** The last lines of `text` on one line, without control characters: for an error's message. */
export function lastLines(text: string, lines: number): string {
  const printable = stripVTControlCharacters(text).replace(/[^\P{C}\n]/gu, '');
  const kept = printable
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return kept.slice(-lines).join(' | ').slice(-500);
}
