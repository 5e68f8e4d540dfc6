/** `slipway config log|diff|revert|watch`: the settings through time. Each works with and without a daemon. */

import { type CommitRecord, type Database, DatabaseError } from '../config/database.ts';
import { defaults, type SettingName, schema, settingAt, settingNames, settingPath } from '../config/schema.ts';
import { settingsOf } from '../config/stored-settings.ts';
import { printJson, printTable } from './command.ts';
import type { AddCommand } from './config.ts';
import { lineOf } from './setting-line.ts';
import { applyCommitted, hint, settingName, warn, withSettings } from './settings-access.ts';
import { UsageError } from './usage-error.ts';

type Values = { readonly [K in SettingName]?: string };

interface Difference {
  readonly name: SettingName;
  /** Undefined: not set. */
  readonly from: string | undefined;
  readonly to: string | undefined;
}

const SHOWN_COMMITS = 50;

export function addHistory(sub: AddCommand): void {
  sub('log', 'list the commits that changed the settings, newest first', 'slipway config log vm.memory -n 5')
    .argument('[name]', 'only those that changed this setting')
    .option('-n, --number <count>', 'at most so many', String(SHOWN_COMMITS))
    .option('--json', 'print them as JSON')
    .action(async (word: string | undefined, options: { number: string; json?: boolean }) => {
      if (!/^\d+$/.test(options.number)) throw new UsageError(`-n takes a number, not '${options.number}'`);
      const path = word === undefined ? undefined : settingPath(settingName(word));
      await withSettings(async ({ database }) => {
        const commits = await database.log('user', { limit: Number(options.number), ...(path && { path }) });
        if (options.json) printJson(await Promise.all(commits.map((commit) => describe(database, commit))));
        else printTable(['COMMIT', 'WHEN', 'WHO', 'WHAT'], commits.map(row));
      });
    });
  sub(
    'diff',
    'compare what is set with what is in force, or one commit with another',
    'slipway config diff\nslipway config diff HEAD~1\nslipway config diff 1a2b3c 4d5e6f --json',
  )
    .argument('[commit]', 'what this commit changed; such as HEAD~1 or the first digits of its hash')
    .argument('[other]', 'from the first commit to this one')
    .option('--json', 'print it as JSON')
    .action(async (first: string | undefined, second: string | undefined, options: { json?: boolean }) => {
      const pending = first === undefined ? await applyCommitted() : undefined;
      const differences = await withSettings(({ database, settings }) =>
        first === undefined
          ? againstState(database, settings.current, pending)
          : betweenCommits(database, first, second),
      );
      if (options.json) return printJson(differences);
      for (const { name, from, to } of differences)
        process.stdout.write(`${name}: ${valueWords(from)} -> ${valueWords(to)}\n`);
    });
  sub('revert', 'undo a commit, by a new one', 'slipway config revert HEAD')
    .argument('<commit>', 'such as HEAD, HEAD~2 or the first digits of its hash')
    .action(async (word: string) => {
      const changed = await withSettings(async ({ database }) => {
        const commit = await resolve(database, word);
        if (commit.parents.length === 0)
          throw new Error(`cannot undo ${commit.id.slice(0, 10)}: it is the first, which says how the others are read`);
        try {
          const head = await database.revert('user', commit.id);
          return (await betweenCommits(database, head)).map(({ name }) => name);
        } catch (error) {
          if (!(error instanceof DatabaseError) || error.code !== 'CONFLICT') throw error;
          const names = error.conflicts.map((path) => settingAt(path) ?? path).join(', ');
          throw new Error(`cannot undo ${commit.id.slice(0, 10)}: ${names} changed again later; revert that first`);
        }
      });
      hint(changed, await applyCommitted());
    });
  sub('watch', 'print settings now and at each change, until Ctrl-C', 'slipway config watch ports.bind network.dns')
    .argument('[name...]', 'only these')
    .option('--json', 'print a line of JSON for each')
    .action(async (words: string[], options: { json?: boolean }) => {
      const names = words.length > 0 ? words.map(settingName) : settingNames;
      await withSettings(async ({ settings }) => {
        const shown = new Map<SettingName, string | number>();
        const show = settings.changes.subscribe((values) => {
          for (const name of names) {
            const value = values[name];
            if (shown.get(name) === value) continue;
            shown.set(name, value);
            process.stdout.write(options.json ? `${JSON.stringify({ name, value })}\n` : `${name}=${lineOf(value)}\n`);
          }
        });
        settings.follow(warn);
        await new Promise<unknown>((resolve) => {
          for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, resolve);
          process.stdout.once('error', resolve);
        });
        show.unsubscribe();
      }, true);
    });
}

/**
 * `pending`: what waits for a restart, while a daemon runs. What else a restart would be for is in force as far as it can be: a
 * network that is `auto`, or has moved away from one of the host's, is in force as another.
 */
async function againstState(
  database: Database,
  wanted: Readonly<Record<SettingName, unknown>>,
  pending: readonly SettingName[] | undefined,
): Promise<Difference[]> {
  const head = database.head('state');
  if (head === undefined) throw new Error("nothing has been in force yet; 'slipway up' starts the VM");
  const inForce = await settingsOf(await database.tree(head));
  const set = Object.fromEntries(settingNames.map((name) => [name, String(wanted[name])]));
  const all = Object.fromEntries(settingNames.map((name) => [name, inForce[name] ?? String(defaults[name])]));
  const waits = (name: SettingName): boolean => schema[name].restarts !== 'vm' || (pending?.includes(name) ?? true);
  return differences(all, set).filter(({ name }) => waits(name));
}

/** From one commit to the other, or what the one changed. */
async function betweenCommits(database: Database, first: string, second?: string): Promise<Difference[]> {
  const from = await resolve(database, first);
  if (second !== undefined)
    return differences(
      await valuesOf(database, from.id),
      await valuesOf(database, (await resolve(database, second)).id),
    );
  const before = from.parents[0] === undefined ? {} : await valuesOf(database, from.parents[0]);
  return differences(before, await valuesOf(database, from.id));
}

async function valuesOf(database: Database, commit: string): Promise<Values> {
  return settingsOf(await database.tree(commit));
}

function differences(before: Values, after: Values): Difference[] {
  return settingNames
    .filter((name) => before[name] !== after[name])
    .map((name) => ({ name, from: before[name], to: after[name] }));
}

/** A commit of the history of `user`: HEAD, HEAD~N, or the first digits of its hash. */
async function resolve(database: Database, word: string): Promise<CommitRecord> {
  const [, steps] = /^(?:HEAD|user)(?:~(\d{1,6}))?$/.exec(word) ?? [undefined, undefined];
  const back = /^(?:HEAD|user)(?:~\d{1,6})?$/.test(word) ? Number(steps ?? 0) : undefined;
  if (back === undefined && !/^[0-9a-f]{4,40}$/.test(word))
    throw new UsageError(`'${word}' is not a commit: HEAD, HEAD~N or at least four digits of its hash`);
  const log = await database.log('user', back === undefined ? {} : { limit: back + 1 });
  const found = back === undefined ? log.filter(({ id }) => id.startsWith(word)) : log.slice(back, back + 1);
  if (found.length > 1) throw new Error(`'${word}' is the beginning of ${found.length} commits; give more of it`);
  if (!found[0]) throw new Error(`there is no commit ${word}; 'slipway config log' lists them`);
  return found[0];
}

function valueWords(value: string | undefined): string {
  return value === undefined ? '(not set)' : lineOf(value);
}

function row({ id, timeMs, author, message }: CommitRecord): string[] {
  const when = new Date(timeMs).toLocaleString('sv-SE');
  return [id.slice(0, 10), when, author.name, message.split('\n')[0] ?? ''];
}

async function describe(database: Database, commit: CommitRecord): Promise<unknown> {
  const { id, timeMs, author, message } = commit;
  return { id, timeMs, author, message, changes: await betweenCommits(database, id) };
}
