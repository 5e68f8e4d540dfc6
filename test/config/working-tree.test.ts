/** Trees, read and changed: against git's own rules of the format, and against a model. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { DatabaseError } from '../../src/config/database.ts';
import {
  DIRECTORY,
  EMPTY_TREE,
  encodeCommit,
  encodeTree,
  inGitOrder,
  parseCommit,
  parseTree,
  type RawEntry,
} from '../../src/config/git-object.ts';
import { checkBranch, splitPath } from '../../src/config/path.ts';
import { TreeView } from '../../src/config/tree-view.ts';
import { WorkingTree } from '../../src/config/working-tree.ts';
import { MemoryObjects } from './memory-objects.ts';

const hash = fc.stringMatching(/^[0-9a-f]{40}$/);
const text = (octets: Uint8Array | undefined): string | undefined => octets && Buffer.from(octets).toString();

t.test('trees and commits come back as they went', async (t) => {
  const entry = fc.record({
    name: fc.string({ minLength: 1, unit: 'grapheme' }).filter((name) => !/[/\0]/.test(name)),
    mode: fc.constantFrom('100644', '100755', '120000', DIRECTORY, '160000'),
    hash,
  });
  fc.assert(
    fc.property(fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 8 }), (entries) => {
      const back = parseTree(encodeTree(inGitOrder(entries)));
      const order = (list: readonly RawEntry[]) => [...list].sort((a, b) => (a.name < b.name ? -1 : 1));
      t.same(order(back), order(entries));
      const keys = back.map(({ name, mode }) => Buffer.from(mode === DIRECTORY ? `${name}/` : name));
      t.same(keys, [...keys].sort(Buffer.compare), 'in the order that git has');
    }),
    {
      examples: [
        [['\u{1f600}', '\uff5e', 'a.b', 'a'].map((name) => ({ name, mode: DIRECTORY, hash: '0'.repeat(40) }))],
      ],
    },
  );
  const octets = Buffer.concat([Buffer.from('100644 a\xff\xfe\0', 'latin1'), Buffer.alloc(20, 7)]);
  t.same(Buffer.from(encodeTree(parseTree(octets))), octets, 'a name that is not UTF-8 as well');
  const commit = fc.record({
    tree: hash,
    parents: fc.array(hash, { maxLength: 3 }),
    message: fc.string({ unit: 'grapheme' }).filter((words) => !words.includes('\0') && words.isWellFormed()),
    author: fc.constant({ name: 'A B', email: 'a@b' }),
    timeMs: fc.nat(2_000_000_000).map((seconds) => seconds * 1000),
  });
  fc.assert(
    fc.property(commit, (made) => {
      t.same(parseCommit('x', encodeCommit(made)), { id: 'x', ...made });
    }),
  );
});

t.test('any octets are a tree or a commit, or refused with words', async () => {
  const refuses = (parse: () => unknown): boolean => {
    try {
      parse();
      return true;
    } catch (error) {
      return error instanceof DatabaseError && error.code === 'STORAGE';
    }
  };
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 80 }),
        fc.string().map((words) => Buffer.from(`tree ${words}`)),
      ),
      (octets) => refuses(() => parseTree(octets)) && refuses(() => parseCommit('x', octets)),
    ),
    { numRuns: 500 },
  );
});

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const action = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), path, content: fc.constantFrom('1', '2') }),
  fc.record({ kind: fc.constant('remove' as const), path }),
  fc.record({ kind: fc.constant('rename' as const), path, to: path }),
  fc.record({ kind: fc.constant('makeDirectory' as const), path }),
);

/** Every path that is there: a file's content, or undefined for a directory. */
type Model = Map<string, string | undefined>;

const above = (name: string): string => name.split('/').slice(0, -1).join('/');
const below = (model: Model, name: string): string[] =>
  [...model.keys()].filter((other) => other.startsWith(`${name}/`));
const isFolder = (model: Model, name: string): boolean =>
  name === '' || (model.has(name) && model.get(name) === undefined);

/** Makes what is above; false: a file is in the way, and nothing was made beyond it. */
function makeAbove(model: Model, name: string): boolean {
  const parts = name.split('/').slice(0, -1);
  for (let depth = 1; depth <= parts.length; depth++) {
    const folder = parts.slice(0, depth).join('/');
    if (model.has(folder) && !isFolder(model, folder)) return false;
    model.set(folder, undefined);
  }
  return true;
}

function act(model: Model, step: { kind: string; path: string; content?: string; to?: string }): boolean {
  const { kind, path: name, content, to = '' } = step;
  if (kind === 'write') {
    if (!makeAbove(model, name) || isFolder(model, name)) return false;
    model.set(name, content);
    return true;
  }
  if (kind === 'makeDirectory') {
    if (!makeAbove(model, name) || model.has(name)) return false;
    model.set(name, undefined);
    return true;
  }
  if (!model.has(name)) return false;
  if (kind === 'rename') {
    if (to === name) return true;
    if (to.startsWith(`${name}/`) || !isFolder(model, above(to))) return false;
    if (model.has(to) && isFolder(model, to) && (!isFolder(model, name) || below(model, to).length > 0)) return false;
    if (model.has(to) && !isFolder(model, to) && isFolder(model, name)) return false;
    for (const other of [name, ...below(model, name)]) model.set(to + other.slice(name.length), model.get(other));
  }
  for (const other of [name, ...below(model, name)]) model.delete(other);
  return true;
}

t.test('a working tree does what a model does, and stores the same tree', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 14 }), async (steps) => {
      const objects = new MemoryObjects();
      let work = new WorkingTree(objects);
      const model: Model = new Map();
      for (const [i, step] of steps.entries()) {
        const done = await (step.kind === 'write'
          ? work.write(step.path, step.content)
          : step.kind === 'rename'
            ? work.rename(step.path, step.to)
            : work[step.kind](step.path)
        ).then(
          () => true,
          (error) => {
            if (!(error instanceof DatabaseError)) throw error;
            return false;
          },
        );
        t.equal(done, act(model, step), JSON.stringify(step));
        for (const [name, content] of model) t.equal(text(await work.read(name)), content);
        if (i % 5 !== 4) continue;
        // As after a commit: what git keeps is kept.
        work = new WorkingTree(objects, work.store());
        for (const name of [...model.keys()].sort().reverse())
          if (isFolder(model, name) && below(model, name).length === 0) model.delete(name);
      }
      const view = new TreeView(objects, work.store());
      for (const [name, content] of model) t.equal(text(await view.read(name)), content);
      const files = [...model].filter(([, content]) => content !== undefined);
      const anew = new WorkingTree(objects);
      await anew.apply(files.map(([name, content]) => ({ path: name, content })));
      t.equal(anew.store(), work.store());
      if (files.length === 0) t.equal(work.store(), EMPTY_TREE);
    }),
    { numRuns: 300 },
  );
});

t.test('a name that git fsck takes for .git is refused, and no other', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-names-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const git = (argv: readonly string[], input?: string): string =>
    spawnSync('git', argv, { cwd: directory, input, encoding: 'utf8' }).stdout.trim();
  git(['init', '--quiet', '--bare']);
  const blob = git(['hash-object', '-w', '--stdin'], 'x');
  const bad = ['.git', '.GIT', 'git~1', 'GiT~1', '.git ', '.git. .', 'git~1.', '.git:x', '.git::$INDEX_ALLOCATION'];
  bad.push('a\\.git', 'a\\git~1', '.git\\x', '.g\u200cit', '\ufeff.git', '.GI\u206dT');
  for (const name of [...bad, 'git~2', '.gitx', 'x.git', 'git', '.git~1', '.git x', '\u200ca', '.gitignore', 'a\\b']) {
    git(['mktree', '-z'], `100644 blob ${blob}\t${name}\0`);
    const found = spawnSync('git', ['fsck', '--strict'], { cwd: directory, encoding: 'utf8' });
    t.equal(/hasDotgit/.test(found.stderr), bad.includes(name), `git fsck: ${JSON.stringify(name)}`);
    if (bad.includes(name)) t.throws(() => splitPath(`a/${name}`), { code: 'INVALID' });
    else t.same(splitPath(name), [name]);
    rmSync(join(directory, 'objects'), { recursive: true });
    git(['init', '--quiet', '--bare']);
    git(['hash-object', '-w', '--stdin'], 'x');
  }
});

t.test('paths and branch names are those that git takes', async (t) => {
  t.same(splitPath(''), []);
  t.same(splitPath('a/b.c'), ['a', 'b.c']);
  for (const bad of ['/', 'a//b', '/a', 'a/', '.', 'a/..', '.git', 'a/.GIT/x', 'a\0'])
    t.throws(() => splitPath(bad), { code: 'INVALID' }, JSON.stringify(bad));
  for (const bad of [
    '',
    '@',
    'HEAD',
    '-a',
    'a..b',
    'a~1',
    'a^',
    'a:b',
    'a b',
    'a.lock',
    'a/.b',
    'a.',
    'a@{',
    'a\\b',
    'a*',
  ])
    t.throws(() => checkBranch(bad), { code: 'INVALID' }, bad);
  for (const good of ['user', 'guest/x', 'a.b', 'a@b', 'ä']) t.doesNotThrow(() => checkBranch(good), good);
});
