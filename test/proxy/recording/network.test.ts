/** A whole network between fakes: whatever guests, host and owner do, it is done again as it was. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { remake, resultText } from '../../../src/cli/net-replay.ts';
import { Network } from '../../../src/network.ts';
import { FakeHostNet } from '../../../src/proxy/adapter/fake-host-net.ts';
import type { NetworkRequest, Outside, OutsideHandler } from '../../../src/proxy/outside.ts';
import { parsePolicyRules } from '../../../src/proxy/policy/rule.ts';
import type { HostEchoHandler, HostEchoPort, HostStream, StreamHandler } from '../../../src/proxy/port.ts';
import { RecordedOutside } from '../../../src/proxy/recording/recorded-outside.ts';
import { Recorder } from '../../../src/proxy/recording/recorder.ts';
import { replay } from '../../../src/proxy/recording/replay.ts';
import { parseConditions } from '../../../src/stack/link/conditions.ts';
import type { LinkPort } from '../../../src/stack/port.ts';
import { FakeLink } from '../../stack/fake-link.ts';
import { icmpFrame, ipFrame, pattern, readIp, transportChecksum, udpFrame } from '../../stack/frames.ts';
import { address, seededRandom } from '../../stack/world.ts';
import { sourceOf } from './sources.ts';

t.setTimeout(120_000);
const MAC = 0xf6_16_36_bc_f9_c6;
const HOST = '192.168.65.2';
/** Listens on the fake host. */
const ECHO_PORT = 7;

/** A host in memory, whose events and timers happen when they are let. */
class FakeOutside implements Outside {
  nowMs = 1000;
  readonly isRecorded = false;
  readonly clock = { nowMs: () => this.nowMs };
  readonly wallClock = {
    read: () => ({ epochMs: 1.7e12 + this.nowMs, inStep: true, leap: 0, maxErrorMs: 5, precision: -20 }),
  };
  readonly #events: (() => void)[] = [];
  readonly hostNet = new FakeHostNet((event) => void this.#events.push(event));
  readonly #config = { servers: [{ address: address('192.0.2.53'), port: 53 }], search: ['example'] };
  readonly resolvers = { current: () => this.#config };
  readonly #hosts = new Map([['printer', [address('10.1.2.3')]]]);
  readonly hosts = { current: () => this.#hosts };
  readonly random;
  readonly #own = [address('10.9.9.9')];
  readonly #soon: (() => void)[] = [];
  readonly #periods: (() => void)[] = [];
  #at = Number.POSITIVE_INFINITY;
  #due: (() => void) | undefined;
  #handler: OutsideHandler | undefined;

  constructor(seed: number) {
    const random = seededRandom(seed);
    this.random = {
      fill: (into: Uint8Array) => {
        for (let i = 0; i < into.length; i++) into[i] = random() * 256;
      },
    };
  }

  hostAddresses() {
    return this.#own;
  }

  async loadEcho(): Promise<HostEchoPort> {
    return {
      open: (_family, handler: HostEchoHandler) => {
        const socket = {
          owner: undefined as unknown,
          send: (to: Uint8Array, sequence: number) => {
            const peer = to.slice();
            this.#events.push(() => handler.replied(socket, peer, sequence, pattern(30)));
            return true;
          },
          close: () => undefined,
        };
        return socket;
      },
    };
  }

  useDns(): void {}

  start(handler: OutsideHandler): void {
    this.#handler = handler;
  }

  schedule(at: number | 'soon', run: () => void): void {
    if (at === 'soon') this.#soon.push(run);
    else {
      this.#at = at;
      this.#due = run;
    }
  }

  every(_periodMs: number, run: () => void): void {
    this.#periods.push(run);
  }

  link(link: LinkPort): LinkPort {
    return link;
  }

  request<T>(_request: NetworkRequest, run: () => T): T {
    return run();
  }

  close(): void {}

  /** Host sockets tell what they have to tell, and then what is due runs. */
  async turn(ms: number): Promise<void> {
    this.nowMs += ms;
    for (const event of this.#events.splice(0)) event();
    if (ms > 0) this.#handler?.serviced();
    else this.#handler?.turnOver();
    for (const run of this.#soon.splice(0)) run();
    if (this.#at <= this.nowMs) {
      this.#at = Number.POSITIVE_INFINITY;
      this.#due?.();
    }
    if (ms > 10_000) for (const run of this.#periods) run();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What comes is sent back, and what is read ends when the other end does. */
const echo: StreamHandler = {
  connected: () => undefined,
  readable: (stream: HostStream) => {
    const bytes = new Uint8Array(3000);
    for (;;) {
      const octets = stream.read(bytes, 0, Math.min(bytes.length, stream.writeRoom));
      if (octets === -2) return stream.end();
      if (octets <= 0) return;
      const view = new DataView(bytes.buffer);
      const item = { arena: { bytes, view }, offset: 0, length: octets };
      stream.writev({ items: [item], count: 1, octets });
    }
  },
  writable: () => undefined,
  closed: () => undefined,
};

function segment(
  guest: string,
  port: number,
  to: string,
  toPort: number,
  flags: number,
  seq: number,
  ack: number,
  octets = 0,
) {
  const bytes = new Uint8Array(20 + octets);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, port);
  view.setUint16(2, toPort);
  view.setUint32(4, seq);
  view.setUint32(8, ack);
  view.setUint16(12, (5 << 12) | flags);
  view.setUint16(14, 20_000);
  bytes.set(pattern(octets, seq), 20);
  view.setUint16(16, transportChecksum(guest, to, 6, bytes));
  return ipFrame(6, bytes, { from: guest, to, destinationMac: MAC });
}

const guests = ['192.168.65.3', '192.168.65.4'] as const;
const peers = [HOST, '10.0.0.9', '192.0.2.66', '192.168.65.1', '169.254.1.1'] as const;
const step = fc.record(
  {
    guest: fc.constantFrom(0 as const, 1 as const),
    what: fc.constantFrom(
      'syn',
      'syn',
      'syn',
      'data',
      'data',
      'fin',
      'udp',
      'dns',
      'ping',
      'rubbish',
      'rules',
      'conditions',
      'expose',
      'dial',
      'full',
      'close',
    ),
    peer: fc.constantFrom(...peers, HOST, HOST),
    port: fc.constantFrom(ECHO_PORT, ECHO_PORT, ECHO_PORT, 9, 123),
    octets: fc.integer({ min: 0, max: 1200 }),
    ms: fc.constantFrom(0, 0, 0, 1, 30, 400, 31_000),
  },
  { noNullPrototype: true },
);

/** What a guest knows of its connections, by its own port: its next number, and the other side's. */
type Tracked = Map<number, { seq: number; ack: number }>;

/** A guest's end of connections: answers what it is sent, as it should. */
function answers(guest: string, frames: readonly Uint8Array[], tracked: Tracked): Uint8Array[] {
  return frames.flatMap((frame) => {
    if (frame[12] !== 8 || frame[13] !== 0 || frame[23] !== 6) return [];
    const { payload, source } = readIp(frame, MAC);
    const view = new DataView(payload.buffer, payload.byteOffset);
    const flags = payload[13]!;
    const octets = payload.length - (payload[12]! >> 4) * 4 + (flags & 1) + ((flags >> 1) & 1);
    if ((flags & 4) !== 0 || octets === 0) return [];
    const [port, ours] = [view.getUint16(2), view.getUint32(4) + octets];
    const seq = (flags & 16) === 0 ? 77 : view.getUint32(8);
    tracked.set(port, { seq, ack: ours >>> 0 });
    return [segment(guest, port, source, view.getUint16(0), (flags & 18) === 2 ? 18 : 16, seq, ours >>> 0)];
  });
}

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function run(seed: number, steps: readonly Step[]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const host = new FakeOutside(seed);
  const options = { subnet: '192.168.65.0/24', mtu: 1500, switched: seed % 4 === 0 };
  const sink = (octets: Uint8Array): void => void parts.push(octets.slice());
  const recorder = new Recorder({ clock: host.clock, sink }, { network: options });
  const network = new Network({ ...options, outside: new RecordedOutside(host, recorder) });
  await host.hostNet.listen('127.0.0.1', ECHO_PORT, () => echo);
  const links = guests.map(() => new FakeLink());
  for (const link of links) network.attach(link);
  const tracked: Tracked = new Map();
  let ports = 0;
  const clients: HostStream[] = [];
  for (const { guest, what, peer, port, octets, ms } of steps) {
    const from = guests[guest];
    const link = links[guest]!;
    const to = { from, to: peer, destinationMac: MAC };
    const last = 30_000 + ports;
    const { seq, ack } = tracked.get(last) ?? { seq: 1001, ack: 0 };
    tracked.set(last, { seq: seq + (what === 'data' ? octets : what === 'fin' ? 1 : 0), ack });
    if (what === 'syn') link.input([segment(from, 30_000 + ++ports, peer, port, 2, 1000, 0)]);
    else if (what === 'data') link.input([segment(from, last, peer, port, 24, seq, ack, octets)]);
    else if (what === 'fin') link.input([segment(from, last, peer, port, 17, seq, ack)]);
    else if (what === 'udp') link.input([udpFrame(5000 + (octets % 3), port, pattern(octets), to)]);
    else if (what === 'dns') link.input([udpFrame(5300, 53, dnsQuery(octets), { ...to, to: '192.168.65.1' })]);
    else if (what === 'ping') link.input([icmpFrame(8, 0, 0x10001, pattern(octets), to)]);
    else if (what === 'rubbish') link.input([pattern(octets)]);
    else if (what === 'rules') network.usePolicyRules(parsePolicyRules(octets % 2 ? 'deny out udp any port 9' : ''));
    else if (what === 'conditions')
      network.useConditions(octets % 2 ? parseConditions(`delay=5ms,loss=10%,seed=${octets}`) : undefined);
    else if (what === 'full') link.room = octets % 4;
    else if (what === 'expose') {
      const protocol = octets % 2 ? 'tcp' : 'udp';
      const request = {
        protocol,
        hostAddress: '127.0.0.1',
        hostPort: 8000 + (octets % 5),
        guestAddress: from,
        guestPort: 80,
      };
      void network.expose(request as Parameters<Network['expose']>[0]).then(
        (exposed) => octets % 3 === 0 && exposed.close(),
        () => undefined,
      );
    } else if (what === 'dial')
      clients.push(
        host.hostNet.connect(address('127.0.0.1'), 8000 + (octets % 5), { ...echo, connected: echo.readable }),
      );
    else for (const client of clients.splice(0)) client.abort();
    await host.turn(ms);
    for (const [i, link] of links.entries()) {
      const frames = answers(
        guests[i]!,
        link.take().map(({ bytes }) => bytes),
        tracked,
      );
      if (frames.length > 0) link.input(frames);
      if (link.room < 1 && what !== 'full') {
        link.room = Number.POSITIVE_INFINITY;
        link.writable();
      }
    }
  }
  await host.turn(0);
  network.close();
  recorder.end();
  return new Uint8Array(Buffer.concat(parts));
}

function dnsQuery(id: number): Uint8Array {
  const name = id % 2 ? [4, 0x68, 0x6f, 0x73, 0x74, 0] : [7, 0x70, 0x72, 0x69, 0x6e, 0x74, 0x65, 0x72, 0];
  return Uint8Array.of(id >> 8, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 1, 0, 1);
}

t.test('a network that is recorded is replayed, octet for octet', async (t) => {
  let [framesOut, calls] = [0, 0];
  await fc.assert(
    fc.asyncProperty(
      fc.nat(1000),
      fc.array(step, { minLength: 30, maxLength: 150, size: 'max' }),
      async (seed, steps) => {
        const result = await replay(sourceOf(await run(seed, steps)), remake);
        assert.equal(result.difference, undefined, resultText('recording', result));
        assert.ok(result.ended);
        framesOut += result.framesOut;
        calls += result.calls;
      },
    ),
    { numRuns: 15 },
  );
  t.ok(framesOut > 100, `${framesOut} frames were sent, ${calls} calls compared`);
});
