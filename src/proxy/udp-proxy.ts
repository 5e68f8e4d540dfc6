/**
 * The guest's datagrams to the outside. RFC 4787.
 *
 * One host socket per guest source (address and port) serves every peer (endpoint-independent mapping, REQ-1), and what
 * any peer sends to it is relayed with the peer's own address (endpoint-independent filtering, REQ-8). Peers on the
 * host's loopback appear as the host alias, which stands for both of its addresses: what nobody takes at the one goes to
 * the other. A source that sends over both IP versions has a socket of each.
 *
 * A mapping lives while datagrams pass, either way, and `IDLE_MS` longer (REQ-5 asks for 2 minutes at least, REQ-6
 * allows both directions to refresh). A guest with as many as the policy allows loses the one unused longest.
 *
 * Hop limits pass, so that routers on the way say when one is too small: time exceeded is theirs (traceroute). So does
 * DF: what is larger than the path takes is answered with its MTU (RFC 1191, 8201).
 *
 * What the gate denies, what the host's socket cannot send, and what ICMP says about a peer, is answered with
 * destination unreachable; the stack bounds how often. No timers: the owner calls `expire` now and then.
 */

import type {
  Address,
  Clock,
  FlowRecord,
  FragmentList,
  NetstackPort,
  UdpDatagram,
  Undelivered,
  UnreachableKind,
} from '../stack/port.ts';
import { equal, formatEndpoint, isIpv4, kind } from '../stack/wire/address.ts';
import { DOUBLE_ZERO } from '../stack/wire/double.ts';
import { type EndpointKey, endpointKey } from './endpoint-key.ts';
import { originOf } from './flow-origin.ts';
import { gather, SingleFragment } from './fragment-list.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { Policy, Verdict } from './policy.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostErrorCode, HostNetPort } from './port.ts';
import { isLinkLocal6 } from './scoped-address.ts';

const IDLE_MS = 180_000;
/** Peers of one source whose rules are not gone through again. */
const PEERS = 64;
/** Octets of a datagram that is kept until it is known whether somebody takes it. */
const KEPT = 2048;

export interface UdpProxyOptions {
  readonly host: HostNetPort;
  readonly policy: Pick<Policy, 'destination' | 'recheck' | 'ruleOf' | 'generation' | 'ruled' | 'acquire' | 'release'>;
  readonly netstack: Pick<NetstackPort, 'sendUdp' | 'sendUnreachable' | 'sendTimeExceeded'>;
  readonly clock: Clock;
  /** Stand for the host's loopback towards the guest. */
  readonly hostAliases: readonly Address[];
}

const answers: Readonly<Record<NonNullable<Verdict['answer']>, UnreachableKind>> = {
  reset: 'port',
  unreachable: 'host',
  prohibited: 'prohibited',
};

const failures: Readonly<Record<HostErrorCode, UnreachableKind>> = {
  ECONNREFUSED: 'port',
  EHOSTUNREACH: 'host',
  EHOSTDOWN: 'host',
  ENETUNREACH: 'network',
  EADDRNOTAVAIL: 'network',
  EAFNOSUPPORT: 'network',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
};

/** A peer that the gate has let a source speak to. */
interface Peer {
  readonly address: Address;
  readonly port: number;
  /** The host's address for it. */
  dialled: Address;
  /** Where else it may be, as long as nobody has answered: the host's loopback has two addresses. */
  otherwise: Address | undefined;
  by: PolicyRule | undefined;
}

const isLoopback = (address: Address | undefined): boolean => address !== undefined && kind(address) === 'loopback';

/** A datagram to a port of the host's loopback, which may have to go to its other address. */
interface Trial {
  readonly peer: Peer;
  readonly payload: Uint8Array | undefined;
}

/** Undefined: too long to be kept. */
function copyOf(payload: FragmentList): Uint8Array | undefined {
  if (payload.octets > KEPT) return undefined;
  const octets = new Uint8Array(payload.octets);
  gather(payload, octets);
  return octets;
}

/** A guest's source, the sockets it has on the host, and the peer it spoke to last. */
class Mapping {
  readonly key: EndpointKey;
  readonly ingress: number;
  readonly guestAddress: Address;
  readonly guestPort: number;
  /** The other end of what is being relayed, or was last. */
  readonly peerAddress: Address = new Uint8Array(16);
  peerPort = 0;
  usedAtMs = DOUBLE_ZERO;
  octetsToGuest = DOUBLE_ZERO;
  octetsToHost = DOUBLE_ZERO;
  sockets: { 4?: HostDatagramSocket; 6?: HostDatagramSocket } = {};
  /** The peer that was spoken to last. */
  last: Peer | undefined = undefined;
  /** The policy's generation when the gate was asked. */
  askedIn = 0;
  /** What was sent last to where it may not be. */
  trial: Trial | undefined = undefined;
  /** Peers that rules have allowed, by their addresses and ports, since `askedIn`: flows that last as the mapping does. */
  readonly allowed = new Map<EndpointKey, Peer>();

  constructor(key: EndpointKey, datagram: UdpDatagram) {
    this.key = key;
    this.ingress = datagram.ingress;
    this.guestAddress = Uint8Array.from(datagram.guestAddress);
    this.guestPort = datagram.guestPort;
  }

  /** The datagram to the current peer that began with `payload`. */
  undelivered(payload: Uint8Array | undefined): Undelivered {
    const { guestAddress, guestPort, peerAddress, peerPort, ingress } = this;
    return { guestAddress, guestPort, peerAddress, peerPort, ingress, payload: payload && new SingleFragment(payload) };
  }

  close(): void {
    this.sockets[4]?.close();
    this.sockets[6]?.close();
  }
}

export class UdpProxy implements HostDatagramHandler {
  readonly #options: UdpProxyOptions;
  /** Per ingress. */
  readonly #mappings = new Map<number, Map<EndpointKey, Mapping>>();
  /** Datagrams that were not relayed, by reason. */
  readonly drops = { denied: 0, limit: 0, 'host-full': 0, 'host-failed': 0, 'no-name': 0 };

  constructor(options: UdpProxyOptions) {
    this.#options = options;
  }

  get mappings(): number {
    let count = 0;
    for (const mappings of this.#mappings.values()) count += mappings.size;
    return count;
  }

  /** A datagram of the guest's (`Forwarder.udp`). */
  udp(datagram: UdpDatagram): void {
    const key = endpointKey(datagram.guestAddress, datagram.guestPort);
    let mapping = this.#mappings.get(datagram.ingress)?.get(key);
    const peer = this.#gate(datagram, mapping);
    if (!peer) return;
    mapping ??= this.#open(key, datagram);
    if (!mapping) return;
    if (peer !== mapping.last) this.#remember(mapping, peer);
    const address = peer.dialled;
    if (peer.otherwise) mapping.trial = { peer, payload: copyOf(datagram.payload) };
    mapping.usedAtMs = this.#options.clock.nowMs();
    mapping.octetsToHost += datagram.payload.octets;
    mapping.peerAddress.set(datagram.peerAddress);
    mapping.peerPort = datagram.peerPort;
    // The gateway is a hop itself. RFC 1812 5.3.1.
    const { payload, peerPort, hopLimit, dontFragment } = datagram;
    this.#send(mapping, payload, address, peerPort, hopLimit - 1, dontFragment);
  }

  received(socket: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void {
    const mapping = socket.owner as Mapping;
    const peer = this.#peer(address, mapping);
    if (!peer) {
      this.drops['no-name']++;
      return;
    }
    if (mapping.trial && peer !== address && port === mapping.trial.peer.port) {
      mapping.trial.peer.otherwise = undefined;
      mapping.trial = undefined;
    }
    mapping.usedAtMs = this.#options.clock.nowMs();
    mapping.octetsToGuest += payload.length;
    mapping.peerAddress.set(peer);
    mapping.peerPort = port;
    this.#options.netstack.sendUdp(mapping, payload);
  }

  failed(
    socket: HostDatagramSocket,
    code: HostErrorCode,
    address?: Address,
    port?: number,
    payload?: Uint8Array,
  ): void {
    const mapping = socket.owner as Mapping | undefined;
    const trial = mapping?.trial;
    if (mapping && trial && (port === undefined || (port === trial.peer.port && isLoopback(address)))) {
      this.#sendOtherwise(mapping, trial);
      return;
    }
    this.drops['host-failed']++;
    const unreachable = failures[code];
    if (!mapping || !unreachable) return;
    if (address !== undefined && port !== undefined) {
      const peer = this.#peer(address, mapping);
      if (!peer) return;
      if (peer !== address) {
        // Somebody may be at the loopback's other address by the next time.
        mapping.last = undefined;
        mapping.allowed.delete(endpointKey(peer, port));
      }
      mapping.peerAddress.set(peer);
      mapping.peerPort = port;
    }
    this.#options.netstack.sendUnreachable(unreachable, mapping.undelivered(payload));
  }

  expired(socket: HostDatagramSocket, router: Address, address: Address, port: number, payload?: Uint8Array): void {
    const mapping = socket.owner as Mapping | undefined;
    const peer = mapping && this.#peer(address, mapping);
    if (!mapping || !peer || isLoopback(router) || isLinkLocal6(router)) return;
    mapping.peerAddress.set(peer);
    mapping.peerPort = port;
    this.#options.netstack.sendTimeExceeded(mapping.undelivered(payload), router);
  }

  /** The policy has changed: ends what it denies now. Who speaks to others as well has a new mapping with them. */
  recheck(): void {
    for (const mappings of this.#mappings.values())
      for (const mapping of mappings.values()) if (!this.#isAllowed(mapping)) this.#remove(mapping);
  }

  flows(): FlowRecord[] {
    const nowMs = this.#options.clock.nowMs();
    return [...this.#mappings.values()].flatMap((mappings) =>
      [...mappings.values()].map((mapping) => ({
        protocol: 'udp',
        ...originOf('out', mapping.last?.by),
        guest: formatEndpoint(mapping.guestAddress, mapping.guestPort),
        peer: formatEndpoint(mapping.peerAddress, mapping.peerPort),
        state: 'open',
        octetsToGuest: mapping.octetsToGuest,
        octetsToHost: mapping.octetsToHost,
        idleMs: nowMs - mapping.usedAtMs,
        waitsFor: 'nothing',
      })),
    );
  }

  tooBig(socket: HostDatagramSocket, mtu: number, address: Address, port: number, payload?: Uint8Array): void {
    const mapping = socket.owner as Mapping | undefined;
    const peer = mapping && this.#peer(address, mapping);
    if (!peer) return;
    mapping.peerAddress.set(peer);
    mapping.peerPort = port;
    this.#options.netstack.sendUnreachable('too-big', mapping.undelivered(payload), mtu);
  }

  /** Gives up what has been idle for too long. */
  expire(): void {
    const limit = this.#options.clock.nowMs() - IDLE_MS;
    for (const mappings of this.#mappings.values())
      for (const mapping of mappings.values()) if (mapping.usedAtMs <= limit) this.#remove(mapping);
  }

  close(): void {
    for (const mappings of this.#mappings.values()) for (const mapping of mappings.values()) this.#remove(mapping);
  }

  #send(
    mapping: Mapping,
    payload: FragmentList,
    address: Address,
    port: number,
    hopLimit?: number,
    whole?: boolean,
  ): void {
    if (!this.#socket(mapping, isIpv4(address) ? 4 : 6).send(payload, address, port, hopLimit, whole))
      this.drops['host-full']++;
  }

  /** Nobody is at the loopback's address that was tried. */
  #sendOtherwise(mapping: Mapping, { peer, payload }: Trial): void {
    mapping.trial = undefined;
    if (!peer.otherwise) return;
    peer.dialled = peer.otherwise;
    peer.otherwise = undefined;
    if (payload) this.#send(mapping, new SingleFragment(payload), peer.dialled, peer.port);
  }

  /** Whom it is for, as the gate lets it through; undefined: denied, and answered. */
  #gate(datagram: UdpDatagram, mapping: Mapping | undefined): Peer | undefined {
    const { policy } = this.#options;
    const { ingress, peerAddress: address, peerPort: port } = datagram;
    if (mapping && mapping.askedIn === policy.generation) {
      const { last } = mapping;
      if (last && last.port === port && equal(last.address, address)) return last;
      const known = mapping.allowed.size > 0 && mapping.allowed.get(endpointKey(address, port));
      if (known) return known;
    }
    const verdict = policy.destination(address, { protocol: 'udp', port, ingress });
    if (verdict.allowed)
      return {
        address: Uint8Array.from(address),
        port,
        dialled: Uint8Array.from(verdict.address),
        otherwise: verdict.otherwise,
        by: policy.ruleOf(verdict),
      };
    this.drops.denied++;
    this.#options.netstack.sendUnreachable(answers[verdict.answer ?? 'prohibited'], datagram);
    return undefined;
  }

  #remember(mapping: Mapping, peer: Peer): void {
    const { policy } = this.#options;
    if (mapping.askedIn !== policy.generation) mapping.allowed.clear();
    mapping.last = peer;
    mapping.askedIn = policy.generation;
    if (!policy.ruled) return;
    if (mapping.allowed.size === PEERS) mapping.allowed.delete(mapping.allowed.keys().next().value!);
    mapping.allowed.set(endpointKey(peer.address, peer.port), peer);
  }

  /** Whether the policy lets a mapping be, with every peer that is known of it. */
  #isAllowed(mapping: Mapping): boolean {
    const { policy } = this.#options;
    const { ingress, last, allowed } = mapping;
    for (const peer of last ? new Set([last, ...allowed.values()]) : []) {
      const flow = { protocol: 'udp', port: peer.port, ingress, allowedBy: peer.by } as const;
      const verdict = policy.recheck(peer.address, flow);
      if (!verdict.allowed) return false;
      peer.by = policy.ruleOf(verdict);
    }
    mapping.askedIn = policy.generation;
    return true;
  }

  #open(key: EndpointKey, datagram: UdpDatagram): Mapping | undefined {
    const { policy } = this.#options;
    const { ingress } = datagram;
    let mappings = this.#mappings.get(ingress);
    if (!mappings) this.#mappings.set(ingress, (mappings = new Map()));
    if (!policy.acquire('udp', ingress)) {
      this.#removeOldest(mappings);
      if (!policy.acquire('udp', ingress)) {
        this.drops.limit++;
        return undefined;
      }
    }
    const mapping = new Mapping(key, datagram);
    mappings.set(key, mapping);
    return mapping;
  }

  #socket(mapping: Mapping, family: 4 | 6): HostDatagramSocket {
    let socket = mapping.sockets[family];
    if (!socket) {
      socket = this.#options.host.bindDatagram(family, this);
      socket.owner = mapping;
      // Out of file descriptors, for one: tried again with the next datagram.
      if (socket.port === 0) socket.close();
      else mapping.sockets[family] = socket;
    }
    return socket;
  }

  /** What the guest calls a peer; undefined: nothing, as link-local ones, or the host's loopback in the other IP version. */
  #peer(address: Address, { guestAddress }: Mapping): Address | undefined {
    const found = kind(address);
    if (found === 'link-local') return undefined;
    if (found !== 'loopback') return address;
    return this.#options.hostAliases.find((alias) => isIpv4(alias) === isIpv4(guestAddress));
  }

  #removeOldest(mappings: Map<EndpointKey, Mapping>): void {
    let oldest: Mapping | undefined;
    for (const mapping of mappings.values()) if (!oldest || mapping.usedAtMs < oldest.usedAtMs) oldest = mapping;
    if (oldest) this.#remove(oldest);
  }

  #remove(mapping: Mapping): void {
    this.#mappings.get(mapping.ingress)?.delete(mapping.key);
    mapping.close();
    this.#options.policy.release('udp', mapping.ingress);
  }
}
