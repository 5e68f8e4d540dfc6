/**
 * Streams for the HTTP proxy: to a server itself, to an upstream proxy, and through that to a server by CONNECT (RFC 9110
 * 9.3.6). The upstream proxy is the owner's choice: it may well listen on the host's loopback. Credentials go into
 * requests and nowhere else.
 */

import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { authorityText, basic, HttpRefusal, type HttpTarget } from './message.ts';
import type { ProxyUrl } from './proxy-url.ts';

const DIAL_MS = 60_000;
/** How long nothing is heard of a server before the kernel asks whether it is still there. RFC 9293 3.8.4. */
const KEEP_ALIVE_MS = 60_000;
/** What an upstream proxy may say before the octets of a tunnel begin. */
const HEAD_OCTETS = 16 * 1024;

/** Resolves when it is connected; rejects with what a dial says, in Node's codes, or once `client` has gone. */
export function dial(
  { host, port, tls: secure }: { host: string; port: number; tls?: boolean },
  client?: Duplex,
): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  const alive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  const to = { host, port, noDelay: true, allowHalfOpen: true, ...alive };
  const stream: net.Socket = secure
    ? tls.connect({ ...to, ...(net.isIP(host) === 0 && { servername: host }) })
    : net.connect(to);
  const timer = setTimeout(() => {
    stream.destroy(Object.assign(new Error(`no answer from ${authorityText({ host, port })}`), { code: 'ETIMEDOUT' }));
  }, DIAL_MS);
  const withdrawn = (): void => {
    stream.destroy(Object.assign(new Error('the client has gone'), { code: 'ECONNABORTED' }));
  };
  const settled = (): void => {
    clearTimeout(timer);
    client?.off('close', withdrawn);
  };
  stream.once('close', settled);
  stream.once('error', reject);
  if (client?.destroyed) withdrawn();
  else client?.once('close', withdrawn);
  stream.once(secure ? 'secureConnect' : 'connect', () => {
    settled();
    stream.off('error', reject);
    // Until whoever asked looks after it.
    stream.on('error', () => undefined);
    resolve(stream);
  });
  return promise;
}

/** A stream to `target` through the proxy. */
export async function dialThrough(
  proxy: ProxyUrl,
  target: HttpTarget,
  credential: string | undefined,
  client: Duplex,
): Promise<Duplex> {
  const stream = await dialProxy(proxy, client);
  const authority = authorityText(target);
  const field = credential === undefined ? '' : `Proxy-Authorization: ${basic(credential)}\r\n`;
  stream.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${field}\r\n`);
  const withdrawn = (): void => void stream.destroy();
  client.once('close', withdrawn);
  try {
    const status = await responseStatus(stream);
    if (status >= 200 && status < 300) return stream;
    throw status === 407 ? proxyRefusal(status) : new TunnelRefusal(status);
  } catch (error) {
    stream.destroy();
    throw error;
  } finally {
    client.off('close', withdrawn);
  }
}

/** Connected to the proxy; that it cannot be reached is said as such. */
export async function dialProxy(proxy: ProxyUrl, client?: Duplex): Promise<Duplex> {
  try {
    return await dial(proxy, client);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new HttpRefusal(502, `the upstream proxy cannot be reached: ${code ?? message}`);
  }
}

/** What a client is told when the upstream proxy refuses. */
export function proxyRefusal(status: number): HttpRefusal {
  if (status === 407)
    return new HttpRefusal(502, 'the upstream proxy wants other credentials than it was given (network.httpProxy)');
  return new HttpRefusal(...refusalBy(status));
}

/** The upstream proxy makes no tunnel, for all that it knows who asks. */
export class TunnelRefusal extends HttpRefusal {
  constructor(status: number) {
    super(...refusalBy(status));
  }
}

const refusalBy = (status: number): [number, string] => [
  status >= 400 ? status : 502,
  `the upstream proxy refused: ${status}`,
];

/** Reads the head of a response, and leaves what follows it unread. */
function responseStatus(stream: Duplex): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let head = '';
  const timer = setTimeout(() => reject(new HttpRefusal(504, 'the upstream proxy does not answer')), DIAL_MS);
  const readable = (): void => {
    for (let bytes = stream.read() as Buffer | null; bytes; bytes = stream.read() as Buffer | null) {
      const before = head.length;
      head += bytes.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0 && head.length <= HEAD_OCTETS) continue;
      const status = /^HTTP\/1\.[01] (\d{3})(?: |\r)/.exec(head)?.[1];
      if (end < 0 || status === undefined)
        return void reject(new HttpRefusal(502, 'the upstream proxy answers with something else than HTTP'));
      const rest = bytes.subarray(end + 4 - before);
      // RFC 9110 15.2: others follow.
      if (status.startsWith('1')) {
        head = '';
        if (rest.length > 0) stream.unshift(rest);
        continue;
      }
      done();
      if (rest.length > 0) stream.unshift(rest);
      return void resolve(Number(status));
    }
  };
  const gone = (): void => reject(new HttpRefusal(502, 'the upstream proxy hung up'));
  const done = (): void => {
    clearTimeout(timer);
    stream.off('readable', readable).off('end', gone).off('close', gone);
  };
  stream.on('readable', readable).on('end', gone).on('close', gone);
  readable();
  return promise.finally(done);
}
