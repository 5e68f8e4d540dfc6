/** `slipway config edit`: every setting in an editor; what was changed becomes one commit. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SettingChanges } from '../config/port.ts';
import { parseSetting, type SettingName, settingNames } from '../config/schema.ts';
import type { SettingDescriptions } from '../config/setting-description.ts';
import type { AddCommand } from './config.ts';
import { lineOf, textOf } from './setting-line.ts';
import { changeSettings, readSettings, settingName, warn } from './settings-access.ts';

export function addEdit(sub: AddCommand, message: readonly [string, string]): void {
  sub('edit', 'edit the settings in $VISUAL or $EDITOR, as one commit', "slipway config edit -m 'More room'")
    .option(...message)
    .action(async (options: { message?: string }) => {
      const { settings: shown } = await readSettings();
      const folder = mkdtempSync(join(tmpdir(), 'slipway-config-'));
      const path = join(folder, 'settings.conf');
      writeFileSync(path, settingsText(shown), { mode: 0o600 });
      await runEditor(path);
      let changes: SettingChanges;
      try {
        changes = changesIn(readFileSync(path, 'utf8'), shown);
        if (Object.keys(changes).length > 0) await changeSettings(changes, options.message);
      } catch (error) {
        throw new Error(`${(error as Error).message}; nothing has changed, and your text is kept in ${path}`);
      }
      if (Object.keys(changes).length === 0) warn('nothing was changed');
      rmSync(folder, { recursive: true });
    });
}

/** What is set as `NAME = VALUE`, the rest with its default behind a comment sign. */
export function settingsText(shown: SettingDescriptions): string {
  const head =
    '# What stands behind a # has its default. Remove a line, or its value and =, to go back to the default.\n' +
    '# A value in quotation marks is a JSON string, in which \\n is the end of a line.\n';
  const blocks = settingNames.map((name) => {
    const { summary, unit, range, choices, restarts, default: byDefault, value, chosen } = shown[name];
    const limits = choices ? choices.join(', ') : range ? `${range[0]} to ${range[1]}` : '';
    const notes = [summary, [limits, unit].filter(Boolean).join(' '), restarts === 'vm' ? 'restarts the VM' : ''];
    return `# ${notes.filter(Boolean).join('; ')}\n${chosen ? `${name} = ${lineOf(value)}` : `#${name} = ${byDefault}`}\n`;
  });
  return [head, ...blocks].join('\n');
}

/** What `text` has otherwise than `shown`. */
export function changesIn(text: string, shown: SettingDescriptions): SettingChanges {
  const values: { [K in SettingName]?: string } = {};
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue;
    const [, word, written] = /^\s*([^\s=]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (word === undefined || written === undefined) throw new Error(`line ${i + 1} is not NAME = VALUE`);
    const name = settingName(word);
    const value = textOf(written);
    parseSetting(name, value);
    values[name] = value;
  }
  const changes: { [K in SettingName]?: string | undefined } = {};
  for (const name of settingNames) {
    const before = shown[name].chosen ? String(shown[name].value) : undefined;
    if (values[name] !== before) changes[name] = values[name];
  }
  return changes;
}

async function runEditor(path: string): Promise<void> {
  const editor = process.env.VISUAL || process.env.EDITOR || 'vi';
  const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sh', path], { stdio: 'inherit' });
  const status = await new Promise<number | string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? signal));
  });
  if (status !== 0) throw new Error(`the editor '${editor}' ended with ${status}; nothing has changed; set $EDITOR`);
}
