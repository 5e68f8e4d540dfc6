/**
 * `slipway config get|set|unset|list`: settings through the daemon while it runs, so that they take effect at once, and
 * otherwise in the file.
 */

import { JsonSettings } from '../config/adapter/json-settings.ts';
import type { SettingsPort } from '../config/port.ts';
import { type SettingName, schema, settingNames } from '../config/schema.ts';
import { makeHome } from '../home.ts';
import { withApi } from './api-client.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { UsageError } from './usage-error.ts';

interface Shown {
  readonly value: string | number;
  readonly chosen: boolean;
}

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('config', 'read and change settings', 'slipway config set vm.memory=4096 vm.cpus=4');
  const sub = (name: string, summary: string, example: string) => {
    const made = command(`config ${name}`, summary, example);
    made.name(name);
    program.addCommand(made);
    return made;
  };
  sub('list', 'list every setting, its value and what it is for', 'slipway config list --json')
    .option('--json', 'print them as JSON')
    .action(async (options: { json?: boolean }) => {
      const shown = await read();
      if (options.json) printJson(shown);
      else
        printTable(
          ['SETTING', 'VALUE', '', 'WHAT FOR'],
          settingNames.map((name) => [
            name,
            valueWords(name, shown),
            shown[name].chosen ? 'set' : '',
            schema[name].summary,
          ]),
        );
    });
  sub('get', "print one setting's value", 'slipway config get vm.memory')
    .argument('<name>')
    .option('--json', 'print it as JSON')
    .action(async (name: string, options: { json?: boolean }) => {
      const { value } = (await read())[settingName(name)];
      if (options.json) printJson(value);
      else process.stdout.write(`${value}\n`);
    });
  sub('set', 'set settings, all or none', 'slipway config set ports.bind=0.0.0.0,::')
    .argument('<name=value...>', 'one or several; NAME VALUE does as well')
    .action(async (words: string[]) => {
      const values = parseAssignments(words);
      await change(
        (settings) => settings.set(values),
        (api) => api.put('/v1/config', values),
      );
      hint(Object.keys(values) as SettingName[]);
    });
  sub('unset', 'put settings back to their defaults', 'slipway config unset ports.bind')
    .argument('<name...>')
    .action(async (words: string[]) => {
      const names = words.map(settingName);
      await change(
        (settings) => settings.unset(names),
        async (api) => {
          for (const name of names) await api.delete(`/v1/config/${name}`);
        },
      );
      hint(names);
    });
  return runCommand(program, argv);
}

type Api = Parameters<Parameters<typeof withApi>[1]>[0];

async function running(api: Api): Promise<boolean> {
  return (await api.statusIfRunning()) !== undefined;
}

async function read(): Promise<Record<SettingName, Shown>> {
  const home = currentHome();
  return withApi(home, async (api) => {
    if (await running(api)) return (await api.get('/v1/config')) as Record<SettingName, Shown>;
    const settings = await JsonSettings.open(home.settingsFile);
    const show = (name: SettingName): Shown => ({
      value: settings.current[name],
      chosen: settings.chosen[name] !== undefined,
    });
    return Object.fromEntries(settingNames.map((name) => [name, show(name)])) as Record<SettingName, Shown>;
  });
}

async function change(
  inFile: (settings: SettingsPort) => Promise<void>,
  inDaemon: (api: Api) => Promise<unknown>,
): Promise<void> {
  const home = currentHome();
  await withApi(home, async (api) => {
    if (await running(api)) return inDaemon(api);
    makeHome(home);
    return inFile(await JsonSettings.open(home.settingsFile));
  });
}

function settingName(word: string): SettingName {
  if (!Object.hasOwn(schema, word))
    throw new UsageError(`there is no setting '${word}'; the settings are ${settingNames.join(', ')}`);
  return word as SettingName;
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

function valueWords(name: SettingName, shown: Record<SettingName, Shown>): string {
  const { value } = shown[name];
  const { unit } = schema[name];
  return value === '' ? '-' : unit ? `${value} ${unit}` : String(value);
}

function hint(names: readonly SettingName[]): void {
  const later = names.filter((name) => schema[name].restarts === 'vm');
  if (later.length > 0)
    process.stderr.write(`${later.join(', ')}: in force when the VM next starts ('slipway restart')\n`);
}
