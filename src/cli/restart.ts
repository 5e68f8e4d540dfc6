/** `slipway restart`: `down`, then `up`; a new image and new settings take effect. */

import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { startInstance, stopInstance } from './instance.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('restart', 'stop the VM and start it again', 'slipway restart').action(async () => {
    await stopInstance(currentHome());
    await startInstance(currentHome());
  });
  return runCommand(program, argv);
}
