/** What the gateway's services (DHCP, DNS) stand on, faked: a clock, a netstack's datagrams and streams, host sockets. */

import { SingleFragment } from '../../src/proxy/fragment-list.ts';
import type {
  HostDatagramHandler,
  HostDatagramSocket,
  HostNetPort,
  HostResolverPort,
  HostStream,
  ResolverConfig,
  StreamHandler,
} from '../../src/proxy/port.ts';
import { END, WOULD_BLOCK } from '../../src/proxy/port.ts';
import type {
  Address,
  Clock,
  FragmentList,
  NetstackPort,
  Random,
  TcpConnection,
  TcpHandler,
  UdpDatagram,
} from '../../src/stack/port.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';

export function address(text: string): Address {
  const found = parseAddress(text);
  if (!found) throw new Error(`not an address: ${text}`);
  return found;
}

export class FakeClock implements Clock {
  now = 1000;
  nowMs(): number {
    return this.now;
  }
}

/** The same octets in every run (Marsaglia's xorshift32). */
export const seededRandom = (): Random => {
  let state = 2463534242;
  return {
    fill(into) {
      for (let i = 0; i < into.length; i++) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        into[i] = state >>> 8;
      }
    },
  };
};

/** Octets cut into fragments of at most `size`, as a link may deliver them. */
export function fragmentsOf(bytes: Uint8Array, size = 7): FragmentList {
  const items = [];
  for (let at = 0; at < bytes.length; at += size)
    items.push(...new SingleFragment(bytes).narrow(at, Math.min(size, bytes.length - at)).items);
  return { items, count: items.length, octets: bytes.length };
}

export function octetsOf(list: FragmentList): Uint8Array {
  return new Uint8Array(
    Buffer.concat(
      list.items.slice(0, list.count).map(({ arena, offset, length }) => arena.bytes.slice(offset, offset + length)),
    ),
  );
}

export interface SentDatagram {
  guest: string;
  guestPort: number;
  peer: string;
  peerPort: number;
  payload: Uint8Array;
  mac: string | undefined;
  ingress: number | undefined;
}

type Netstack = Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'listenTcp' | 'unlistenTcp' | 'sendUdp'>;

export class FakeNetstack implements Netstack {
  readonly udp = new Map<string, (datagram: UdpDatagram) => void>();
  readonly tcp = new Map<string, (connection: TcpConnection) => void>();
  sent: SentDatagram[] = [];

  listenUdp(at: Address, port: number, receive: (datagram: UdpDatagram) => void): void {
    this.udp.set(`${formatAddress(at)} ${port}`, receive);
  }
  unlistenUdp(at: Address, port: number): void {
    this.udp.delete(`${formatAddress(at)} ${port}`);
  }
  listenTcp(at: Address, port: number, accept: (connection: TcpConnection) => void): void {
    this.tcp.set(`${formatAddress(at)} ${port}`, accept);
  }
  unlistenTcp(at: Address, port: number): void {
    this.tcp.delete(`${formatAddress(at)} ${port}`);
  }
  sendUdp(
    to: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    payload: Uint8Array,
    options: { macAddress?: Uint8Array; ingress?: number } = {},
  ): boolean {
    this.sent.push({
      guest: formatAddress(to.guestAddress),
      guestPort: to.guestPort,
      peer: formatAddress(to.peerAddress),
      peerPort: to.peerPort,
      payload: payload.slice(),
      mac: options.macAddress && Buffer.from(options.macAddress).toString('hex'),
      ingress: options.ingress,
    });
    return true;
  }

  /** A datagram of the guest arrives; what was sent in answer within the call. */
  deliver(
    payload: Uint8Array,
    to: { guest?: string; guestPort?: number; peer: string; peerPort: number; ingress?: number; mac?: number },
  ): SentDatagram[] {
    this.sent = [];
    this.udp.get(`${to.peer} ${to.peerPort}`)?.({
      guestAddress: address(to.guest ?? '192.168.65.3'),
      guestPort: to.guestPort ?? 40_000,
      peerAddress: address(to.peer),
      peerPort: to.peerPort,
      ingress: to.ingress ?? 0,
      sourceMac: to.mac,
      payload: fragmentsOf(payload),
      dontFragment: false,
      hopLimit: 64,
    });
    return this.sent;
  }

  open(peer: string, peerPort: number, ingress = 0): FakeConnection {
    const connection = new FakeConnection(peer, peerPort, ingress);
    this.tcp.get(`${peer} ${peerPort}`)?.(connection);
    return connection;
  }
}

/** The far end is the guest: `push` is what it sends, `output` what it got. `sendRoom` bounds what it takes. */
export class FakeConnection implements TcpConnection {
  readonly guestAddress = address('192.168.65.3');
  readonly guestPort = 41_000;
  readonly peerAddress: Address;
  readonly peerPort: number;
  readonly ingress: number;
  readonly state = 'ESTABLISHED';
  owner: unknown;
  readonly sendQueueOctets = 0;
  readonly sendArena;
  readonly sendOffset = 0;
  sendLength = 0;
  handler: TcpHandler | undefined;
  rejected: string | undefined;
  ended = false;
  aborted = false;
  grew = 0;
  sendRoom = Number.POSITIVE_INFINITY;
  output: number[] = [];

  constructor(peer: string, peerPort: number, ingress: number) {
    this.peerAddress = address(peer);
    this.peerPort = peerPort;
    this.ingress = ingress;
    const bytes = new Uint8Array(100);
    this.sendArena = { bytes, view: new DataView(bytes.buffer) };
  }

  accept(handler: TcpHandler): void {
    this.handler = handler;
    handler.established(this);
  }
  reject(how: string): void {
    this.rejected = how;
  }
  reserveSend(): boolean {
    this.sendLength = Math.min(this.sendRoom, this.sendArena.bytes.length);
    return this.sendLength > 0;
  }
  reserveSendList(): FragmentList | undefined {
    if (!this.reserveSend()) return undefined;
    const { sendArena: arena, sendOffset: offset, sendLength: length } = this;
    return { items: [{ arena, offset, length }], count: 1, octets: length };
  }
  commitSend(octets: number): void {
    this.output.push(...this.sendArena.bytes.subarray(0, octets));
    this.sendRoom -= octets;
  }
  end(): void {
    this.ended = true;
  }
  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    this.handler?.closed(this, 'aborted');
  }
  roomGrew(): void {
    this.grew++;
  }

  /** Pushes as much as the handler has room for; how much that was. */
  push(bytes: Uint8Array, size = 1000): number {
    let at = 0;
    while (at < bytes.length && !this.aborted) {
      const room = this.handler!.room(this);
      if (room <= 0) break;
      const part = bytes.subarray(at, at + Math.min(room, size));
      const taken = this.handler!.received(this, fragmentsOf(part, 300));
      if (taken < part.length && !this.aborted) throw new Error(`took ${taken} of ${part.length} it had room for`);
      at += taken;
    }
    return at;
  }

  /** The length-prefixed messages that went out so far, whole ones. */
  messages(): Uint8Array[] {
    const found: Uint8Array[] = [];
    let at = 0;
    while (at + 2 <= this.output.length) {
      const length = (this.output[at]! << 8) | this.output[at + 1]!;
      if (at + 2 + length > this.output.length) break;
      found.push(Uint8Array.from(this.output.slice(at + 2, at + 2 + length)));
      at += 2 + length;
    }
    return found;
  }
}

export class FakeSocket implements HostDatagramSocket {
  owner: unknown;
  readonly port = 1;
  readonly family: 4 | 6;
  readonly handler: HostDatagramHandler;
  readonly #hostNet: FakeHostNet;
  readonly sent: { payload: Uint8Array; server: string }[] = [];
  closed = false;
  accepts = true;

  constructor(family: 4 | 6, handler: HostDatagramHandler, hostNet: FakeHostNet) {
    this.family = family;
    this.handler = handler;
    this.#hostNet = hostNet;
  }
  send(payload: FragmentList, to: Address, port: number): boolean {
    if (!this.accepts) return false;
    this.sent.push({ payload: octetsOf(payload), server: `${formatAddress(to)}#${port}` });
    this.#hostNet.lastSender = this;
    return true;
  }
  close(): void {
    this.closed = true;
  }
  answer(payload: Uint8Array, from: string, port = 53): void {
    this.handler.received(this, payload, address(from), port);
  }
}

export class FakeStream implements HostStream {
  owner: unknown;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress = '127.0.0.1';
  readonly localPort = 1;
  readonly handler: StreamHandler;
  writeRoom = 65_536;
  written: number[] = [];
  incoming: number[] = [];
  over = false;
  aborted = false;

  constructor(to: Address, port: number, handler: StreamHandler) {
    this.remoteAddress = formatAddress(to);
    this.remotePort = port;
    this.handler = handler;
  }
  read(into: Uint8Array, offset: number, length: number): number {
    if (this.incoming.length === 0) return this.over ? END : WOULD_BLOCK;
    const part = this.incoming.splice(0, length);
    into.set(part, offset);
    return part.length;
  }
  writev(fragments: FragmentList): number {
    const taken = octetsOf(fragments).subarray(0, this.writeRoom);
    this.written.push(...taken);
    return taken.length;
  }
  end(): void {}
  abort(): void {
    this.aborted = true;
    this.handler.closed(this);
  }
}

export class FakeHostNet implements Pick<HostNetPort, 'bindDatagram' | 'connect'> {
  readonly sockets: FakeSocket[] = [];
  readonly streams: FakeStream[] = [];
  lastSender: FakeSocket | undefined;
  /** Set: there are no more sockets. */
  exhausted = false;

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    if (this.exhausted) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    const socket = new FakeSocket(family, handler, this);
    this.sockets.push(socket);
    return socket;
  }
  connect(to: Address, port: number, handler: StreamHandler): HostStream {
    if (this.exhausted) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    const stream = new FakeStream(to, port, handler);
    this.streams.push(stream);
    return stream;
  }
  get open(): number {
    return this.sockets.filter((socket) => !socket.closed).length;
  }
}

export class FakeResolvers implements HostResolverPort {
  config: ResolverConfig;

  constructor(...servers: string[]) {
    this.config = { servers: servers.map((text) => ({ address: address(text), port: 53 })), search: [] };
  }
  current(): ResolverConfig {
    return this.config;
  }
}
