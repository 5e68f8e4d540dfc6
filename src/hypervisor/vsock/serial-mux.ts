/**
 * The portable lane: streams between host and guest multiplexed over one virtio-serial port (`slipway.mux`), for hosts
 * without shared guest memory. The guest's end is vm/guest/slipway-mux.c. No native code: a unix socket to QEMU's
 * chardev is all it takes.
 *
 * Frames, little-endian, both ways alike:
 *
 *     u8 type, u8 flags, u16 length | u32 id | u32 value | `length` octets (at most 32752) | u32 trailer
 *
 * The trailer is the exclusive or of the three header words and 0x584d5753 ("SWMX"); a frame counts only when it is
 * whole and its trailer right.
 *
 *     1 HELLO     flags: version 1; id: the magic number; payload: own nonce, the other side's nonce (0: none), u64 each
 *     2 OPEN      value: port; payload: u32 window.  Ids: even when the host opens, odd when the guest does
 *     3 ACCEPT    value: window
 *     4 DATA
 *     5 CREDIT    value: octets taken since the last one
 *     6 SHUTDOWN  flags, cumulative: 1 I shall not receive, 2 I shall not send any more
 *     7 RESET     the stream is over, or was refused
 *
 * Session. A serial line has no beginning: after the guest reboots, the host may be in the middle of a frame, and the
 * guest finds what was meant for its predecessor. So each side, when it starts, writes one frame's length of zeros
 * (which ends any frame the other is in, with a wrong trailer) and HELLO with a new nonce; it ignores everything until
 * a HELLO. A HELLO with a nonce or an acknowledgement other than the ones in use ends all streams; it is answered by a
 * HELLO with both nonces. A side is up once a HELLO has brought its own nonce back, which stale octets cannot forge.
 * A side that loses step takes a new nonce and says HELLO.
 *
 * Streams. A side sends DATA only within the window the other granted (OPEN, ACCEPT) and gives back credit as its
 * socket takes octets, half a window at a time. Frames are taken in at once, always, and a stream that waits holds no
 * other up. A stream is over when each side has said it sends no more; who is told that the other receives no more
 * says so. More DATA than the window, or frames out of place, are answered RESET; frames of unknown streams ignored.
 *
 * Events: frames, sockets' readiness, a host connection; timer: an unanswered OPEN. Limits as in limits.ts.
 */

import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { GuestChannelPort } from '../port.ts';
import { connectGuest } from './connect-client.ts';
import { DeadlineQueue, systemTimers, type Timers } from './deadline-queue.ts';
import { HostServer, listenPrivately } from './host-server.ts';
import { defaultStreamLimits, emptyStreamStats, type StreamLimits, type StreamStats } from './limits.ts';
import { frameType, magic, version } from './mux-frame.ts';
import { MuxLink } from './mux-link.ts';
import { MuxStream } from './mux-stream.ts';
import { checkSocketPath, type Forward, hostPortName } from './socket-path.ts';
import { WindowBudget } from './window-budget.ts';

const redialMs = 10;
const maxRedials = 200;
/** How much of the streams a guest may open. */
const guestShare = 0.75;

export interface SerialMuxOptions {
  /** Unix socket that QEMU's chardev connects to. */
  readonly socketPath: string;
  /** Directory of `connect` and `00000002.PPPPPPPP`. */
  readonly directory: string;
  /** As in the vsock lane, so that its handshakes serve here too. */
  readonly guestCid?: number;
  readonly forwards?: readonly Forward[];
  readonly limits?: Partial<StreamLimits>;
  readonly timers?: Timers;
  readonly log?: (line: string) => void;
}

export interface SerialMuxStats extends StreamStats {
  /** Whether QEMU is connected, and whether the guest's end has answered. */
  readonly connected: boolean;
  readonly running: boolean;
  /** Times the guest's octets made no sense. */
  readonly lost: number;
}

export class SerialMux implements GuestChannelPort {
  readonly #options: SerialMuxOptions;
  readonly #limits: StreamLimits;
  readonly #budget: WindowBudget;
  readonly #log: (line: string) => void;
  readonly #host: HostServer;
  readonly #requests: DeadlineQueue<MuxStream>;
  readonly #redials: DeadlineQueue<MuxStream>;
  readonly #stats = emptyStreamStats();
  readonly #streams = new Map<number, MuxStream>();
  /** Sockets of streams that are over, until they have taken what the guest sent. */
  readonly #draining = new Set<net.Socket>();
  /** Streams with data and credit, in turn. */
  readonly #ready = new Set<MuxStream>();
  /** Streams that received data in this batch. */
  readonly #touched = new Set<MuxStream>();
  readonly #hello = Buffer.alloc(16);
  #server: net.Server | undefined;
  #link: MuxLink | undefined;
  #nonce = 0n;
  #peerNonce = 0n;
  #acknowledged = false;
  #up = false;
  #lost = 0;
  #nextId = 2;
  #guestOpened = 0;
  #pumping = false;

  constructor(options: SerialMuxOptions) {
    const { directory, forwards = [], guestCid = 3, timers = systemTimers, log = () => {} } = options;
    this.#options = options;
    this.#log = log;
    this.#limits = { ...defaultStreamLimits, ...options.limits };
    this.#budget = new WindowBudget(this.#limits.streamOctets, this.#limits.streams, this.#limits.totalOctets);
    this.#requests = new DeadlineQueue(this.#limits.connectTimeoutMs, timers, (stream) => {
      this.#stats.timeouts++;
      this.#reset(stream);
    });
    this.#redials = new DeadlineQueue(redialMs, timers, (stream) => this.#dial(stream));
    this.#host = new HostServer({
      directory,
      forwards,
      guestCid,
      timers,
      handshakeTimeoutMs: this.#limits.connectTimeoutMs,
      open: (socket, port, answer) => this.#open(socket, port, answer),
      log,
    });
  }

  /** Listens for QEMU and for the host's clients; rejects with an Error that names cause and remedy. */
  async start(): Promise<void> {
    const { socketPath } = this.#options;
    checkSocketPath(socketPath);
    this.#server = await listenPrivately(socketPath, (socket) => this.attach(socket));
    try {
      await this.#host.start();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Talks over a stream to the guest's port; one that came before is dropped. */
  attach(duplex: Duplex): void {
    this.#link?.close();
    const link = new MuxLink(duplex, {
      onFrame: (type, flags, id, value, payload) => this.#frame(link, type, flags, id, value, payload),
      onLost: (reason) => this.#loseStep(link, reason),
      onBatch: () => this.#endBatch(),
      onRoom: () => this.#pump(),
      onClose: () => this.#linkClosed(link),
    });
    this.#link = link;
    link.filler();
    this.#newSession(link);
    duplex.resume();
  }

  /** A stream to a port the guest listens on; rejects with `code` ECONNREFUSED. */
  connect(port: number): Promise<Duplex> {
    return connectGuest(this.#options.directory, port);
  }

  stats(): SerialMuxStats {
    return {
      ...this.#stats,
      open: this.#streams.size + this.#draining.size,
      connected: this.#link !== undefined,
      running: this.#up,
      lost: this.#lost,
    };
  }

  close(): void {
    this.#host.close();
    this.#server?.close();
    this.#link?.close();
    for (const socket of this.#draining) socket.destroy();
  }

  // Session.

  #newSession(link: MuxLink): void {
    this.#nonce = randomBytes(8).readBigUInt64LE() || 1n;
    this.#peerNonce = 0n;
    this.#up = false;
    this.#sayHello(link);
  }

  #sayHello(link: MuxLink): void {
    this.#hello.writeBigUInt64LE(this.#nonce, 0);
    this.#hello.writeBigUInt64LE(this.#peerNonce, 8);
    link.send(frameType.HELLO, version, magic, 0, this.#hello);
    link.flush();
    this.#acknowledged = this.#peerNonce !== 0n;
  }

  #takeHello(link: MuxLink, payload: Buffer): void {
    const peer = payload.readBigUInt64LE(0);
    const acknowledgement = payload.readBigUInt64LE(8);
    if (peer !== this.#peerNonce || acknowledgement !== this.#nonce) {
      this.#dropAll();
      if (peer !== this.#peerNonce) this.#acknowledged = false;
      this.#peerNonce = peer;
    }
    this.#up = acknowledgement === this.#nonce;
    if (!this.#up || !this.#acknowledged) this.#sayHello(link);
  }

  #loseStep(link: MuxLink, reason: string): void {
    this.#lost++;
    this.#log(`the guest's multiplexer is out of step: ${reason}`);
    this.#dropAll();
    link.hunt();
    this.#newSession(link);
  }

  #linkClosed(link: MuxLink): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.#up = false;
    this.#dropAll();
  }

  /** The session is over: so are its streams. */
  #dropAll(): void {
    for (const stream of [...this.#streams.values()]) this.#forget(stream);
  }

  // From the guest.

  #frame(link: MuxLink, type: number, flags: number, id: number, value: number, payload: Buffer): void {
    if (type === frameType.HELLO) {
      this.#takeHello(link, payload);
      return;
    }
    if (!this.#up) return;
    const stream = this.#streams.get(id);
    if (type === frameType.OPEN) this.#opened(link, id, value, payload);
    else if (!stream) return;
    else if (type === frameType.RESET) {
      if (stream.state === 'OPENING') this.#stats.refused++;
      else this.#stats.resets++;
      this.#forget(stream);
    } else if (type === frameType.ACCEPT && stream.state === 'OPENING') this.#accepted(stream, value);
    else if (stream.state !== 'ESTABLISHED') this.#invalid(stream);
    else if (type === frameType.DATA) {
      this.#stats.octetsFromGuest += payload.length;
      if (stream.receive(payload)) this.#touched.add(stream);
      else this.#invalid(stream);
    } else if (type === frameType.CREDIT) stream.addCredit(value);
    else if (type === frameType.SHUTDOWN) stream.peerShutDown(flags);
    else this.#invalid(stream);
  }

  #endBatch(): void {
    for (const stream of this.#touched) stream.flush();
    this.#touched.clear();
    this.#pump();
  }

  #opened(link: MuxLink, id: number, port: number, payload: Buffer): void {
    if (this.#streams.has(id) || id % 2 === 0 || payload.length !== 4) {
      this.#stats.invalid++;
      link.send(frameType.RESET, 0, id, 0);
      return;
    }
    // The guest never takes the last quarter, so that the host can always reach it.
    if (this.#full || this.#guestOpened >= this.#limits.streams * guestShare) {
      this.#stats.refused++;
      link.send(frameType.RESET, 0, id, 0);
      return;
    }
    const stream = this.#newStream(link, id, port, false, 'DIALLING');
    this.#guestOpened++;
    stream.credit = payload.readUInt32LE(0);
    this.#dial(stream);
  }

  /** Connects to the unix socket of the host port the guest asked for. */
  #dial(stream: MuxStream): void {
    const socket = net.connect({ path: join(this.#options.directory, hostPortName(stream.port)), allowHalfOpen: true });
    stream.socket = socket;
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (stream.state !== 'DIALLING' || this.#streams.get(stream.id) !== stream) return;
      stream.socket = undefined;
      // A full backlog is worth waiting for.
      if (error.code === 'EAGAIN' && stream.attempts++ < maxRedials) this.#redials.add(stream);
      else {
        this.#stats.refused++;
        this.#reset(stream);
      }
    });
    socket.once('connect', () => {
      if (this.#streams.get(stream.id) !== stream) return;
      this.#stats.fromGuest++;
      this.#link?.send(frameType.ACCEPT, 0, stream.id, stream.window);
      stream.establish(socket);
      this.#link?.flush();
    });
  }

  #accepted(stream: MuxStream, credit: number): void {
    const { socket } = stream;
    this.#requests.delete(stream);
    if (!socket) return;
    this.#stats.fromHost++;
    if (stream.answer) socket.write(`OK ${stream.id}\n`);
    stream.credit = credit;
    stream.establish(socket);
  }

  // From the host.

  #open(socket: net.Socket, port: number, answer: boolean): void {
    const link = this.#link;
    socket.on('error', () => {});
    if (!link || !this.#up || this.#full) {
      this.#stats.refused++;
      socket.destroy();
      return;
    }
    while (this.#streams.has(this.#nextId)) this.#advanceId();
    const stream = this.#newStream(link, this.#nextId, port, answer, 'OPENING');
    this.#advanceId();
    stream.socket = socket;
    this.#requests.add(stream);
    const window = Buffer.alloc(4);
    window.writeUInt32LE(stream.window);
    link.send(frameType.OPEN, 0, stream.id, port, window);
    link.flush();
  }

  #advanceId(): void {
    this.#nextId = (this.#nextId + 2) >>> 0 || 2;
  }

  /** Sends data, a frame of each stream in turn, while the link has room. */
  #pump(): void {
    const link = this.#link;
    if (this.#pumping || !link) return;
    this.#pumping = true;
    for (const stream of this.#ready) {
      if (!link.room) break;
      this.#ready.delete(stream);
      if (stream.sendData()) this.#ready.add(stream);
    }
    this.#pumping = false;
    link.flush();
  }

  // Life of a stream.

  get #full(): boolean {
    return this.#streams.size + this.#draining.size >= this.#limits.streams;
  }

  #newStream(link: MuxLink, id: number, port: number, answer: boolean, state: MuxStream['state']): MuxStream {
    const stream = new MuxStream(
      link,
      {
        ready: (stream) => {
          this.#ready.add(stream);
          this.#pump();
        },
        sent: (octets) => {
          this.#stats.octetsToGuest += octets;
        },
        finished: (stream) => this.#forget(stream),
      },
      { id, port, window: this.#budget.reserve(), answer, state },
    );
    this.#streams.set(id, stream);
    return stream;
  }

  #invalid(stream: MuxStream): void {
    this.#stats.invalid++;
    this.#reset(stream);
  }

  #reset(stream: MuxStream): void {
    this.#stats.resets++;
    this.#link?.send(frameType.RESET, 0, stream.id, 0);
    this.#link?.flushSoon();
    this.#forget(stream);
  }

  /** Forgets a stream; what the guest had sent still reaches its socket. */
  #forget(stream: MuxStream): void {
    if (this.#streams.get(stream.id) !== stream) return;
    this.#streams.delete(stream.id);
    if (stream.id % 2 === 1) this.#guestOpened--;
    this.#requests.delete(stream);
    this.#redials.delete(stream);
    this.#ready.delete(stream);
    this.#touched.delete(stream);
    const { socket } = stream;
    if (!socket || socket.destroyed) {
      this.#budget.release(stream.window);
      return;
    }
    this.#draining.add(socket);
    socket.once('close', () => {
      this.#draining.delete(socket);
      this.#budget.release(stream.window);
    });
    stream.release();
  }
}
