/**
 * A guest's virtio network device as a link, by vhost-user: QEMU connects to our socket, shares the guest's memory and
 * its virtqueues, and takes no part in the traffic. Virtio 1.2 5.1; QEMU docs/interop/vhost-user.rst.
 *
 * In (queue 1): a kick, or the turn after a batch; chains are taken in batches (guest-frames.ts), and while batches come
 * the guest is asked not to kick. Out (queue 0): frames are written into the guest's buffers (guest-buffers.ts) and
 * shown, with one interrupt, at the flush. Checksums and segmentation are left to either side as far as the driver
 * accepted it, so segments of 64 KiB travel at any MTU. While no driver runs `reserve` refuses.
 *
 * A queue in which the guest put nonsense stops and is counted (virtqueue.ts); a front end that goes may come again, and
 * one that stops the queues and stays (the guest is paused) finds its flows as they were. Nothing is lost with a process
 * that is killed: chains are returned in order, so that whoever comes next goes on where the used ring ends.
 *
 * Timers: DESERTED_MS after a front end went and none came, the stack is told to give up its flows.
 */

import type { Arena, LinkHandler, LinkOffload, LinkPort } from '../../stack/port.ts';
import { type BackEndStats, VhostUserBackEnd } from '../vhost-user/back-end.ts';
import type { VhostUserDevice } from '../vhost-user/device.ts';
import { Poller } from '../vhost-user/poller.ts';
import type { Virtqueue } from '../vhost-user/virtqueue.ts';
import { GuestBuffers } from './guest-buffers.ts';
import { GuestFrames } from './guest-frames.ts';

/** Queue numbers, named from the guest. */
const RECEIVE = 0;
const TRANSMIT = 1;

const CSUM = 1n << 0n;
const GUEST_CSUM = 1n << 1n;
/** The front end's to fill in (host_mtu). */
const MTU = 1n << 3n;
const GUEST_TSO = (1n << 7n) | (1n << 8n);
const HOST_TSO = (1n << 11n) | (1n << 12n);
const MRG_RXBUF = 1n << 15n;

const NO_OFFLOAD: LinkOffload = { checksum: false, segmentOctets: 0 };
const DESERTED_MS = 10_000;

export interface VhostUserNetOptions {
  /** Largest IP packet, in octets. */
  readonly mtu: number;
  /** False: every frame is cut and summed, for comparison. */
  readonly offload?: boolean;
  /** The front end listens on the socket, and the link dials, again whenever it is gone. */
  readonly dial?: boolean;
  readonly report?: (line: string) => void;
  readonly desertedMs?: number;
}

export interface VhostUserNetStats extends Readonly<BackEndStats> {
  /** Chains of the guest that held no frame. */
  readonly malformedFrames: number;
  /** Frames that the guest's buffers could not hold. */
  readonly oversizedFrames: number;
}

export class VhostUserNetLink implements LinkPort {
  readonly name: string;
  readonly mtu: number;
  readonly #desertedMs: number;
  readonly #poller: Poller;
  readonly #backEnd: VhostUserBackEnd;
  readonly #frames = new GuestFrames();
  readonly #buffers = new GuestBuffers();
  #transmit: Virtqueue | undefined;
  #offload = NO_OFFLOAD;
  #refused = false;
  #handler: LinkHandler | undefined;
  #desertion: NodeJS.Timeout | undefined;
  #closed = false;
  /** The handler reads guest memory, which must stay mapped until it returns. */
  #handling = false;
  #scheduled = false;
  #writableScheduled = false;
  readonly #turn = (): void => {
    this.#scheduled = false;
    this.#receive();
  };
  readonly #writable = (): void => {
    this.#writableScheduled = false;
    if (!this.#refused || this.#closed) return;
    this.#refused = false;
    this.#handler?.writable();
  };

  /** Listens, or dials, from `start` on. */
  constructor(socketPath: string, options: VhostUserNetOptions) {
    const { mtu, offload = true, dial = false, report = () => {}, desertedMs = DESERTED_MS } = options;
    this.name = `vhost-user:${socketPath}`;
    this.mtu = mtu;
    this.#desertedMs = desertedMs;
    this.#poller = new Poller();
    const device: VhostUserDevice = {
      name: this.name,
      queueCount: 2,
      features: MRG_RXBUF | MTU | (offload ? CSUM | GUEST_CSUM | GUEST_TSO | HOST_TSO : 0n),
      config: new Uint8Array(0),
      negotiated: (features) => this.#negotiated(features),
      queueStarted: (index, queue) => this.#started(index, queue),
      kicked: (index) => this.#kicked(index),
      queueStopped: (index) => this.#stopped(index),
      gone: () => this.#gone(),
    };
    this.#backEnd = new VhostUserBackEnd({ socketPath, device, poller: this.#poller, log: report, dial });
  }

  /** Whether somebody is at the other end. */
  get attached(): boolean {
    return this.#backEnd.connected;
  }

  get offload(): LinkOffload {
    return this.#offload;
  }

  get txArena(): Arena {
    return this.#buffers.arena;
  }

  get txOffset(): number {
    return this.#buffers.offset;
  }

  get stats(): VhostUserNetStats {
    return {
      ...this.#backEnd.stats,
      malformedFrames: this.#frames.malformed,
      oversizedFrames: this.#buffers.tooLarge,
    };
  }

  /** Throws an Error that names cause and remedy when the socket cannot be made. */
  start(handler: LinkHandler): void {
    this.#handler = handler;
    this.#backEnd.start();
  }

  reserve(octets: number): boolean {
    if (this.#buffers.reserve(octets)) return true;
    this.#refused = true;
    return false;
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    this.#buffers.commit(octets, checksumStart, checksumOffset, segmentOctets);
  }

  flush(): void {
    this.#buffers.flush();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#handling) this.#end();
  }

  #end(): void {
    this.#backEnd.close();
    this.#poller.close();
    clearTimeout(this.#desertion);
    this.#handler?.closed();
  }

  #negotiated(features: bigint): void {
    const checksum = (features & GUEST_CSUM) !== 0n;
    const whole = checksum && (features & GUEST_TSO) === GUEST_TSO;
    this.#offload = checksum ? { checksum, segmentOctets: whole ? 65535 : 0 } : NO_OFFLOAD;
    this.#buffers.merged = (features & MRG_RXBUF) !== 0n;
  }

  #started(index: number, queue: Virtqueue): void {
    clearTimeout(this.#desertion);
    if (index === RECEIVE) this.#buffers.start(queue);
    else this.#transmit = queue;
    // Either may have been filled before anyone looked.
    this.#kicked(index);
  }

  #kicked(index: number): void {
    if (index === TRANSMIT) this.#schedule();
    else if (this.#refused && !this.#writableScheduled) {
      this.#writableScheduled = true;
      this.#buffers.kicked();
      this.#poller.soon(this.#writable);
    }
  }

  #stopped(index: number): void {
    if (index === RECEIVE) this.#buffers.stop();
    else {
      this.#transmit?.publish();
      this.#transmit = undefined;
    }
  }

  #gone(): void {
    if (this.#closed) return;
    clearTimeout(this.#desertion);
    this.#desertion = setTimeout(() => this.#handler?.deserted?.(), this.#desertedMs).unref();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#poller.soon(this.#turn);
  }

  #receive(): void {
    const queue = this.#transmit;
    if (!queue || this.#closed) return;
    queue.suppressKicks();
    this.#frames.take(queue);
    this.#handling = true;
    if (this.#frames.batch.count > 0) this.#handler?.input(this.#frames.batch);
    this.#handling = false;
    if (this.#closed) {
      this.#end();
      return;
    }
    queue.publish();
    if (queue.available() || queue.allowKicks()) this.#schedule();
  }
}
