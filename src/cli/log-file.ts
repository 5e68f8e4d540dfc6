/**
 * A log of bounded size: lines with their time, appended to a file (0600) that is set aside as `NAME.1` when it has
 * grown to `MAX_OCTETS`. Guests can cause lines, so at most `LINES_PER_SECOND` a second are written and the rest
 * counted.
 */

import { appendFileSync, chmodSync, renameSync, statSync } from 'node:fs';

import type { LogLevel } from '../config/schema.ts';

const ranks: Readonly<Record<LogLevel, number>> = { warning: 2, info: 1, debug: 0 };

const MAX_OCTETS = 1 << 20;
const LINES_PER_SECOND = 200;
const LINE_OCTETS = 2000;

export class LogFile {
  /** Lines below it are left out. */
  level: LogLevel = 'info';
  readonly #path: string;
  readonly #now: () => Date;
  #octets: number;
  #second = 0;
  #linesThisSecond = 0;
  #dropped = 0;

  constructor(path: string, now: () => Date = () => new Date()) {
    this.#path = path;
    this.#now = now;
    this.#octets = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    this.#append('');
    chmodSync(path, 0o600);
  }

  write(text: string, level: LogLevel = 'info'): void {
    if (ranks[level] < ranks[this.level]) return;
    const now = this.#now();
    const second = Math.floor(now.getTime() / 1000);
    if (second !== this.#second) {
      if (this.#dropped > 0) this.#append(`${now.toISOString()} (${this.#dropped} lines dropped)\n`);
      this.#second = second;
      this.#linesThisSecond = this.#dropped = 0;
    }
    if (this.#linesThisSecond++ < LINES_PER_SECOND) this.#append(`${now.toISOString()} ${oneLine(text)}\n`);
    else this.#dropped++;
  }

  #append(text: string): void {
    if (this.#octets + text.length > MAX_OCTETS) {
      renameSync(this.#path, `${this.#path}.1`);
      this.#octets = 0;
    }
    appendFileSync(this.#path, text, { mode: 0o600 });
    this.#octets += Buffer.byteLength(text);
  }
}

/** Control characters, which a terminal that shows the log would obey, are shown as dots. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.slice(0, LINE_OCTETS).replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, '·');
}
