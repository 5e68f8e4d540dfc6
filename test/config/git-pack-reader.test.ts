/** Packs as git makes them, read by us, by git and by isomorphic-git; and packs that are damaged. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs, { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { readObject } from 'isomorphic-git';
import t from 'tap';
import { applyDelta } from '../../src/config/adapter/delta.ts';
import { PackIndex } from '../../src/config/adapter/git-pack-index.ts';
import { GitPackReader } from '../../src/config/adapter/git-pack-reader.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-packs-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.setTimeout(120_000);

/** A repository of commits that each change a line of a file, in one pack. */
function repository(name: string, commits: number, ...repack: readonly string[]): string {
  const directory = join(folder, name);
  execFileSync('git', ['init', '--quiet', '--bare', directory]);
  const lines = Array.from({ length: 300 }, (_, i) => createHash('sha1').update(`${i}`).digest('hex'));
  const input: string[] = [];
  for (let i = 1; i <= commits; i++) {
    lines[(i * 7) % lines.length] = `changed by ${i}`;
    const content = lines.join('\n');
    input.push(`commit refs/heads/x\ncommitter x <x@y> ${1_700_000_000 + i} +0000\ndata 1\nx`);
    input.push(`M 100644 inline a/file\ndata ${content.length}\n${content}`, `M 100644 inline b${i % 9}\ndata 0\n`);
  }
  execFileSync('git', ['fast-import', '--quiet'], { cwd: directory, input: input.join('\n') });
  execFileSync('git', [...repack, 'repack', '-adfq', '--depth=60'], { cwd: directory });
  return directory;
}

function objectsOf(directory: string): string[] {
  const said = execFileSync('git', ['cat-file', '--batch-all-objects', '--batch-check=%(objectname)'], {
    cwd: directory,
    encoding: 'utf8',
  });
  return said.trim().split('\n');
}

function packOf(directory: string): string {
  const name = readdirSync(join(directory, 'objects/pack')).find((file) => file.endsWith('.pack'))!;
  return join(directory, 'objects/pack', name);
}

function hashOf(type: string, content: Uint8Array): string {
  return createHash('sha1').update(`${type} ${content.length}\0`).update(content).digest('hex');
}

for (const [name, commits, ...options] of [
  ['by offset', 400],
  ['by hash', 400, '-c', 'repack.useDeltaBaseOffset=false'],
  ['few', 2],
] as const)
  t.test(`deltas ${name}: each object as git and isomorphic-git have it`, async (t) => {
    const directory = repository(name, commits, ...options);
    const hashes = objectsOf(directory);
    const reader = new GitPackReader(directory);
    let different = 0;
    for (const oid of hashes) {
      const found = await reader.read(oid);
      if (!found || hashOf(found.type, found.content) !== oid) different++;
    }
    t.equal(different, 0, `${hashes.length} objects have their hash`);
    const cache = {};
    for (let i = 0; i < 20; i++) {
      const oid = hashes[Math.floor(Math.random() * hashes.length)]!;
      const theirs = await readObject({ fs, gitdir: directory, oid, cache, format: 'content' });
      const ours = await reader.read(oid);
      if (ours?.type !== theirs.type || !Buffer.from(theirs.object as Uint8Array).equals(ours.content)) t.fail(oid);
    }
    t.equal(await reader.read('0'.repeat(40)), undefined);
    t.equal(await reader.read('f'.repeat(40)), undefined);
  });

t.test('the rows of an index, as git shows them', async (t) => {
  const directory = repository('rows', 300);
  const index = packOf(directory).replace(/pack$/, 'idx');
  const said = execFileSync('git', ['show-index'], { input: readFileSync(index), encoding: 'utf8' });
  const theirs = said
    .trim()
    .split('\n')
    .map((line) => /^(\d+) ([0-9a-f]{40}) \(([0-9a-f]{8})\)$/.exec(line)!.slice(1));
  const rows = PackIndex.open(index).rows();
  t.same(
    rows.map(({ offset, hash, crc }) => [String(offset), hash, crc.toString(16).padStart(8, '0')]),
    theirs,
  );
});

t.test('an octet that is another one: the same object, another one of its own, or an error', async (t) => {
  const directory = repository('damaged', 12);
  const hashes = objectsOf(directory);
  const pack = packOf(directory);
  for (const path of [pack, pack.replace(/pack$/, 'idx')]) {
    const good = readFileSync(path);
    fs.chmodSync(path, 0o600);
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bad = Buffer.from(good);
        bad[at]! ^= change;
        writeFileSync(path, bad);
        const reader = new GitPackReader(directory);
        for (const hash of hashes) {
          try {
            const found = await reader.read(hash);
            outcomes.add(!found ? 'none' : hashOf(found.type, found.content) === hash ? 'good' : 'another');
          } catch (error) {
            if (!(error instanceof Error)) throw error;
            outcomes.add('error');
          }
        }
      }),
      { verbose: true, numRuns: 150 },
    );
    t.ok(outcomes.has('error') && outcomes.has('good'), [...outcomes].join(', '));
    writeFileSync(path, good);
  }
});

t.test('a delta of any octets makes what it says, or fails', async () => {
  const number = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...number(value >> 7)]);
  const copy = fc.tuple(fc.nat(40), fc.nat(40)).map(([start, count]) => [0x80 | 1 | 16, start, count]);
  const insert = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((octets) => [octets.length, ...octets]);
  const commands = fc.array(
    fc.oneof(
      copy,
      insert,
      fc.uint8Array({ maxLength: 4 }).map((octets) => [...octets]),
    ),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(200), commands, (base, length, rest) => {
      const delta = Uint8Array.from([...number(base.length), ...number(length), ...rest.flat()]);
      try {
        return applyDelta(base, delta, 150).length === length && length <= 150;
      } catch (error) {
        return error instanceof Error && /^a delta /.test(error.message);
      }
    }),
    { verbose: true, numRuns: 2000 },
  );
});

t.test('packs that go for another one while they are read', async (t) => {
  const directory = repository('gone', 30);
  const [first = '', ...rest] = objectsOf(directory);
  const reader = new GitPackReader(directory);
  t.ok(await reader.read(first));
  execFileSync('git', ['repack', '-adfq', '--depth=0'], { cwd: directory });
  for (const hash of rest) if (!(await reader.read(hash))) t.fail(`${hash} is lost`);
});
