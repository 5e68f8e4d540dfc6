/**
 * A host UDP socket: `HostDatagramSocket` over Node's `dgram`, unconnected. Node sends at once where the kernel lets
 * it, and then the octets are the caller's again; only a datagram that had to be queued keeps its buffer, and the
 * socket takes another. Text forms of addresses are kept for the peer last spoken to, since most have one.
 *
 * An unconnected socket of Linux hears of ICMP errors only where it asks (IP_RECVERR, which Node does not, and
 * linux-datagram.ts does); what the kernel answers at once, such as EHOSTUNREACH or EMSGSIZE, comes through `failed`. Hop limits are the host's
 * own: without the error queue nobody would learn where a datagram expired.
 */

import dgram from 'node:dgram';
import type { Address, FragmentList } from '../../stack/port.ts';
import { equal } from '../../stack/wire/address.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostListener } from '../port.ts';
import { numericHost, parseNumericHost } from './interface-scope.ts';

/** Largest UDP payload over IPv4. */
const LARGEST = 65507;
/** Datagrams waiting in Node beyond this are dropped. */
const QUEUE_OCTETS = 256 * 1024;

/** What all sockets of one adapter share. */
export class DatagramShared {
  /** Where datagrams are put together; replaced when a send had to be queued. */
  sendBuffer = Buffer.allocUnsafeSlow(LARGEST);
  /** A handler was called: what it did may have made work for the stack. */
  readonly serviced: () => void;

  constructor(serviced: () => void) {
    this.serviced = serviced;
  }
}

/** Addresses are numeric: nothing is to be resolved, and nothing waits. */
const noLookup: dgram.SocketOptions['lookup'] = (address, _options, done) =>
  done(null, address, address.includes(':') ? 6 : 4);

export class NodeDatagramSocket implements HostDatagramSocket {
  owner: unknown = undefined;
  readonly #socket: dgram.Socket;
  readonly #handler: HostDatagramHandler;
  readonly #shared: DatagramShared;
  #open = true;
  #bound = false;
  #toAddress: Address = new Uint8Array(16);
  #toText = '::';
  #fromText = '';
  #fromAddress: Address | undefined;
  readonly #sent = (error: Error | null): void => {
    if (error) this.#failed(error);
  };

  constructor(family: 4 | 6, handler: HostDatagramHandler, shared: DatagramShared) {
    this.#handler = handler;
    this.#shared = shared;
    this.#socket = dgram.createSocket({
      type: family === 4 ? 'udp4' : 'udp6',
      ipv6Only: family === 6,
      lookup: noLookup,
    });
    this.#socket.on('message', (payload, from) => this.#received(payload, from.address, from.port));
  }

  /** Binds at once; after a failure, which `failed` tells, `port` is 0 and nothing is sent. */
  bindNow(): void {
    let binding = true;
    this.#socket.on('error', (error: NodeJS.ErrnoException) => {
      // Told when the owner knows the socket, also where it has let go of it by then.
      if (binding) setImmediate(() => this.#tell(error.code));
      else this.#failed(error);
    });
    this.#socket.once('listening', () => {
      this.#bound = true;
    });
    this.#socket.bind({ port: 0, exclusive: true });
    binding = false;
  }

  listen(address: string, port: number): Promise<HostListener & { socket: HostDatagramSocket }> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      socket.once('error', (error) => {
        this.close();
        reject(error);
      });
      socket.bind({ address, port, exclusive: true }, () => {
        socket.removeAllListeners('error');
        socket.on('error', (error) => this.#failed(error));
        this.#bound = true;
        const bound = socket.address();
        resolve({ address: bound.address, port: bound.port, socket: this, close: () => this.close() });
      });
    });
  }

  get port(): number {
    return this.#bound ? this.#socket.address().port : 0;
  }

  send(payload: FragmentList, address: Address, port: number): boolean {
    if (!this.#bound || payload.octets > LARGEST || port === 0) return false;
    const socket = this.#socket;
    const queued = socket.getSendQueueSize();
    if (queued > QUEUE_OCTETS) return false;
    const bytes = this.#shared.sendBuffer;
    let end = 0;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      bytes.set(arena.bytes.subarray(offset, offset + length), end);
      end += length;
    }
    socket.send(bytes.subarray(0, end), port, this.#textOf(address), this.#sent);
    if (this.#open && socket.getSendQueueSize() > queued) this.#shared.sendBuffer = Buffer.allocUnsafeSlow(LARGEST);
    return true;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#bound = false;
    this.#socket.close();
  }

  #textOf(address: Address): string {
    if (!equal(address, this.#toAddress)) {
      this.#toAddress.set(address);
      this.#toText = numericHost(address);
    }
    return this.#toText;
  }

  #received(payload: Uint8Array, from: string, port: number): void {
    if (from !== this.#fromText) {
      this.#fromText = from;
      this.#fromAddress = parseNumericHost(from);
    }
    if (!this.#open || !this.#fromAddress) return;
    this.#handler.received(this, payload, this.#fromAddress, port);
    this.#shared.serviced();
  }

  #tell(code = 'EIO'): void {
    this.#handler.failed(this, code);
    this.#shared.serviced();
  }

  #failed(error: NodeJS.ErrnoException): void {
    if (!this.#open) return;
    const { code = 'EIO', address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
    const to = address === undefined ? undefined : parseNumericHost(address);
    if (to) this.#handler.failed(this, code, to, port);
    else this.#handler.failed(this, code);
    this.#shared.serviced();
  }
}
