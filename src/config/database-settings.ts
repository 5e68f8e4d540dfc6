/**
 * Settings in the database: what the user has chosen lies in the branch `user`, a file a setting; `defaults` holds the
 * rest; a setting is looked up in that order. Whoever moves either branch changes the settings: a commit from here,
 * `git push`, 9P. Of what cannot be taken the last good value stays in force, across a restart the one that the branch
 * `state` (state-mirror.ts) has.
 */

import { BehaviorSubject, concatMap, merge, type Observable, type Subscription } from 'rxjs';
import { type Author, type Change, type Database, DatabaseError, type Tree } from './database.ts';
import { type Migration, migrate, migrations, versionOf, versionProblem } from './migration.ts';
import type { SettingChanges, SettingsPort } from './port.ts';
import {
  defaults,
  parseSetting,
  type SettingName,
  type Settings,
  settingNames,
  settingPath,
  VERSION_PATH,
} from './schema.ts';
import { readSettings, type StoredSettings } from './stored-settings.ts';

type Chosen = SettingsPort['chosen'];

const nothing: StoredSettings = { values: {}, bad: new Set(), problems: [] };

export class DatabaseSettings implements SettingsPort {
  readonly #database: Database;
  /** Of the schema. */
  readonly #version: number;
  readonly #changes = new BehaviorSubject<Settings>(defaults);
  #chosen: Chosen = {};
  #problem: string | undefined;
  #refused: string | undefined;
  #following: Subscription | undefined;
  #loading: Promise<void> = Promise.resolve();

  private constructor(database: Database, version: number) {
    this.#database = database;
    this.#version = version;
  }

  /** Makes the branches when they are not there; brings older settings up to date. `steps`: the tests' own. */
  static async open(database: Database, steps: readonly Migration[] = migrations): Promise<DatabaseSettings> {
    const version = steps.length + 1;
    const failed = await migrate(database, steps).then(() => undefined, problemOf);
    await writeDefaults(database, version);
    if (database.head('user') === undefined)
      await database.update('user', (_tree, head) => (head === undefined ? [versionFile(version)] : []), {
        message: 'Begin with the defaults',
      });
    const settings = new DatabaseSettings(database, version);
    const { values } = await settings.#stored('state').catch(() => nothing);
    settings.#changes.next(valuesOf(values));
    settings.#chosen = Object.fromEntries(
      Object.entries(values).filter(([name, text]) => text !== String(defaults[name as SettingName])),
    );
    await settings.#load();
    settings.#problem ??= failed;
    const tree = await database.tree(database.head('user')!);
    if ((await versionOf(tree).catch(() => version)) > version) settings.#refused = settings.#problem;
    return settings;
  }

  get current(): Settings {
    return this.#changes.value;
  }

  get changes(): Observable<Settings> {
    return this.#changes;
  }

  get chosen(): Chosen {
    return this.#chosen;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * Why nothing of what was stored at opening could be taken: a newer Slipway wrote it. Then the defaults are in force, which
   * a policy that somebody has chosen may forbid.
   */
  get refused(): string | undefined {
    return this.#refused;
  }

  /** Takes over what anyone commits, until `close`. `told` hears of each problem. */
  follow(told: (problem: string) => void): void {
    this.#following ??= merge(this.#database.heads('user'), this.#database.heads('defaults'))
      .pipe(
        concatMap(async () => {
          const before = this.#problem;
          await this.#load();
          if (this.#problem !== undefined && this.#problem !== before) told(this.#problem);
        }),
      )
      .subscribe();
  }

  async set(values: SettingChanges, message?: string, author?: Author): Promise<void> {
    const names = Object.keys(values) as SettingName[];
    if (names.length === 0) return;
    for (const name of names) parseSetting(name, values[name] ?? String(defaults[name] ?? ''));
    const changes = names.map((name) => fileOf(name, values[name]));
    const decide = async (tree: Tree): Promise<readonly Change[]> => {
      const problem = versionProblem(await versionOf(tree), this.#version);
      if (problem) throw new DatabaseError('INVALID', problem);
      return changes;
    };
    await this.#database.update('user', decide, { message: message ?? describe(values), ...(author && { author }) });
    await this.#load();
  }

  unset(names: readonly SettingName[], message?: string, author?: Author): Promise<void> {
    return this.set(Object.fromEntries(names.map((name) => [name, undefined])), message, author);
  }

  refresh(): Promise<void> {
    return this.#load();
  }

  close(): void {
    this.#following?.unsubscribe();
    this.#changes.complete();
  }

  /** Takes over the branches as they are; what cannot be read at all leaves everything as it was. */
  #load(): Promise<void> {
    this.#loading = this.#loading.then(() => this.#loadNow());
    return this.#loading;
  }

  async #loadNow(): Promise<void> {
    let user: StoredSettings;
    let byDefault: StoredSettings;
    try {
      [user, byDefault] = await Promise.all([this.#stored('user'), this.#stored('defaults')]);
    } catch (error) {
      this.#problem = problemOf(error);
      return;
    }
    const chosen: { [K in SettingName]?: string } = {};
    const settings: Record<string, unknown> = {};
    for (const name of settingNames) {
      const kept = user.bad.has(name) || (user.values[name] === undefined && byDefault.bad.has(name));
      const text = kept ? this.#chosen[name] : user.values[name];
      if (text !== undefined) chosen[name] = text;
      if (kept) settings[name] = this.current[name];
      else settings[name] = parseSetting(name, text ?? byDefault.values[name] ?? String(defaults[name]));
    }
    const problems = [
      ...user.problems,
      ...byDefault.problems.map((problem) => `${problem} (in the branch 'defaults')`),
    ];
    const problem = problems.length > 0 ? problems.join('; ') : undefined;
    const told = problem !== this.#problem;
    this.#chosen = chosen;
    this.#problem = problem;
    if (told || settingNames.some((name) => this.current[name] !== settings[name]))
      this.#changes.next(Object.freeze(settings) as unknown as Settings);
  }

  async #stored(branch: string): Promise<StoredSettings> {
    // From the disk, not as last seen: so loads, one after another, never go back.
    const head = await this.#database.log(branch, { limit: 1 }).catch(absentBranch);
    return head[0] === undefined ? nothing : readSettings(await this.#database.tree(head[0].tree), this.#version);
  }
}

function absentBranch(error: unknown): [] {
  if (error instanceof DatabaseError && error.code === 'NO-BRANCH') return [];
  throw error;
}

function problemOf(error: unknown): string {
  return (error as Error).message;
}

function valuesOf(values: Chosen): Settings {
  const parsed = settingNames.map((name) => [name, parseSetting(name, values[name] ?? String(defaults[name]))]);
  return Object.freeze(Object.fromEntries(parsed)) as unknown as Settings;
}

function versionFile(version: number): Change {
  return { path: VERSION_PATH, content: `${version}\n` };
}

function fileOf(name: SettingName, text: string | undefined): Change {
  return { path: settingPath(name), content: text === undefined ? undefined : `${text}\n` };
}

/**
 * Writes the defaults once for each set of them, so that one who pushes others to the branch keeps them until a new
 * Slipway has others itself.
 */
async function writeDefaults(database: Database, version: number): Promise<void> {
  const changes = [versionFile(version), ...settingNames.map((name) => fileOf(name, String(defaults[name])))];
  const message = `Defaults\n\n${changes.map(({ path, content }) => `${path}: ${content}`).join('')}`.trim();
  await database.update(
    'defaults',
    async (_tree, head) => {
      if (head === undefined) return changes;
      const log = await database.log(head, { limit: 100 });
      return log.some((commit) => commit.message === message) ? [] : changes;
    },
    { message },
  );
}

function describe(values: SettingChanges): string {
  const names = Object.keys(values) as SettingName[];
  const words = names.map((name) => (values[name] === undefined ? `unset ${name}` : `${name}=${values[name]}`));
  const subject = words.join(' ');
  return subject.length <= 72 ? subject : `Change ${names.length} settings\n\n${words.join('\n')}`;
}
