/**
 * The edges of the TCP/IP stack: what it asks of a link, a clock, a source of randomness and a forwarder, and what
 * it gives them. Pure and synchronous: nothing here is Node's, nothing returns a promise, and nothing is made per
 * frame. Durations are milliseconds, sizes octets, addresses 16 octets (IPv4 mapped, RFC 4291 2.5.5.2).
 */

import type { FrameBatch } from './frame-batch.ts';
import type { SimdSums } from './wire/checksum-simd.ts';

// Links live in other areas, which know this one by this file alone.
export { CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, CHECKSUM_VERIFIED, FrameBatch } from './frame-batch.ts';

/** A monotonic clock. Only the edge reads it; inside the stack, `nowMs` is an argument. */
export interface Clock {
  nowMs(): number;
}

/** Unpredictable octets, for initial sequence numbers, ports, hash keys and identifiers. */
export interface Random {
  fill(into: Uint8Array): void;
}

/** A long-lived stretch of memory that frames live in: a receive ring, a transmit slab, guest memory, a send queue. */
export interface Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** In memory that has them (frame-memory.ts): functions that sum at vector speed, and where in it the arena begins. */
  readonly sums?: SimdSums | undefined;
  readonly base?: number;
}

/** Gives out arenas, for as long as it lives. */
export interface ArenaSource {
  arena(octets: number): Arena;
}

/** A stretch of an arena. Reused by its owner: read it during the call that hands it over, never keep it. */
export interface Fragment {
  arena: Arena;
  offset: number;
  length: number;
}

/** Fragments handed over together; entries at and beyond `count` are stale. Reused, as a `Fragment` is. */
export interface FragmentList {
  readonly items: readonly Fragment[];
  readonly count: number;
  /** Sum of the fragments' lengths. */
  readonly octets: number;
}

/** A network address: 16 octets, IPv4 as ::ffff:a.b.c.d. */
export type Address = Uint8Array;

/** What a link takes off the stack's hands, per frame, as in virtio. */
export interface LinkOffload {
  /** The link accepts frames whose TCP/UDP checksum is partial (only the pseudo-header's sum is filled in). */
  readonly checksum: boolean;
  /** Largest IP packet the link cuts into MTU-sized segments itself; 0: the stack cuts. */
  readonly segmentOctets: number;
}

/**
 * Where Ethernet frames come from and go to. In: the link calls `handler.input` with a batch, whose memory is the
 * link's again when the call returns. Out: pulled. The stack asks `reserve`, writes the frame in place, `commit`s,
 * and `flush`es once at the end of a poll; a link without room says so, and calls `handler.writable` when it has some.
 */
export interface LinkPort {
  /** For flow records and captures, such as `qemu:/path`. */
  readonly name: string;
  /** Largest IP packet, in octets; a frame is 14 octets more. */
  readonly mtu: number;
  readonly offload: LinkOffload;
  start(handler: LinkHandler): void;
  /** Reserves `octets` contiguous octets for one frame; false: no room now. Valid until `commit` or the next `reserve`. */
  reserve(octets: number): boolean;
  /** Where the reserved frame is to be written. */
  readonly txArena: Arena;
  readonly txOffset: number;
  /**
   * Sends the reserved frame, `octets` long (at most what was reserved). With `checksumStart` > 0 the checksum at
   * checksumStart + checksumOffset is partial; with `segmentOctets` > 0 the link cuts the TCP payload into such pieces.
   */
  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void;
  /** Ends a burst of commits: what was committed goes out, in one write where the transport can. */
  flush(): void;
  close(): void;
}

export interface LinkHandler {
  input(batch: FrameBatch): void;
  /** Room again after a refused `reserve`. */
  writable(): void;
  /** Nobody has been at the other end for a while, and whoever comes next is someone else: flows through the link are over. */
  deserted?(): void;
  /** The link is gone; `error` says why, undefined for an orderly end. */
  closed(error?: Error): void;
}

/** One end of a flow as the guest named it. */
export interface Endpoints {
  /** The guest's side. */
  readonly guestAddress: Address;
  readonly guestPort: number;
  /** The address and port the guest talks to (or that talks to the guest). */
  readonly peerAddress: Address;
  readonly peerPort: number;
  /** The switch port (link) that the flow came in by. */
  readonly ingress: number;
}

/** Why a connection ended, in the words of Node's error codes where one fits. */
export type CloseReason =
  | 'closed' /** both FINs exchanged and acknowledged */
  | 'ECONNRESET' /** the peer sent RST */
  | 'ECONNREFUSED' /** RST in answer to our SYN */
  | 'ETIMEDOUT' /** no answer after the last retransmission */
  | 'EHOSTUNREACH' /** no neighbour, or ICMP says so */
  | 'EADDRINUSE' /** `connect` from a tuple that is in use, or beyond the limit of flows */
  | 'aborted'; /** our own side called abort() */

/**
 * What happens on a TCP connection, told to whoever stands at its far end (the proxy, a listener, the library).
 * All calls come from within `input` or `poll`; none may throw. Octets flow by pulling both ways:
 * guest to host, `received` must take at least what `room` promised; host to guest, the owner writes into
 * `reserveSend` when `writable` says there is room.
 */
export interface TcpHandler {
  /** Handshake complete (for `connect`: the guest answered; for a forwarded SYN: the guest acknowledged our SYN-ACK). */
  established(connection: TcpConnection): void;
  /** Octets that `received` would take now: the receive window is never opened wider than this. */
  room(connection: TcpConnection): number;
  /** In-order octets, once per batch; returns how many were taken. Those, and only those, are acknowledged. */
  received(connection: TcpConnection, octets: FragmentList): number;
  /** The guest sent FIN and every octet before it has been taken: half-close. */
  receivedEnd(connection: TcpConnection): void;
  /** `reserveSend` has room again after it had none. */
  writable(connection: TcpConnection): void;
  /** The last call: nothing follows, and the connection's memory is the stack's again. */
  closed(connection: TcpConnection, reason: CloseReason): void;
}

export type TcpState =
  | 'LISTEN'
  | 'SYN-SENT'
  | 'SYN-RECEIVED'
  | 'ESTABLISHED'
  | 'FIN-WAIT-1'
  | 'FIN-WAIT-2'
  | 'CLOSE-WAIT'
  | 'CLOSING'
  | 'LAST-ACK'
  | 'TIME-WAIT'
  | 'CLOSED';

/** A TCP connection as its owner sees it. RFC 9293. */
export interface TcpConnection extends Endpoints {
  readonly state: TcpState;
  /** The owner's own record, set by the owner; the stack never reads it. */
  owner: unknown;
  /** Octets waiting to be acknowledged by the guest. */
  readonly sendQueueOctets: number;
  /** Answers a forwarded SYN with SYN-ACK. The SYN is held (and its retransmissions ignored) until then. */
  accept(handler: TcpHandler): void;
  /**
   * Refuses a forwarded SYN: 'reset' answers RST, 'unreachable' and 'prohibited' answer ICMP destination unreachable
   * (host, code 1; administratively prohibited, code 13) and 'silent' nothing, so that the guest times out.
   */
  reject(how: 'reset' | 'unreachable' | 'prohibited' | 'silent'): void;
  /**
   * Room in the send queue: true with the contiguous place in `sendArena`, `sendOffset`, `sendLength`; false when the
   * queue is full (`writable` follows). Nothing is sent before the next poll.
   */
  reserveSend(): boolean;
  readonly sendArena: Arena;
  readonly sendOffset: number;
  readonly sendLength: number;
  /** The same for several places, to be filled in their order by one `commitSend`: what a vectored read takes; undefined when the queue is full. */
  reserveSendList(): FragmentList | undefined;
  /** The first `octets` of the reserved place are filled and may be sent. */
  commitSend(octets: number): void;
  /** FIN after everything committed: half-close. */
  end(): void;
  /** RST now; frees everything. `closed` follows with 'aborted' before this returns. */
  abort(): void;
  /** `room` has grown: the window may be reopened. Sent by the stack only when worth a segment (RFC 9293 3.8.6.2.2). */
  roomGrew(): void;
}

/** A datagram from the guest. Valid during the call only. */
export interface UdpDatagram extends Endpoints {
  readonly payload: FragmentList;
  /** Whom the frame is from; undefined: it came in several (fragments). */
  readonly sourceMac?: number | undefined;
  /** IPv4 DF was set: the guest wants ICMP, not fragments. */
  readonly dontFragment: boolean;
  readonly hopLimit: number;
}

/** An ICMP or ICMPv6 echo request from the guest. Valid during the call only. */
export interface EchoRequest extends Endpoints {
  readonly identifier: number;
  readonly sequence: number;
  readonly hopLimit: number;
  readonly payload: FragmentList;
}

/** A datagram or (with `identifier` and `sequence`) an echo request of the guest's that an ICMP error is about. */
export interface Undelivered extends Endpoints {
  readonly identifier?: number;
  readonly sequence?: number;
  /** As much of it as is known, from its beginning: the error quotes it. */
  readonly payload?: FragmentList | undefined;
}

/** What to do with what nobody inside the stack claims. Called from within `input`; none may throw. */
export interface Forwarder {
  /** A SYN: dial, then `accept` or `reject`, now or later. */
  tcp(connection: TcpConnection): void;
  /** A SYN that was neither accepted nor rejected yet is of no use any more: the guest gave it up, or newer ones needed its place. */
  tcpGone?(connection: TcpConnection): void;
  udp(datagram: UdpDatagram): void;
  echo(request: EchoRequest): void;
}

/** Kinds of ICMP destination-unreachable answers the proxy may ask the stack to send about a guest's datagram. */
export type UnreachableKind = 'network' | 'host' | 'port' | 'prohibited' | 'too-big';

/** What the stack offers to its owner. One `NetstackPort` is one network; many live in one process. */
export interface NetstackPort {
  /** Adds a switch port; returns its number, the `ingress` of what comes in by it. */
  attach(link: LinkPort): number;
  detach(ingress: number): void;
  /** Ready work, timers, output: to be called when `pollAt() <= nowMs`, after input, and after host sockets were serviced. */
  poll(nowMs: number, budgetOctets: number): void;
  /** When `poll` is next due by the clock; Infinity: never; 0: now. */
  pollAt(): number;
  /** Opens a TCP connection to the guest, as a published port does. `peer*` is the address that the guest sees as the client's; port 0: chosen (RFC 6056). */
  connect(
    to: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    handler: TcpHandler,
  ): TcpConnection;
  /** Accepts connections of the guest to this address and port inside the stack, ahead of the forwarder (DNS over TCP, proxies). */
  listenTcp(address: Address, port: number, accept: (connection: TcpConnection) => void): void;
  /**
   * Receives datagrams of the guest to this address and port inside the stack, ahead of the forwarder (DHCP, DNS, NTP).
   * `refused`: what was sent from here does not reach that port of the guest, as it says by ICMP.
   */
  listenUdp(
    address: Address,
    port: number,
    receive: (datagram: UdpDatagram) => void,
    refused?: (guestAddress: Address, guestPort: number) => void,
  ): void;
  /** Whether it is known where packets to a guest's address go; where not, it is asked for. */
  isNeighbor(address: Address): boolean;
  unlistenTcp(address: Address, port: number): void;
  unlistenUdp(address: Address, port: number): void;
  /**
   * Sends a datagram to the guest, fragmented where the MTU asks for it; false: dropped and counted (no room), or it waits
   * for its neighbour.
   * A guest without an address yet is reached by `macAddress` (DHCP, RFC 2131 4.1).
   */
  sendUdp(
    endpoints: { guestAddress: Address; guestPort: number; peerAddress: Address; peerPort: number },
    payload: Uint8Array,
    options?: { macAddress?: Uint8Array; ingress?: number },
  ): boolean;
  sendEchoReply(
    request: { guestAddress: Address; peerAddress: Address; identifier: number; sequence: number },
    payload: Uint8Array,
  ): boolean;
  /** ICMP destination unreachable about what the guest sent. `mtu` for 'too-big' (RFC 1191). */
  sendUnreachable(kind: UnreachableKind, about: Undelivered, mtu?: number): boolean;
  /** ICMP time exceeded about what the guest sent: it ran out of hops at `router`. */
  sendTimeExceeded(about: Undelivered, router: Address): boolean;
  /** Every drop has a reason and a counter. */
  readonly drops: Readonly<Record<string, number>>;
  /** A record per live connection, for pages, metrics and tests; `tell` adds what its owner knows. */
  flows(tell?: (connection: TcpConnection) => FlowOrigin | undefined): readonly FlowRecord[];
}

/** How a flow came to be. */
export interface FlowOrigin {
  /** `in`: by a published port. Undefined: with a service of the network's own. */
  readonly direction?: 'out' | 'in';
  /** The client of a published port, where the guest sees the gateway. */
  readonly client?: string;
  /** The rule of the policy that let it through; undefined: none was about it. */
  readonly rule?: string;
}

export interface FlowRecord extends FlowOrigin {
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  /** Address and port; of ICMP the identifier stands for it. */
  readonly guest: string;
  /** Of a UDP flow, which has many, the last one; of ICMP an address alone. */
  readonly peer: string;
  readonly state: string;
  readonly octetsToGuest: number;
  readonly octetsToHost: number;
  readonly rttMs?: number;
  readonly retransmissions?: number;
  /** Since the last datagram or echo, either way. */
  readonly idleMs?: number;
  /** What it waits for. */
  readonly waitsFor?: 'guest window' | 'host socket' | 'link' | 'neighbour' | 'nothing';
}
