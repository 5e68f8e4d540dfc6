/** `slipway restart`: `down`, then `up`; a new image and new settings take effect. */

import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { startInstance, stopInstance } from './instance.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('restart', 'stop the VM and start it again', 'slipway restart').action(async () => {
    await stopInstance(currentHome());
    const { status } = await startInstance(currentHome());
    process.stdout.write(`Slipway is up again: Docker ${status.docker.version} answers.\n`);
  });
  return runCommand(program, argv);
}
