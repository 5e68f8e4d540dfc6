/** Commits for ever, as `writer-program.ts REPOSITORY NAME`: counts in the file n/NAME, and prints each count that lasts. */

import { GitDatabase } from '../../src/config/adapter/git-database.ts';

const [directory = '', name = ''] = process.argv.slice(2);
const database = await GitDatabase.open({
  directory,
  // So packs are joined, and git gc runs, beside the commits.
  watching: true,
  author: { name, email: 'writer@example.org' },
  nowMs: () => Date.now(),
  log: (line) => process.stderr.write(`${line}\n`),
});
const path = `n/${name}`;
for (;;) {
  let next = 0;
  await database.update(
    'user',
    async (tree) => {
      next = Number(Buffer.from((await tree.read(path)) ?? []).toString()) + 1;
      return [{ path, content: String(next) }];
    },
    { message: `${name} counts` },
  );
  process.stdout.write(`${next}\n`);
}
