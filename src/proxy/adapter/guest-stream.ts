/**
 * A guest's TCP connection as one of Node's streams, for what is not on the hot path: HTTP, the entrance. Back-pressure
 * goes through: what is not read closes the receive window, and a write is done when the send queue has taken it. Either
 * side ends by itself (half-close); `destroy` before both have ended is RST.
 *
 * The stack's calls come from within `input` or `poll` and must not throw: what a listener throws at received octets
 * ends this stream and nothing else. One timer, and only for who asks: `setTimeout`, as Node's HTTP server does.
 */

import { Duplex } from 'node:stream';
import type { CloseReason, FragmentList, NetstackPort, TcpConnection, TcpHandler } from '../../stack/port.ts';
import { formatAddress } from '../../stack/wire/address.ts';

/** Octets received and not read yet, at most; the receive window is never wider. */
const RECEIVE_OCTETS = 256 * 1024;
const SEND_OCTETS = 64 * 1024;

type Done = (error?: Error | null) => void;
type Tuple = Parameters<NetstackPort['connect']>[0];

export class GuestStream extends Duplex {
  readonly #receiveOctets: number;
  /** Undefined once the stack has it back. */
  #connection: TcpConnection | undefined;
  /** What is left of a write that waits for room. */
  #pending: { readonly chunk: Uint8Array; at: number; readonly done: Done } | undefined;
  #endReceived = false;
  #endSent = false;
  #timer: NodeJS.Timeout | undefined;
  /** The guest's end, and the one it talks to. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;

  private constructor(about: Tuple, receiveOctets: number, open: (handler: TcpHandler) => TcpConnection) {
    super({ allowHalfOpen: true, readableHighWaterMark: receiveOctets, writableHighWaterMark: SEND_OCTETS });
    this.#receiveOctets = receiveOctets;
    this.remoteAddress = formatAddress(about.guestAddress);
    this.remotePort = about.guestPort;
    this.localAddress = formatAddress(about.peerAddress);
    const connection = open(this.#handler());
    // It may have failed, and be gone, before `open` returns.
    if (connection.state !== 'CLOSED') this.#connection = connection;
    this.localPort = connection.peerPort;
  }

  /** Dials a guest; `connect` is emitted when it has answered, `error` when it has not. */
  static connect(netstack: Pick<NetstackPort, 'connect'>, to: Tuple): GuestStream {
    return new GuestStream(to, RECEIVE_OCTETS, (handler) => netstack.connect(to, handler));
  }

  /** Answers a guest's SYN; no more than `receiveOctets` wait to be read. */
  static accept(connection: TcpConnection, receiveOctets = RECEIVE_OCTETS): GuestStream {
    return new GuestStream(connection, receiveOctets, (handler) => {
      connection.accept(handler);
      return connection;
    });
  }

  /** Emits `timeout` when nothing was received or sent for so long; 0: never. As `net.Socket.setTimeout`. */
  setTimeout(afterMs: number, told?: () => void): this {
    clearTimeout(this.#timer);
    this.#timer = afterMs > 0 ? setTimeout(() => this.emit('timeout'), afterMs).unref() : undefined;
    if (told) {
      if (afterMs > 0) this.once('timeout', told);
      else this.off('timeout', told);
    }
    return this;
  }

  /** What else of a socket's Node's HTTP agents ask for: nothing here keeps the process, and the stack's are the timers. */
  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  override _read(): void {
    this.#connection?.roomGrew();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: Done): void {
    this.#pending = { chunk, at: 0, done };
    this.#send();
  }

  override _final(done: Done): void {
    this.#endSent = true;
    this.#connection?.end();
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = undefined;
    const pending = this.#pending;
    this.#pending = undefined;
    // In order: what was sent, and our FIN, may still be on their way.
    if (!this.#endReceived || !this.#endSent) connection?.abort();
    pending?.done(error ?? Object.assign(new Error('the stream was given up'), { code: 'ECONNABORTED' }));
    done(error);
  }

  #handler(): TcpHandler {
    return {
      established: () => this.#told(() => this.emit('connect')),
      room: () => (this.destroyed ? 0 : Math.max(0, this.#receiveOctets - this.readableLength)),
      received: (_connection, octets) => this.#received(octets),
      receivedEnd: () => {
        this.#endReceived = true;
        this.#told(() => this.push(null));
      },
      writable: () => this.#told(() => this.#send()),
      closed: (connection, reason) => this.#closed(connection, reason),
    };
  }

  #received(octets: FragmentList): number {
    const chunk = Buffer.allocUnsafe(octets.octets);
    let place = 0;
    for (let i = 0; i < octets.count; i++) {
      const { arena, offset, length } = octets.items[i]!;
      chunk.set(arena.bytes.subarray(offset, offset + length), place);
      place += length;
    }
    this.#timer?.refresh();
    if (!this.destroyed) this.#told(() => this.push(chunk));
    return place;
  }

  #send(): void {
    const pending = this.#pending;
    if (!pending) return;
    this.#timer?.refresh();
    const { chunk, done } = pending;
    while (pending.at < chunk.length) {
      const connection = this.#connection;
      if (!connection?.reserveSend()) return;
      const part = chunk.subarray(pending.at, pending.at + connection.sendLength);
      connection.sendArena.bytes.set(part, connection.sendOffset);
      pending.at += part.length;
      connection.commitSend(part.length);
    }
    this.#pending = undefined;
    done();
  }

  #closed({ guestAddress, guestPort }: TcpConnection, reason: CloseReason): void {
    this.#connection = undefined;
    if (reason === 'closed' || this.destroyed) return;
    const code = reason === 'aborted' ? 'ECONNABORTED' : reason;
    this.destroy(Object.assign(new Error(`${code} ${formatAddress(guestAddress)}:${guestPort}`), { code }));
  }

  #told(tell: () => unknown): void {
    try {
      tell();
    } catch (error) {
      this.destroy(error as Error);
    }
  }
}
