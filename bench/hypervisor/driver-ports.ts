/** The guest's end of a link, made of memory laid down before: QEMU's stream framing, and virtqueues with 64 KiB segments. */

import net from 'node:net';
import { sum } from '../../src/stack/wire/checksum.ts';
import { CHECKSUM } from '../../src/stack/wire/tcp.ts';
import { FrontEnd } from '../../test/hypervisor/vhost-user/front-end.ts';
import { CHECKSUM_START, type DriverPort, type DriverTcp, HEADERS } from './driver-tcp.ts';

const SLAB = 256 << 10;
const SLABS = 16;
const PREFIX = 4;
const READ = 256 << 10;
const HEAD = 70_000;

interface Slab {
  readonly buffer: Buffer;
  readonly view: DataView;
  start: number;
  end: number;
  writes: number;
}

/** MTU-sized frames with checksums, in writes of up to 256 KiB: kinder than QEMU, which writes each by itself. */
export class StreamPort implements DriverPort {
  readonly payloadOctets: number;
  readonly offload = false;
  readonly #socket: net.Socket;
  readonly #free: Slab[] = [];
  readonly #payloadSum: number;
  #slab: Slab | undefined;
  #wants = false;
  #tcp: DriverTcp | undefined;

  constructor(path: string, mtu: number) {
    this.payloadOctets = mtu - 40;
    for (let i = 0; i < SLABS; i++) {
      const buffer = Buffer.alloc(SLAB, 0x5a);
      this.#free.push({ buffer, view: new DataView(buffer.buffer, buffer.byteOffset), start: 0, end: 0, writes: 0 });
    }
    const { view } = this.#free[0]!;
    this.#payloadSum = sum(view, 0, this.payloadOctets);
    const rx = new Uint8Array(HEAD + READ);
    const rxView = new DataView(rx.buffer);
    let carried = 0;
    const received = (octets: number): boolean => {
      const end = HEAD + octets;
      let at = HEAD - carried;
      while (end - at >= PREFIX) {
        const length = rxView.getUint32(at);
        if (end - at - PREFIX < length) break;
        this.#tcp!.input(rxView, at + PREFIX, length);
        at += PREFIX + length;
      }
      carried = end - at;
      rx.copyWithin(HEAD - carried, at, end);
      this.#tcp!.settle();
      return true;
    };
    this.#socket = net.connect({ path, onread: { buffer: rx.subarray(HEAD), callback: received } });
  }

  async open(tcp: DriverTcp): Promise<void> {
    this.#tcp = tcp;
    await new Promise((resolve) => this.#socket.once('connect', resolve));
    tcp.connect();
  }

  room(): { view: DataView; at: number; payloadSum: number } | undefined {
    const whole = PREFIX + HEADERS + this.payloadOctets;
    if (this.#slab && this.#slab.end + whole > SLAB) this.flush();
    const slab = (this.#slab ??= this.#free.pop());
    this.#wants = slab === undefined;
    return slab && { view: slab.view, at: slab.end + PREFIX, payloadSum: this.#payloadSum };
  }

  send(octets: number): void {
    const slab = this.#slab!;
    slab.view.setUint32(slab.end, octets);
    slab.end += PREFIX + octets;
  }

  sendSmall(frame: Uint8Array): void {
    const copy = Buffer.alloc(PREFIX + frame.length);
    copy.writeUInt32BE(frame.length);
    copy.set(frame, PREFIX);
    this.flush();
    this.#socket.write(copy);
  }

  flush(): void {
    const slab = this.#slab;
    if (!slab || slab.end === 0) return;
    this.#slab = undefined;
    this.#socket.write(slab.buffer.subarray(0, slab.end), () => {
      slab.end = 0;
      this.#free.push(slab);
      if (!this.#wants) return;
      this.#wants = false;
      this.#tcp!.writable();
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

const RX = 0;
const TX = 1;
const NET_HEADER = 12;
/** As Linux asks for pages: TCP's payload and receive buffers lie in stretches of this, receive buffers one behind the other. */
const STRETCH = 32 << 10;
const RECEIVE_BUFFER = 4096;
const RECEIVE_BUFFERS = 1016;
const PLACES = 48;
const SMALLS = 128;

/** A full frame's descriptors; the first holds its headers. */
interface Place {
  readonly header: number;
  readonly pieces: { offset: number; length: number; writable: boolean }[];
}

/**
 * Segments of 64 KiB with partial checksums, merged receive buffers, no interrupts while it is busy: as a Linux guest
 * with all offloads.
 */
export class VhostUserPort implements DriverPort {
  readonly payloadOctets: number;
  readonly offload = true;
  readonly #frontEnd: FrontEnd;
  readonly #segmentOctets: number;
  readonly #places: Place[] = [];
  readonly #smalls: number[] = [];
  readonly #inFlight = new Map<number, Place | number>();
  readonly #buffers: number[] = [];
  #place: Place | undefined;
  #wants = false;
  #offered = false;
  #closed = false;
  #tcp: DriverTcp | undefined;

  constructor(path: string, mtu: number) {
    this.#segmentOctets = mtu - 40;
    this.payloadOctets = Math.floor((65535 - 40) / this.#segmentOctets) * this.#segmentOctets;
    this.#frontEnd = new FrontEnd(path, [1024, 256], 64 << 20);
    const { ram } = this.#frontEnd;
    for (let i = 0; i < PLACES; i++) {
      const header = ram.allocate(NET_HEADER + HEADERS, 64);
      const pieces = [{ offset: header, length: NET_HEADER + HEADERS, writable: false }];
      for (let left = this.payloadOctets; left > 0; left -= STRETCH)
        pieces.push({ offset: ram.allocate(STRETCH + 4096, 4096), length: Math.min(left, STRETCH), writable: false });
      this.#places.push({ header, pieces });
    }
    for (let i = 0; i < SMALLS; i++) this.#smalls.push(ram.allocate(256, 64));
  }

  async open(tcp: DriverTcp): Promise<void> {
    this.#tcp = tcp;
    await this.#frontEnd.start();
    const { ram } = this.#frontEnd;
    for (let i = 0; i < RECEIVE_BUFFERS; i += STRETCH / RECEIVE_BUFFER) {
      const stretch = ram.allocate(STRETCH + 4096, 4096);
      for (let at = 0; at < STRETCH; at += RECEIVE_BUFFER) this.#refill(stretch + at);
    }
    this.#frontEnd.queues[RX]!.kick();
    this.#frontEnd.queues[TX]!.wantCalls(false);
    this.#frontEnd.onCall = (index) => (index === RX ? this.#poll() : this.#returned());
    tcp.connect();
  }

  room(): { view: DataView; at: number; payloadSum: number } | undefined {
    if (!this.#places.at(-1)) this.#reclaim();
    this.#place = this.#places.pop();
    if (!this.#place && !this.#wants) {
      this.#wants = true;
      this.#frontEnd.queues[TX]!.wantCalls(true);
      this.#reclaim();
      this.#place = this.#places.pop();
    }
    return this.#place && { view: this.#frontEnd.ram.view, at: this.#place.header + NET_HEADER, payloadSum: 0 };
  }

  send(): void {
    const place = this.#place!;
    const { view } = this.#frontEnd.ram;
    view.setUint32(place.header, 0);
    view.setUint8(place.header, 1);
    view.setUint8(place.header + 1, 1);
    view.setUint16(place.header + 2, HEADERS, true);
    view.setUint16(place.header + 4, this.#segmentOctets, true);
    view.setUint16(place.header + 6, CHECKSUM_START, true);
    view.setUint16(place.header + 8, CHECKSUM, true);
    this.#inFlight.set(this.#frontEnd.queues[TX]!.add(place.pieces), place);
    this.#offered = true;
  }

  sendSmall(frame: Uint8Array): void {
    if (this.#smalls.length === 0) this.#reclaim();
    const at = this.#smalls.pop();
    if (at === undefined) throw new Error('the link takes no more');
    const { ram, queues } = this.#frontEnd;
    ram.bytes.fill(0, at, at + NET_HEADER);
    ram.bytes.set(frame, at + NET_HEADER);
    this.#inFlight.set(queues[TX]!.add([{ offset: at, length: NET_HEADER + frame.length, writable: false }]), at);
    this.#offered = true;
  }

  flush(): void {
    if (!this.#offered) return;
    this.#offered = false;
    this.#frontEnd.queues[TX]!.kick();
  }

  close(): void {
    this.#closed = true;
    this.#frontEnd.close();
  }

  #reclaim(): void {
    for (const { head } of this.#frontEnd.queues[TX]!.takeUsed()) {
      const place = this.#inFlight.get(head)!;
      if (typeof place === 'number') this.#smalls.push(place);
      else this.#places.push(place);
    }
  }

  #returned(): void {
    this.#reclaim();
    if (!this.#wants) return;
    this.#wants = false;
    this.#frontEnd.queues[TX]!.wantCalls(false);
    this.#tcp!.writable();
  }

  /** Takes what there is, turn by turn, until there is nothing. */
  #poll(): void {
    const queue = this.#frontEnd.queues[RX]!;
    queue.wantCalls(false);
    this.#receive();
    if (!queue.hasUsed) queue.wantCalls(true);
    if (queue.hasUsed) setImmediate(() => !this.#closed && this.#poll());
  }

  #refill(offset: number): void {
    this.#buffers[this.#frontEnd.queues[RX]!.add([{ offset, length: RECEIVE_BUFFER, writable: true }])] = offset;
  }

  #receive(): void {
    const { ram, queues } = this.#frontEnd;
    const used = queues[RX]!.takeUsed().map(({ head, length }) => ({ offset: this.#buffers[head]!, length }));
    for (let i = 0; i < used.length; ) {
      const { offset } = used[i]!;
      const end = i + ram.view.getUint16(offset + 10, true);
      let octets = -NET_HEADER;
      for (; i < end; i++) octets += used[i]!.length;
      this.#tcp!.input(ram.view, offset + NET_HEADER, octets);
    }
    for (const { offset } of used) this.#refill(offset);
    if (used.length > 0) queues[RX]!.kick();
    this.#tcp!.settle();
  }
}
