/**
 * Fills the guest's receive buffers: resets owed first, then streams' control packets, then data, a stream at a time
 * in turn. Data go from a host socket straight into guest memory: one readv fills as many receive buffers as the
 * stream's credit allows; buffers it did not fill are given back to the queue.
 */

import { IoVector } from '../vhost-user/io-vector.ts';
import { DescriptorChain, type Virtqueue } from '../vhost-user/virtqueue.ts';
import { control, type VsockConnection } from './connection.ts';
import { addPayload, copyIn, emitPacketHeader, emptyHeader, hostCid, op, packetHeaderOctets } from './packet.ts';
import type { VsockStream } from './stream.ts';

/** Receive buffers filled by one readv. */
const maxBatch = 64;
/** Most octets of one stream sent before the next has its turn. */
const quantumOctets = 256 * 1024;

export class PacketSender {
  readonly #guestCid: number;
  /** A socket has been read: octets passed on, 0 at its end, or the negative errno. */
  readonly #onRead: (stream: VsockStream, result: number) => void;
  /** Streams with something for the guest: control bits, data. */
  readonly #controlReady = new Set<VsockStream>();
  readonly #dataReady = new Set<VsockStream>();
  /** Host and guest port of each RST owed. */
  readonly #resets: number[] = [];
  readonly #header = emptyHeader();
  readonly #scratch = new Uint8Array(packetHeaderOctets);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  readonly #chains = Array.from({ length: maxBatch }, () => new DescriptorChain());
  readonly #vector = new IoVector(1024);

  constructor(guestCid: number, onRead: (stream: VsockStream, result: number) => void) {
    this.#guestCid = guestCid;
    this.#onRead = onRead;
  }

  /** RSTs that wait for receive buffers. */
  get resetsOwed(): number {
    return this.#resets.length / 2;
  }

  reset(hostPort: number, guestPort: number): void {
    this.#resets.push(hostPort, guestPort);
  }

  /** Notes what a stream's connection has pending. */
  controlOf(stream: VsockStream): void {
    if (stream.connection.pending !== 0 && !stream.released) this.#controlReady.add(stream);
  }

  /** Notes that a stream's socket may have data, if the stream may send them. */
  dataOf(stream: VsockStream): void {
    const readable = stream.readable && !stream.ended && !stream.released && stream.fd >= 0;
    if (readable && stream.connection.peerFree > 0) this.#dataReady.add(stream);
  }

  forget(stream: VsockStream): void {
    this.#controlReady.delete(stream);
    this.#dataReady.delete(stream);
  }

  forgetResets(): void {
    this.#resets.length = 0;
  }

  /** Sends for at most `budget` rounds. False: it is spent, and there is more. */
  send(rx: Virtqueue, budget: number): boolean {
    for (let left = budget; left > 0; left--) {
      const done = this.#sendOne(rx);
      if (done === undefined) continue;
      rx.publish();
      // Out of receive buffers: the guest kicks when it has given more.
      if (done || !rx.allowKicks()) return true;
      rx.suppressKicks();
    }
    rx.publish();
    return false;
  }

  /** Sends one thing. True: nothing is owed; false: no receive buffer; undefined: go on. */
  #sendOne(rx: Virtqueue): boolean | undefined {
    if (this.#resets.length > 0) return this.#sendReset(rx);
    const [controlled] = this.#controlReady;
    if (controlled) return this.#sendControl(rx, controlled);
    const [stream] = this.#dataReady;
    if (stream) return this.#sendData(rx, stream);
    return true;
  }

  #sendReset(rx: Virtqueue): false | undefined {
    const chain = this.#chains[0]!;
    if (!popBuffer(rx, chain)) return false;
    const header = this.#header;
    [header.srcPort = 0, header.dstPort = 0] = this.#resets.splice(0, 2);
    header.bufAlloc = 0;
    header.fwdCnt = 0;
    this.#emit(rx, chain, op.RST, 0, 0);
    return undefined;
  }

  #sendControl(rx: Virtqueue, stream: VsockStream): false | undefined {
    const { connection } = stream;
    if (connection.pending !== 0) {
      const chain = this.#chains[0]!;
      if (!popBuffer(rx, chain)) return false;
      const bit = connection.pending & -connection.pending;
      connection.pending &= ~bit;
      this.#address(connection);
      this.#emit(rx, chain, controlOperation(bit), bit === control.SHUTDOWN ? connection.hostShutdown : 0, 0);
    }
    if (connection.pending === 0) this.#controlReady.delete(stream);
    return undefined;
  }

  #sendData(rx: Virtqueue, stream: VsockStream): false | undefined {
    const { connection } = stream;
    this.#dataReady.delete(stream);
    const quota = Math.min(connection.peerFree, quantumOctets);
    if (quota === 0 || stream.fd < 0) return undefined;
    const vector = this.#vector;
    const count = this.#gatherBuffers(rx, stream.appetite, quota);
    if (count === 0) {
      this.#dataReady.add(stream);
      return false;
    }
    const result = vector.readFrom(stream.fd);
    const used = this.#emitData(rx, connection, Math.max(0, result));
    rx.unpop(count - used);
    if (result > 0) {
      const full = result === vector.octets;
      stream.appetite = full ? Math.min(maxBatch, stream.appetite * 2) : Math.max(2, used + 1);
      // A short read has emptied the socket, unless its end was announced with the data.
      if (!full && !stream.ending) stream.readable = false;
    }
    this.#onRead(stream, result);
    this.dataOf(stream);
    return undefined;
  }

  /** Pops receive buffers for up to `quota` octets of data into the vector; their count. */
  #gatherBuffers(rx: Virtqueue, most: number, quota: number): number {
    const vector = this.#vector;
    vector.clear();
    let count = 0;
    while (count < most && vector.octets < quota) {
      const chain = this.#chains[count]!;
      if (!popBuffer(rx, chain)) break;
      if (vector.count + chain.count > vector.capacity) {
        rx.unpop(1);
        break;
      }
      count++;
      const room = chain.writableOctets - packetHeaderOctets;
      addPayload(vector, chain, chain.readable, Math.min(room, quota - vector.octets));
    }
    return count;
  }

  /** Puts headers before `octets` of data already in the gathered buffers; the buffers used. */
  #emitData(rx: Virtqueue, connection: VsockConnection, octets: number): number {
    if (octets === 0) return 0;
    connection.sent(octets);
    this.#address(connection);
    let used = 0;
    for (let left = octets; left > 0; ) {
      const chain = this.#chains[used++]!;
      const here = Math.min(left, chain.writableOctets - packetHeaderOctets);
      this.#emit(rx, chain, op.RW, 0, here);
      left -= here;
    }
    return used;
  }

  /** Addresses the header, with the credit every packet carries. */
  #address(connection: VsockConnection): void {
    const header = this.#header;
    header.srcPort = connection.hostPort;
    header.dstPort = connection.guestPort;
    header.bufAlloc = connection.bufAlloc;
    header.fwdCnt = connection.tellFwdCnt();
  }

  #emit(rx: Virtqueue, chain: DescriptorChain, operation: number, flags: number, octets: number): void {
    const header = this.#header;
    header.srcCid = hostCid;
    header.dstCid = this.#guestCid;
    header.op = operation;
    header.flags = flags;
    header.len = octets;
    const first = chain.fragments[chain.readable]!;
    if (first.length >= packetHeaderOctets) emitPacketHeader(first.region.view, first.offset, header);
    else {
      emitPacketHeader(this.#scratchView, 0, header);
      copyIn(chain.fragments, chain.readable, chain.count, this.#scratch);
    }
    rx.push(chain, packetHeaderOctets + octets);
  }
}

/** Takes a receive buffer; one that cannot hold a header and an octet of data breaks the queue. */
function popBuffer(rx: Virtqueue, chain: DescriptorChain): boolean {
  if (!rx.pop(chain)) return false;
  if (chain.writableOctets > packetHeaderOctets) return true;
  rx.fail(`a receive buffer of ${chain.writableOctets} octets`);
  return false;
}

function controlOperation(bit: number): number {
  if (bit === control.REQUEST) return op.REQUEST;
  if (bit === control.RESPONSE) return op.RESPONSE;
  return bit === control.SHUTDOWN ? op.SHUTDOWN : op.CREDIT_UPDATE;
}
