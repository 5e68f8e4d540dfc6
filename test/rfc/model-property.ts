/**
 * Random segments and calls against the stack and against a model of RFC 9293's state machine (tcp-model.ts): after
 * each, both are in one state, have taken the same octets, and what was sent is what the model says. A property, for a
 * test and for `npm run fuzz`.
 */

import fc from 'fast-check';
import type { FragmentList, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { ipFrame, pattern, readIp, transportChecksum } from '../stack/frames.ts';
import { address, World } from '../stack/world.ts';
import { type Answer, distance, type ModelSegment, TcpModel } from './tcp-model.ts';

const GUEST = '192.168.65.3';
const PEER = '10.0.0.1';
const PORTS = [40000, 80] as const;

const BITS = { FIN: 1, SYN: 2, RST: 4, ACK: 16 } as const;

function encode(s: ModelSegment): Uint8Array {
  const bytes = new Uint8Array(20 + s.octets);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, PORTS[0]);
  view.setUint16(2, PORTS[1]);
  view.setUint32(4, s.seq);
  view.setUint32(8, s.ACK ? s.ack : 0);
  bytes[12] = 5 << 4;
  for (const name of ['FIN', 'SYN', 'RST', 'ACK'] as const) if (s[name]) bytes[13]! |= BITS[name];
  view.setUint16(14, s.window);
  bytes.set(pattern(s.octets, s.seq % 65536), 20);
  view.setUint16(16, transportChecksum(GUEST, PEER, 6, bytes));
  return ipFrame(6, bytes, { to: PEER });
}

function decode(frame: Uint8Array): ModelSegment {
  const { payload } = readIp(frame);
  const view = new DataView(payload.buffer, payload.byteOffset);
  const header = (payload[12]! >> 4) * 4;
  const has = (bit: number): boolean => (payload[13]! & bit) !== 0;
  return {
    seq: view.getUint32(4),
    ack: view.getUint32(8),
    window: view.getUint16(14),
    octets: payload.length - header,
    SYN: has(BITS.SYN),
    FIN: has(BITS.FIN),
    RST: has(BITS.RST),
    ACK: has(BITS.ACK),
  };
}

/** Longer than any delayed acknowledgement. */
const PUT_OFF_MS = 30;

const show = (s: ModelSegment): string => `${JSON.stringify(s)}`;

class Taker implements TcpHandler {
  octets = 0;
  ended = false;
  closed = (): void => undefined;
  established = (): void => undefined;
  writable = (): void => undefined;
  readonly window: number;
  room = (): number => this.window;

  constructor(window: number) {
    this.window = window;
  }

  received(_connection: TcpConnection, list: FragmentList): number {
    this.octets += list.octets;
    return list.octets;
  }
  receivedEnd(): void {
    this.ended = true;
  }
}

interface Sent {
  readonly do: 'segment';
  /** Where in the guest's numbers: from RCV.NXT, or from the window's edge. */
  readonly from: 'next' | 'edge';
  readonly seq: number;
  readonly ack: number;
  readonly flags: readonly (keyof typeof BITS)[];
  readonly window: number;
  readonly octets: number;
}

interface Done {
  readonly do: 'write' | 'end' | 'abort' | 'pass';
  readonly ms: number;
}

/** Stack and model side by side. */
class Both {
  readonly world = new World();
  readonly owner: Taker;
  readonly model: TcpModel;
  readonly connection: TcpConnection;
  over = false;

  constructor(active: boolean, isn: number, window: number) {
    this.owner = new Taker(window);
    this.model = new TcpModel(active);
    const syn = { seq: isn, ack: 0, window: 65535, octets: 0, SYN: true, FIN: false, RST: false, ACK: false };
    if (active) {
      this.world.netstack.pinNeighbor(address(GUEST), this.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
      const peer = { peerAddress: address(PEER), peerPort: PORTS[1] };
      const guest = { guestAddress: address(GUEST), guestPort: PORTS[0] };
      this.connection = this.world.netstack.connect({ ...guest, ...peer }, this.owner);
      this.#look({ ack: 'none', rst: undefined, over: false }, 'opening');
      return;
    }
    this.world.link.input([encode(syn)]);
    this.connection = this.world.dialled[0]!;
    this.connection.accept(this.owner);
    this.model.opened(syn);
    this.#look({ ack: 'must', rst: undefined, over: false }, 'opening');
  }

  step(step: Sent | Done, isn: number): void {
    const { model, connection } = this;
    if (step.do === 'segment') {
      const has = (name: keyof typeof BITS): boolean => step.flags.includes(name);
      const base = model.state === 'SYN-SENT' ? isn : step.from === 'next' ? model.next : model.edge;
      const seq = (base + step.seq) >>> 0;
      const ack = (model.max + step.ack) >>> 0;
      const flags = { SYN: has('SYN'), FIN: has('FIN'), RST: has('RST'), ACK: has('ACK') };
      // Wide at first: how far back an acknowledgement may lie depends on the widest window there was.
      const window = model.state.startsWith('SYN') ? 65535 : step.window;
      const segment = { seq, ack: flags.ACK ? ack : 0, window, octets: step.octets, ...flags };
      const answer = model.arrive(segment);
      this.world.link.input([encode(segment)]);
      this.over = answer.over;
      if (!this.over) this.#look(answer, show(segment));
      return;
    }
    const answer: Answer = { ack: 'may', rst: undefined, over: false };
    if (step.do === 'pass') {
      this.over = model.pass(step.ms);
      this.world.advance(step.ms);
      if (this.over) return;
    }
    if (step.do === 'write' && connection.reserveSend()) connection.commitSend(100);
    else if (step.do === 'end') connection.end();
    else if (step.do === 'abort') {
      const silent = ['SYN-SENT', 'TIME-WAIT', 'CLOSED'].includes(model.state);
      if (!silent) answer.rst = { seq: model.max, ack: model.next };
      if (model.state !== 'TIME-WAIT') model.state = 'CLOSED';
      connection.abort();
    }
    this.#look(answer, step.do);
  }

  #look(answer: Answer, what: string): void {
    const { model, world } = this;
    const fail = (why: string): never => {
      throw new Error(`${why}, at ${what} in ${model.state} (the stack: ${this.connection.state})`);
    };
    world.poll();
    // What may be put off comes within this time.
    world.advance(PUT_OFF_MS);
    if (model.pass(PUT_OFF_MS)) {
      this.over = true;
      return;
    }
    let acknowledged = false;
    let reset: Answer['rst'];
    for (const { bytes } of world.link.take()) {
      const s = decode(bytes);
      if (s.RST) {
        if (reset) fail('two resets');
        reset = { seq: s.seq, ack: s.ACK ? s.ack : undefined };
        continue;
      }
      acknowledged = true;
      const objection = model.observe(s);
      if (objection !== undefined) fail(`${objection}: ${show(s)}`);
    }
    if (JSON.stringify(reset) !== JSON.stringify(answer.rst))
      fail(`reset ${JSON.stringify(reset)}, not ${JSON.stringify(answer.rst)}`);
    if (answer.ack === 'must' && !acknowledged) fail('no acknowledgement');
    if (this.connection.state !== model.state) fail('another state');
    if (this.owner.octets !== model.delivered) fail(`${this.owner.octets} octets, not ${model.delivered}`);
    if (this.owner.ended !== model.ended) fail('another end');
    const inFlight = distance(model.max, model.una);
    if (model.state === 'TIME-WAIT' && inFlight !== 0) fail('something is in flight');
  }
}

const segment = fc.record({
  do: fc.constant('segment' as const),
  from: fc.oneof(
    { weight: 8, arbitrary: fc.constant('next' as const) },
    { weight: 1, arbitrary: fc.constant('edge' as const) },
  ),
  seq: fc.oneof(
    { weight: 10, arbitrary: fc.constant(0) },
    { weight: 5, arbitrary: fc.integer({ min: -150, max: 150 }) },
    { weight: 2, arbitrary: fc.constantFrom(-1, 1) },
    { weight: 1, arbitrary: fc.constantFrom(0x4000_0000, -0x4000_0000, 70_000, -70_000) },
  ),
  ack: fc.oneof(
    { weight: 10, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.constant(-1) },
    { weight: 3, arbitrary: fc.integer({ min: -150, max: 3 }) },
    { weight: 1, arbitrary: fc.constantFrom(1, 0x4000_0000, -0x4000_0000) },
  ),
  flags: fc.oneof(
    { weight: 12, arbitrary: fc.constant(['ACK'] as const) },
    { weight: 5, arbitrary: fc.constant(['ACK', 'FIN'] as const) },
    { weight: 2, arbitrary: fc.constant(['SYN'] as const) },
    { weight: 2, arbitrary: fc.constant(['SYN', 'ACK'] as const) },
    { weight: 1, arbitrary: fc.constant(['RST'] as const) },
    { weight: 1, arbitrary: fc.constant(['RST', 'ACK'] as const) },
    { weight: 1, arbitrary: fc.subarray(['ACK', 'FIN', 'SYN', 'RST'] as const) },
  ),
  window: fc.constantFrom(65535, 65535, 1000, 0),
  octets: fc.constantFrom(0, 0, 0, 1, 100, 1460),
});
const call = fc.record({
  do: fc.constantFrom('write' as const, 'end' as const, 'end' as const, 'pass' as const),
  ms: fc.constantFrom(0, 150, 1001, 11_000),
});
const abort = fc.record({ do: fc.constant('abort' as const), ms: fc.constant(0) });
const steps = fc.array(
  fc.oneof({ weight: 16, arbitrary: segment }, { weight: 5, arbitrary: call }, { weight: 1, arbitrary: abort }),
  { minLength: 1, maxLength: 40 },
);

/** What the owner takes, and so the window that we offer. */
const windows = fc.constantFrom(65535, 65535, 3000, 100, 0);

/** That stack and model agree; `seen` counts the states in which they did. */
export const agreement = (seen: Map<string, number>) =>
  fc.property(fc.boolean(), fc.integer({ min: 0, max: 2 ** 32 - 1 }), windows, steps, (active, isn, window, script) => {
    const both = new Both(active, isn, window);
    // Most scripts begin with a handshake that succeeds, or they would not get far.
    if (isn % 4 !== 0) {
      const shake = { do: 'segment', from: 'next', seq: 0, ack: 0, window: 65535, octets: 0 } as const;
      both.step({ ...shake, flags: active ? ['SYN', 'ACK'] : ['ACK'] }, isn);
    }
    for (const step of script) {
      if (both.over) break;
      both.step(step, isn);
      seen.set(both.model.state, (seen.get(both.model.state) ?? 0) + 1);
    }
  });
