/** Settings as components see them: the value in force costs no I/O, changes are a stream. */

import type { Observable } from 'rxjs';
import type { SettingName, Settings } from './schema.ts';

export interface SettingsPort {
  /** What is in force now. */
  readonly current: Settings;
  /** The current settings, then each change. */
  readonly changes: Observable<Settings>;
  /** Validates all, then writes all or nothing; rejects with an Error that names the setting. */
  set(values: { readonly [K in SettingName]?: string }): Promise<void>;
  unset(names: readonly SettingName[]): Promise<void>;
  close(): void;
}
