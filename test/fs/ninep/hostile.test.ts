/** Hostile and careless 9P clients: no octets make the server throw, hang or hold more than it may. */

import fc from 'fast-check';
import t from 'tap';
import { emit } from '../../../src/fs/ninep/codec.ts';
import { type Dialect, NOTAG } from '../../../src/fs/ninep/dialect.ts';
import { LockTable } from '../../../src/fs/ninep/lock-table.ts';
import type { Message, RequestKind } from '../../../src/fs/ninep/message.ts';
import { layouts } from '../../../src/fs/ninep/message.ts';
import type { DirectoryNode } from '../../../src/fs/ninep/node.ts';
import { Session } from '../../../src/fs/ninep/session.ts';
import { Client, exportOf, settle } from './client.ts';
import { MemoryDirectory, MemoryStream } from './memory-tree.ts';
import { dialects, message } from './messages.ts';

const requests = Object.keys(layouts).filter((kind) => kind.startsWith('T') && kind !== 'Tversion') as RequestKind[];
const limits = { fids: 20, requests: 10, entries: 200 };
const buffer = new Uint8Array(70_000);

function tree() {
  const root = new MemoryDirectory();
  root.createDirectory('a').createFile('b', 0o644);
  root.createFile('b', 0o644);
  root.createLink('c', 'a');
  const live = root.add('live', (id) => new MemoryStream(id));
  return { root, live };
}

function encode(wanted: Message, dialect: Dialect): Uint8Array {
  return buffer.slice(0, emit(wanted, wanted.tag, dialect, buffer));
}

/** Numbers and names of which some are in use, so that many requests mean something. */
function plausible(wanted: Message, numbers: readonly number[]): Message {
  const names = ['a', 'b', 'c', 'live', '..', 'new'];
  let next = 0;
  const number = (): number => numbers[next++ % numbers.length]!;
  const changed = Object.entries(wanted).map(([field, value]) => {
    if (/fid$/i.test(field) && field !== 'afid') return [field, number() % 6];
    if (field === 'afid') return [field, 0xffffffff];
    if (field === 'tag' || field === 'oldtag') return [field, number() % 8];
    if (field === 'names') return [field, (value as string[]).slice(0, 3).map(() => names[number() % names.length])];
    if (field === 'name' || field === 'newName') return [field, names[number() % names.length]];
    if (field === 'offset') return [field, BigInt(number() % 40)];
    if (field === 'count') return [field, number() % 4000];
    if (field === 'flags' || field === 'mode') return [field, number() % 4];
    return [field, value];
  });
  return Object.fromEntries(changed) as Message;
}

t.test('any sequence of requests is answered, each at most once, and leaves nothing behind', async (t) => {
  const step = (dialect: Dialect) =>
    fc.tuple(message(dialect, requests), fc.array(fc.nat(1000), { minLength: 8, maxLength: 8 }), fc.boolean());
  const script = fc
    .constantFrom(...dialects)
    .chain((dialect) => fc.tuple(fc.constant(dialect), fc.array(step(dialect), { minLength: 1, maxLength: 60 })));
  await fc.assert(
    fc.asyncProperty(script, async ([dialect, steps]) => {
      const { root, live } = tree();
      const locks = new LockTable(50);
      const client = await Client.attach(exportOf(root), dialect, { limits, locks });
      client.log.length = 0;
      let sent = 0;
      for (const [wanted, numbers, wait] of steps) {
        const request = plausible(wanted, numbers);
        client.raw(encode(request, dialect));
        sent++;
        if (wait) await settle();
        live.publish('line');
      }
      await settle();
      if (client.dropped !== undefined || client.session.fids > limits.fids) return false;
      // Only reads of the live file wait, and flushing all tags ends them.
      for (let tag = 0; tag < 8; tag++) client.raw(encode({ kind: 'Tflush', tag: 100 + tag, oldtag: tag }, dialect));
      await settle();
      if (client.session.pending !== 0 || client.log.length !== sent + 8) return false;
      client.session.close();
      await settle();
      return locks.size === 0 && live.open_.size === 0;
    }),
    { numRuns: 400 },
  );
  t.pass('every request was answered');
});

t.test('arbitrary octets are answered or end the connection', async (t) => {
  const frame = fc
    .tuple(fc.constantFrom(...Object.values(layouts).map(({ code }) => code)), fc.uint8Array({ maxLength: 60 }))
    .map(([code, rest]) => Uint8Array.of(rest.length + 7, 0, 0, 0, code, 1, 0, ...rest));
  const pieces = fc.array(fc.oneof({ weight: 5, arbitrary: frame }, fc.uint8Array({ maxLength: 40 })), {
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...dialects), pieces, async (dialect, stream) => {
      const client = await Client.attach(exportOf(tree().root), dialect, { limits });
      for (const piece of stream) client.raw(piece);
      await settle();
      client.session.close();
      return client.session.pending === 0;
    }),
    { numRuns: 500 },
  );
  t.pass('nothing was thrown');
});

t.test('frames may come in any pieces', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 50 }), async (cuts) => {
      const { root } = tree();
      const client = new Client(exportOf(root));
      client.dialect = '9P2000.L';
      const stream = Buffer.concat([
        encode({ kind: 'Tversion', tag: NOTAG, msize: 8192, version: '9P2000.L' }, '9P2000.L'),
        encode({ kind: 'Tattach', tag: 1, fid: 0, afid: 0xffffffff, uname: '', aname: '', nUname: 0 }, '9P2000.L'),
      ]);
      let at = 0;
      const feed = async (octets: Uint8Array): Promise<void> => {
        for (let from = 0; from < octets.length; ) {
          const cut = cuts[at++ % cuts.length]!;
          client.raw(octets.subarray(from, from + cut));
          from += cut;
        }
        await settle();
      };
      await feed(stream);
      const data = Uint8Array.from({ length: 3000 }, (_, index) => index % 251);
      const requests: Message[] = [
        { kind: 'Tlcreate', tag: 1, fid: 0, name: 'made', flags: 2, mode: 0o644, gid: 0 },
        { kind: 'Twrite', tag: 1, fid: 0, offset: 0n, data },
      ];
      for (const request of requests) await feed(encode(request, '9P2000.L'));
      const made = root.children.get('made') as { content?: Uint8Array } | undefined;
      t.same(client.log, ['Rversion 65535', 'Rattach 1', 'Rlcreate 1', 'Rwrite 1']);
      return made?.content !== undefined && Buffer.compare(made.content, data) === 0;
    }),
    { numRuns: 50 },
  );
});

t.test('a size that no frame has ends the connection', async (t) => {
  for (const size of [0, 6, 65_537, 0x7fffffff, 0xffffffff]) {
    const client = await Client.attach(exportOf(tree().root), '9P2000');
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(0, size, true);
    client.raw(bytes);
    t.match(client.dropped, /frame of/, String(size));
  }
  const silent = new Client(exportOf(tree().root));
  silent.raw(Uint8Array.of(0xff, 0xff, 0, 0));
  t.match(silent.dropped, /frame of 65535/, 'before a version is agreed on, frames are small');
});

t.test('thousands of fids and requests', async (t) => {
  const { root } = tree();
  const client = await Client.attach(exportOf(root), '9P2000.L');
  const walks = [];
  for (let fid = 1; fid <= 4000; fid++)
    walks.push(client.call('Twalk', { fid: 0, newfid: fid, names: ['a', 'b'] }, fid));
  await Promise.all(walks);
  t.equal(client.session.fids, 4001);
  await Promise.all(Array.from({ length: 4000 }, (_, fid) => client.call('Tlopen', { fid: fid + 1, flags: 0 }, fid)));
  const open = client.session.fids;
  await Promise.all(Array.from({ length: 4000 }, (_, fid) => client.call('Tclunk', { fid: fid + 1 }, fid)));
  t.equal(open - client.session.fids, 4000);
});

t.test('fids that go ever deeper into a tree without an end', async (t) => {
  const endless = (depth: number): DirectoryNode => ({
    kind: 'directory',
    id: BigInt(depth),
    attributes: () => ({ mode: 0o555, sizeOctets: 0, modifiedMs: 0, version: 0 }),
    lookup: () => endless(depth + 1),
    list: () => [],
  });
  const client = await Client.attach(exportOf(endless(0)), '9P2000.L');
  const names = new Array<string>(16).fill('x');
  let number = 0;
  const deeper = async (): Promise<void> => {
    // A thousand fids, each a little further than the one before.
    for (; number < 1000; number++) await client.call('Twalk', { fid: number, newfid: number + 1, names });
  };
  await t.rejects(deeper(), /errno 105/);
  t.ok(number > 300 && number < 400, `${number} fids`);
  const onwards = async (): Promise<void> => {
    for (let count = 0; count < 1000; count++) await client.call('Twalk', { fid: number, newfid: number, names });
  };
  await t.rejects(onwards(), /errno 105/);
  await client.call('Tclunk', { fid: number });
  await client.call('Twalk', { fid: 0, newfid: 2000, names });
  t.pass('there is room again');
});

t.test('a long chain of flushes is answered whole', async (t) => {
  const { root } = tree();
  const client = await Client.attach(exportOf(root), '9P2000.L');
  const fid = await client.open('live', 'read');
  client.log.length = 0;
  void client.send('Tread', { fid, offset: 0n, count: 10 }, 1);
  // Each about the one before; the read is flushed last, by none but its own.
  const flushes = [];
  for (let tag = 2; tag < 4000; tag++) flushes.push(client.send('Tflush', { oldtag: tag - 1 }, tag));
  await Promise.all(flushes);
  t.equal(client.log.length, 3999);
  t.equal(client.session.pending, 0);
});

t.test('a session that was closed takes and gives nothing more', async (t) => {
  const session = new Session({
    served: exportOf(tree().root),
    locks: new LockTable(),
    ready: () => t.fail('nothing is ready'),
    relieved: () => undefined,
  });
  session.close();
  session.input(encode({ kind: 'Tversion', tag: NOTAG, msize: 8192, version: '9P2000' }, '9P2000'));
  t.equal(session.take(), undefined);
});
