/** 9P on a unix socket that only its owner can connect to. */

import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Export } from '../ninep/connection.ts';
import type { NinepLimits } from '../ninep/limits.ts';
import { LockTable } from '../ninep/lock-table.ts';
import { serveStream } from './ninep-stream.ts';

const CONNECTIONS = 256;
const SOCKET_PATH_OCTETS = 104;

export interface NinepServerOptions {
  readonly path: string;
  readonly served: Export;
  readonly limits?: Partial<NinepLimits>;
  /** The most at a time. */
  readonly connections?: number;
  readonly log: (line: string) => void;
}

export class NinepServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /** Listens at `path`, in place of a socket left there; rejects with an Error that names it. */
  static async listen({ path, connections = CONNECTIONS, ...options }: NinepServerOptions): Promise<NinepServer> {
    if (Buffer.byteLength(path) >= SOCKET_PATH_OCTETS)
      throw new Error(`the path of a unix socket must be shorter than ${SOCKET_PATH_OCTETS} octets: ${path}`);
    const locks = new LockTable();
    const listener = createServer({ allowHalfOpen: true });
    const server = new NinepServer(listener, path);
    listener.maxConnections = connections;
    listener.on('connection', (socket) => {
      server.#sockets.add(socket);
      socket.on('close', () => server.#sockets.delete(socket));
      serveStream(socket, { ...options, locks });
    });
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      listener.once('error', (error) => reject(new Error(`cannot listen on ${path}: ${error.message}`)));
      // listen() binds before it returns, so the umask covers the socket's making and nothing else.
      const umask = process.umask(0o177);
      listener.listen(path, resolve);
      process.umask(umask);
    });
    listener.on('error', (error) => options.log(`9P at ${path}: ${error.message}`));
    return server;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#path, { force: true });
  }
}
