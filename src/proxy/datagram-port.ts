/**
 * A published UDP port: each client on the host has a port of the gateway to itself, by which its replies are told apart,
 * for `IDLE_MS` after the last datagram either way. At most `CLIENTS` of them, of whom the one unused longest is given up.
 *
 * A guest of both IP versions is reached by IPv6 where it is known to have that address; where it answers by ICMP that
 * nobody listens there, the client goes to its IPv4 address, and with it what it had sent first.
 */

import type { Address, Clock, FlowRecord, NetstackPort, UdpDatagram } from '../stack/port.ts';
import { equal, formatEndpoint } from '../stack/wire/address.ts';
import { type EndpointKey, endpointKey } from './endpoint-key.ts';
import { originOf } from './flow-origin.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { Policy } from './policy.ts';
import type { HostDatagramHandler, HostDatagramSocket } from './port.ts';
import { withoutScope } from './scoped-address.ts';

const IDLE_MS = 180_000;
const CLIENTS = 1024;
/** What is kept of a client until the guest answers: what fits any IPv6 link. RFC 8200 5. */
const HELD_OCTETS = 1232;
/** The gateway's ports for clients of published UDP ports. RFC 6335 6. */
const FIRST_PORT = 49152;
const PORTS = 65536 - FIRST_PORT;

export interface DatagramPortOptions {
  readonly netstack: Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'sendUdp' | 'isNeighbor'>;
  readonly clock: Clock;
  /** Undefined: every client is let in. */
  readonly policy?: Pick<Policy, 'arrival' | 'recheck' | 'ruleOf' | 'generation'>;
}

/** Whom a port leads to, and the gateway's address that it sees clients come from. */
export interface Guest {
  readonly guestAddress: Address;
  readonly guestPort: number;
  readonly peerAddress: Address;
}

/** The gateway's ports that stand for clients, each used again as late as possible. */
export class GatewayPorts {
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
  endpoints: Guest & { readonly peerPort: number };
  /** The guest has not answered at its first address yet, and what was sent there first. */
  isTrying: boolean;
  held: Uint8Array | undefined;
  /** The policy's generation when it was let in, and the rule that did. */
  askedIn: number;
  by: PolicyRule | undefined;
  usedAtMs: number;
  octetsToGuest: number;
  octetsToHost: number;
}

export class DatagramPort implements HostDatagramHandler {
  readonly #options: DatagramPortOptions;
  readonly #guest: Guest;
  readonly #first: Guest | undefined;
  readonly #clients = new Map<EndpointKey, Client>();
  readonly #ports: GatewayPorts;
  #socket: HostDatagramSocket | undefined;

  /** `first`: where the guest is reached if it is known to be there, and does not refuse what comes. */
  constructor(options: DatagramPortOptions, guest: Guest, first: Guest | undefined, ports: GatewayPorts) {
    this.#options = options;
    this.#guest = guest;
    this.#first = first;
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
    if (client.isTrying && payload.length <= HELD_OCTETS) client.held ??= Uint8Array.from(payload);
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
    return [...this.#clients.values()].map((client) => ({
      protocol: 'udp',
      ...originOf('in', client.by, formatEndpoint(withoutScope(client.address), client.port)),
      guest: formatEndpoint(client.endpoints.guestAddress, client.endpoints.guestPort),
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
    const isTrying = this.#first !== undefined && this.#options.netstack.isNeighbor(this.#first.guestAddress);
    const client: Client = {
      key,
      address: Uint8Array.from(address),
      port,
      endpoints: { ...this.#guest, peerPort: 0 },
      isTrying,
      held: undefined,
      askedIn: 0,
      by: undefined,
      usedAtMs: 0,
      octetsToGuest: 0,
      octetsToHost: 0,
    };
    if (!this.#listen(client, isTrying ? this.#first! : this.#guest)) return undefined;
    this.#clients.set(key, client);
    return client;
  }

  /** Takes a port of the gateway for a client of `guest`; false: there is none. */
  #listen(client: Client, guest: Guest): boolean {
    const { netstack } = this.#options;
    for (let tries = 0; tries < PORTS; tries++) {
      const peerPort = this.#ports.next();
      try {
        netstack.listenUdp(
          guest.peerAddress,
          peerPort,
          (datagram) => this.#reply(client, datagram),
          () => this.#refused(client),
        );
      } catch {
        continue; // another published port's
      }
      client.endpoints = { ...guest, peerPort };
      return true;
    }
    return false;
  }

  #reply(client: Client, datagram: UdpDatagram): void {
    const { guestAddress, guestPort } = client.endpoints;
    if (datagram.guestPort !== guestPort || !equal(datagram.guestAddress, guestAddress)) return;
    client.isTrying = false;
    client.held = undefined;
    client.usedAtMs = this.#options.clock.nowMs();
    client.octetsToHost += datagram.payload.octets;
    this.#socket?.send(datagram.payload, client.address, client.port);
  }

  /** Nobody listens at the guest's first address: what was sent there goes to the other. */
  #refused(client: Client): void {
    if (!client.isTrying) return;
    const { netstack } = this.#options;
    const { held } = client;
    const { peerAddress, peerPort } = client.endpoints;
    client.isTrying = false;
    client.held = undefined;
    netstack.unlistenUdp(peerAddress, peerPort);
    if (!this.#listen(client, this.#guest)) this.#clients.delete(client.key);
    else if (held) netstack.sendUdp(client.endpoints, held);
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
