/** `slipway status`: what runs, how it booted, where its sockets are. */

import type { PlatformStatus } from '../api/port.ts';
import type { Home } from '../home.ts';
import { withApi } from './api-client.ts';
import { command, printJson, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { attachOrphan } from './instance.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('status', 'show the state of the VM, Docker, ports and sockets', 'slipway status --json')
    .option('--json', 'print everything as JSON')
    .action(async (options: { json?: boolean }) => {
      const home = currentHome();
      const status = (await withApi(home, (api) => api.statusIfRunning())) ?? (await withoutDaemon(home));
      if (options.json) printJson(status);
      else process.stdout.write(describe(status));
    });
  return runCommand(program, argv);
}

type Shown = Partial<PlatformStatus> & Pick<PlatformStatus, 'state' | 'home'>;

/** What is said of an instance whose daemon does not run; its VM may. */
async function withoutDaemon(home: Home): Promise<Shown> {
  const shown: Shown = { state: 'stopped', docker: { ready: false }, home: home.directory, ports: [], pids: {} };
  const machine = await attachOrphan(home);
  if (!machine) return shown;
  const { pid, ended: _, ...status } = machine.status();
  machine.detach();
  const reason = "its daemon is gone, and the network with it; 'slipway up' starts a new one";
  return { ...shown, ...status, reason, pids: { vmm: machine.vmmPid, ...(pid !== undefined && { hypervisor: pid }) } };
}

/** Boot steps in their order, those of the contract first. */
const steps = ['kernel', 'initramfs', 'init', 'disk', 'network', 'containerd', 'dockerd', 'docker'];

function describe(status: Shown): string {
  const rows: [title: string, value: string | undefined][] = [
    ['state', status.reason ? `${status.state}: ${status.reason}` : status.state],
    ['docker', dockerWords(status)],
    ['accelerator', withReason(status.accelerator, status.acceleratorReason)],
    ['channel', status.channel],
    ['versions', pairs(status.versions)],
    ['boot', bootWords(status.boot)],
    ['network', networkWords(status)],
    ['ports', status.ports && status.ports.length > 0 ? `${status.ports.length}, see 'slipway ports list'` : undefined],
    ['restarts', status.restarts ? String(status.restarts) : undefined],
    ['settings', settingsWords(status)],
    ['sockets', status.sockets && Object.values(status.sockets).join(' ')],
    ['pids', pairs(status.pids)],
    ['home', status.home],
  ];
  return rows
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([title, value]) => `${`${title}:`.padEnd(13)}${value}\n`)
    .join('');
}

function dockerWords({ docker }: Partial<PlatformStatus>): string | undefined {
  if (!docker) return undefined;
  return docker.ready ? `answers${docker.version ? ` (${docker.version})` : ''}` : 'does not answer';
}

function withReason(value: string | undefined, reason: string | undefined): string | undefined {
  return value && reason ? `${value} (${reason})` : value;
}

function bootWords(boot: Readonly<Record<string, number>> = {}): string {
  const place = (name: string): number => (steps.includes(name) ? steps.indexOf(name) : steps.length);
  const marks = Object.entries(boot).sort((a, b) => place(a[0]) - place(b[0]) || a[1] - b[1]);
  return marks.map(([name, seconds]) => `${name} ${seconds.toFixed(1)} s`).join(', ');
}

function networkWords({ network }: Partial<PlatformStatus>): string | undefined {
  if (!network) return undefined;
  const { subnet, mtu, connected, link, linkReason } = network;
  const parts = [subnet, `MTU ${mtu}`, ...(link ? [`by ${withReason(link, linkReason)}`] : [])];
  return [...parts, ...(connected ? [] : ['not connected'])].join(', ');
}

function settingsWords({ settingsProblem, pendingRestart }: Partial<PlatformStatus>): string | undefined {
  if (settingsProblem) return `the last good ones are in force: ${settingsProblem}`;
  return pendingRestart?.length ? `'slipway restart' puts ${pendingRestart.join(', ')} into force` : undefined;
}

function pairs(values: Readonly<Record<string, string | number>> = {}): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}
