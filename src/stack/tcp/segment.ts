/** The segment at hand: SEG.* of RFC 9293 3.3.1, read once from a packet and used again for the next. */

import type { Packet } from '../packet.ts';
import * as tcp from '../wire/tcp.ts';
import { parse, TcpOptions } from '../wire/tcp-options.ts';
import { type Seq, seq } from './seq.ts';

/** Two no-operations and timestamps, as nearly every segment has them. RFC 7323 appendix A. */
const ALIGNED_TIMESTAMPS = 0x0101080a;
const ALIGNED_OCTETS = tcp.HEADER_OCTETS + 12;

export class Segment {
  declare packet: Packet;
  /** SEG.SEQ */
  seq: Seq = seq(0);
  /** SEG.ACK */
  ack: Seq = seq(0);
  flags = 0;
  /** SEG.WND, as in the header. */
  window = 0;
  headerOctets = 0;
  /** Octets of payload. */
  octets = 0;
  /** What `readOptions` found: SEG.TSval and SEG.TSecr. */
  hasTimestamps = false;
  timestampValue = 0;
  timestampEcho = 0;
  /** Blocks of `options`; 0 also where these were not read. */
  sackBlocks = 0;
  readonly options = new TcpOptions();
  sourcePort = 0;
  destinationPort = 0;

  read(packet: Packet): void {
    const { view, transportAt: at } = packet;
    this.packet = packet;
    this.sourcePort = view.getUint16(at + tcp.SOURCE_PORT);
    this.destinationPort = view.getUint16(at + tcp.DESTINATION_PORT);
    this.seq = seq(view.getInt32(at + tcp.SEQUENCE));
    this.ack = seq(view.getInt32(at + tcp.ACKNOWLEDGEMENT));
    const word = view.getUint16(at + tcp.DATA_OFFSET_FLAGS);
    this.headerOctets = (word >> 12) << 2;
    this.flags = word & 0xff;
    this.window = view.getUint16(at + tcp.WINDOW);
    this.octets = packet.transportOctets - this.headerOctets;
  }

  /** Reads what options a segment of a connection with timestamps or SACK has. */
  readOptions(): void {
    const { headerOctets, options } = this;
    const { view, transportAt } = this.packet;
    const at = transportAt + tcp.HEADER_OCTETS;
    this.sackBlocks = 0;
    if (headerOctets === ALIGNED_OCTETS && view.getInt32(at) === ALIGNED_TIMESTAMPS) {
      this.hasTimestamps = true;
      this.timestampValue = view.getInt32(at + 4);
      this.timestampEcho = view.getInt32(at + 8);
      return;
    }
    this.hasTimestamps = false;
    if (headerOctets === tcp.HEADER_OCTETS) return;
    parse(view, at, headerOctets - tcp.HEADER_OCTETS, options);
    this.hasTimestamps = options.hasTimestamps;
    this.timestampValue = options.timestampValue | 0;
    this.timestampEcho = options.timestampEcho | 0;
    this.sackBlocks = options.sackBlocks;
  }

  /** SEG.LEN: payload, SYN and FIN. */
  get length(): number {
    return this.octets + (this.flags & tcp.FIN) + ((this.flags & tcp.SYN) >> 1);
  }
}
