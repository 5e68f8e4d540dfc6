/**
 * The host's network through Node: TCP and unix sockets (`node-stream.ts`), UDP sockets (`node-datagram.ts`) and
 * listeners. Addresses are numeric throughout, so nothing here resolves a name.
 */

import net from 'node:net';
import type { Address } from '../../stack/port.ts';
import type {
  HostDatagramHandler,
  HostDatagramSocket,
  HostListener,
  HostNetPort,
  HostStream,
  StreamHandler,
} from '../port.ts';
import { numericHost } from './interface-scope.ts';
import { DatagramShared, NodeDatagramSocket } from './node-datagram.ts';
import { NodeStream, type StreamShared } from './node-stream.ts';
import { ReadPool } from './read-pool.ts';
import { WritePool } from './write-pool.ts';

/** Connections the kernel holds for us while we are busy; it lowers this to its own limit. */
const BACKLOG = 4096;

export class NodeHostNet implements HostNetPort {
  readonly #streams: StreamShared;
  readonly #datagrams: DatagramShared;

  /** `serviced` is told after handlers were called: the owner polls the stack when all that is ready has been told. */
  constructor(serviced: () => void = () => {}) {
    this.#streams = { read: new ReadPool(), write: new WritePool(), serviced };
    this.#datagrams = new DatagramShared(serviced);
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    return this.#connect({ host: numericHost(address), port, noDelay: true, autoSelectFamily: false }, true, handler);
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    return this.#connect({ path }, false, handler);
  }

  async listen(address: string, port: number, accept: (stream: HostStream) => StreamHandler): Promise<HostListener> {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (accepted) => {
      const stream = new NodeStream(this.#streams, true);
      stream.adopt(adopt(accepted, stream), accept);
      this.#streams.serviced();
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port, backlog: BACKLOG, ipv6Only: true, exclusive: true }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    // Out of file descriptors, for one: those that wait in the backlog are served when there are some again.
    server.on('error', () => {});
    const bound = server.address() as net.AddressInfo;
    return { address: bound.address, port: bound.port, close: () => server.close() };
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    const socket = new NodeDatagramSocket(family, handler, this.#datagrams);
    socket.bindNow();
    return socket;
  }

  listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    const family = address.includes(':') ? 6 : 4;
    return new NodeDatagramSocket(family, handler, this.#datagrams).listen(address, port);
  }

  #connect(to: net.NetConnectOpts, tcp: boolean, handler: StreamHandler): HostStream {
    const stream = new NodeStream(this.#streams, tcp);
    stream.attach(net.connect({ ...to, allowHalfOpen: true, onread: stream.onread() }), handler);
    return stream;
  }
}

/** Node's servers make sockets without `onread`: makes one that has it around the same handle. */
function adopt(accepted: net.Socket, stream: NodeStream): net.Socket {
  const { _handle: handle } = accepted as unknown as { _handle: unknown };
  Object.assign(accepted, { _handle: null });
  return new net.Socket({ handle, onread: stream.onread(), allowHalfOpen: true } as net.SocketConstructorOpts);
}
