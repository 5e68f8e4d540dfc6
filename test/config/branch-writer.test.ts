/** Who moves a branch: everything that is submitted is answered, whenever it comes. */

import t from 'tap';
import { BranchWriter } from '../../src/config/adapter/branch-writer.ts';
import type { GitObjectStore } from '../../src/config/adapter/git-object-store.ts';
import type { GitRefs } from '../../src/config/adapter/git-refs.ts';

t.test('what comes just as the writer ends is done as well', async (t) => {
  let head: string | undefined;
  const store = { batch: () => ({ stage: () => undefined }) } as unknown as GitObjectStore;
  const refs = {
    read: async () => head,
    move: async (_branch: string, _from: string | undefined, to: string | undefined) => {
      head = to;
      return true;
    },
  } as unknown as GitRefs;
  let ended = 0;
  for (let turns = 0; turns < 8; turns++) {
    const writer = new BranchWriter('b', store, refs, () => ended++);
    let before: Promise<unknown> = writer.submit(async () => `first ${turns}`);
    for (let turn = 0; turn < turns; turn++) before = before.then(() => undefined);
    const after = before.then(() => writer.submit(async () => `second ${turns}`));
    const late = new Promise((resolve) => setTimeout(resolve, 1000, 'never done').unref());
    t.equal(await Promise.race([after, late]), `second ${turns}`, `${turns} turns later`);
  }
  t.ok(ended >= 8, 'and it says when nothing is left');
});
