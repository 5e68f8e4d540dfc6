/** Connections that come in to a port: an async iterable. Those that nobody has taken yet are bounded. */

import type { TcpConnection } from '../port.ts';
import { StreamConnection } from './stream-connection.ts';

export interface ListenerOptions {
  readonly address: string;
  readonly port: number;
  /** Connections that wait to be taken; SYNs beyond go unanswered, so that the peer tries again. */
  readonly backlog: number;
  readonly unlisten: () => void;
}

export class Listener implements AsyncIterableIterator<StreamConnection> {
  readonly address: string;
  readonly port: number;
  readonly #options: ListenerOptions;
  readonly #waiting: StreamConnection[] = [];
  readonly #takers: ((result: IteratorResult<StreamConnection, undefined>) => void)[] = [];
  /** Accepted, and not established yet. */
  #opening = 0;
  #closed = false;

  /** For `SocketStack` alone. */
  constructor(options: ListenerOptions) {
    this.address = options.address;
    this.port = options.port;
    this.#options = options;
  }

  /** A SYN has come. */
  offer(connection: TcpConnection): void {
    if (this.#waiting.length + this.#opening >= this.#options.backlog) {
      connection.reject('silent');
      return;
    }
    this.#opening++;
    let isOpening = true;
    const opened = (): void => {
      if (isOpening) this.#opening--;
      isOpening = false;
    };
    new StreamConnection(
      (handler) => {
        connection.accept(handler);
        return connection;
      },
      {
        established: (stream) => {
          opened();
          if (this.#closed) stream.abort();
          else this.#take(stream);
        },
        failed: opened,
      },
    );
  }

  /** The next connection; done when the listener is closed. */
  next(): Promise<IteratorResult<StreamConnection, undefined>> {
    const value = this.#waiting.shift();
    if (value) return Promise.resolve({ value, done: false });
    if (this.#closed) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  /** Leaving a loop over it closes it. */
  return(): Promise<IteratorResult<StreamConnection, undefined>> {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** No more connections; those that nobody has taken are given up, the others go on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.unlisten();
    for (const stream of this.#waiting.splice(0)) stream.abort();
    for (const take of this.#takers.splice(0)) take({ value: undefined, done: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #take(value: StreamConnection): void {
    const taker = this.#takers.shift();
    if (taker) taker({ value, done: false });
    else this.#waiting.push(value);
  }
}
