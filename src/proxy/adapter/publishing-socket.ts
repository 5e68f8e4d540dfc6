/**
 * The publishing protocol (vm/README.md) on its unix socket: a guest's userland proxy opens a stream, asks for one
 * port with one line, and gets one line back; the port lives as long as the stream.
 *
 * Hostile guests: a line is at most 256 octets and must come within 10 s; at most `maxStreams` streams are open, and
 * the rest are closed unanswered; octets after the line end the stream.
 */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { PublishedPorts, PublishRequest } from '../published-ports.ts';

const LINE_OCTETS = 256;
const LINE_WAIT_MS = 10_000;

export interface PublishingSocketOptions {
  readonly path: string;
  readonly ports: PublishedPorts;
  readonly maxStreams?: number;
  /** Told of each answer, for the log. */
  readonly answered?: (request: string, answer: string) => void;
}

export class PublishingSocket {
  readonly #options: PublishingSocketOptions;
  readonly #server: Server;
  readonly #streams = new Set<Socket>();

  private constructor(options: PublishingSocketOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: false }, (stream) => void this.#serve(stream));
    this.#server.maxConnections = options.maxStreams ?? 8192;
  }

  /** Listens; a stale socket at `path` is replaced (the instance's lock says that nobody else uses it). */
  static async listen(options: PublishingSocketOptions): Promise<PublishingSocket> {
    const socket = new PublishingSocket(options);
    rmSync(options.path, { force: true });
    await new Promise<void>((resolve, reject) => {
      socket.#server.once('error', reject);
      socket.#server.listen(options.path, resolve);
    });
    chmodSync(options.path, 0o600);
    return socket;
  }

  /** Ends every stream, and so every port; the guest's proxies ask again for as long as dockerd keeps them. */
  close(): void {
    this.#server.close();
    for (const stream of this.#streams) stream.destroy();
  }

  async #serve(stream: Socket): Promise<void> {
    this.#streams.add(stream);
    stream.on('error', () => undefined);
    stream.once('close', () => this.#streams.delete(stream));
    const line = await readLine(stream);
    if (line === undefined) return void stream.destroy();
    const request = parseRequest(line);
    const outcome = request ? await this.#options.ports.request(request) : { refused: 'malformed request' };
    if ('refused' in outcome) {
      this.#options.answered?.(line, outcome.refused);
      return void stream.end(`ERROR ${outcome.refused.replace(/[\r\n]+/g, ' ')}\n`);
    }
    if (stream.destroyed) return outcome.release();
    stream.once('close', () => outcome.release());
    stream.on('data', () => stream.destroy());
    this.#options.answered?.(line, `port ${outcome.port}`);
    stream.write(`OK ${outcome.port}\n`);
  }
}

/** `EXPOSE tcp|udp HOSTIP HOSTPORT CONTAINERIP CONTAINERPORT`; undefined when it is anything else. */
export function parseRequest(line: string): PublishRequest | undefined {
  const match = /^EXPOSE (tcp|udp) ([0-9a-fA-F.:]{2,45}) (\d{1,5}) ([0-9a-fA-F.:]{2,45}) (\d{1,5})$/.exec(line);
  if (!match) return undefined;
  const [, protocol, hostAddress, hostPort, containerAddress, containerPort] = match;
  const ports = [Number(hostPort), Number(containerPort)] as const;
  if (ports[0] > 65535 || ports[1] > 65535 || ports[1] === 0) return undefined;
  return {
    protocol: protocol as 'tcp' | 'udp',
    hostAddress: hostAddress!,
    hostPort: ports[0],
    containerAddress: containerAddress!,
    containerPort: ports[1],
  };
}

/** The first line, without its end; undefined when none comes in time or it is too long. */
function readLine(stream: Socket): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = '';
    const done = (line?: string): void => {
      clearTimeout(timer);
      stream.off('data', take);
      stream.off('close', gone);
      resolve(line);
    };
    const take = (octets: Buffer): void => {
      text += octets.toString('latin1');
      const end = text.indexOf('\n');
      if (end < 0 ? text.length > LINE_OCTETS : end > LINE_OCTETS || end + 1 < text.length) done();
      else if (end >= 0) done(text.slice(0, end));
    };
    const gone = (): void => done();
    const timer = setTimeout(done, LINE_WAIT_MS);
    stream.on('data', take);
    stream.once('close', gone);
  });
}
