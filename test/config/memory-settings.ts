/** Settings that lie nowhere: the fake of the settings' port. */

import { BehaviorSubject } from 'rxjs';
import type { SettingChanges, SettingsPort } from '../../src/config/port.ts';
import { defaults, parseSetting, type SettingName, type Settings } from '../../src/config/schema.ts';

export class MemorySettings implements SettingsPort {
  readonly changes = new BehaviorSubject<Settings>(defaults);
  problem: string | undefined;
  #chosen: { [K in SettingName]?: string } = {};

  get current(): Settings {
    return this.changes.value;
  }

  get chosen(): SettingsPort['chosen'] {
    return this.#chosen;
  }

  async refresh(): Promise<void> {}

  async set(values: SettingChanges): Promise<void> {
    const chosen = { ...this.#chosen };
    const settings: Record<string, unknown> = { ...this.current };
    for (const [word, text] of Object.entries(values)) {
      const name = word as SettingName;
      settings[name] = parseSetting(name, text ?? String(defaults[name] ?? ''));
      if (text === undefined) delete chosen[name];
      else chosen[name] = text;
    }
    this.#chosen = chosen;
    this.changes.next(settings as unknown as Settings);
  }

  unset(names: readonly SettingName[]): Promise<void> {
    return this.set(Object.fromEntries(names.map((name) => [name, undefined])));
  }

  close(): void {
    this.changes.complete();
  }
}
