/**
 * The virtio-vsock device behind the vhost-user back end: moves streams between the guest's queues and host sockets.
 * Virtio 1.2 section 5.10; the host side's names and handshakes are HyperKit's and Firecracker's (handshake.ts).
 *
 * Queue 0 carries packets to the guest (packet-sender.ts), 1 from it (packet-receiver.ts); 2 (events) is the front end's
 * affair. Data go straight between guest memory and sockets; only what a host socket does not take is copied, into a
 * buffer no larger than the credit the guest was given. So a stopped reader on either side stops the writer on the
 * other, and nothing else.
 *
 * Events: a kick, a host socket's readiness, a host connection, two timers (an unanswered REQUEST, a lingering end).
 * Each ends in one `turn`: take in packets, send what is owed (resets, then control, then data round robin), publish
 * each used ring once. Limits: streams, octets held, resets owed (beyond which no packet is taken in until the guest
 * gives receive buffers).
 *
 * How a stream ends. A socket's end becomes SHUTDOWN with SEND; a socket gone altogether SHUTDOWN with both flags, after
 * which the connection lingers for the guest's RST. The guest's SEND becomes shutdown(SHUT_WR) once what it sent has
 * been written, its RECEIVE shutdown(SHUT_RD); with both it is answered RST at once (5.10.6.6.1), and what it sent
 * is still written. A socket that was reset, data before their connection, too much data and packets for no connection
 * are answered RST.
 */

import { join } from 'node:path';
import { addressOfBuffer } from '../../native/memory.ts';
import {
  close,
  EAGAIN,
  EINTR,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  SHUT_RD,
  SHUT_WR,
  shutdown,
  write,
} from '../../native/system-calls.ts';
import type { VhostUserDevice } from '../vhost-user/device.ts';
import type { Poller } from '../vhost-user/poller.ts';
import { connectUnix } from '../vhost-user/unix-socket.ts';
import type { Virtqueue } from '../vhost-user/virtqueue.ts';
import { type ConnectionState, control, VsockConnection } from './connection.ts';
import { ConnectionTable } from './connection-table.ts';
import { DeadlineQueue, type Timers } from './deadline-queue.ts';
import { emptyStreamStats, type StreamLimits, type StreamStats } from './limits.ts';
import { op, type PacketHeader, shutdownReceive, shutdownSend } from './packet.ts';
import { noOperation, PacketReceiver, type PacketSink } from './packet-receiver.ts';
import { PacketSender } from './packet-sender.ts';
import { SendBufferPool } from './send-buffer.ts';
import { hostPortName } from './socket-path.ts';
import { VsockStream } from './stream.ts';
import { WindowBudget } from './window-budget.ts';

const rxQueue = 0;
const txQueue = 1;
/** Packets taken in, or rounds of sending, in one turn. */
const turnBudget = 512;
/** Resets owed, beyond which the guest's packets wait. */
const maxResets = 128;
/** A host socket whose backlog is full is tried again this often. */
const redialMs = 10;
const maxRedials = 200;
/** How much of the streams a guest may open. */
const guestShare = 0.75;

export interface TransportOptions {
  readonly guestCid: number;
  readonly directory: string;
  readonly limits: StreamLimits;
  readonly poller: Poller;
  readonly timers: Timers;
}

export class VsockTransport implements VhostUserDevice, PacketSink {
  readonly name = 'vsock';
  readonly queueCount = 3;
  readonly features = 0n;
  /** guest_cid, u64. */
  readonly config = new Uint8Array(8);
  readonly #options: TransportOptions;
  readonly #poller: Poller;
  readonly #stats = emptyStreamStats();
  readonly #table = new ConnectionTable<VsockStream>();
  readonly #pool: SendBufferPool;
  readonly #budget: WindowBudget;
  readonly #requests: DeadlineQueue<VsockStream>;
  readonly #lingering: DeadlineQueue<VsockStream>;
  readonly #redials: DeadlineQueue<VsockStream>;
  /** Released streams whose octets still drain into the host's socket. */
  readonly #draining = new Set<VsockStream>();
  readonly #receiver: PacketReceiver;
  readonly #sender: PacketSender;
  #rx: Virtqueue | undefined;
  #tx: Virtqueue | undefined;
  #txReady = false;
  #held = false;
  #scheduled = false;
  #closed = false;

  constructor(options: TransportOptions) {
    const { limits, timers } = options;
    this.#options = options;
    this.#poller = options.poller;
    this.#pool = new SendBufferPool(limits.streamOctets);
    this.#budget = new WindowBudget(limits.streamOctets, limits.streams, limits.totalOctets);
    this.#receiver = new PacketReceiver(options.guestCid, this);
    this.#sender = new PacketSender(options.guestCid, (stream, result) => this.#afterRead(stream, result));
    this.#requests = new DeadlineQueue(limits.connectTimeoutMs, timers, (stream) => {
      this.#stats.timeouts++;
      this.#release(stream, true);
      this.turn();
    });
    this.#lingering = new DeadlineQueue(limits.lingerMs, timers, (stream) => {
      this.#release(stream, true);
      this.turn();
    });
    this.#redials = new DeadlineQueue(redialMs, timers, (stream) => {
      this.#dial(stream);
      this.turn();
    });
    new DataView(this.config.buffer).setBigUint64(0, BigInt(options.guestCid), true);
  }

  get stats(): StreamStats {
    return { ...this.#stats, open: this.#table.size + this.#draining.size };
  }

  /** Whether a driver runs in the guest. */
  get running(): boolean {
    return this.#rx?.broken === false && this.#tx?.broken === false;
  }

  /** The machine is made to stand still, or goes on: its queues stop and start again, and its streams outlive that. */
  hold(held: boolean): void {
    this.#held = held;
  }

  /** Opens a stream to a guest port for a connected host socket, which is the transport's from here on. */
  open(fd: number, port: number, answer: boolean): void {
    if (!this.running || !this.#makeRoom()) {
      this.#stats.refused++;
      close(fd);
      return;
    }
    const stream = this.#newStream(this.#table.allocateHostPort(), port, 'REQUESTED', fd);
    stream.answer = answer;
    this.#table.addHostOpened(stream);
    this.#requests.add(stream);
    this.#owe(stream, control.REQUEST);
  }

  /** Takes in packets and sends what is owed; the device's owner calls it after each batch of events. */
  turn(): void {
    do {
      if (this.#tx && this.#rx && this.#txReady) {
        this.#txReady = !this.#receiver.receive(this.#tx, turnBudget);
        if (this.#txReady && this.accepting) this.#schedule();
      }
      if (this.#rx && !this.#sender.send(this.#rx, turnBudget)) this.#schedule();
      // A queue the guest has broken carries nothing any more: the host's ends must not wait for it.
      if ((this.#rx?.broken || this.#tx?.broken) && this.#table.size > 0) this.#dropAll();
      // Packets that waited for resets to go out are taken in at once.
    } while (this.#txReady && !this.#scheduled && this.accepting && this.running);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#poller.soon(() => {
      this.#scheduled = false;
      if (!this.#closed) this.turn();
    });
  }

  close(): void {
    this.#closed = true;
    this.#dropAll();
    for (const stream of [...this.#draining]) this.#closeSocket(stream);
  }

  negotiated(): void {}

  queueStarted(index: number, queue: Virtqueue): void {
    if (index === rxQueue) {
      this.#rx = queue;
      queue.suppressKicks();
    } else if (index === txQueue) {
      this.#tx = queue;
      this.#txReady = true;
    }
  }

  kicked(index: number): void {
    if (index === txQueue) this.#txReady = true;
  }

  queueStopped(index: number): void {
    if (index === rxQueue) this.#rx = undefined;
    else if (index === txQueue) this.#tx = undefined;
    else return;
    this.#txReady = false;
    if (!this.#held) this.#dropAll();
  }

  gone(): void {
    this.#dropAll();
  }

  // From the guest (PacketSink).

  get accepting(): boolean {
    return this.#sender.resetsOwed < maxResets;
  }

  find(hostPort: number, guestPort: number): VsockStream | undefined {
    return this.#table.find(hostPort, guestPort);
  }

  dropped(): void {
    this.#stats.invalid++;
  }

  data(stream: VsockStream, header: PacketHeader): boolean {
    const { connection } = stream;
    connection.credit(header.bufAlloc, header.fwdCnt);
    if (!connection.received(header.len)) return false;
    this.#stats.octetsFromGuest += header.len;
    this.#sender.dataOf(stream);
    return true;
  }

  control(header: PacketHeader, stream: VsockStream | undefined): void {
    if (header.op === op.RST) {
      if (!stream) return;
      // To a SHUTDOWN of both directions an RST is the proper answer.
      if (stream.connection.state === 'REQUESTED') this.#stats.refused++;
      else if (!stream.connection.hostDone) this.#stats.resets++;
      this.#release(stream, false);
    } else if (header.op === op.REQUEST && !stream) this.#request(header);
    else if (!stream) {
      if (header.op === noOperation) this.#stats.invalid++;
      this.#sender.reset(header.dstPort, header.srcPort);
    } else {
      const { connection } = stream;
      connection.credit(header.bufAlloc, header.fwdCnt);
      if (header.op === op.RESPONSE && connection.state === 'REQUESTED') this.#accepted(stream);
      else if (connection.state !== 'ESTABLISHED') this.refused(stream);
      else if (header.op === op.SHUTDOWN) this.#guestShutDown(stream, header.flags);
      else if (header.op === op.CREDIT_REQUEST) this.#owe(stream, control.CREDIT_UPDATE);
      else if (header.op !== op.CREDIT_UPDATE) this.refused(stream);
      this.#sender.dataOf(stream);
    }
  }

  refused(stream: VsockStream): void {
    this.#stats.invalid++;
    this.#stats.resets++;
    this.#release(stream, true);
  }

  #request({ dstPort, srcPort, bufAlloc, fwdCnt }: PacketHeader): void {
    // The guest never takes the last quarter, so that the host can always reach it.
    const mayOpen = this.#table.guestOpened < this.#options.limits.streams * guestShare && this.#makeRoom();
    const stream = mayOpen ? this.#newStream(dstPort, srcPort, 'DIALLING', -1) : undefined;
    if (!stream || !this.#table.addGuestOpened(stream)) {
      if (stream) this.#budget.release(stream.connection.bufAlloc);
      this.#stats.refused++;
      this.#sender.reset(dstPort, srcPort);
      return;
    }
    stream.connection.credit(bufAlloc, fwdCnt);
    this.#dial(stream);
  }

  /** Connects to the unix socket of the host port the guest asked for. */
  #dial(stream: VsockStream): void {
    const fd = connectUnix(join(this.#options.directory, hostPortName(stream.hostPort)));
    if (fd === EAGAIN && stream.attempts++ < maxRedials) {
      this.#redials.add(stream);
      return;
    }
    if (fd < 0) {
      this.#stats.refused++;
      this.#release(stream, true);
      return;
    }
    stream.fd = fd;
    stream.connection.state = 'ESTABLISHED';
    this.#stats.fromGuest++;
    this.#owe(stream, control.RESPONSE);
    this.#watch(stream);
  }

  /** The guest accepted a stream of ours. */
  #accepted(stream: VsockStream): void {
    this.#requests.delete(stream);
    stream.connection.state = 'ESTABLISHED';
    this.#stats.fromHost++;
    if (stream.answer) {
      const line = new ArrayBuffer(32);
      const { written } = new TextEncoder().encodeInto(`OK ${stream.hostPort}\n`, new Uint8Array(line));
      write(stream.fd, addressOfBuffer(line), written);
    }
    this.#watch(stream);
  }

  /** Accounts for octets the host's socket took, or for its failure. */
  wrote(stream: VsockStream, result: number): void {
    const { connection } = stream;
    if (result >= 0) {
      connection.forwarded(result);
      this.#sender.controlOf(stream);
      return;
    }
    // EPIPE: the host's end takes nothing more.
    stream.writeBroken = true;
    stream.discard();
    connection.forwarded(connection.held);
    if (stream.released) this.#closeSocket(stream);
    else if (stream.ended) this.#hostGone(stream);
    else this.#shutDown(stream, shutdownReceive);
  }

  #guestShutDown(stream: VsockStream, flags: number): void {
    const { connection } = stream;
    const before = connection.guestShutdown;
    connection.guestShutdown |= flags & (shutdownReceive | shutdownSend);
    if (connection.guestDone) {
      this.#release(stream, true);
      return;
    }
    if (stream.fd < 0) return;
    const news = connection.guestShutdown & ~before;
    if ((news & shutdownReceive) !== 0) shutdown(stream.fd, SHUT_RD);
    if ((news & shutdownSend) !== 0 && !stream.holding) this.#guestEnded(stream);
  }

  /** Everything the guest will ever send has been written. */
  #guestEnded(stream: VsockStream): void {
    shutdown(stream.fd, SHUT_WR);
    if (stream.ended) this.#hostGone(stream);
  }

  // From the host.

  #watch(stream: VsockStream): void {
    this.#poller.add(stream.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, (events) => this.#hostReady(stream, events));
  }

  #hostReady(stream: VsockStream, events: number): void {
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) stream.readable = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) stream.ending = true;
    if ((events & EPOLLHUP) !== 0) stream.hungUp = true;
    if ((events & (EPOLLOUT | EPOLLHUP)) !== 0 && stream.holding) {
      this.wrote(stream, stream.drain());
      if (stream.fd < 0) return;
      if (!stream.holding) {
        if (stream.released) this.#closeSocket(stream);
        else if ((stream.connection.guestShutdown & shutdownSend) !== 0) this.#guestEnded(stream);
      }
    }
    if (stream.released || stream.fd < 0) return;
    const deaf = (stream.connection.guestShutdown & shutdownReceive) !== 0;
    if (stream.hungUp && (stream.ended || deaf)) this.#hostGone(stream);
    else this.#sender.dataOf(stream);
  }

  /** The host's socket is gone, and everything it sent has been passed on. */
  #hostGone(stream: VsockStream): void {
    stream.connection.forwarded(stream.connection.held);
    stream.discard();
    this.#shutDown(stream, shutdownReceive | shutdownSend);
    this.#closeDescriptor(stream);
    this.#lingering.add(stream);
  }

  #shutDown(stream: VsockStream, flags: number): void {
    stream.connection.shutDown(flags);
    this.#sender.controlOf(stream);
  }

  #owe(stream: VsockStream, bit: number): void {
    stream.connection.pending |= bit;
    this.#sender.controlOf(stream);
  }

  /** A stream's socket has been read. */
  #afterRead(stream: VsockStream, result: number): void {
    if (result > 0) this.#stats.octetsToGuest += result;
    else if (result === 0) {
      stream.ended = true;
      const guestEnded = (stream.connection.guestShutdown & shutdownSend) !== 0 && !stream.holding;
      if (stream.hungUp || guestEnded || stream.writeBroken) this.#hostGone(stream);
      else this.#shutDown(stream, shutdownSend);
    } else if (result === EAGAIN) stream.readable = false;
    else if (result !== EINTR) {
      // ECONNRESET: the host's end closed with the guest's data unread.
      this.#stats.resets++;
      stream.discard();
      this.#release(stream, true);
    }
  }

  // Life of a stream.

  #newStream(hostPort: number, guestPort: number, state: ConnectionState, fd: number): VsockStream {
    const connection = new VsockConnection(hostPort, guestPort, this.#budget.reserve(), state);
    return new VsockStream(connection, fd, this.#pool);
  }

  /** Room for one more stream, if need be by ending the one that has lingered longest. */
  #makeRoom(): boolean {
    if (this.#table.size + this.#draining.size < this.#options.limits.streams) return true;
    const { oldest } = this.#lingering;
    if (!oldest) return false;
    this.#release(oldest, true);
    return true;
  }

  /** Forgets a connection; octets the guest had sent are still written, then the socket is closed. */
  #release(stream: VsockStream, reset: boolean): void {
    if (stream.released) return;
    stream.released = true;
    this.#table.delete(stream);
    this.#requests.delete(stream);
    this.#lingering.delete(stream);
    this.#redials.delete(stream);
    this.#sender.forget(stream);
    if (reset) this.#sender.reset(stream.hostPort, stream.guestPort);
    if (stream.fd >= 0 && stream.holding) {
      this.#draining.add(stream);
      shutdown(stream.fd, SHUT_RD);
    } else this.#closeSocket(stream);
  }

  #closeSocket(stream: VsockStream): void {
    this.#draining.delete(stream);
    stream.discard();
    this.#closeDescriptor(stream);
    this.#budget.release(stream.connection.bufAlloc);
  }

  #closeDescriptor(stream: VsockStream): void {
    if (stream.fd < 0) return;
    this.#poller.remove(stream.fd);
    close(stream.fd);
    stream.fd = -1;
  }

  /** The driver is gone: so are its connections. */
  #dropAll(): void {
    for (const stream of [...this.#table]) this.#release(stream, false);
    this.#sender.forgetResets();
  }
}
