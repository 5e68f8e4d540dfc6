/**
 * `slipway logs`: the logs of the host's processes, the VM's console, and, while the VM runs, of dockerd and containerd
 * in the guest.
 */

import type { Home } from '../home.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { followFile } from './follow-file.ts';
import { runInGuest } from './guest-channel.ts';
import { UsageError } from './usage-error.ts';

type Write = (octets: Buffer) => void;
type Source = (home: Home, write: Write, signal?: AbortSignal) => Promise<void>;

const file =
  (path: (home: Home) => string): Source =>
  (home, write, signal) =>
    followFile(path(home), write, signal);

const guestFile =
  (path: string): Source =>
  async (home, write, signal) => {
    const follow = signal ? ' -f' : '';
    const stop = signal ? { signal } : {};
    await runInGuest(home, { command: `exec tail -n 2000${follow} ${path}`, stdout: write, stderr: write, ...stop });
  };

const components: Readonly<Record<string, Source>> = {
  slipway: file((home) => home.daemonLog),
  vmm: file((home) => home.vmmLog),
  console: file((home) => home.consoleLog),
  dockerd: guestFile('/var/log/dockerd.log'),
  containerd: guestFile('/var/log/containerd.log'),
};
const onHost = ['slipway', 'vmm', 'console'];

export async function run(argv: readonly string[]): Promise<number> {
  const names = Object.keys(components).join(', ');
  const program = command('logs', 'show logs', 'slipway logs -f dockerd')
    .argument('[component]', `one of ${names}; without one, all of the host's`)
    .option('-f, --follow', 'go on with what is added')
    .action(async (component: string | undefined, options: { follow?: boolean }) => {
      if (component !== undefined && !Object.hasOwn(components, component))
        throw new UsageError(`there is no component '${component}'; the components are ${names}`);
      await show(component === undefined ? onHost : [component], options.follow === true);
    });
  return runCommand(program, argv);
}

async function show(names: readonly string[], follow: boolean): Promise<void> {
  const home = currentHome();
  const stop = new AbortController();
  process.stdout.once('error', () => stop.abort());
  const one = (name: string): Promise<void> => {
    const write = names.length === 1 ? (octets: Buffer) => void process.stdout.write(octets) : prefixed(name);
    return components[name]!(home, write, follow ? stop.signal : undefined);
  };
  if (follow) await Promise.all(names.map(one));
  else for (const name of names) await one(name);
}

/** Whole lines with their component's name before them. */
function prefixed(name: string): Write {
  let rest = '';
  return (octets) => {
    const lines = (rest + octets.toString('utf8')).split('\n');
    rest = lines.pop()!.slice(-10_000);
    for (const line of lines) process.stdout.write(`${name} | ${line}\n`);
  };
}
