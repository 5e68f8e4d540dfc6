/** The settings that a tree of the database holds: what can be taken, and what is wrong with the rest. */

import type { Tree } from './database.ts';
import { SCHEMA_VERSION, versionOf, versionProblem } from './migration.ts';
import {
  parseSetting,
  type SettingName,
  schema,
  settingAt,
  settingNames,
  settingPath,
  VERSION_PATH,
} from './schema.ts';

export interface StoredSettings {
  /** Good ones, as text. */
  readonly values: { readonly [K in SettingName]?: string };
  /** Settings whose value cannot be taken. */
  readonly bad: ReadonlySet<SettingName>;
  readonly problems: readonly string[];
}

const FILE_OCTETS = 64 * 1024;
/** Of a setting that may have a password in it by mistake. */
const LEAKED =
  " (a password in it is in the history, which the guest reads: docs/SETTINGS.md, 'A secret in the history')";
/** Strangers that are named; a tree that is not of settings at all may have millions. */
const STRANGERS = 5;

/**
 * Of a tree that follows a newer schema nothing is taken: its names may mean something else. `version`: of the schema that
 * is known here.
 */
export async function readSettings(tree: Tree, version = SCHEMA_VERSION): Promise<StoredSettings> {
  const values: { [K in SettingName]?: string } = {};
  const bad = new Set<SettingName>();
  const problems: string[] = [];
  try {
    const found = await versionOf(tree);
    const problem = versionProblem(found, version);
    if (problem) problems.push(problem);
    if (found > version) return { values, bad: new Set(settingNames), problems };
  } catch (error) {
    problems.push((error as Error).message);
  }
  for (const name of settingNames) {
    try {
      const octets = await tree.read(settingPath(name));
      if (!octets) continue;
      const text = settingText(name, octets);
      parseSetting(name, text);
      values[name] = text;
    } catch (error) {
      bad.add(name);
      problems.push((error as Error).message + (schema[name].untold ? LEAKED : ''));
    }
  }
  const strangers = await findStrangers(tree);
  if (strangers.length > STRANGERS) strangers.splice(STRANGERS, strangers.length, 'more');
  if (strangers.length > 0) problems.push(`there is no setting ${strangers.join(', ')}`);
  return { values, bad, problems };
}

/** The settings of a tree of any commit: for comparing; what cannot be taken is left out. */
export async function settingsOf(tree: Tree): Promise<StoredSettings['values']> {
  return (await readSettings(tree)).values;
}

function settingText(name: SettingName, octets: Uint8Array): string {
  if (octets.length > FILE_OCTETS) throw new Error(`${name} is longer than ${FILE_OCTETS} octets`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(octets).replace(/\r?\n$/, '');
  } catch {
    throw new Error(`${name} is not UTF-8 text`);
  }
}

/** Paths that are no setting's, a little more than are shown. */
async function findStrangers(tree: Tree): Promise<string[]> {
  const found: string[] = [];
  const folders = new Set(settingNames.map((name) => settingPath(name).replace(/\/[^/]*$/, '')));
  for (const folder of ['', ...folders])
    for (const { name, kind } of (await tree.list(folder)) ?? []) {
      const path = folder === '' ? name : `${folder}/${name}`;
      const known = kind === 'directory' ? folders.has(path) : settingAt(path) !== undefined || path === VERSION_PATH;
      if (!known) found.push(strangerWords(path));
      if (found.length > STRANGERS) return found;
    }
  return found;
}

/** As a setting is named; but a file whose name is that of a setting shows where that one's is. */
function strangerWords(path: string): string {
  const name = path.replaceAll('/', '.');
  const meant = settingNames.find((setting) => setting === name);
  return meant ? `at '${path}' (${meant} is the file '${settingPath(meant)}')` : `'${name}'`;
}
