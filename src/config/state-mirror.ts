/**
 * Keeps the branch `state` at what is in force, in the form of `user`, so that "set" and "in force" can be compared with
 * `git diff`; beside it the files that the guest reads (guest-settings.ts). Changes that come faster than they can be written become one commit.
 */

import { concatMap, type Observable, type Subscription, tap } from 'rxjs';
import type { Database } from './database.ts';
import { guestFiles } from './guest-settings.ts';
import { SCHEMA_VERSION } from './migration.ts';
import { type Settings, settingNames, settingPath, VERSION_PATH } from './schema.ts';

export function mirrorState(
  database: Database,
  inForce: Observable<Settings>,
  failed: (problem: string) => void,
): Subscription {
  let newest: Settings | undefined;
  const write = async (settings: Settings): Promise<void> => {
    if (settings !== newest) return;
    const changes = settingNames.map((name) => ({ path: settingPath(name), content: `${settings[name]}\n` }));
    const guest = Object.entries(guestFiles(settings)).map(([path, content]) => ({ path, content }));
    const version = { path: VERSION_PATH, content: `${SCHEMA_VERSION}\n` };
    try {
      await database.commit('state', [version, ...changes, ...guest], { message: 'In force' });
    } catch (error) {
      failed((error as Error).message);
    }
  };
  const noted = tap<Settings>((settings) => {
    newest = settings;
  });
  return inForce.pipe(noted, concatMap(write)).subscribe();
}
