/** `slipway context install|remove`: the docker context that points Docker's client here. */

import { command, printJson, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { type ContextOutcome, installContext, removeContext } from './docker-context.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('context', "make or remove the docker context 'slipway'", 'slipway context install');
  for (const verb of ['install', 'remove'] as const) {
    const what = verb === 'install' ? 'make it, or point it to this instance' : 'remove it when it is of this instance';
    const made = command(`context ${verb}`, what, `slipway context ${verb}`).option(
      '--json',
      'print the outcome as JSON',
    );
    made.name(verb).action(async (options: { json?: boolean }) => {
      const outcome = await (verb === 'install' ? installContext(currentHome(), true) : removeContext(currentHome()));
      if (options.json) printJson(outcome);
      else process.stdout.write(`${contextWords(outcome)}\n`);
      if (verb === 'install' && outcome.state === 'no client') process.exitCode = 1;
    });
    program.addCommand(made);
  }
  return runCommand(program, argv);
}

export function contextWords(outcome: ContextOutcome): string {
  switch (outcome.state) {
    case 'installed':
      return "docker context 'slipway' points to this instance";
    case 'removed':
      return "docker context 'slipway' removed";
    case 'absent':
      return "there is no docker context 'slipway'";
    case 'no client':
      return 'no docker client on PATH';
    case 'taken':
      return `docker context 'slipway' belongs to another instance (${outcome.host}); 'slipway context install' takes it over`;
  }
}
