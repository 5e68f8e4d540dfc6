/** The same for IPv6 as in prediction.test.ts: a frame that is taken for the next of a run fares as it would alone. */

import fc from 'fast-check';
import t from 'tap';
import type { FragmentList } from '../../../src/stack/port.ts';
import { pattern } from '../frames.ts';
import { checksum6, PEER, replies6, solicitation, tcp6Frame } from '../ipv6-frames.ts';
import { assertRecorded } from '../recorded-stack.ts';
import { World } from '../world.ts';

const GUEST = 'fd00:1:2:3::3';
const ACK = 16;

class Line {
  readonly world: World;
  readonly port: number;
  readonly got: number[] = [];
  log = '';
  next = 0;

  constructor(world: World, port: number) {
    this.world = world;
    this.port = port;
    world.link.input([tcp6Frame(port, 80, 0, 0, 2, undefined, { to: PEER, tcpOptions: [2, 4, 5, 0xa0] })]);
    world.dialled.at(-1)!.accept({
      established: () => void (this.log += 'e'),
      room: () => 65_535,
      received: (_connection, list: FragmentList) => {
        for (let i = 0; i < list.count; i++) {
          const { arena, offset, length } = list.items[i]!;
          this.got.push(...arena.bytes.subarray(offset, offset + length));
        }
        return list.octets;
      },
      receivedEnd: () => void (this.log += 'f'),
      writable: () => undefined,
      closed: (_connection, reason) => void (this.log += reason),
    });
    const { payload } = replies6(world).at(-1)!;
    this.next = new DataView(payload.buffer, payload.byteOffset).getUint32(4) + 1;
    world.link.input([this.frame(1, 0)]);
  }

  frame(sequence: number, octets: number, flags = ACK): Uint8Array {
    return tcp6Frame(this.port, 80, sequence, this.next, flags, pattern(octets, sequence), { to: PEER });
  }
}

/** Changes one octet of a frame; `mended` makes the checksum fit again. */
function damage(frame: Uint8Array, at: number, value: number, mended: boolean): Uint8Array {
  const bytes = frame.slice();
  bytes[at] = value;
  const view = new DataView(bytes.buffer);
  if (!mended || view.getUint16(18) !== frame.length - 54 || bytes[20] !== 6) return bytes;
  view.setUint16(70, 0);
  view.setUint16(70, checksum6(addressAt(bytes, 22), addressAt(bytes, 38), 6, bytes.slice(54)));
  return bytes;
}

const addressAt = (bytes: Uint8Array, at: number): string =>
  Array.from({ length: 8 }, (_, i) => ((bytes[at + 2 * i]! << 8) | bytes[at + 2 * i + 1]!).toString(16)).join(':');

/** Frame `damaged` follows another of its connection, or one of another's. */
function outcome(damaged: (line: Line) => Uint8Array, predicted: boolean) {
  const world = new World({ ipv6: {} });
  world.link.input([solicitation('fd00:1:2:3::1', { from: GUEST })]);
  const [line, other] = [new Line(world, 40000), new Line(world, 40001)];
  world.advance(100);
  world.link.take();
  const [good, between] = [line.frame(1, 100), other.frame(1, 50)];
  world.link.input(predicted ? [between, good, damaged(line)] : [good, between, damaged(line)]);
  world.poll();
  const sent = world.link.take().map(({ bytes }) => Buffer.from(bytes).toString('hex').slice(108));
  const states = world.netstack.flows().map(({ state }) => state);
  return {
    sent: sent.sort(),
    drops: world.drops(),
    lines: [line, other].map(({ got, log }) => [got.length, log]),
    states,
  };
}

t.test('whatever octet of the headers is different, and whether or not the checksum knows', async (t) => {
  assertRecorded(
    'ipv6-prediction',
    fc.property(
      fc.integer({ min: 0, max: 73 }),
      fc.integer({ min: 0, max: 255 }),
      fc.boolean(),
      fc.constantFrom([101, 100, ACK], [101, 1, ACK | 8], [101, 0, ACK], [101, 30, ACK | 1]),
      (at, value, mended, [sequence, octets, flags]) => {
        const frame = (line: Line): Uint8Array => damage(line.frame(sequence!, octets!, flags), at, value, mended);
        t.same(outcome(frame, true), outcome(frame, false));
      },
    ),
    { numRuns: 300 },
  );
});

t.test('a run of segments is taken whole, from any place of the batch', async (t) => {
  const world = new World({ ipv6: {} });
  const line = new Line(world, 40000);
  const frames = Array.from({ length: 20 }, (_, i) => line.frame(1 + 100 * i, 100));
  world.link.input(frames, undefined, 80);
  t.same(line.got, [...pattern(2000, 1)]);
  t.same(world.drops(), {});
});

t.test('a guest that has moved to another MAC address is followed', async (t) => {
  const world = new World({ ipv6: {} });
  const line = new Line(world, 40000);
  const moved = line.frame(101, 100);
  moved[11]! ^= 0xff;
  world.link.input([line.frame(1, 100), moved]);
  t.equal(line.got.length, 200);
});
