/** On a disk of a few octets, as `full-disk-program.ts FOLDER`: fills it by commits, and says what happened as JSON. */

import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import type { Database, DatabaseError } from '../../src/config/database.ts';

const [folder = ''] = process.argv.slice(2);
const filler = join(folder, 'filler');
writeFileSync(filler, Buffer.alloc(200_000));
const directory = join(folder, 'database');
const open = (): Promise<Database> =>
  GitDatabase.open({
    directory,
    watching: false,
    author: { name: 'x', email: 'x@example.org' },
    nowMs: () => Date.now(),
    log: () => undefined,
  });
const database = await open();
const outcomes: { commits: number; code: string; message: string; sameHead: boolean; sameTree: boolean }[] = [];
/** A few files, and many. */
for (const files of [1, 30]) {
  let head = await database.commit('user', [{ path: 'x', content: 'good' }], { message: 'good' });
  for (let commits = 1; ; commits++) {
    const changes = Array.from({ length: files }, (_, i) => ({
      path: `big/${i}`,
      content: randomBytes(20_000 / files),
    }));
    try {
      head = await database.commit('user', changes, { message: 'more' });
    } catch (error) {
      const { code, message } = error as DatabaseError;
      const again = await open();
      const read = await (await again.tree(again.head('user')!)).read('x');
      const sameTree = Buffer.from(read!).toString() === 'good';
      outcomes.push({
        commits,
        code,
        message,
        sameHead: database.head('user') === head && again.head('user') === head,
        sameTree,
      });
      break;
    }
  }
}
rmSync(filler);
await database.commit('user', [{ path: 'x', content: 'room again' }], { message: 'good' });
process.stdout.write(JSON.stringify({ outcomes, ended: 'with room' }));
