/** `slipway down`: stops the VM in order, then both processes. */

import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { stopInstance } from './instance.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('down', 'stop the VM and everything of this instance', 'slipway down').action(async () => {
    if (!(await stopInstance(currentHome()))) process.stderr.write('slipway is not running\n');
  });
  return runCommand(program, argv);
}
