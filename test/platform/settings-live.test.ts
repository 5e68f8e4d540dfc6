/** A setting's journey: committed by anyone, in force in what runs, mirrored in the branch `state`. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatMap, filter, firstValueFrom, NEVER } from 'rxjs';
import t from 'tap';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import type { Settings } from '../../src/config/schema.ts';
import { mirrorState } from '../../src/config/state-mirror.ts';
import type { Machine, MachineStatus } from '../../src/hypervisor/port.ts';
import { type NetworkCore, Supervisor } from '../../src/supervisor.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-live-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const directory = join(folder, 'database');
const clone = join(folder, 'clone');

const running: MachineStatus = { state: 'running', boot: {}, accelerator: 'tcg', pid: 7, startedAtMs: 1000 };
const machine: Machine = {
  status: () => running,
  onStatus: () => () => undefined,
  pause: async () => undefined,
  resume: async () => undefined,
  shutdown: async () => undefined,
  kill: async () => undefined,
  console: () => '',
};

function git(...argv: readonly string[]): string {
  const who = ['-c', 'user.name=x', '-c', 'user.email=x@example.org'];
  return execFileSync('git', [...who, ...argv], { cwd: clone, encoding: 'utf8', stdio: 'pipe' });
}

function push(files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) writeFileSync(join(clone, path), content);
  git('add', '-A');
  git('commit', '--quiet', '-m', 'by hand');
  git('push', '--quiet');
}

t.test('a push is in force in the network and the ports, and what is in force is in state', async (t) => {
  const { database, settings, close } = await openSettings({
    directory,
    settingsFile: join(folder, 'none'),
    watching: true,
    log: () => undefined,
  });
  await settings.set({ 'network.dns': '1.1.1.1', 'ports.limit': '5', 'vm.cpus': '3' });
  settings.follow(() => undefined);
  const applied: Settings[] = [];
  const network = {
    connected: true,
    flows: () => [],
    drops: () => ({}),
    apply: (now: Settings) => applied.push(now),
    close: () => undefined,
  };
  const supervisor = new Supervisor({
    settings,
    machines: { attach: async () => undefined, start: async () => machine },
    docker: { state: { ready: false }, changes: NEVER, start: () => undefined, stop: () => undefined },
    specify: () => ({}) as never,
    openNetwork: () => network as unknown as NetworkCore,
    publishRules: ({ settings: now }) => ({
      bind: now['ports.bind'].split(','),
      reserved: [],
      limit: now['ports.limit'],
      unprivilegedFrom: 1024,
      hostAddresses: [],
      ipv6: true,
    }),
    chooseSubnets: () => ({ subnet: '192.168.66.0/24', subnet6: 'fd00:1:2:3::/64' }),
    inForce: { load: () => undefined, store: () => undefined },
    facts: () => ({ home: folder, sockets: {}, versions: {}, pids: {} }),
    nowMs: () => 0,
    log: () => undefined,
  });
  const mirror = mirrorState(database, supervisor.inForce, (problem) => t.fail(problem));
  const inForce = (path: string, wanted: string) =>
    firstValueFrom(
      database.watch('state', path).pipe(
        concatMap(async (node) => node && Buffer.from(await database.blob(node.hash)).toString()),
        filter((content) => content === `${wanted}\n`),
      ),
    );
  await supervisor.open();
  await inForce('ports/limit', '5');
  await inForce('network/subnet', '192.168.66.0/24');
  await inForce('network/subnet6', 'fd00:1:2:3::/64');

  execFileSync('git', ['clone', '--quiet', directory, clone]);
  const live = inForce('network/dns', '9.9.9.9');
  push({ 'network/dns': '9.9.9.9\n', 'ports/limit': '6\n', 'vm/cpus': '4\n' });
  await live;
  t.equal(applied.at(-1)!['network.dns'], '9.9.9.9');
  await inForce('ports/limit', '6');
  await inForce('vm/cpus', '3');
  t.same(supervisor.status().pendingRestart, ['vm.cpus'], 'the rest waits, and says so');

  const told = firstValueFrom(supervisor.changes.pipe(filter(({ settingsProblem }) => settingsProblem !== undefined)));
  push({ 'ports/limit': 'many\n' });
  t.match((await told).settingsProblem, /ports\.limit must be a whole number, not 'many'/);
  push({ 'network/dns': '8.8.8.8\n' });
  await inForce('network/dns', '8.8.8.8');
  await inForce('ports/limit', '6');

  const undone = inForce('network/dns', '9.9.9.9');
  await database.revert('user', database.head('user')!);
  await undone;

  const restarted = inForce('vm/cpus', '4');
  await supervisor.restart();
  await restarted;
  t.same(supervisor.status().pendingRestart, []);
  await supervisor.release();
  mirror.unsubscribe();
  await close();
});
