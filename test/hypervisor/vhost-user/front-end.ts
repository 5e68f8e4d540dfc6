/**
 * QEMU and a guest driver in one, for tests: guest memory in a memfd, the vhost-user messages that start a device, and
 * split virtqueues driven from the guest's side. Tests may write anything at all into the rings.
 */

import koffi from 'koffi';
import { flagNeedReply, type Message, request } from '../../../src/hypervisor/vhost-user/message.ts';
import { MessageSocket } from '../../../src/hypervisor/vhost-user/message-socket.ts';
import { Poller } from '../../../src/hypervisor/vhost-user/poller.ts';
import { connectUnix } from '../../../src/hypervisor/vhost-user/unix-socket.ts';
import { addressOfBuffer, viewOf } from '../../../src/native/memory.ts';
import { close, EPOLLIN, eventfd, mmapShared, munmap, write } from '../../../src/native/system-calls.ts';

const lib = koffi.load(null);
const memfdCreate = lib.func('int memfd_create(const char *, unsigned int)') as unknown as (
  name: string,
  flags: number,
) => number;
const ftruncate = lib.func('int ftruncate(int, int64_t)') as unknown as (fd: number, octets: number) => number;

/** Where guest memory begins for the guest, and where QEMU claims to have it mapped. */
export const guestBase = 0x1_0000_0000;
export const qemuBase = 0x7f00_0000_0000;
const EFD_NONBLOCK = 0x800;

export interface QueueBuffer {
  readonly offset: number;
  readonly length: number;
  readonly writable: boolean;
}

export class DriverQueue {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly kickFd = eventfd(0, EFD_NONBLOCK);
  readonly callFd = eventfd(0, EFD_NONBLOCK);
  readonly #view: DataView;
  readonly #one = new ArrayBuffer(8);
  readonly #free: number[];
  readonly #lengths: number[] = [];
  #availableIndex = 0;
  #usedIndex = 0;
  kicks = 0;

  constructor(memory: GuestRam, size: number, base = 0) {
    this.size = size;
    this.#view = memory.view;
    this.descriptors = memory.allocate(size * 16, 16);
    this.available = memory.allocate(6 + size * 2, 16);
    this.used = memory.allocate(6 + size * 8, 16);
    this.#free = Array.from({ length: size }, (_, index) => size - 1 - index);
    new BigUint64Array(this.#one)[0] = 1n;
    this.#availableIndex = base;
    this.#usedIndex = base;
    this.#view.setUint16(this.available + 2, base, true);
    this.#view.setUint16(this.used + 2, base, true);
  }

  get freeDescriptors(): number {
    return this.#free.length;
  }

  get usedIndex(): number {
    return this.#usedIndex;
  }

  writeDescriptor(index: number, address: number, length: number, flags: number, next: number): void {
    const at = this.descriptors + index * 16;
    this.#view.setBigUint64(at, BigInt(address), true);
    this.#view.setUint32(at + 8, length, true);
    this.#view.setUint16(at + 12, flags, true);
    this.#view.setUint16(at + 14, next, true);
  }

  /** Offers a chain; its head. */
  add(buffers: readonly QueueBuffer[]): number {
    const indices = buffers.map(() => this.#free.pop()!);
    buffers.forEach(({ offset, length, writable }, at) => {
      const last = at === buffers.length - 1;
      const flags = (last ? 0 : 1) | (writable ? 2 : 0);
      this.writeDescriptor(indices[at]!, guestBase + offset, length, flags, last ? 0 : indices[at + 1]!);
    });
    const head = indices[0]!;
    this.#lengths[head] = buffers.length;
    this.offer(head);
    return head;
  }

  /** Puts a head into the available ring, whatever it names. */
  offer(head: number): void {
    this.#view.setUint16(this.available + 4 + (this.#availableIndex % this.size) * 2, head, true);
    this.#availableIndex = (this.#availableIndex + 1) & 0xffff;
    this.#view.setUint16(this.available + 2, this.#availableIndex, true);
  }

  setAvailableIndex(index: number): void {
    this.#view.setUint16(this.available + 2, index, true);
  }

  /** Kicks unless the device asked not to be. */
  kick(): void {
    if ((this.#view.getUint16(this.used, true) & 1) === 0) this.forceKick();
  }

  forceKick(): void {
    this.kicks++;
    write(this.kickFd, addressOfBuffer(this.#one), 8);
  }

  /** Whether chains were returned since the last call of `takeUsed`. */
  get hasUsed(): boolean {
    return this.#usedIndex !== this.#view.getUint16(this.used + 2, true);
  }

  /** Asks the device for interrupts, or not to (a hint). */
  wantCalls(wanted: boolean): void {
    this.#view.setUint16(this.available, wanted ? 0 : 1, true);
  }

  /** The chains returned since the last call. */
  takeUsed(): { head: number; length: number }[] {
    const taken = [];
    while (this.#usedIndex !== this.#view.getUint16(this.used + 2, true)) {
      const at = this.used + 4 + (this.#usedIndex % this.size) * 8;
      const head = this.#view.getUint32(at, true);
      taken.push({ head, length: this.#view.getUint32(at + 4, true) });
      this.#release(head);
      this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
    }
    return taken;
  }

  #release(head: number): void {
    let index = head;
    for (let left = this.#lengths[head] ?? 0; left > 0; left--) {
      this.#free.push(index);
      index = this.#view.getUint16(this.descriptors + index * 16 + 14, true);
    }
  }

  close(): void {
    close(this.kickFd);
    close(this.callFd);
  }
}

/** The guest's RAM: a memfd, mapped here too, with a bump allocator. */
export class GuestRam {
  readonly octets: number;
  readonly fd: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly #address: number;
  #next = 0;

  constructor(octets: number) {
    this.octets = octets;
    this.fd = memfdCreate('guest', 1);
    ftruncate(this.fd, octets);
    this.#address = mmapShared(this.fd, octets, 0);
    const buffer = viewOf(this.#address, octets);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  allocate(octets: number, alignment = 1): number {
    const offset = Math.ceil(this.#next / alignment) * alignment;
    this.#next = offset + octets;
    if (this.#next > this.octets) throw new Error('guest memory is full');
    return offset;
  }

  close(): void {
    munmap(this.#address, this.octets);
    close(this.fd);
  }
}

export class FrontEnd {
  readonly ram: GuestRam;
  readonly queues: DriverQueue[];
  readonly socket: MessageSocket;
  readonly #poller = new Poller();
  readonly #replies: ((message: Message | undefined) => void)[] = [];
  /** Called, outside any batch, when the device interrupts queue `index`. */
  onCall: (index: number) => void = () => {};
  /** Resolves when the back end closes the connection. */
  readonly closed: Promise<void>;
  #markClosed: () => void = () => {};
  #over = false;

  /** Connects to `path`, or takes over a connected socket. */
  constructor(path: string | number, queueSizes: readonly number[], ramOctets = 32 << 20) {
    this.closed = new Promise((resolve) => {
      this.#markClosed = resolve;
    });
    this.ram = new GuestRam(ramOctets);
    this.queues = queueSizes.map((size) => new DriverQueue(this.ram, size));
    const fd = typeof path === 'number' ? path : connectUnix(path);
    if (fd < 0) throw new Error(`cannot connect to ${path}`);
    this.socket = new MessageSocket(fd);
    this.#poller.add(fd, EPOLLIN, () => this.#receive());
    this.queues.forEach((queue, index) => {
      this.#poller.add(queue.callFd, EPOLLIN, () => setImmediate(() => !this.#over && this.onCall(index)));
    });
  }

  #receive(): void {
    for (;;) {
      const message = this.socket.receive();
      if (message === undefined) return;
      const waiting = this.#replies.splice(0, typeof message === 'string' ? this.#replies.length : 1);
      if (typeof message === 'string') {
        setImmediate(() => {
          this.#markClosed();
          for (const resolve of waiting) resolve(undefined);
        });
        return;
      }
      const copy = {
        ...message,
        payload: new DataView(
          message.payload.buffer.slice(
            message.payload.byteOffset,
            message.payload.byteOffset + message.payload.byteLength,
          ),
        ),
      };
      setImmediate(() => waiting[0]?.(copy));
    }
  }

  /** Sends a message; resolves with its reply (or acknowledgement), undefined when the connection was closed instead. */
  call(code: number, payload: Uint8Array, fds: readonly number[] = [], replies = false): Promise<Message | undefined> {
    return new Promise((resolve) => {
      this.#replies.push(resolve);
      this.socket.send(code, replies ? 0 : flagNeedReply, payload, fds);
    });
  }

  async u64(code: number, value?: bigint, fds: readonly number[] = []): Promise<bigint> {
    const payload = new Uint8Array(value === undefined ? 0 : 8);
    if (value !== undefined) new DataView(payload.buffer).setBigUint64(0, value, true);
    const reply = await this.call(code, payload, fds, value === undefined);
    return reply?.payload.getBigUint64(0, true) ?? -1n;
  }

  ring(code: number, index: number, value: number, replies = false): Promise<Message | undefined> {
    const payload = new Uint8Array(new Uint32Array([index, value]).buffer);
    return this.call(code, payload, [], replies);
  }

  /** One region that is all of the RAM, unless told otherwise. */
  setMemory(octets = this.ram.octets, regions = 1): Promise<Message | undefined> {
    const payload = new Uint8Array(8 + regions * 32);
    const view = new DataView(payload.buffer);
    view.setUint32(0, regions, true);
    for (let index = 0; index < regions; index++) {
      const start = Math.floor(this.ram.octets / regions) * index;
      view.setBigUint64(8 + index * 32, BigInt(guestBase + start), true);
      view.setBigUint64(16 + index * 32, BigInt(Math.floor(octets / regions)), true);
      view.setBigUint64(24 + index * 32, BigInt(qemuBase + start), true);
      view.setBigUint64(32 + index * 32, BigInt(start), true);
    }
    return this.call(
      request.SET_MEM_TABLE,
      payload,
      Array.from({ length: regions }, () => this.ram.fd),
    );
  }

  async setQueue(index: number, base = 0): Promise<void> {
    const queue = this.queues[index]!;
    await this.ring(request.SET_VRING_NUM, index, queue.size);
    await this.ring(request.SET_VRING_BASE, index, base);
    const payload = new Uint8Array(40);
    const view = new DataView(payload.buffer);
    view.setUint32(0, index, true);
    view.setBigUint64(8, BigInt(qemuBase + queue.descriptors), true);
    view.setBigUint64(16, BigInt(qemuBase + queue.used), true);
    view.setBigUint64(24, BigInt(qemuBase + queue.available), true);
    await this.call(request.SET_VRING_ADDR, payload);
    await this.u64(request.SET_VRING_CALL, BigInt(index), [queue.callFd]);
    await this.u64(request.SET_VRING_KICK, BigInt(index), [queue.kickFd]);
    await this.ring(request.SET_VRING_ENABLE, index, 1);
  }

  /** As QEMU does: features (all but those `without`), owner, memory, each queue. */
  async start(regions = 1, without = 0n): Promise<void> {
    const features = (await this.u64(request.GET_FEATURES)) & ~without;
    await this.u64(request.GET_PROTOCOL_FEATURES);
    await this.u64(request.SET_PROTOCOL_FEATURES, (1n << 3n) | (1n << 9n));
    await this.u64(request.SET_OWNER, 0n);
    await this.u64(request.SET_FEATURES, features);
    await this.setMemory(this.ram.octets, regions);
    for (const index of this.queues.keys()) await this.setQueue(index);
  }

  /** Stops a queue as a resetting driver does; the next available index. */
  async stopQueue(index: number): Promise<number> {
    const reply = await this.ring(request.GET_VRING_BASE, index, 0, true);
    return reply?.payload.getUint32(4, true) ?? -1;
  }

  close(): void {
    if (this.#over) return;
    this.#over = true;
    for (const queue of this.queues) {
      this.#poller.remove(queue.callFd);
      queue.close();
    }
    this.#poller.remove(this.socket.fd);
    this.socket.close();
    this.#poller.close();
    this.ram.close();
  }
}
