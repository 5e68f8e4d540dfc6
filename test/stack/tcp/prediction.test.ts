/** A frame that is taken for the next of a run fares as it would alone: the short way is the long way, only shorter. */

import fc from 'fast-check';
import t from 'tap';
import { finish, pseudoHeaderSum, sum } from '../../../src/stack/wire/checksum.ts';
import * as ipv4 from '../../../src/stack/wire/ipv4.ts';
import { GUEST } from '../frames.ts';
import { assertRecorded } from '../recorded-stack.ts';
import { established, TcpScript } from './tcp-script.ts';

const IP_AT = 14;
const TCP_AT = 34;

/** Changes one octet of a frame, and with `mended` makes both checksums fit again. */
function damage(frame: Uint8Array, at: number, value: number, mended: boolean): Uint8Array {
  const bytes = frame.slice();
  const view = new DataView(bytes.buffer);
  bytes[at] = value;
  if (!mended) return bytes;
  const total = Math.min(ipv4.totalLength(view, IP_AT), bytes.length - IP_AT);
  if (bytes[IP_AT] === 0x45) ipv4.fillChecksum(view, IP_AT);
  if (total < 40) return bytes;
  view.setUint16(TCP_AT + 16, 0);
  const pseudo = pseudoHeaderSum(ipv4.source(view, IP_AT), ipv4.destination(view, IP_AT), 6, total - 20);
  view.setUint16(TCP_AT + 16, finish(pseudo + sum(view, TCP_AT, total - 20)));
  return bytes;
}

/** Two connections of one guest; frame `damaged` follows another of its connection, or one of the other's. */
function outcome(damaged: (script: TcpScript) => Uint8Array, predicted: boolean) {
  const script = new TcpScript(t, { guest: GUEST });
  const other = new TcpScript(t, { guest: GUEST, guestPort: 40001 });
  Object.assign(other, { world: script.world });
  script.establish();
  const { connection } = script;
  other.establish();
  const { world } = script;
  const good = script.frame('. 1:101(100) ack 1');
  const between = other.frame('. 1:51(50) ack 1');
  // Another header may have made the octets others: as wrong on both ways.
  const wrong: string[] = [];
  for (const { owner } of [script, other]) owner.onWrong = (what) => wrong.push(what);
  world.link.input(predicted ? [between, good, damaged(script)] : [good, between, damaged(script)]);
  world.poll();
  return {
    wrong,
    log: script.owner.log,
    octets: script.owner.octets,
    otherOctets: other.owner.octets,
    state: connection.state,
    drops: world.drops(),
    sent: world.link
      .take()
      .map(({ bytes }) => Buffer.from(bytes).toString('hex').slice(68))
      .sort(),
  };
}

t.test('whatever octet of the headers is different, and whether or not the checksums know', async (t) => {
  assertRecorded(
    'prediction',
    fc.property(
      fc.integer({ min: 0, max: 53 }),
      fc.integer({ min: 0, max: 255 }),
      fc.boolean(),
      fc.constantFrom('. 101:201(100) ack 1', 'P 101:102(1) ack 1', '. 101:101(0) ack 1', 'F. 101:131(30) ack 1'),
      (at, value, mended, line) => {
        const frame = (script: TcpScript): Uint8Array => {
          const whole = script.frame(line.replace(/^P /, 'P. '));
          return at < whole.length ? damage(whole, at, value, mended) : whole;
        };
        t.same(outcome(frame, true), outcome(frame, false));
      },
    ),
    { numRuns: 400 },
  );
});

t.test('a guest that has moved to another MAC address is followed', async (t) => {
  const script = established(t);
  const moved = script.frame('. 101:201(100) ack 1');
  moved[11]! ^= 0xff;
  script.world.link.input([script.frame('. 1:101(100) ack 1'), moved]);
  t.equal(script.owner.octets, 200);
});

t.test('a connection that was aborted between two frames of a batch takes no more', async (t) => {
  const script = established(t);
  script.guestSends('. 1:101(100) ack 1');
  script.connection.abort();
  script.guestSends('. 101:201(100) ack 1');
  t.equal(script.owner.octets, 100);
  t.equal(script.world.drops()['tcp-no-flow'], 1);
});
