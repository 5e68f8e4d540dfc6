/**
 * The virtio-vsock device behind the vhost-user back end: moves streams between the guest's queues and host sockets.
 * Virtio 1.2 section 5.10; the host side's names and handshakes are HyperKit's and Firecracker's (handshake.ts).
 *
 * Queue 0 carries packets to the guest, 1 from it; 2 (events) is the front end's affair. Data go straight between guest
 * memory and sockets: readv fills as many receive buffers as a stream's credit allows, writev takes the payloads of
 * consecutive packets of one stream; only what a host socket does not take is copied, into a buffer no larger than the
 * credit the guest was given. So a stopped reader on either side stops the writer on the other, and nothing else.
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
import type { VhostUserDevice } from '../vhost-user/device.ts';
import { IoVector } from '../vhost-user/io-vector.ts';
import {
  addressOf,
  close,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  errno,
  SHUT_RD,
  SHUT_WR,
  shutdown,
  write,
} from '../vhost-user/libc.ts';
import type { Poller } from '../vhost-user/poller.ts';
import { connectUnix } from '../vhost-user/unix-socket.ts';
import { DescriptorChain, type Virtqueue } from '../vhost-user/virtqueue.ts';
import { type ConnectionState, control, VsockConnection } from './connection.ts';
import { ConnectionTable } from './connection-table.ts';
import { DeadlineQueue, type Timers } from './deadline-queue.ts';
import { emptyStreamStats, type StreamLimits, type StreamStats } from './limits.ts';
import {
  copyIn,
  copyOut,
  emitPacketHeader,
  emptyHeader,
  hostCid,
  op,
  packetHeaderOctets,
  parsePacketHeader,
  shutdownReceive,
  shutdownSend,
  typeStream,
} from './packet.ts';
import { SendBufferPool } from './send-buffer.ts';
import { hostPortName } from './socket-path.ts';
import { VsockStream } from './stream.ts';
import { WindowBudget } from './window-budget.ts';

const rxQueue = 0;
const txQueue = 1;
/** Packets taken in, or rounds of sending, in one turn. */
const turnBudget = 512;
/** Receive buffers filled by one readv. */
const maxBatch = 64;
/** Most octets of one stream sent before the next has its turn. */
const quantumOctets = 256 * 1024;
/** Resets owed, beyond which the guest's packets wait. */
const maxResets = 256;
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

export class VsockTransport implements VhostUserDevice {
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
  /** Streams with something for the guest: control bits, data. */
  readonly #controlReady = new Set<VsockStream>();
  readonly #dataReady = new Set<VsockStream>();
  /** Host and guest port of each RST owed. */
  readonly #resets: number[] = [];
  readonly #header = emptyHeader();
  readonly #out = emptyHeader();
  readonly #scratch = new Uint8Array(packetHeaderOctets);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  readonly #chains = Array.from({ length: maxBatch }, () => new DescriptorChain());
  readonly #txChain = new DescriptorChain();
  readonly #rxVector = new IoVector(1024);
  /** Payloads of consecutive packets of one stream, not yet written. */
  readonly #gathered = new IoVector(1024);
  #gatherer: VsockStream | undefined;
  #rx: Virtqueue | undefined;
  #tx: Virtqueue | undefined;
  #txReady = false;
  #scheduled = false;
  #closed = false;

  constructor(options: TransportOptions) {
    const { limits, timers } = options;
    this.#options = options;
    this.#poller = options.poller;
    this.#pool = new SendBufferPool(limits.streamOctets);
    this.#budget = new WindowBudget(limits.streamOctets, limits.streams, limits.totalOctets);
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
      this.#receive();
      this.#send();
      // A queue the guest has broken carries nothing any more: the host's ends must not wait for it.
      if ((this.#rx?.broken || this.#tx?.broken) && this.#table.size > 0) this.#dropAll();
    } while (this.#txReady && !this.#scheduled && this.#resets.length < maxResets && this.running);
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
    this.#dropAll();
  }

  // From the guest.

  #receive(): void {
    const tx = this.#tx;
    if (!tx || !this.#rx || !this.#txReady) return;
    tx.suppressKicks();
    for (let budget = turnBudget; this.#resets.length < maxResets; budget--) {
      if (budget === 0) {
        this.#schedule();
        break;
      }
      if (tx.pop(this.#txChain)) {
        this.#packet(this.#txChain);
        // The guest has its buffer back at publish, once what was gathered has been written.
        tx.push(this.#txChain, 0);
        continue;
      }
      this.#flushGathered();
      tx.publish();
      if (!tx.allowKicks()) {
        this.#txReady = false;
        return;
      }
      tx.suppressKicks();
    }
    this.#flushGathered();
    tx.publish();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) this.turn();
    });
  }

  #packet(chain: DescriptorChain): void {
    const header = this.#header;
    if (chain.readableOctets < packetHeaderOctets || chain.readable !== chain.count) {
      this.#stats.invalid++;
      return;
    }
    const first = chain.fragments[0]!;
    if (first.length >= packetHeaderOctets) parsePacketHeader(first.region.view, first.offset, header);
    else {
      copyOut(chain.fragments, 0, chain.count, this.#scratch);
      parsePacketHeader(this.#scratchView, 0, header);
    }
    if (header.srcCid !== this.#options.guestCid || header.dstCid !== hostCid) {
      this.#stats.invalid++;
      return;
    }
    const stream = this.#table.find(header.dstPort, header.srcPort);
    const dataFits = header.len <= chain.readableOctets - packetHeaderOctets;
    if (header.op === op.RW && stream && dataFits && header.type === typeStream) {
      stream.connection.credit(header.bufAlloc, header.fwdCnt);
      this.#data(stream, chain);
      return;
    }
    this.#flushGathered();
    if (header.type !== typeStream || !dataFits) {
      this.#stats.invalid++;
      this.#refuse(stream);
    } else if (header.op === op.RST) {
      if (stream) {
        this.#stats.resets++;
        this.#release(stream, false);
      }
    } else if (header.op === op.REQUEST) this.#request(stream);
    else if (!stream) this.#refuse(undefined);
    else {
      stream.connection.credit(header.bufAlloc, header.fwdCnt);
      this.#controlPacket(stream);
    }
  }

  #controlPacket(stream: VsockStream): void {
    const { connection } = stream;
    const header = this.#header;
    if (header.op === op.RESPONSE && connection.state === 'REQUESTED') this.#accepted(stream);
    else if (connection.state !== 'ESTABLISHED') this.#invalid(stream);
    else if (header.op === op.SHUTDOWN) this.#guestShutDown(stream, header.flags);
    else if (header.op === op.CREDIT_REQUEST) this.#owe(stream, control.CREDIT_UPDATE);
    else if (header.op !== op.CREDIT_UPDATE) this.#invalid(stream);
    this.#wantData(stream);
  }

  /** What the header in hand asks for is not to be had: RST, and the end of the stream it names. */
  #refuse(stream: VsockStream | undefined): void {
    if (stream) this.#release(stream, true);
    else this.#resets.push(this.#header.dstPort, this.#header.srcPort);
  }

  #invalid(stream: VsockStream): void {
    this.#stats.invalid++;
    this.#stats.resets++;
    this.#release(stream, true);
  }

  #request(existing: VsockStream | undefined): void {
    const { dstPort, srcPort, bufAlloc, fwdCnt } = this.#header;
    if (existing) {
      this.#invalid(existing);
      return;
    }
    // The guest never takes the last quarter, so that the host can always reach it.
    const mayOpen = this.#table.guestOpened < this.#options.limits.streams * guestShare && this.#makeRoom();
    const stream = mayOpen ? this.#newStream(dstPort, srcPort, 'DIALLING', -1) : undefined;
    if (!stream || !this.#table.addGuestOpened(stream)) {
      if (stream) this.#budget.release(stream.connection.bufAlloc);
      this.#stats.refused++;
      this.#refuse(undefined);
      return;
    }
    stream.connection.credit(bufAlloc, fwdCnt);
    this.#dial(stream);
  }

  /** Connects to the unix socket of the host port the guest asked for. */
  #dial(stream: VsockStream): void {
    const fd = connectUnix(join(this.#options.directory, hostPortName(stream.hostPort)));
    if (fd === -errno.EAGAIN && stream.attempts++ < maxRedials) {
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
      write(stream.fd, addressOf(line), written);
    }
    this.#watch(stream);
  }

  #data(stream: VsockStream, chain: DescriptorChain): void {
    const { len } = this.#header;
    if (!stream.connection.received(len)) {
      this.#flushGathered();
      this.#invalid(stream);
      return;
    }
    this.#stats.octetsFromGuest += len;
    if (this.#gatherer !== stream || this.#gathered.count + chain.count > this.#gathered.capacity) {
      this.#flushGathered();
      this.#gatherer = stream;
    }
    addPayload(this.#gathered, chain, 0, len);
    this.#wantData(stream);
  }

  /** Writes the gathered payloads to their stream's socket. */
  #flushGathered(): void {
    const stream = this.#gatherer;
    if (!stream) return;
    this.#gatherer = undefined;
    if (stream.fd < 0) stream.connection.forwarded(this.#gathered.octets);
    else if (this.#gathered.octets > 0) this.#wrote(stream, stream.write(this.#gathered));
    this.#gathered.clear();
  }

  /** Accounts for octets the host's socket took, or for its failure. */
  #wrote(stream: VsockStream, result: number): void {
    const { connection } = stream;
    if (result >= 0) {
      connection.forwarded(result);
      if (connection.pending !== 0 && !stream.released) this.#controlReady.add(stream);
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
      this.#wrote(stream, stream.drain());
      if (stream.fd < 0) return;
      if (!stream.holding) {
        if (stream.released) this.#closeSocket(stream);
        else if ((stream.connection.guestShutdown & shutdownSend) !== 0) this.#guestEnded(stream);
      }
    }
    if (stream.released || stream.fd < 0) return;
    const deaf = (stream.connection.guestShutdown & shutdownReceive) !== 0;
    if (stream.hungUp && (stream.ended || deaf)) this.#hostGone(stream);
    else this.#wantData(stream);
  }

  /** The host's socket is gone, and everything it sent has been passed on. */
  #hostGone(stream: VsockStream): void {
    stream.connection.forwarded(stream.connection.held);
    stream.discard();
    this.#shutDown(stream, shutdownReceive | shutdownSend);
    this.#closeDescriptor(stream);
    this.#dataReady.delete(stream);
    this.#lingering.add(stream);
  }

  #shutDown(stream: VsockStream, flags: number): void {
    stream.connection.shutDown(flags);
    if (stream.connection.pending !== 0) this.#controlReady.add(stream);
  }

  #owe(stream: VsockStream, bit: number): void {
    stream.connection.pending |= bit;
    this.#controlReady.add(stream);
  }

  #wantData(stream: VsockStream): void {
    if (stream.readable && !stream.ended && stream.fd >= 0 && stream.connection.peerFree > 0)
      this.#dataReady.add(stream);
  }

  // To the guest.

  #send(): void {
    const rx = this.#rx;
    if (!rx) return;
    for (let budget = turnBudget; ; budget--) {
      if (budget === 0) {
        this.#schedule();
        break;
      }
      const owedNothing = this.#sendOne(rx);
      if (owedNothing === undefined) continue;
      rx.publish();
      // Out of receive buffers: the guest kicks when it has given more.
      if (owedNothing || !rx.allowKicks()) return;
      rx.suppressKicks();
    }
    rx.publish();
  }

  /** Sends one thing. True: nothing is owed; false: no receive buffer; undefined: go on. */
  #sendOne(rx: Virtqueue): boolean | undefined {
    if (this.#resets.length > 0) {
      if (!this.#popForHeader(rx)) return false;
      const out = this.#out;
      [out.srcPort = 0, out.dstPort = 0] = this.#resets.splice(0, 2);
      out.bufAlloc = 0;
      out.fwdCnt = 0;
      this.#emit(rx, this.#chains[0]!, op.RST, 0, 0);
      return undefined;
    }
    const [controlled] = this.#controlReady;
    if (controlled) return this.#sendControl(rx, controlled);
    const [stream] = this.#dataReady;
    if (stream) return this.#sendData(rx, stream);
    return true;
  }

  #sendControl(rx: Virtqueue, stream: VsockStream): false | undefined {
    const { connection } = stream;
    if (connection.pending === 0) {
      this.#controlReady.delete(stream);
      return undefined;
    }
    if (!this.#popForHeader(rx)) return false;
    const bit = connection.pending & -connection.pending;
    connection.pending &= ~bit;
    this.#address(connection);
    const flags = bit === control.SHUTDOWN ? connection.hostShutdown : 0;
    this.#emit(rx, this.#chains[0]!, controlOperation(bit), flags, 0);
    if (connection.pending === 0) this.#controlReady.delete(stream);
    return undefined;
  }

  #sendData(rx: Virtqueue, stream: VsockStream): false | undefined {
    const { connection } = stream;
    this.#dataReady.delete(stream);
    const quota = Math.min(connection.peerFree, quantumOctets);
    if (quota === 0 || stream.fd < 0) return undefined;
    const vector = this.#rxVector;
    vector.clear();
    let count = 0;
    while (count < stream.appetite && vector.octets < quota) {
      const chain = this.#chains[count]!;
      if (!this.#popRx(rx, chain)) break;
      if (vector.count + chain.count > vector.capacity) {
        rx.unpop(1);
        break;
      }
      count++;
      addPayload(
        vector,
        chain,
        chain.readable,
        Math.min(chain.writableOctets - packetHeaderOctets, quota - vector.octets),
      );
    }
    if (count === 0) {
      this.#dataReady.add(stream);
      return false;
    }
    const result = vector.readFrom(stream.fd);
    let left = Math.max(0, result);
    let used = 0;
    if (left > 0) {
      this.#stats.octetsToGuest += left;
      connection.sent(left);
      this.#address(connection);
      while (left > 0) {
        const chain = this.#chains[used++]!;
        const octets = Math.min(left, chain.writableOctets - packetHeaderOctets);
        this.#emit(rx, chain, op.RW, 0, octets);
        left -= octets;
      }
    }
    rx.unpop(count - used);
    this.#afterRead(stream, result, result === vector.octets, used);
    return undefined;
  }

  #afterRead(stream: VsockStream, result: number, full: boolean, used: number): void {
    if (result > 0) {
      stream.appetite = full ? Math.min(maxBatch, stream.appetite * 2) : Math.max(2, used + 1);
      // A short read has emptied the socket, unless its end was announced with the data.
      if (!full && !stream.ending) stream.readable = false;
      this.#wantData(stream);
    } else if (result === 0) {
      stream.ended = true;
      const guestEnded = (stream.connection.guestShutdown & shutdownSend) !== 0 && !stream.holding;
      if (stream.hungUp || guestEnded || stream.writeBroken) this.#hostGone(stream);
      else this.#shutDown(stream, shutdownSend);
    } else if (result === -errno.EAGAIN) stream.readable = false;
    else if (result === -errno.EINTR) this.#wantData(stream);
    else {
      // ECONNRESET: the host's end closed with the guest's data unread.
      this.#stats.resets++;
      stream.discard();
      this.#release(stream, true);
    }
  }

  /** Addresses the outgoing header, with the credit every packet carries. */
  #address(connection: VsockConnection): void {
    const out = this.#out;
    out.srcPort = connection.hostPort;
    out.dstPort = connection.guestPort;
    out.bufAlloc = connection.bufAlloc;
    out.fwdCnt = connection.tellFwdCnt();
  }

  #emit(rx: Virtqueue, chain: DescriptorChain, operation: number, flags: number, octets: number): void {
    const out = this.#out;
    out.srcCid = hostCid;
    out.dstCid = this.#options.guestCid;
    out.op = operation;
    out.flags = flags;
    out.len = octets;
    const first = chain.fragments[chain.readable]!;
    if (first.length >= packetHeaderOctets) emitPacketHeader(first.region.view, first.offset, out);
    else {
      emitPacketHeader(this.#scratchView, 0, out);
      copyIn(chain.fragments, chain.readable, chain.count, this.#scratch);
    }
    rx.push(chain, packetHeaderOctets + octets);
  }

  #popForHeader(rx: Virtqueue): boolean {
    return this.#popRx(rx, this.#chains[0]!);
  }

  /** Takes a receive buffer; one that cannot hold a header and an octet of data breaks the queue. */
  #popRx(rx: Virtqueue, chain: DescriptorChain): boolean {
    if (!rx.pop(chain)) return false;
    if (chain.writableOctets > packetHeaderOctets) return true;
    rx.fail(`a receive buffer of ${chain.writableOctets} octets`);
    return false;
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
    this.#controlReady.delete(stream);
    this.#dataReady.delete(stream);
    if (reset) this.#resets.push(stream.hostPort, stream.guestPort);
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
    this.#gatherer = undefined;
    this.#gathered.clear();
    for (const stream of [...this.#table]) this.#release(stream, false);
    this.#resets.length = 0;
  }
}

/** Appends `octets` of a packet's data: the chain's fragments from `first` on, without the header. */
function addPayload(vector: IoVector, chain: DescriptorChain, first: number, octets: number): void {
  let skip = packetHeaderOctets;
  let left = octets;
  for (let index = first; index < chain.count && left > 0; index++) {
    const { region, offset, length } = chain.fragments[index]!;
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const here = Math.min(left, length - skip);
    vector.add(region, offset + skip, here);
    left -= here;
    skip = 0;
  }
}

function controlOperation(bit: number): number {
  if (bit === control.REQUEST) return op.REQUEST;
  if (bit === control.RESPONSE) return op.RESPONSE;
  return bit === control.SHUTDOWN ? op.SHUTDOWN : op.CREDIT_UPDATE;
}
