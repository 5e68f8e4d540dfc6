/**
 * The host's network as the proxies need it: pulled, never pushed. A stream is read and written without blocking and
 * without promises; readiness comes by callback, in batches. Adapters (node:net and dgram, a native edge) and the fake
 * pass one conformance suite, test/proxy/host-net-conformance.ts.
 */

import type { Address, FragmentList } from '../stack/port.ts';

/** Results of `read` that are not octet counts. */
export const WOULD_BLOCK = -1;
export const END = -2;
export const FAILED = -3;

/** What became of a dial or a stream, in Node's codes: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET, EADDRINUSE, EACCES, EMFILE ... */
export type HostErrorCode = string;

/**
 * Readiness of a stream. Who leaves octets unread when told `readable` reads them later, when there is room for them:
 * it is told again only after a `read` that came back with WOULD_BLOCK.
 */
export interface StreamHandler {
  connected(stream: HostStream): void;
  /** `read` would now return octets, END or FAILED. */
  readable(stream: HostStream): void;
  /** `writeRoom` has grown after it was too small to be worth a call. */
  writable(stream: HostStream): void;
  /** The last call. `code` undefined: both directions ended in order. */
  closed(stream: HostStream, code?: HostErrorCode): void;
}

/** A connected (or connecting) stream socket of the host. */
export interface HostStream {
  owner: unknown;
  /** Octets moved into `into` at `offset`, or WOULD_BLOCK, END, FAILED. */
  read(into: Uint8Array, offset: number, length: number): number;
  /** Where there is such a call: the same into several places, in their order. */
  readv?(places: FragmentList): number;
  /** Octets that `writev` takes now without refusing any. */
  readonly writeRoom: number;
  /** Hands octets to the socket; returns how many it took (never fewer than min(octets, writeRoom)). The fragments are the caller's again on return. */
  writev(fragments: FragmentList): number;
  /** Half-close: FIN after what was written. */
  end(): void;
  /** RST. No further calls but `closed`. */
  abort(): void;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
}

export interface HostListener {
  readonly address: string;
  /** The port bound, also when 0 was asked for. */
  readonly port: number;
  close(): void;
}

export interface HostDatagramHandler {
  /** `payload` and `address` are valid during the call only. */
  received(socket: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void;
  /**
   * An ICMP error came back, or the send failed: ECONNREFUSED, EHOSTUNREACH, EMSGSIZE ... `address` and `port`, where
   * the host says so, are whom the datagram was for, and `payload` is its beginning; valid during the call only.
   */
  failed(socket: HostDatagramSocket, code: HostErrorCode, address?: Address, port?: number, payload?: Uint8Array): void;
  /** A datagram to `address` and `port` ran out of hops at `router`. Where the host tells of it; the rest likewise. */
  expired?(socket: HostDatagramSocket, router: Address, address: Address, port: number, payload?: Uint8Array): void;
  /** A datagram that was to stay whole is larger than the path to `address` takes: `mtu` octets of IP packet. Likewise. */
  tooBig?(socket: HostDatagramSocket, mtu: number, address: Address, port: number, payload?: Uint8Array): void;
}

/** A UDP socket of the host, unconnected: one mapping serves every peer (RFC 4787 REQ-1). */
export interface HostDatagramSocket {
  owner: unknown;
  readonly port: number;
  /**
   * False: dropped (the socket's queue is full). `payload` is the caller's again on return; it may be copied and leave
   * together with others by the end of the turn (`HostNetPort.flush`). `hopLimit`, where the adapter can set one: how
   * many hops it may make, beginning with the host's; undefined: as many as the host's own. `whole`: it is not to be
   * cut on its way (DF), where the adapter can see to that.
   */
  send(payload: FragmentList, address: Address, port: number, hopLimit?: number, whole?: boolean): boolean;
  close(): void;
}

export interface HostNetPort {
  /** Non-blocking connect; `handler.connected` or `handler.closed` follows. */
  connect(address: Address, port: number, handler: StreamHandler): HostStream;
  /** Connects to a unix socket of the host. */
  connectPath(path: string, handler: StreamHandler): HostStream;
  /** Bound and listening when the promise resolves; rejects with an Error whose `code` is a HostErrorCode. */
  listen(address: string, port: number, accept: (stream: HostStream) => StreamHandler): Promise<HostListener>;
  /** A datagram socket for a guest's flow (port 0), family by `family`. */
  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket;
  /** A published UDP port. */
  listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }>;
  /** A batch of the guest's frames is done: datagrams that were gathered leave now rather than at the end of the turn. */
  flush?(): void;
}

export interface HostEchoHandler {
  /** `payload` is valid during the call only. */
  replied(socket: HostEchoSocket, address: Address, sequence: number, payload: Uint8Array): void;
  /**
   * Somebody said about the request of this number that it did not arrive: EHOSTUNREACH, ENETUNREACH, EACCES ...
   * `payload`, where the host has it, is the request's beginning behind the header; valid during the call only.
   */
  failed(socket: HostEchoSocket, address: Address, sequence: number, code: HostErrorCode, payload?: Uint8Array): void;
  /** The request of this number ran out of hops at `router`. */
  expired(socket: HostEchoSocket, address: Address, sequence: number, router: Address, payload?: Uint8Array): void;
}

/** Sends echo requests under an identifier of its own, and hears of their replies only. */
export interface HostEchoSocket {
  owner: unknown;
  /** False: not sent. `payload` is the caller's again on return. */
  send(address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean;
  close(): void;
}

/** Echo requests from the host, where it lets its users send them. */
export interface HostEchoPort {
  /** For one family. A code: EACCES where the host lets nobody send them, EMFILE where it has no socket left ... */
  open(family: 4 | 6, handler: HostEchoHandler): HostEchoSocket | HostErrorCode;
}

/** What a clock of the day says, and how good it is. */
export interface WallTime {
  /** Milliseconds since 1970, with as much of a fraction as the clock has. */
  readonly epochMs: number;
  /** Something keeps it in step with others. */
  readonly inStep: boolean;
  /** RFC 5905 7.3: 1, a second is inserted at the end of the day; 2, one is left out; 0, neither. */
  readonly leap: number;
  /** The most that it is wrong by, where it is in step. */
  readonly maxErrorMs: number;
  /** The exponent of two of its smallest step, in seconds. */
  readonly precision: number;
}

/** The host's clock of the day, which may be set while it runs. */
export interface WallClock {
  read(): WallTime;
}

export interface NameServer {
  /** Of a link-local one with its scope (scoped-address.ts), when the host's resolvers tell of it. */
  readonly address: Address;
  readonly port: number;
  /** Of a link-local one, such as `eth0` of fe80::1%eth0. */
  readonly zone?: string;
}

/** Names that are asked of servers of their own. */
export interface DnsZone {
  /** In lower case; it, and every name below it. */
  readonly name: string;
  readonly servers: readonly NameServer[];
}

/** Whom the host asks for names. */
export interface ResolverConfig {
  /** In the order to be asked; empty: there is none. */
  readonly servers: readonly NameServer[];
  readonly zones?: readonly DnsZone[];
  readonly search: readonly string[];
}

/** What the owner chooses instead of the host's own. */
export interface DnsChoices extends Partial<ResolverConfig> {
  /** The path of the hosts file whose names guests are told; '': none; undefined: the host's. */
  readonly hostsFile?: string | undefined;
}

export interface HostResolverPort {
  /** What is in force now. Cheap enough to be asked per query; the same object as long as nothing has changed. */
  current(): ResolverConfig;
}

/** Names that the host's own file has addresses for, in lower case. */
export type HostsTable = ReadonlyMap<string, readonly Address[]>;

export interface HostsPort {
  /** What is in the file now. Cheap enough to be asked per query; the same object as long as nothing has changed. */
  current(): HostsTable;
}
