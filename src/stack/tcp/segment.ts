/** The segment at hand: SEG.* of RFC 9293 3.3.1, read once from a packet and used again for the next. */

import type { Packet } from '../packet.ts';
import * as tcp from '../wire/tcp.ts';
import { type Seq, seq } from './seq.ts';

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

  /** SEG.LEN: payload, SYN and FIN. */
  get length(): number {
    return this.octets + (this.flags & tcp.FIN) + ((this.flags & tcp.SYN) >> 1);
  }
}
