/**
 * A client of QMP, QEMU's control protocol (QEMU docs/interop/qmp-spec.rst): JSON objects, one a line, over a stream.
 *
 * The server opens with a greeting; the client answers with qmp_capabilities, and only then may give commands. A
 * command carries an `id` that its answer repeats; events come at any time. Here every command gets an id and a time
 * limit, and the end of the stream rejects what is still waiting. A line that is not what the protocol says is counted
 * and skipped, and a line beyond the bound ends the connection: QEMU is what runs the guest, so it is not trusted.
 */

import type { Duplex } from 'node:stream';
import { LineReader } from './line-reader.ts';

/** The longest line taken. The longest that QEMU has reason to send (query-qmp-schema) is some 200 KB. */
const LINE_OCTETS = 1 << 20;

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** QEMU refused a command, took too long over it or has gone. `code` is QEMU's error class, ETIMEDOUT or ECONNRESET. */
export class QmpError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export class QmpClient {
  /** Lines that were not JSON, or not a message of the protocol. */
  malformed = 0;
  readonly #stream: Duplex;
  readonly #timeoutMs: number;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting = Promise.withResolvers<void>();
  #nextId = 1;
  #closed = false;

  constructor(stream: Duplex, { timeoutMs = 10_000 }: { readonly timeoutMs?: number } = {}) {
    this.#stream = stream;
    this.#timeoutMs = timeoutMs;
    this.#greeting.promise.catch(() => undefined);
    const overflow = (): void => {
      this.malformed++;
      this.#end();
    };
    const reader = new LineReader(LINE_OCTETS, (line) => this.#line(line), overflow);
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
    stream.on('error', () => this.#end());
    stream.on('end', () => this.#end());
    stream.on('close', () => this.#end());
  }

  /** Waits for the greeting and leaves negotiation mode: after it, commands are taken. */
  async negotiate(): Promise<void> {
    const timer = setTimeout(
      () => this.#greeting.reject(new QmpError('ETIMEDOUT', `QEMU did not greet within ${this.#timeoutMs} ms`)),
      this.#timeoutMs,
    );
    await this.#greeting.promise.finally(() => clearTimeout(timer));
    await this.execute('qmp_capabilities');
  }

  /** Gives one command; resolves with its return value, rejects with a QmpError. */
  execute(command: string, argument?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#closed) return Promise.reject(gone(command));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new QmpError('ETIMEDOUT', `QEMU did not answer ${command} within ${this.#timeoutMs} ms`));
      }, this.#timeoutMs);
      this.#pending.set(id, { command, resolve, reject, timer });
      this.#stream.write(`${JSON.stringify({ execute: command, ...(argument && { arguments: argument }), id })}\n`);
    });
  }

  /** Calls back on every event; returns the way to stop. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#end();
  }

  #line(line: string): void {
    if (this.#closed || line === '') return;
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.malformed++;
      return;
    }
    if (!isRecord(message)) this.malformed++;
    else if ('QMP' in message) this.#greeting.resolve();
    else if (typeof message.event === 'string') this.#event(message.event, message.data);
    else if (typeof message.id === 'number' && ('return' in message || isRecord(message.error))) this.#answer(message);
    else this.malformed++;
  }

  #event(name: string, data: unknown): void {
    const event = { name, data: isRecord(data) ? data : {} };
    for (const listener of [...this.#listeners]) listener(event);
  }

  #answer(message: Record<string, unknown>): void {
    const pending = this.#pending.get(message.id as number);
    if (!pending) {
      this.malformed++;
      return;
    }
    this.#pending.delete(message.id as number);
    clearTimeout(pending.timer);
    if (!isRecord(message.error)) {
      pending.resolve(message.return);
      return;
    }
    const { class: code, desc } = message.error;
    pending.reject(new QmpError(String(code), `QEMU refused ${pending.command}: ${String(desc)}`));
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream.destroy();
    this.#greeting.reject(gone('its greeting'));
    for (const { command, reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(gone(command));
    }
    this.#pending.clear();
    this.#listeners.clear();
  }
}

function gone(command: string): QmpError {
  return new QmpError('ECONNRESET', `QEMU has gone before answering ${command}`);
}
