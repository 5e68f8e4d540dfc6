/** The race of network cores, end to end: `npm run bench -- e2e`. */

import { appendFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { findProgram, machine, peerVersion } from '../report/machine.ts';
import { groups } from '../report/metrics.ts';
import { titleOf } from '../report/page.ts';
import { isOurs, readRepetitions, type Section, sectionsOf } from '../report/race.ts';
import { type Peer, peers } from './peers.ts';
import { RaceTrack, SERVICE } from './race-track.ts';

type Result = Record<string, unknown>;
type Test = (track: RaceTrack, seconds: number, peer: Peer) => Result | Promise<Result>;

const tests: Readonly<Record<string, Test>> = {
  up1: (track, seconds) => track.transfer('guest', 'send', 1, seconds),
  up4: (track, seconds) => track.transfer('guest', 'send', 4, seconds),
  down1: (track, seconds) => track.transfer('guest', 'receive', 1, seconds),
  down4: (track, seconds) => track.transfer('guest', 'receive', 4, seconds),
  in1: (track, seconds) => track.transfer('host', 'send', 1, seconds),
  inrev1: (track, seconds) => track.transfer('host', 'receive', 1, seconds),
  rr: (track) => track.probe('guest', 'rr', SERVICE, '1.5'),
  udprr: (track) => track.probe('guest', 'udprr', SERVICE, '1'),
  inrr: (track) => track.probe('host', 'rr', SERVICE, '1.5', '17001'),
  cb_seq: (track) => track.probe('guest', 'connect', SERVICE, '1.5', '1'),
  cb_64: (track) => track.probe('guest', 'connect', SERVICE, '1.5', '64'),
  conc: (track) => track.probe('guest', 'many', SERVICE, '1000'),
  udp_up: (track) => track.probe('guest', 'up', SERVICE, '1.5', '0'),
  udp_up20k: (track) => track.probe('guest', 'up', SERVICE, '1.5', '20000'),
  udp_down: (track) => track.probe('guest', 'down', SERVICE, '1.5', '0'),
  udp_down20k: (track) => track.probe('guest', 'down', SERVICE, '1.5', '20000'),
  dns: (track, _seconds, { dns }) => track.probe('guest', 'dns', dns, '1.5'),
};

const usage = `usage: npm run bench -- e2e [OPTIONS]

Races Slipway and the rivals that are installed: a guest namespace with real programs behind each core, the services in
another namespace. Prints medians, with our ratio to the best rival. Linux, root, iproute2, iperf3 and cc are needed.
One peer takes half a minute for each MTU and repetition.

  --peers NAME,...    who races (default: all that are found): ${Object.keys(peers).join(', ')}
  --rivals DIR        look for the rivals in DIR/bin and DIR first (default $RIVALS), then on PATH
  --mtu N,...         default 1500,65520
  --tests NAME,...    ${Object.keys(tests).join(', ')}
  --repetitions N     default 3; peers take turns
  --seconds N         of each TCP transfer, default 3
  --no-offload        the guest's kernel cuts, sums and joins segments itself, not its network card (the bridge)
  --one               the bridge writes one frame at a time, as QEMU does
  --quick             1 repetition at MTU 1500, of 1 second; where the race cannot be run, says why and is content
  --out FILE          append every repetition as a line of JSON, after one with machine and versions;
                      npm run bench -- report FILE draws it

Example:
  $ npm run bench -- e2e --rivals /opt/rivals --peers slipway,passt --mtu 1500 --tests up1,down1,rr
`;

function wrong(message: string): never {
  console.error(`${message}\n\n${usage}`);
  process.exit(2);
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        peers: { type: 'string' },
        rivals: { type: 'string', default: process.env.RIVALS ?? '' },
        mtu: { type: 'string' },
        tests: { type: 'string', default: Object.keys(tests).join() },
        repetitions: { type: 'string' },
        seconds: { type: 'string' },
        'no-offload': { type: 'boolean', default: false },
        one: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        out: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    return wrong((error as Error).message);
  }
}

function positive(name: string, text: string): number {
  const value = Number(text);
  return Number.isInteger(value) && value > 0 ? value : wrong(`--${name}: '${text}' is not a number above 0`);
}

function known(kind: string, text: string, names: Readonly<Record<string, unknown>>): readonly string[] {
  const list = text.split(',');
  const odd = list.find((name) => !(name in names));
  return odd === undefined ? list : wrong(`there is no ${kind} '${odd}'`);
}

const options = readOptions();
if (options.help) {
  console.log(usage);
  process.exit(0);
}
const folder = options.rivals || undefined;
const { quick } = options;
const mtus = (options.mtu ?? (quick ? '1500' : '1500,65520')).split(',').map((mtu) => positive('mtu', mtu));
const chosen = known('test', options.tests, tests);
const repetitions = positive('repetitions', options.repetitions ?? (quick ? '1' : '3'));
const seconds = positive('seconds', options.seconds ?? (quick ? '1' : '3'));
const offload = !options['no-offload'];
const bridge = [...(offload ? ['offload'] : []), ...(options.one ? ['one'] : [])];

/** Why the race cannot be run here. */
function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces and TAP devices are needed: run it as root on Linux';
  const transfers = chosen.some((test) => /^(up|down|in|inrev)\d/.test(test));
  const missing = ['ip', 'cc', ...(transfers ? ['iperf3'] : [])].filter((program) => !findProgram(program));
  return missing.length > 0 ? `there is no ${missing.join(' and no ')}: install iproute2, gcc and iperf3` : undefined;
}

const names = known('peer', options.peers ?? Object.keys(peers).join(), peers);
const why = obstacle();
if (why !== undefined) {
  console.error(`The race is left out: ${why}.`);
  process.exit(quick ? 0 : 1);
}

const racing = names.flatMap((name) => {
  const peer = peers[name]!;
  const program = findProgram(peer.program, folder);
  if (program === undefined) console.log(`${name} is left out: there is no ${peer.program} on PATH`);
  return program === undefined ? [] : [{ name, peer, program }];
});

/** One peer at one MTU: every test, with the CPU that it took. */
async function race(track: RaceTrack, { peer, program }: (typeof racing)[number], mtu: number): Promise<Result> {
  const res: Result = {};
  try {
    await track.start(program, peer, mtu, bridge);
    res.rss_idle_kb = track.memory().rss;
    for (const test of chosen) {
      const before = track.cpuSeconds();
      const result = await tests[test]!(track, seconds, peer);
      const cpu = track.cpuSeconds() - before;
      const { bytes, ok, received } = result;
      if (typeof bytes === 'number') result.peer_s_per_gb = cpu / (bytes / 1e9);
      if (typeof ok === 'number') result.peer_us_per_op = (cpu / ok) * 1e6;
      if (typeof received === 'number') result.peer_us_per_pkt = (cpu / received) * 1e6;
      res[test] = { ...result, peer_cpu: cpu };
    }
    res.rss_peak_kb = track.memory().peak;
  } catch (error) {
    res.error = (error as Error).message;
  } finally {
    await track.stop();
  }
  return res;
}

function print(section: Section): void {
  const rows = groups
    .flatMap((group) => group.metrics)
    .flatMap((metric) => {
      const medians = section.peers.map((peer) => section.median(peer, metric));
      if (medians.every((value) => value === undefined)) return [];
      const ours = section.ours === undefined ? undefined : section.median(section.ours, metric);
      const best = section.best(metric);
      return [
        [
          `${metric.name}, ${metric.unit}`,
          ...medians.map((value) => value?.toFixed(metric.digits) ?? '-'),
          ours !== undefined && best && best.value > 0 ? `${(ours / best.value).toFixed(2)} x ${best.peer}` : '',
        ],
      ];
    });
  const table = [['', ...section.peers, 'ratio'], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  console.log(`\n${titleOf(section)}`);
  for (const row of table)
    console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]!))).join('  '));
  for (const failure of section.failures) console.log(`failed: ${failure}`);
}

const versions = Object.fromEntries(
  racing.filter(({ name }) => !isOurs(name)).map(({ name }) => [name, peerVersion(name, folder)]),
);
const lines: string[] = [];
const keep = (line: object): void => {
  lines.push(JSON.stringify(line));
  if (options.out) appendFileSync(options.out, `${lines.at(-1)}\n`);
};
keep({ date: new Date().toISOString(), machine: machine(), versions });

const track = new RaceTrack();
const interrupted = (): never => {
  track.close();
  process.exit(1);
};
process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
try {
  for (let rep = 0; rep < repetitions; rep++)
    for (const mtu of mtus)
      for (const entrant of racing) {
        if (mtu > (entrant.peer.mostMtu ?? mtu)) continue;
        const res = await race(track, entrant, mtu);
        console.log(`${entrant.name}, MTU ${mtu}, repetition ${rep + 1}${res.error ? `: ${res.error}` : ''}`);
        keep({
          peer: entrant.name,
          mtu,
          rep,
          secs: seconds,
          gso: offload,
          one: options.one,
          t: Date.now() / 1000,
          res,
        });
      }
} finally {
  track.close();
}
for (const section of sectionsOf([readRepetitions(lines.join('\n'))])) print(section);
