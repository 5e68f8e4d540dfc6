/** `slipway net conditions`: makes the network of a running instance worse, at once; shows what is in force. */

import { parseConditions } from '../stack/link/conditions.ts';
import type { ApiClient } from './api-client.ts';
import { command, printJson, runCommand } from './command.ts';
import { usage } from './core-options.ts';
import { apiOption, withNetworkApi } from './network-api.ts';

const SETTING = '/v1/config/network.conditions';
/** Of a network core alone, which keeps no settings. */
const CORE = '/v1/conditions';

const example = `slipway net conditions delay=40ms,loss=1%,rate=10mbit
slipway net conditions none
slipway net conditions --api /tmp/net.sock delay=40ms`;

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('net conditions', 'make the network worse, or show how bad it is', example)
    .argument('[conditions]', "such as delay=40ms,loss=1%; 'none' ends them. 'net serve --help' names all")
    .option('--json', 'print it as JSON')
    .option(...apiOption)
    .action(async (conditions: string | undefined, { json, api: path }: { json?: boolean; api?: string }) => {
      const wanted = conditions === undefined ? undefined : (usage(() => parseConditions(conditions))?.text ?? '');
      await withNetworkApi(path, async (api) => {
        if (wanted !== undefined)
          return path === undefined ? choose(api, wanted) : api.put(CORE, { conditions: wanted });
        const found =
          path === undefined ? await chosen(api) : ((await api.get(CORE)) as { conditions: string }).conditions;
        if (json) printJson({ conditions: found });
        else process.stdout.write(`${found || 'none'}\n`);
      });
    });
  return runCommand(program, argv);
}

async function choose(api: ApiClient, conditions: string): Promise<unknown> {
  return conditions === '' ? api.delete(SETTING) : api.put(SETTING, { value: conditions });
}

async function chosen(api: ApiClient): Promise<string> {
  return ((await api.get(SETTING)) as { value: string }).value;
}
