/** The control socket of `slipway-vmm` (vmm-protocol.ts): any number of clients watch and steer one machine. */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { LineReader } from './adapter/line-reader.ts';
import type { Machine } from './port.ts';
import { LINE_OCTETS, parseVmmRequest, type VmmMessage, type VmmRequest } from './vmm-protocol.ts';

/** Octets that a client may leave unread before it is let go. */
const UNREAD_OCTETS = 1 << 20;
/** For a client to read the last status. */
const LAST_WORDS_MS = 1000;

export class VmmServer {
  readonly #machine: Machine;
  readonly #path: string;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  readonly #unsubscribe: () => void;

  constructor(machine: Machine, path: string) {
    this.#machine = machine;
    this.#path = path;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#unsubscribe = machine.onStatus(() => {
      for (const client of this.#clients) this.#sendStatus(client);
    });
  }

  /** Listens; a socket that an earlier vmm left is replaced, so the caller holds the disk's lock. */
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

  /**
   * Ends every connection: what was sent is read to its end, then the client closes, soon in any case. Closed by us, a
   * request that is on its way would meet a reset, and the last status be lost to it.
   */
  async close(): Promise<void> {
    this.#unsubscribe();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) {
      client.end();
      setTimeout(() => client.destroy(), LAST_WORDS_MS).unref();
    }
    await closed;
  }

  #accept(socket: Socket): void {
    this.#clients.add(socket);
    const reader = new LineReader(
      LINE_OCTETS,
      (line) => this.#line(socket, line),
      () => socket.destroy(),
    );
    socket.on('data', (octets: Buffer) => reader.push(octets));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#clients.delete(socket));
    this.#sendStatus(socket);
  }

  #sendStatus(client: Socket): void {
    this.#send(client, { vmm: process.pid, status: this.#machine.status() });
  }

  #send(client: Socket, message: VmmMessage): void {
    // Written after its end, a word would take the ones before it away from a client that has not read them.
    if (!client.writable) return;
    client.write(`${JSON.stringify(message)}\n`);
    if (client.writableLength > UNREAD_OCTETS) client.destroy();
  }

  #line(client: Socket, line: string): void {
    const request = parseVmmRequest(line);
    if (!request) {
      client.destroy();
      return;
    }
    const { id } = request;
    this.#perform(request).then(
      () => this.#send(client, { id }),
      (error: unknown) => this.#send(client, { id, error: (error as Error).message }),
    );
  }

  async #perform({ method, graceMs }: VmmRequest): Promise<void> {
    if (method === 'shutdown') await this.#machine.shutdown(graceMs);
    else await this.#machine[method]();
  }
}
