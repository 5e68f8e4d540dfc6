/** `slipway resume`: lets the virtual CPUs of a paused VM go on. */

import { withApi } from './api-client.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('resume', 'let a paused VM go on', 'slipway resume').action(async () => {
    await withApi(currentHome(), (api) => api.post('/v1/resume'));
  });
  return runCommand(program, argv);
}
