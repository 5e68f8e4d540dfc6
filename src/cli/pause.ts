/** `slipway pause` and `slipway resume`: stop the virtual CPUs, and let them go on. */

import { withApi } from './api-client.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';

function verb(name: 'pause' | 'resume', summary: string): (argv: readonly string[]) => Promise<number> {
  return (argv) => {
    const program = command(name, summary, `slipway ${name}`).action(async () => {
      await withApi(currentHome(), (api) => api.post(`/v1/${name}`));
    });
    return runCommand(program, argv);
  };
}

export const run = verb('pause', 'stop the virtual CPUs; containers stand still and cost nothing');
export const resume = verb('resume', 'let a paused VM go on');
