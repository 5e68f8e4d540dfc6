/**
 * A hostile guest, by a seed: random octets, frames of the corpus with octets changed, fragments, and segments aimed at
 * connections that are alive, in IPv4 and in every other round in IPv6 too (there with extension headers and neighbour
 * discovery), into a netstack whose proxies are fakes that behave at random too. A round is one netstack
 * and some thousand frames; at its end everything is closed, hours pass, and nothing may be left.
 */

import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import {
  arpFrame,
  ethernetFrame,
  icmpFrame,
  ipFrame,
  pattern,
  readIp,
  transportChecksum,
  udpBytes,
} from '../stack/frames.ts';
import {
  advertisement,
  checksum6,
  icmp6Frame,
  ipv6Frame,
  linkLayer,
  readIpv6,
  solicitation,
  udp6Frame,
} from '../stack/ipv6-frames.ts';
import { address, seededRandom, World } from '../stack/world.ts';

const PEERS = ['10.0.0.1', '8.8.8.8', '192.168.65.1', '192.168.65.2'] as const;
const GUESTS = ['192.168.65.3', '192.168.65.4', '172.17.0.2'] as const;
const IPV6_PEERS = ['2001:db8::1', '2001:db8::2', 'fd00:1:2:3::1', 'fd00:1:2:3::2'] as const;
const IPV6_GUESTS = ['fd00:1:2:3::3', 'fd00:1:2:3::4', 'fd00:9::2'] as const;
const EXTENSIONS = [0, 43, 44, 60] as const;
const PORTS = 24;
const POOL_OCTETS = 4 << 20;
const FLOWS = 200;

/** What the guest knows of a connection: the next number of either side. */
interface Tracked {
  ours: number;
  theirs: number;
}

export interface RoundResult {
  readonly frames: number;
  readonly sent: number;
  readonly connections: number;
  readonly established: number;
  readonly datagrams: number;
}

export class HostileRound {
  readonly #random: () => number;
  readonly #world: World;
  readonly #hasIpv6: boolean;
  readonly #corpus: readonly Uint8Array[];
  readonly #tracked = new Map<string, Tracked>();
  readonly #held: TcpConnection[] = [];
  readonly #connections: TcpConnection[] = [];
  /** The frames of late, for a report. */
  readonly recent: Uint8Array[] = [];
  #frames = 0;
  #sent = 0;
  #established = 0;
  #datagrams = 0;

  constructor(seed: number, corpus: readonly Uint8Array[] = []) {
    // Neighbouring seeds would begin alike.
    this.#random = seededRandom(Math.imul(seed + 1, 0x9e37_79b1));
    this.#corpus = corpus;
    this.#hasIpv6 = seed % 2 === 0;
    this.#world = new World({
      seed: seed + 1,
      ...(this.#hasIpv6 && { ipv6: {} }),
      mtu: this.#pick([576, 1500, 9000, 65520]),
      limits: { flows: FLOWS, held: 50, timeWait: 50, poolOctets: POOL_OCTETS },
      ...(this.#chance(0.3) && { offload: { checksum: true, segmentOctets: 65535 } }),
      forwarder: {
        tcp: (connection) => this.#dial(connection),
        tcpGone: (connection) => {
          const at = this.#held.indexOf(connection);
          if (at >= 0) this.#held.splice(at, 1);
        },
        udp: (datagram) => {
          this.#datagrams++;
          if (this.#chance(0.2))
            this.#world.netstack.sendUnreachable(
              this.#pick(['port', 'host', 'too-big']),
              datagram,
              this.#below(70_000),
            );
        },
        echo: (request) => {
          if (this.#chance(0.5)) this.#world.netstack.sendEchoReply(request, pattern(request.payload.octets));
        },
      },
    });
    for (const gateway of [PEERS[2], ...(this.#hasIpv6 ? [IPV6_PEERS[2]] : [])]) this.#listen(address(gateway));
  }

  #listen(gateway: Uint8Array): void {
    const { netstack } = this.#world;
    netstack.listenTcp(gateway, 53, (connection) => this.#dial(connection));
    netstack.listenUdp(gateway, 53, ({ guestAddress, guestPort, peerAddress, peerPort, payload }) => {
      this.#datagrams++;
      netstack.sendUdp({ guestAddress, guestPort, peerAddress, peerPort }, pattern(payload.octets));
    });
  }

  /** Throws where something is wrong. */
  run(frames: number): RoundResult {
    const world = this.#world;
    while (this.#frames < frames) {
      const batch = Array.from({ length: 1 + this.#below(this.#chance(0.1) ? 60 : 6) }, () => this.#frame());
      this.#frames += batch.length;
      this.recent.push(...batch);
      if (this.recent.length > 200) this.recent.splice(0, this.recent.length - 100);
      world.link.input(batch, this.#pick([0, 0, 0, 1, 2]), this.#chance(0.3) ? 14 + this.#below(80) : undefined);
      this.#behave();
      this.#look();
      if (world.netstack.pooledOctets > POOL_OCTETS)
        throw new Error(`${world.netstack.pooledOctets} octets of the pool`);
      if (this.#chance(0.02) && world.netstack.flows().length > FLOWS + 50)
        throw new Error(`${world.netstack.flows().length} flows`);
    }
    this.#settle();
    return {
      frames: this.#frames,
      sent: this.#sent,
      connections: this.#connections.length,
      established: this.#established,
      datagrams: this.#datagrams,
    };
  }

  // Chance.

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }

  #bytes(most: number): Uint8Array {
    return Uint8Array.from({ length: this.#below(most + 1) }, () => this.#below(256));
  }

  // The guest.

  #frame(): Uint8Array {
    if (this.#hasIpv6 && this.#chance(0.5)) return this.#ipv6Frame();
    const kind = this.#random();
    if (kind < 0.55) return this.#segment(4);
    if (kind < 0.65) return this.#fragment();
    if (kind < 0.75 && this.#corpus.length > 0) return this.#changed(this.#pick(this.#corpus));
    const options = { from: this.#pick(GUESTS), to: this.#pick(PEERS), hopLimit: this.#pick([0, 1, 2, 64, 255]) };
    if (kind < 0.82)
      return ipFrame(17, udpBytes(this.#below(PORTS), this.#pick([53, 67, 80, 0]), this.#bytes(300), options), options);
    if (kind < 0.88)
      return icmpFrame(
        this.#pick([8, 3, 11, 0, 5, 13]),
        this.#pick([0, 1, 3, 4]),
        this.#below(2 ** 32),
        this.#quote(4),
        options,
      );
    if (kind < 0.92)
      return this.#changed(
        arpFrame(this.#pick([1, 2]), 0x02_00_00_00_00_03 + this.#below(2), options.from, options.to),
      );
    if (kind < 0.96)
      return ipFrame(this.#below(256), this.#bytes(200), {
        ...options,
        options: new Uint8Array(4 * this.#below(11)).map(() => this.#below(256)),
      });
    return this.#chance(0.5)
      ? this.#bytes(200)
      : ethernetFrame(this.#pick([0x0800, 0x0806, 0x86dd, 0x0101]), this.#bytes(200));
  }

  #ipv6Frame(): Uint8Array {
    const kind = this.#random();
    if (kind < 0.55) return this.#segment(6);
    const from = this.#pick([...IPV6_GUESTS, 'fe80::3', '::', '::1', 'ff02::1']);
    const to = this.#pick([...IPV6_PEERS, 'ff02::1', 'ff02::2', 'ff02::1:2', 'fe80::ff:fe00:1']);
    const options = { from, to, hopLimit: this.#pick([0, 1, 64, 255, 255]) };
    if (kind < 0.65) return this.#ipv6Fragment();
    if (kind < 0.7) {
      const chain = { first: this.#pick(EXTENSIONS), bytes: this.#chain() };
      return ipv6Frame(this.#pick([6, 17, 58, 59, 99]), this.#bytes(100), { ...options, chain });
    }
    if (kind < 0.78) return udp6Frame(this.#below(PORTS), this.#pick([53, 547, 80, 0]), this.#bytes(300), options);
    if (kind < 0.86) {
      const type = this.#pick([1, 2, 3, 4, 128, 129, 133, 134, 137]);
      return icmp6Frame(type, this.#pick([0, 0, 1, 4]), this.#below(70_000), this.#quote(6), options);
    }
    const target = this.#pick([...IPV6_PEERS, ...IPV6_GUESTS]);
    if (kind < 0.92)
      return this.#changed(solicitation(target, { from, option: this.#chance(0.7) ? linkLayer(1) : [] }));
    if (kind < 0.96) return this.#changed(advertisement(target, { from, flags: this.#below(2 ** 32) }));
    return ipv6Frame(this.#below(256), this.#bytes(200), options);
  }

  /** Extension headers, more or less. */
  #chain(): Uint8Array {
    const bytes: number[] = [];
    for (let i = this.#below(12); i > 0; i--) {
      bytes.push(this.#pick([...EXTENSIONS, 17, 6, this.#below(256)]), this.#pick([0, 0, 0, 1, this.#below(256)]));
      bytes.push(...Array.from({ length: 6 }, () => this.#pick([0, 1, 4, this.#below(256)])));
    }
    return Uint8Array.from(bytes);
  }

  #ipv6Fragment(): Uint8Array {
    const field = this.#pick([8, 24, 80, 160, 8 * this.#below(8192)]) * this.#pick([0, 1, 1]) + this.#below(2);
    const octets = this.#pick([8, 16, 24, 80, 160, 1400, this.#below(1400)]);
    const next = this.#pick([6, 17, 17, 58, 60]);
    const header = [next, 0, field >> 8, field & 0xff, 0, 0, 0, this.#below(6)];
    const chain = { first: 44, bytes: Uint8Array.from(header) };
    return ipv6Frame(next, pattern(octets), { from: this.#pick(IPV6_GUESTS), to: this.#pick(IPV6_PEERS), chain });
  }

  #changed(frame: Uint8Array): Uint8Array {
    const copy = frame.slice(0, this.#chance(0.1) ? this.#below(frame.length + 1) : frame.length);
    for (let i = this.#below(4); i > 0 && copy.length > 0; i--) copy[this.#below(copy.length)] = this.#below(256);
    return copy;
  }

  /** What an ICMP error quotes: a packet of ours, or rubbish. */
  #quote(family: 4 | 6): Uint8Array {
    if (this.#chance(0.3)) return this.#bytes(80);
    const some = [...this.#tracked].filter(([key]) => key.startsWith(`${family} `));
    const [key, tracked] = this.#pick([...some, [`${family} 0 0 0`, { ours: 0, theirs: 0 }] as const]);
    const [, guest, peer, port] = key.split(' ').map(Number) as [number, number, number, number];
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, port);
    view.setUint16(2, guest >> 2);
    view.setUint32(4, (tracked.ours - this.#below(2000)) >>> 0);
    if (family === 6) {
      const from = IPV6_PEERS[peer % IPV6_PEERS.length]!;
      return ipv6Frame(6, bytes, { from, to: IPV6_GUESTS[guest & 3] ?? IPV6_GUESTS[0] }).subarray(14);
    }
    return ipFrame(6, bytes, { from: PEERS[peer % PEERS.length]!, to: GUESTS[guest & 3] ?? GUESTS[0] }).subarray(14);
  }

  #segment(family: 4 | 6): Uint8Array {
    const guest = this.#below(GUESTS.length);
    const peer = this.#below(PEERS.length);
    const guestPort = this.#below(PORTS);
    const port = this.#pick([80, 53, 80, 443, 0]);
    const known = this.#tracked.get(`${family} ${(guestPort << 2) | guest} ${peer} ${port}`);
    const octets = this.#pick([0, 0, 0, 1, 100, 536, 1460]);
    const options: number[] = this.#chance(0.2)
      ? this.#pick([
          [2, 4, 5, 180, 1, 3, 3, 7],
          [2, 4, 0, 1],
          [...this.#bytes(40)],
          [3, 3, 255, 0],
          [8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        ])
      : [];
    while (options.length % 4 !== 0) options.push(0);
    const header = 20 + options.length;
    const bytes = new Uint8Array(header + octets);
    const view = new DataView(bytes.buffer);
    const near = (): number =>
      this.#pick([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1, this.#below(3000), -this.#below(3000), this.#below(2 ** 31)]);
    let flags = this.#pick([16, 16, 16, 16, 24, 17, 17, 2, 2, 20, 4, 18, this.#below(256)]);
    if (!known && this.#chance(0.8)) flags = 2;
    view.setUint16(0, guestPort);
    view.setUint16(2, port);
    view.setUint32(4, ((known?.theirs ?? this.#below(2 ** 32)) + near()) >>> 0);
    view.setUint32(8, ((known?.ours ?? 0) + near()) >>> 0);
    bytes[12] = this.#chance(0.02) ? this.#below(256) : (header / 4) << 4;
    bytes[13] = flags;
    view.setUint16(14, this.#pick([0, 1, 1000, 65535, this.#below(65536)]));
    bytes.set(options, 20);
    if (family === 6) {
      const ends = { from: IPV6_GUESTS[guest]!, to: IPV6_PEERS[peer]! };
      view.setUint16(16, checksum6(ends.from, ends.to, 6, bytes));
      return ipv6Frame(6, bytes, ends);
    }
    const from = GUESTS[guest]!;
    const to = PEERS[peer]!;
    view.setUint16(16, transportChecksum(from, to, 6, bytes));
    return ipFrame(6, bytes, { from, to });
  }

  #fragment(): Uint8Array {
    const fragment = this.#pick([0x2000, 0x2000, 0, 0x6000]) | this.#pick([0, 1, 3, 10, 20, this.#below(0x2000)]);
    const octets = this.#pick([8, 16, 24, 80, 160, 1480, this.#below(1480)]);
    return ipFrame(this.#pick([6, 17, 17, 1]), pattern(octets), {
      from: this.#pick(GUESTS),
      to: this.#pick(PEERS),
      fragment,
      identification: this.#below(6),
    });
  }

  // The fakes.

  #dial(connection: TcpConnection): void {
    this.#connections.push(connection);
    if (this.#chance(0.75)) connection.accept(this.#owner());
    else if (this.#chance(0.5)) connection.reject(this.#pick(['reset', 'unreachable', 'prohibited', 'silent']));
    else this.#held.push(connection);
  }

  #owner(): TcpHandler {
    let isClosed = false;
    let most = this.#pick([0, 100, 65535, 1 << 20]);
    const act = (connection: TcpConnection): void => {
      if (isClosed) throw new Error('called after closed');
      if (this.#chance(0.02)) connection.abort();
      else if (this.#chance(0.05)) connection.end();
    };
    return {
      established: (connection) => {
        this.#established++;
        act(connection);
      },
      room: () => most,
      received: (connection, { octets }: FragmentList) => {
        const taken = this.#chance(0.9) ? octets : this.#below(octets + 1);
        if (this.#chance(0.1)) most = this.#pick([0, 100, 65535, 1 << 20]);
        act(connection);
        return taken;
      },
      receivedEnd: act,
      writable: act,
      closed: (_connection, _reason: CloseReason) => {
        if (isClosed) throw new Error('closed twice');
        isClosed = true;
      },
    };
  }

  /** Host sockets, the link and the clock have their turn. */
  #behave(): void {
    const world = this.#world;
    for (let i = this.#below(3); i > 0 && this.#connections.length > 0; i--) {
      const connection = this.#connections[this.#below(this.#connections.length)]!;
      const what = this.#random();
      if (what < 0.6) {
        if (connection.reserveSend()) connection.commitSend(Math.min(connection.sendLength, this.#below(20_000)));
      } else if (what < 0.7) connection.end();
      else if (what < 0.75) connection.abort();
      else connection.roomGrew();
    }
    if (this.#held.length > 0 && this.#chance(0.3)) {
      const connection = this.#held.pop()!;
      if (this.#chance(0.5)) connection.accept(this.#owner());
      else connection.reject(this.#pick(['reset', 'unreachable', 'silent']));
    }
    if (this.#chance(0.05)) {
      const isIpv6 = this.#hasIpv6 && this.#chance(0.5);
      const to = {
        guestAddress: address(this.#pick(isIpv6 ? IPV6_GUESTS : GUESTS)),
        guestPort: this.#below(PORTS),
        peerAddress: address(isIpv6 ? IPV6_PEERS[2] : PEERS[2]),
        peerPort: this.#pick([0, 80]),
      };
      this.#connections.push(world.netstack.connect(to, this.#owner()));
    }
    if (this.#chance(0.03)) world.link.room = this.#below(5);
    else if (world.link.room !== Number.POSITIVE_INFINITY && this.#chance(0.3)) {
      world.link.room = Number.POSITIVE_INFINITY;
      world.link.writable();
    }
    world.advance(this.#pick([0, 0, 0, 1, 30, 200, 1000, this.#chance(0.02) ? 100_000 : 0]));
  }

  /** Reads what was sent: it is sound, and tells the guest where connections are. */
  #look(): void {
    const { link } = this.#world;
    for (const { bytes } of link.take()) {
      this.#sent++;
      const isIpv6 = bytes[12] === 0x86;
      if (!isIpv6 && (bytes[12] !== 8 || bytes[13] !== 0)) continue;
      const { protocol, payload, source, destination } = isIpv6
        ? readIpv6(bytes, link.offload.checksum)
        : readIp(bytes);
      if (protocol !== 6) continue;
      if (!isIpv6 && !link.offload.checksum && transportChecksum(source, destination, 6, payload) !== 0)
        throw new Error('a wrong checksum was sent');
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
      const guest = ([GUESTS, IPV6_GUESTS][+isIpv6] as readonly string[]).indexOf(destination);
      const peer = ([PEERS, IPV6_PEERS][+isIpv6] as readonly string[]).indexOf(source);
      const flags = payload[13]!;
      const key = `${isIpv6 ? 6 : 4} ${(view.getUint16(2) << 2) | guest} ${peer} ${view.getUint16(0)}`;
      if ((flags & 4) !== 0) {
        this.#tracked.delete(key);
        continue;
      }
      const octets = payload.length - (payload[12]! >> 4) * 4 + (flags & 1) + ((flags >> 1) & 1);
      this.#tracked.set(key, { ours: view.getUint32(4) + octets, theirs: view.getUint32(8) });
    }
  }

  #settle(): void {
    const world = this.#world;
    const { netstack, link } = world;
    link.room = Number.POSITIVE_INFINITY;
    link.writable();
    for (const connection of this.#connections) connection.abort();
    world.advance(2 * 3_600_000);
    this.#look();
    const flows = netstack.flows();
    if (flows.length !== 0) throw new Error(`${flows.length} flows are left, such as ${JSON.stringify(flows[0])}`);
    if (netstack.pooledOctets !== 0) throw new Error(`${netstack.pooledOctets} octets of the pool are left`);
    const at = netstack.pollAt();
    // Advertisements of the router never end.
    if (at !== Number.POSITIVE_INFINITY && !this.#hasIpv6) throw new Error(`a timer is left, due at ${at}`);
  }
}
