/**
 * A capture that runs: batches that pass a pipeline become a pcapng file. Frames are filtered, cut to the snap length
 * and written into one of a few chunks of memory; a full chunk goes to the sink, which gives it back when it has stored
 * it. A sink that is too slow costs frames of the capture, counted in the file, and never holds up the network.
 *
 * The first frame of every TCP and UDP flow carries a comment that numbers it and, for a flow that was open before the
 * capture began, tells its state. Files are bounded: before one grows beyond its size, the sink is told to begin
 * another, which stands by itself (section header, interfaces).
 *
 * Limits: `CHUNKS` chunks, `MAX_FLOWS` flows remembered, the oldest is forgotten. Timers: none; `flush` is for whoever
 * wants to read along.
 */

import { CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, type FrameBatch } from '../frame-batch.ts';
import type { TappedBatch } from '../pipeline.ts';
import type { FlowRecord } from '../port.ts';
import { formatAddress } from '../wire/address.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as tcp from '../wire/tcp.ts';
import type { CaptureFilter } from './capture-filter.ts';
import { FrameHeaders } from './frame-headers.ts';
import * as pcapng from './pcapng.ts';

const CHUNK_OCTETS = 256 * 1024;
const CHUNKS = 8;
const MAX_FLOWS = 16_384;
/** The largest frame there is, an IP packet of 65535 octets behind a header with a VLAN tag, and room to spare. */
const MAX_SNAP = 65_600;
/** A file holds at least its header and some frames. */
const MIN_FILE_OCTETS = 128 * 1024;

/** Where a capture goes. */
export interface CaptureSink {
  /** Stores these octets after those before; their memory is the sink's until it calls `done`. */
  write(octets: Uint8Array, done: () => void): void;
  /** What is written from now on begins another file. */
  rotate(): void;
}

export interface CaptureOptions {
  readonly sink: CaptureSink;
  /** Wall-clock time, in milliseconds since 1970, at time 0 of the clock that batches are stamped with. */
  readonly epochMs: number;
  readonly filter?: CaptureFilter | undefined;
  /** Octets kept of each frame; 0 or undefined: all. */
  readonly snapOctets?: number | undefined;
  /** A file's size; undefined: no bound. */
  readonly fileOctets?: number | undefined;
  /** Flows that are open already. */
  readonly flows?: readonly FlowRecord[];
  /** Who writes the file. */
  readonly application?: string;
  /** It has been stopped: no batch is wanted any more. */
  readonly stopped?: () => void;
}

interface Interface {
  readonly id: number;
  readonly description: Uint8Array;
  received: number;
  dropped: number;
}

export class Capture {
  /** Frames that were written. */
  frames = 0;
  /** Frames that the sink was too slow for. */
  dropped = 0;
  readonly #options: CaptureOptions;
  readonly #snapOctets: number;
  readonly #fileOctets: number;
  readonly #header: Uint8Array;
  readonly #interfaces = new Map<number, Interface>();
  readonly #open = new Map<string, FlowRecord>();
  readonly #flows = new Map<number, number>();
  readonly #headers = new FrameHeaders();
  readonly #free: Uint8Array[] = [];
  readonly #epochHigh: number;
  readonly #epochLow: number;
  #chunks = 0;
  #chunk: Uint8Array | undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #used = 0;
  #inFile = 0;
  #flowCount = 0;
  #lost = 0;
  #high = 0;
  #low = 0;
  #stopped = false;

  constructor(options: CaptureOptions) {
    this.#options = options;
    const { snapOctets, fileOctets } = options;
    this.#snapOctets = snapOctets ? Math.min(snapOctets, MAX_SNAP) : MAX_SNAP;
    this.#fileOctets = Math.max(fileOctets ?? Number.POSITIVE_INFINITY, MIN_FILE_OCTETS);
    this.#header = pcapng.sectionHeader(options.application ?? 'Slipway');
    const epochNs = BigInt(Math.round(options.epochMs * 1000)) * 1000n;
    this.#epochHigh = Number(epochNs >> 32n);
    this.#epochLow = Number(epochNs & 0xffff_ffffn);
    for (const flow of options.flows ?? []) this.#open.set(`${flow.protocol} ${flow.guest} ${flow.peer}`, flow);
    this.#append(this.#header);
  }

  /** Frames passed a link. */
  batch({ link, ingress, mtu, direction, batch, nowMs }: TappedBatch): void {
    if (this.#stopped) return;
    const at = this.#interfaces.get(ingress) ?? this.#describe(link, ingress, mtu);
    this.#stamp(nowMs);
    const inbound = direction === 'from-guest';
    for (let i = 0; i < batch.count; i++) this.#frame(at, inbound, batch, i);
  }

  /** Hands what there is to the sink. */
  flush(): void {
    const chunk = this.#chunk;
    if (!chunk || this.#used === 0) return;
    this.#chunk = undefined;
    this.#options.sink.write(chunk.subarray(0, this.#used), () => void this.#free.push(chunk));
    this.#used = 0;
  }

  /** Writes the interfaces' statistics and hands over what is left. Nothing is captured after it. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const { id, received, dropped } of this.#interfaces.values())
      this.#append(pcapng.interfaceStatistics(id, this.#high, this.#low, received, dropped));
    this.flush();
    this.#options.stopped?.();
  }

  #frame(at: Interface, inbound: boolean, batch: FrameBatch, index: number): void {
    const first = batch.first[index]!;
    const { view } = batch.arena[first]!;
    const offset = batch.offset[first]!;
    const contiguous = batch.length[first]!;
    const { filter } = this.#options;
    if (filter && !filter.passes(view, offset, contiguous)) return;
    at.received++;
    this.#headers.read(view, offset, contiguous);
    const comment = this.#comment(view, offset, contiguous, inbound);
    const original = batch.octets[index]!;
    const captured = Math.min(original, this.#snapOctets);
    if (!this.#room(pcapng.packetOctets(captured, comment, this.#lost))) {
      at.dropped++;
      this.dropped++;
      this.#lost++;
      return;
    }
    let flags = inbound ? pcapng.INBOUND : pcapng.OUTBOUND;
    const checksum = batch.checksum[index]!;
    if (checksum === CHECKSUM_PARTIAL) flags |= pcapng.CHECKSUM_NOT_READY;
    else if (checksum === CHECKSUM_VERIFIED) flags |= pcapng.CHECKSUM_VALID;
    if (batch.segmentOctets[index]! > 0) flags |= pcapng.NOT_CUT;
    const block = this.#used;
    const [high, low] = [this.#high, this.#low];
    const end = pcapng.emitPacket(this.#view, block, at.id, high, low, captured, original, flags, comment, this.#lost);
    let place = block + pcapng.PACKET_HEAD_OCTETS;
    for (let fragment = first, left = captured; left > 0; fragment++) {
      const { bytes } = batch.arena[fragment]!;
      const begin = batch.offset[fragment]!;
      const length = Math.min(batch.length[fragment]!, left);
      this.#chunk!.set(bytes.subarray(begin, begin + length), place);
      place += length;
      left -= length;
    }
    this.#inFile += end - block;
    this.#used = end;
    this.#lost = 0;
    this.frames++;
  }

  /** What the first frame of a flow says of it. */
  #comment(view: DataView, frame: number, contiguous: number, inbound: boolean): Uint8Array | undefined {
    const { source, destination, sourcePort, destinationPort, protocol, transportAt } = this.#headers;
    if (sourcePort < 0) return undefined;
    const key = flowKey(source, sourcePort, destination, destinationPort, protocol);
    const isTcp = protocol === ipv4.PROTOCOL_TCP;
    const hasFlags = isTcp && contiguous >= transportAt + tcp.HEADER_OCTETS;
    const begins = hasFlags && (tcp.flags(view, frame + transportAt) & (tcp.SYN | tcp.ACK)) === tcp.SYN;
    if (!begins && this.#flows.has(key)) return undefined;
    if (this.#flows.size >= MAX_FLOWS) this.#flows.delete(this.#flows.keys().next().value!);
    this.#flows.set(key, ++this.#flowCount);
    const name = isTcp ? 'tcp' : 'udp';
    const from = endpoint(source, sourcePort);
    const to = endpoint(destination, destinationPort);
    const record = begins ? undefined : this.#open.get(inbound ? `${name} ${from} ${to}` : `${name} ${to} ${from}`);
    const before = record
      ? `; open before the capture: ${record.state}, ${record.octetsToGuest} octets to the guest, ${record.octetsToHost} from it`
      : '';
    return pcapng.textOption(`flow ${this.#flowCount}: ${name} ${from} > ${to}${before}`);
  }

  #describe(link: string, ingress: number, mtu: number): Interface {
    const { filter, snapOctets } = this.#options;
    const description = pcapng.interfaceDescription({
      name: link,
      description: `switch port ${ingress}, MTU ${mtu}; inbound is from the guest`,
      snapOctets: snapOctets ? this.#snapOctets : 0,
      filter: filter?.text,
    });
    const at = { id: this.#interfaces.size, description, received: 0, dropped: 0 };
    this.#interfaces.set(ingress, at);
    this.#append(description);
    return at;
  }

  /** Room for a block in the chunk at hand and in the file. */
  #room(octets: number): boolean {
    if (this.#inFile + octets > this.#fileOctets && !this.#rotate()) return false;
    if (this.#chunk && this.#used + octets > this.#chunk.length) this.flush();
    return this.#chunk !== undefined || this.#take();
  }

  #take(): boolean {
    let chunk = this.#free.pop();
    if (!chunk) {
      if (this.#chunks === CHUNKS) return false;
      this.#chunks++;
      chunk = new Uint8Array(CHUNK_OCTETS);
    }
    this.#chunk = chunk;
    this.#view = new DataView(chunk.buffer);
    this.#used = 0;
    return true;
  }

  /** Begins another file, if there is memory for its beginning. */
  #rotate(): boolean {
    this.flush();
    if (!this.#take()) return false;
    this.#options.sink.rotate();
    this.#inFile = 0;
    this.#append(this.#header);
    for (const { description } of this.#interfaces.values()) this.#append(description);
    return true;
  }

  /** A block that must not be lost, or the file could not be read: it may take one chunk more than there are. */
  #append(block: Uint8Array): void {
    if (this.#chunk && this.#used + block.length > this.#chunk.length) this.flush();
    if (!this.#chunk && !this.#take()) {
      this.#chunks--;
      this.#take();
    }
    this.#chunk!.set(block, this.#used);
    this.#used += block.length;
    this.#inFile += block.length;
  }

  /** Nanoseconds since 1970 in two words: more than a number holds exactly, so the epoch is added in parts. */
  #stamp(nowMs: number): void {
    const ns = Math.round(nowMs * 1e6) + this.#epochLow;
    this.#low = ns % 0x1_0000_0000;
    this.#high = this.#epochHigh + Math.floor(ns / 0x1_0000_0000);
  }
}

/** The same for both directions. Two flows with one key share a comment, and nothing else. */
function flowKey(a: Int32Array, aPort: number, b: Int32Array, bPort: number, protocol: number): number {
  return (side(a, aPort) + side(b, bPort) + protocol) | 0;
}

function side(address: Int32Array, port: number): number {
  let hash = port ^ 0x9e3779b9;
  for (let i = 0; i < 4; i++) hash = Math.imul(hash ^ address[i]!, 0x85ebca6b) ^ (hash >>> 13);
  return Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35);
}

function endpoint(words: Int32Array, port: number): string {
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  for (let i = 0; i < 4; i++) view.setInt32(4 * i, words[i]!);
  const text = formatAddress(address);
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}
