/** Captures: what is in the file, what the filter's words pick, bounds, and what nobody's bytes can do to them. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import t from 'tap';
import { CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, FrameBatch } from '../../../src/stack/frame-batch.ts';
import { Capture, type CaptureOptions, type CaptureSink } from '../../../src/stack/link/capture.ts';
import { CaptureFilterError, parseCaptureFilter } from '../../../src/stack/link/capture-filter.ts';
import * as ethernet from '../../../src/stack/wire/ethernet.ts';
import { ensureDebianPackages } from '../../../tools/debian.ts';
import { arenaOf } from '../fake-link.ts';
import { arpFrame, ethernetFrame, icmpFrame, ipFrame, pattern, udpBytes, udpFrame } from '../frames.ts';
import { readPcapng } from './pcapng-file.ts';

ensureDebianPackages([{ name: 'tcpdump', proof: 'tcpdump' }]);

const EPOCH_MS = 1_790_000_000_123;

/** Keeps files in memory; holds chunks back for as long as it is told to. */
class Sink implements CaptureSink {
  readonly files: number[][] = [[]];
  stuck = false;
  #held: (() => void)[] = [];

  write(octets: Uint8Array, done: () => void): void {
    const file = this.files.at(-1)!;
    for (const octet of octets) file.push(octet);
    if (this.stuck) this.#held.push(done);
    else done();
    // Whoever kept the memory would see this.
    octets.fill(0xdd);
  }

  release(): void {
    this.stuck = false;
    for (const done of this.#held.splice(0)) done();
  }

  rotate(): void {
    this.files.push([]);
  }

  read(index = 0) {
    return readPcapng(Uint8Array.from(this.files[index]!));
  }
}

const captured = (options: Partial<CaptureOptions> = {}) => {
  const sink = new Sink();
  return { sink, capture: new Capture({ sink, epochMs: EPOCH_MS, ...options }) };
};

const batchOf = (frames: readonly Uint8Array[], checksum: number = CHECKSUM_UNKNOWN, segmentOctets = 0) => {
  const batch = new FrameBatch(Math.max(1, frames.length), 2);
  for (const frame of frames) batch.push(arenaOf(frame), 0, frame.length, checksum, segmentOctets);
  return batch;
};

const tapped = (batch: FrameBatch, direction: 'from-guest' | 'to-guest' = 'from-guest', nowMs = 0, ingress = 1) => ({
  link: `link${ingress}`,
  ingress,
  mtu: 1500,
  direction,
  batch,
  nowMs,
});

const tcpFrame = (source: number, destination: number, flags: number, options = {}): Uint8Array => {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source);
  view.setUint16(2, destination);
  view.setUint16(12, 0x5000 | flags);
  return ipFrame(6, bytes, options);
};

t.test('what a file says: interfaces, times to the nanosecond, directions, lengths', async (t) => {
  const { sink, capture } = captured({ application: 'a test' });
  const frames = [udpFrame(5, 53, pattern(3)), icmpFrame(8, 0, 1, pattern(6))];
  capture.batch(tapped(batchOf(frames), 'from-guest', 1.000_001));
  capture.batch(tapped(batchOf([frames[0]!], CHECKSUM_PARTIAL, 1460), 'to-guest', 86_400_000.5));
  capture.batch(tapped(batchOf([frames[1]!]), 'to-guest', 86_400_001, 7));
  capture.stop();
  capture.batch(tapped(batchOf(frames)));
  const file = sink.read();
  t.equal(file.application, 'a test');
  const description = (port: number) => `switch port ${port}, MTU 1500; inbound is from the guest`;
  t.same(file.interfaces, [
    { name: 'link1', description: description(1), snap: 0, resolution: 9 },
    { name: 'link7', description: description(7), snap: 0, resolution: 9 },
  ]);
  t.same(
    file.packets.map(({ interfaceId, ns, flags, original }) => [interfaceId, ns, flags, original]),
    [
      [0, BigInt(EPOCH_MS) * 1_000_000n + 1_000_001n, 1, 45],
      [0, BigInt(EPOCH_MS) * 1_000_000n + 1_000_001n, 1, 48],
      [0, BigInt(EPOCH_MS + 86_400_000) * 1_000_000n + 500_000n, 2 | 0x200 | 0x800, 45],
      [1, BigInt(EPOCH_MS + 86_400_001) * 1_000_000n, 2, 48],
    ],
  );
  t.same(
    file.packets.map(({ bytes }) => bytes),
    [frames[0], frames[1], frames[0], frames[1]],
  );
  t.same(file.statistics, [
    { interfaceId: 0, received: 3n, dropped: 0n },
    { interfaceId: 1, received: 1n, dropped: 0n },
  ]);
});

t.test('a frame in fragments, and the snap length', async (t) => {
  const frame = udpFrame(5, 53, pattern(500));
  const split = (capture: Capture): void => {
    const batch = new FrameBatch(1, 3);
    batch.push(arenaOf(frame), 0, 60);
    batch.extend(arenaOf(frame), 60, 40);
    batch.extend(arenaOf(frame), 100, frame.length - 100);
    capture.batch(tapped(batch));
    capture.stop();
  };
  const whole = captured();
  split(whole.capture);
  t.same(whole.sink.read().packets[0]!.bytes, frame);
  const cut = captured({ snapOctets: 77 });
  split(cut.capture);
  const file = cut.sink.read();
  t.equal(file.interfaces[0]!.snap, 77);
  t.same(file.packets[0]!.bytes, frame.slice(0, 77));
  t.equal(file.packets[0]!.original, frame.length);
});

t.test('the first frame of a flow has a comment', async (t) => {
  const old = {
    protocol: 'tcp',
    guest: '192.168.65.3:7',
    peer: '192.168.65.1:80',
    state: 'ESTABLISHED',
    octetsToGuest: 12,
    octetsToHost: 34,
  } as const;
  const { sink, capture } = captured({ flows: [old] });
  const back = { from: '192.168.65.1', to: '192.168.65.3' };
  capture.batch(tapped(batchOf([tcpFrame(6, 80, 2), tcpFrame(7, 80, 0x10)])));
  capture.batch(tapped(batchOf([tcpFrame(80, 6, 0x12, back), tcpFrame(80, 7, 0x10, back)]), 'to-guest'));
  capture.batch(tapped(batchOf([tcpFrame(6, 80, 0x11), udpFrame(7, 80, pattern(1)), tcpFrame(6, 80, 2)])));
  capture.stop();
  t.same(
    sink.read().packets.map(({ comment }) => comment),
    [
      'flow 1: tcp 192.168.65.3:6 > 192.168.65.1:80',
      'flow 2: tcp 192.168.65.3:7 > 192.168.65.1:80; open before the capture: ESTABLISHED, 12 octets to the guest, 34 from it',
      undefined,
      undefined,
      undefined,
      'flow 3: udp 192.168.65.3:7 > 192.168.65.1:80',
      'flow 4: tcp 192.168.65.3:6 > 192.168.65.1:80',
    ],
  );
});

t.test('a sink that is slow costs frames, and the file says how many', async (t) => {
  const { sink, capture } = captured();
  const frame = udpFrame(5, 53, pattern(60_000));
  sink.stuck = true;
  for (let i = 0; i < 100; i++) capture.batch(tapped(batchOf([frame])));
  const { frames, dropped } = capture;
  t.ok(frames >= 8 * 4 && frames + dropped === 100, `${frames} frames in 2 MiB`);
  sink.release();
  capture.batch(tapped(batchOf([frame])));
  capture.stop();
  const file = sink.read();
  t.same(
    file.packets.map((packet) => packet.dropped),
    [...new Array(frames).fill(undefined), BigInt(dropped)],
  );
  t.same(file.statistics, [{ interfaceId: 0, received: 101n, dropped: BigInt(dropped) }]);
});

t.test('files are bounded, and each stands by itself', async (t) => {
  const { sink, capture } = captured({ fileOctets: 200_000 });
  const frame = udpFrame(5, 53, pattern(1400));
  for (let i = 0; i < 1000; i++) capture.batch(tapped(batchOf([frame]), 'from-guest', i));
  capture.stop();
  t.ok(sink.files.length >= 7);
  let frames = 0;
  for (const [index, file] of sink.files.entries()) {
    t.ok(file.length <= 200_000 + 100, `${file.length} octets`);
    const { packets, interfaces } = sink.read(index);
    t.equal(interfaces.length, 1);
    frames += packets.length;
  }
  t.equal(frames, 1000);
});

const ipv6Frame = (next: number, payload: Uint8Array): Uint8Array => {
  const packet = new Uint8Array(40 + payload.length);
  packet[0] = 0x60;
  new DataView(packet.buffer).setUint16(4, payload.length);
  packet.set([next, 64, 0xfd, 0], 6);
  packet[23] = 3;
  packet.set([0xfd, 0], 24);
  packet[39] = 1;
  packet.set(payload, 40);
  return ethernetFrame(ethernet.TYPE_IPV6, packet);
};

const hosts = ['192.168.65.3', '192.168.65.1', '10.1.2.3', '1.1.1.1'];
const ports = [53, 80, 443, 8080];

t.test('the filter picks what tcpdump picks', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-filter-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const frames: Uint8Array[] = [];
  for (const from of hosts)
    for (const to of hosts)
      for (const port of ports) {
        frames.push(udpFrame(port, 53, pattern(4), { from, to }), tcpFrame(80, port, 0x10, { from, to }));
        frames.push(icmpFrame(8, 0, port, pattern(2), { from, to }));
        frames.push(ipFrame(17, udpBytes(port, port, pattern(9), { from, to }), { from, to, fragment: 0x2001 }));
        frames.push(ipFrame(6, pattern(30), { from, to, options: new Uint8Array([1, 1, 1, 0]) }));
      }
  frames.push(ipv6Frame(17, udpBytes(53, 443, pattern(4))), ipv6Frame(58, Uint8Array.of(135, 0, 0, 0)));
  for (const host of hosts) frames.push(arpFrame(1, 0x02_00_00_00_00_07, host, '192.168.65.1'));
  frames.push(ethernetFrame(0x88cc, pattern(46)));
  const { sink, capture } = captured();
  for (const frame of frames) capture.batch(tapped(batchOf([frame])));
  capture.stop();
  const path = join(folder, 'all.pcapng');
  writeFileSync(path, Uint8Array.from(sink.files[0]!));

  const host = fc.constantFrom(...hosts, 'fd00::3', 'fd00::1');
  const port = fc.constantFrom(...ports).map(String);
  const side = fc.constantFrom('', 'src ', 'dst ');
  const { expression } = fc.letrec<{ expression: string; term: string }>((tie) => ({
    term: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('tcp', 'udp', 'icmp', 'icmp6', 'arp', 'ip', 'ip6'),
      fc.tuple(side, host).map(([a, b]) => `${a}host ${b}`),
      fc.tuple(fc.constantFrom('src', 'dst'), host).map(([a, b]) => `${a} ${b}`),
      fc.tuple(fc.constantFrom('', 'tcp ', 'udp '), side, port).map(([a, b, c]) => `${a}${b}port ${c}`),
      fc.tuple(port, port).map(([a, b]) => `port ${a} or ${b}`),
      fc.constantFrom('net 192.168.65.0/24', 'dst net 10.0.0.0/8', 'src net fd00::/64', 'portrange 80-443'),
      fc.constantFrom('ether host 02:00:00:00:00:07', 'ether host 02:00:00:00:00:01'),
      tie('expression').map((inner) => `(${inner})`),
      tie('term').map((inner) => `not ${inner}`),
    ),
    expression: fc.oneof(
      { depthSize: 'small' },
      tie('term'),
      fc
        .tuple(tie('term'), fc.constantFrom(' and ', ' or ', ' && ', '||'), tie('expression'))
        .map((words) => words.join('')),
    ),
  }));
  const property = fc.property(expression, (text) => {
    const filter = parseCaptureFilter(text);
    const ours = frames.filter((frame) => filter.passes(arenaOf(frame).view, 0, frame.length)).length;
    const theirs = spawnSync('tcpdump', ['-r', path, '-n', '--count', text], { encoding: 'utf8' });
    // What libpcap can tell can never match, it refuses.
    if (theirs.status !== 0 && /expression rejects all/.test(theirs.stderr)) return ours === 0;
    const count = /^(\d+) packets?$/m.exec(theirs.stdout);
    if (!count) throw new Error(theirs.stderr);
    if (ours !== Number(count[1])) throw new Error(`${ours} frames here, ${count[1]} there`);
    return true;
  });
  fc.assert(property, { numRuns: 150 });
});

t.test('a filter is in the file, and picks', async (t) => {
  const { sink, capture } = captured({ filter: parseCaptureFilter('udp port 53') });
  capture.batch(tapped(batchOf([udpFrame(5, 53, pattern(3)), udpFrame(5, 54, pattern(3))])));
  capture.stop();
  t.equal(sink.read().interfaces[0]!.filter, 'udp port 53');
  t.equal(capture.frames, 1);
});

t.test('a filter that is wrong is told what is', async (t) => {
  for (const [text, why] of [
    ['', /it is empty/],
    ['host', /an address is missing at the end/],
    ['host example.org', /'example.org' is not an address \(names are not looked up\)/],
    ['port 65536', /'65536' is not a port/],
    ['portrange 9-8', /not a range/],
    ['net 10.0.0.0/33', /not a network/],
    ['(tcp', /'\)' is missing/],
    ['tcp udp', /'and' or 'or' is missing before 'udp'/],
    ['tcp and', /missing at the end/],
    ['len > 5', /'len' is not understood/],
    ['ether 02:00:00:00:00:01', /'host' is missing/],
    ['ether host 02:00', /wants a MAC address/],
    ['not '.repeat(1000), /it is too long/],
    ['('.repeat(1000), /it is too long/],
  ] as const)
    t.throws(() => parseCaptureFilter(text), { code: 'CAPTURE_FILTER', message: why }, text.slice(0, 40));
});

t.test('no octets of a frame, and no text as a filter, do more than that', async () => {
  const filter = parseCaptureFilter('tcp port 80 or ip6 and host fd00::1 or arp');
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 120 }),
    fc
      .tuple(fc.constantFrom([8, 0], [0x86, 0xdd], [8, 6]), fc.uint8Array({ minLength: 1, maxLength: 100 }))
      .map(([type, rest]) => Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, ...type, ...rest)),
  );
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 5 }), (frames) => {
      const { sink, capture } = captured();
      // Views that end with the frame: a read beyond it throws.
      capture.batch(tapped(batchOf(frames.map((octets) => octets.slice()))));
      for (const octets of frames) filter.passes(arenaOf(octets.slice()).view, 0, octets.length);
      capture.stop();
      return sink.read().packets.every(({ bytes }, i) => Buffer.compare(bytes, frames[i]!) === 0);
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(
      fc.string(),
      fc.array(fc.constantFrom('tcp', 'host', 'port', '80', '(', ')', 'not', 'and', '1.1.1.1')),
      (a, b) => {
        for (const text of [a, b.join(' ')]) {
          try {
            parseCaptureFilter(text);
          } catch (error) {
            if (!(error instanceof CaptureFilterError)) throw error;
          }
        }
      },
    ),
  );
});
