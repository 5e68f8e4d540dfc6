/** The settings of a home: its database, and a settings file of before, taken over. */

import { hostname, userInfo } from 'node:os';
import { DatabaseSettings } from '../database-settings.ts';
import { GitDatabase } from './git-database.ts';
import { readSettingsFile, retireSettingsFile } from './settings-file.ts';

export interface SettingsStoreOptions {
  /** Of the repository. */
  readonly directory: string;
  /** Of before; need not be there. */
  readonly settingsFile: string;
  /** For as long as it is open, what others write is noticed. */
  readonly watching: boolean;
  readonly log: (line: string) => void;
}

export interface SettingsStore {
  readonly database: GitDatabase;
  readonly settings: DatabaseSettings;
  close(): Promise<void>;
}

export async function openSettings(options: SettingsStoreOptions): Promise<SettingsStore> {
  const { directory, settingsFile, watching, log } = options;
  const before = await readSettingsFile(settingsFile);
  const database = await GitDatabase.open({ directory, watching, author: author(), nowMs: () => Date.now(), log });
  try {
    const settings = await DatabaseSettings.open(database);
    if (before) {
      if (Object.keys(before).length > 0) await settings.set(before, 'Take over the settings of settings.json');
      await retireSettingsFile(settingsFile);
    }
    const close = async (): Promise<void> => {
      settings.close();
      await database.close();
    };
    return { database, settings, close };
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** Who runs us, as git's log shows it. */
function author(): { name: string; email: string } {
  let name = 'slipway';
  try {
    name = userInfo().username;
  } catch {
    // A user id without a name.
  }
  return { name, email: `${name}@${hostname()}` };
}
