/** 9P over real sockets: modes, back-pressure, the end of either side. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import t, { type Test } from 'tap';
import { NinepServer } from '../../../src/fs/adapter/ninep-server.ts';
import { serveStream } from '../../../src/fs/adapter/ninep-stream.ts';
import { emit } from '../../../src/fs/ninep/codec.ts';
import { NOTAG } from '../../../src/fs/ninep/dialect.ts';
import { LockTable } from '../../../src/fs/ninep/lock-table.ts';
import type { Message } from '../../../src/fs/ninep/message.ts';
import { exportOf, settle } from '../ninep/client.ts';
import { MemoryDirectory, MemoryStream } from '../ninep/memory-tree.ts';

const buffer = new Uint8Array(200_000);
const encode = (wanted: Message): Buffer =>
  Buffer.from(buffer.subarray(0, emit(wanted, wanted.tag, '9P2000.L', buffer)));

const greeting = Buffer.concat([
  encode({ kind: 'Tversion', tag: NOTAG, msize: 131_096, version: '9P2000.L' }),
  encode({ kind: 'Tattach', tag: 1, fid: 0, afid: 0xffffffff, uname: '', aname: '', nUname: 0 }),
]);

function tree() {
  const root = new MemoryDirectory();
  root.createFile('large', 0o644).content = new Uint8Array(1_000_000).fill(7);
  const live = root.add('live', (id) => new MemoryStream(id));
  return { root, live };
}

async function listening(t: Test, root: MemoryDirectory) {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-ninep-'));
  const path = join(folder, 'db.9p.sock');
  const log: string[] = [];
  writeFileSync(path, 'left behind');
  const server = await NinepServer.listen({ path, served: exportOf(root), log: (line) => log.push(line) });
  t.teardown(async () => {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { path, server, log };
}

t.test('a unix socket of its own, answered and closed', async (t) => {
  const { path, server, log } = await listening(t, tree().root);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const socket = connect(path);
  socket.write(greeting);
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received === 21 + 20) socket.end();
  });
  await once(socket, 'close');
  t.equal(received, 21 + 20, 'Rversion and Rattach');
  const hostile = connect(path);
  hostile.write(Buffer.alloc(100, 0xff));
  await once(hostile, 'close');
  t.match(log, [/dropped: a frame of/]);
  const idle = connect(path);
  await once(idle, 'connect');
  await server.close();
  await once(idle, 'close');
  t.throws(() => statSync(path), { code: 'ENOENT' });
});

t.test('a path too long is said to be so', async (t) => {
  const path = join(tmpdir(), 'x'.repeat(120));
  await t.rejects(
    NinepServer.listen({ path, served: exportOf(tree().root), log: () => undefined }),
    /shorter than 104/,
  );
});

t.test('a client that does not read is not read from', async (t) => {
  const { root } = tree();
  const [near, far] = duplexPair();
  t.teardown(() => near.destroy());
  const session = serveStream(far, {
    served: exportOf(root),
    locks: new LockTable(),
    limits: { replies: 16 },
    log: () => undefined,
  });
  near.write(greeting);
  near.write(encode({ kind: 'Twalk', tag: 2, fid: 0, newfid: 1, names: ['large'] }));
  near.write(encode({ kind: 'Tlopen', tag: 3, fid: 1, flags: 0 }));
  const read = (tag: number) => encode({ kind: 'Tread', tag, fid: 1, offset: 0n, count: 1000 });
  let sent = 0;
  while (near.write(read(sent + 10)) && sent < 10_000) {
    sent++;
    await settle();
  }
  t.ok(sent < 10_000, `after ${sent} requests the stream is full`);
  t.ok(session.congested);
  let octets = 0;
  near.on('data', (chunk: Buffer) => {
    octets += chunk.length;
  });
  const expected = 21 + 20 + 9 + 13 + 24 + (sent + 1) * 1011;
  while (octets < expected) await settle();
  t.equal(octets, expected, 'once it reads, all is answered');
  t.notOk(session.congested);
});

t.test('a client that goes away while it waits leaves nobody watching', async (t) => {
  const { root, live } = tree();
  const [near, far] = duplexPair();
  serveStream(far, { served: exportOf(root), locks: new LockTable(), log: () => undefined });
  near.resume();
  near.write(greeting);
  near.write(encode({ kind: 'Twalk', tag: 2, fid: 0, newfid: 1, names: ['live'] }));
  near.write(encode({ kind: 'Tlopen', tag: 3, fid: 1, flags: 0 }));
  near.write(encode({ kind: 'Tread', tag: 4, fid: 1, offset: 0n, count: 100 }));
  await settle();
  t.equal(live.open_.size, 1);
  near.end();
  await once(far, 'close');
  t.equal(live.open_.size, 0);
});

t.test(
  'a client that ends its side gets the answers to what it has asked, and what waits ends with them',
  async (t) => {
    const { root } = tree();
    const slow = new Proxy(root, {
      get: (target, key) =>
        key === 'lookup'
          ? async (name: string) => {
              await new Promise((resolve) => setTimeout(resolve, 50));
              return target.lookup(name);
            }
          : Reflect.get(target, key, target),
    });
    const { path, server, log } = await listening(t, slow);
    const socket = connect({ path, allowHalfOpen: true });
    socket.write(greeting);
    socket.write(encode({ kind: 'Twalk', tag: 2, fid: 0, newfid: 1, names: ['live'] }));
    socket.write(encode({ kind: 'Tlopen', tag: 3, fid: 1, flags: 0 }));
    socket.write(encode({ kind: 'Tread', tag: 4, fid: 1, offset: 0n, count: 100 }));
    socket.write(encode({ kind: 'Twalk', tag: 5, fid: 0, newfid: 2, names: ['large'] }));
    socket.write(encode({ kind: 'Tlopen', tag: 6, fid: 2, flags: 0 }));
    socket.end(encode({ kind: 'Tread', tag: 7, fid: 2, offset: 0n, count: 100_000 }));
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(socket, 'end');
    const answers = Buffer.concat(chunks);
    const tags: number[] = [];
    for (let at = 0; at < answers.length; at += answers.readUInt32LE(at)) tags.push(answers.readUInt16LE(at + 5));
    t.same(tags, [NOTAG, 1, 2, 3, 5, 6, 7], 'all but the read of the live file');
    t.ok(answers.length > 100_000);
    while (server.connections > 0) await settle();
    t.same(log, []);
  },
);
