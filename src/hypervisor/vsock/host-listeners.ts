/**
 * The host's ways in: the `connect` socket, whose clients say in their first line which guest port they want
 * (handshake.ts), and forwards, sockets that lead to one guest port each, such as docker.sock to 2376.
 */

import { join } from 'node:path';
import { addressOfBuffer } from '../../native/memory.ts';
import { close, codeOf, EAGAIN, EPOLLIN, EPOLLRDHUP, MSG_DONTWAIT, MSG_PEEK, recv } from '../../native/system-calls.ts';
import type { Poller } from '../vhost-user/poller.ts';
import { acceptUnix, closeListener, listenUnix } from '../vhost-user/unix-socket.ts';
import { DeadlineQueue, type Timers } from './deadline-queue.ts';
import { maxLineOctets, parseHandshake } from './handshake.ts';
import { checkSocketPath, type Forward } from './socket-path.ts';

const acceptRetryMs = 100;

export interface HostListenersOptions {
  readonly directory: string;
  readonly forwards: readonly Forward[];
  readonly guestCid: number;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly handshakeTimeoutMs: number;
  /** Takes over a client's socket: a stream to `port` is wanted, and `answer` says whether it awaits an OK. */
  readonly open: (fd: number, port: number, answer: boolean) => void;
  readonly log: (line: string) => void;
}

export class HostListeners {
  readonly #options: HostListenersOptions;
  readonly #listeners: { readonly fd: number; readonly path: string }[] = [];
  /** Clients that have not said what they want. */
  readonly #undecided: DeadlineQueue<number>;
  readonly #line = new ArrayBuffer(maxLineOctets);
  readonly #bytes = new Uint8Array(this.#line);
  readonly #address = addressOfBuffer(this.#line);

  constructor(options: HostListenersOptions) {
    this.#options = options;
    this.#undecided = new DeadlineQueue(options.handshakeTimeoutMs, options.timers, (fd) => this.#drop(fd));
  }

  /** Listens on all sockets or none; throws an Error that names cause and remedy. */
  start(): void {
    const { directory, forwards, open } = this.#options;
    const connectPath = join(directory, 'connect');
    const all = [{ path: connectPath, port: undefined }, ...forwards];
    for (const { path } of all) checkSocketPath(path);
    try {
      for (const { path, port } of all)
        this.#listen(path, port === undefined ? (fd) => this.#greet(fd) : (fd) => open(fd, port, false));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const { fd, path } of this.#listeners.splice(0)) {
      this.#options.poller.remove(fd);
      closeListener(fd, path);
    }
    for (let fd = this.#undecided.oldest; fd !== undefined; fd = this.#undecided.oldest) this.#drop(fd);
  }

  #listen(path: string, accepted: (fd: number) => void): void {
    const listener = listenUnix(path);
    this.#listeners.push({ fd: listener, path });
    const { poller, timers, log } = this.#options;
    const accept = () => {
      for (;;) {
        const fd = acceptUnix(listener);
        if (fd === EAGAIN) return;
        if (fd < 0) {
          // Out of descriptors, most likely; readiness is told once only.
          log(`cannot accept on ${path}: ${codeOf(fd)}`);
          timers.after(acceptRetryMs, () => {
            if (!this.#listeners.some((entry) => entry.fd === listener)) return;
            accept();
            poller.settle();
          });
          return;
        }
        accepted(fd);
      }
    };
    poller.add(listener, EPOLLIN, accept);
  }

  #greet(fd: number): void {
    this.#undecided.add(fd);
    this.#options.poller.add(fd, EPOLLIN | EPOLLRDHUP, () => this.#readLine(fd));
  }

  /** Reads no further than the line: what follows is the stream's. */
  #readLine(fd: number): void {
    const { guestCid, open, log } = this.#options;
    const peeked = recv(fd, this.#address, maxLineOctets, MSG_PEEK | MSG_DONTWAIT);
    if (peeked <= 0) {
      if (peeked === 0) this.#drop(fd);
      return;
    }
    const wanted = parseHandshake(this.#bytes.subarray(0, peeked), guestCid);
    if (wanted === undefined) return;
    if (typeof wanted === 'string') {
      log(`a client of the connect socket was refused: ${wanted}`);
      this.#drop(fd);
      return;
    }
    recv(fd, this.#address, wanted.octets, MSG_DONTWAIT);
    this.#undecided.delete(fd);
    this.#options.poller.remove(fd);
    open(fd, wanted.port, wanted.answer);
  }

  #drop(fd: number): void {
    this.#undecided.delete(fd);
    this.#options.poller.remove(fd);
    close(fd);
  }
}
