/** Sockets of the stack alone: connections as streams over a link of streams, their ends and errors, with Node's codes. */

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, duplexPair } from 'node:stream';
import t, { type Test } from 'tap';
import { parseConditions, SocketStack, WebStreamsLink } from '../../../src/stack/index.ts';
import type { FrameBatch } from '../../../src/stack/port.ts';
import { ofIpv4 } from '../../../src/stack/wire/address.ts';
import { ensureDebianPackages } from '../../../tools/debian.ts';
import { FakeLink } from '../fake-link.ts';
import { pattern } from '../frames.ts';
import { answerTo } from '../probed-guest.ts';

function pair(t: Test): { left: SocketStack; right: SocketStack; links: WebStreamsLink[] } {
  const there = new TransformStream<Uint8Array, Uint8Array>();
  const back = new TransformStream<Uint8Array, Uint8Array>();
  const links = [
    new WebStreamsLink({ readable: back.readable, writable: there.writable }),
    new WebStreamsLink({ readable: there.readable, writable: back.writable }),
  ] as const;
  const left = new SocketStack({ address: '10.0.0.1/24', ipv6Address: 'fd00::1/64', link: links[0] });
  const right = new SocketStack({ address: '10.0.0.2/24', ipv6Address: 'fd00::2/64', link: links[1] });
  t.teardown(() => {
    left.close();
    right.close();
  });
  return { left, right, links: [...links] };
}

async function joined(t: Test) {
  const stacks = pair(t);
  const listener = stacks.left.listen({ port: 80 });
  const client = await stacks.right.connect({ host: '10.0.0.1', port: 80 });
  const { value: server } = await listener.next();
  return { ...stacks, listener, client, server: server! };
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return new Uint8Array(await new Blob(all as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

t.test('octets both ways, and each side ends by itself', async (t) => {
  const { client, server } = await joined(t);
  t.same(
    [client.localAddress, client.remoteAddress, client.remotePort, server.localPort, server.remoteAddress],
    ['10.0.0.2', '10.0.0.1', 80, 80, '10.0.0.2'],
  );
  t.equal(server.remotePort, client.localPort);
  const octets = pattern(3_000_000);
  const writer = client.writable.getWriter();
  const sent = (async () => {
    for (let at = 0; at < octets.length; at += 100_000) await writer.write(octets.subarray(at, at + 100_000));
    await writer.close();
  })();
  const received = await collect(server);
  await sent;
  t.equal(sha256(received), sha256(octets));
  const answer = server.writable.getWriter();
  await answer.write(Uint8Array.of(1, 2, 3));
  await answer.close();
  t.same(await collect(client), Uint8Array.of(1, 2, 3));
  await Promise.all([client.closed, server.closed]);
});

t.test('the same by IPv6', async (t) => {
  const { left, right } = pair(t);
  const listener = left.listen({ port: 80, host: 'fd00::1' });
  const client = await right.connect({ host: 'fd00::1', port: 80 });
  const { value: server } = await listener.next();
  t.same([client.localAddress, client.remoteAddress, server!.remoteAddress], ['fd00::2', 'fd00::1', 'fd00::2']);
  const writer = client.writable.getWriter();
  const octets = pattern(300_000);
  const sent = writer.write(octets).then(() => writer.close());
  t.equal(sha256(await collect(server!)), sha256(octets));
  await sent;
  await t.rejects(right.connect({ host: 'fd00::1', port: 81 }), { code: 'ECONNREFUSED' });
  await t.rejects(new SocketStack({ address: '10.0.0.3/24' }).connect({ host: 'fd00::1', port: 81 }), {
    code: 'ENETUNREACH',
  });
  t.throws(() => new SocketStack({ address: '10.0.0.3/24', ipv6Address: 'fd00::1/48' }), /fd00::1\/64/);
});

t.test('who does not read makes the other wait', async (t) => {
  const { client, server } = await joined(t);
  const writer = client.writable.getWriter();
  const chunk = new Uint8Array(64 * 1024);
  let written = 0;
  let moved = true;
  const sending = (async () => {
    for (let i = 0; i < 400; i++) {
      await writer.write(chunk);
      written += chunk.length;
      moved = true;
    }
    await writer.close();
  })();
  // Until nothing moves for a while: neither here nor on the wire.
  while (moved) {
    moved = false;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  t.ok(written < 400 * chunk.length && written <= 4 << 20, `${written} octets are queued`);
  const received = await collect(server);
  await sending;
  t.equal(received.length, 400 * chunk.length);
});

t.test('errors have Node’s codes', async (t) => {
  const { left, right, client, server } = await joined(t);
  const refused = { code: 'ECONNREFUSED', syscall: 'connect', address: '10.0.0.1', port: 81 };
  await t.rejects(right.connect({ host: '10.0.0.1', port: 81 }), {
    ...refused,
    message: 'connect ECONNREFUSED 10.0.0.1:81',
  });
  t.throws(() => left.listen({ port: 80 }), { code: 'EADDRINUSE', syscall: 'listen' });
  const reading = collect(client);
  const writer = client.writable.getWriter();
  server.abort();
  await t.rejects(reading, { code: 'ECONNRESET' });
  await t.rejects(client.closed, { code: 'ECONNRESET' });
  await t.rejects(writer.write(Uint8Array.of(1)), { code: 'ECONNRESET' });
  await t.rejects(server.closed, { code: 'ECONNABORTED' });
  await t.rejects(right.connect({ host: 'example.org', port: 1 }), { message: /is not an IP address/ });
  await t.rejects(right.connect({ host: '10.0.0.1', port: 65_536 }), RangeError);
  t.throws(() => left.listen({ port: -1 }), RangeError);
  t.throws(() => new SocketStack({ address: '10.0.0.1' }), { message: /10\.0\.0\.1\/24/ });
  right.close();
  await t.rejects(right.connect({ host: '10.0.0.1', port: 80 }), { code: 'ENETDOWN' });
  t.throws(() => right.listen({ port: 1 }), { code: 'ENETDOWN' });
});

t.test('nobody there: EHOSTUNREACH; nobody answers: ETIMEDOUT', async (t) => {
  let nowMs = 0;
  let at: { ms: number; run: () => void } | undefined;
  const soon: (() => void)[] = [];
  const link = new FakeLink();
  const stack = new SocketStack({
    address: '10.0.0.2/24',
    link,
    clock: { nowMs: () => nowMs },
    schedule: (when, run) => void (when === 'soon' ? soon.push(run) : (at = { ms: when, run })),
  });
  const settled = async (attempt: Promise<unknown>): Promise<void> => {
    let over = false;
    const end = (): void => {
      over = true;
    };
    attempt.then(end, end);
    for (let steps = 0; steps < 1000; steps++) {
      for (const run of soon.splice(0)) run();
      await new Promise(setImmediate);
      if (over) return;
      if (at) nowMs = at.ms;
      at?.run();
    }
    throw new Error('it never ends');
  };
  const nobody = stack.connect({ host: '10.0.0.9', port: 80 });
  await settled(nobody);
  await t.rejects(nobody, { code: 'EHOSTUNREACH' });
  const there = ofIpv4(0x0a_00_00_09);
  stack.netstack.pinNeighbor(there, 1, Uint8Array.of(2, 0, 0, 0, 0, 9));
  // It says where it is, and nothing else.
  link.answers = (frame) => {
    const answer = answerTo(frame);
    if (answer) soon.push(() => link.input([answer]));
    return answer !== undefined;
  };
  const silent = stack.connect({ host: '10.0.0.9', port: 80 });
  await settled(silent);
  await t.rejects(silent, { code: 'ETIMEDOUT', message: 'connect ETIMEDOUT 10.0.0.9:80' });
});

t.test('a signal gives a connect up', async (t) => {
  const { right } = pair(t);
  const controller = new AbortController();
  const attempt = right.connect({ host: '10.0.0.77', port: 1, signal: controller.signal });
  controller.abort(new Error('enough'));
  await t.rejects(attempt, { message: 'enough' });
  await t.rejects(right.connect({ host: '10.0.0.1', port: 1, signal: controller.signal }), { message: 'enough' });
  t.same(right.flows(), []);
});

t.test('a listener: any port, its backlog, its end', async (t) => {
  const { left, right } = pair(t);
  const any = left.listen({ port: 0 });
  t.ok(any.port >= 49_152);
  t.not(left.listen({ port: 0 }).port, any.port);
  const listener = left.listen({ port: 80, backlog: 2 });
  const connect = () => right.connect({ host: '10.0.0.1', port: 80 });
  const two = await Promise.all([connect(), connect()]);
  const third = connect();
  const taken = [];
  for await (const connection of listener) {
    taken.push(connection);
    if (taken.length === 3) break;
  }
  await third;
  t.equal(taken.length, 3, 'the third was tried again, and taken');
  await t.rejects(connect(), { code: 'ECONNREFUSED' }, 'leaving the loop has closed it');
  t.same(await listener.next(), { value: undefined, done: true });
  const writer = two[0].writable.getWriter();
  await writer.write(Uint8Array.of(7));
  t.same((await taken[0]!.readable.getReader().read()).value, Uint8Array.of(7), 'what was taken goes on');
  const again = left.listen({ port: 80 });
  const waiting = await connect();
  again.close();
  await t.rejects(collect(waiting), { code: 'ECONNRESET' }, 'what was not taken is reset');
});

t.test('giving up: leaving the loop, abort of a write that waits, nobody reads and nothing more to say', async (t) => {
  const one = await joined(t);
  await one.server.writable.getWriter().write(pattern(100));
  for await (const _ of one.client) break;
  await t.rejects(one.server.closed, { code: 'ECONNRESET' });

  const two = await joined(t);
  const writer = two.client.writable.getWriter();
  const stuck = writer.write(new Uint8Array(20 << 20));
  stuck.catch(() => undefined);
  await two.server.readable.getReader().read();
  await writer.abort();
  await t.rejects(stuck);
  await t.rejects(two.server.closed, { code: 'ECONNRESET' });

  const three = await joined(t);
  await three.client.readable.cancel();
  const reply = three.server.writable.getWriter();
  await reply.write(new Uint8Array(2 << 20));
  await three.client.writable.getWriter().close();
  await t.rejects(three.server.closed, { code: 'ECONNRESET' });

  const four = await joined(t);
  {
    await using given = four.client;
    t.ok(given);
  }
  await t.rejects(four.server.closed, { code: 'ECONNRESET' });
  await t.rejects(four.client.writable.getWriter().write('text' as unknown as Uint8Array));
});

t.test('a link that ends takes its connections along', async (t) => {
  const { client, server, left } = await joined(t);
  const reading = collect(client);
  left.close();
  await t.rejects(reading, { code: 'EHOSTUNREACH' });
  await t.rejects(server.closed, { code: 'EHOSTUNREACH' });
});

t.test('a link by a Node duplex of frames, under conditions', async (t) => {
  const [a, b] = duplexPair({ objectMode: true });
  const streams = (duplex: Duplex) => Duplex.toWeb(duplex) as ConstructorParameters<typeof WebStreamsLink>[0];
  const left = new SocketStack({ address: '10.0.0.1/24', link: new WebStreamsLink(streams(a)) });
  const right = new SocketStack({ address: '10.0.0.2/24', link: new WebStreamsLink(streams(b)) });
  t.teardown(() => left.close());
  left.useConditions(parseConditions('loss=2%,reorder=2%,corrupt=1%,delay=1ms,seed=5'));
  const listener = left.listen({ port: 80 });
  const client = await right.connect({ host: '10.0.0.1', port: 80 });
  const { value: server } = await listener.next();
  const octets = pattern(200_000);
  const writer = client.writable.getWriter();
  writer.write(octets).then(() => writer.close());
  t.equal(sha256(await collect(server!)), sha256(octets));
});

t.test('the link: batches, chunks that are no frames, a bound, and its end', async (t) => {
  const chunks = new TransformStream<unknown, Uint8Array>({}, { highWaterMark: 100 }, { highWaterMark: 100 });
  const out: { write: () => void; chunk: Uint8Array }[] = [];
  const writable = new WritableStream<Uint8Array>({
    write: (chunk) => new Promise<void>((resolve) => out.push({ write: resolve, chunk })),
  });
  const link = new WebStreamsLink({ readable: chunks.readable, writable });
  const batches: number[] = [];
  let writable1 = 0;
  let closed: unknown = 'open';
  link.start({
    input: (batch: FrameBatch) => void batches.push(batch.count),
    writable: () => void writable1++,
    closed: (error) => {
      closed = error;
    },
  });
  const writer = chunks.writable.getWriter();
  for (const chunk of [pattern(60), 'text', new Uint8Array(0), pattern(60), new Uint8Array(70_000)])
    writer.write(chunk);
  while (link.malformed < 3) await new Promise(setImmediate);
  await new Promise(setImmediate);
  t.equal(
    batches.reduce((a, b) => a + b),
    2,
  );

  let frames = 0;
  for (; link.reserve(60); frames++) {
    link.txArena.bytes.fill(frames);
    link.commit(60);
  }
  link.flush();
  t.equal(frames, 256);
  await new Promise(setImmediate);
  for (let i = 0; i < frames; i++) {
    const { chunk, write } = out[i]!;
    t.equal(chunk[0], i & 255);
    write();
    await new Promise(setImmediate);
  }
  t.equal(writable1, 1);
  t.ok(link.reserve(60));
  writer.abort(new Error('the pipe burst'));
  await new Promise(setImmediate);
  t.match(closed, { message: 'the pipe burst' });
  t.notOk(link.reserve(60));
  link.close();
});

t.test('the example: a file through 5 % loss, and a capture that tshark reads', async (t) => {
  ensureDebianPackages([{ name: 'tshark', proof: 'tshark' }]);
  const folder = mkdtempSync(join(tmpdir(), 'slipway-example-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [file, capture] = [join(folder, 'file'), join(folder, 'two-stacks.pcapng')];
  writeFileSync(file, pattern(100_000));
  const { NODE_OPTIONS: _, ...env } = process.env;
  const example = join(import.meta.dirname, '../../../examples/two-stacks.ts');
  const said = execFileSync(process.execPath, [example, file, capture], { encoding: 'utf8', env });
  t.match(said, /^100000 octets there and back, whole; [1-9]\d* frames lost on the way\n/);
  t.equal(statSync(capture).mode & 0o777, 0o600);
  const tshark = (...words: string[]): string[] =>
    spawnSync('tshark', ['-n', '-r', capture, ...words], { encoding: 'utf8' })
      .stdout.split('\n')
      .slice(0, -1);
  t.same(tshark('-Y', '_ws.malformed'), []);
  t.ok(tshark('-Y', 'tcp.analysis.retransmission').length > 0);
});
