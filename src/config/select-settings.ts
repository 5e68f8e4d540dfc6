/**
 * How a component follows its settings: `settings.changes.pipe(selectSettings('network.dns'))` emits now, and again only
 * when one of those named has another value. What it can apply live it applies in its subscription; a setting that it
 * cannot says `restarts` in the schema.
 */

import { distinctUntilChanged, type MonoTypeOperatorFunction } from 'rxjs';
import type { SettingName, Settings } from './schema.ts';

export function selectSettings(...names: readonly SettingName[]): MonoTypeOperatorFunction<Settings> {
  return distinctUntilChanged((before, after) => names.every((name) => before[name] === after[name]));
}
