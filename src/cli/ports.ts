/** `slipway ports list`: the published ports and where the host listens for them. */

import type { PublishedPort } from '../proxy/published-ports.ts';
import { withApi } from './api-client.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'ports list',
    'list published ports and the host addresses they are bound to',
    'slipway ports list',
  )
    .option('--json', 'print them as JSON')
    .action(async (options: { json?: boolean }) => {
      const { ports } = (await withApi(currentHome(), (api) => api.get('/v1/ports'))) as { ports: PublishedPort[] };
      if (options.json) printJson(ports);
      else printTable(['PROTOCOL', 'HOST', 'CONTAINER'], ports.map(row));
    });
  return runCommand(program, argv);
}

function row(port: PublishedPort): string[] {
  const at = (address: string, number: number): string =>
    `${address.includes(':') ? `[${address}]` : address}:${number}`;
  const host = port.problem ?? port.bound.map((address) => at(address, port.hostPort)).join(' ');
  return [port.protocol, host || `none for ${port.hostAddress}`, at(port.containerAddress, port.containerPort)];
}
