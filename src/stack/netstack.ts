/**
 * One network's TCP/IP stack: Ethernet in, host-side events out, and back. Synchronous and pure: `input` reads a batch
 * of frames to the end, `poll` does what is due and sends, `pollAt` says when that is. Nothing here owns a timer, a
 * thread or a promise.
 *
 * A frame: Ethernet (RFC 894) here, then ARP in neighbor.ts, IPv4 in ipv4.ts or IPv6 in ipv6.ts, then icmp.ts or
 * icmpv6.ts (and ndp.ts), udp.ts or tcp/.
 * A link that has no room makes TCP wait, and datagrams and answers fall, counted.
 */

import { Drops } from './drops.ts';
import { Reassembly } from './fragments.ts';
import type { FrameBatch } from './frame-batch.ts';
import { plainArena } from './frame-memory.ts';
import { Icmp } from './icmp.ts';
import { IcmpAnswers } from './icmp-answers.ts';
import { Identity, type IdentityOptions } from './identity.ts';
import { Ipv4Input, Ipv4Output } from './ipv4.ts';
import { Ipv6 } from './ipv6-stack.ts';
import { KeyedHash } from './keyed-hash.ts';
import { Neighbors } from './neighbor.ts';
import type { NeighborCacheOptions } from './neighbor-cache.ts';
import { NextHops } from './next-hops.ts';
import { Packet } from './packet.ts';
import type {
  Address,
  ArenaSource,
  Clock,
  FlowOrigin,
  FlowRecord,
  Forwarder,
  LinkPort,
  NetstackPort,
  Random,
  TcpConnection,
  TcpHandler,
  UdpDatagram,
  Undelivered,
  UnreachableKind,
} from './port.ts';
import { SwitchPort } from './switch-port.ts';
import { TcpEndpoint } from './tcp/endpoint.ts';
import { flowRecord } from './tcp/flow-record.ts';
import { defaultLimits, type TcpLimits } from './tcp/limits.ts';
import { TimerWheel } from './timers.ts';
import { Udp } from './udp.ts';
import * as ethernet from './wire/ethernet.ts';
import * as icmp from './wire/icmp.ts';
import * as ipv4 from './wire/ipv4.ts';

export interface NetstackOptions extends IdentityOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly forwarder: Forwarder;
  readonly limits?: Partial<TcpLimits>;
  /** Where send queues live: the memory that links have their rings in, best of all. */
  readonly memory?: ArenaSource;
  /** Work has turned up outside of `input` and `poll`: `poll` is due now. Called once until the next `poll`. */
  readonly wake?: () => void;
}

export class Netstack implements NetstackPort {
  readonly #drops = new Drops();
  readonly #clock: Clock;
  readonly #identity: Identity;
  readonly #timers: TimerWheel;
  readonly #neighbors: Neighbors;
  readonly #reassembly: Reassembly;
  readonly #icmp: Icmp;
  readonly #udp: Udp;
  readonly #tcp: TcpEndpoint;
  readonly #ipv4: Ipv4Input;
  readonly #ipv6: Ipv6 | undefined;
  readonly #nextHops: NextHops;
  readonly #answers: IcmpAnswers;
  readonly #packet = new Packet();
  /** What reassembly made has a record of its own: the fragment that completed it is still at hand. */
  readonly #whole = new Packet();
  readonly #ports = new Map<number, SwitchPort>();
  #nextIngress = 1;
  #nowMs: number;
  /** Inside `input` or `poll`: whoever called will look at `pollAt` anyway. */
  #busy = false;
  #woken = false;
  /** Called when work turns up outside of `input` and `poll`. The edge sets it. */
  onWork: (() => void) | undefined;
  /**
   * Called when something was put off that is best done when nothing else comes at once: `quiet` is due then. Undefined:
   * nothing is put off. The edge sets it.
   */
  onPutOff: (() => void) | undefined;

  constructor(options: NetstackOptions) {
    const { forwarder, random } = options;
    const drops = this.#drops;
    this.#clock = options.clock;
    this.#nowMs = options.clock.nowMs();
    this.onWork = options.wake;
    const identity = new Identity(options);
    this.#identity = identity;
    const timers = new TimerWheel(this.#nowMs);
    this.#timers = timers;
    const word = new DataView(new ArrayBuffer(4));
    const cache: NeighborCacheOptions = {
      drops,
      timers,
      random: () => {
        random.fill(new Uint8Array(word.buffer));
        return word.getUint32(0);
      },
      ports: () => this.#ports.values(),
      now: () => this.#clock.nowMs(),
      wake: () => this.#wake(),
      learnt: (wasAsked) => this.#tcp.neighborLearnt(wasAsked),
      unreachable: () => this.#tcp.neighborUnreachable(),
      confirms: (neighbor, sinceMs) => this.#tcp.confirms(neighbor, sinceMs),
    };
    const neighbors = new Neighbors({ ...cache, identity });
    this.#neighbors = neighbors;
    const output = new Ipv4Output(identity, drops, cache.random() >>> 16);
    this.#icmp = new Icmp({ identity, drops, neighbors, output, forwarder });
    const hash = new KeyedHash(random);
    const ipv6 = identity.ipv6 && new Ipv6({ ...cache, identity, ipv6: identity.ipv6, hash, forwarder });
    this.#ipv6 = ipv6;
    const nextHops = new NextHops(neighbors, ipv6?.ndp);
    this.#nextHops = nextHops;
    this.#answers = new IcmpAnswers(this.#icmp, ipv6?.icmpv6, drops);
    this.#udp = new Udp({ identity, drops, nextHops, output, icmp: this.#icmp, ipv6, forwarder });
    this.#tcp = new TcpEndpoint({
      identity,
      drops,
      nextHops,
      timers,
      unreachable: (kind, guest, peer, first, second) =>
        this.#answers.synUnreachable(kind, guest, peer, first, second, this.#tcp.nowMs),
      forwarder,
      random,
      hash,
      limits: { ...defaultLimits, ...options.limits },
      memory: options.memory ?? { arena: plainArena },
      wake: () => this.#wake(),
      putOff: () => this.onPutOff,
    });
    for (const errors of ipv6 ? [this.#icmp, ipv6.icmpv6] : [this.#icmp]) {
      errors.tcp = this.#tcp;
      errors.udp = this.#udp;
    }
    this.#reassembly = new Reassembly({
      drops,
      timers,
      whole: (port, batch, nowMs) => this.#inputWhole(port, batch, nowMs),
      timedOut: (port, batch, nowMs) => this.#reassemblyTimedOut(port, batch, nowMs),
    });
    this.#ipv4 = new Ipv4Input({
      identity,
      drops,
      reassembly: this.#reassembly,
      icmp: this.#icmp,
      udp: this.#udp,
      tcp: this.#tcp,
      hopsExceeded: (packet, nowMs) =>
        this.#icmp.errorAbout(packet, icmp.TIME_EXCEEDED, icmp.TIME_TO_LIVE_EXCEEDED, 0, nowMs),
      fragmentsMissing: (packet, nowMs) =>
        this.#icmp.errorAbout(packet, icmp.TIME_EXCEEDED, icmp.REASSEMBLY_TIME_EXCEEDED, 0, nowMs),
      protocolUnreachable: (packet, nowMs) =>
        this.#icmp.errorAbout(packet, icmp.DESTINATION_UNREACHABLE, icmp.PROTOCOL_UNREACHABLE, 0, nowMs),
    });
    ipv6?.start({ reassembly: this.#reassembly, udp: this.#udp, tcp: this.#tcp });
  }

  get drops(): Readonly<Record<string, number>> {
    return this.#drops.counts;
  }

  attach(link: LinkPort): number {
    const ingress = this.#nextIngress++;
    const port = new SwitchPort(ingress, link, this.#drops);
    this.#ports.set(ingress, port);
    if (this.#ipv6) {
      this.#ipv6.attached(this.#clock.nowMs());
      this.#wake();
    }
    link.start({
      input: (batch) => this.input(ingress, batch, this.#clock.nowMs()),
      writable: () => {
        port.blocked = false;
        this.#wake();
      },
      deserted: () => {
        this.#tcp.detach(port);
        this.#wake();
      },
      closed: () => this.detach(ingress),
    });
    return ingress;
  }

  detach(ingress: number): void {
    const port = this.#ports.get(ingress);
    if (!port) return;
    port.detached = true;
    this.#ports.delete(ingress);
    this.#tcp.detach(port);
    this.#nextHops.forget(port);
    this.#reassembly.forget(port);
  }

  /** The network ends: guests are told that their router is no more, while the links are still there. */
  close(): void {
    this.#ipv6?.close();
    for (const port of this.#ports.values()) port.flush();
  }

  /** Reads a batch of frames that came in by a port. `attach` sees to it that the link's batches come here. */
  input(ingress: number, batch: FrameBatch, nowMs: number): void {
    const port = this.#ports.get(ingress);
    if (!port) return;
    this.#nowMs = nowMs;
    this.#tcp.nowMs = nowMs;
    this.#busy = true;
    const { count } = batch;
    port.framesIn += count;
    for (let i = 0; i < count; i++)
      if (!this.#tcp.inputPredicted(port, batch, i, nowMs)) this.#frame(port, batch, i, nowMs);
    this.#tcp.endBatch();
    this.#busy = false;
  }

  poll(nowMs: number, budgetOctets: number): void {
    this.#nowMs = nowMs;
    this.#woken = false;
    this.#tcp.nowMs = nowMs;
    this.#busy = true;
    if (this.#ipv6) this.#ipv6.pathMtus.nowMs = nowMs;
    this.#timers.advance(nowMs);
    for (const port of this.#ports.values()) {
      if (port.hasReady && !port.blocked) this.#tcp.pollPort(port, nowMs, budgetOctets);
      port.flush();
    }
    this.#busy = false;
  }

  /** Nothing else has come: what was put off is work now, for `poll`. */
  quiet(): void {
    this.#tcp.quiet();
  }

  pollAt(): number {
    for (const port of this.#ports.values()) if (port.dirty || (port.hasReady && !port.blocked)) return 0;
    return this.#timers.nextMs();
  }

  connect(
    to: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    handler: TcpHandler,
  ): TcpConnection {
    this.#nowMs = this.#clock.nowMs();
    return this.#tcp.connect(to, handler, this.#nowMs);
  }

  listenTcp(address: Address, port: number, accept: (connection: TcpConnection) => void): void {
    this.#tcp.listen(address, port, accept);
  }

  isNeighbor(address: Address): boolean {
    if (this.#nextHops.resolve(address)) return true;
    this.#nextHops.ask(address);
    return false;
  }

  unlistenTcp(address: Address, port: number): void {
    this.#tcp.unlisten(address, port);
  }

  listenUdp(
    address: Address,
    port: number,
    receive: (datagram: UdpDatagram) => void,
    refused?: (guestAddress: Address, guestPort: number) => void,
  ): void {
    this.#udp.listen(address, port, receive, refused);
  }

  unlistenUdp(address: Address, port: number): void {
    this.#udp.unlisten(address, port);
  }

  sendUdp(
    endpoints: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    payload: Uint8Array,
    options?: { macAddress?: Uint8Array; ingress?: number },
  ): boolean {
    const { guestAddress: guest, peerAddress: peer } = endpoints;
    const to = options?.macAddress && this.#neighborOf(options.macAddress, options.ingress);
    const sent = this.#udp.send(guest, endpoints.guestPort, peer, endpoints.peerPort, payload, to);
    this.#wake();
    return sent;
  }

  sendEchoReply(
    request: { guestAddress: Address; peerAddress: Address; identifier: number; sequence: number },
    payload: Uint8Array,
  ): boolean {
    const sent = this.#answers.echoReply(request, payload);
    this.#wake();
    return sent;
  }

  sendUnreachable(kind: UnreachableKind, about: Undelivered, mtu = 0): boolean {
    const sent = this.#answers.unreachable(kind, about, mtu, this.#nowMs);
    this.#wake();
    return sent;
  }

  sendTimeExceeded(about: Undelivered, router: Address): boolean {
    const sent = this.#answers.timeExceeded(about, router, this.#nowMs);
    this.#wake();
    return sent;
  }

  /** A lease: `address` is behind `ingress` at `macAddress`, whatever other ports say. */
  pinNeighbor(address: Address, ingress: number, macAddress: Uint8Array): void {
    const port = this.#ports.get(ingress);
    if (port) this.#nextHops.pin(address, port, ethernet.macOfBytes(macAddress));
  }

  unpinNeighbor(address: Address): void {
    this.#nextHops.unpin(address);
  }

  /**
   * Reaches a network outside the subnet through the guest that has the address `via`; without a route the guest heard
   * last is asked. `prefix` is of the family's bits: 24 of 32, 64 of 128.
   */
  route(network: Address, prefix: number, via: Address): void {
    this.#nextHops.route(network, prefix, via);
  }

  flows(tell?: (connection: TcpConnection) => FlowOrigin | undefined): readonly FlowRecord[] {
    const records: FlowRecord[] = [];
    for (const connection of this.#tcp.connections())
      records.push({ ...flowRecord(connection), ...tell?.(connection) });
    return records;
  }

  /** Octets of the pool that flows hold now. */
  get pooledOctets(): number {
    return this.#tcp.pool.used * 65536;
  }

  #frame(port: SwitchPort, batch: FrameBatch, index: number, nowMs: number): void {
    const fragment = batch.first[index]!;
    const arena = batch.arena[fragment]!;
    const contiguous = batch.length[fragment]!;
    const { view } = arena;
    const at = batch.offset[fragment]!;
    if (contiguous < ethernet.HEADER_OCTETS) {
      this.#drops.count('ethernet-short');
      return;
    }
    const source = ethernet.source(view, at);
    // The group bit of the source is the lowest of its first octet.
    if ((view.getUint8(at + ethernet.SOURCE) & 1) !== 0 || source === this.#identity.mac || source === 0) {
      this.#drops.count('ethernet-source');
      return;
    }
    if (!ethernet.isGroup(view, at) && ethernet.destination(view, at) !== this.#identity.mac) {
      this.#drops.count('ethernet-destination');
      return;
    }
    const packet = this.#packet;
    packet.port = port;
    packet.batch = batch;
    packet.frame = index;
    packet.arena = arena;
    packet.view = view;
    packet.hasEthernet = true;
    packet.ethernetAt = at;
    packet.ipAt = at + ethernet.HEADER_OCTETS;
    packet.contiguous = contiguous - ethernet.HEADER_OCTETS;
    const type = ethernet.type(view, at);
    if (type === ethernet.TYPE_IPV4) {
      // The header's fields are read again by the input, which checks them; here 20 octets are enough.
      if (packet.contiguous >= ipv4.HEADER_OCTETS) this.#observe(port, ipv4.source(view, packet.ipAt), source);
      this.#ipv4.input(packet, batch.octets[index]! - ethernet.HEADER_OCTETS, nowMs);
    } else if (type === ethernet.TYPE_ARP) this.#neighbors.input(packet, packet.contiguous);
    else if (type === ethernet.TYPE_IPV6 && this.#ipv6)
      this.#ipv6.input.input(packet, batch.octets[index]! - ethernet.HEADER_OCTETS, nowMs);
    else this.#drops.count('ethernet-type');
  }

  #observe(port: SwitchPort, address: number, mac: number): void {
    if (port.learntAddress === address && port.learntMac === mac) return;
    if (!this.#identity.isForeignSource(address)) this.#neighbors.observe(port, address, mac);
  }

  #inputWhole(port: SwitchPort, batch: FrameBatch, nowMs: number): void {
    const packet = this.#packetOf(port, batch);
    if (isIpv6(packet)) this.#ipv6?.input.input(packet, batch.octets[0]!, nowMs);
    else this.#ipv4.input(packet, batch.octets[0]!, nowMs);
  }

  #reassemblyTimedOut(port: SwitchPort, batch: FrameBatch, nowMs: number): void {
    const packet = this.#packetOf(port, batch);
    if (isIpv6(packet)) this.#ipv6?.input.timedOut(packet, nowMs);
    else this.#ipv4.timedOut(packet, batch.octets[0]!, nowMs);
  }

  #packetOf(port: SwitchPort, batch: FrameBatch): Packet {
    const packet = this.#whole;
    packet.port = port;
    packet.batch = batch;
    packet.frame = 0;
    packet.arena = batch.arena[0]!;
    packet.view = packet.arena.view;
    packet.hasEthernet = false;
    packet.ipAt = batch.offset[0]!;
    packet.contiguous = batch.length[0]!;
    return packet;
  }

  #neighborOf(macAddress: Uint8Array, ingress?: number) {
    const port = ingress === undefined ? this.#ports.values().next().value : this.#ports.get(ingress);
    return port && { mac: ethernet.macOfBytes(macAddress), port };
  }

  #wake(): void {
    if (this.#busy || this.#woken) return;
    this.#woken = true;
    this.onWork?.();
  }
}

const isIpv6 = (packet: Packet): boolean => packet.view.getUint8(packet.ipAt) >> 4 === 6;
