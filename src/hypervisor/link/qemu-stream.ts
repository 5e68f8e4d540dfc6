/**
 * QEMU's `-netdev stream` framing over a unix socket: a big-endian u32 length, then the Ethernet frame, both ways.
 * The link listens (QEMU connects) or connects (QEMU has `server=on`), and in both cases outlives its peer: it takes
 * the next one, or dials again. One peer at a time. Node makes the connection; on Linux, where koffi is to be had, its
 * octets are moved by system calls (linux-stream-peer.ts).
 *
 * In: reads land at a fixed place behind `HEAD` octets of the receive arena. A frame cut off at the end of one read is
 * moved to just before that place, so that the next read completes it; every frame is contiguous, and nothing else is
 * copied. Out: frames are written in place, after their lengths, into slabs that come back when the socket has taken
 * them; one write per flush. A peer that does not read is noticed by all slabs being in flight: `reserve` refuses.
 * Without a peer it refuses as well, so that TCP waits and datagrams are dropped by the stack, which counts them.
 *
 * A frame shorter than an Ethernet header is counted and skipped. One longer than any packet means that the two sides
 * no longer agree on where frames start: the peer is dropped, and the report says so.
 *
 * Timers: between attempts to connect (RECONNECT_MIN_MS, doubling to RECONNECT_MAX_MS); DESERTED_MS after a peer went
 * and none came, the stack is told to give up its flows.
 */

import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import {
  type Arena,
  type ArenaSource,
  FrameBatch,
  type LinkHandler,
  type LinkOffload,
  type LinkPort,
} from '../../stack/port.ts';
import { nodeStreamPeer, type StreamPeer, type StreamPeerMaker } from './stream-peer.ts';
import { TransmitSlab } from './transmit-slab.ts';

const ETHERNET_HEADER = 14;
/** An IP packet of 65535 octets behind an Ethernet header with a VLAN tag. */
const LARGEST_FRAME = 65535 + ETHERNET_HEADER + 4;
const LENGTH_PREFIX = 4;
const READ = 512 * 1024;
/** Room for a cut-off frame before the place that reads land at. */
const HEAD = 65600;
const SLABS = 3;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;
const DESERTED_MS = 10_000;
/** Longest path of a unix socket on every system that we run on (macOS has the shortest). */
const LONGEST_PATH = 103;

export interface QemuStreamOptions {
  /** Where frames live: the memory that the stack has its send queues in, best of all. */
  readonly memory?: ArenaSource;
  /** Largest IP packet, in octets. */
  readonly mtu: number;
  /** How long a peer may be away before flows through the link are given up. */
  readonly desertedMs?: number;
  /** Told, in one line each, what an operator would want to know: peers that come, go and misbehave. */
  readonly report?: (message: string) => void;
  /** True: through Node's sockets, whatever the system. */
  readonly portable?: boolean;
}

export class QemuStreamLink implements LinkPort {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload = { checksum: false, segmentOctets: 0 };
  txArena: TransmitSlab;
  txOffset = 0;
  /** Frames shorter than an Ethernet header, and lengths that no frame has. */
  protocolErrors = 0;

  readonly #path: string;
  readonly #desertedMs: number;
  readonly #report: (message: string) => void;
  readonly #rx: Arena;
  readonly #batch = new FrameBatch(1024, 1);
  readonly #free: TransmitSlab[] = [];
  #slab: TransmitSlab;
  /** Octets of a cut-off frame that wait before the landing place. */
  #carried = 0;
  #refused = false;
  #handler: LinkHandler | undefined;
  #server: net.Server | undefined;
  /** Who connected before `start`. */
  #early: net.Socket | undefined;
  #peer: StreamPeer | undefined;
  /** Settled before the first peer is taken. */
  readonly #makePeer: Promise<StreamPeerMaker>;
  /** A peer is being taken. */
  #adopting = false;
  #retry: NodeJS.Timeout | undefined;
  #desertion: NodeJS.Timeout | undefined;
  #retryMs = RECONNECT_MIN_MS;
  #closed = false;

  private constructor(path: string, options: QemuStreamOptions) {
    this.#path = path;
    this.name = `qemu:${path}`;
    this.mtu = options.mtu;
    this.#desertedMs = options.desertedMs ?? DESERTED_MS;
    this.#report = options.report ?? (() => {});
    this.#makePeer = peerMaker(options.portable ?? false);
    this.#rx = options.memory?.arena(HEAD + READ) ?? ordinaryArena(HEAD + READ);
    const release = (slab: TransmitSlab) => this.#released(slab);
    for (let i = 0; i < SLABS; i++) this.#free.push(new TransmitSlab(options.memory, release));
    this.#slab = this.#free.pop()!;
    this.txArena = this.#slab;
  }

  /** Binds `path`, mode 0600, taking the place of a socket that nobody listens on any more. */
  static async listen(path: string, options: QemuStreamOptions): Promise<QemuStreamLink> {
    const link = new QemuStreamLink(path, options);
    await link.#listen();
    return link;
  }

  /** Connects to `path` once started, and again whenever the peer goes. */
  static connect(path: string, options: QemuStreamOptions): QemuStreamLink {
    checkPath(path);
    return new QemuStreamLink(path, options);
  }

  /** Whether somebody is at the other end. */
  get attached(): boolean {
    return this.#peer !== undefined;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    if (!this.#server) this.#dial();
    else if (this.#early) this.#accept(this.#early);
    this.#early = undefined;
  }

  reserve(octets: number): boolean {
    if (this.#peer === undefined) {
      this.#refused = true;
      return false;
    }
    const whole = LENGTH_PREFIX + octets;
    if (!this.#slab.fits(whole)) this.#slab.send(this.#peer);
    // It is empty again if the socket has taken all.
    if (!this.#slab.fits(whole)) {
      const next = this.#free.pop();
      if (next === undefined) {
        this.#refused = true;
        return false;
      }
      const full = this.#slab;
      this.#slab = next;
      this.txArena = next;
      full.retire();
    }
    this.txOffset = this.#slab.end + LENGTH_PREFIX;
    return true;
  }

  commit(octets: number): void {
    const slab = this.#slab;
    slab.view.setUint32(slab.end, octets);
    slab.end += LENGTH_PREFIX + octets;
  }

  flush(): void {
    if (this.#peer !== undefined) this.#slab.send(this.#peer);
  }

  close(): void {
    if (this.#closed) return;
    this.#end();
    this.#handler?.closed();
  }

  #end(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#desertion);
    this.#server?.close(); // unlinks the path as well
    this.#early?.destroy();
    this.#dropPeer();
  }

  #dropPeer(): void {
    const peer = this.#peer;
    this.#peer = undefined;
    peer?.close();
  }

  async #listen(): Promise<void> {
    checkPath(this.#path);
    await removeStale(this.#path);
    const server = net.createServer({ pauseOnConnect: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(new Error(listenProblem(this.#path, error))));
      // The socket is made during this call, with the mode that the umask leaves.
      const umask = process.umask(0o177);
      try {
        server.listen(this.#path, resolve);
      } finally {
        process.umask(umask);
      }
    });
    server.on('error', (error) => this.#report(`${this.name}: ${error.message}`));
    server.on('connection', (accepted) => {
      if (this.#handler || this.#early) this.#accept(accepted);
      else this.#early = accepted;
    });
    this.#server = server;
  }

  #accept(accepted: net.Socket): void {
    if (this.#peer !== undefined || this.#adopting || !this.#handler) {
      this.#report(`${this.name}: refused a second connection; one is served at a time`);
      accepted.destroy();
      return;
    }
    void this.#adopt(accepted);
  }

  #dial(): void {
    if (this.#closed) return;
    // Paused, so that nothing is read before it is known where to.
    const socket = new net.Socket().pause();
    const failed = (error: NodeJS.ErrnoException): void => {
      if (this.#retryMs === RECONNECT_MIN_MS)
        this.#report(`${this.name}: ${error.code}; trying again until it answers`);
      this.#dialLater();
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      this.#retryMs = RECONNECT_MIN_MS;
      void this.#adopt(socket);
    });
    socket.connect({ path: this.#path });
  }

  #dialLater(): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => this.#dial(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, RECONNECT_MAX_MS);
  }

  /** Takes over a socket that is connected and paused. */
  async #adopt(socket: net.Socket): Promise<void> {
    this.#adopting = true;
    const makePeer = await this.#makePeer;
    this.#adopting = false;
    if (this.#closed) {
      socket.destroy();
      return;
    }
    clearTimeout(this.#desertion);
    this.#carried = 0;
    this.#slab.reset();
    this.#peer = makePeer(socket, this.#rx.bytes.subarray(HEAD), {
      received: (octets) => this.#received(octets),
      lost: (error) => this.#lost(error),
    });
    this.#report(`${this.name}: connected`);
    if (this.#refused) this.#room();
  }

  #lost(error: Error | undefined): void {
    this.#peer = undefined;
    if (this.#closed) return;
    if (error) this.#report(`${this.name}: ${error.message}`);
    this.#report(`${this.name}: disconnected`);
    this.#desertion = setTimeout(() => this.#handler?.deserted?.(), this.#desertedMs).unref();
    if (!this.#server) this.#dialLater();
  }

  /** `octets` have landed at HEAD, behind what was carried over. */
  #received(octets: number): void {
    const { bytes, view } = this.#rx;
    const batch = this.#batch;
    const end = HEAD + octets;
    let at = HEAD - this.#carried;
    batch.clear();
    while (end - at >= LENGTH_PREFIX) {
      const length = view.getUint32(at);
      if (length > LARGEST_FRAME) {
        this.#deliver();
        this.#disagreed(length);
        return;
      }
      if (end - at - LENGTH_PREFIX < length) break;
      if (length < ETHERNET_HEADER) {
        this.protocolErrors++;
      } else if (!batch.push(this.#rx, at + LENGTH_PREFIX, length)) {
        this.#deliver();
        batch.clear();
        batch.push(this.#rx, at + LENGTH_PREFIX, length);
      }
      at += LENGTH_PREFIX + length;
    }
    this.#deliver();
    this.#carried = end - at;
    if (this.#carried > 0) bytes.copyWithin(HEAD - this.#carried, at, end);
  }

  #deliver(): void {
    if (this.#batch.count > 0 && !this.#closed) this.#handler?.input(this.#batch);
  }

  #disagreed(length: number): void {
    this.protocolErrors++;
    this.#carried = 0;
    this.#report(
      `${this.name}: a frame of ${length} octets was announced, and none is longer than ${LARGEST_FRAME}; ` +
        "disconnecting: the other end must speak QEMU's '-netdev stream' framing",
    );
    this.#dropPeer();
    this.#lost(undefined);
  }

  #released(slab: TransmitSlab): void {
    if (slab !== this.#slab) this.#free.push(slab);
    if (this.#refused && this.#peer !== undefined) this.#room();
  }

  #room(): void {
    this.#refused = false;
    this.#handler?.writable();
  }
}

async function peerMaker(portable: boolean): Promise<StreamPeerMaker> {
  if (portable || process.platform !== 'linux') return nodeStreamPeer;
  try {
    const { linuxStreamPeer } = await import('./linux-stream-peer.ts');
    return linuxStreamPeer;
  } catch {
    return nodeStreamPeer; // no koffi for this processor or C library
  }
}

function ordinaryArena(octets: number): Arena {
  const bytes = new Uint8Array(octets);
  return { bytes, view: new DataView(bytes.buffer) };
}

function checkPath(path: string): void {
  if (Buffer.byteLength(path) > LONGEST_PATH)
    throw new Error(`the path '${path}' is too long for a unix socket: ${LONGEST_PATH} octets at most`);
}

function listenProblem(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'EADDRINUSE')
    return `'${path}' exists and something listens on it: stop that, or choose another path`;
  if (!existsSync(dirname(path))) return `cannot listen on '${path}': its folder does not exist`;
  return `cannot listen on '${path}': ${error.message}`;
}

/** A socket file that outlived its process would make `listen` fail; one with a listener, or another file, stays. */
async function removeStale(path: string): Promise<void> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const stale = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
  if (stale) unlinkSync(path);
}
