/**
 * `slipway net run`: a command in a user and network namespace of its own, whose only way out is the network core. The
 * namespace is made by `unshare`, so that it works for an ordinary user; the process that enters it becomes the command
 * (namespace-program.ts), so the command is our child: signals to us are passed on, and its status becomes ours.
 *
 * Everything ends with the command: what it left running in the namespace is killed, what its sockets had accepted is
 * still delivered (a host's kernel would do no less), and the core goes.
 */

import { readdirSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { HelperError, startHelper } from '../hypervisor/link/namespace-helper.ts';
import { TapLink } from '../hypervisor/link/tap.ts';
import { inForeground } from '../hypervisor/link/terminal.ts';
import { Network } from '../network.ts';
import { startCapture } from './capture.ts';
import {
  type CoreOptions,
  coreHelp,
  coreOptions,
  firstGuest,
  guestResolvConf,
  openToHost,
  readCoreOptions,
  usage,
} from './core-options.ts';
import { namespaceRemedy } from './namespace-remedy.ts';
import { startRecording } from './recording.ts';
import { UsageError } from './usage-error.ts';

const help = `usage: slipway net run [OPTIONS] [--] COMMAND [ARGUMENT...]

Runs COMMAND in a new user and network namespace (Linux) whose only way out is the network core: no rights beyond
the user's own are needed. Inside, the user is mapped to root, the first guest's address is set, and /etc/resolv.conf
points at the core's DNS. The exit status is COMMAND's (128 and the signal's number, where one ended it).

${coreHelp}  --no-offload          without checksum and segmentation offload, for comparison
  -h, --help            show this help

Example:
  $ slipway net run -- curl https://example.org/
  $ slipway net run --publish 8080:80 -- python3 -m http.server 80
`;

const FORWARDED = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGWINCH',
] as const;
/** Those that a terminal sends to everybody in its foreground. */
const FROM_TERMINAL = new Set<NodeJS.Signals>(['SIGINT', 'SIGQUIT', 'SIGWINCH', 'SIGCONT']);
/** How long what the command has sent may stand still before it is given up. */
const DRAIN_MS = 2000;
const LOOK_MS = 10;

interface RunOptions extends CoreOptions {
  readonly command: readonly string[];
  readonly offload: boolean;
}

export async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  if (!options) {
    process.stdout.write(help);
    return 0;
  }
  if (process.platform !== 'linux') throw new Error("'net run' is for Linux: this system has no network namespaces");
  const recording = await startRecording(options, options.record, report);
  const network = new Network({ ...options, ...recording.network });
  let endCapture = async (): Promise<void> => undefined;
  try {
    endCapture = await startCapture(network, options.capture, report);
    return await runIn(network, options);
  } finally {
    network.close();
    recording.end();
    await endCapture();
    // Flows that are still open would keep the process.
    setImmediate(() => process.exit());
  }
}

/** To whoever started it. */
const report = (line: string): void => void process.stderr.write(`slipway: ${line}\n`);

async function runIn(network: Network, options: RunOptions): Promise<number> {
  const { mtu, offload, command } = options;
  const helper = startHelper(
    ['unshare', '--user', '--map-root-user', '--net', '--mount', '--'],
    {
      name: 'tap0',
      offload,
      addresses: firstGuest(network, options),
      resolvConf: guestResolvConf(network, options),
    },
    command,
  );
  const { child } = helper;
  const forward = (signal: NodeJS.Signals): void => {
    if (!FROM_TERMINAL.has(signal) || !inForeground()) child.kill(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
  let namespace: string;
  let endApi = async (): Promise<void> => undefined;
  try {
    const tap = await helper.tap;
    namespace = readlinkSync(`/proc/${child.pid}/ns/net`);
    network.attach(new TapLink(tap.fd, { name: tap.name, mtu, offload }));
    endApi = await openToHost(network, options, report);
  } catch (error) {
    child.kill('SIGKILL');
    if (error instanceof HelperError && error.signal) return ended;
    throw error instanceof HelperError ? new Error(namespaceRemedy(error.said)) : error;
  }
  for (const line of helper.warnings()) report(line);
  helper.go();
  const status = await ended;
  for (const signal of FORWARDED) process.off(signal, forward);
  await killAll(namespace);
  await drain(network);
  await endApi();
  return status;
}

function parse(argv: readonly string[]): RunOptions | undefined {
  const options = {
    ...coreOptions,
    help: { type: 'boolean', short: 'h' },
    'no-offload': { type: 'boolean' },
  } as const;
  const at = commandAt(argv, options);
  const { values, tokens } = usage(() => parseArgs({ args: argv.slice(0, at), options, tokens: true }));
  if (values.help) return undefined;
  const command = argv.slice(argv[at] === '--' ? at + 1 : at);
  if (command.length === 0) throw new UsageError("say what to run: slipway net run -- COMMAND; '--help' explains");
  return { ...readCoreOptions(values, tokens), command, offload: !values['no-offload'] };
}

/** Where our own options end: at '--', or at the first word that is neither an option nor an option's value. */
function commandAt(argv: readonly string[], options: Readonly<Record<string, { readonly type: string }>>): number {
  let at = 0;
  while (at < argv.length && argv[at]!.startsWith('-') && argv[at] !== '--') {
    const takesValue = options[argv[at]!.slice(2)]?.type === 'string';
    at += takesValue ? 2 : 1;
  }
  return Math.min(at, argv.length);
}

/** Kills whoever is still in the network namespace: without the core there is no network for them. */
async function killAll(namespace: string): Promise<void> {
  for (;;) {
    let found = false;
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      try {
        if (readlinkSync(`/proc/${pid}/ns/net`) !== namespace) continue;
        process.kill(Number(pid), 'SIGKILL');
        found = true;
      } catch {
        // Another user's, or gone.
      }
    }
    if (!found) return;
    await sleep(LOOK_MS);
  }
}

/** Waits until what the guest's sockets hold has reached the host, as long as it moves. */
async function drain(network: Network): Promise<void> {
  let before = '';
  for (let stillMs = 0; stillMs < DRAIN_MS; stillMs += LOOK_MS) {
    const flows = network.flows().filter(({ protocol, state }) => protocol === 'tcp' && state !== 'TIME-WAIT');
    if (flows.length === 0) return;
    const now = flows.map(({ guest, peer, state, octetsToHost }) => [guest, peer, state, octetsToHost]).join();
    if (now !== before) stillMs = 0;
    before = now;
    await sleep(LOOK_MS);
  }
}
