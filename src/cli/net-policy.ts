/** `slipway net policy`: what the guest of a running instance may reach, and which rule decides about a flow. */

import type { PolicyAnswer } from '../proxy/policy/explanation.ts';
import type { DenyReason, PolicyReport } from '../proxy/policy.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { beginView, showRepeatedly } from './live-view.ts';
import { apiOption, withNetworkApi } from './network-api.ts';

const PERIOD_MS = 1000;

const reasons: Readonly<Record<DenyReason, string>> = {
  'forbidden-address': 'loopback, link-local (metadata services), multicast and reserved addresses are never dialled',
  gateway: 'nothing listens there on the gateway',
  'guest-network': "it is an address of the guest's own network",
  'no-host-loopback': "the host's loopback is closed",
  'host-port': 'a port of the host that the guest may not have (policy.hostLoopback, policy.hostPorts)',
  rule: 'a rule denies it',
};

const example = `slipway net policy
slipway net policy -f
slipway net policy check 10.0.0.5 443
slipway config set policy.rules='allow *.example.org port 443; deny any'`;

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('net policy', 'show what the guest may reach, and what it was denied', example)
    .option('-f, --watch', 'go on until interrupted; with --json one line each time')
    .option('--json', 'print it as JSON')
    .option(...apiOption)
    .action(async ({ json, watch, api: path }: { json?: boolean; watch?: boolean; api?: string }) => {
      await withNetworkApi(path, async (api) => {
        const get = async (): Promise<PolicyReport> => (await api.get('/v1/policy')) as PolicyReport;
        if (watch)
          return showRepeatedly(PERIOD_MS, async (first) => {
            const report = await get();
            if (json) return void process.stdout.write(`${JSON.stringify(report)}\n`);
            beginView(first);
            show(report);
          });
        const report = await get();
        if (json) printJson(report);
        else show(report);
      });
    });
  const check = command(
    'net policy check',
    'say whether the guest may reach an address, and which rule decides',
    'slipway net policy check 10.0.0.5 443\nslipway net policy check host.docker.internal 5432 --protocol tcp',
  )
    .name('check')
    .argument('<address>', 'an address, or a name: then each address that a guest would be given for it')
    .argument('[port]', 'nothing for ICMP')
    .option('--protocol <protocol>', 'tcp, udp or icmp', 'tcp')
    .option('--in', 'whether a client at the address may enter by the published port')
    .option('--json', 'print it as JSON')
    .option(...apiOption)
    .action(async (address: string, port: string | undefined, options: Options, { parent }: { parent: Parent }) => {
      const query = new URLSearchParams({
        address,
        protocol: options.protocol,
        direction: options.in ? 'in' : 'out',
        ...(port !== undefined && { port }),
      });
      const found = await withNetworkApi(options.api ?? parent?.opts().api, (api) =>
        api.get(`/v1/policy/check?${query}`),
      );
      const { answers } = found as { answers: PolicyAnswer[] };
      if (options.json || parent?.opts().json) printJson(answers);
      else for (const answer of answers) process.stdout.write(`${describe(answer)}\n`);
    });
  const set = command(
    'net policy set',
    'put other rules in place of those in force; what is open and would be denied now ends',
    "slipway net policy set 'deny 10.0.0.0/8; deny tcp any port 25'\nslipway net policy set --api /tmp/net.sock 'deny any'",
  )
    .name('set')
    .argument('<rules>', "set apart by ';' or line ends; '' for none")
    .option(...apiOption)
    .action(async (rules: string, options: { api?: string }, { parent }: { parent: Parent }) => {
      const path = options.api ?? parent?.opts().api;
      await withNetworkApi(path, (api) =>
        path === undefined ? api.put('/v1/config/policy.rules', { value: rules }) : api.put('/v1/policy', { rules }),
      );
    });
  program.addCommand(check).addCommand(set);
  return runCommand(program, argv);
}

interface Options {
  readonly protocol: string;
  readonly in?: boolean;
  readonly json?: boolean;
  readonly api?: string;
}

type Parent = { opts(): { json?: boolean; api?: string } } | null;

/** One line: the verdict, and what decided. */
function describe({ protocol, address, port, allowed, dialled, reason, rule, number, answer }: PolicyAnswer): string {
  const at = address.includes(':') && port ? `[${address}]` : address;
  const what = `${protocol} ${at}${protocol === 'icmp' ? '' : `:${port}`}`;
  const why = rule === undefined ? (reason ? reasons[reason] : 'no rule is about it') : `rule ${number}: ${rule}`;
  const how = allowed ? dialled && `, as the host's ${dialled}` : answer && `, answered by ${answer}`;
  return `${what} is ${allowed ? 'allowed' : 'denied'}${how || ''}: ${why}`;
}

function show({ hostLoopback, hostPorts, ownPorts, rules, denied, denials }: PolicyReport): void {
  const few =
    hostLoopback === 'list' && hostPorts === '' ? `every port but ${ownPorts.join(', ')}` : hostPorts || 'none';
  const ports = hostLoopback === 'all' ? 'every port' : hostLoopback === 'closed' ? 'none' : few;
  process.stdout.write(`ports of the host (${hostLoopback}): ${ports}\n\n`);
  if (rules.length === 0) process.stdout.write('no rules: what is not refused always is allowed\n');
  else
    printTable(
      ['', 'RULE', 'DECIDED'],
      rules.map(({ rule, decided }, i) => [String(i + 1), rule, String(decided)]),
    );
  const counts = Object.entries(denied).filter(([, count]) => count > 0);
  if (counts.length > 0) {
    process.stdout.write('\n');
    printTable(
      ['DENIED', 'FLOWS'],
      counts.map(([reason, count]) => [reason, String(count)]),
    );
  }
  if (denials.length === 0) return;
  process.stdout.write('\n');
  printTable(
    ['LATELY', 'FLOWS', 'AGO', 'WHY'],
    denials.map(({ direction, protocol, address, port, flows, secondsAgo, reason, rule }) => [
      `${direction === 'in' ? 'from' : 'to'} ${address} ${protocol}${port ? ` ${port}` : ''}`,
      String(flows),
      `${secondsAgo} s`,
      rule ?? reason,
    ]),
  );
  const asked = denials.filter(({ reason }) => reason === 'host-port').map(({ port }) => port);
  if (hostLoopback !== 'ask' || asked.length === 0) return;
  const all = [...new Set([hostPorts, ...asked.map(String)])].filter((text) => text !== '');
  process.stdout.write(
    `\nTo let the guest have what it asked for: slipway config set policy.hostPorts=${all.join(',')}\n`,
  );
}
