/** `slipway config`: settings, which are files of a git repository, each change a commit. */

import type { Command } from 'commander';
import { type SettingName, schema, settingNames } from '../config/schema.ts';
import type { SettingDescription } from '../config/setting-description.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { addEdit } from './config-edit.ts';
import { addHistory } from './config-history.ts';
import { lineOf } from './setting-line.ts';
import { changeSettings, readSettings, settingName } from './settings-access.ts';
import { UsageError } from './usage-error.ts';

export type AddCommand = (name: string, summary: string, example: string) => Command;

const MESSAGE = ['-m, --message <text>', 'what the commit says'] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'config',
    'read and change settings, their history and what is in force',
    'slipway config set vm.memory=4096 vm.cpus=4',
  );
  const sub: AddCommand = (name, summary, example) => {
    const made = command(`config ${name}`, summary, example);
    made.name(name);
    program.addCommand(made);
    return made;
  };
  sub('list', 'list every setting, its value and what it is for', 'slipway config list --json')
    .option('--json', 'print them as JSON')
    .action(async (options: { json?: boolean }) => {
      const { settings, pending } = await readSettings();
      if (options.json) return printJson(settings);
      const note = (name: SettingName): string =>
        [settings[name].chosen && 'set', pending.includes(name) && 'after a restart'].filter(Boolean).join(', ');
      printTable(
        ['SETTING', 'VALUE', '', 'WHAT FOR'],
        settingNames.map((name) => [name, valueWords(settings[name]), note(name), schema[name].summary]),
      );
    });
  sub('get', "print one setting's value", 'slipway config get vm.memory')
    .argument('<name>')
    .option('--json', 'print it as JSON')
    .action(async (word: string, options: { json?: boolean }) => {
      const name = settingName(word);
      const { value } = (await readSettings()).settings[name];
      if (options.json) printJson(value);
      else process.stdout.write(`${value}\n`);
    });
  sub('set', 'set settings in one commit, all or none', "slipway config set ports.bind=0.0.0.0,:: -m 'Open to the LAN'")
    .argument('<name=value...>', 'one or several; NAME VALUE does as well')
    .option(...MESSAGE)
    .action((words: string[], { message }: { message?: string }) => changeSettings(parseAssignments(words), message));
  sub('unset', 'put settings back to their defaults', 'slipway config unset ports.bind')
    .argument('<name...>')
    .option(...MESSAGE)
    .action((words: string[], { message }: { message?: string }) =>
      changeSettings(Object.fromEntries(words.map((word) => [settingName(word), undefined])), message),
    );
  addHistory(sub);
  addEdit(sub, MESSAGE);
  return runCommand(program, argv);
}

function parseAssignments(words: readonly string[]): { [K in SettingName]?: string } {
  const values: { [K in SettingName]?: string } = {};
  const [first, second, ...more] = words;
  if (first !== undefined && second !== undefined && more.length === 0 && !first.includes('='))
    return { [settingName(first)]: second };
  for (const word of words) {
    const at = word.indexOf('=');
    if (at < 0) throw new UsageError(`'${word}' is not NAME=VALUE`);
    values[settingName(word.slice(0, at))] = word.slice(at + 1);
  }
  return values;
}

function valueWords({ value, unit }: SettingDescription): string {
  return value === '' ? '-' : unit ? `${value} ${unit}` : lineOf(value);
}
