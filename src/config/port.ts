/** Settings as components see them: the value in force costs no I/O, changes are a stream. */

import type { Observable } from 'rxjs';
import type { SettingName, Settings } from './schema.ts';

export interface SettingsPort {
  /** What is in force now. */
  readonly current: Settings;
  /** What the user has chosen, as text; every other setting has its default. */
  readonly chosen: { readonly [K in SettingName]?: string };
  /** What is wrong with the stored settings, while the last good ones stay in force. */
  readonly problem: string | undefined;
  /** The current settings, then each change. */
  readonly changes: Observable<Settings>;
  /** Validates all, then writes all or nothing; rejects with an Error that names the setting. */
  set(values: { readonly [K in SettingName]?: string }): Promise<void>;
  unset(names: readonly SettingName[]): Promise<void>;
  close(): void;
}
