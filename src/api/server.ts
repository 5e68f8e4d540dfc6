/**
 * The HTTP API on its unix socket (0600): finds the route, reads a bounded JSON body, and answers JSON; a mistake of the
 * caller's is a 4xx whose `error` names the cause. Readers of events are bounded in number.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { removeStale } from '../proxy/adapter/stale-socket.ts';
import { type CaptureRequest, streamCapture } from './capture-stream.ts';
import { type NetworkPort, type PlatformPort, StateError } from './port.ts';
import { RequestError, type Route } from './route.ts';

const BODY_OCTETS = 64 * 1024;
const EVENT_READERS = 64;
const CAPTURES = 8;
/** How often connections are looked at that have become idle while the server closes. */
const IDLE_MS = 10;

export class ApiServer<P extends NetworkPort = PlatformPort> {
  readonly #platform: P;
  readonly #routes: readonly Route<P>[];
  readonly #server: Server;
  #eventReaders = 0;
  #captures = 0;

  private constructor(platform: P, routes: readonly Route<P>[]) {
    this.#platform = platform;
    this.#routes = routes;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.maxConnections = 256;
  }

  /** Listens on `path`, in place of a socket left there; rejects with an Error that names what is wrong with it. */
  static async listen<P extends NetworkPort>(
    platform: P,
    path: string,
    routes: readonly Route<P>[],
  ): Promise<ApiServer<P>> {
    const api = new ApiServer(platform, routes);
    await removeStale(path);
    await new Promise<void>((resolve, reject) => {
      api.#server.once('error', (error) => reject(new Error(`cannot listen on ${path}: ${error.message}`)));
      // It binds before it returns, so that the umask covers the socket's making and nothing else.
      const umask = process.umask(0o177);
      api.#server.listen(path, resolve);
      process.umask(umask);
    });
    return api;
  }

  /** Lets answers under way finish; `graceMs` later what is left is cut. */
  async close(graceMs = 1000): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const idle = setInterval(() => this.#server.closeIdleConnections(), IDLE_MS);
    const cut = setTimeout(() => this.#server.closeAllConnections(), graceMs);
    await closed;
    clearInterval(idle);
    clearTimeout(cut);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const [route, name] = this.#find(request);
      const body = await readBody(request);
      const answer = await route.answer({ platform: this.#platform, name, query: queryOf(request), body });
      if ('events' in answer) this.#stream(answer.events, response);
      else if ('capture' in answer) this.#capture(answer.capture, response);
      else if ('text' in answer) send(response, 200, answer.contentType, answer.text);
      else sendJson(response, answer.status ?? 200, answer.json);
    } catch (error) {
      if (response.headersSent) return void response.destroy();
      const allow = error instanceof MethodError ? { allow: error.allow.join(', ') } : {};
      sendJson(response, statusOf(error), { error: error instanceof Error ? error.message : String(error) }, allow);
    }
  }

  #find(request: IncomingMessage): [route: Route<P>, name: string] {
    const [path] = (request.url ?? '/').split('?', 1) as [string];
    const matches = this.#routes.filter((route) => matchName(route.path, path) !== undefined);
    const route = matches.find(({ method }) => method === request.method);
    if (route) return [route, matchName(route.path, path)!];
    if (matches.length === 0) throw new RequestError(404, `there is no ${path}; /openapi.json describes what there is`);
    throw new MethodError(
      request.method ?? '',
      matches.map(({ method }) => method),
    );
  }

  #stream(events: (response: ServerResponse) => void, response: ServerResponse): void {
    if (this.#eventReaders === EVENT_READERS)
      throw new RequestError(429, `there are ${EVENT_READERS} readers of events already`);
    this.#eventReaders++;
    response.once('close', () => this.#eventReaders--);
    events(response);
  }

  #capture(request: CaptureRequest, response: ServerResponse): void {
    if (this.#captures === CAPTURES) throw new RequestError(429, `there are ${CAPTURES} captures already`);
    streamCapture(this.#platform, request, response);
    this.#captures++;
    response.once('close', () => this.#captures--);
  }
}

class MethodError extends RequestError {
  readonly allow: readonly string[];

  constructor(method: string, allow: readonly string[]) {
    super(405, `${method} is not one of ${allow.join(', ')}`);
    this.allow = allow;
  }
}

function statusOf(error: unknown): number {
  if (error instanceof RequestError) return error.status;
  return error instanceof StateError ? 409 : 500;
}

function queryOf(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? '/';
  return new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '');
}

/** What stands for `{name}` ('' when the route has none); undefined when the path is another. */
function matchName(pattern: string, path: string): string | undefined {
  if (!pattern.endsWith('/{name}')) return pattern === path ? '' : undefined;
  const stem = pattern.slice(0, -'{name}'.length);
  const name = path.startsWith(stem) ? path.slice(stem.length) : '';
  if (name === '' || name.includes('/')) return undefined;
  try {
    return decodeURIComponent(name);
  } catch {
    throw new RequestError(400, `${path} is not a valid path`);
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  let octets = 0;
  const parts: Buffer[] = [];
  for await (const part of request as AsyncIterable<Buffer>) {
    octets += part.length;
    if (octets > BODY_OCTETS) throw new RequestError(413, `the body is larger than ${BODY_OCTETS} octets`);
    parts.push(part);
  }
  if (octets === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch (error) {
    throw new RequestError(400, `the body is not JSON: ${(error as Error).message}`);
  }
}

function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  send(response, status, 'application/json', `${JSON.stringify(value)}\n`, headers);
}

function send(
  response: ServerResponse,
  status: number,
  contentType: string,
  text: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { ...headers, 'content-type': contentType, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
