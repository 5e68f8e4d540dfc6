/** Segment scripts in the notation of tcp-script.ts, over a real link, against whatever is behind it. */

import * as tcp from '../../src/stack/wire/tcp.ts';
import { parse, TcpOptions } from '../../src/stack/wire/tcp-options.ts';
import { tcpBytes } from '../clients/frame-guest.ts';
import { type FrameOptions, ipFrame, pattern, transportChecksum } from '../stack/frames.ts';
import { encodeOptions, flagBits, parseLine } from '../stack/tcp/tcp-script.ts';
import type { Packet } from './ear.ts';
import { HOST, type HostSide, type Stage } from './stage.ts';

export interface Heard {
  readonly flags: string;
  readonly seq: number;
  readonly ack: number | undefined;
  readonly octets: number;
  readonly payload: Uint8Array;
  readonly window: number;
  readonly options: TcpOptions;
  readonly checksumRight: boolean;
}

/** Whatever else is set in it: PSH does no harm. */
export const isSynAck = ({ flags }: Heard): boolean => flags.includes('S') && flags.includes('.');

/** A case does not hold: what was seen instead. */
export class Otherwise extends Error {}

export class WireScript {
  readonly stage: Stage;
  readonly port: number;
  readonly guestPort: number;
  readonly host: string;
  readonly isn = 0xffff_fff0;
  theirIsn = 0;
  /** The shift of their windows. */
  theirScale = 0;

  constructor(stage: Stage, options: { readonly port?: number; readonly host?: string } = {}) {
    this.stage = stage;
    this.port = options.port ?? stage.port;
    this.host = options.host ?? HOST;
    this.guestPort = stage.freshPort();
  }

  /** From SYN to ESTABLISHED, on both sides. */
  static async open(stage: Stage, options = '<mss 1460,wscale 7>', window = 65_535): Promise<[WireScript, HostSide]> {
    const s = new WireScript(stage);
    s.guestSends(`S 0:0(0) win ${window} ${options}`.trim());
    const synAck = await s.next(isSynAck);
    if (!synAck) throw new Otherwise('no SYN-ACK');
    s.guestSends(`. 1:1(0) ack 1 win ${window}`);
    const side = await stage.arrival();
    if (!side) throw new Otherwise('the host sees no connection');
    return [s, side];
  }

  frame(text: string, how: FrameOptions & { readonly urgent?: number; readonly spoil?: boolean } = {}): Uint8Array {
    const { flags, seq, octets, ack, window, options } = parseLine(text);
    const { guest } = this.stage;
    let bits = 0;
    for (const [letter, bit] of flagBits) if (flags.includes(letter)) bits |= bit;
    const from = how.from ?? guest.address;
    const bytes = tcpBytes(
      {
        sourcePort: this.guestPort,
        port: this.port,
        sequence: this.isn + seq,
        acknowledgement: ack === undefined ? 0 : this.theirIsn + ack,
        flags: bits,
        window: window ?? 65_535,
        options: encodeOptions(options, this.theirIsn, 0),
        urgent: how.urgent ?? 0,
        payload: pattern(octets, seq),
      },
      from,
      this.host,
    );
    if (how.spoil) bytes[bytes.length - 1]! ^= 1;
    return ipFrame(6, bytes, { ...guest.frameOptions, to: this.host, ...how });
  }

  guestSends(...lines: string[]): void {
    for (const text of lines) this.stage.guest.send(this.frame(text));
  }

  /** The next segment of the connection's that matches, within `ms`. */
  async next(matches: (heard: Heard) => boolean = () => true, ms = 2000): Promise<Heard | undefined> {
    let found: Heard | undefined;
    await this.stage.ear.next((packet) => {
      const heard = this.#read(packet);
      if (!heard || !matches(heard)) return false;
      found = heard;
      return true;
    }, ms);
    return found;
  }

  /** The same; throws when none comes. */
  async must(what: string, matches: (heard: Heard) => boolean = () => true, ms = 2000): Promise<Heard> {
    const heard = await this.next(matches, ms);
    if (!heard) throw new Otherwise(`no ${what}`);
    return heard;
  }

  /** Nothing that matches may come for a while. */
  async mustNot(what: string, matches: (heard: Heard) => boolean = () => true, ms = 400): Promise<void> {
    if (await this.next(matches, ms)) throw new Otherwise(what);
  }

  /** The connection still carries octets: the guest's next one arrives. */
  async mustLive(side: HostSide, seq = 1, ack = 1): Promise<void> {
    const before = side.received.length;
    this.guestSends(`P. ${seq}:${seq + 10}(10) ack ${ack}`);
    if (!(await side.comesTo(() => side.received.length >= before + 10))) throw new Otherwise('the connection is dead');
  }

  #read({ source, protocol, payload, fragment }: Packet): Heard | undefined {
    if (protocol !== 6 || source !== this.host || (fragment & 0x3fff) !== 0 || payload.length < 20) return undefined;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    if (tcp.sourcePort(view, 0) !== this.port || tcp.destinationPort(view, 0) !== this.guestPort) return undefined;
    const header = tcp.headerOctets(view, 0);
    const bits = tcp.flags(view, 0);
    if ((bits & tcp.SYN) !== 0) this.theirIsn = tcp.sequence(view, 0);
    const options = new TcpOptions();
    parse(view, 20, header - 20, options);
    if ((bits & tcp.SYN) !== 0) this.theirScale = Math.max(0, options.windowScale);
    return {
      flags: flagBits
        .filter(([, bit]) => (bits & bit) !== 0)
        .map(([letter]) => letter)
        .join(''),
      seq: (tcp.sequence(view, 0) - this.theirIsn) | 0,
      ack: (bits & tcp.ACK) !== 0 ? (tcp.acknowledgement(view, 0) - this.isn) | 0 : undefined,
      octets: payload.length - header,
      payload: payload.subarray(header),
      window: tcp.window(view, 0),
      options,
      checksumRight: transportChecksum(source, this.stage.guest.address, 6, payload) === 0,
    };
  }
}
