import fc from 'fast-check';
import t from 'tap';
import { control, VsockConnection } from '../../../src/hypervisor/vsock/connection.ts';
import { ConnectionTable, firstHostPort } from '../../../src/hypervisor/vsock/connection-table.ts';
import { DeadlineQueue } from '../../../src/hypervisor/vsock/deadline-queue.ts';
import { maxLineOctets, parseHandshake } from '../../../src/hypervisor/vsock/handshake.ts';
import {
  emitPacketHeader,
  emptyHeader,
  packetHeaderOctets,
  parsePacketHeader,
} from '../../../src/hypervisor/vsock/packet.ts';
import { checkSocketPath, hostPortName } from '../../../src/hypervisor/vsock/socket-path.ts';
import { WindowBudget } from '../../../src/hypervisor/vsock/window-budget.ts';
import { FakeTimers } from './fake-timers.ts';

t.test('the handshake of the connect socket', async (t) => {
  const parse = (line: string) => parseHandshake(Buffer.from(line), 3);
  t.same(parse('00000003.00000948\n'), { port: 2376, octets: 18, answer: false });
  t.same(parse('00000003.0000F3A8\nmore'), { port: 62376, octets: 18, answer: false });
  t.same(parse('CONNECT 2376\n'), { port: 2376, octets: 13, answer: true });
  t.same(parse('CONNECT 2376\r\n'), { port: 2376, octets: 14, answer: true });
  t.equal(parse(''), undefined);
  t.equal(parse('CONNECT 23'), undefined);
  for (const wrong of [
    '\n',
    '3.948\n',
    '00000002.00000948\n',
    'CONNECT\n',
    'CONNECT -1\n',
    'CONNECT 4294967296\n',
    'GET / HTTP/1.1\n',
  ])
    t.type(parse(wrong), 'string', JSON.stringify(wrong));
  t.type(parse('x'.repeat(maxLineOctets)), 'string', 'no newline in sight');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: maxLineOctets }), (octets) => {
      const result = parseHandshake(octets, 3);
      return (
        typeof result !== 'object' || (result.octets <= octets.length && result.port >= 0 && result.port < 2 ** 32)
      );
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (port) => {
      const hex = port.toString(16).padStart(8, '0');
      const both = [parse(`00000003.${hex}\n`), parse(`CONNECT ${port}\n`)];
      return both.every((result) => typeof result === 'object' && result.port === port);
    }),
  );
});

t.test('socket paths and names', async (t) => {
  t.equal(hostPortName(62376), '00000002.0000f3a8');
  t.doesNotThrow(() => checkSocketPath(`/${'x'.repeat(103)}`));
  t.throws(() => checkSocketPath(`/${'x'.repeat(104)}`), /has 105 octets, a unix socket takes 104: choose a shorter/);
  t.throws(() => checkSocketPath(`/${'\u00e9'.repeat(52)}`), /has 105 octets/, 'octets, not characters');
});

t.test('packet headers survive the wire', async (t) => {
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const header = fc.record({
    ...{ srcCid: u32, dstCid: u32, srcPort: u32, dstPort: u32, len: u32, type: u16, op: u16 },
    ...{ flags: u32, bufAlloc: u32, fwdCnt: u32 },
  });
  const view = new DataView(new ArrayBuffer(packetHeaderOctets + 3));
  fc.assert(
    fc.property(header, fc.integer({ min: 0, max: 3 }), (sent, at) => {
      const received = emptyHeader();
      emitPacketHeader(view, at, sent);
      parsePacketHeader(view, at, received);
      return JSON.stringify(received) === JSON.stringify({ ...received, ...sent });
    }),
  );
  view.setUint32(4, 1, true);
  const large = emptyHeader();
  parsePacketHeader(view, 0, large);
  t.equal(large.srcCid, -1, 'an address beyond 32 bits is nobody');
});

t.test('5.10.6.3: credit both ways, counters going round', async (t) => {
  const bufAlloc = 1000;
  const step = fc.oneof(
    fc.record({ act: fc.constant('send' as const), octets: fc.nat(1500) }),
    fc.record({ act: fc.constant('peer reads' as const), octets: fc.nat(1500) }),
    fc.record({ act: fc.constant('receive' as const), octets: fc.nat(1500) }),
    fc.record({ act: fc.constant('forward' as const), octets: fc.nat(1500) }),
    fc.record({ act: fc.constant('tell' as const), octets: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(5000), (steps, peerBufAlloc) => {
      const connection = new VsockConnection(1, 2, bufAlloc, 'ESTABLISHED');
      // Exact figures beside the u32 ones. The first exchange takes the counters to where they go round.
      let sent = 0;
      let read = 0;
      let received = 0;
      let forwarded = 0;
      let told = 0;
      connection.credit(peerBufAlloc, 0);
      for (const { act, octets } of steps) {
        if (act === 'send') {
          const now = Math.min(octets, connection.peerFree);
          connection.sent(now);
          sent += now;
          if (sent - read > peerBufAlloc) throw new Error('sent beyond credit');
        } else if (act === 'peer reads') {
          read += Math.min(octets, sent - read);
          connection.credit(peerBufAlloc, read >>> 0);
        } else if (act === 'receive') {
          const fits = octets <= bufAlloc - (received - forwarded);
          if (connection.received(octets) !== fits) throw new Error('credit misjudged');
          if (fits) received += octets;
        } else if (act === 'forward') {
          const now = Math.min(octets, received - forwarded);
          connection.forwarded(now);
          forwarded += now;
          const due = (connection.pending & control.CREDIT_UPDATE) !== 0;
          // A peer at the end of its credit, whose data are all gone, is never left waiting.
          if (forwarded - told >= bufAlloc && !due) throw new Error('no credit update');
        } else {
          if (connection.tellFwdCnt() !== forwarded >>> 0) throw new Error('wrong fwd_cnt');
          told = forwarded;
        }
        if (connection.held !== received - forwarded) throw new Error('wrong held');
        if (connection.peerFree !== Math.max(0, peerBufAlloc - (sent - read))) throw new Error('wrong peerFree');
      }
    }),
  );
  const connection = new VsockConnection(1, 2, 0xffff_ffff, 'ESTABLISHED');
  for (let round = 0; round < 3; round++) {
    t.ok(connection.received(0xf000_0000));
    connection.forwarded(0xf000_0000);
    t.equal(connection.held, 0);
    connection.sent(0xf000_0000);
    connection.credit(100, connection.tellFwdCnt());
    t.equal(connection.peerFree, 100);
  }
  connection.guestShutdown = 1;
  t.equal(connection.peerFree, 0, 'nothing for a guest that receives no more');
  connection.guestShutdown = 2;
  t.notOk(connection.received(1), 'nothing from a guest that sends no more');
});

t.test('connections are found by both ports', async (t) => {
  const table = new ConnectionTable<{ hostPort: number; guestPort: number; name: string }>();
  const opened = { hostPort: table.allocateHostPort(), guestPort: 7, name: 'opened' };
  table.addHostOpened(opened);
  t.equal(opened.hostPort, firstHostPort);
  t.equal(table.allocateHostPort(), firstHostPort + 1);
  const accepted = { hostPort: 7, guestPort: 7, name: 'accepted' };
  t.ok(table.addGuestOpened(accepted));
  t.notOk(table.addGuestOpened({ ...accepted, hostPort: 8 }), 'a guest port is used once');
  t.equal(table.find(opened.hostPort, 7), opened);
  t.equal(table.find(opened.hostPort, 8), undefined);
  t.equal(table.find(7, 7), accepted);
  t.equal(table.find(8, 7), undefined);
  t.same([...table], [opened, accepted]);
  table.delete({ ...accepted });
  t.equal(table.size, 2, 'only what is there is deleted');
  table.delete(accepted);
  table.delete(opened);
  t.equal(table.size, 0);
});

t.test('deadlines: one timer, in order', async (t) => {
  const timers = new FakeTimers();
  const expired: string[] = [];
  const queue = new DeadlineQueue<string>(100, timers, (item) => expired.push(item));
  queue.add('a');
  timers.advance(50);
  queue.add('b');
  queue.add('c');
  queue.add('a');
  t.equal(timers.size, 1);
  queue.delete('b');
  timers.advance(60);
  t.same(expired, [], 'adding again moves the deadline');
  timers.advance(40);
  t.same(expired, ['c', 'a']);
  t.equal(timers.size, 0);
  queue.add('d');
  queue.clear();
  timers.advance(200);
  t.same(expired, ['c', 'a']);
});

t.test('windows: within the budget, and never none', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4096 }), fc.integer({ min: 1, max: 64 }), (streams, mebibytes) => {
      const total = mebibytes << 20;
      const budget = new WindowBudget(256 * 1024, streams, total);
      const windows = Array.from({ length: streams }, () => budget.reserve());
      const sum = windows.reduce((a, b) => a + b, 0);
      if (windows.some((window) => window < Math.min(256 * 1024, Math.floor(total / streams / 4))))
        throw new Error('a window of next to nothing');
      if (sum > total) throw new Error(`${sum} of ${total}`);
      for (const window of windows) budget.release(window);
      return budget.reserved === 0;
    }),
  );
  const usual = new WindowBudget(256 * 1024, 1024, 64 << 20);
  t.equal(usual.reserve(), 256 * 1024, 'a usual number of streams has the full window');
});
