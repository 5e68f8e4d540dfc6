/** Settings as components see them: the value in force costs no I/O, changes are a stream. */

import type { Observable } from 'rxjs';
import type { SettingName, Settings } from './schema.ts';

/** Settings to change, as text; undefined puts one back to its default. */
export type SettingChanges = { readonly [K in SettingName]?: string | undefined };

export interface SettingsPort {
  /** What is in force now, or will be once what asks for a restart of the VM has had one. */
  readonly current: Settings;
  /** What the user has chosen, as text; every other setting has its default. */
  readonly chosen: { readonly [K in SettingName]?: string };
  /** What is wrong with the stored settings, while the last good ones stay in force. */
  readonly problem: string | undefined;
  /** The current settings, then each change of them or of `problem`. */
  readonly changes: Observable<Settings>;
  /** Takes over at once what others have stored by now, and would be noticed soon. */
  refresh(): Promise<void>;
  /** Validates all, then writes all or nothing; rejects with an Error that names the setting. */
  set(values: SettingChanges, message?: string): Promise<void>;
  unset(names: readonly SettingName[], message?: string): Promise<void>;
  close(): void;
}
