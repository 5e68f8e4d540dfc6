/**
 * `npm run rivals -- [--bin FOLDER] [--only NAME]`: plays the cases of test/rivals against `slipway net serve` and every
 * other network core that is there (passt and gvproxy from FOLDER or the PATH, QEMU's user network), in a network
 * namespace of its own, and writes test/rivals/results.json, which docs/CONFORMANCE.md shows. Needs root.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ipCases } from '../test/rivals/ip-cases.ts';
import type { Results } from '../test/rivals/results.ts';
import { HOST, NOBODY, type Player, Stage } from '../test/rivals/stage.ts';
import { tcpCases } from '../test/rivals/tcp-cases.ts';
import { Otherwise } from '../test/rivals/wire-script.ts';

const root = join(import.meta.dirname, '..');
/** A case that fails is played again: the machine may have been busy. */
const TRIES = 3;

const { values } = parseArgs({ options: { bin: { type: 'string' }, only: { type: 'string' } } });
if (!process.env.SLIPWAY_RIVALS_INSIDE) {
  const env = { ...process.env, SLIPWAY_RIVALS_INSIDE: '1' };
  const argv = ['--net', '--', process.execPath, ...process.argv.slice(1)];
  const { status } = spawnSync('unshare', argv, { stdio: 'inherit', env });
  process.exit(status ?? 1);
}

function program(name: string): string | undefined {
  const folders = [...(values.bin ? [values.bin] : []), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** What is there, slipway first. */
function players(): Player[] {
  const [passt, gvproxy, qemu] = ['passt', 'gvproxy', 'qemu-system-x86_64'].map(program);
  const slipway = join(root, 'bin/slipway');
  const serve = ['net', 'serve', '--qemu', '{socket}'];
  const found: Player[] = [
    {
      name: 'slipway',
      command: [slipway, ...serve],
      version: ['git', '-C', root, 'describe', '--always'],
      address: '192.168.65.3',
      gateway: '192.168.65.1',
    },
  ];
  if (passt)
    found.push({
      name: 'passt',
      command: [passt, '-f', '-4', '-s', '{socket}'],
      version: [passt, '--version'],
      address: '10.99.0.1',
      gateway: '10.99.0.254',
    });
  if (gvproxy)
    found.push({
      name: 'gvproxy',
      command: [
        gvproxy,
        '-listen-qemu',
        'unix://{socket}',
        '-listen',
        'unix://{folder}/api.sock',
        '-ssh-port',
        '22022',
      ],
      version: [gvproxy, '-version'],
      address: '192.168.127.2',
      gateway: '192.168.127.1',
      mac: 0x5a_94_ef_e4_0c_ee,
    });
  const stream = 'stream,id=s,server=on,addr.type=unix,addr.path={socket}';
  const hubs = ['hubport,id=h0,hubid=0,netdev=u', 'hubport,id=h1,hubid=0,netdev=s'];
  const netdevs = ['user,id=u,ipv6=off', stream, ...hubs].flatMap((netdev) => ['-netdev', netdev]);
  const bare = ['-M', 'none', '-display', 'none', '-nodefaults', '-monitor', 'none', '-serial', 'none'];
  if (qemu)
    found.push({
      name: 'libslirp (QEMU)',
      command: [qemu, ...bare, ...netdevs],
      version: [qemu, '--version'],
      address: '10.0.2.15',
      gateway: '10.0.2.2',
    });
  return found.filter(({ name }) => values.only === undefined || name === values.only);
}

/** The host's side, as every one of them finds it: one network, one way out, and the host's address. */
function furnish(): void {
  const ip = (words: string): Buffer => execFileSync('ip', words.split(' '));
  ip('link set lo up');
  ip('link add ext0 type veth peer name ext1');
  ip('link set ext1 up');
  ip('link set ext0 up');
  ip('addr add 10.99.0.1/24 dev ext0');
  ip(`addr add ${HOST}/32 dev lo`);
  ip('route add default via 10.99.0.254');
  // Anybody may ping, as on the systems that people have.
  writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
  // Whatever is sent to it is swallowed.
  ip(`neigh add ${NOBODY} lladdr 02:00:00:00:77:77 dev ext0`);
}

const versionOf = ([name, ...argv]: readonly string[]): string => {
  const { stdout, stderr } = spawnSync(name!, argv, { encoding: 'utf8' });
  const lines = `${stdout}${stderr}`.trim().split('\n');
  return lines.find((line) => /\d[._~]\d|^[0-9a-f]{7,}/.test(line)) ?? 'version unknown';
};

/** Some of them drop their privileges before they make their sockets. */
function furnishFolder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o777);
}

async function play(player: Player): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-rivals-'));
  furnishFolder(folder);
  const outcomes: string[] = [];
  let stage = await Stage.set(player, folder);
  for (const { rfc, section, behaviour, play } of [...tcpCases, ...ipCases]) {
    let outcome = '';
    for (let tries = 0; tries < TRIES && outcome !== 'yes'; tries++) {
      stage.clear();
      try {
        await play(stage);
        outcome = 'yes';
      } catch (error) {
        if (!(error instanceof Otherwise)) throw error;
        outcome = error.message;
      }
      if (!stage.isAlive) outcome = 'it dies';
      if (outcome === 'yes') continue;
      // What a failure has left is not to spoil what comes next.
      await stage.strike();
      rmSync(folder, { recursive: true });
      furnishFolder(folder);
      stage = await Stage.set(player, folder);
    }
    console.log(`${player.name} RFC ${rfc} ${section}: ${behaviour}: ${outcome}`);
    outcomes.push(outcome);
  }
  await stage.strike();
  rmSync(folder, { recursive: true });
  return outcomes;
}

furnish();
const results: Results = { date: new Date().toISOString().slice(0, 10), players: [], cases: [] };
const all = players();
const columns: string[][] = [];
for (const player of all) columns.push(await play(player));
for (const { name, version } of all) results.players.push({ name, version: versionOf(version) });
for (const [i, { rfc, section, behaviour }] of [...tcpCases, ...ipCases].entries())
  results.cases.push({ rfc, section, behaviour, outcomes: columns.map((column) => column[i]!) });
if (values.only === undefined)
  writeFileSync(join(root, 'test/rivals/results.json'), `${JSON.stringify(results, undefined, 2)}\n`);
process.exit(0);
