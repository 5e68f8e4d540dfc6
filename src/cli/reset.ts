/** `slipway reset`: back to the state before the first `up`: the data disk, logs, settings and docker context go. */

import { existsSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import type { Home } from '../home.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { removeContext } from './docker-context.ts';
import { stopInstance } from './instance.ts';
import { UsageError } from './usage-error.ts';

interface Options {
  readonly yes?: boolean;
  readonly keepSettings?: boolean;
}

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'reset',
    'remove all images, containers, volumes, logs, settings and the docker context',
    'slipway reset --yes',
  )
    .option('-y, --yes', 'do not ask')
    .option('--keep-settings', 'leave the settings as they are')
    .action(async (options: Options) => {
      const home = currentHome();
      if (!options.yes && !(await agreed(home))) {
        process.stderr.write('nothing was removed\n');
        process.exitCode = 1;
        return;
      }
      await stopInstance(home);
      await removeContext(home);
      remove(home, options.keepSettings === true);
    });
  return runCommand(program, argv);
}

async function agreed(home: Home): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError("there is no terminal to ask on; 'slipway reset --yes' does not ask");
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`Remove every image, container and volume in ${home.directory}? [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    prompt.close();
  }
}

function remove(home: Home, keepSettings: boolean): void {
  if (!existsSync(home.directory)) return;
  for (const path of [
    home.vmDirectory,
    home.logsDirectory,
    home.lockFile,
    ...(keepSettings ? [] : [home.database, home.settingsFile, `${home.settingsFile}.taken-over`]),
  ])
    rmSync(path, { recursive: true, force: true });
}
