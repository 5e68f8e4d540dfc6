/**
 * A host's network that exists in memory only: `HostNetPort` for tests and examples. Whatever listens on it can be
 * dialled on it, at any address; nobody there refuses, and two lists make hosts that never answer and networks that
 * have no route. Streams hold `CAPACITY` octets each way, so that back-pressure is soon felt. What happens is told
 * later, in order, through `schedule`.
 */

import type { Address, FragmentList } from '../../stack/port.ts';
import { formatAddress, isIpv4, parseAddress } from '../../stack/wire/address.ts';
import {
  END,
  FAILED,
  type HostDatagramHandler,
  type HostDatagramSocket,
  type HostErrorCode,
  type HostListener,
  type HostNetPort,
  type HostStream,
  type StreamHandler,
  WOULD_BLOCK,
} from '../port.ts';

const CAPACITY = 64 * 1024;
const LARGEST_DATAGRAM = 65507;
const EPHEMERAL = 49152;
/** What the fake host is called by peers that are not on its loopback. */
const OWN_ADDRESS = { 4: '192.0.2.1', 6: '2001:db8::1' };

type Post = (event: () => void) => void;
type Accept = (stream: HostStream) => StreamHandler;

interface Name {
  readonly address: string;
  readonly port: number;
}

export class FakeHostNet implements HostNetPort {
  /** Addresses that swallow whatever is sent to them. */
  readonly blackHoles = new Set<string>();
  /** Addresses without a route. */
  readonly unreachable = new Set<string>();
  /** Streams dialled or accepted and not closed yet. */
  readonly streams = new Set<HostStream>();
  readonly #listeners = new Map<string, Accept>();
  readonly #datagrams = new Map<string, FakeDatagramSocket>();
  readonly #post: Post;
  #nextPort = EPHEMERAL;

  constructor(schedule: Post = queueMicrotask) {
    this.#post = schedule;
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    const to = { address: formatAddress(address), port };
    const from = { address: this.#sourceFor(to.address), port: this.#freePort() };
    return this.#dial(to, from, this.#find(this.#listeners, to), handler);
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    const none = { address: '', port: 0 };
    return this.#dial({ address: path, port: 0 }, none, this.#listeners.get(path), handler);
  }

  /** Makes a unix socket that `connectPath` finds. */
  listenPath(path: string, accept: Accept): void {
    this.#listeners.set(path, accept);
  }

  async listen(address: string, port: number, accept: Accept): Promise<HostListener> {
    const name = { address, port: port || this.#freePort() };
    claim(this.#listeners, name, accept);
    return { ...name, close: () => this.#listeners.delete(key(name)) };
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    return this.#datagramSocket({ address: family === 4 ? '0.0.0.0' : '::', port: this.#freePort() }, handler);
  }

  async listenDatagram(address: string, port: number, handler: HostDatagramHandler) {
    const socket = this.#datagramSocket({ address, port: port || this.#freePort() }, handler);
    return { address, port: socket.port, socket, close: () => socket.close() };
  }

  #dial(to: Name, from: Name, accept: Accept | undefined, handler: StreamHandler): HostStream {
    const stream = new FakeStream(this.#post, this.streams, from, to);
    stream.handler = handler;
    if (this.blackHoles.has(to.address)) return stream;
    const problem = this.unreachable.has(to.address) ? 'EHOSTUNREACH' : accept ? undefined : 'ECONNREFUSED';
    if (problem !== undefined || !accept) {
      this.#post(() => stream.close(problem));
      return stream;
    }
    const far = new FakeStream(this.#post, this.streams, to, from);
    stream.peer = far;
    far.peer = stream;
    this.#post(() => {
      far.handler = accept(far);
      stream.tell((handler) => handler.connected(stream));
    });
    return stream;
  }

  #datagramSocket(name: Name, handler: HostDatagramHandler): FakeDatagramSocket {
    const socket: FakeDatagramSocket = new FakeDatagramSocket(name.port, handler, {
      send: (payload, to) => this.#deliver(socket, name, payload, to),
      close: () => this.#datagrams.delete(key(name)),
    });
    claim(this.#datagrams, name, socket);
    return socket;
  }

  #deliver(sender: FakeDatagramSocket, from: Name, payload: Uint8Array, to: Name): void {
    this.#post(() => {
      if (this.blackHoles.has(to.address)) return;
      if (this.unreachable.has(to.address)) return sender.failed('EHOSTUNREACH', to, payload);
      const receiver = this.#find(this.#datagrams, to);
      if (!receiver) return sender.failed('ECONNREFUSED', to, payload);
      const source = wildcards.has(from.address) ? this.#sourceFor(to.address) : from.address;
      receiver.received(payload, parseAddress(source)!, from.port);
    });
  }

  #find<T>(map: Map<string, T>, { address, port }: Name): T | undefined {
    const wildcard = address.includes(':') ? '::' : '0.0.0.0';
    return map.get(key({ address, port })) ?? map.get(key({ address: wildcard, port }));
  }

  #sourceFor(address: string): string {
    if (address.startsWith('127.') || address === '::1') return address;
    return OWN_ADDRESS[isIpv4(parseAddress(address)!) ? 4 : 6];
  }

  #freePort(): number {
    return this.#nextPort++;
  }
}

const wildcards = new Set(['0.0.0.0', '::']);

const key = ({ address, port }: Name): string => `${address}#${port}`;

function claim<T>(map: Map<string, T>, name: Name, value: T): void {
  if (map.has(key(name))) throw Object.assign(new Error(`${key(name)} is taken`), { code: 'EADDRINUSE' });
  map.set(key(name), value);
}

class FakeStream implements HostStream {
  owner: unknown = undefined;
  handler: StreamHandler | undefined;
  peer: FakeStream | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly #post: Post;
  readonly #open: Set<HostStream>;
  readonly #inbox = new Uint8Array(CAPACITY);
  #inboxOctets = 0;
  #peerEnded = false;
  #endRead = false;
  #ended = false;
  #refused = false;
  #code: HostErrorCode | undefined;
  #closed = false;

  constructor(post: Post, open: Set<HostStream>, local: Name, remote: Name) {
    this.#post = post;
    this.#open = open;
    this.localAddress = local.address;
    this.localPort = local.port;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
    open.add(this);
  }

  read(into: Uint8Array, offset: number, length: number): number {
    const octets = Math.min(length, this.#inboxOctets);
    if (octets > 0) {
      into.set(this.#inbox.subarray(0, octets), offset);
      this.#inbox.copyWithin(0, octets, this.#inboxOctets);
      this.#inboxOctets -= octets;
      this.peer?.roomGrew();
      return octets;
    }
    if (this.#code !== undefined) return FAILED;
    if (!this.#peerEnded) return WOULD_BLOCK;
    this.#endRead = true;
    this.#closeWhenDone();
    return END;
  }

  get writeRoom(): number {
    const room = this.peer ? CAPACITY - this.peer.#inboxOctets : 0;
    if (room < CAPACITY / 2) this.#refused = true;
    return room;
  }

  writev(fragments: FragmentList): number {
    const peer = this.peer;
    if (this.#closed || !peer) return fragments.octets;
    const octets = Math.min(fragments.octets, CAPACITY - peer.#inboxOctets);
    if (octets < fragments.octets) this.#refused = true;
    for (let i = 0, left = octets; left > 0; i++) {
      const { arena, offset, length } = fragments.items[i]!;
      const take = Math.min(length, left);
      peer.#inbox.set(arena.bytes.subarray(offset, offset + take), peer.#inboxOctets);
      peer.#inboxOctets += take;
      left -= take;
    }
    if (octets > 0) this.#post(() => peer.tell((handler) => handler.readable(peer)));
    return octets;
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    const peer = this.peer;
    this.#post(() => {
      if (!peer) return;
      peer.#peerEnded = true;
      peer.tell((handler) => handler.readable(peer));
      this.#closeWhenDone();
    });
  }

  abort(): void {
    const peer = this.peer;
    this.#post(() => {
      this.close();
      peer?.close('ECONNRESET');
    });
  }

  close(code?: HostErrorCode): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#code = code;
    this.#inboxOctets = 0;
    this.#open.delete(this);
    this.handler?.closed(this, code);
    this.handler = undefined;
  }

  roomGrew(): void {
    if (!this.#refused) return;
    this.#refused = false;
    this.#post(() => this.tell((handler) => handler.writable(this)));
  }

  tell(event: (handler: StreamHandler) => void): void {
    if (this.handler && !this.#closed) event(this.handler);
  }

  #closeWhenDone(): void {
    if (this.#ended && this.#endRead) this.#post(() => this.close());
  }
}

interface Medium {
  send(payload: Uint8Array, to: Name): void;
  close(): void;
}

class FakeDatagramSocket implements HostDatagramSocket {
  owner: unknown = undefined;
  readonly port: number;
  readonly #handler: HostDatagramHandler;
  readonly #medium: Medium;
  #open = true;

  constructor(port: number, handler: HostDatagramHandler, medium: Medium) {
    this.port = port;
    this.#handler = handler;
    this.#medium = medium;
  }

  send(payload: FragmentList, address: Address, port: number): boolean {
    if (!this.#open || payload.octets > LARGEST_DATAGRAM || port === 0) return false;
    const copy = new Uint8Array(payload.octets);
    let end = 0;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      copy.set(arena.bytes.subarray(offset, offset + length), end);
      end += length;
    }
    this.#medium.send(copy, { address: formatAddress(address), port });
    return true;
  }

  received(payload: Uint8Array, address: Address, port: number): void {
    if (this.#open) this.#handler.received(this, payload, address, port);
  }

  failed(code: HostErrorCode, to: Name, payload: Uint8Array): void {
    if (this.#open) this.#handler.failed(this, code, parseAddress(to.address)!, to.port, payload);
  }

  close(): void {
    this.#open = false;
    this.#medium.close();
  }
}
