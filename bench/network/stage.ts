/**
 * The whole network core and a guest of a few lines, in one process and on real sockets. What the guest reaches is itself:
 * through the host alias and the host's loopback it comes back by published ports, so that each conversation is two
 * connections, one dialled from the guest and one dialled to it. Names are asked of a name server that it is as well.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxStreamPeer } from '../../src/hypervisor/link/linux-stream-peer.ts';
import { QemuStreamLink } from '../../src/hypervisor/link/qemu-stream.ts';
import type { StreamPeer } from '../../src/hypervisor/link/stream-peer.ts';
import { Network } from '../../src/network.ts';
import { parseNameServers } from '../../src/proxy/dns/name-servers.ts';
import { formatAddress, ipv4Word } from '../../src/stack/wire/address.ts';
import { queryFor } from './name-answer.ts';
import { ScriptedGuest } from './scripted-guest.ts';

const GATEWAY_MAC = 0xf6_16_36_bc_f9_c6;
const SERVICE = 7;
const NAMES = 53;
/** At once. */
const CONNECTIONS = 24;
const QUERIES = 16;
const DATAGRAMS = 4;
/** One in so many ends in order: its socket leaves a TIME-WAIT behind on the host. */
const ORDERLY = 64;
const OUT = 256 * 1024;
const LANDING = 256 * 1024;
/** Room for a frame that a read has cut off. */
const HEAD = 66_000;
/** Without progress. */
const PATIENCE_MS = 5000;

export class Stage {
  readonly #network: Network;
  readonly #mtu: number;
  readonly #hostAlias: number;
  readonly #gateway: number;
  #guest!: ScriptedGuest;
  #peer: StreamPeer | undefined;
  #streamPort = 0;
  #datagramPort = 0;
  #heard: () => void = () => undefined;
  #names = 0;

  constructor(mtu: number) {
    const network = new Network({ subnet: '192.168.65.0/24', subnet6: 'off', mtu });
    this.#network = network;
    this.#mtu = mtu;
    this.#hostAlias = ipv4Word(network.addresses.hostAlias);
    this.#gateway = ipv4Word(network.addresses.gateway);
  }

  /** The guest plugs in, and its ports are published. */
  async open(): Promise<void> {
    const network = this.#network;
    const { firstGuest } = network.addresses;
    const socket = await this.#plug();
    const out = network.memory.arena(OUT);
    const landing = network.memory.arena(HEAD + LANDING);
    let carried = 0;
    const peer = linuxStreamPeer(socket, landing.bytes.subarray(HEAD), {
      received: (octets) => {
        const end = HEAD + octets;
        const rest = this.#guest.hear(landing, HEAD - carried, end);
        carried = end - rest;
        landing.bytes.copyWithin(HEAD - carried, rest, end);
        this.#heard();
      },
      lost: () => undefined,
    });
    this.#peer = peer;
    this.#guest = new ScriptedGuest({
      out,
      // The kernel's buffer takes more than is ever on its way.
      send: (octets) => peer.send(out, 0, octets, () => undefined),
      mtu: this.#mtu,
      gatewayMac: GATEWAY_MAC,
      address: ipv4Word(firstGuest),
      servicePort: SERVICE,
    });
    const published = {
      hostAddress: '127.0.0.1',
      hostPort: 0,
      guestAddress: formatAddress(firstGuest),
      guestPort: SERVICE,
    };
    this.#streamPort = (await network.expose({ ...published, protocol: 'tcp' })).port;
    this.#datagramPort = (await network.expose({ ...published, protocol: 'udp' })).port;
    network.useDns({ servers: parseNameServers(`127.0.0.1#${this.#datagramPort}`), hostsFile: '' });
  }

  close(): void {
    this.#peer?.close();
    this.#network.close();
  }

  /** Connections that carry an octet each way. */
  async connections(count: number): Promise<void> {
    for (let made = 0; made < count; ) {
      for (; made < count && this.#guest.open < CONNECTIONS; made++)
        this.#guest.connect(this.#hostAlias, this.#streamPort, made % ORDERLY === 0 ? 'FIN' : 'RST');
      const { ended } = this.#guest;
      await this.#until(() => this.#guest.ended > ended);
    }
    await this.#until(() => this.#guest.ended === count);
    this.#guest.ended = 0;
  }

  /** Queries for names that were never asked for. */
  names(count: number): Promise<void> {
    return this.#exchanges(count, QUERIES, (i) =>
      this.#guest.datagram(this.#gateway, 5000 + (i % QUERIES), NAMES, queryFor(i & 0xffff, `name${this.#names++}`)),
    );
  }

  /** Datagrams that come back. */
  datagrams(count: number): Promise<void> {
    const payload = new Uint8Array(64).fill(0xff);
    return this.#exchanges(count, DATAGRAMS, () =>
      this.#guest.datagram(this.#hostAlias, 6000, this.#datagramPort, payload),
    );
  }

  async #exchanges(count: number, atOnce: number, ask: (i: number) => void): Promise<void> {
    const guest = this.#guest;
    guest.answers = 0;
    for (let asked = 0; asked < count; ) {
      for (let i = 0; i < atOnce; i++) ask(asked++);
      await this.#until(() => guest.answers >= asked);
    }
  }

  /** Sends what was written, and waits. */
  async #until(done: () => boolean): Promise<void> {
    this.#guest.flush();
    if (done()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const drops = (): string => JSON.stringify(Object.entries(this.#network.drops()).filter(([, count]) => count > 0));
    const impatience = setTimeout(() => reject(new Error(`the network stands still; ${drops()}`)), PATIENCE_MS);
    this.#heard = () => {
      if (done()) resolve();
      else impatience.refresh();
    };
    await promise.finally(() => clearTimeout(impatience));
    this.#heard = () => undefined;
  }

  /** The other end of a new link. */
  async #plug(): Promise<net.Socket> {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-'));
    try {
      const path = join(folder, 'guest.sock');
      const link = await QemuStreamLink.listen(path, { mtu: this.#mtu, memory: this.#network.memory });
      this.#network.attach(link);
      const socket = net.connect({ path }).pause();
      await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
      return socket;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}
