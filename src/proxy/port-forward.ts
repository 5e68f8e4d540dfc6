/**
 * Published ports: a listener on the host, whose connections and datagrams go through the stack to an address and port
 * of the guest, or of a container behind it. The guest sees them come from the gateway.
 *
 * `expose` binds what it is told, nothing wider and nothing else: who may have which port is decided before. Its errors
 * are Docker's words, with the code beside them. A wildcard of a family that the host has not is granted without a
 * listener.
 *
 * A client that the policy does not let in, or not any more, is reset, its datagrams are dropped; both are the policy's
 * to count. A TCP client is accepted, then the guest is dialled; a guest that refuses is a reset for the client.
 * Datagrams are datagram-port.ts's. No timers: the owner calls `expire` now and then.
 */

import type { Address, CloseReason, FlowOrigin, FlowRecord, NetstackPort, TcpConnection } from '../stack/port.ts';
import { formatEndpoint, parseAddress } from '../stack/wire/address.ts';
import { DatagramPort, type DatagramPortOptions, GatewayPorts, type Guest } from './datagram-port.ts';
import { originOf } from './flow-origin.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { HostListener, HostNetPort, HostStream, StreamHandler } from './port.ts';
import { ofFamily } from './subnet6.ts';
import { guestSide, hostSide, TcpSplice } from './tcp-splice.ts';

export interface ExposeRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  /** 0: any. */
  readonly hostPort: number;
  readonly guestAddress: string;
  /**
   * Where a guest of both IP versions is to be reached first, if it is known to have that address; what it refuses there
   * goes to `guestAddress`.
   */
  readonly guestAddress6?: string | undefined;
  readonly guestPort: number;
}

export interface ExposedPort {
  readonly port: number;
  close(): void;
}

export interface PortForwarderOptions extends DatagramPortOptions {
  readonly host: HostNetPort;
  readonly netstack: DatagramPortOptions['netstack'] & Pick<NetstackPort, 'connect'>;
  /** By IP version. */
  readonly gateways: readonly Address[];
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
    if (!guestAddress || !peerAddress) return undefined;
    // Who is asked for now is known when the first client comes.
    this.#options.netstack.isNeighbor(guestAddress);
    return { guestAddress, guestPort, peerAddress };
  }

  async #exposeUdp(request: ExposeRequest, guest: Guest): Promise<ExposedPort> {
    const port = new DatagramPort(this.#options, guest, this.#guest6(request), this.#gatewayPorts);
    const listener = await this.#options.host.listenDatagram(request.hostAddress, request.hostPort, port);
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
