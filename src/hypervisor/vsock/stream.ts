/** One stream: a vsock connection and the host's socket at its other end. */

import { EAGAIN } from '../../native/system-calls.ts';
import type { IoVector } from '../vhost-user/io-vector.ts';
import type { VsockConnection } from './connection.ts';
import type { SendBuffer, SendBufferPool } from './send-buffer.ts';

export class VsockStream {
  readonly connection: VsockConnection;
  readonly #pool: SendBufferPool;
  /** The host's socket; -1: none (yet, or any more). */
  fd: number;
  /** `OK LOCALPORT\n` is owed to the host's end (Firecracker's handshake). */
  answer = false;
  /** The socket may have something to read: data, its end or an error. */
  readable = false;
  /** The socket's end has been announced, so a short read does not mean that nothing is left. */
  ending = false;
  /** The socket's end has been read. */
  ended = false;
  /** The host's end has closed altogether, not only its sending half. */
  hungUp = false;
  /** Writing failed: what the guest sends is discarded. */
  writeBroken = false;
  /** No longer in the table; what the guest had sent may still be draining into the socket. */
  released = false;
  /** Receive buffers to try for at once: grows while the host's data fill them. */
  appetite = 2;
  /** Attempts to connect to a host socket whose backlog is full. */
  attempts = 0;
  #buffer: SendBuffer | undefined;

  constructor(connection: VsockConnection, fd: number, pool: SendBufferPool) {
    this.connection = connection;
    this.fd = fd;
    this.#pool = pool;
  }

  get hostPort(): number {
    return this.connection.hostPort;
  }

  get guestPort(): number {
    return this.connection.guestPort;
  }

  /** Whether octets from the guest wait for the socket. */
  get holding(): boolean {
    return this.#buffer !== undefined;
  }

  /**
   * Hands octets from the guest to the socket, holding what it does not take. Octets now forwarded (or of no use, the
   * socket being gone); < 0: it failed.
   */
  write(data: IoVector): number {
    if (this.writeBroken || this.fd < 0) return data.octets;
    let written = 0;
    if (!this.#buffer) {
      const result = data.writeTo(this.fd);
      if (result === data.octets) return result;
      if (result < 0 && result !== EAGAIN) return result;
      written = Math.max(0, result);
      this.#buffer = this.#pool.take(this.connection.bufAlloc);
    }
    const buffer = this.#buffer;
    data.eachAfter(written, (bytes, from, to) => buffer.append(bytes, from, to));
    return written;
  }

  /** Writes on from what is held. Octets now forwarded; < 0: it failed. */
  drain(): number {
    if (!this.#buffer) return 0;
    const written = this.#buffer.writeTo(this.fd);
    if (written >= 0 && this.#buffer.length === 0) this.discard();
    return written;
  }

  /** Forgets what is held. */
  discard(): void {
    if (this.#buffer) this.#pool.give(this.#buffer);
    this.#buffer = undefined;
  }
}
