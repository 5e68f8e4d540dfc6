/**
 * The host's ways in, with Node's own sockets, for the portable lane: the `connect` socket, whose clients say in their
 * first line which guest port they want (handshake.ts), and forwards that lead to one guest port each.
 */

import fs from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { DeadlineQueue, type Timers } from './deadline-queue.ts';
import { parseHandshake } from './handshake.ts';
import { checkSocketPath, type Forward } from './socket-path.ts';

export interface HostServerOptions {
  readonly directory: string;
  readonly forwards: readonly Forward[];
  readonly guestCid: number;
  readonly timers: Timers;
  readonly handshakeTimeoutMs: number;
  /** Takes over a client's socket, which is paused: a stream to `port`; `answer`: it awaits an OK. */
  readonly open: (socket: net.Socket, port: number, answer: boolean) => void;
  readonly log: (line: string) => void;
}

export class HostServer {
  readonly #options: HostServerOptions;
  readonly #servers: net.Server[] = [];
  readonly #undecided: DeadlineQueue<net.Socket>;

  constructor(options: HostServerOptions) {
    this.#options = options;
    this.#undecided = new DeadlineQueue(options.handshakeTimeoutMs, options.timers, (socket) => socket.destroy());
  }

  /** Listens on all sockets or none; rejects with an Error that names cause and remedy. */
  async start(): Promise<void> {
    const { directory, forwards, open } = this.#options;
    const entries = [
      { path: join(directory, 'connect'), accepted: (socket: net.Socket) => this.#greet(socket) },
      ...forwards.map(({ path, port }) => ({ path, accepted: (socket: net.Socket) => open(socket, port, false) })),
    ];
    for (const { path } of entries) checkSocketPath(path);
    try {
      for (const { path, accepted } of entries) this.#servers.push(await listenPrivately(path, accepted));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const server of this.#servers.splice(0)) server.close();
    for (let socket = this.#undecided.oldest; socket; socket = this.#undecided.oldest) {
      this.#undecided.delete(socket);
      socket.destroy();
    }
  }

  #greet(socket: net.Socket): void {
    const { guestCid, open, log } = this.#options;
    this.#undecided.add(socket);
    const gone = () => this.#undecided.delete(socket);
    const readable = () => {
      const octets = socket.read() as Buffer | null;
      if (!octets) return;
      const wanted = parseHandshake(octets, guestCid);
      if (wanted === undefined) {
        // Not whole: back it goes, until more comes.
        socket.unshift(octets);
        return;
      }
      gone();
      socket.off('readable', readable).off('close', gone).off('end', ended);
      if (typeof wanted === 'string') {
        log(`a client of the connect socket was refused: ${wanted}`);
        socket.destroy();
        return;
      }
      if (wanted.octets < octets.length) socket.unshift(octets.subarray(wanted.octets));
      open(socket, wanted.port, wanted.answer);
    };
    const ended = () => socket.destroy();
    socket.on('error', () => {});
    socket.on('readable', readable).on('close', gone).on('end', ended);
  }
}

/** Listens on a unix socket of mode 0600, replacing one that nobody listens on any more. */
export async function listenPrivately(path: string, accepted: (socket: net.Socket) => void): Promise<net.Server> {
  await removeStale(path);
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, accepted);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new Error(`cannot listen on ${path}: ${error.message}`)));
    server.once('listening', resolve);
    // listen() binds before it returns, so the umask covers the socket's making and nothing else.
    const umask = process.umask(0o177);
    server.listen({ path, backlog: 1024 });
    process.umask(umask);
  });
  return server;
}

async function removeStale(path: string): Promise<void> {
  const entry = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!entry) return;
  if (!entry.isSocket()) throw new Error(`${path} exists and is not a socket: move it away`);
  const alive = await new Promise<boolean>((resolve) => {
    const socket = net.connect(path, () => resolve(true));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EAGAIN'));
    socket.once('connect', () => socket.destroy());
  });
  if (alive) throw new Error(`${path} is in use by another process: stop it first`);
  fs.rmSync(path, { force: true });
}
