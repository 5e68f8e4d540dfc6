/**
 * UDP ASSOCIATE, RFC 1928 7: a UDP socket on the address that the client's connection came to, from which datagrams go on
 * to guests, and their answers come back. It is there for as long as that connection.
 *
 * The first datagram from the client's address, and from the port that it announced if it did, says whose it is; what
 * others send is dropped. So are fragments, and what is not for a guest. Names are looked up once.
 */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Address } from '../../stack/port.ts';
import type { Destination, Destinations } from '../entrance/destinations.ts';
import type { GuestDatagrams } from '../entrance/guest-datagrams.ts';
import { parseDatagram, writeDatagram } from '../entrance/socks-message.ts';

/** Names that are remembered, at most. */
const NAMES = 64;

export interface AssociationOptions {
  /** Where the client's connection is: this end's address, and its own. */
  readonly localAddress: string;
  readonly clientAddress: string;
  /** The port that the client says it sends from; 0: it does not say. */
  readonly clientPort: number;
  readonly destinations: Destinations;
  readonly open: (
    received: (address: Address, port: number, payload: Uint8Array) => void,
  ) => GuestDatagrams | undefined;
}

export class Association {
  readonly #options: AssociationOptions;
  readonly #socket: Socket;
  readonly #found = new Map<string, Promise<Destination>>();
  #clientPort: number;
  #guests: GuestDatagrams | undefined;
  #closed = false;

  private constructor(options: AssociationOptions) {
    this.#options = options;
    this.#clientPort = options.clientPort;
    this.#socket = createSocket(options.localAddress.includes(':') ? 'udp6' : 'udp4');
  }

  /** Rejects with an Error when there is no socket or no port left. */
  static async open(options: AssociationOptions): Promise<Association> {
    const association = new Association(options);
    const socket = association.#socket;
    try {
      await once(socket.bind(0, options.localAddress), 'listening');
      socket.on('error', () => undefined);
      association.#guests = options.open((address, port, payload) => {
        if (!association.#closed && association.#clientPort !== 0)
          socket.send(writeDatagram(address, port, payload), association.#clientPort, options.clientAddress);
      });
      if (!association.#guests) throw new Error('no port is free');
    } catch (error) {
      association.close();
      throw error;
    }
    socket.on('message', (bytes, from) => association.#sent(bytes, from.address, from.port));
    return association;
  }

  get port(): number {
    return this.#socket.address().port;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#guests?.close();
    this.#socket.close();
  }

  #sent(bytes: Buffer, address: string, port: number): void {
    if (address !== this.#options.clientAddress || (this.#clientPort !== 0 && port !== this.#clientPort)) return;
    const datagram = parseDatagram(bytes);
    if (!datagram || datagram.port === 0) return;
    this.#clientPort = port;
    const { host } = datagram;
    let found = this.#found.get(host);
    if (!found) {
      if (this.#found.size === NAMES) this.#found.clear();
      this.#found.set(host, (found = this.#options.destinations.find(host)));
    }
    void found.then((destination) => {
      if ('address' in destination && !this.#closed)
        this.#guests?.send(destination.address, datagram.port, datagram.payload);
    });
  }
}
