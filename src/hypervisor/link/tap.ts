/**
 * A TAP device as a link: the far end is a kernel's own network stack, in a namespace. Frames are read and written by
 * system calls on the native event loop, one frame a call, as a TAP wants it; before each lies a virtio header (virtio 1.2
 * 5.1.6), which says what sender and receiver leave to each other. With offload TCP segments of up to 64 KiB travel both
 * ways at any MTU and are never cut nor summed: a checksum that the kernel left partial has crossed no wire.
 *
 * In: when the device is readable, frames are read one behind the other into one arena until it is empty or the arena
 * or the batch is full; then the batch is handed over and the loop has its turn, so that what it brought is sent before
 * more is read. Readiness is level-triggered: what was left is told of again. Out: a frame is built in place behind its
 * header and written when it is committed. A device without room (EAGAIN) keeps that one frame here: `reserve` refuses
 * until it has gone. A device that is down takes nothing: the frame is dropped and counted, as on a wire.
 *
 * Timers: none.
 */

import { addressOfBuffer } from '../../native/memory.ts';
import { Readiness, type ReadyHandler } from '../../native/readiness.ts';
import { close, codeOf, EAGAIN, EINTR, EPOLLIN, EPOLLOUT, errorOf, read, write } from '../../native/system-calls.ts';
import { type Arena, FrameBatch, type LinkHandler, type LinkOffload, type LinkPort } from '../../stack/port.ts';
import { VNET_HEADER_OCTETS } from './tap-device.ts';
import { checksumState, emitHeader, segmentSize } from './virtio-net-header.ts';

const ETHERNET_HEADER = 14;
/** An IP packet of 65535 octets behind an Ethernet header with a VLAN tag. */
const LARGEST_FRAME = 65535 + ETHERNET_HEADER + 4;
const LARGEST_READ = VNET_HEADER_OCTETS + LARGEST_FRAME;
/** Frames land at multiples of this: with the header before it, a TCP payload begins at one as well. */
const ALIGNMENT = 64;
/** Room for several of the largest frames, and small enough to stay in a cache. */
const RECEIVE = 512 * 1024;
const BATCH_FRAMES = 256;

export interface TapLinkOptions {
  readonly name: string;
  /** Largest IP packet, in octets. */
  readonly mtu: number;
  /** As `openTap` was told. */
  readonly offload: boolean;
  /** The device has gone: somebody deleted it, or its namespace. */
  readonly lost?: (error: Error) => void;
}

export class TapLink implements LinkPort, ReadyHandler {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload;
  readonly txArena: Arena;
  readonly txOffset = VNET_HEADER_OCTETS;
  /** Frames shorter than an Ethernet header. */
  protocolErrors = 0;
  /** Frames that the device did not take. */
  writeErrors = 0;

  readonly #fd: number;
  readonly #lost: (error: Error) => void;
  readonly #rx: Arena;
  readonly #rxAddress: number;
  readonly #txAddress: number;
  readonly #batch = new FrameBatch(BATCH_FRAMES, 1);
  /** Octets of the frame that the device had no room for; 0: none. */
  #waiting = 0;
  #refused = false;
  #handler: LinkHandler | undefined;
  readonly #readiness = new Readiness();
  #registration = -1;
  #closed = false;

  /** Takes over `fd`, a descriptor that `openTap` made. */
  constructor(fd: number, options: TapLinkOptions) {
    this.#fd = fd;
    this.name = `tap:${options.name}`;
    this.mtu = options.mtu;
    this.#lost = options.lost ?? (() => {});
    this.offload = { checksum: options.offload, segmentOctets: options.offload ? 65535 : 0 };
    const rx = new ArrayBuffer(RECEIVE);
    this.#rx = { bytes: new Uint8Array(rx), view: new DataView(rx) };
    this.#rxAddress = addressOfBuffer(rx);
    const tx = new ArrayBuffer(LARGEST_READ);
    this.txArena = { bytes: new Uint8Array(tx), view: new DataView(tx) };
    this.#txAddress = addressOfBuffer(tx);
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    this.#registration = this.#readiness.add(this.#fd, EPOLLIN, this);
    if (this.#registration < 0) throw errorOf('epoll_ctl', this.#registration);
  }

  ready(): void {
    if (this.#closed) return;
    if (this.#waiting > 0) this.#write(this.#waiting);
    if (!this.#closed) this.#read();
  }

  reserve(octets: number): boolean {
    if (this.#waiting > 0 || this.#closed) {
      this.#refused = true;
      return false;
    }
    return octets <= LARGEST_FRAME;
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    const { view } = this.txArena;
    emitHeader(view, 0, view, VNET_HEADER_OCTETS, checksumStart, checksumOffset, segmentOctets);
    this.#write(VNET_HEADER_OCTETS + octets);
  }

  flush(): void {}

  close(): void {
    this.#end();
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#readiness.remove(this.#registration);
    close(this.#fd);
    this.#handler?.closed(error);
    if (error) this.#lost(error);
  }

  #watch(writable: boolean): void {
    this.#readiness.change(this.#registration, this.#fd, writable ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  #read(): void {
    const { view } = this.#rx;
    const batch = this.#batch;
    batch.clear();
    let result = 0;
    for (let at = 0; at + LARGEST_READ <= RECEIVE && batch.count < BATCH_FRAMES; ) {
      result = read(this.#fd, this.#rxAddress + at, LARGEST_READ);
      if (result <= 0) break;
      const octets = result - VNET_HEADER_OCTETS;
      if (octets < ETHERNET_HEADER) {
        this.protocolErrors++;
        continue;
      }
      batch.push(this.#rx, at + VNET_HEADER_OCTETS, octets, checksumState(view, at), segmentSize(view, at));
      at += (result + ALIGNMENT - 1) & -ALIGNMENT;
    }
    if (batch.count > 0) this.#handler?.input(batch);
    if (result > 0 || result === EAGAIN || result === EINTR) return;
    this.#end(new Error(`${this.name}: the device is gone${result < 0 ? ` (${codeOf(result)})` : ''}`));
  }

  #write(octets: number): void {
    const result = write(this.#fd, this.#txAddress, octets);
    const wasWaiting = this.#waiting > 0;
    if (result === EAGAIN) {
      this.#waiting = octets;
      if (!wasWaiting) this.#watch(true);
      return;
    }
    if (result < 0) this.writeErrors++;
    if (!wasWaiting) return;
    this.#waiting = 0;
    this.#watch(false);
    if (!this.#refused) return;
    this.#refused = false;
    this.#handler?.writable();
  }
}
