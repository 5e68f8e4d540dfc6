/**
 * A TCP connection as a pair of Web Streams. Back-pressure goes through: what is not read closes the receive window, and
 * a write is done when the send queue has taken it. Each side ends by itself (half-close): `writable.close()` sends FIN,
 * the peer's FIN ends `readable`. `writable.abort()` and `abort()` send RST; a connection that breaks errors both
 * streams with a `SocketError`.
 *
 * It is the `TcpHandler` of its connection; all calls of the stack's come from within `input` or `poll`, and only settle
 * promises here.
 */

import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../port.ts';
import { formatAddress } from '../wire/address.ts';
import { SocketError, type SocketErrorCode } from './socket-error.ts';

/** Octets received and not read yet, at most; the receive window is never wider. */
const RECEIVE_OCTETS = 256 * 1024;

export interface StreamConnectionEvents {
  established(connection: StreamConnection): void;
  /** It has failed before it was established. */
  failed(error: SocketError): void;
}

export class StreamConnection implements AsyncIterable<Uint8Array> {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  /** Settles when both sides have ended: rejected when it broke. */
  readonly closed: Promise<void>;
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  #localPort: number;
  /** Undefined once the stack has it back. */
  #connection: TcpConnection | undefined;
  #in!: ReadableStreamDefaultController<Uint8Array>;
  #out!: WritableStreamDefaultController;
  readonly #settled = Promise.withResolvers<void>();
  /** A write that waits for room in the send queue. */
  #room: (() => void) | undefined;
  #established = false;
  /** Inside of the stack's call, which acknowledges anyway. */
  #receiving = false;
  #readEnded = false;
  #writeEnded = false;
  /** Nobody reads any more: what comes is taken and dropped. */
  #discards = false;
  #error: SocketError | undefined;

  /** For `SocketStack` alone. `open` starts the connection, or accepts it, with this handler. */
  constructor(open: (handler: TcpHandler) => TcpConnection, events: StreamConnectionEvents) {
    this.closed = this.#settled.promise;
    // Whoever looks at the streams need not look here.
    this.closed.catch(() => undefined);
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#in = controller;
        },
        pull: () => {
          if (!this.#receiving) this.#connection?.roomGrew();
        },
        cancel: () => this.#cancelled(),
      },
      { highWaterMark: RECEIVE_OCTETS, size: (chunk) => chunk.byteLength },
    );
    this.writable = new WritableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#out = controller;
          // At once: `abort` below is called when the write at hand is over, which may be waiting for room.
          (controller as unknown as { signal: AbortSignal }).signal.addEventListener('abort', () => {
            this.#writeEnded = true;
            this.abort();
          });
        },
        write: (chunk) => this.#write(chunk),
        close: () => {
          this.#writeEnded = true;
          this.#connection?.end();
          // Nothing of it is wanted either way any more.
          if (this.#discards) this.abort();
        },
        abort: () => this.abort(),
      },
      { highWaterMark: 1 },
    );
    const connection = open(this.#handler(events));
    // It may have failed, and be gone, before `open` returns.
    if (connection.state !== 'CLOSED') this.#connection = connection;
    this.localAddress = formatAddress(connection.peerAddress);
    this.remoteAddress = formatAddress(connection.guestAddress);
    this.remotePort = connection.guestPort;
    this.#localPort = connection.peerPort;
  }

  get localPort(): number {
    return this.#connection?.peerPort ?? this.#localPort;
  }

  /** What is received, chunk by chunk. Leaving the loop early gives the connection up. */
  async *[Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const reader = this.readable.getReader();
    let ended = false;
    try {
      for (;;) {
        const { value, done } = await reader.read();
        ended = done;
        if (done) return;
        yield value;
      }
    } finally {
      if (!ended) this.abort();
      reader.releaseLock();
    }
  }

  /** RST now; both streams fail with ECONNABORTED unless they have ended. */
  abort(): void {
    this.#connection?.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort();
    await this.closed.catch(() => undefined);
  }

  #handler(events: StreamConnectionEvents): TcpHandler {
    return {
      established: () => {
        this.#established = true;
        events.established(this);
      },
      room: () => (this.#discards ? RECEIVE_OCTETS : Math.max(0, this.#in.desiredSize ?? 0)),
      received: (_connection, octets) => this.#received(octets),
      receivedEnd: () => {
        this.#readEnded = true;
        if (!this.#discards) this.#in.close();
      },
      writable: () => this.#roomAgain(),
      closed: (connection, reason) => {
        this.#localPort = connection.peerPort;
        this.#connection = undefined;
        this.#ended(reason, events, formatAddress(connection.guestAddress), connection.guestPort);
      },
    };
  }

  #received(octets: FragmentList): number {
    if (this.#discards) return octets.octets;
    const chunk = new Uint8Array(octets.octets);
    let place = 0;
    for (let i = 0; i < octets.count; i++) {
      const { arena, offset, length } = octets.items[i]!;
      chunk.set(arena.bytes.subarray(offset, offset + length), place);
      place += length;
    }
    this.#receiving = true;
    this.#in.enqueue(chunk);
    this.#receiving = false;
    return place;
  }

  async #write(chunk: unknown): Promise<void> {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('a chunk is a Uint8Array');
    for (let done = 0; done < chunk.length; ) {
      const connection = this.#connection;
      if (!connection) throw this.#error ?? new SocketError('ECONNABORTED', 'write');
      if (!connection.reserveSend()) {
        await new Promise<void>((resolve) => {
          this.#room = resolve;
        });
        continue;
      }
      const octets = Math.min(connection.sendLength, chunk.length - done);
      connection.sendArena.bytes.set(chunk.subarray(done, done + octets), connection.sendOffset);
      connection.commitSend(octets);
      done += octets;
    }
  }

  #roomAgain(): void {
    this.#room?.();
    this.#room = undefined;
  }

  #cancelled(): void {
    this.#discards = true;
    if (this.#writeEnded) this.abort();
    else this.#connection?.roomGrew();
  }

  #ended(reason: CloseReason, events: StreamConnectionEvents, address: string, port: number): void {
    if (reason === 'closed') {
      this.#settled.resolve();
      this.#roomAgain();
      return;
    }
    const code: SocketErrorCode = reason === 'aborted' ? 'ECONNABORTED' : reason;
    const error = new SocketError(code, this.#established ? 'read' : 'connect', address, port);
    this.#error = error;
    if (!this.#readEnded && !this.#discards) this.#in.error(error);
    if (!this.#writeEnded) this.#out.error(error);
    this.#settled.reject(error);
    this.#roomAgain();
    if (!this.#established) events.failed(error);
  }
}
