/** How the command line gets at the settings: through the daemon while it runs, and in the database itself. */

import { existsSync } from 'node:fs';
import type { SettingsStore } from '../config/adapter/settings-store.ts';
import type { SettingChanges } from '../config/port.ts';
import { defaults, type SettingName, schema, settingNames } from '../config/schema.ts';
import { describeSettings, type SettingDescriptions } from '../config/setting-description.ts';
import { makeHome } from '../home.ts';
import { withApi } from './api-client.ts';
import { currentHome } from './current-home.ts';
import { UsageError } from './usage-error.ts';

/** Opens the settings in the database, whether or not a daemon has them open as well. */
export async function withSettings<T>(work: (store: SettingsStore) => Promise<T>, watching = false): Promise<T> {
  const home = currentHome();
  makeHome(home);
  const { openSettings } = await import('../config/adapter/settings-store.ts');
  const store = await openSettings({
    directory: home.database,
    settingsFile: home.settingsFile,
    watching,
    log: warn,
  });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

export interface SettingsNow {
  readonly settings: SettingDescriptions;
  /** Set, and in force when the VM next starts. */
  readonly pending: readonly SettingName[];
}

/** Every setting as it is now; a home that has no settings yet stays without. */
export async function readSettings(): Promise<SettingsNow> {
  const home = currentHome();
  const running = await withApi(home, async (api) => {
    if (!(await api.statusIfRunning())) return undefined;
    const settings = (await api.get('/v1/config')) as SettingDescriptions;
    const { settingsProblem, pendingRestart } = await api.status();
    warnOf(settingsProblem);
    return { settings, pending: pendingRestart };
  });
  if (running) return running;
  if (!existsSync(home.database) && !existsSync(home.settingsFile))
    return { settings: describeSettings({ current: defaults, chosen: {} }), pending: [] };
  return withSettings(async ({ settings }) => {
    warnOf(settings.problem);
    return { settings: describeSettings(settings), pending: [] };
  });
}

/** In one commit; in force, as far as it can be, when this resolves. */
export async function changeSettings(changes: SettingChanges, message?: string): Promise<void> {
  const pending = await withApi(currentHome(), async (api) => {
    if (!(await api.statusIfRunning())) return undefined;
    const query = message === undefined ? '' : `?${new URLSearchParams({ message })}`;
    const body = Object.fromEntries(Object.entries(changes).map(([name, text]) => [name, text ?? null]));
    await api.put(`/v1/config${query}`, body);
    return (await api.status()).pendingRestart;
  });
  if (!pending) await withSettings(({ settings }) => settings.set(changes, message));
  hint(Object.keys(changes) as SettingName[], pending);
}

/** Has a daemon that runs take over what was committed beside it; what waits for a restart then. */
export async function applyCommitted(): Promise<readonly SettingName[] | undefined> {
  return withApi(currentHome(), async (api) => {
    if (!(await api.statusIfRunning())) return undefined;
    await api.get('/v1/config');
    const { settingsProblem, pendingRestart } = await api.status();
    warnOf(settingsProblem);
    return pendingRestart;
  });
}

export function settingName(word: string): SettingName {
  if (!Object.hasOwn(schema, word))
    throw new UsageError(`there is no setting '${word}'; the settings are ${settingNames.join(', ')}`);
  return word as SettingName;
}

/** Says which of the settings wait for a restart; `pending`: what does at all, while a VM runs. */
export function hint(names: readonly SettingName[], pending: readonly SettingName[] = names): void {
  const later = names.filter((name) => schema[name].restarts === 'vm' && pending.includes(name));
  if (later.length > 0) warn(`${later.join(', ')}: in force when the VM next starts ('slipway restart')`);
}

function warnOf(problem: string | undefined): void {
  if (problem !== undefined) warn(`the last good settings are in force: ${problem}`);
}

export function warn(line: string): void {
  process.stderr.write(`${line}\n`);
}
