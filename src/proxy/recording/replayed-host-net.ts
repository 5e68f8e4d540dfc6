/** The host's sockets as a recording has them. */

import type { Address, Fragment, FragmentList } from '../../stack/port.ts';
import {
  FAILED,
  type HostDatagramHandler,
  type HostDatagramSocket,
  type HostListener,
  type HostNetPort,
  type HostStream,
  type StreamHandler,
} from '../port.ts';
import { OctetSum } from './octet-sum.ts';
import type { Player } from './player.ts';

/** A promise that a recording settles. */
export interface Pending {
  settle(outcome: unknown): void;
}

type Payload = Uint8Array | undefined;
type Accept = (stream: HostStream) => StreamHandler;

export class ReplayedHostNet implements HostNetPort {
  readonly #player: Player;
  readonly #streams: ReplayedStream[] = [];
  readonly #sockets: ReplayedDatagramSocket[] = [];
  readonly #accepts = new Map<number, Accept>();
  readonly #promises: Pending[];

  /** `promises` are those of all that is asked of the outside, by their numbers. */
  constructor(player: Player, promises: Pending[]) {
    this.#player = player;
    this.#promises = promises;
    const stream = (values: Readonly<Record<string, unknown>>) => this.#streams[values.stream as number];
    const socket = (values: Readonly<Record<string, unknown>>) => this.#sockets[values.socket as number];
    for (const name of ['connected', 'readable', 'writable'] as const)
      player.on(name, (values) => {
        const told = stream(values);
        told?.handler?.[name](told);
      });
    player.on('closed', (values) => {
      const told = stream(values);
      told?.handler?.closed(told, values.code === '' ? undefined : String(values.code));
    });
    player.on('accepted', (values) => {
      const accept = this.#accepts.get(values.listener as number);
      const accepted = this.#stream(values.vectored === 1);
      if (accept) accepted.handler = accept(accepted);
    });
    player.on('received', (values) => {
      const told = socket(values);
      told?.handler.received(told, values.payload as Uint8Array, values.address as Address, values.port as number);
    });
    for (const name of ['failed', 'failed with'] as const)
      player.on(name, (values) => {
        const told = socket(values);
        const { code, port, payload } = values;
        const address = values.address as Address;
        if (address.length !== 16) told?.handler.failed(told, String(code));
        else told?.handler.failed(told, String(code), address, port as number, payload as Payload);
      });
    for (const name of ['expired', 'expired with'] as const)
      player.on(name, (values) => {
        const told = socket(values);
        const { router, address, port, payload } = values;
        told?.handler.expired?.(told, router as Address, address as Address, port as number, payload as Payload);
      });
    for (const name of ['too big', 'too big with'] as const)
      player.on(name, (values) => {
        const told = socket(values);
        const { mtu, address, port, payload } = values;
        told?.handler.tooBig?.(told, mtu as number, address as Address, port as number, payload as Payload);
      });
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    const stream = this.#stream(false, handler);
    if (this.#player.ask(0, 'connect', address, port) === 1) stream.vectored();
    return stream;
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    const stream = this.#stream(false, handler);
    if (this.#player.ask(0, 'connect path', path) === 1) stream.vectored();
    return stream;
  }

  listen(address: string, port: number, accept: Accept): Promise<HostListener> {
    const number = this.#promises.length;
    this.#accepts.set(number, accept);
    const listening = this.#listening(number, (listener) => listener);
    this.#player.call('listen', address, port);
    return listening;
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    const socket = this.#socket(handler);
    this.#player.call('bind', family);
    return socket;
  }

  listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    const socket = this.#socket(handler);
    const listening = this.#listening(this.#promises.length, (listener) => ({ ...listener, socket }));
    this.#player.call('listen datagram', address, port);
    return listening;
  }

  flush(): void {
    this.#player.call('flush host');
  }

  #listening<T>(number: number, wrap: (listener: HostListener) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#promises[number] = {
        settle: (outcome) => {
          const { error, address, port } = outcome as {
            error?: { message: string; code?: string };
            address: string;
            port: number;
          };
          if (error) reject(Object.assign(new Error(error.message), { code: error.code }));
          else resolve(wrap({ address, port, close: () => this.#player.call('close listener', number) }));
        },
      };
    });
  }

  #stream(vectored: boolean, handler?: StreamHandler): ReplayedStream {
    const stream = new ReplayedStream(this.#streams.length, this.#player, handler);
    if (vectored) stream.vectored();
    this.#streams.push(stream);
    return stream;
  }

  #socket(handler: HostDatagramHandler): ReplayedDatagramSocket {
    const socket = new ReplayedDatagramSocket(this.#sockets.length, this.#player, handler);
    this.#sockets.push(socket);
    return socket;
  }
}

class ReplayedStream implements HostStream {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #player: Player;
  readonly #sum = new OctetSum();
  handler: StreamHandler | undefined;
  readv?: (places: FragmentList) => number;

  constructor(number: number, player: Player, handler: StreamHandler | undefined) {
    this.#number = number;
    this.#player = player;
    this.handler = handler;
  }

  vectored(): void {
    this.readv = (places) => {
      const read = this.#player.askRead('readv', this.#number, places.octets);
      return this.#read(read, places.items, places.count);
    };
  }

  read(into: Uint8Array, offset: number, length: number): number {
    const read = this.#player.askRead('read', this.#number, length);
    if (!(read instanceof Uint8Array)) return read ?? FAILED;
    into.set(read.subarray(0, length), offset);
    return Math.min(read.length, length);
  }

  get writeRoom(): number {
    return this.#player.ask(0, 'room', this.#number);
  }

  writev(fragments: FragmentList): number {
    const sum = this.#sum.addAll(fragments).take();
    const taken = this.#player.ask(fragments.octets, 'write', this.#number, fragments.octets, sum);
    return Math.min(taken, fragments.octets);
  }

  end(): void {
    this.#player.call('end stream', this.#number);
  }

  abort(): void {
    this.#player.call('abort stream', this.#number);
  }

  get remoteAddress(): string {
    return this.#player.askText('name', this.#number, 'remote address');
  }

  get remotePort(): number {
    return Number(this.#player.askText('name', this.#number, 'remote port'));
  }

  get localAddress(): string {
    return this.#player.askText('name', this.#number, 'local address');
  }

  get localPort(): number {
    return Number(this.#player.askText('name', this.#number, 'local port'));
  }

  #read(read: Uint8Array | number | undefined, places: readonly Fragment[], count: number): number {
    if (!(read instanceof Uint8Array)) return read ?? FAILED;
    let done = 0;
    for (let i = 0; i < count && done < read.length; i++) {
      const { arena, offset, length } = places[i]!;
      const part = read.subarray(done, done + length);
      arena.bytes.set(part, offset);
      done += part.length;
    }
    return done;
  }
}

class ReplayedDatagramSocket implements HostDatagramSocket {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #player: Player;
  readonly #sum = new OctetSum();
  readonly handler: HostDatagramHandler;

  constructor(number: number, player: Player, handler: HostDatagramHandler) {
    this.#number = number;
    this.#player = player;
    this.handler = handler;
  }

  get port(): number {
    return this.#player.ask(0, 'socket port', this.#number);
  }

  send(payload: FragmentList, address: Address, port: number, hopLimit = 0, whole = false): boolean {
    const sum = this.#sum.addAll(payload).take();
    return (
      this.#player.ask(1, whole ? 'send whole' : 'send', this.#number, address, port, hopLimit, payload.octets, sum) ===
      1
    );
  }

  close(): void {
    this.#player.call('close socket', this.#number);
  }
}
