/**
 * Where network cores are compared: a guest made of frames, on QEMU's stream socket, and a host with servers at an
 * address that every one of them can dial. What stands between is whoever plays the part.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { FrameGuest } from '../clients/frame-guest.ts';
import { Ear } from './ear.ts';

/** The host's address, and one on its network that nobody has. */
export const HOST = '10.99.0.2';
export const NOBODY = '10.99.0.77';

export interface Player {
  readonly name: string;
  /** `{socket}` and `{folder}` are filled in. */
  readonly command: readonly string[];
  readonly version: readonly string[];
  readonly address: string;
  readonly gateway: string;
  readonly mac?: number;
}

/** The host's end of a connection, and what has happened to it. */
export class HostSide {
  readonly socket: net.Socket;
  received: Buffer = Buffer.alloc(0);
  ended = false;
  error: string | undefined;
  closed = false;
  #changed: () => void = () => undefined;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#changed();
    });
    socket.on('end', () => {
      this.ended = true;
      this.#changed();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code;
      this.#changed();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#changed();
    });
  }

  /** Whether it comes to that within `ms`. */
  async comesTo(condition: () => boolean, ms = 2000): Promise<boolean> {
    const until = performance.now() + ms;
    while (!condition() && performance.now() < until) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#changed = resolve;
      await Promise.race([promise, sleep(Math.max(1, until - performance.now()))]);
    }
    return condition();
  }
}

export class Stage {
  readonly guest: FrameGuest;
  readonly ear = new Ear();
  readonly port: number;
  readonly udpPort: number;
  readonly #server: net.Server;
  readonly #udp: dgram.Socket;
  readonly #child: ChildProcess;
  readonly #arrived: HostSide[] = [];
  #nextPort = 20_000 + Math.floor(Math.random() * 20_000);
  /** Datagrams that came to the host's server, which sends each back. */
  datagrams: Buffer[] = [];
  /** Whom the last came from. */
  lastUdpPort = 0;
  #second: dgram.Socket | undefined;

  private constructor(child: ChildProcess, guest: FrameGuest, server: net.Server, udp: dgram.Socket) {
    this.#child = child;
    this.guest = guest;
    this.#server = server;
    this.#udp = udp;
    this.port = (server.address() as AddressInfo).port;
    this.udpPort = udp.address().port;
    guest.onFrame = (frame) => this.ear.hear(frame);
    server.on('connection', (socket) => this.#arrived.push(new HostSide(socket)));
    udp.on('message', (message, from) => {
      this.datagrams.push(message);
      this.lastUdpPort = from.port;
      udp.send(message, from.port, from.address);
    });
  }

  static async set(player: Player, folder: string): Promise<Stage> {
    const socket = `${folder}/${player.name}.sock`;
    const fill = (word: string): string => word.replace('{socket}', socket).replace('{folder}', folder);
    const [program, ...argv] = player.command.map(fill);
    const child = spawn(program!, argv, { stdio: 'ignore' });
    for (let tries = 0; !existsSync(socket); tries++) {
      if (tries > 200 || child.exitCode !== null) throw new Error(`${player.name} did not start`);
      await sleep(50);
    }
    await sleep(300);
    const server = net.createServer({ allowHalfOpen: true, noDelay: true });
    const udp = dgram.createSocket('udp4');
    await Promise.all([
      once(server.listen(0, '0.0.0.0'), 'listening'),
      new Promise<void>((resolve) => udp.bind(0, '0.0.0.0', resolve)),
    ]);
    const { address, gateway, mac } = player;
    const guest = await FrameGuest.connect(socket, { address, gateway, ...(mac !== undefined && { mac }) });
    return new Stage(child, guest, server, udp);
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Another UDP socket of the host's, for one case. */
  async secondUdp(): Promise<dgram.Socket> {
    this.#second?.close();
    const socket = (this.#second = dgram.createSocket('udp4'));
    await new Promise<void>((resolve) => socket.bind(0, '0.0.0.0', resolve));
    return socket;
  }

  /** A port of the guest's that no case has used. */
  freshPort(): number {
    return this.#nextPort++;
  }

  /** The host's end of the connection that came last, if one comes within `ms`. */
  async arrival(ms = 2000): Promise<HostSide | undefined> {
    for (const until = performance.now() + ms; performance.now() < until; await sleep(10)) {
      const side = this.#arrived.shift();
      if (side) return side;
    }
    return undefined;
  }

  /** Forgets what the case before has left. */
  clear(): void {
    for (const { socket } of this.#arrived) socket.destroy();
    this.#arrived.length = 0;
    this.datagrams = [];
    this.ear.clear();
  }

  async strike(): Promise<void> {
    this.clear();
    this.guest.close();
    this.#server.close();
    this.#udp.close();
    this.#second?.close();
    if (!this.isAlive) return;
    this.#child.kill();
    const gone = once(this.#child, 'exit');
    const hangs = setTimeout(() => this.#child.kill('SIGKILL'), 3000);
    await gone;
    clearTimeout(hangs);
  }
}
