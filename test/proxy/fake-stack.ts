/** The stack's side of the proxies in tests: connections and datagrams that tests make up, and what was sent to the guest. */

import { gather } from '../../src/proxy/fragment-list.ts';
import type {
  Address,
  Endpoints,
  FragmentList,
  TcpConnection,
  TcpHandler,
  TcpState,
  UdpDatagram,
  Undelivered,
  UnreachableKind,
} from '../../src/stack/port.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';
import { arenaOf, fragmentsOf } from './host-peer.ts';

export const address = (text: string): Address => parseAddress(text)!;

export const guest = '192.168.65.3';

export class FakeConnection implements TcpConnection {
  readonly guestAddress: Address = address(guest);
  readonly guestPort: number = 40000;
  readonly peerAddress: Address;
  readonly peerPort: number;
  readonly ingress: number;
  state: TcpState = 'SYN-RECEIVED';
  owner: unknown = undefined;
  handler: TcpHandler | undefined;
  refused: string | undefined;
  /** What was sent to the guest, and the place that `reserveSend` gives. */
  sent: Uint8Array[] = [];
  sentOctets = 0;
  ended = false;
  aborted = false;
  grew = 0;
  /** Octets the guest still takes. */
  guestRoom: number;
  readonly sendArena = arenaOf(new Uint8Array(8192));
  sendOffset = 0;
  sendLength = 0;

  constructor(to: string, port = 80, ingress = 1, guestRoom = Number.POSITIVE_INFINITY) {
    this.peerAddress = address(to);
    this.peerPort = port;
    this.ingress = ingress;
    this.guestRoom = guestRoom;
  }

  get sendQueueOctets(): number {
    return this.sentOctets;
  }

  accept(handler: TcpHandler): void {
    this.handler = handler;
    this.state = 'ESTABLISHED';
    handler.established(this);
  }

  reject(how: string): void {
    this.refused = how;
    this.state = 'CLOSED';
  }

  reserveSend(): boolean {
    this.sendLength = Math.min(this.sendArena.bytes.length, this.guestRoom);
    return this.sendLength > 0 && !this.ended;
  }

  reserveSendList(): FragmentList | undefined {
    if (!this.reserveSend()) return undefined;
    const { sendArena: arena, sendOffset: offset, sendLength: length } = this;
    return { items: [{ arena, offset, length }], count: 1, octets: length };
  }

  commitSend(octets: number): void {
    this.sent.push(this.sendArena.bytes.slice(0, octets));
    this.sentOctets += octets;
    this.guestRoom -= octets;
  }

  end(): void {
    this.ended = true;
  }

  abort(): void {
    this.aborted = true;
    this.close('aborted');
  }

  roomGrew(): void {
    this.grew++;
  }

  close(reason: Parameters<TcpHandler['closed']>[1]): void {
    this.state = 'CLOSED';
    const { handler } = this;
    this.handler = undefined;
    handler?.closed(this, reason);
  }

  /** The guest sends; returns what was taken. */
  fromGuest(bytes: Uint8Array): number {
    return this.handler!.received(this, fragmentsOf(bytes));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.sent);
  }
}

export function datagram(
  from: string,
  fromPort: number,
  to: string,
  toPort: number,
  payload: FragmentList,
): UdpDatagram {
  return {
    guestAddress: address(from),
    guestPort: fromPort,
    peerAddress: address(to),
    peerPort: toPort,
    ingress: 1,
    payload,
    dontFragment: false,
    hopLimit: 64,
  };
}

/** Keeps what is sent to the guest, and calls what listens on the gateway. */
export class FakeNetstack {
  readonly sent: { from: string; to: string; payload: Buffer }[] = [];
  readonly unreachable: string[] = [];
  /** Payloads that errors were given to quote. */
  readonly quoted: string[] = [];
  readonly echoes: string[] = [];
  readonly connected: FakeConnection[] = [];
  readonly listeners = new Map<string, (datagram: UdpDatagram) => void>();
  onSent: () => void = () => {};

  sendUdp(to: Omit<Endpoints, 'ingress'>, payload: Uint8Array): boolean {
    this.sent.push({
      from: `${formatAddress(to.peerAddress)} ${to.peerPort}`,
      to: `${formatAddress(to.guestAddress)} ${to.guestPort}`,
      payload: Buffer.from(payload),
    });
    this.onSent();
    return true;
  }

  sendUnreachable(kind: UnreachableKind, about: Undelivered, mtu?: number): boolean {
    this.#quote(about);
    this.unreachable.push(`${kind}${mtu ? ` ${mtu}` : ''} ${formatAddress(about.peerAddress)} ${about.peerPort}`);
    this.onSent();
    return true;
  }

  sendTimeExceeded(about: Undelivered, router: Address): boolean {
    this.#quote(about);
    this.unreachable.push(`expired ${formatAddress(about.peerAddress)} ${about.peerPort} at ${formatAddress(router)}`);
    this.onSent();
    return true;
  }

  #quote({ payload }: Undelivered): void {
    const octets = Buffer.alloc(payload?.octets ?? 0);
    if (payload) gather(payload, octets);
    this.quoted.push(octets.toString('latin1'));
  }

  sendEchoReply(
    to: { guestAddress: Address; peerAddress: Address; identifier: number; sequence: number },
    payload: Uint8Array,
  ): boolean {
    this.echoes.push(
      `${formatAddress(to.peerAddress)} ${formatAddress(to.guestAddress)} ${to.identifier} ${to.sequence} ${Buffer.from(payload)}`,
    );
    return true;
  }

  connect(
    to: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    handler: TcpHandler,
  ): FakeConnection {
    const connection = new FakeConnection(formatAddress(to.peerAddress), to.peerPort);
    Object.assign(connection, { ...to, state: 'SYN-SENT', handler });
    this.connected.push(connection);
    this.onSent();
    return connection;
  }

  /** Whom to tell that a guest has refused a datagram, by where it came from. */
  readonly refusals = new Map<string, (guest: Address, guestPort: number) => void>();

  /** Guests' addresses that are known. */
  readonly neighbors = new Set<string>();

  isNeighbor(at: Address): boolean {
    return this.neighbors.has(formatAddress(at));
  }

  listenUdp(
    at: Address,
    port: number,
    receive: (datagram: UdpDatagram) => void,
    refused?: (guest: Address, guestPort: number) => void,
  ): void {
    const name = `${formatAddress(at)} ${port}`;
    if (this.listeners.has(name)) throw Object.assign(new Error(`${name} is taken`), { code: 'EADDRINUSE' });
    this.listeners.set(name, receive);
    if (refused) this.refusals.set(name, refused);
  }

  unlistenUdp(at: Address, port: number): void {
    this.listeners.delete(`${formatAddress(at)} ${port}`);
  }
}
