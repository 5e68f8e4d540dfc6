/**
 * A split virtqueue seen from the device. Virtio 1.2 section 2.7: the driver publishes heads of descriptor chains in
 * the available ring, the device returns them in the used ring.
 *
 * Every octet of the three areas is the guest's, and may change at any moment: each field is read once and checked
 * before use. Refused, with the queue stopped and counted (`onBroken`), never with a crash: an available index that
 * runs ahead of the ring, a head or next out of the table, a loop, an address outside guest memory, a zero-length or
 * too long buffer, a readable descriptor after a writable one, a nested or ragged indirect table.
 *
 * Memory order: the available index is loaded, and the used index stored, with Atomics (sequentially consistent), which
 * orders the ring entries on every architecture and stands for the fence between publishing and reading the other
 * side's suppression flag (2.7.7, 2.7.10). EVENT_IDX is not offered.
 *
 * A chain is consumed in the call that pops it: `pop`, then `push`; `unpop` gives back the newest ones untouched.
 */

import type { GuestFragment, GuestMemory, MemoryRegion } from './guest-memory.ts';

/** VIRTIO_F_RING_INDIRECT_DESC, VIRTIO_F_VERSION_1: what this ring does. */
export const ringFeatures = (1n << 28n) | (1n << 32n);
/** Largest queue accepted; also bounds a chain (and so an iovec, which the kernel limits to 1024). */
export const maxQueueSize = 1024;
/** Longest sum of a chain's buffers. */
const maxChainOctets = 1 << 28;

const descriptorOctets = 16;
const flagNext = 1;
const flagWrite = 2;
const flagIndirect = 4;

/** Where a queue's areas are, in the front end's addresses. */
export interface QueueAddresses {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** A descriptor chain: `fragments[0..readable)` are for the device to read, `[readable..count)` to write. Reused. */
export class DescriptorChain {
  readonly fragments: GuestFragment[] = [];
  head = 0;
  count = 0;
  readable = 0;
  readableOctets = 0;
  writableOctets = 0;

  reset(head: number): void {
    this.head = head;
    this.count = 0;
    this.readable = 0;
    this.readableOctets = 0;
    this.writableOctets = 0;
  }

  append(region: MemoryRegion, offset: number, length: number, writable: boolean): void {
    const fragment = this.fragments[this.count];
    if (fragment) {
      fragment.region = region;
      fragment.offset = offset;
      fragment.length = length;
    } else this.fragments.push({ region, offset, length });
    this.count++;
    if (writable) this.writableOctets += length;
    else {
      this.readable++;
      this.readableOctets += length;
    }
  }
}

export interface VirtqueueOptions {
  readonly memory: GuestMemory;
  readonly size: number;
  readonly addresses: QueueAddresses;
  /** The available index to begin at (SET_VRING_BASE). */
  readonly base: number;
  /** Interrupts the guest. */
  readonly call: () => void;
  readonly onBroken: (reason: string) => void;
}

export class Virtqueue {
  readonly size: number;
  readonly #options: VirtqueueOptions;
  #memory!: GuestMemory;
  #table!: DataView;
  #tableOffset = 0;
  /** flags, idx, ring. */
  #available!: Uint16Array;
  /** flags, idx. */
  #usedHead!: Uint16Array;
  /** (flags and idx), then id, length per element. */
  #used!: Uint32Array;
  #lastAvailable: number;
  #availableIndex: number;
  #usedIndex = 0;
  #unpublished = 0;
  #broken = false;

  /** Throws an Error when the areas are not inside guest memory: the front end's mistake, told in its terms. */
  constructor(options: VirtqueueOptions) {
    this.#options = options;
    this.size = options.size;
    this.#lastAvailable = options.base & 0xffff;
    this.#availableIndex = this.#lastAvailable;
    this.remap(options.memory);
    this.#usedIndex = this.#usedHead[1]!;
  }

  /** Finds the areas again in a new memory table. */
  remap(memory: GuestMemory): void {
    const { addresses, size } = this.#options;
    const area = (address: number, octets: number, alignment: number, name: string): MemoryRegion => {
      const region = address % alignment === 0 ? memory.findFrontEnd(address, octets) : undefined;
      if (!region)
        throw new Error(`the ${name} of ${octets} octets at 0x${address.toString(16)} is not in guest memory`);
      return region;
    };
    const table = area(addresses.descriptors, size * descriptorOctets, 16, 'descriptor table');
    const available = area(addresses.available, 6 + size * 2, 2, 'available ring');
    const used = area(addresses.used, 6 + size * 8, 4, 'used ring');
    const start = (region: MemoryRegion, address: number) => region.bytes.byteOffset + address - region.frontEndAddress;
    this.#memory = memory;
    this.#table = table.view;
    this.#tableOffset = addresses.descriptors - table.frontEndAddress;
    this.#available = new Uint16Array(available.bytes.buffer, start(available, addresses.available), 2 + size);
    this.#usedHead = new Uint16Array(used.bytes.buffer, start(used, addresses.used), 2);
    this.#used = new Uint32Array(used.bytes.buffer, start(used, addresses.used), 1 + size * 2);
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** The next available index, as GET_VRING_BASE asks. */
  get base(): number {
    return this.#lastAvailable;
  }

  /** Whether chains wait. */
  available(): boolean {
    if (this.#broken) return false;
    this.#availableIndex = Atomics.load(this.#available, 1);
    return this.#availableIndex !== this.#lastAvailable;
  }

  /** Takes the next chain; false: none (or the queue is broken). */
  pop(chain: DescriptorChain): boolean {
    if (this.#lastAvailable === this.#availableIndex && !this.available()) return false;
    if (this.#broken) return false;
    const waiting = (this.#availableIndex - this.#lastAvailable) & 0xffff;
    if (waiting > this.size) return this.#break(`the available index is ${waiting} ahead of a ring of ${this.size}`);
    const head = this.#available[2 + (this.#lastAvailable & (this.size - 1))]!;
    chain.reset(head);
    if (!this.#walk(chain, head)) return false;
    this.#lastAvailable = (this.#lastAvailable + 1) & 0xffff;
    return true;
  }

  /** Gives back the newest `count` popped chains, as if they had not been popped. */
  unpop(count: number): void {
    this.#lastAvailable = (this.#lastAvailable - count) & 0xffff;
  }

  /** Returns a chain with `written` octets filled in; the guest sees it at `publish`. */
  push(chain: DescriptorChain, written: number): void {
    const slot = 1 + (this.#usedIndex & (this.size - 1)) * 2;
    this.#used[slot] = chain.head;
    this.#used[slot + 1] = written;
    this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
    this.#unpublished++;
  }

  /** Shows the guest what was pushed, and interrupts it once unless it asked not to be (2.7.7). */
  publish(): void {
    if (this.#unpublished === 0) return;
    this.#unpublished = 0;
    Atomics.store(this.#usedHead, 1, this.#usedIndex);
    if ((Atomics.load(this.#available, 0) & 1) === 0) this.#options.call();
  }

  /** Asks the guest not to kick (a hint, 2.7.10). */
  suppressKicks(): void {
    Atomics.store(this.#usedHead, 0, 1);
  }

  /** Asks for kicks again; true: chains arrived meanwhile, which no kick will tell. */
  allowKicks(): boolean {
    Atomics.store(this.#usedHead, 0, 0);
    return this.available();
  }

  #walk(chain: DescriptorChain, head: number): boolean {
    let table = this.#table;
    let base = this.#tableOffset;
    let entries = this.size;
    let index = head;
    let indirect = false;
    for (let steps = 0; ; steps++) {
      if (index >= entries) return this.#break(`descriptor ${index} is outside a table of ${entries}`);
      if (steps >= entries) return this.#break('a descriptor chain loops');
      const at = base + index * descriptorOctets;
      const address = table.getUint32(at, true) + table.getUint32(at + 4, true) * 2 ** 32;
      const length = table.getUint32(at + 8, true);
      const flags = table.getUint16(at + 12, true);
      const next = table.getUint16(at + 14, true);
      if ((flags & flagIndirect) !== 0) {
        // 2.7.5.3.1: no indirect table within another, and none that has a successor.
        if (indirect || (flags & flagNext) !== 0) return this.#break('an indirect descriptor is nested or has a next');
        entries = length / descriptorOctets;
        if (length === 0 || !Number.isInteger(entries) || entries > this.size)
          return this.#break(`an indirect table of ${length} octets`);
        const region = this.#memory.find(address);
        const offset = region ? address - region.guestAddress : 0;
        if (!region || offset + length > region.octets) return this.#break('an indirect table outside guest memory');
        table = region.view;
        base = offset;
        index = 0;
        indirect = true;
        steps = -1;
        continue;
      }
      if (!this.#append(chain, address, length, (flags & flagWrite) !== 0)) return false;
      if ((flags & flagNext) === 0) return true;
      index = next;
    }
  }

  /** Adds a buffer, cut where it crosses from one region into the next. */
  #append(chain: DescriptorChain, address: number, length: number, writable: boolean): boolean {
    if (length === 0) return this.#break('a descriptor of no octets');
    if (!writable && chain.writableOctets > 0) return this.#break('a readable descriptor after a writable one');
    if (chain.readableOctets + chain.writableOctets + length > maxChainOctets)
      return this.#break('a descriptor chain longer than any device takes');
    let from = address;
    let left = length;
    while (left > 0) {
      const region = this.#memory.find(from);
      if (!region || chain.count >= maxQueueSize)
        return this.#break(`a buffer of ${length} octets at 0x${address.toString(16)} is outside guest memory`);
      const offset = from - region.guestAddress;
      const here = Math.min(left, region.octets - offset);
      chain.append(region, offset, here, writable);
      from += here;
      left -= here;
    }
    return true;
  }

  /** Stops the queue for good: until the driver resets it, nothing more is popped. */
  fail(reason: string): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#options.onBroken(reason);
  }

  #break(reason: string): false {
    this.fail(reason);
    return false;
  }
}
