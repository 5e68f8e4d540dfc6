/**
 * What the guest tells of itself: lines on streams to host port 62377 (vm/README.md), which arrive at a unix socket.
 *
 *   mark NAME SECONDS    a step of the boot, in seconds of the guest's uptime
 *   panic TEXT           its kernel's last words
 *   log TEXT             a line for the log
 *
 * All of it is the guest's word and bounded: streams, a line's length, the number of marks, log lines a second.
 */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { LineReader } from './line-reader.ts';

const LINE_OCTETS = 4096;
const MOST_STREAMS = 16;
const LOG_LINES_PER_SECOND = 20;

export type GuestEvent =
  | { readonly kind: 'mark'; readonly name: string; readonly seconds: number }
  | { readonly kind: 'panic' | 'log'; readonly text: string };

/** Reads one line; undefined when it is none of the protocol's. */
export function parseGuestEvent(line: string): GuestEvent | undefined {
  const mark = /^mark ([a-z][a-z0-9-]{0,31}) (\d{1,9}(?:\.\d{1,9})?)$/.exec(line);
  if (mark) return { kind: 'mark', name: mark[1]!, seconds: Number(mark[2]) };
  const text = /^(panic|log) (.+)$/.exec(line);
  if (!text) return undefined;
  return { kind: text[1] as 'panic' | 'log', text: text[2]!.replace(/\p{C}/gu, ' ') };
}

/** Listens for the guest's events. */
export class GuestEvents {
  /** Lines that said nothing of the protocol, and log lines beyond the rate. */
  dropped = 0;
  readonly #path: string;
  readonly #onEvent: (event: GuestEvent) => void;
  readonly #server: Server;
  readonly #streams = new Set<Socket>();
  #second = 0;
  #linesThisSecond = 0;

  constructor(path: string, onEvent: (event: GuestEvent) => void) {
    this.#path = path;
    this.#onEvent = onEvent;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MOST_STREAMS;
  }

  listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#path, () => {
        this.#server.off('error', reject);
        chmodSync(this.#path, 0o600);
        resolve();
      });
    });
  }

  close(): void {
    this.#server.close();
    for (const stream of this.#streams) stream.destroy();
  }

  #accept(socket: Socket): void {
    this.#streams.add(socket);
    const reader = new LineReader(
      LINE_OCTETS,
      (line) => this.#line(line),
      () => {
        this.dropped++;
        socket.destroy();
      },
    );
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#streams.delete(socket));
  }

  #line(line: string): void {
    const event = parseGuestEvent(line);
    if (!event || (event.kind !== 'mark' && this.#tooMany())) this.dropped++;
    else this.#onEvent(event);
  }

  #tooMany(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) this.#linesThisSecond = 0;
    this.#second = second;
    return ++this.#linesThisSecond > LOG_LINES_PER_SECOND;
  }
}
