/** Writers that are killed with SIGKILL, again and again, in the midst of their commits. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-crash-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const { NODE_OPTIONS: _, ...env } = process.env;
const KILLS = Number(process.env.KILLS ?? 200);
const WRITERS = ['a', 'b', 'c', 'd'];
t.setTimeout(Math.max(120_000, KILLS * 2000));

/** Counts that a writer was told last, by its name. */
const lasting = new Map<string, number>();

async function writeUntilKilled(name: string): Promise<void> {
  const child: ChildProcess = spawn(
    process.execPath,
    [join(import.meta.dirname, 'writer-program.ts'), directory, name],
    {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = once(child, 'exit');
  let left = 1 + Math.floor(Math.random() * 8);
  for await (const line of createInterface(child.stdout!)) {
    lasting.set(name, Math.max(lasting.get(name) ?? 0, Number(line)));
    // Somewhere within one of its next commits.
    if (--left === 0) setTimeout(() => child.kill('SIGKILL'), Math.random() * 8);
  }
  const [, signal] = await ended;
  if (signal !== 'SIGKILL') throw new Error(`writer ${name} ended by itself`);
}

t.test('killed at any moment: a whole repository, and nothing lost that was said to last', async (t) => {
  for (let round = 1; (round - 1) * WRITERS.length < KILLS; round++) {
    await Promise.all(WRITERS.map(writeUntilKilled));
    // Not while they write: fsck takes for missing what comes after it has looked.
    if (round % 3 !== 0) continue;
    const said = execFileSync('git', ['fsck', '--strict', '--no-dangling'], { cwd: directory, encoding: 'utf8' });
    t.equal(said.trim(), '', `after ${round * WRITERS.length} kills`);
  }
  const database = await GitDatabase.open({
    directory,
    watching: true,
    author: { name: 'Test', email: 'test@example.org' },
    nowMs: () => Date.now(),
    log: () => undefined,
  });
  const tree = await database.tree(database.head('user')!);
  for (const [name, count] of lasting) {
    const kept = Number(Buffer.from((await tree.read(`n/${name}`))!).toString());
    t.ok(kept >= count, `${name}: ${count} were said to last, ${kept} are there`);
  }
  const head = await database.commit('user', [{ path: 'x', content: '2' }], { message: 'no lock is left' });
  await database.close();
  execFileSync('git', ['update-ref', 'refs/heads/user', head], { cwd: directory });
});
