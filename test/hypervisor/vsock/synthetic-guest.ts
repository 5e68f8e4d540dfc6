/**
 * A guest's vsock stack for tests, on a synthetic front end: it listens and connects, and its streams are Node Duplexes
 * that honour credit, half-close and reset as Linux's do (a credit update once less than 64 KiB of the window is free,
 * SHUTDOWN at the end, RST for what it does not know). Its window and its manners can be spoilt by the test.
 */

import { Duplex } from 'node:stream';
import {
  emitPacketHeader,
  emptyHeader,
  op,
  type PacketHeader,
  parsePacketHeader,
  typeStream,
} from '../../../src/hypervisor/vsock/packet.ts';
import { FrontEnd } from '../vhost-user/front-end.ts';

const rx = 0;
const tx = 1;
const headerOctets = 44;
const rxBuffers = 64;
const rxOctets = 4096;
const txSlots = 32;
const txOctets = headerOctets + 65536;

export class GuestStream extends Duplex {
  readonly guest: SyntheticGuest;
  readonly localPort: number;
  readonly remotePort: number;
  established = false;
  peerBufAlloc = 0;
  peerFwdCnt = 0;
  txCnt = 0;
  rxCnt = 0;
  fwdCnt = 0;
  toldFwdCnt = 0;
  peerShutdown = 0;
  sentShutdown = 0;
  gone = false;
  wasReset = false;
  readonly #received: Buffer[] = [];
  #wanted = false;
  #ended = false;
  #output: { chunk: Buffer; done: (error?: Error | null) => void } | undefined;

  constructor(guest: SyntheticGuest, localPort: number, remotePort: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: 65536, writableHighWaterMark: 65536 });
    this.guest = guest;
    this.localPort = localPort;
    this.remotePort = remotePort;
  }

  /** Octets this guest holds unread. */
  get unread(): number {
    return (this.rxCnt - this.fwdCnt) >>> 0;
  }

  override _read(): void {
    this.#wanted = true;
    while (this.#wanted && this.#received.length > 0) {
      const chunk = this.#received.shift()!;
      this.fwdCnt = (this.fwdCnt + chunk.length) >>> 0;
      this.#wanted = this.push(chunk);
    }
    const free = this.guest.bufAlloc - ((this.fwdCnt - this.toldFwdCnt) >>> 0);
    if (!this.gone && this.fwdCnt !== this.toldFwdCnt && free < Math.min(65536, this.guest.bufAlloc))
      this.guest.control(this, op.CREDIT_UPDATE);
    this.#maybeEnd();
  }

  receive(data: Buffer): void {
    this.rxCnt = (this.rxCnt + data.length) >>> 0;
    if (this.unread > this.guest.bufAlloc) this.guest.violations++;
    this.#received.push(data);
    if (this.#wanted) this._read();
  }

  peerEnded(flags: number): void {
    this.peerShutdown |= flags;
    if ((this.peerShutdown & 1) !== 0) this.#failWrite();
    this.#maybeEnd();
    // As Linux: nothing left to read and both flags: RST, and done.
    if (this.peerShutdown === 3 && this.#received.length === 0 && !this.gone) {
      this.guest.control(this, op.RST);
      this.guest.forget(this);
    }
  }

  reset(): void {
    this.wasReset = true;
    this.peerShutdown = 3;
    this.guest.forget(this);
    this.#failWrite();
    if (!this.established) this.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    else if (this.sentShutdown === 3) this.#maybeEnd();
    else this.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
  }

  #maybeEnd(): void {
    if ((this.peerShutdown & 2) === 0 || this.#received.length > 0 || this.#ended) return;
    this.#ended = true;
    this.push(null);
  }

  #failWrite(): void {
    const output = this.#output;
    this.#output = undefined;
    output?.done(Object.assign(new Error('the host takes nothing more'), { code: 'EPIPE' }));
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#output = { chunk, done };
    this.pump();
  }

  /** Sends what credit and slots allow. */
  pump(): void {
    while (this.#output && this.established) {
      if (this.gone || (this.peerShutdown & 1) !== 0) {
        this.#failWrite();
        return;
      }
      const free = Math.max(0, this.peerBufAlloc - ((this.txCnt - this.peerFwdCnt) >>> 0));
      const octets = Math.min(this.#output.chunk.length, free, 65536);
      if (octets === 0 || !this.guest.data(this, this.#output.chunk.subarray(0, octets))) return;
      this.txCnt = (this.txCnt + octets) >>> 0;
      this.#output.chunk = this.#output.chunk.subarray(octets);
      if (this.#output.chunk.length > 0) continue;
      const { done } = this.#output;
      this.#output = undefined;
      done();
    }
  }

  override _final(done: (error?: Error | null) => void): void {
    this.shutdown(2);
    done();
  }

  shutdown(flags: number): void {
    if ((this.sentShutdown | flags) === this.sentShutdown || this.gone) return;
    this.sentShutdown |= flags;
    this.guest.control(this, op.SHUTDOWN, this.sentShutdown);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.established) this.shutdown(3);
    this.#output = undefined;
    done(error);
  }
}

export class SyntheticGuest {
  readonly frontEnd: FrontEnd;
  readonly cid: number;
  bufAlloc = 256 * 1024;
  /** Packets from the host beyond the credit given. */
  violations = 0;
  readonly #streams = new Map<string, GuestStream>();
  readonly #listeners = new Map<number, (stream: GuestStream) => void>();
  readonly #pending = new Map<GuestStream, (error?: Error) => void>();
  readonly #rxOffsets = new Map<number, number>();
  readonly #txOffsets = new Map<number, number>();
  readonly #freeSlots: number[] = [];
  readonly #controls: (() => void)[] = [];
  readonly #held: number[] = [];
  /** A guest that gives no receive buffer back until `offerHeldBuffers`. */
  holdReceiveBuffers = false;
  readonly #header = emptyHeader();
  #nextPort = 0x1000;
  #closed = false;
  /** Sees every packet from the host before the stack does; true: the test has dealt with it. */
  intercept: (header: PacketHeader, data: Buffer) => boolean = () => false;

  constructor(socketPath: string, cid = 3) {
    this.cid = cid;
    this.frontEnd = new FrontEnd(socketPath, [128, 128, 16]);
    for (let index = 0; index < txSlots; index++) this.#freeSlots.push(this.frontEnd.ram.allocate(txOctets));
  }

  async start(): Promise<void> {
    for (let index = 0; index < rxBuffers; index++) this.#offerRx(this.frontEnd.ram.allocate(rxOctets));
    this.frontEnd.onCall = () => this.poll();
    await this.frontEnd.start();
  }

  get size(): number {
    return this.#streams.size;
  }

  listen(port: number, accept: (stream: GuestStream) => void): void {
    this.#listeners.set(port, accept);
  }

  unlisten(port: number): void {
    this.#listeners.delete(port);
  }

  connect(port: number): Promise<GuestStream> {
    const stream = new GuestStream(this, this.#nextPort++, port);
    this.#streams.set(key(stream.localPort, port), stream);
    return new Promise((resolve, reject) => {
      this.#pending.set(stream, (error) => (error ? reject(error) : resolve(stream)));
      this.control(stream, op.REQUEST);
    });
  }

  #offerRx(offset: number): void {
    const head = this.frontEnd.queues[rx]!.add([{ offset, length: rxOctets, writable: true }]);
    this.#rxOffsets.set(head, offset);
  }

  offerHeldBuffers(): void {
    for (const offset of this.#held.splice(0)) this.#offerRx(offset);
    this.frontEnd.queues[rx]!.kick();
  }

  /** Takes in whatever the device has returned. */
  poll(): void {
    const { ram, queues } = this.frontEnd;
    for (const { head } of queues[tx]!.takeUsed()) this.#freeSlots.push(this.#txOffsets.get(head)!);
    const again = queues[rx]!.takeUsed().map(({ head, length }) => ({ offset: this.#rxOffsets.get(head)!, length }));
    for (const { offset, length } of again) {
      const header = { ...this.#header };
      parsePacketHeader(ram.view, offset, header);
      const data = Buffer.from(ram.bytes.slice(offset + headerOctets, offset + length));
      if (!this.intercept(header, data)) this.#receive(header, data);
      if (this.holdReceiveBuffers) this.#held.push(offset);
      else this.#offerRx(offset);
    }
    if (again.length > 0) queues[rx]!.kick();
    while (this.#controls.length > 0 && this.#freeSlots.length > 0) this.#controls.shift()!();
    for (const stream of this.#streams.values()) stream.pump();
  }

  #receive(header: PacketHeader, data: Buffer): void {
    const stream = this.#streams.get(key(header.dstPort, header.srcPort));
    if (header.op === op.REQUEST) {
      this.#request(header);
      return;
    }
    if (!stream) {
      if (header.op !== op.RST) this.raw({ ...header, srcPort: header.dstPort, dstPort: header.srcPort, op: op.RST });
      return;
    }
    stream.peerBufAlloc = header.bufAlloc;
    stream.peerFwdCnt = header.fwdCnt;
    const settle = this.#pending.get(stream);
    if (header.op === op.RST) {
      this.#pending.delete(stream);
      stream.on('error', () => {});
      stream.reset();
      settle?.(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    } else if (header.op === op.RESPONSE) {
      stream.established = true;
      this.#pending.delete(stream);
      settle?.();
    } else if (header.op === op.RW) stream.receive(data);
    else if (header.op === op.SHUTDOWN) stream.peerEnded(header.flags);
    else if (header.op === op.CREDIT_REQUEST) this.control(stream, op.CREDIT_UPDATE);
  }

  #request(header: PacketHeader): void {
    const accept = this.#listeners.get(header.dstPort);
    if (!accept) {
      this.raw({ ...header, srcPort: header.dstPort, dstPort: header.srcPort, op: op.RST });
      return;
    }
    const stream = new GuestStream(this, header.dstPort, header.srcPort);
    stream.established = true;
    stream.peerBufAlloc = header.bufAlloc;
    this.#streams.set(key(stream.localPort, stream.remotePort), stream);
    this.control(stream, op.RESPONSE);
    accept(stream);
  }

  forget(stream: GuestStream): void {
    stream.gone = true;
    this.#streams.delete(key(stream.localPort, stream.remotePort));
  }

  control(stream: GuestStream, operation: number, flags = 0): void {
    if (operation !== op.REQUEST && operation !== op.RST) stream.toldFwdCnt = stream.fwdCnt;
    this.raw({
      ...this.#header,
      srcPort: stream.localPort,
      dstPort: stream.remotePort,
      op: operation,
      flags,
      bufAlloc: this.bufAlloc,
      fwdCnt: stream.fwdCnt,
    });
  }

  /** Sends data; false: no slot now. */
  data(stream: GuestStream, chunk: Uint8Array): boolean {
    if (this.#freeSlots.length === 0 || this.#controls.length > 0) return false;
    stream.toldFwdCnt = stream.fwdCnt;
    this.raw(
      {
        ...this.#header,
        srcPort: stream.localPort,
        dstPort: stream.remotePort,
        op: op.RW,
        bufAlloc: this.bufAlloc,
        fwdCnt: stream.fwdCnt,
      },
      chunk,
    );
    return true;
  }

  /** Sends any packet at all; waits for a slot if need be. Addresses and length are filled in unless given. */
  raw(header: PacketHeader, data: Uint8Array = new Uint8Array(0), keep = false): void {
    if (this.#closed) return;
    const slot = this.#freeSlots.pop();
    if (slot === undefined) {
      const copy = Uint8Array.from(data);
      this.#controls.push(() => this.raw(header, copy, keep));
      return;
    }
    const { ram, queues } = this.frontEnd;
    const whole = keep ? header : { ...header, srcCid: this.cid, dstCid: 2, len: data.length, type: typeStream };
    emitPacketHeader(ram.view, slot, whole);
    ram.bytes.set(data, slot + headerOctets);
    const head = queues[tx]!.add([{ offset: slot, length: headerOctets + data.length, writable: false }]);
    this.#txOffsets.set(head, slot);
    queues[tx]!.kick();
  }

  close(): void {
    this.#closed = true;
    for (const stream of [...this.#streams.values()]) {
      stream.on('error', () => {});
      this.forget(stream);
      stream.destroy();
    }
    this.frontEnd.close();
  }
}

const key = (local: number, remote: number): string => `${local}:${remote}`;
