/**
 * A proxy's HTTP, RFC 9110 and 9112: requests in absolute form or, of connections that were intercepted, in origin form
 * with a Host field; CONNECT; upgrades to WebSocket, RFC 6455. Where they lead is `HttpRoutes`' to say.
 *
 * Bounds: `FIRST_MS` until a client's first request is there with all its fields, `CLIENT_IDLE_MS` until each later one is,
 * `BODY_MS` for a body that stands still; requests that one client has sent ahead of their answers, `REQUESTS`; the fields
 * of one, `HEADER_OCTETS`. Connections to servers are kept for `IDLE_MS` and used again. A request that finds such a
 * connection closed is tried once more where that is safe: it has no body and is of a safe method (RFC 9110 9.2.1). Of
 * what a client and a server keep to themselves nothing is logged.
 */

import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import {
  authorityText,
  basic,
  endToEnd,
  HttpRefusal,
  type HttpTarget,
  parseAbsolute,
  parseAuthority,
} from './message.ts';
import { joinStreams } from './tunnel.ts';
import { proxyRefusal, TunnelRefusal } from './upstream.ts';

const IDLE_MS = 15_000;
/** Connections to servers that are kept: of one route, and in all. */
const IDLE_SERVERS = 64;
const IDLE_IN_ALL = 256;
const FIRST_MS = 30_000;
const REQUESTS = 8;
/** How long a client that is refused may take to hear it. */
const LINGER_MS = 5000;
/** How long a client may stay without a request, or take for its fields. */
const CLIENT_IDLE_MS = 60_000;
/** How long nothing may come of a request's body, while somebody waits for it; looked at once in this while. */
const BODY_MS = 300_000;
const HEADER_OCTETS = 64 * 1024;

/** The way of a request to its server. */
export interface HttpRoute {
  /** Connections of the same key are as good as each other. */
  readonly key: string;
  /** An upstream proxy is asked, with these credentials for it (USER:PASSWORD). */
  readonly proxy?: { readonly credential: string | undefined };
  connect(): Promise<Duplex>;
}

/** Rejects with an `HttpRefusal`, or with what a dial says. `client` is the connection that asks. */
export interface HttpRoutes {
  route(target: HttpTarget, client: Duplex): Promise<HttpRoute>;
  /** A stream of octets to the target itself; rejects with a `TunnelRefusal` where an upstream proxy makes none. */
  tunnel(target: HttpTarget, client: Duplex): Promise<Duplex>;
}

export interface HttpRelayOptions {
  readonly routes: HttpRoutes;
  /** `origin`: clients do not know that there is a proxy. */
  readonly form: 'absolute' | 'origin';
  /** Whether a Proxy-Authorization field will do; undefined: none is asked for. */
  readonly authorized?: ((field: string | undefined) => boolean) | undefined;
}

interface Client {
  readonly request: IncomingMessage;
  readonly target: HttpTarget;
  /** Begins with `/`, or is the asterisk of OPTIONS. */
  readonly path: string;
}

export class HttpRelay {
  readonly #options: HttpRelayOptions;
  readonly #server: http.Server;
  readonly #agent = new RouteAgent();
  /** Clients of whom a request is awaited, and for how long. */
  readonly #awaited = new Map<Duplex, NodeJS.Timeout>();
  /** Requests of clients' that are not answered yet. */
  readonly #underWay = new WeakMap<Duplex, number>();

  constructor(options: HttpRelayOptions) {
    this.#options = options;
    this.#server = http.createServer({
      maxHeaderSize: HEADER_OCTETS,
      keepAliveTimeout: CLIENT_IDLE_MS,
      shouldUpgradeCallback: ({ headers }) => /^websocket$/i.test(headers.upgrade ?? ''),
    } as http.ServerOptions);
    // `HEADER_OCTETS` bounds them: releases of Node that count them leave out the rest, how a body is framed included.
    this.#server.maxHeadersCount = 0;
    // A client may have said all that it wants to say, and still wait for its answer (nc does).
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.on('request', (request, response) => void this.#request(request, response));
    this.#server.on('connect', (request, client, head) => void this.#connect(request, client, head));
    this.#server.on('upgrade', (request, client, head) => void this.#upgrade(request, client, head));
    this.#server.on('clientError', (_error, client) => {
      // Within or before the answer to an earlier request it would be taken for a part of that.
      if (client.writable && !this.#underWay.get(client)) refuse(client, new HttpRefusal(400, 'not an HTTP request'));
      else client.destroy();
    });
  }

  /** Serves a client's connection. */
  serve(client: Duplex): void {
    client.on('error', () => undefined);
    // Each request under way listens for its end.
    client.setMaxListeners(4 * REQUESTS);
    this.#await(client, FIRST_MS);
    client.once('close', () => this.#spoke(client));
    this.#server.emit('connection', client);
  }

  close(): void {
    this.#server.close();
    this.#agent.destroy();
    for (const client of this.#awaited.keys()) client.destroy();
  }

  #await(client: Duplex, forMs: number): void {
    this.#spoke(client);
    this.#awaited.set(
      client,
      setTimeout(() => client.destroy(), forMs),
    );
  }

  #spoke(client: Duplex): void {
    clearTimeout(this.#awaited.get(client));
    this.#awaited.delete(client);
  }

  async #request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request;
    this.#spoke(socket);
    const underWay = this.#underWay.get(socket) ?? 0;
    if (underWay === REQUESTS) return void socket.destroy();
    this.#underWay.set(socket, underWay + 1);
    response.once('close', () => {
      const left = this.#underWay.get(socket)! - 1;
      this.#underWay.set(socket, left);
      if (left === 0 && !socket.destroyed) this.#await(socket, CLIENT_IDLE_MS);
    });
    try {
      const client = this.#client(request);
      const route = await this.#options.routes.route(client.target, request.socket);
      await this.#forward(client, route, response, true);
    } catch (error) {
      request.resume();
      if (response.headersSent) response.destroy();
      else answer(response, refusalOf(error));
    }
  }

  /** Resolves when the answer has begun. */
  #forward(client: Client, route: HttpRoute, response: ServerResponse, mayRepeat: boolean): Promise<void> {
    const { request } = client;
    const out = this.#send(client, route);
    response.once('close', () => out.destroy());
    return new Promise((resolve, reject) => {
      out.once('response', (from: IncomingMessage) => {
        // What the upstream proxy wants is not the client's to know.
        if (route.proxy && from.statusCode === 407) {
          from.resume();
          return reject(proxyRefusal(407));
        }
        const { statusCode = 0, statusMessage = '' } = from;
        // Node's parser lets through what its `writeHead` throws at.
        if (statusCode < 100 || response.headersSent) {
          from.destroy();
          return reject(new HttpRefusal(502, 'the server answers with something else than HTTP'));
        }
        // How the body is framed is between us and the client: it may be of HTTP/1.0.
        const fields = endToEnd(from.rawHeaders, 'transfer-encoding');
        response.writeHead(statusCode, isReason.test(statusMessage) ? statusMessage : undefined, fields);
        response.flushHeaders();
        from.on('error', () => response.destroy());
        from.pipe(response);
        resolve();
      });
      // It was not asked for: fields for one hop alone are left out.
      out.once('upgrade', (_from, stream) => {
        stream.destroy();
        reject(new HttpRefusal(502, 'the server changed to another protocol, unasked'));
      });
      out.once('error', (error) => {
        const safe = request.method === 'GET' || request.method === 'HEAD' || request.method === 'OPTIONS';
        const untold = !response.headersSent && !response.destroyed;
        if (mayRepeat && out.reusedSocket && safe && !hasBody(request) && untold)
          this.#forward(client, route, response, false).then(resolve, reject);
        else reject(error);
      });
    });
  }

  #send({ request, target, path }: Client, route: HttpRoute, ...fields: readonly string[]): ClientRequest {
    const authority = authorityText(target, 80);
    const headers = [
      'Host',
      authority,
      ...endToEnd(request.rawHeaders, 'host'),
      'Via',
      `${request.httpVersion} slipway`,
      ...fields,
    ];
    const { proxy } = route;
    if (proxy?.credential !== undefined) headers.push('Proxy-Authorization', basic(proxy.credential));
    const out = http.request({
      agent: this.#agent,
      method: request.method,
      // RFC 9112 3.2.4: the last proxy makes an asterisk of no path at all.
      path: proxy ? `http://${authority}${path === '*' ? '' : path}` : path,
      headers,
      setHost: false,
      route,
    } as RoutedRequest);
    out.useChunkedEncodingByDefault = hasBody(request);
    out.on('error', () => undefined);
    request.pipe(out);
    endStalled(request);
    return out;
  }

  async #connect(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    this.#spoke(client);
    client.on('error', () => undefined);
    try {
      this.#authorize(request);
      const target = parseAuthority(request.url ?? '');
      if (!target) throw new HttpRefusal(400, `'${request.url}' is not HOST:PORT`);
      const stream = await this.#options.routes.tunnel(target, client);
      if (client.destroyed) return void stream.destroy();
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      joinStreams(client, stream, head);
    } catch (error) {
      refuse(client, refusalOf(error));
    }
  }

  /** The request goes through as it is, and then it is octets: through an upstream proxy by CONNECT, RFC 6455 4.1. */
  async #upgrade(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    this.#spoke(client);
    client.on('error', () => undefined);
    try {
      const asked = this.#client(request);
      const stream = await this.#options.routes.tunnel(asked.target, client).catch((error: unknown) => {
        if (error instanceof TunnelRefusal) return undefined;
        throw error;
      });
      if (client.destroyed) return void stream?.destroy();
      if (!stream) return await this.#upgradeThrough(asked, client, head);
      const fields = [
        'Host',
        authorityText(asked.target, 80),
        ...endToEnd(request.rawHeaders, 'host'),
        ...upgradeOf(request),
      ];
      stream.write(`${headText(`${request.method} ${asked.path} HTTP/1.1`, fields)}`, 'latin1');
      joinStreams(client, stream, head);
    } catch (error) {
      refuse(client, refusalOf(error));
    }
  }

  /** An upstream proxy that makes no tunnel to such a port may pass upgrades on: it is asked as for any request. */
  async #upgradeThrough(asked: Client, client: Duplex, head: Buffer): Promise<void> {
    const route = await this.#options.routes.route(asked.target, client);
    if (!route.proxy) throw new HttpRefusal(502, 'the upstream proxy makes no tunnel');
    const out = this.#send(asked, route, ...upgradeOf(asked.request));
    const withdrawn = (): void => void out.destroy();
    client.once('close', withdrawn);
    return new Promise((resolve, reject) => {
      out.once('upgrade', (from: IncomingMessage, stream: Duplex, more: Buffer) => {
        client.off('close', withdrawn);
        if (client.destroyed) return void stream.destroy();
        client.write(
          headText('HTTP/1.1 101 Switching Protocols', [...endToEnd(from.rawHeaders), ...upgradeOf(from)]),
          'latin1',
        );
        if (more.length > 0) client.write(more);
        joinStreams(client, stream, head);
        resolve();
      });
      // Whatever it says instead: the connection is not the client's to go on with.
      out.once('response', (from: IncomingMessage) => {
        from.destroy();
        reject(proxyRefusal(from.statusCode ?? 502));
      });
      out.once('error', reject);
    });
  }

  #client(request: IncomingMessage): Client {
    this.#authorize(request);
    const url = request.url ?? '';
    const isOptions = request.method === 'OPTIONS';
    const absolute = parseAbsolute(url);
    // RFC 9112 3.2.1, 3.2.4: OPTIONS has its asterisk, which is no path at all in absolute form; everything else a path.
    if (absolute) return { request, target: absolute.target, path: absolute.path || (isOptions ? '*' : '/') };
    const named = parseAuthority(request.headers.host ?? '', 80);
    // The port is the one that was dialled, whatever Host says.
    const { localPort: port = 80 } = request.socket;
    if (this.#options.form === 'origin' && named && (url.startsWith('/') || (url === '*' && isOptions)))
      return { request, target: { host: named.host, port }, path: url };
    if (this.#options.form === 'origin') throw new HttpRefusal(400, 'the request has no Host that could be asked');
    throw new HttpRefusal(400, 'this is a proxy: it wants http://HOST/PATH, or CONNECT HOST:PORT');
  }

  #authorize({ headers }: IncomingMessage): void {
    const { authorized } = this.#options;
    if (authorized && !authorized(headers['proxy-authorization']))
      throw new HttpRefusal(407, 'this proxy wants its credentials');
  }
}

interface RoutedRequest extends http.RequestOptions {
  readonly route?: HttpRoute;
}

/** Gives out connections by their route. */
class RouteAgent extends http.Agent {
  constructor() {
    super({ keepAlive: true, timeout: IDLE_MS, maxFreeSockets: IDLE_SERVERS });
  }

  override getName(options?: RoutedRequest): string {
    return options?.route?.key ?? '';
  }

  override keepSocketAlive(server: Duplex): boolean {
    const idle = Object.values(this.freeSockets).reduce((sum, sockets) => sum + (sockets?.length ?? 0), 0);
    return idle < IDLE_IN_ALL && (super.keepSocketAlive(server) as unknown as boolean);
  }

  override createConnection(
    { route }: RoutedRequest,
    done: (error: Error | null, stream: Duplex) => void = () => undefined,
  ): null {
    const failed = (error: Error): void => done(error, undefined as unknown as Duplex);
    route!.connect().then((stream) => (stream.destroyed ? failed(gone()) : done(null, stream)), failed);
    return null;
  }
}

/** WebSocket's name as it was written: some proxies mind its letters' case. RFC 9110 7.8. */
const upgradeOf = ({ headers }: IncomingMessage): string[] => [
  'Connection',
  'Upgrade',
  'Upgrade',
  headers.upgrade ?? '',
];

/** A message's head of its first line and its fields, name and value in turn. */
function headText(first: string, fields: readonly string[]): string {
  let text = `${first}\r\n`;
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  return `${text}\r\n`;
}

/** Ends the connection of a request of which nothing more comes; `request` is being read. */
function endStalled(request: IncomingMessage): void {
  if (!hasBody(request)) return;
  let came = true;
  let timer: NodeJS.Timeout;
  const look = (): void => {
    // Where nobody takes more of it the client is not to blame.
    if (!came && !request.isPaused()) return void request.socket.destroy();
    came = false;
    timer = setTimeout(look, BODY_MS);
  };
  look();
  request.on('data', () => (came = true));
  for (const over of ['end', 'close'] as const) request.once(over, () => clearTimeout(timer));
}

/** RFC 9112 4: a reason that is anything else may be left out, as nobody goes by it. */
const isReason = /^[\t\x20-\x7e\x80-\xff]+$/;

const gone = (): Error => Object.assign(new Error('the connection has gone'), { code: 'ECONNRESET' });

/** RFC 9112 6.3. */
const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

const late = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);

function refusalOf(error: unknown): HttpRefusal {
  if (error instanceof HttpRefusal) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (late.has(code ?? '')) return new HttpRefusal(504, `no answer: ${code}`);
  return new HttpRefusal(502, `cannot be reached: ${code ?? message}`);
}

function fieldsOf({ status, message }: HttpRefusal): Record<string, string> {
  return {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(`${message}\n`)),
    ...(status === 407 && { 'Proxy-Authenticate': 'Basic realm="slipway"' }),
  };
}

function answer(response: ServerResponse, refusal: HttpRefusal): void {
  if (refusal.status === 407) response.shouldKeepAlive = false;
  response.writeHead(refusal.status, fieldsOf(refusal));
  response.end(`${refusal.message}\n`);
}

function refuse(client: Duplex, refusal: HttpRefusal): void {
  const fields = Object.entries({ ...fieldsOf(refusal), Connection: 'close' });
  const head = fields.map(([field, value]) => `${field}: ${value}\r\n`).join('');
  const phrase = http.STATUS_CODES[refusal.status] ?? '';
  client.end(`HTTP/1.1 ${refusal.status} ${phrase}\r\n${head}\r\n${refusal.message}\n`);
  // Whatever it still says is not heard, nor waited for.
  client.resume();
  const timer = setTimeout(() => client.destroy(), LINGER_MS);
  client.once('close', () => clearTimeout(timer));
}
