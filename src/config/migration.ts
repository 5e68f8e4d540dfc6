/**
 * How settings that an older Slipway wrote become those of this one. A version of the schema differs from the one before
 * by settings that have got another name or another form, or have gone; new ones need nothing, as they have a default.
 *
 * All steps from a branch's version to the newest become one commit on it, when the settings are opened: it is there whole
 * or not at all, the history keeps what was, and reverting it gives an older Slipway its settings back.
 */

import { type Change, type Database, DatabaseError, type Tree } from './database.ts';
import { VERSION_PATH } from './schema.ts';

/** What becomes of one setting; names as in `slipway config`. */
export interface SettingMove {
  readonly from: string;
  /** The same name: it changes its form alone. Absent: it has gone. */
  readonly to?: string;
  /** Its text in the new form; undefined: there is none, and the default holds. */
  readonly convert?: (text: string) => string | undefined;
}

/** From one version of the schema to the next. */
export type Migration = readonly SettingMove[];

/** The first takes version 1 to 2. */
export const migrations: readonly Migration[] = [];

/** Of what this Slipway writes. */
export const SCHEMA_VERSION = migrations.length + 1;

/** The branches that hold settings: the user's own last, as what the others say is taken as given once it is up to date. */
const BRANCHES = ['defaults', 'state', 'user'] as const;

/** Brings the branches that are there to the newest version. `steps`: the tests' own. */
export async function migrate(database: Database, steps: readonly Migration[] = migrations): Promise<void> {
  for (const branch of BRANCHES) {
    const head = database.head(branch);
    if (head === undefined) continue;
    const from = await versionOf(await database.tree(head));
    if (from > steps.length) continue;
    const { notes } = await migrated(await database.tree(head), steps);
    const message = `Take the settings from schema ${from} to ${steps.length + 1}\n\n${notes.join('\n')}`.trim();
    await database.update(branch, async (tree) => (await migrated(tree, steps)).changes, { message });
  }
}

/** What takes a tree to the newest version, and what that does, in words. Nothing for one that is there or beyond. */
async function migrated(tree: Tree, steps: readonly Migration[]): Promise<{ changes: Change[]; notes: string[] }> {
  const version = await versionOf(tree);
  const texts = new Map<string, string | undefined>();
  const notes: string[] = [];
  const read = async (name: string): Promise<string | undefined> => {
    if (texts.has(name)) return texts.get(name);
    const octets = await tree.read(pathOf(name));
    return octets && new TextDecoder().decode(octets).replace(/\r?\n$/, '');
  };
  for (const step of steps.slice(version - 1)) {
    // All are read before the first is written, so that two may change places.
    const moves: { move: SettingMove; text: string }[] = [];
    for (const move of step) {
      const text = await read(move.from);
      if (text !== undefined) moves.push({ move, text });
    }
    for (const { move } of moves) texts.set(move.from, undefined);
    for (const { move, text } of moves) {
      const { from, to, convert = (same) => same } = move;
      const value = to === undefined ? undefined : convert(text);
      if (to !== undefined && value !== undefined) texts.set(to, value);
      notes.push(value === undefined ? `${from} '${text}' has gone` : `${from} '${text}' is now ${to} '${value}'`);
    }
  }
  if (version > steps.length) return { changes: [], notes };
  const changes = [...texts].map(([name, text]) => ({
    path: pathOf(name),
    content: text === undefined ? undefined : `${text}\n`,
  }));
  return { changes: [...changes, { path: VERSION_PATH, content: `${steps.length + 1}\n` }], notes };
}

function pathOf(name: string): string {
  return name.replaceAll('.', '/');
}

/** 1 where it is not said. */
export async function versionOf(tree: Tree): Promise<number> {
  const octets = await tree.read(VERSION_PATH);
  if (!octets) return 1;
  const text = new TextDecoder().decode(octets).trim();
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new DatabaseError('INVALID', `${VERSION_PATH} is not a number: '${text}'`);
  return Number(text);
}

/** What is wrong with settings of another version than `version`; undefined: nothing. */
export function versionProblem(found: number, version: number): string | undefined {
  if (found === version) return undefined;
  const words = `the settings follow schema ${found}, this Slipway knows ${version}`;
  if (found > version)
    return `${words}: take a newer Slipway, or undo what brought them there ('slipway config log', 'slipway config revert')`;
  return `${words}: they are brought up to date when Slipway next starts`;
}
