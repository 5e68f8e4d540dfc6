/** `slipway pause`: stops the virtual CPUs. */

import { withApi } from './api-client.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const summary = 'stop the virtual CPUs; containers stand still and cost nothing';
  const program = command('pause', summary, 'slipway pause').action(async () => {
    await withApi(currentHome(), (api) => api.post('/v1/pause'));
  });
  return runCommand(program, argv);
}
