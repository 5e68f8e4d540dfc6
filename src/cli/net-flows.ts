/** `slipway net flows`: what flows through the network of a running instance, once or as it goes on. */

import type { FlowRecord } from '../stack/port.ts';
import { command, printJson, printTable, runCommand } from './command.ts';
import { beginView, showRepeatedly } from './live-view.ts';
import { apiOption, withNetworkApi } from './network-api.ts';
import { UsageError } from './usage-error.ts';

/** As `/v1/flows` answers. */
interface Flows {
  readonly flows: readonly FlowRecord[];
  readonly drops: Readonly<Record<string, number>>;
}

interface Options {
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly interval: string;
  readonly api?: string;
}

/** What is on the screen beside the flows. */
const OTHER_LINES = 5;

export async function run(argv: readonly string[]): Promise<number> {
  const example = 'slipway net flows\nslipway net flows -f\nslipway net flows --json | jq .drops';
  const program = command('net flows', 'show what flows, what it waits for, and what was dropped', example)
    .option('-f, --watch', 'go on until interrupted, the busiest first; with --json one line each time')
    .option('--interval <seconds>', 'how often, with --watch', '1')
    .option('--json', 'print it as JSON')
    .option(...apiOption)
    .action(show);
  return runCommand(program, argv);
}

async function show({ json, watch, interval, api: path }: Options): Promise<void> {
  const seconds = Number(interval);
  if (!(seconds >= 0.1 && seconds <= 3600))
    throw new UsageError('--interval wants a number of seconds from 0.1 to 3600');
  await withNetworkApi(path, async (api) => {
    const get = async (): Promise<Flows> => (await api.get('/v1/flows')) as Flows;
    if (!watch) {
      const found = await get();
      if (json) printJson(found);
      else print(found, undefined);
      return;
    }
    let before: ReadonlyMap<string, number> | undefined;
    await showRepeatedly(seconds * 1000, async (first) => {
      const found = await get();
      if (json) process.stdout.write(`${JSON.stringify(found)}\n`);
      else {
        beginView(first);
        print(found, perSecond(found.flows, before, seconds));
      }
      before = new Map(found.flows.map((flow) => [keyOf(flow), octetsOf(flow)]));
    });
  });
}

const keyOf = ({ protocol, guest, peer }: FlowRecord): string => `${protocol} ${guest} ${protocol === 'tcp' && peer}`;
const octetsOf = ({ octetsToGuest, octetsToHost }: FlowRecord): number => octetsToGuest + octetsToHost;

/** Octets a second of each flow, both ways, since it was looked at last. */
function perSecond(
  flows: readonly FlowRecord[],
  before: ReadonlyMap<string, number> | undefined,
  seconds: number,
): ReadonlyMap<FlowRecord, number> {
  const rate = (flow: FlowRecord): number =>
    before ? Math.max(0, octetsOf(flow) - (before.get(keyOf(flow)) ?? 0)) / seconds : 0;
  return new Map(flows.map((flow) => [flow, rate(flow)]));
}

function print({ flows, drops }: Flows, rates: ReadonlyMap<FlowRecord, number> | undefined): void {
  const rateOf = (flow: FlowRecord): number => rates?.get(flow) ?? 0;
  const sorted = rates ? [...flows].sort((a, b) => rateOf(b) - rateOf(a)) : flows;
  const room = rates && process.stdout.isTTY ? Math.max(1, (process.stdout.rows ?? 24) - OTHER_LINES) : sorted.length;
  const titles = [
    '',
    'GUEST',
    '',
    'PEER',
    'STATE',
    'TO GUEST',
    'TO HOST',
    'RTT',
    'RESENT',
    'IDLE',
    'WAITS FOR',
    'RULE',
  ];
  if (rates) titles.splice(7, 0, 'PER SECOND');
  if (flows.length === 0) process.stdout.write('nothing flows\n');
  else
    printTable(
      titles,
      sorted.slice(0, room).map((flow) => {
        const cells = row(flow);
        if (rates) cells.splice(7, 0, octets(rateOf(flow)));
        return cells;
      }),
    );
  if (sorted.length > room) process.stdout.write(`and ${sorted.length - room} more\n`);
  const dropped = Object.entries(drops).filter(([, count]) => count > 0);
  if (dropped.length > 0)
    process.stdout.write(`\ndropped: ${dropped.map(([reason, count]) => `${reason} ${count}`).join(', ')}\n`);
  if ((drops['icmp-host-forbids'] ?? 0) > 0)
    process.stdout.write(
      "the host lets nobody ping, so guests cannot: sysctl -w net.ipv4.ping_group_range='0 2147483647' lets them\n",
    );
}

const arrows = { out: '->', in: '<-' } as const;

function row(flow: FlowRecord): string[] {
  const { protocol, guest, peer, client, direction, state, rttMs, retransmissions, idleMs, waitsFor, rule } = flow;
  return [
    protocol,
    guest,
    direction ? arrows[direction] : '--',
    client ?? peer,
    state,
    octets(flow.octetsToGuest),
    octets(flow.octetsToHost),
    rttMs === undefined ? '' : `${rttMs < 10 ? rttMs.toFixed(1) : Math.round(rttMs)} ms`,
    retransmissions ? String(retransmissions) : '',
    idleMs === undefined ? '' : `${Math.round(idleMs / 1000)} s`,
    waitsFor === undefined || waitsFor === 'nothing' ? '' : waitsFor,
    rule ?? '',
  ];
}

function octets(count: number): string {
  if (count < 10_000) return String(Math.round(count));
  const unit = count < 1e6 ? ['k', 1e3] : count < 1e9 ? ['M', 1e6] : ['G', 1e9];
  return `${(count / Number(unit[1])).toFixed(1)} ${unit[0]}`;
}
