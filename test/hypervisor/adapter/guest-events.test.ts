/** Boot marks and the console: what the guest tells, bounded, and turned into the host's seconds. */

import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { BootClock } from '../../../src/hypervisor/adapter/boot-clock.ts';
import { type GuestEvent, GuestEvents, parseGuestEvent } from '../../../src/hypervisor/adapter/guest-events.ts';
import { LineReader } from '../../../src/hypervisor/adapter/line-reader.ts';
import { lastLines, RingFile } from '../../../src/hypervisor/adapter/ring-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-events-'));
t.teardown(() => rmSync(directory, { recursive: true }));

t.test('lines of the protocol', (t) => {
  t.same(parseGuestEvent('mark kernel 0'), { kind: 'mark', name: 'kernel', seconds: 0 });
  t.same(parseGuestEvent('mark network 2.75'), { kind: 'mark', name: 'network', seconds: 2.75 });
  t.same(parseGuestEvent('panic not syncing: \x1b[31mVFS'), { kind: 'panic', text: 'not syncing:  [31mVFS' });
  t.same(parseGuestEvent('log a line'), { kind: 'log', text: 'a line' });
  for (const line of [
    '',
    'mark',
    'mark x',
    'mark X 1',
    'mark x -1',
    'mark x 1e9',
    'mark __proto__ 1',
    'log ',
    'exec rm',
  ])
    t.equal(parseGuestEvent(line), undefined, JSON.stringify(line));
  fc.assert(
    fc.property(fc.string(), (line) => {
      const event = parseGuestEvent(line);
      return event === undefined || event.kind !== 'mark' || Number.isFinite(event.seconds);
    }),
  );
  t.end();
});

t.test('streams are read in pieces, and a flood of lines is dropped', async (t) => {
  const path = join(directory, '00000002.0000f3a9');
  const events: GuestEvent[] = [];
  const server = new GuestEvents(path, (event) => events.push(event));
  await server.listen();
  t.equal(statSync(path).mode & 0o777, 0o600);
  const guest = connect(path);
  guest.write('mark ini');
  guest.write(`t 1.5\nnonsense\n${'log flood\n'.repeat(1000)}mark disk 2\n`);
  while (events.at(-1)?.kind !== 'mark' || events.length < 2) await new Promise(setImmediate);
  t.match(events[0], { name: 'init' });
  t.match(events.at(-1), { name: 'disk' });
  t.ok(events.length <= 42, 'at most 20 log lines a second');
  t.equal(server.dropped, 1003 - events.length);
  guest.write('x'.repeat(5000));
  await new Promise((resolve) => guest.on('close', resolve).on('error', () => undefined));
  t.pass('a line without end ends its stream');
  server.close();
  t.throws(() => statSync(path), 'the socket goes with the server');
});

t.test('marks become seconds since the start, by the shortest way any of them took', (t) => {
  const clock = new BootClock();
  clock.guestMark('init', 2, 3.5);
  t.same(clock.marks(), { init: 3.5 });
  clock.guestMark('kernel', 0, 3.5);
  clock.guestMark('network', 3, 4);
  t.same(clock.marks(), { kernel: 1, init: 3, network: 4 }, 'told anew, and in order');
  clock.guestMark('network', 90, 99);
  t.equal(clock.marks().network, 4, 'the first mark of a name counts');
  clock.hostMark('dockerd', 9.25);
  clock.guestMark('dockerd', 5, 9);
  t.equal(clock.marks().dockerd, 9.25, 'what the host has seen stands above');
  clock.guestMark('liar', 1_000_000, 9);
  t.ok(clock.marks().init! >= 2, 'an uptime beyond our own does not move the start before itself');
  for (let i = 0; i < 100; i++) clock.guestMark(`m${i}`, i, i);
  t.ok(Object.keys(clock.marks()).length <= 33, 'names are bounded');
  t.end();
});

t.test('a ring file is bounded, keeps the newest, and others may append', (t) => {
  const path = join(directory, 'ring.log');
  const ring = new RingFile(path, 1024);
  t.equal(statSync(path).mode & 0o777, 0o600);
  for (let i = 0; i < 500; i++) {
    ring.write(`line ${i}\n`);
    if (statSync(path).size > 1024) t.fail('the bound holds');
  }
  t.match(readFileSync(path, 'utf8'), /line 498\nline 499\n$/);
  t.match(ring.text(), /line 499\n$/);
  t.ok(ring.text().length <= 512);
  ring.write(Buffer.alloc(10_000, 'y'));
  t.equal(ring.text(), 'y'.repeat(512));
  t.equal(statSync(path).size, 512);
  appendFileSync(path, 'stderr of another\n');
  ring.write('after\n');
  t.match(readFileSync(path, 'utf8'), /another\nafter\n$/);
  ring.close();
  ring.write('a closed ring takes it in memory\n');
  t.match(new RingFile(path, 1024).text(), '', 'an old file is appended to');
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 80 })), (chunks) => {
      const memory = new RingFile(undefined, 64);
      for (const chunk of chunks) memory.write(Buffer.from(chunk.map((octet) => octet & 0x7f)));
      const all = Buffer.concat(chunks).map((octet) => octet & 0x7f);
      return memory.text() === Buffer.from(all.subarray(-32)).toString();
    }),
  );
  t.equal(lastLines('one\r\n\x1b[31mtwo\x07\x1b[0m\n\n three \n', 2), 'two | three');
  t.end();
});

t.test('property: lines come out as they went in, however they are cut', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 20 }).map((text) => text.replace(/[\r\n]/g, ''))),
      fc.array(fc.nat(9)),
      (lines, cuts) => {
        const seen: string[] = [];
        const reader = new LineReader(
          200,
          (line) => seen.push(line),
          () => t.fail('no line is too long'),
        );
        let octets = Buffer.from(lines.map((line) => `${line}\n`).join(''));
        for (const cut of cuts) {
          reader.push(octets.subarray(0, cut));
          octets = octets.subarray(cut);
        }
        reader.push(octets);
        return JSON.stringify(seen) === JSON.stringify(lines.map((line) => Buffer.from(line).toString()));
      },
    ),
  );
  let overflows = 0;
  const seen: string[] = [];
  const reader = new LineReader(
    4,
    (line) => seen.push(line),
    () => overflows++,
  );
  reader.push(Buffer.from('four\nfives\nfour\n'));
  reader.push(Buffer.from('x\n'));
  t.same([seen, overflows], [['four'], 1]);
  t.end();
});
