/** How settings that an older Slipway wrote become those of this one. */

import { type Change, type Database, DatabaseError, type Tree } from './database.ts';
import { VERSION_PATH } from './schema.ts';

/** What takes the branch `user` from one version of the schema to the next. */
export type Migration = (tree: Tree) => Promise<readonly Change[]>;

/** The first takes version 1 to 2. */
export const migrations: readonly Migration[] = [];

/**
 * Brings the branch `user` to the newest version, step by step, in a commit each. Settings of a newer Slipway are left
 * as they are. `steps`: the tests' own.
 */
export async function migrate(database: Database, steps: readonly Migration[] = migrations): Promise<void> {
  for (const [i, step] of steps.entries()) {
    const from = i + 1;
    await database.update(
      'user',
      async (tree) => {
        if ((await versionOf(tree)) !== from) return [];
        return [...(await step(tree)), { path: VERSION_PATH, content: `${from + 1}\n` }];
      },
      { message: `Take the settings from schema ${from} to ${from + 1}` },
    );
  }
}

/** 1 where it is not said. */
export async function versionOf(tree: Tree): Promise<number> {
  const octets = await tree.read(VERSION_PATH);
  if (!octets) return 1;
  const text = new TextDecoder().decode(octets).trim();
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new DatabaseError('INVALID', `${VERSION_PATH} is not a number: '${text}'`);
  return Number(text);
}
