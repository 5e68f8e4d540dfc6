/** The merge against a model of it on flat maps, and against git's own on the same trees; the history's graph likewise. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { makePack, type PackedObject } from '../../src/config/adapter/git-pack-writer.ts';
import { diffTrees } from '../../src/config/diff.ts';
import { DIRECTORY, EMPTY_TREE, modeOf, type ObjectType } from '../../src/config/git-object.ts';
import { baseTree, mergeBases } from '../../src/config/history.ts';
import { mergeTrees } from '../../src/config/merge.ts';
import { WorkingTree } from '../../src/config/working-tree.ts';
import { MemoryObjects } from './memory-objects.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-merge-'));
t.teardown(() => rmSync(folder, { recursive: true }));

/** Path to mode and content; no file lies below another. */
type Files = ReadonlyMap<string, string>;

const names = fc.constantFrom('a', 'b', 'c', 'a-b');
const paths = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
/** One line, so that git cannot splice two versions, and of that path alone, so that it sees no renames. */
const values = fc.tuple(fc.constantFrom('100644', '100755'), fc.constantFrom('1', '2', '3', '4'));
const edits = fc
  .array(fc.tuple(paths, fc.option(values, { nil: undefined })), { maxLength: 6 })
  .map((list) =>
    list.map(([path, value]): readonly [string, string | undefined] => [
      path,
      value && `${value[0]} ${value[1]}@${path}`,
    ]),
  );

function edited(files: Files, changes: readonly (readonly [string, string | undefined])[]): Files {
  const after = new Map(files);
  for (const [path, value] of changes) {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth++) after.delete(parts.slice(0, depth).join('/'));
    for (const other of after.keys()) if (other === path || other.startsWith(`${path}/`)) after.delete(other);
    if (value !== undefined) after.set(path, value);
  }
  return after;
}

const triples = fc.tuple(edits, edits, edits).map(([first, ours, theirs]) => {
  const base = edited(new Map(), first);
  return [base, edited(base, ours), edited(base, theirs)] as const;
});

async function treeOf(objects: MemoryObjects, files: Files): Promise<string> {
  const work = new WorkingTree(objects);
  for (const [path, value] of files) {
    const [mode, content] = value.split(' ');
    await work.write(path, content!, mode === '100755' ? 'exec' : 'normal');
  }
  return work.store();
}

async function filesOf(objects: MemoryObjects, tree: string, prefix = ''): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const { name, mode, hash } of await objects.tree(tree)) {
    if (mode === DIRECTORY)
      for (const [path, value] of await filesOf(objects, hash, `${prefix}${name}/`)) files.set(path, value);
    else files.set(prefix + name, `${mode} ${Buffer.from(await objects.blob(hash))}`);
  }
  return files;
}

/** The rule itself: each path for itself, then no file below another. */
function model(base: Files, ours: Files, theirs: Files): { files: Files; conflicts: readonly string[] } {
  const files = new Map<string, string>();
  const conflicts = new Set<string>();
  for (const path of new Set([...base.keys(), ...ours.keys(), ...theirs.keys()])) {
    const [b, o, x] = [base.get(path), ours.get(path), theirs.get(path)];
    if (o === x || b === x) o !== undefined && files.set(path, o);
    else if (b === o) x !== undefined && files.set(path, x);
    else {
      const merged = o && x && both(b, o, x);
      files.set(path, merged || `${modeOf.normal} ** Conflict **\nChanged on both branches\n`);
      if (!merged) conflicts.add(path);
    }
  }
  for (const path of [...files.keys()].sort()) {
    const below = [...files.keys()].filter((other) => other.startsWith(`${path}/`));
    if (below.length === 0 || !files.has(path)) continue;
    for (const other of below) {
      files.delete(other);
      conflicts.delete(other);
    }
    files.set(path, `${modeOf.normal} ** Conflict **\nFile vs dir\n`);
    conflicts.add(path);
  }
  return { files, conflicts: [...conflicts].sort() };
}

function both(base: string | undefined, ours: string, theirs: string): string | undefined {
  const [b, o, x] = [base, ours, theirs].map((value) => value?.split(' ')) as [string[]?, string[]?, string[]?];
  const parts = [0, 1].map((i) => (o![i] === x![i] || b?.[i] === x![i] ? o![i] : b?.[i] === o![i] ? x![i] : undefined));
  return parts.includes(undefined) ? undefined : parts.join(' ');
}

t.test('merging does what the model does', async () => {
  await fc.assert(
    fc.asyncProperty(triples, async ([base, ours, theirs]) => {
      const objects = new MemoryObjects();
      const trees = await Promise.all([base, ours, theirs].map((files) => treeOf(objects, files)));
      const merged = await mergeTrees(objects, ...(trees as [string, string, string]));
      const wanted = model(base, ours, theirs);
      t.same([...(await filesOf(objects, merged.tree))].sort(), [...wanted.files].sort());
      t.same(merged.conflicts, wanted.conflicts);
      const other = await mergeTrees(objects, trees[0]!, trees[2]!, trees[1]!);
      t.equal(other.tree, merged.tree, 'whichever side is ours');
    }),
    { numRuns: 1000 },
  );
});

t.test('a diff is what turns one into the other', async () => {
  await fc.assert(
    fc.asyncProperty(triples, async ([, from, to]) => {
      const objects = new MemoryObjects();
      const lines = await diffTrees(objects, await treeOf(objects, from), await treeOf(objects, to));
      const all = [...new Set([...from.keys(), ...to.keys()])].sort();
      const wanted = all.flatMap((path) => {
        if (from.get(path) === to.get(path)) return [];
        return [{ kind: !from.has(path) ? '+' : !to.has(path) ? '-' : '*', path }];
      });
      t.same(lines, wanted);
    }),
    { numRuns: 300 },
  );
});

t.test('merging does what git does on the same trees', async (t) => {
  const runs = 300;
  const cases = fc.sample(triples, { numRuns: runs, seed: Number(process.env.SEED ?? Date.now() % 1e9) });
  const objects = new MemoryObjects();
  const stamp = { author: { name: 'x', email: 'x@y' }, timeMs: 1_700_000_000_000, message: 'x' };
  const mine: { tree: string; conflicts: readonly string[] }[] = [];
  const asked: string[] = [];
  for (const files of cases) {
    const [base, ours, theirs] = (await Promise.all(files.map((side) => treeOf(objects, side)))) as [
      string,
      string,
      string,
    ];
    const commit = (tree: string, ...parents: string[]): string => objects.addCommit({ ...stamp, tree, parents });
    const first = commit(base);
    asked.push(`${commit(ours, first)} ${commit(theirs, first)}`);
    mine.push(await mergeTrees(objects, base, ours, theirs));
  }
  const directory = repository(objects, 'merge.git');
  const git = spawn('git', ['merge-tree', '--stdin', '--name-only', '--no-messages', '-z'], {
    cwd: directory,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  git.stdin.end(`${asked.join('\n')}\n`);
  let said = '';
  git.stdout.on('data', (octets) => {
    said += octets;
  });
  await once(git, 'close');
  const answers = readAnswers(said);
  t.equal(answers.length, runs);
  for (const [i, { clean, tree }] of answers.entries()) {
    if (clean !== (mine[i]!.conflicts.length === 0) || (clean && tree !== mine[i]!.tree))
      t.fail(`case ${i}`, { files: cases[i]!.map((side) => [...side]), git: { clean, tree }, mine: mine[i] });
  }
  t.ok(
    answers.filter(({ clean }) => clean).length > runs / 20 && answers.some(({ clean }) => !clean),
    'both kinds are met',
  );
});

t.test('common ancestors are those that git finds', async (t) => {
  const objects = new MemoryObjects();
  const author = { name: 'x', email: 'x@y' };
  /** Each commit's parents, by how far back, and its time, which need not go forwards. */
  const graphs = fc.sample(
    fc.array(fc.tuple(fc.array(fc.nat(5), { maxLength: 2 }), fc.nat(20)), { minLength: 4, maxLength: 14 }),
    { numRuns: 40, seed: Number(process.env.SEED ?? Date.now() % 1e9) },
  );
  const pairs: [string, string][] = [];
  for (const [g, graph] of graphs.entries()) {
    const commits: string[] = [];
    for (const [i, [back, seconds]] of graph.entries()) {
      const parents = [...new Set(back.map((far) => commits.at(-1 - far)).filter((id) => id !== undefined))];
      const timeMs = (1_700_000_000 + seconds) * 1000;
      commits.push(objects.addCommit({ author, timeMs, tree: EMPTY_TREE, parents, message: `${g}.${i}` }));
    }
    pairs.push([commits.at(-1)!, commits.at(-2)!], [commits.at(-1)!, commits.at(-3)!]);
  }
  const directory = repository(objects, 'graph.git');
  for (const [a, b] of pairs) {
    let wanted = '';
    try {
      wanted = execFileSync('git', ['merge-base', '--all', a, b], { cwd: directory, encoding: 'utf8' });
    } catch {
      // None: status 1.
    }
    t.same((await mergeBases(objects, a, b)).sort(), wanted.split('\n').filter(Boolean).sort());
  }
});

/** A bare repository with these objects, as a pack of ours. */
function repository(objects: MemoryObjects, name: string): string {
  const directory = join(folder, name);
  execFileSync('git', ['init', '--quiet', '--bare', directory]);
  const packed = [...objects.stored].map(
    ([hash, { type, content }]): PackedObject => ({ hash, type: type as ObjectType, content }),
  );
  const { pack } = makePack(packed);
  execFileSync('git', ['index-pack', '--stdin', '--strict'], {
    cwd: directory,
    input: pack,
    stdio: 'pipe',
  });
  return directory;
}

/** Of `git merge-tree --stdin -z`, each: status, tree, the names that conflict, an empty field. */
function readAnswers(said: string): { clean: boolean; tree: string }[] {
  const fields = said.split('\0');
  const answers: { clean: boolean; tree: string }[] = [];
  for (let at = 0; at + 2 < fields.length; at++) {
    answers.push({ clean: fields[at] === '1', tree: fields[at + 1]! });
    at += 2;
    while (fields[at] !== '' && at < fields.length) at++;
  }
  return answers;
}

t.test('a history that crosses itself again and again', async (t) => {
  const objects = new MemoryObjects();
  const person = { name: 'Test', email: 'test@slipway.internal' };
  const commit = (message: string, parents: readonly string[]): string =>
    objects.addCommit({ tree: EMPTY_TREE, parents, message, author: person, timeMs: 0 });
  let level: readonly string[] = ['a', 'b', 'c'].map((name) => commit(name, []));
  for (let depth = 0; depth < 60; depth++) level = ['a', 'b', 'c'].map((name) => commit(`${depth} ${name}`, level));
  t.equal((await mergeBases(objects, level[0]!, level[1]!)).length, 3);
  t.equal(await baseTree(objects, level[0]!, level[1]!), EMPTY_TREE);
});
