/** The host's sockets, of which everything is kept. */

import type { Address, FragmentList } from '../../stack/port.ts';
import type {
  HostDatagramHandler,
  HostDatagramSocket,
  HostErrorCode,
  HostListener,
  HostNetPort,
  HostStream,
  StreamHandler,
} from '../port.ts';
import { OctetSum } from './octet-sum.ts';
import type { Value } from './record-encoder.ts';
import type { Recorder } from './recorder.ts';

/** Numbers that a recording gives to sockets and promises; the replay gives the same. */
export class Numbers {
  streams = 0;
  sockets = 0;
  promises = 0;
}

export class RecordedHostNet implements HostNetPort {
  readonly #host: HostNetPort;
  readonly #recorder: Recorder;
  readonly #numbers: Numbers;

  constructor(host: HostNetPort, recorder: Recorder, numbers: Numbers) {
    this.#host = host;
    this.#recorder = recorder;
    this.#numbers = numbers;
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    const stream = new RecordedStream(this.#numbers.streams++, this.#recorder, handler);
    return this.#dialled(
      stream,
      this.#recorder.call('connect', [address, port], () => this.#host.connect(address, port, stream)),
    );
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    const stream = new RecordedStream(this.#numbers.streams++, this.#recorder, handler);
    return this.#dialled(
      stream,
      this.#recorder.call('connect path', [path], () => this.#host.connectPath(path, stream)),
    );
  }

  #dialled(stream: RecordedStream, inner: HostStream): HostStream {
    this.#recorder.gave(Number(inner.readv !== undefined));
    return stream.use(inner);
  }

  listen(address: string, port: number, accept: (stream: HostStream) => StreamHandler): Promise<HostListener> {
    const promise = this.#numbers.promises++;
    const accepted = (inner: HostStream): StreamHandler => {
      const stream = new RecordedStream(this.#numbers.streams++, this.#recorder, undefined).use(inner);
      this.#recorder.event('accepted', [promise, Number(inner.readv !== undefined)], () => {
        stream.handler = accept(stream);
      });
      return stream;
    };
    const listening = this.#recorder.call('listen', [address, port], () => this.#host.listen(address, port, accepted));
    return this.#settles(promise, listening, (listener) => listener);
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    const socket = new RecordedDatagramSocket(this.#numbers.sockets++, this.#recorder, handler);
    return socket.use(this.#recorder.call('bind', [family], () => this.#host.bindDatagram(family, socket)));
  }

  listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    const promise = this.#numbers.promises++;
    const socket = new RecordedDatagramSocket(this.#numbers.sockets++, this.#recorder, handler);
    const listening = this.#recorder.call('listen datagram', [address, port], () =>
      this.#host.listenDatagram(address, port, socket),
    );
    return this.#settles(promise, listening, (listener, inner) => ({ ...listener, socket: socket.use(inner.socket) }));
  }

  flush(): void {
    this.#recorder.call('flush host', [], () => this.#host.flush?.());
  }

  async #settles<Inner extends HostListener, T>(
    promise: number,
    listening: Promise<Inner>,
    wrap: (listener: HostListener, inner: Inner) => T,
  ): Promise<T> {
    const recorder = this.#recorder;
    const settled = (outcome: object): void => recorder.event('settled', [promise, outcome], () => undefined);
    try {
      const inner = await listening;
      const { address, port } = inner;
      settled({ address, port });
      const close = (): void => recorder.call('close listener', [promise], () => inner.close());
      return wrap({ address, port, close }, inner);
    } catch (error) {
      const { message, code } = error as Error & { code?: string };
      settled({ error: { message, code } });
      throw error;
    }
  }
}

class RecordedStream implements HostStream, StreamHandler {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #recorder: Recorder;
  readonly #sum = new OctetSum();
  #stream: HostStream | undefined;
  handler: StreamHandler | undefined;
  readv?: (places: FragmentList) => number;

  constructor(number: number, recorder: Recorder, handler: StreamHandler | undefined) {
    this.#number = number;
    this.#recorder = recorder;
    this.handler = handler;
  }

  use(stream: HostStream): this {
    this.#stream = stream;
    if (stream.readv) this.readv = (places) => this.#readv(places);
    return this;
  }

  connected(): void {
    this.#recorder.event('connected', [this.#number], () => this.handler?.connected(this));
  }

  readable(): void {
    this.#recorder.event('readable', [this.#number], () => this.handler?.readable(this));
  }

  writable(): void {
    this.#recorder.event('writable', [this.#number], () => this.handler?.writable(this));
  }

  closed(_stream: HostStream, code?: HostErrorCode): void {
    this.#recorder.event('closed', [this.#number, code ?? ''], () => this.handler?.closed(this, code));
  }

  read(into: Uint8Array, offset: number, length: number): number {
    const octets = this.#recorder.call('read', [this.#number, length], () => this.#inner.read(into, offset, length));
    if (octets > 0) this.#recorder.gaveOctets(into.subarray(offset, offset + octets));
    else this.#recorder.gave(octets);
    return octets;
  }

  #readv(places: FragmentList): number {
    const octets = this.#recorder.call('readv', [this.#number, places.octets], () => this.#inner.readv!(places));
    if (octets > 0) this.#recorder.gaveOctets(gathered(places, octets));
    else this.#recorder.gave(octets);
    return octets;
  }

  get writeRoom(): number {
    return this.#recorder.callFor('room', [this.#number], () => this.#inner.writeRoom);
  }

  writev(fragments: FragmentList): number {
    const values = [this.#number, fragments.octets, this.#sum.addAll(fragments).take()];
    return this.#recorder.callFor('write', values, () => this.#inner.writev(fragments));
  }

  end(): void {
    this.#recorder.call('end stream', [this.#number], () => this.#inner.end());
  }

  abort(): void {
    this.#recorder.call('abort stream', [this.#number], () => this.#inner.abort());
  }

  get remoteAddress(): string {
    return this.#name('remote address', () => this.#inner.remoteAddress);
  }

  get remotePort(): number {
    return Number(this.#name('remote port', () => String(this.#inner.remotePort)));
  }

  get localAddress(): string {
    return this.#name('local address', () => this.#inner.localAddress);
  }

  get localPort(): number {
    return Number(this.#name('local port', () => String(this.#inner.localPort)));
  }

  get #inner(): HostStream {
    return this.#stream!;
  }

  #name(of: string, read: () => string): string {
    const found = this.#recorder.call('name', [this.#number, of], read);
    this.#recorder.gaveText(found);
    return found;
  }
}

class RecordedDatagramSocket implements HostDatagramSocket, HostDatagramHandler {
  owner: unknown = undefined;
  readonly #number: number;
  readonly #recorder: Recorder;
  readonly #handler: HostDatagramHandler;
  readonly #sum = new OctetSum();
  #socket: HostDatagramSocket | undefined;

  constructor(number: number, recorder: Recorder, handler: HostDatagramHandler) {
    this.#number = number;
    this.#recorder = recorder;
    this.#handler = handler;
  }

  use(socket: HostDatagramSocket): this {
    this.#socket = socket;
    return this;
  }

  received(inner: HostDatagramSocket, payload: Uint8Array, address: Address, port: number): void {
    this.#socket ??= inner;
    this.#recorder.event('received', [this.#number, payload, address, port], () =>
      this.#handler.received(this, payload, address, port),
    );
  }

  failed(inner: HostDatagramSocket, code: HostErrorCode, address?: Address, port = 0, payload?: Uint8Array): void {
    this.#socket ??= inner;
    this.#told('failed', [this.#number, code, address ?? new Uint8Array(0), port], payload, () =>
      address ? this.#handler.failed(this, code, address, port, payload) : this.#handler.failed(this, code),
    );
  }

  expired(inner: HostDatagramSocket, router: Address, address: Address, port: number, payload?: Uint8Array): void {
    this.#socket ??= inner;
    this.#told('expired', [this.#number, router, address, port], payload, () =>
      this.#handler.expired?.(this, router, address, port, payload),
    );
  }

  tooBig(inner: HostDatagramSocket, mtu: number, address: Address, port: number, payload?: Uint8Array): void {
    this.#socket ??= inner;
    this.#told('too big', [this.#number, mtu, address, port], payload, () =>
      this.#handler.tooBig?.(this, mtu, address, port, payload),
    );
  }

  #told(
    name: 'failed' | 'expired' | 'too big',
    values: readonly Value[],
    payload: Uint8Array | undefined,
    tell: () => void,
  ): void {
    if (payload) this.#recorder.event(`${name} with`, [...values, payload], tell);
    else this.#recorder.event(name, values, tell);
  }

  get port(): number {
    return this.#recorder.callFor('socket port', [this.#number], () => this.#socket!.port);
  }

  send(payload: FragmentList, address: Address, port: number, hopLimit?: number, whole?: boolean): boolean {
    const values = [this.#number, address, port, hopLimit ?? 0, payload.octets, this.#sum.addAll(payload).take()];
    return this.#recorder.callFor(whole ? 'send whole' : 'send', values, () =>
      this.#socket!.send(payload, address, port, hopLimit, whole),
    );
  }

  close(): void {
    this.#recorder.call('close socket', [this.#number], () => this.#socket!.close());
  }
}

/** The first `octets` of some places, as one. */
function gathered({ items }: FragmentList, octets: number): Uint8Array {
  const found = new Uint8Array(octets);
  for (let i = 0, at = 0; at < octets; i++) {
    const { arena, offset, length } = items[i]!;
    const part = arena.bytes.subarray(offset, offset + Math.min(length, octets - at));
    found.set(part, at);
    at += part.length;
  }
  return found;
}
