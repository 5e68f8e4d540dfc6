/** The host's side of the soak: servers that end their connections in every way, as a connection's first octet asks. */

import dgram from 'node:dgram';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';

/** How long a host that says nothing keeps a connection. */
const HOLD_MS = 20_000;

/** What the first octet asks the host for. */
export const wishes = {
  /** What comes, back. */
  echo: 'e',
  /** To close at once. */
  close: 'c',
  reset: 'r',
  /** To read nothing for a while, then go. */
  hold: 'h',
  /** `WRITTEN` octets, then to close. */
  write: 'w',
} as const;

export const WRITTEN = 100_000;

function serve(socket: net.Socket): void {
  socket.on('error', () => undefined);
  const gone = setTimeout(() => socket.destroy(), HOLD_MS);
  socket.once('close', () => clearTimeout(gone));
  socket.once('data', (chunk) => {
    const wish = String.fromCharCode(chunk[0]!);
    if (wish === wishes.close) socket.end();
    else if (wish === wishes.reset) socket.resetAndDestroy();
    else if (wish === wishes.hold) socket.pause();
    else if (wish === wishes.write) socket.end(Buffer.alloc(WRITTEN, 7));
    else {
      socket.write(chunk);
      socket.pipe(socket);
    }
  });
}

export class SoakHost {
  readonly tcpPorts: readonly number[];
  readonly udpPort: number;
  readonly #servers: readonly net.Server[];
  readonly #udp: dgram.Socket;

  private constructor(servers: readonly net.Server[], udp: dgram.Socket) {
    this.#servers = servers;
    this.#udp = udp;
    this.tcpPorts = servers.map((server) => (server.address() as AddressInfo).port);
    this.udpPort = udp.address().port;
  }

  static async start(servers: number): Promise<SoakHost> {
    const listening = Array.from({ length: servers }, () =>
      net.createServer({ allowHalfOpen: true }, serve).listen(0, '127.0.0.1'),
    );
    const udp = dgram.createSocket('udp4');
    udp.on('message', (message, from) => udp.send(message, from.port, from.address));
    udp.bind(0, '127.0.0.1');
    await Promise.all([...listening.map((server) => once(server, 'listening')), once(udp, 'listening')]);
    return new SoakHost(listening, udp);
  }

  close(): void {
    for (const server of this.#servers) server.close();
    this.#udp.close();
  }
}
