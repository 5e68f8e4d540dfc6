/**
 * Segment scripts: what the guest sends and what it must see, in the notation of tcpdump and packetdrill.
 *
 *     script.guest('S 0:0(0) win 65535 <mss 1460,wscale 7>');
 *     script.expect('S. 0:0(0) ack 1 <mss 1460,wscale 7>');
 *
 * Sequence numbers are relative to each side's initial one, our timestamps to our first; the guest's are as written.
 * Options: mss N, wscale N, sackOK, TS val N ecr N, sack L:R L:R, nop. Flags: S F R P U and . for ACK. `win` is the field as it
 * stands. An expectation without `win` does not look at it, one without options does not look at them. Payload is a
 * pattern that depends on the sequence number, and is checked.
 */

import type { Test } from 'tap';
import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../../../src/stack/port.ts';
import * as tcp from '../../../src/stack/wire/tcp.ts';
import { parse, TcpOptions } from '../../../src/stack/wire/tcp-options.ts';
import { GUEST, ipFrame, pattern, readIp, transportChecksum } from '../frames.ts';
import { address, World, type WorldOptions } from '../world.ts';

export const flagBits: readonly [string, number][] = [
  ['S', tcp.SYN],
  ['F', tcp.FIN],
  ['R', tcp.RST],
  ['P', tcp.PSH],
  ['U', tcp.URG],
  ['.', tcp.ACK],
];

interface Parsed {
  readonly flags: string;
  readonly seq: number;
  readonly octets: number;
  readonly ack: number | undefined;
  readonly window: number | undefined;
  readonly options: string | undefined;
}

const line = /^(\S+) (-?\d+):(-?\d+)\((\d+)\)(?: ack (-?\d+))?(?: win (\d+))?(?: <(.*)>)?$/;

export function parseLine(text: string): Parsed {
  const found = line.exec(text);
  if (!found) throw new Error(`not a segment: ${text}`);
  const [, flags, from, to, octets, ack, window, options] = found;
  if (Number(to) - Number(from) !== Number(octets)) throw new Error(`lengths differ: ${text}`);
  return {
    flags: flags!,
    seq: Number(from),
    octets: Number(octets),
    ack: ack === undefined ? undefined : Number(ack),
    window: window === undefined ? undefined : Number(window),
    options,
  };
}

const word = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

/** `ourIsn` and `ourTicks`: what numbers of blocks and echoes are relative to. */
export function encodeOptions(text: string | undefined, ourIsn: number, ourTicks: number): Uint8Array {
  const bytes: number[] = [];
  for (const option of text?.split(',') ?? []) {
    const [name, value, ...rest] = option.trim().split(' ');
    if (name === 'mss') bytes.push(2, 4, Number(value) >> 8, Number(value) & 255);
    else if (name === 'wscale') bytes.push(1, 3, 3, Number(value));
    else if (name === 'nop') bytes.push(1);
    else if (name === 'sackOK') bytes.push(1, 1, 4, 2);
    else if (name === 'TS') bytes.push(1, 1, 8, 10, ...word(Number(rest[0])), ...word(ourTicks + Number(rest[2])));
    else if (name === 'sack') {
      const edges = [value, ...rest].flatMap((block) => block!.split(':').map(Number));
      bytes.push(1, 1, 5, 2 + 4 * edges.length, ...edges.flatMap((edge) => word(ourIsn + edge)));
    } else if (name?.startsWith('raw:')) bytes.push(...Buffer.from(name.slice(4), 'hex'));
    else throw new Error(`unknown option ${option}`);
  }
  while (bytes.length % 4 !== 0) bytes.push(0);
  return Uint8Array.from(bytes);
}

/** The owner of a connection: notes what happens to it, and keeps what arrives. */
export class Owner implements TcpHandler {
  readonly log: string[] = [];
  octets = 0;
  mostRoom = 65535;
  /** Octets that `received` takes; by default all. */
  takes = Number.POSITIVE_INFINITY;
  onEvent: ((event: string) => void) | undefined = undefined;
  /** An octet came that the script has not sent. */
  onWrong = (what: string): void => {
    throw new Error(what);
  };

  established(): void {
    this.#note('established');
  }

  room(): number {
    return this.mostRoom;
  }

  received(_connection: TcpConnection, list: FragmentList): number {
    const taken = Math.min(list.octets, this.takes);
    let at = this.octets;
    let left = taken;
    for (let i = 0; i < list.count && left > 0; i++) {
      const { arena, offset, length } = list.items[i]!;
      const octets = Math.min(length, left);
      const expected = pattern(octets, at + 1);
      for (let k = 0; k < octets; k++)
        if (arena.bytes[offset + k] !== expected[k]) this.onWrong(`octet ${at + k} of the stream is wrong`);
      at += octets;
      left -= octets;
    }
    this.octets += taken;
    this.#note(`received ${taken}`);
    return taken;
  }

  receivedEnd(): void {
    this.#note('end');
  }

  writable(): void {
    this.#note('writable');
  }

  closed(_connection: TcpConnection, reason: CloseReason): void {
    this.#note(`closed ${reason}`);
  }

  take(): string[] {
    return this.log.splice(0);
  }

  #note(event: string): void {
    this.log.push(event);
    this.onEvent?.(event);
  }
}

export interface ScriptOptions extends WorldOptions {
  readonly guestIsn?: number;
  readonly guestPort?: number;
  readonly peer?: string;
  readonly peerPort?: number;
  readonly guest?: string;
}

export class TcpScript {
  readonly world: World;
  readonly owner = new Owner();
  readonly #t: Test;
  readonly #guestIsn: number;
  readonly guest: string;
  readonly guestPort: number;
  readonly peer: string;
  peerPort: number;
  /** Our initial sequence number, seen in our first SYN. */
  ourIsn: number | undefined = undefined;
  /** TSval of our first segment that had one. */
  ourTicks: number | undefined = undefined;
  /** Octets written for the guest so far. */
  written = 0;

  constructor(t: Test, options: ScriptOptions = {}) {
    this.#t = t;
    this.world = new World(options);
    this.#guestIsn = options.guestIsn ?? 0xffff_fff0;
    this.guest = options.guest ?? GUEST;
    this.guestPort = options.guestPort ?? 40000;
    this.peer = options.peer ?? '10.0.0.1';
    this.peerPort = options.peerPort ?? 80;
  }

  /** The connection that the forwarder was given last. */
  get connection(): TcpConnection {
    return this.world.dialled.at(-1)!;
  }

  frame(text: string): Uint8Array {
    const { flags, seq, octets, ack, window, options } = parseLine(text);
    const encoded = encodeOptions(options, this.ourIsn ?? 0, this.ourTicks ?? 0);
    const bytes = new Uint8Array(20 + encoded.length + octets);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, this.guestPort);
    view.setUint16(2, this.peerPort);
    view.setUint32(4, (this.#guestIsn + seq) >>> 0);
    view.setUint32(8, ack === undefined ? 0 : ((this.ourIsn ?? 0) + ack) >>> 0);
    let bits = 0;
    for (const [letter, bit] of flagBits) if (flags.includes(letter)) bits |= bit;
    view.setUint16(12, ((bytes.length - octets) << 10) | bits);
    view.setUint16(14, window ?? 65535);
    bytes.set(encoded, 20);
    bytes.set(pattern(octets, seq), 20 + encoded.length);
    view.setUint16(16, transportChecksum(this.guest, this.peer, 6, bytes));
    return ipFrame(6, bytes, { from: this.guest, to: this.peer });
  }

  /** The guest sends these, in one batch. */
  guestSends(...lines: string[]): void {
    this.world.link.input(lines.map((text) => this.frame(text)));
  }

  /** The stack sends exactly these, when polled. */
  expect(...lines: string[]): void {
    this.world.poll();
    const found = this.world.link.take().map(({ bytes }) => this.#describe(bytes));
    const wanted = lines.map(parseLine);
    const shown = found.map((segment, i) => {
      const want = wanted[i];
      const { text, window, options } = segment;
      const win = want?.window === undefined && want ? '' : ` win ${window}`;
      const opts = (want?.options === undefined && want) || options === '' ? '' : ` <${options}>`;
      return `${text}${win}${opts}`;
    });
    this.#t.same(shown, lines, `the guest sees ${lines.join(', ') || 'nothing'}`);
  }

  /** What the owner was told since the last time. */
  owns(...events: string[]): void {
    this.#t.same(this.owner.take(), events, `the owner hears ${events.join(', ') || 'nothing'}`);
  }

  /** The owner writes octets for the guest; returns how many found room. */
  write(octets: number): number {
    let left = octets;
    const { connection } = this;
    while (left > 0 && connection.reserveSend()) {
      const count = Math.min(left, connection.sendLength);
      connection.sendArena.bytes.set(pattern(count, this.written + 1), connection.sendOffset);
      connection.commitSend(count);
      this.written += count;
      left -= count;
    }
    return octets - left;
  }

  /** The owner writes octets, which leave as far as the windows let them; returns the number of segments. */
  flight(octets: number): number {
    this.write(octets);
    this.world.poll();
    return this.world.link.take().length;
  }

  /** From SYN to ESTABLISHED, the way a guest opens a connection. */
  establish(options = '<mss 1460,wscale 7>', window = 65535): void {
    this.guestSends(`S 0:0(0) win ${window} ${options}`.trim());
    this.connection.accept(this.owner);
    this.world.poll();
    this.#describe(this.world.link.take().at(-1)!.bytes);
    this.guestSends(`. 1:1(0) ack 1 win ${window}${options.includes('TS') ? ' <TS val 1 ecr 0>' : ''}`);
    this.world.poll();
    this.owner.take();
    this.world.link.take();
  }

  /** We open a connection to the guest, up to our SYN, which is left in the link. */
  connect(guestPort = this.guestPort): void {
    const peer = { peerAddress: address(this.peer), peerPort: this.peerPort };
    const connection = this.world.netstack.connect(
      { guestAddress: address(this.guest), guestPort, ...peer },
      this.owner,
    );
    this.world.dialled.push(connection);
  }

  advance(ms: number): void {
    this.world.advance(ms);
  }

  /** Lets time pass until the stack sends something. */
  advanceUntilSent(): void {
    const { world } = this;
    for (world.poll(); world.link.sent.length === 0; world.poll()) {
      const at = world.netstack.pollAt();
      if (at === Number.POSITIVE_INFINITY) throw new Error('nothing is due');
      world.nowMs = Math.max(world.nowMs, at);
    }
  }

  #describe(frame: Uint8Array): { text: string; window: number; options: string } {
    const packet = readIp(frame);
    const bytes = packet.payload;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (packet.protocol !== 6) throw new Error(`protocol ${packet.protocol}`);
    if (
      this.world.link.offload.checksum === false &&
      transportChecksum(packet.source, packet.destination, 6, bytes) !== 0
    )
      throw new Error('TCP checksum');
    const header = tcp.headerOctets(view, 0);
    const bits = tcp.flags(view, 0);
    let flags = '';
    for (const [letter, bit] of flagBits) if ((bits & bit) !== 0) flags += letter;
    const octets = bytes.length - header;
    if ((bits & tcp.SYN) !== 0) {
      this.ourIsn = tcp.sequence(view, 0);
      this.peerPort = tcp.sourcePort(view, 0);
    }
    const seq = (tcp.sequence(view, 0) - (this.ourIsn ?? 0)) | 0;
    const payload = bytes.subarray(header);
    const wanted = pattern(octets, seq);
    if (payload.some((octet, i) => octet !== wanted[i])) this.#t.fail(`the payload at ${seq} is not the stream's`);
    const ack = (bits & tcp.ACK) !== 0 ? ` ack ${(tcp.acknowledgement(view, 0) - this.#guestIsn) | 0}` : '';
    const options = new TcpOptions();
    parse(view, 20, header - 20, options);
    const shown: string[] = [];
    if (options.maximumSegmentSize >= 0) shown.push(`mss ${options.maximumSegmentSize}`);
    if (options.windowScale >= 0) shown.push(`wscale ${options.windowScale}`);
    if (options.sackPermitted) shown.push('sackOK');
    if (options.hasTimestamps) {
      this.ourTicks ??= options.timestampValue;
      shown.push(`TS val ${(options.timestampValue - this.ourTicks) | 0} ecr ${options.timestampEcho}`);
    }
    if (options.sackBlocks > 0) {
      const edge = (numbers: Uint32Array, i: number): number => (numbers[i]! - this.#guestIsn) | 0;
      const blocks = Array.from({ length: options.sackBlocks }, (_, i) => i);
      shown.push(`sack ${blocks.map((i) => `${edge(options.sackLeft, i)}:${edge(options.sackRight, i)}`).join(' ')}`);
    }
    return {
      text: `${flags} ${seq}:${seq + octets}(${octets})${ack}`,
      window: tcp.window(view, 0),
      options: shown.join(','),
    };
  }
}

/** The guest's SYN is answered, and that is all. */
export function answered(t: Test, options = ''): TcpScript {
  const s = new TcpScript(t);
  s.guestSends(`S 0:0(0) ${options}`.trim());
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1');
  return s;
}

/** A connection that the guest has opened. */
export function established(t: Test, ...how: Parameters<TcpScript['establish']>): TcpScript {
  const s = new TcpScript(t);
  s.establish(...how);
  return s;
}

/** The same, after a round trip of 10 ms, which has been measured. */
export function measured(t: Test, options: string, window = 65535, script: ScriptOptions = {}): TcpScript {
  const s = new TcpScript(t, script);
  s.guestSends(`S 0:0(0) win ${window} ${options}`);
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1');
  s.world.nowMs += 10;
  s.guestSends(`. 1:1(0) ack 1 win ${window}`);
  s.owns('established');
  return s;
}
