/**
 * Takes packets out of the guest's transmit queue. Payloads of consecutive packets of one stream are gathered and
 * written to its host socket by one writev, straight from guest memory, before the guest has its buffers back.
 */

import { IoVector } from '../vhost-user/io-vector.ts';
import { DescriptorChain, type Virtqueue } from '../vhost-user/virtqueue.ts';
import {
  addPayload,
  copyOut,
  emptyHeader,
  hostCid,
  op,
  type PacketHeader,
  packetHeaderOctets,
  parsePacketHeader,
  typeStream,
} from './packet.ts';
import type { VsockStream } from './stream.ts';

/** What becomes of packets. A header is valid during the call. */
export interface PacketSink {
  find(hostPort: number, guestPort: number): VsockStream | undefined;
  /** Whether more packets may be taken in now. */
  readonly accepting: boolean;
  /** Data for a stream; false: more than it may have now. `header` has its credit. */
  data(stream: VsockStream, header: PacketHeader): boolean;
  /** The stream broke the protocol; data before that have been written. */
  refused(stream: VsockStream): void;
  /** The stream's socket took so many of its octets, or failed (< 0). */
  wrote(stream: VsockStream, result: number): void;
  /** Any other packet that is addressed right, after all data before it have been written. */
  control(header: PacketHeader, stream: VsockStream | undefined): void;
  /** A packet that is none, or for somebody else: dropped. */
  dropped(): void;
}

/** An operation that no packet has: what a packet of the wrong type or length is given, so that it is refused. */
export const noOperation = -1;

export class PacketReceiver {
  readonly #guestCid: number;
  readonly #sink: PacketSink;
  readonly #chain = new DescriptorChain();
  readonly #header = emptyHeader();
  readonly #scratch = new Uint8Array(packetHeaderOctets);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  /** Payloads not yet written, and whose they are. */
  readonly #gathered = new IoVector(1024);
  #gatherer: VsockStream | undefined;

  constructor(guestCid: number, sink: PacketSink) {
    this.#guestCid = guestCid;
    this.#sink = sink;
  }

  /** Takes at most `budget` packets, until none is left or the sink accepts no more. True: none is left. */
  receive(tx: Virtqueue, budget: number): boolean {
    tx.suppressKicks();
    for (let left = budget; left > 0 && this.#sink.accepting; left--) {
      if (tx.pop(this.#chain)) {
        this.#packet(this.#chain);
        // The guest has its buffer back at publish, once what was gathered has been written.
        tx.push(this.#chain, 0);
        continue;
      }
      this.#flush();
      tx.publish();
      if (!tx.allowKicks()) return true;
      tx.suppressKicks();
    }
    this.#flush();
    tx.publish();
    return false;
  }

  #packet(chain: DescriptorChain): void {
    const header = this.#header;
    if (chain.readableOctets < packetHeaderOctets || chain.readable !== chain.count) {
      this.#sink.dropped();
      return;
    }
    const first = chain.fragments[0]!;
    if (first.length >= packetHeaderOctets) parsePacketHeader(first.region.view, first.offset, header);
    else {
      copyOut(chain.fragments, 0, chain.count, this.#scratch);
      parsePacketHeader(this.#scratchView, 0, header);
    }
    if (header.srcCid !== this.#guestCid || header.dstCid !== hostCid) {
      this.#sink.dropped();
      return;
    }
    if (header.type !== typeStream || header.len > chain.readableOctets - packetHeaderOctets) header.op = noOperation;
    const stream = this.#sink.find(header.dstPort, header.srcPort);
    if (header.op === op.RW && stream) this.#data(stream, chain);
    else {
      this.#flush();
      this.#sink.control(header, stream);
    }
  }

  #data(stream: VsockStream, chain: DescriptorChain): void {
    if (this.#gatherer !== stream || this.#gathered.count + chain.count > this.#gathered.capacity) this.#flush();
    if (!this.#sink.data(stream, this.#header)) {
      this.#flush();
      this.#sink.refused(stream);
      return;
    }
    this.#gatherer = stream;
    addPayload(this.#gathered, chain, 0, this.#header.len);
  }

  #flush(): void {
    const stream = this.#gatherer;
    if (!stream) return;
    this.#gatherer = undefined;
    this.#sink.wrote(stream, stream.write(this.#gathered));
    this.#gathered.clear();
  }
}
