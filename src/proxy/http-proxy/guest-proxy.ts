/**
 * The guests' HTTP proxy: an explicit one on the gateway, and, for the ports whose scheme has an upstream proxy, whatever
 * guests dial there, without their knowing. An intercepted connection is accepted at once, since only what it says first
 * tells where it goes: a request's Host, or the name in a TLS ClientHello (client-hello.ts). What says neither goes to
 * the address that was dialled. Nothing is read of what follows a ClientHello.
 *
 * Bounds: connections are the policy's to count, as the guest's other ones and once more as these, of which each may have
 * `RECEIVE_OCTETS` waiting here; `FIRST_MS` for the first octets, after which a client is taken for one that waits to be
 * spoken to.
 */

import type { Duplex } from 'node:stream';
import type { Address, TcpConnection } from '../../stack/port.ts';
import { equal } from '../../stack/wire/address.ts';
import { GuestStream } from '../adapter/guest-stream.ts';
import type { Policy } from '../policy.ts';
import { HELLO_OCTETS, helloName } from './client-hello.ts';
import { direct, GuestRoutes, type ProxySettings } from './guest-routes.ts';
import { parseHost } from './message.ts';
import type { NameLookupPort } from './port.ts';
import { HttpRelay } from './relay.ts';
import { joinStreams } from './tunnel.ts';

export const HTTP_PORT = 80;
export const HTTPS_PORT = 443;
/** A server that speaks first, such as SSH on port 443, is not to wait for long. */
const FIRST_MS = 2000;
const RECEIVE_OCTETS = 64 * 1024;

/** As what a connection counts. */
const counts = ['tcp', 'http'] as const;

const partOfMethod = /^[A-Z-]{0,32}$/;
/** A method and a blank, RFC 9112 3; HTTP/2's preface, RFC 9113 3.4, is not for us to read. */
const request = /^(?!PRI )[A-Z-]{3,32} /;

export interface GuestProxyParts {
  readonly policy: Pick<Policy, 'check' | 'destination' | 'recheck' | 'ruleOf' | 'unresolved' | 'acquire' | 'release'>;
  readonly names: NameLookupPort;
  /** Undefined: no upstream proxy. */
  readonly settings: ProxySettings | undefined;
}

export class GuestProxy {
  readonly #policy: GuestProxyParts['policy'];
  readonly #routes: GuestRoutes;
  readonly #explicit: HttpRelay;
  readonly #intercepted: HttpRelay;
  readonly #streams = new Set<Duplex>();

  constructor({ policy, names, settings }: GuestProxyParts) {
    this.#policy = policy;
    this.#routes = new GuestRoutes(policy, names, settings ?? direct);
    this.#explicit = new HttpRelay({ routes: this.#routes, form: 'absolute' });
    this.#intercepted = new HttpRelay({ routes: this.#routes, form: 'origin' });
  }

  /** Takes over other settings; connections that are there stay as they are. */
  use(settings: ProxySettings | undefined): void {
    this.#routes.settings = settings ?? direct;
  }

  /** A guest's connection to the proxy itself. */
  accept(connection: TcpConnection): void {
    const stream = this.#take(connection);
    if (stream) this.#explicit.serve(stream);
  }

  /** A guest's connection to somebody else; false: it is not for the proxy. */
  intercept(connection: TcpConnection): boolean {
    const { peerAddress, peerPort, ingress } = connection;
    const { settings } = this.#routes;
    if (peerPort !== HTTP_PORT && peerPort !== HTTPS_PORT) return false;
    if (!(peerPort === HTTP_PORT ? settings.http : settings.https)) return false;
    if (settings.noProxy.excludes({ addresses: [peerAddress], port: peerPort })) return false;
    const verdict = this.#policy.check(peerAddress, { protocol: 'tcp', port: peerPort, ingress });
    // Refused as any; and the host alias is nobody's but ours to reach.
    if (!verdict.allowed || !equal(verdict.address, peerAddress)) return false;
    const stream = this.#take(connection, peerAddress.slice());
    if (stream) this.#lead(stream, peerPort).catch(() => stream.destroy());
    return true;
  }

  /** The policy has changed: ends the connections whose last target it denies now. */
  recheck(): void {
    for (const stream of this.#streams) if (!this.#routes.isAllowed(stream)) stream.destroy();
  }

  close(): void {
    this.#explicit.close();
    this.#intercepted.close();
    for (const stream of this.#streams) stream.destroy();
  }

  #take(connection: TcpConnection, dialled?: Address): GuestStream | undefined {
    const { ingress } = connection;
    if (!this.#acquire(ingress)) {
      connection.reject('reset');
      return undefined;
    }
    const stream = GuestStream.accept(connection, RECEIVE_OCTETS);
    this.#routes.introduce(stream, { ingress, ...(dialled && { dialled }) });
    this.#streams.add(stream);
    stream.on('error', () => undefined);
    stream.once('close', () => {
      this.#streams.delete(stream);
      for (const one of counts) this.#policy.release(one, ingress);
    });
    return stream;
  }

  #acquire(ingress: number): boolean {
    const [tcp, http] = counts;
    if (!this.#policy.acquire(tcp, ingress)) return false;
    if (this.#policy.acquire(http, ingress)) return true;
    this.#policy.release(tcp, ingress);
    return false;
  }

  async #lead(stream: GuestStream, port: number): Promise<void> {
    const enough = (bytes: Buffer): boolean =>
      port === HTTPS_PORT ? helloName(bytes) !== undefined : !partOfMethod.test(bytes.toString('latin1', 0, 64));
    const said = await first(stream, enough);
    if (said === undefined) return void stream.destroy();
    if (port === HTTP_PORT && request.test(said.toString('latin1', 0, 64))) return this.#intercepted.serve(stream);
    const name = port === HTTPS_PORT ? parseHost(helloName(said)?.name ?? '') : undefined;
    const server = await this.#routes.tunnel({ host: name ?? stream.localAddress, port }, stream);
    if (stream.destroyed) return void server.destroy();
    joinStreams(stream, server);
  }
}

/** What a client says until it is enough, or it says no more for too long: left unread. Undefined: it has gone. */
function first(stream: Duplex, enough: (bytes: Buffer) => boolean): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
  let bytes: Buffer = Buffer.alloc(0);
  const stop = (found: Buffer | undefined): void => {
    clearTimeout(timer);
    stream.off('readable', look).off('end', gone).off('close', gone);
    // In the turn that it was read in: its end, if it is there already, must not be noticed before.
    if (found && found.length > 0) stream.unshift(found);
    resolve(found);
  };
  const look = (): void => {
    const more = stream.read() as Buffer | null;
    if (!more) return;
    bytes = bytes.length === 0 ? more : Buffer.concat([bytes, more]);
    if (bytes.length >= HELLO_OCTETS || enough(bytes)) stop(bytes);
  };
  const gone = (): void => stop(undefined);
  const timer = setTimeout(() => stop(bytes), FIRST_MS);
  stream.on('readable', look).on('end', gone).on('close', gone);
  return promise;
}
