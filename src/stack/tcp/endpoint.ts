/**
 * TCP's front door: finds the connection that a segment belongs to, and makes one for a SYN. RFC 9293 3.10.7.1 and
 * 3.10.7.2 (no connection, LISTEN).
 *
 * Every destination is ours: a SYN goes to the listener of its address and port, else to the forwarder, which dials
 * the host and then accepts or rejects. Until then the SYN is held: repetitions are ignored, the guest's RST forgets
 * it. Held SYNs are bounded: beyond the limit the oldest gives way, so that a scan of dead hosts cannot keep others
 * from connecting.
 * Output is pulled: connections with something to send wait in their port's ready list, and `poll` serves them in
 * turn, a quantum each, until the budget is spent or the link is full.
 *
 * Timers: one per connection, see timeout.ts. Limits: `TcpLimits`.
 */

import { ChunkPool } from '../chunk-pool.ts';
import type { Drops } from '../drops.ts';
import { Fragments } from '../fragment-list.ts';
import type { FrameBatch } from '../frame-batch.ts';
import type { ErrorSink, TransportError } from '../icmp.ts';
import type { Identity } from '../identity.ts';
import type { Transport } from '../ipv4.ts';
import type { KeyedHash } from '../keyed-hash.ts';
import { Listeners } from '../listeners.ts';
import type { Neighbor } from '../neighbor-cache.ts';
import type { NextHops } from '../next-hops.ts';
import type { Packet } from '../packet.ts';
import type {
  Address,
  ArenaSource,
  CloseReason,
  Forwarder,
  Random,
  TcpConnection,
  TcpHandler,
  UnreachableKind,
} from '../port.ts';
import type { SwitchPort } from '../switch-port.ts';
import type { TimerWheel } from '../timers.ts';
import { isIpv4 } from '../wire/address.ts';
import { fold, pseudoHeaderSum } from '../wire/checksum.ts';
import { SOUND } from '../wire/fault.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import { type Connection, type ConnectionContext, nobody, type Rejection } from './connection.ts';
import { ConnectionMaker, headersOctets } from './connection-maker.ts';
import { EVICTION_INTERVAL_MS, longestStalled } from './eviction.ts';
import type { TcpLimits } from './limits.ts';
import { Prediction } from './prediction.ts';
import { acknowledgeNow, deliver } from './receive.ts';
import { Refusal } from './refusal.ts';
import { sendReset } from './reset.ts';
import { SackBlocks } from './sack.ts';
import { Segment } from './segment.ts';
import { Arrival, segmentArrives } from './segment-arrives.ts';
import { prepare } from './segment-writer.ts';
import { output } from './send.ts';
import { type Seq, seq, seqGeq, seqLt } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { reopens, TIME_WAIT_MS } from './time-wait.ts';
import { Tuples } from './tuples.ts';

/** Octets that one connection sends before the next has its turn. */
const QUANTUM_OCTETS = 65536;
const NEVER: number = Number.POSITIVE_INFINITY;
/** The least MSS that an error about the path's MTU brings a connection to: RFC 1191 3's 576, RFC 8201 4's 1280 octets. */
const LEAST_PATH_MSS = 536;
const LEAST_IPV6_PATH_MSS = ipv6.MINIMUM_MTU - ipv6.HEADER_OCTETS - tcp.HEADER_OCTETS;

export interface TcpOptions {
  readonly identity: Identity;
  readonly drops: Drops;
  readonly nextHops: NextHops;
  readonly timers: TimerWheel;
  /** Sends an error about a SYN, of which its addresses and the first 8 octets are given. */
  readonly unreachable: (kind: UnreachableKind, guest: Address, peer: Address, first: number, second: number) => void;
  readonly forwarder: Forwarder;
  readonly hash: KeyedHash;
  readonly random: Random;
  readonly limits: TcpLimits;
  readonly memory: ArenaSource;
  /** Something became ready outside of `input` and `poll`. */
  readonly wake: () => void;
  /** What is to be called when an acknowledgement is put off until it is quiet; undefined: none may be. */
  readonly putOff: () => (() => void) | undefined;
}

type Accept = (connection: TcpConnection) => void;

export class TcpEndpoint implements Transport, ConnectionContext, ErrorSink {
  readonly pool: ChunkPool;
  readonly drops: Drops;
  readonly sendPlaces = new Fragments();
  readonly #options: TcpOptions;
  readonly #limits: TcpLimits;
  readonly #identity: Identity;
  readonly #timers: TimerWheel;
  readonly #tuples: Tuples;
  readonly #listeners = new Listeners<Accept>('TCP');
  readonly #maker: ConnectionMaker;
  readonly #refusal: Refusal;
  readonly #segment = new Segment();
  readonly #arrival = new Arrival();
  readonly #blocks = new SackBlocks();
  readonly #prediction = new Prediction();
  /** Connections with octets to hand over, and lists that are free. */
  readonly #arrivals: Connection[] = [];
  readonly #lists: Fragments[] = [];
  /** Connections whose acknowledgement waits for an answer that may carry it. */
  readonly #putOff: Tcb[] = [];
  /** In order of age. */
  readonly #held = new Set<Connection>();
  readonly #timeWaits = new Set<Connection>();
  /** Opened by us, while nobody knows where the guest is. */
  readonly #unresolved = new Set<Connection>();
  /** The time of the call from below that is under way, or was the last. */
  nowMs = 0;
  #evictedAtMs: number = Number.NEGATIVE_INFINITY;

  constructor(options: TcpOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.#identity = options.identity;
    this.#timers = options.timers;
    this.drops = options.drops;
    this.pool = new ChunkPool(options.limits.poolOctets, options.memory);
    this.#tuples = new Tuples(options.hash, options.random);
    const { mac } = options.identity;
    this.#maker = new ConnectionMaker(this, options.limits, this.#tuples, mac);
    this.#refusal = new Refusal(options.nextHops, mac);
  }

  // From below.

  input(packet: Packet, nowMs: number): void {
    const { view, transportAt: at, transportOctets: octets } = packet;
    if (tcp.check(view, at, octets, packet.transportContiguous) !== SOUND) {
      this.drops.count('tcp-malformed');
      return;
    }
    if (!packet.checksumVerified) {
      const pseudo = packet.isIpv6
        ? ipv6.pseudoHeaderSum(view, packet.ipAt, ipv4.PROTOCOL_TCP, octets)
        : pseudoHeaderSum(packet.source3, packet.destination3, ipv4.PROTOCOL_TCP, octets);
      if (fold(pseudo + packet.transportSum()) !== 0xffff) {
        this.drops.count('tcp-checksum');
        return;
      }
    }
    const segment = this.#segment;
    segment.read(packet);
    const connection = this.#tuples.ofPacket(packet, view.getInt32(at));
    if (connection) {
      if (connection.state === 'ESTABLISHED') this.#prediction.learn(packet, connection);
      if (connection.state !== 'TIME-WAIT' || !reopens(connection, segment)) {
        segmentArrives(connection, segment, this.#arrival, nowMs);
        return;
      }
      // RFC 9293 3.10.7.4 (MAY-2): a new SYN may take over the tuple of TIME-WAIT.
      const after = connection.sndNxt;
      this.release(connection, 'closed');
      this.#syn(packet, segment, after);
      return;
    }
    this.#noConnection(packet, segment);
  }

  /** Takes frame `index` if it is of the connection that the one before was of, and alike; false: it has to go the long way. */
  inputPredicted(port: SwitchPort, batch: FrameBatch, index: number, nowMs: number): boolean {
    const prediction = this.#prediction;
    if (!prediction.matches(port, batch, index)) return false;
    const { packet } = prediction;
    const { view, transportAt: at, transportOctets: octets } = packet;
    if (tcp.check(view, at, octets, packet.transportContiguous) !== SOUND) return false;
    if (!packet.checksumVerified && fold(prediction.pseudoSum + packet.transportSum()) !== 0xffff) {
      this.drops.count('tcp-checksum');
      return true;
    }
    const segment = this.#segment;
    segment.read(packet);
    segmentArrives(prediction.connection!, segment, this.#arrival, nowMs);
    return true;
  }

  /** The batch has been read: hands over what it brought. */
  endBatch(): void {
    const arrivals = this.#arrivals;
    // A handler may not cause input, so the list does not grow meanwhile.
    for (let i = 0; i < arrivals.length; i++) {
      const c = arrivals[i]!;
      if (c.state !== 'CLOSED') deliver(c);
      const list = c.arriving!;
      c.arriving = undefined;
      list.clear();
      this.#lists.push(list);
    }
    arrivals.length = 0;
  }

  /** Lets the connections that wait at `port` send; returns the octets sent. */
  pollPort(port: SwitchPort, nowMs: number, budget: number): number {
    let sent = 0;
    while (sent < budget && !port.blocked) {
      const sender = port.takeReady();
      if (!sender) break;
      const c = sender as Connection;
      if (c.state === 'CLOSED') continue;
      const most = Math.min(QUANTUM_OCTETS, budget - sent);
      const octets = output(c, this.#blocks, nowMs, most);
      sent += octets;
      if (port.blocked) {
        port.putBack(c);
        break;
      }
      // It used up its turn, and may have more: behind the others.
      if (octets >= most) port.pushReady(c);
    }
    return sent;
  }

  /**
   * An address has become known, or has moved: connections that waited for it may begin. Where it was asked for, those
   * that were not answered elsewhere need not wait for their next retransmission.
   */
  neighborLearnt(wasAsked: boolean): void {
    const { nextHops } = this.#options;
    for (const c of this.#unresolved) {
      const neighbor = nextHops.resolve(c.guestAddress);
      if (!neighbor) continue;
      this.#unresolved.delete(c);
      this.#launch(c, neighbor.port, neighbor.mac);
    }
    if (!wasAsked) return;
    for (const c of this.#tuples.values()) {
      if (c.unanswered === 0 || c.retransmitAtMs === NEVER) continue;
      const neighbor = nextHops.resolve(c.guestAddress);
      if (!neighbor || neighbor.mac === c.guestMac) continue;
      c.retransmitAtMs = this.nowMs;
      this.schedule(c);
    }
  }

  /** Nobody answers for some address: connections that are not there yet, and wait for nobody else, give up. */
  neighborUnreachable(): void {
    const { nextHops } = this.#options;
    for (const c of [...this.connections()]) {
      if (c.state !== 'SYN-SENT' || nextHops.isAsked(c.guestAddress) || nextHops.resolve(c.guestAddress)) continue;
      this.release(c, 'EHOSTUNREACH');
    }
  }

  /** Whether a neighbour has acknowledged what was sent to it since then. RFC 4861 7.3.1. */
  confirms({ mac, port }: Neighbor, sinceMs: number): boolean {
    for (const c of this.#tuples.values())
      if (c.port === port && c.guestMac === mac && c.flight.lastSentAtMs >= sinceMs) return true;
    return false;
  }

  /** RFC 5927 4.1, 7.2: believed only when it is about something in flight. RFC 1191 and 8201 (MTU), RFC 9293 3.9.2.2. */
  icmpError(error: TransportError): void {
    const { view, at } = error;
    // The quoted segment is ours: its source is the peer, its destination the guest.
    const ports = (view.getUint16(at + tcp.DESTINATION_PORT) << 16) | view.getUint16(at + tcp.SOURCE_PORT);
    const c = this.#tuples.find(error.guest, error.peer, ports, error.ingress);
    const sequence = seq(view.getInt32(at + tcp.SEQUENCE));
    if (!c || seqLt(sequence, c.sndUna) || seqGeq(sequence, c.sndNxt)) {
      this.drops.count('icmp-type');
      return;
    }
    if (error.kind === 'too-big') {
      const isIpv6 = c.ipv6Words !== undefined;
      const mss = error.mtu - headersOctets(isIpv6) - c.optionOctets;
      const least = (isIpv6 ? LEAST_IPV6_PATH_MSS : LEAST_PATH_MSS) - c.optionOctets;
      if (mss < least || mss >= c.sndMss) return;
      c.sndMss = mss;
      c.flight.loseAll();
      this.ready(c);
      return;
    }
    // Hard or soft: only a connection that is not there yet gives up (RFC 5461 4.1 for a prompt refusal).
    if (c.state !== 'SYN-SENT') return;
    this.release(c, error.kind === 'refused' ? 'ECONNREFUSED' : 'EHOSTUNREACH');
  }

  // From above.

  listen(address: Address, port: number, accept: Accept): void {
    this.#listeners.add(address, port, accept);
  }

  unlisten(address: Address, port: number): void {
    this.#listeners.delete(address, port);
  }

  connect(
    to: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    handler: TcpHandler,
    nowMs: number,
  ): Connection {
    this.nowMs = nowMs;
    if (isIpv4(to.guestAddress) !== isIpv4(to.peerAddress))
      throw Object.assign(new Error('a connection has addresses of one family'), { code: 'EAFNOSUPPORT' });
    const c = this.#maker.toOpen(to.guestAddress, to.guestPort, to.peerAddress, to.peerPort);
    c.handler = handler;
    const neighbor = this.#options.nextHops.resolve(c.guestAddress);
    if (neighbor) this.#launch(c, neighbor.port, neighbor.mac);
    else {
      this.#unresolved.add(c);
      this.#options.nextHops.ask(c.guestAddress);
    }
    return c;
  }

  *connections(): IterableIterator<Connection> {
    yield* this.#tuples.values();
    yield* this.#unresolved;
  }

  get size(): number {
    return this.#tuples.size;
  }

  /** The port is gone, and with it every connection behind it. */
  detach(port: SwitchPort): void {
    for (const c of [...this.#tuples.values()]) if (c.port === port) this.release(c, 'EHOSTUNREACH');
  }

  // What connections ask.

  ready(c: Tcb): void {
    // Without a neighbour there is nowhere to send to; `#launch` makes it ready.
    if (c.port === undefined) return;
    c.port.pushReady(c);
    this.#options.wake();
  }

  acknowledgeWhenQuiet(c: Tcb): void {
    const putOff = this.#options.putOff();
    if (!putOff) acknowledgeNow(c);
    else if (!c.ackPutOff) {
      c.ackPutOff = true;
      if (this.#putOff.push(c) === 1) putOff();
    }
  }

  /** Nothing else has come: what no answer has acknowledged is acknowledged now. */
  quiet(): void {
    for (const c of this.#putOff.splice(0)) {
      c.ackPutOff = false;
      if (c.state !== 'CLOSED' && c.rcvAcked !== c.rcvNxt) acknowledgeNow(c);
    }
  }

  schedule(c: Tcb): void {
    const at = Math.min(c.retransmitAtMs, c.lossAtMs, c.ackAtMs, c.closeAtMs);
    if (at === NEVER) return;
    // A timer that fires too soon only looks again: deadlines mostly move away, once per acknowledgement.
    if (!c.timer.armed || c.timer.deadlineMs > at) this.#timers.arm(c.timer, at);
  }

  arrived(c: Tcb): Fragments {
    const list = this.#lists.pop() ?? new Fragments();
    c.arriving = list;
    this.#arrivals.push(c as Connection);
    return list;
  }

  short(): void {
    const nowMs = this.nowMs;
    if (nowMs - this.#evictedAtMs < EVICTION_INTERVAL_MS) return;
    this.#evictedAtMs = nowMs;
    const c = longestStalled(this.#tuples.values(), nowMs);
    if (!c) return;
    this.drops.count('tcp-evicted');
    this.reset(c, c.sndNxt, c.rcvNxt);
    this.release(c, 'ETIMEDOUT');
  }

  accepted(c: Connection): void {
    this.#held.delete(c);
  }

  rejected(c: Connection, how: Rejection): void {
    if (how === 'reset') this.reset(c, seq(0), c.rcvNxt);
    else if (how !== 'silent') {
      const kind = how === 'unreachable' ? 'host' : 'prohibited';
      this.#options.unreachable(kind, c.guestAddress, c.peerAddress, (c.guestPort << 16) | c.peerPort, c.irs);
      this.#options.wake();
    }
    this.#forget(c);
  }

  release(c: Tcb, reason: CloseReason): void {
    const connection = c as Connection;
    const told = connection.held || connection.state === 'TIME-WAIT';
    const { handler } = connection;
    const { held } = connection;
    this.#forget(connection);
    if (!told) handler.closed(connection, reason);
    else if (held) this.#options.forwarder.tcpGone?.(connection);
  }

  timeWait(c: Tcb, nowMs: number): void {
    const connection = c as Connection;
    connection.closeAtMs = nowMs + TIME_WAIT_MS;
    connection.retransmitAtMs = NEVER;
    connection.lossAtMs = NEVER;
    this.schedule(connection);
    if (connection.state === 'TIME-WAIT') return;
    connection.state = 'TIME-WAIT';
    const { handler } = connection;
    connection.handler = nobody;
    connection.queue.clear();
    connection.flight.clear();
    connection.reassembly?.clear();
    this.#timeWaits.add(connection);
    if (this.#timeWaits.size > this.#limits.timeWait) {
      for (const oldest of this.#timeWaits) {
        this.release(oldest, 'closed');
        break;
      }
    }
    handler.closed(connection, 'closed');
  }

  reset(c: Tcb, sequence: Seq, ack?: Seq): void {
    const { port } = c;
    const { guestAddress, peerAddress } = c as Connection;
    if (port === undefined) return;
    const path = { port, toMac: c.guestMac, fromMac: this.#identity.mac, ports: c.portsWord };
    sendReset({ ...path, source: peerAddress, destination: guestAddress }, sequence, ack);
    this.#options.wake();
  }

  reroute(c: Tcb): void {
    const { nextHops } = this.#options;
    const { guestAddress } = c as Connection;
    nextHops.doubt(guestAddress);
    const neighbor = nextHops.resolve(guestAddress);
    if (!neighbor) nextHops.ask(guestAddress);
    else if (neighbor.port === c.port && neighbor.mac !== c.guestMac) prepare(c, neighbor.mac, this.#identity.mac);
  }

  // Inside.

  /** Sends our first SYN. */
  #launch(c: Connection, port: SwitchPort, mac: number): void {
    c.ingress = port.ingress;
    const chosen = c.peerPort !== 0 || this.#tuples.choosePort(c);
    c.portsWord = (c.peerPort << 16) | c.guestPort;
    if (!chosen || this.#tuples.size >= this.#limits.flows || this.#tuples.has(c)) {
      this.drops.count('tcp-flows');
      this.release(c, 'EADDRINUSE');
      return;
    }
    this.#maker.place(c, port, mac);
    c.closeAtMs = NEVER;
    this.#tuples.add(c);
    c.synDue = true;
    this.ready(c);
  }

  /** RFC 9293 3.10.7.1, 3.10.7.2 */
  #noConnection(packet: Packet, s: Segment): void {
    const { flags } = s;
    if ((flags & tcp.RST) !== 0) {
      this.drops.count('tcp-no-flow');
      return;
    }
    if ((flags & (tcp.SYN | tcp.ACK | tcp.FIN)) === tcp.SYN) {
      this.#syn(packet, s);
      return;
    }
    this.drops.count('tcp-no-flow');
    this.#refusal.refuse(packet, s);
  }

  #syn(packet: Packet, s: Segment, after?: Seq): void {
    if (s.sourcePort === 0 || s.destinationPort === 0) {
      this.drops.count('tcp-malformed');
      return;
    }
    const listener = this.#listeners.of(packet, s.destinationPort);
    if (!listener && this.#isGateway(packet)) {
      this.drops.count('tcp-no-flow');
      this.#refusal.refuse(packet, s);
      return;
    }
    if (this.#tuples.size >= this.#limits.flows) {
      this.drops.count('tcp-flows');
      return;
    }
    const mac = this.#refusal.senderOf(packet);
    if (mac === undefined) {
      this.drops.count('no-neighbour');
      return;
    }
    const c = this.#maker.ofSyn(packet, s, mac, after);
    this.#tuples.add(c);
    this.#held.add(c);
    if (this.#held.size > this.#limits.held) {
      for (const oldest of this.#held) {
        this.drops.count('tcp-half-open');
        this.release(oldest, 'ETIMEDOUT');
        break;
      }
    }
    if (listener) listener(c);
    else this.#options.forwarder.tcp(c);
  }

  #isGateway(packet: Packet): boolean {
    const { gateway, ipv6: identity } = this.#identity;
    return packet.isIpv6 ? identity!.isGatewayOf(packet) : packet.destination3 === gateway;
  }

  /** Takes a connection out of everything. Its owner is not told. */
  #forget(c: Connection): void {
    if (c.state === 'CLOSED') return;
    c.state = 'CLOSED';
    if (!this.#unresolved.delete(c)) this.#tuples.delete(c);
    this.#held.delete(c);
    this.#timeWaits.delete(c);
    this.#timers.cancel(c.timer);
    c.held = false;
    c.handler = nobody;
    c.queue.clear();
    c.flight.clear();
    c.reassembly?.clear();
    this.pool.forget(c);
  }
}
