/** A setting with all that its schema says of it, for programs: the API, `slipway config list --json`, a page. */

import type { SettingsPort } from './port.ts';
import { type SettingName, type SettingRule, schema, settingNames, settingPath } from './schema.ts';

export interface SettingDescription {
  readonly value: string | number;
  readonly default: string | number;
  /** Whether the user has set it. */
  readonly chosen: boolean;
  readonly type: 'choice' | 'number' | 'text';
  readonly restarts: 'nothing' | 'vm';
  readonly summary: string;
  readonly details: string | undefined;
  readonly unit: string | undefined;
  readonly choices: readonly string[] | undefined;
  readonly range: readonly [number, number] | undefined;
  /** Its file in the database. */
  readonly path: string;
}

export type SettingDescriptions = { readonly [K in SettingName]: SettingDescription };

export function describeSetting(
  { current, chosen }: Pick<SettingsPort, 'current' | 'chosen'>,
  name: SettingName,
): SettingDescription {
  const rule = schema[name] as SettingRule<string | number>;
  const { default: byDefault, restarts, summary, details, unit, choices, range } = rule;
  return {
    value: current[name],
    default: byDefault,
    chosen: chosen[name] !== undefined,
    type: choices ? 'choice' : typeof byDefault === 'number' ? 'number' : 'text',
    restarts,
    summary,
    details,
    unit,
    choices,
    range,
    path: settingPath(name),
  };
}

export function describeSettings(settings: Pick<SettingsPort, 'current' | 'chosen'>): SettingDescriptions {
  return Object.fromEntries(settingNames.map((name) => [name, describeSetting(settings, name)])) as SettingDescriptions;
}
