/** `slipway net conditions`: makes the network of a running instance worse, at once; shows what is in force. */

import { parseConditions } from '../stack/link/conditions.ts';
import { withApi } from './api-client.ts';
import { command, runCommand } from './command.ts';
import { usage } from './core-options.ts';
import { currentHome } from './current-home.ts';

const SETTING = '/v1/config/network.conditions';

export async function run(argv: readonly string[]): Promise<number> {
  const example = 'slipway net conditions delay=40ms,loss=1%,rate=10mbit\nslipway net conditions none';
  const program = command('net conditions', 'make the network worse, or show how bad it is', example)
    .argument('[conditions]', "such as delay=40ms,loss=1%; 'none' ends them. 'net serve --help' names all")
    .action(async (conditions: string | undefined) => {
      if (conditions !== undefined) usage(() => parseConditions(conditions));
      await withApi(currentHome(), async (api) => {
        if (conditions === undefined) {
          const { value } = (await api.get(SETTING)) as { value: string };
          process.stdout.write(`${value || 'none'}\n`);
        } else if (parseConditions(conditions)) await api.put(SETTING, { value: conditions });
        else await api.delete(SETTING);
      });
    });
  return runCommand(program, argv);
}
