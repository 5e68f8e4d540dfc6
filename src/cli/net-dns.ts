/** `slipway net dns`: whom the names of a running instance's guest are asked of, and how its queries of late went. */

import type { QueryRecord } from '../proxy/dns/query-log.ts';
import type { DnsReport, DnsZoneReport } from '../proxy/dns.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { apiOption, withNetworkApi } from './network-api.ts';

const example = `slipway net dns
slipway net dns --watch
slipway config set network.dnsZones=corp=10.8.0.53`;

const PERIOD_MS = 500;

interface Options {
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly api?: string;
}

export function run(argv: readonly string[]): Promise<number> {
  const program = command('net dns', 'show whom names are asked of, and how queries went', example)
    .option('-f, --watch', 'go on showing queries as they are answered')
    .option('--json', 'print it as JSON; with --watch, a query a line')
    .option(...apiOption)
    .action((options: Options) => (options.watch ? watch(options) : showNow(options)));
  return runCommand(program, argv);
}

async function showNow({ json, api: path }: Options): Promise<void> {
  const report = (await withNetworkApi(path, (api) => api.get('/v1/dns'))) as DnsReport;
  if (json) printJson(report);
  else show(report);
}

/** Until it is interrupted. */
async function watch({ json, api: path }: Options): Promise<void> {
  const stopped = Promise.withResolvers<void>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.resolve());
  await withNetworkApi(path, async (api) => {
    let after = 0;
    for (let running = true; running; ) {
      const { queries } = (await api.get(`/v1/dns?after=${after}`)) as DnsReport;
      // A network that was made anew counts anew.
      after = queries.at(-1)?.number ?? after;
      for (const query of queries)
        process.stdout.write(`${json ? JSON.stringify(query) : cells(query).join('  ').trimEnd()}\n`);
      const timer = Promise.withResolvers<boolean>();
      const timeout = setTimeout(() => timer.resolve(true), PERIOD_MS);
      running = await Promise.race([timer.promise, stopped.promise.then(() => false)]);
      clearTimeout(timeout);
    }
  });
}

function show({ servers, search, counts, cache, queries }: DnsReport): void {
  for (const one of servers) process.stdout.write(`${zoneLine(one)}\n`);
  if (search.length > 0) process.stdout.write(`search domains: ${search.join(', ')}\n`);
  const told = Object.entries(counts).filter(([name, count]) => count > 0 && name !== 'cached');
  const hits = `${cache.hits} from the cache (${cache.entries} answers)`;
  process.stdout.write(`${told.map(([name, count]) => `${count} ${name}`).join(', ') || '0 queries'}, ${hits}\n`);
  if (queries.length === 0) return;
  process.stdout.write('\n');
  printTable(['TIME', 'GUEST', 'NAME', 'TYPE', 'CODE', 'RECORDS', 'BY', 'MS'], queries.map(cells));
}

function zoneLine({ zone, servers }: DnsZoneReport): string {
  const whom = servers.map(({ server, state }) => (state === 'used' ? server : `${server} (${state})`)).join(', ');
  return `${zone === undefined ? 'names' : `names in ${zone}`} are asked of ${whom || 'nobody: there is no name server'}`;
}

function cells({ atMs, guest, name, type, code, answers, source, server, protocol, tookMs }: QueryRecord): string[] {
  const by = `${server ?? (source === 'none' ? '-' : source)}${protocol === 'tcp' ? ' (TCP)' : ''}`;
  const time = new Date(atMs);
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return [clock.join(':'), guest, name, type, code, String(answers), by, tookMs.toFixed(1)];
}
