/**
 * Published ports: a listener on the host, whose connections and datagrams go through the stack to an address and port
 * of the guest, or of a container behind it. The guest sees them come from the gateway.
 *
 * `expose` binds what it is told, nothing wider and nothing else: who may have which port is decided before. Its errors
 * are Docker's words, with the code beside them. A wildcard of a family that the host has not is granted without a
 * listener.
 *
 * A client that the policy does not let in, or not any more, is reset, its datagrams are dropped; both are the policy's to count. A TCP
 * client is accepted, then the guest is dialled; a guest that refuses is a reset for the client. Datagrams: each
 * client has a port of the gateway to itself, by which its replies are told apart, for `IDLE_MS` after the last datagram
 * either way; a listener has at most `CLIENTS` of them, and gives up the one unused longest. No timers: the owner calls
 * `expire` now and then.
 */

import type {
  Address,
  Clock,
  CloseReason,
  FlowOrigin,
  FlowRecord,
  NetstackPort,
  TcpConnection,
  UdpDatagram,
} from '../stack/port.ts';
import { equal, formatEndpoint, parseAddress } from '../stack/wire/address.ts';
import { type EndpointKey, endpointKey } from './endpoint-key.ts';
import { originOf } from './flow-origin.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { Policy } from './policy.ts';
import type {
  HostDatagramHandler,
  HostDatagramSocket,
  HostListener,
  HostNetPort,
  HostStream,
  StreamHandler,
} from './port.ts';
import { withoutScope } from './scoped-address.ts';
import { ofFamily } from './subnet6.ts';
import { guestSide, hostSide, TcpSplice } from './tcp-splice.ts';

const IDLE_MS = 180_000;
const CLIENTS = 1024;
/** The gateway's ports for clients of published UDP ports. RFC 6335 6. */
const FIRST_PORT = 49152;
const PORTS = 65536 - FIRST_PORT;

export interface ExposeRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  /** 0: any. */
  readonly hostPort: number;
  readonly guestAddress: string;
  /**
   * Where a guest of both IP versions is to be dialled first: for TCP, where the guest is known to have that address;
   * what it refuses there goes to `guestAddress`.
   */
  readonly guestAddress6?: string | undefined;
  readonly guestPort: number;
}

export interface ExposedPort {
  readonly port: number;
  close(): void;
}

export interface PortForwarderOptions {
  readonly host: HostNetPort;
  readonly netstack: Pick<NetstackPort, 'connect' | 'listenUdp' | 'unlistenUdp' | 'sendUdp' | 'isNeighbor'>;
  readonly clock: Clock;
  /** By IP version. */
  readonly gateways: readonly Address[];
  /** Undefined: every client is let in. */
  readonly policy?: Pick<Policy, 'arrival' | 'recheck' | 'ruleOf' | 'generation'>;
}

/** Whom a stream is from; :: for one that has gone before it could be asked. */
const addressOf = ({ remoteAddress }: HostStream): Address =>
  parseAddress(remoteAddress.replace(/%.*/, '')) ?? new Uint8Array(16);

/** A client's connection. */
class Arrival extends TcpSplice {
  readonly clientAddress: Address;
  readonly clientPort: number;
  readonly port: number;
  /** The rule that let it in. */
  by: PolicyRule | undefined = undefined;
  /** Dials the guest's other address, as long as it has not answered at the first. */
  again: (() => TcpConnection) | undefined = undefined;

  constructor(stream: HostStream, onClosed: () => void) {
    super(onClosed);
    this.clientAddress = addressOf(stream);
    this.clientPort = stream.remotePort;
    this.port = stream.localPort;
    this.joinStream(stream);
  }

  /** What the client sends waits for the address that answers. */
  override pump(): void {
    if (this.again && this.connection?.state === 'SYN-SENT') return;
    this.again = undefined;
    super.pump();
  }

  override connectionClosed(reason: CloseReason): void {
    const { again, stream } = this;
    this.again = undefined;
    if (again && stream && reason !== 'aborted') this.joinConnection(again());
    else super.connectionClosed(reason);
  }
}

/** A client that is not let in. */
const refused: StreamHandler = { connected() {}, readable() {}, writable() {}, closed() {} };

export class PortForwarder {
  readonly #options: PortForwarderOptions;
  readonly #datagramPorts = new Set<DatagramPort>();
  readonly #gatewayPorts = new GatewayPorts();
  readonly #open = new Set<ExposedPort>();
  readonly #arrivals = new Set<Arrival>();

  constructor(options: PortForwarderOptions) {
    this.#options = options;
  }

  /** Rejects with an Error of Docker's words, such as `listen tcp4 0.0.0.0:8080: bind: address already in use`. */
  async expose(request: ExposeRequest): Promise<ExposedPort> {
    const guestAddress = parseAddress(request.guestAddress);
    if (!guestAddress) throw new Error(`${request.guestAddress} is not an address`);
    const gateway = ofFamily(this.#options.gateways, guestAddress);
    if (!gateway) throw new Error(`the guest's network has no IPv6, so ${request.guestAddress} cannot be reached`);
    const guest = { guestAddress, guestPort: request.guestPort, peerAddress: gateway };
    try {
      return request.protocol === 'tcp' ? await this.#exposeTcp(request, guest) : await this.#exposeUdp(request, guest);
    } catch (error) {
      const { code } = error as { code?: string };
      if (wildcards.has(request.hostAddress) && missingFamily.has(code ?? ''))
        return { port: request.hostPort, close() {} };
      throw bindError(request, error);
    }
  }

  /** Takes back everything that is exposed, and resets the connections that came in by it. */
  close(): void {
    for (const exposed of [...this.#open]) exposed.close();
    for (const arrival of [...this.#arrivals]) arrival.connection?.abort();
  }

  /** The policy has changed: ends what it denies now. */
  recheck(): void {
    const { policy } = this.#options;
    if (!policy) return;
    for (const arrival of [...this.#arrivals]) {
      const { clientAddress, port, by: allowedBy } = arrival;
      const verdict = policy.recheck(clientAddress, { direction: 'in', protocol: 'tcp', port, allowedBy });
      if (verdict.allowed) arrival.by = policy.ruleOf(verdict);
      else if (arrival.connection) arrival.connection.abort();
      else arrival.stream?.abort();
    }
    for (const port of this.#datagramPorts) port.recheck();
  }

  /** How a connection came to be; undefined: it is none of these. */
  originOf({ owner }: TcpConnection): FlowOrigin | undefined {
    if (!(owner instanceof Arrival)) return undefined;
    return originOf('in', owner.by, formatEndpoint(owner.clientAddress, owner.clientPort));
  }

  /** Clients of UDP ports; of TCP's the stack keeps the records. */
  flows(): FlowRecord[] {
    return [...this.#datagramPorts].flatMap((port) => port.flows());
  }

  /** Gives up clients of UDP ports that have been idle for too long. */
  expire(): void {
    for (const port of this.#datagramPorts) port.expire();
  }

  async #exposeTcp(request: ExposeRequest, guest: Guest): Promise<ExposedPort> {
    const { host, policy } = this.#options;
    const first = this.#guest6(request);
    // Who is asked for now is known when the first client comes.
    if (first) this.#options.netstack.isNeighbor(first.guestAddress);
    const listener = await host.listen(request.hostAddress, request.hostPort, (stream) => {
      const arrival: Arrival = new Arrival(stream, () => this.#arrivals.delete(arrival));
      const verdict = policy?.arrival(arrival.clientAddress, 'tcp', arrival.port);
      if (verdict && !verdict.allowed) {
        stream.abort();
        return refused;
      }
      arrival.by = verdict && policy?.ruleOf(verdict);
      this.#arrivals.add(arrival);
      this.#connect(arrival, guest, first);
      return hostSide;
    });
    return this.#exposed(listener);
  }

  #connect(arrival: Arrival, guest: Guest, first: Guest | undefined): void {
    const { netstack } = this.#options;
    const dial = (to: Guest): TcpConnection => netstack.connect({ ...to, peerPort: 0 }, guestSide);
    const tries = first && netstack.isNeighbor(first.guestAddress);
    if (tries) arrival.again = () => dial(guest);
    arrival.joinConnection(dial(tries ? first : guest));
  }

  #guest6({ guestAddress6, guestPort }: ExposeRequest): Guest | undefined {
    const guestAddress = guestAddress6 === undefined ? undefined : parseAddress(guestAddress6);
    const peerAddress = guestAddress && ofFamily(this.#options.gateways, guestAddress);
    return guestAddress && peerAddress && { guestAddress, guestPort, peerAddress };
  }

  async #exposeUdp({ hostAddress, hostPort }: ExposeRequest, guest: Guest): Promise<ExposedPort> {
    const port = new DatagramPort(this.#options, guest, this.#gatewayPorts);
    const listener = await this.#options.host.listenDatagram(hostAddress, hostPort, port);
    this.#datagramPorts.add(port);
    return this.#exposed(listener, () => {
      this.#datagramPorts.delete(port);
      port.close();
    });
  }

  #exposed(listener: HostListener, alsoClose?: () => void): ExposedPort {
    const close = (): void => {
      this.#open.delete(exposed);
      listener.close();
      alsoClose?.();
    };
    const exposed = { port: listener.port, close };
    this.#open.add(exposed);
    return exposed;
  }
}

/** Whom a port leads to, and the gateway's address that it sees clients come from. */
interface Guest {
  readonly guestAddress: Address;
  readonly guestPort: number;
  readonly peerAddress: Address;
}

const wildcards = new Set(['0.0.0.0', '::']);
const missingFamily = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EPROTONOSUPPORT']);

/** Docker's own words, which are Go's: scripts match them. */
const bindErrors: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
  EAFNOSUPPORT: 'address family not supported by protocol',
  EMFILE: 'too many open files',
};

type HostSocket = Pick<ExposeRequest, 'protocol' | 'hostAddress' | 'hostPort'>;

/** What was tried, such as `listen tcp4 0.0.0.0:8080`. */
export function listenWords({ protocol, hostAddress, hostPort }: HostSocket): string {
  const ipv6 = hostAddress.includes(':');
  return `listen ${protocol}${ipv6 ? 6 : 4} ${ipv6 ? `[${hostAddress}]` : hostAddress}:${hostPort}`;
}

export function bindError(request: HostSocket, error: unknown): Error {
  const { code, message } = error as Error & { code?: string };
  const words = `${listenWords(request)}: bind: ${bindErrors[code ?? ''] ?? message}`;
  return Object.assign(new Error(words), { code });
}

/** The gateway's ports that stand for clients, each used again as late as possible. */
class GatewayPorts {
  #next = 0;

  next(): number {
    return FIRST_PORT + (this.#next++ % PORTS);
  }
}

/** A client of a published UDP port: the gateway's port that stands for it towards the guest. */
interface Client {
  readonly key: EndpointKey;
  readonly address: Address;
  readonly port: number;
  readonly endpoints: Guest & { readonly peerPort: number };
  /** The policy's generation when it was let in, and the rule that did. */
  askedIn: number;
  by: PolicyRule | undefined;
  usedAtMs: number;
  octetsToGuest: number;
  octetsToHost: number;
}

class DatagramPort implements HostDatagramHandler {
  readonly #options: PortForwarderOptions;
  readonly #guest: Guest;
  readonly #clients = new Map<EndpointKey, Client>();
  readonly #ports: GatewayPorts;
  #socket: HostDatagramSocket | undefined;

  constructor(options: PortForwarderOptions, guest: Guest, ports: GatewayPorts) {
    this.#options = options;
    this.#guest = guest;
    this.#ports = ports;
  }

  received(socket: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void {
    this.#socket = socket;
    const { policy } = this.#options;
    const key = endpointKey(address, port);
    let client = this.#clients.get(key);
    if (!client || (policy && client.askedIn !== policy.generation)) {
      const verdict = policy?.arrival(address, 'udp', socket.port);
      if (verdict && !verdict.allowed) {
        if (client) this.#remove(client);
        return;
      }
      client ??= this.#open(key, address, port);
      if (!client) return;
      client.askedIn = policy?.generation ?? 0;
      client.by = verdict && policy?.ruleOf(verdict);
    }
    client.usedAtMs = this.#options.clock.nowMs();
    client.octetsToGuest += payload.length;
    this.#options.netstack.sendUdp(client.endpoints, payload);
  }

  /** The client does not listen any more; it may again. */
  failed(): void {}

  recheck(): void {
    const { policy } = this.#options;
    const port = this.#socket?.port;
    if (!policy || port === undefined) return;
    for (const client of this.#clients.values()) {
      const flow = { direction: 'in', protocol: 'udp', port, allowedBy: client.by } as const;
      const verdict = policy.recheck(withoutScope(client.address), flow);
      client.askedIn = policy.generation;
      client.by = policy.ruleOf(verdict);
      if (!verdict.allowed) this.#remove(client);
    }
  }

  flows(): FlowRecord[] {
    const nowMs = this.#options.clock.nowMs();
    const { guestAddress, guestPort } = this.#guest;
    return [...this.#clients.values()].map((client) => ({
      protocol: 'udp',
      ...originOf('in', client.by, formatEndpoint(withoutScope(client.address), client.port)),
      guest: formatEndpoint(guestAddress, guestPort),
      peer: formatEndpoint(client.endpoints.peerAddress, client.endpoints.peerPort),
      state: 'open',
      octetsToGuest: client.octetsToGuest,
      octetsToHost: client.octetsToHost,
      idleMs: nowMs - client.usedAtMs,
      waitsFor: 'nothing',
    }));
  }

  expire(): void {
    const limit = this.#options.clock.nowMs() - IDLE_MS;
    for (const client of this.#clients.values()) if (client.usedAtMs <= limit) this.#remove(client);
  }

  close(): void {
    for (const client of this.#clients.values()) this.#remove(client);
  }

  #open(key: EndpointKey, address: Address, port: number): Client | undefined {
    if (this.#clients.size >= CLIENTS) this.#removeOldest();
    const { netstack } = this.#options;
    for (let tries = 0; tries < PORTS; tries++) {
      const peerPort = this.#ports.next();
      const endpoints = { ...this.#guest, peerPort };
      const client: Client = {
        key,
        address: Uint8Array.from(address),
        port,
        endpoints,
        askedIn: 0,
        by: undefined,
        usedAtMs: 0,
        octetsToGuest: 0,
        octetsToHost: 0,
      };
      try {
        netstack.listenUdp(endpoints.peerAddress, peerPort, (datagram) => this.#reply(client, datagram));
      } catch {
        continue; // another published port's
      }
      this.#clients.set(key, client);
      return client;
    }
    return undefined;
  }

  #reply(client: Client, datagram: UdpDatagram): void {
    const { guestAddress, guestPort } = this.#guest;
    if (datagram.guestPort !== guestPort || !equal(datagram.guestAddress, guestAddress)) return;
    client.usedAtMs = this.#options.clock.nowMs();
    client.octetsToHost += datagram.payload.octets;
    this.#socket?.send(datagram.payload, client.address, client.port);
  }

  #removeOldest(): void {
    let oldest: Client | undefined;
    for (const client of this.#clients.values()) if (!oldest || client.usedAtMs < oldest.usedAtMs) oldest = client;
    if (oldest) this.#remove(oldest);
  }

  #remove(client: Client): void {
    this.#clients.delete(client.key);
    const { peerAddress, peerPort } = client.endpoints;
    this.#options.netstack.unlistenUdp(peerAddress, peerPort);
  }
}
