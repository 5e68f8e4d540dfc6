/**
 * The host's way to guests and containers by their own addresses and names: one listener, on a unix socket of mode 0600
 * or on loopback with a credential, that speaks SOCKS 5 (RFC 1928, 1929: CONNECT, and UDP ASSOCIATE on loopback) and HTTP (CONNECT, absolute form),
 * told apart by the first octet. What it opens are connections of our stack's towards the guest, as published ports'
 * are: the guest sees them come from the gateway.
 *
 * Bounds: `CONNECTIONS` at a time; `HANDSHAKE_MS` for all that comes before octets pass; messages as long as the RFC
 * has them. Whoever fails the credential is answered and let go. Nothing of a credential is ever in an error or a log.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Address } from '../../stack/port.ts';
import { formatAddress, parseAddress } from '../../stack/wire/address.ts';
import { type Destination, Destinations, type GuestNetwork } from '../entrance/destinations.ts';
import type { EntranceAt } from '../entrance/place.ts';
import type { ContainerNamesPort } from '../entrance/port.ts';
import {
  CONNECT,
  type Malformed,
  NO_AUTHENTICATION,
  NO_METHOD,
  parseCredentials,
  parseGreeting,
  parseRequest,
  reply,
  SOCKS_VERSION,
  UDP_ASSOCIATE,
  USERNAME_PASSWORD,
  writeReply,
} from '../entrance/socks-message.ts';
import { basic, HttpRefusal, type HttpTarget } from '../http-proxy/message.ts';
import { HttpRelay } from '../http-proxy/relay.ts';
import { joinStreams } from '../http-proxy/tunnel.ts';
import type { GuestStream } from './guest-stream.ts';
import { Association, type AssociationOptions } from './socks-association.ts';
import { removeStale } from './stale-socket.ts';

const CONNECTIONS = 1024;
const HANDSHAKE_MS = 10_000;
const SOCKET_PATH_OCTETS = 104;

export interface EntranceOptions {
  readonly at: EntranceAt;
  /** USER:PASSWORD; a must on loopback, where everybody of the host gets to. */
  readonly credential?: string | undefined;
  readonly network: GuestNetwork;
  readonly names: ContainerNamesPort;
  readonly dial: (address: Address, port: number) => GuestStream;
  /** For datagrams of one client's. */
  readonly datagrams: AssociationOptions['open'];
}

export class Entrance {
  readonly #options: EntranceOptions;
  readonly #destinations: Destinations;
  readonly #server: net.Server;
  readonly #clients = new Set<net.Socket>();
  readonly #http: HttpRelay;

  private constructor(options: EntranceOptions) {
    this.#options = options;
    this.#destinations = new Destinations(options.network, options.names);
    this.#http = new HttpRelay({
      form: 'absolute',
      routes: {
        route: async (target) => {
          const address = await this.#addressOf(target);
          const key = `${formatAddress(address)} ${target.port}`;
          return { key, connect: () => this.#open(address, target.port) };
        },
        tunnel: async (target) => this.#open(await this.#addressOf(target), target.port),
      },
      ...(options.credential !== undefined && { authorized: (field) => same(field ?? '', basic(options.credential!)) }),
    });
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
    this.#server.maxConnections = CONNECTIONS;
  }

  /** Listens, at a path in place of a socket left there; rejects with an Error that names what cannot be. */
  static async listen(options: EntranceOptions): Promise<Entrance> {
    const { at, credential } = options;
    const entrance = new Entrance(options);
    if ('address' in at) {
      if (credential === undefined) throw new Error('an entrance on loopback needs a credential: others use it too');
      await entrance.#listen({ host: at.address, port: at.port }, `${at.address}:${at.port}`);
      return entrance;
    }
    if (Buffer.byteLength(at.path) >= SOCKET_PATH_OCTETS)
      throw new Error(`the path of a unix socket must be shorter than ${SOCKET_PATH_OCTETS} octets: ${at.path}`);
    await removeStale(at.path);
    // listen() binds before it returns, so the umask covers the socket's making and nothing else.
    const umask = process.umask(0o177);
    const listening = entrance.#listen({ path: at.path }, at.path);
    process.umask(umask);
    await listening;
    return entrance;
  }

  /** The port bound, also when 0 was asked for; 0 on a unix socket. */
  get port(): number {
    const bound = this.#server.address();
    return bound && typeof bound === 'object' ? bound.port : 0;
  }

  close(): void {
    this.#server.close();
    this.#http.close();
    for (const client of this.#clients) client.destroy();
    if ('path' in this.#options.at) rmSync(this.#options.at.path, { force: true });
  }

  #listen(where: net.ListenOptions, words: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => reject(new Error(`cannot listen on ${words}: ${error.message}`)));
      this.#server.listen(where, () => {
        this.#server.removeAllListeners('error');
        // Out of file descriptors, for one: those that wait in the backlog are served when there are some again.
        this.#server.on('error', () => undefined);
        resolve();
      });
    });
  }

  #accept(client: net.Socket): void {
    this.#clients.add(client);
    client.once('close', () => this.#clients.delete(client));
    client.on('error', () => undefined);
    const timer = setTimeout(() => client.destroy(), HANDSHAKE_MS);
    client.once('close', () => clearTimeout(timer));
    this.#serve(client, () => clearTimeout(timer)).catch(() => client.destroy());
  }

  async #serve(client: net.Socket, ready: () => void): Promise<void> {
    const first = await peek(client);
    if (first === undefined) return void client.destroy();
    if (first === SOCKS_VERSION) {
      const opened = await this.#socks(client);
      // Who is refused has the rest of the time to hear it.
      if (!opened) return void client.end().resume();
      ready();
      if (opened === 'associated') client.resume();
      else joinStreams(client, opened);
      return;
    }
    ready();
    this.#http.serve(client);
  }

  /** RFC 1928 3 to 6; undefined: refused, and said so. */
  async #socks(client: net.Socket): Promise<Duplex | 'associated' | undefined> {
    const { credential } = this.#options;
    const greeting = await message(client, parseGreeting);
    if (!greeting) return undefined;
    const wanted = credential !== undefined || !greeting.methods.includes(NO_AUTHENTICATION);
    const method = wanted ? USERNAME_PASSWORD : NO_AUTHENTICATION;
    if (!greeting.methods.includes(method)) {
      client.write(Uint8Array.of(SOCKS_VERSION, NO_METHOD));
      return undefined;
    }
    client.write(Uint8Array.of(SOCKS_VERSION, method));
    if (method === USERNAME_PASSWORD) {
      const given = await message(client, parseCredentials);
      if (!given) return undefined;
      const good = credential === undefined || same(given.credential, credential);
      client.write(Uint8Array.of(1, good ? 0 : 1));
      if (!good) return undefined;
    }
    const request = await message(client, parseRequest);
    if (!request) return undefined;
    const refuse = (code: number): undefined => void client.write(writeReply(code));
    if (request.command === UDP_ASSOCIATE && request.host !== undefined && 'address' in this.#options.at)
      return this.#associate(client, request.port);
    if (request.command !== CONNECT) return refuse(reply.unknownCommand);
    if (request.host === undefined) return refuse(reply.unknownAddressType);
    if (request.port === 0) return refuse(reply.notAllowed);
    const found = await this.#destinations.find(request.host);
    if ('refused' in found) return refuse(refusals[found.refused]);
    try {
      const stream = await this.#open(found.address, request.port);
      if (client.destroyed) return void stream.destroy();
      const bound = { address: parseAddress(stream.localAddress)!, port: stream.localPort };
      client.write(writeReply(reply.succeeded, bound));
      return stream;
    } catch (error) {
      return refuse(failures[(error as NodeJS.ErrnoException).code ?? ''] ?? reply.failure);
    }
  }

  async #associate(client: net.Socket, clientPort: number): Promise<'associated' | undefined> {
    const { localAddress = '', remoteAddress: clientAddress = '' } = client;
    const options = { localAddress, clientAddress, clientPort };
    try {
      const { datagrams } = this.#options;
      const association = await Association.open({ ...options, destinations: this.#destinations, open: datagrams });
      client.once('end', () => client.end()).once('close', () => association.close());
      if (client.destroyed) association.close();
      else client.write(writeReply(reply.succeeded, { address: parseAddress(localAddress)!, port: association.port }));
      return 'associated';
    } catch {
      client.write(writeReply(reply.failure));
      return undefined;
    }
  }

  async #addressOf({ host }: HttpTarget): Promise<Address> {
    const found = await this.#destinations.find(host);
    if ('address' in found) return found.address;
    const [status, why] = httpRefusals[found.refused];
    throw new HttpRefusal(status, `${host} ${why}`);
  }

  /** Resolves when the guest has answered. */
  async #open(address: Address, port: number): Promise<GuestStream> {
    const stream = this.#options.dial(address, port);
    // It may fail between being connected and being looked after.
    stream.on('error', () => undefined);
    await once(stream, 'connect');
    return stream;
  }
}

type Refused = Extract<Destination, { refused: string }>['refused'];

const refusals: Readonly<Record<Refused, number>> = {
  'not-allowed': reply.notAllowed,
  unknown: reply.hostUnreachable,
  'no-answer': reply.failure,
};

const httpRefusals: Readonly<Record<Refused, readonly [number, string]>> = {
  'not-allowed': [403, 'is not the address of a guest or a container'],
  unknown: [404, 'is not the name of a container that runs; they are NAME.container.slipway.internal'],
  'no-answer': [503, 'cannot be looked up: Docker does not answer'],
};

const failures: Readonly<Record<string, number>> = {
  ECONNREFUSED: reply.refused,
  ECONNRESET: reply.refused,
  EHOSTUNREACH: reply.hostUnreachable,
  ETIMEDOUT: reply.ttlExpired,
};

/** Takes as long whatever is different. */
function same(given: string, wanted: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(given), hash(wanted));
}

/** What has come, or undefined when nothing more will. */
async function chunk(client: net.Socket): Promise<Buffer | undefined> {
  for (;;) {
    const bytes = client.read() as Buffer | null;
    if (bytes) return bytes;
    if (client.readableEnded || client.destroyed) return undefined;
    await new Promise<void>((resolve) => {
      const told = (): void => {
        for (const event of ['readable', 'end', 'close']) client.off(event, told);
        resolve();
      };
      for (const event of ['readable', 'end', 'close']) client.on(event, told);
    });
  }
}

async function peek(client: net.Socket): Promise<number | undefined> {
  const bytes = await chunk(client);
  if (bytes) client.unshift(bytes);
  return bytes?.[0];
}

/** The next message; what follows it is left unread. Undefined: malformed, or the client has gone. */
async function message<T extends { readonly octets: number }>(
  client: net.Socket,
  parse: (bytes: Uint8Array) => T | Malformed | undefined,
): Promise<T | undefined> {
  let bytes: Buffer = Buffer.alloc(0);
  for (;;) {
    const more = await chunk(client);
    if (!more) return undefined;
    bytes = Buffer.concat([bytes, more]);
    const found = parse(bytes);
    if (found === 'malformed') return undefined;
    if (!found) continue;
    if (bytes.length > found.octets) client.unshift(bytes.subarray(found.octets));
    return found;
  }
}
