/** What a property that fails leaves behind: each stack that it made, done again as it was. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { Player } from '../../../src/proxy/recording/player.ts';
import { replay } from '../../../src/proxy/recording/replay.ts';
import { replayedStack, type StackDescription } from '../../../src/proxy/recording/replayed-stack.ts';
import { HostileRound } from '../../fuzz/hostile-traffic.ts';
import { agreement } from '../../rfc/model-property.ts';
import { pattern, udpFrame } from '../../stack/frames.ts';
import { LossyWire } from '../../stack/lossy-wire.ts';
import { assertRecorded, recordAgain } from '../../stack/recorded-stack.ts';
import { address, World } from '../../stack/world.ts';
import { sourceOf } from './sources.ts';

t.setTimeout(120_000);
const folder = mkdtempSync(join(tmpdir(), 'slipway-recordings-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const make = (player: Player, of: Readonly<Record<string, unknown>>) =>
  replayedStack(player, of.stack as StackDescription);

async function replayed(commands: string) {
  const results = [];
  for (const command of commands.split('\n')) {
    const path = command.replace('slipway net replay ', '');
    results.push(await replay(sourceOf(readFileSync(path)), make));
  }
  return results;
}

t.test('a hostile round', async (t) => {
  for (const seed of [1, 2]) {
    const [result, ...others] = await replayed(
      recordAgain(`hostile-${seed}`, () => new HostileRound(seed).run(800), folder),
    );
    t.same(others, []);
    t.equal(result?.difference, undefined, JSON.stringify(result?.difference));
    t.ok(result!.framesIn >= 800 && result!.framesOut > 100);
  }
});

t.test('the scripts of the model', async (t) => {
  const seen = new Map<string, number>();
  const results = await replayed(
    recordAgain('model', () => fc.check(agreement(seen), { numRuns: 20, seed: 7 }), folder),
  );
  t.equal(results.length, 20);
  for (const { difference } of results) t.equal(difference, undefined, JSON.stringify(difference));
});

t.test('a property that fails says where its recordings are, of its smallest example', async (t) => {
  process.env.SLIPWAY_RECORDINGS = folder;
  const property = fc.property(fc.nat(100), (number) => {
    const world = new World();
    world.link.input([new Uint8Array(number)]);
    if (number > 41) throw new Error('too large');
  });
  const error = t.throws(() => assertRecorded('largeness', property, { seed: 3 })) as Error;
  t.match(error.message, /Counterexample: \[42\]/);
  const command = /slipway net replay \S+largeness-3\.rec$/.exec(error.message)?.[0];
  const [result] = await replayed(command!);
  t.match(result, { framesIn: 1, difference: undefined });
  t.equal(result!.octetsIn, 42);
});

t.test('an owner that throws, as tests do, has thrown then as well', async (t) => {
  const run = (): void => {
    const world = new World({
      forwarder: {
        udp: ({ payload }) => {
          if (payload.octets > 5) throw new Error('too long');
        },
      },
    });
    const send = (octets: number): void => world.link.input([udpFrame(1, 2, pattern(octets), { to: '10.0.0.1' })]);
    send(3);
    t.throws(() => send(9), { message: 'too long' });
    send(4);
  };
  const [result] = await replayed(recordAgain('thrower', run, folder));
  t.match(result, { framesIn: 3, difference: undefined, ended: true });
});

t.test('both ends of a lossy wire', async (t) => {
  const none = { udp: () => undefined, echo: () => undefined };
  const exchange = (): void => {
    let received = 0;
    const handler = {
      established: () => undefined,
      room: () => 50_000,
      received: (_: unknown, { octets }: { octets: number }) => {
        received += octets;
        return octets;
      },
      receivedEnd: () => undefined,
      writable: () => undefined,
      closed: () => undefined,
    };
    const wire = new LossyWire(
      11,
      { loss: 0.05, jitterMs: 3, delayMs: 1 },
      {
        left: { ...none, tcp: (connection) => connection.accept(handler) },
        right: { ...none, tcp: (connection) => connection.reject('reset') },
      },
    );
    const endpoints = {
      guestAddress: address('10.0.0.1'),
      guestPort: 80,
      peerAddress: address('192.168.65.129'),
      peerPort: 0,
    };
    const connection = wire.right.connect(endpoints, handler);
    wire.run(5000, () => connection.state === 'ESTABLISHED');
    for (let sent = 0; sent < 300_000; ) {
      const places = connection.reserveSendList();
      if (places) {
        connection.commitSend(places.octets);
        sent += places.octets;
      }
      wire.run(50);
    }
    connection.end();
    wire.run(60_000);
    if (received < 300_000) throw new Error(`${received} octets`);
  };
  t.doesNotThrow(exchange);
  const results = await replayed(recordAgain('wire', exchange, folder));
  t.equal(results.length, 2);
  for (const { difference, framesOut } of results) {
    t.equal(difference, undefined, JSON.stringify(difference));
    t.ok(framesOut > 100);
  }
});
