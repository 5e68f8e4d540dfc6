/** `slipway up`: brings what the VM needs, starts it, waits until Docker answers, and says how to use it. */

import type { PlatformStatus } from '../api/port.ts';
import type { Home } from '../home.ts';
import { command, printJson, runCommand } from './command.ts';
import { contextWords } from './context.ts';
import { currentHome } from './current-home.ts';
import { type ContextOutcome, installContext } from './docker-context.ts';
import { startInstance } from './instance.ts';
import { ownVersion } from './own-version.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('up', 'start the VM and wait until Docker answers', 'slipway up')
    .option('--json', 'print the status as JSON')
    .action(async (options: { json?: boolean }) => {
      const home = currentHome();
      const { status, wasUp } = await startInstance(home);
      const context = await installContext(home);
      if (options.json) printJson(status);
      else process.stdout.write(words(home, status, wasUp, context));
    });
  return runCommand(program, argv);
}

function words(home: Home, status: PlatformStatus, wasUp: boolean, context: ContextOutcome): string {
  const { boot, accelerator, docker } = status;
  const took = boot.dockerd !== undefined ? ` ${boot.dockerd.toFixed(1)} s after the VM's start` : '';
  const first = wasUp
    ? `Slipway is running already: Docker ${docker.version} answers (${accelerator}).`
    : `Slipway is up: Docker ${docker.version} answers${took} (${accelerator}).`;
  const use =
    context.state === 'installed'
      ? ['  docker --context slipway run ...', '  docker context use slipway      (makes it the default)']
      : [`  export DOCKER_HOST=unix://${home.dockerSocket}`];
  const notes = context.state === 'taken' ? [contextWords(context)] : [];
  const { slipway = '' } = status.versions;
  if (slipway !== ownVersion()) notes.push(`It is of version ${slipway}; 'slipway restart' makes it ${ownVersion()}.`);
  if (status.settingsProblem) notes.push(status.settingsProblem);
  return `${[first, ...notes, 'Use it:', ...use, "  slipway status | logs | shell | down   ('slipway --help' lists all)"].join('\n')}\n`;
}
