/**
 * The command line's front door: finds the command, loads only its module, and turns its outcome into an exit status:
 * 0 ok, 1 failure with one clear line on stderr, 2 wrong usage.
 */

import module from 'node:module';
import { UsageError } from './usage-error.ts';

module.enableCompileCache();

interface CommandEntry {
  readonly summary: string;
  readonly load: () => Promise<{ run(argv: readonly string[]): Promise<number> }>;
}

/** Name (one or two words) to module. Each module's `run` gets the arguments after its name. */
const commands: Readonly<Record<string, CommandEntry>> = {
  up: { summary: 'start the VM and wait until Docker answers', load: () => import('./up.ts') },
  down: { summary: 'stop the VM and everything of this instance', load: () => import('./down.ts') },
  restart: { summary: 'stop the VM and start it again', load: () => import('./restart.ts') },
  pause: { summary: 'stop the virtual CPUs', load: () => import('./pause.ts') },
  resume: { summary: 'let a paused VM go on', load: () => import('./resume.ts') },
  status: { summary: 'show the state of the VM, Docker, ports and sockets', load: () => import('./status.ts') },
  proof: { summary: 'run a container and fetch its page from localhost', load: () => import('./proof.ts') },
  logs: { summary: 'show logs', load: () => import('./logs.ts') },
  shell: { summary: 'open a root shell in the VM, or run a command there', load: () => import('./shell.ts') },
  reset: { summary: 'remove images, containers, volumes, logs, settings', load: () => import('./reset.ts') },
  config: { summary: 'read and change settings; their history, undo, watch', load: () => import('./config.ts') },
  'ports list': { summary: 'list published ports', load: () => import('./ports.ts') },
  context: { summary: "install or remove the docker context 'slipway'", load: () => import('./context.ts') },
  image: { summary: 'build the guest image, or renew its lock file', load: () => import('./image.ts') },
  'net serve': { summary: 'run the network core alone on an attachment', load: () => import('./net-serve.ts') },
  'net run': { summary: 'run a command whose only network is the core', load: () => import('./net-run.ts') },
  'net replay': { summary: 'run the core over a recording and compare', load: () => import('./net-replay.ts') },
  'net capture': { summary: "write the network's frames as pcapng", load: () => import('./net-capture.ts') },
  'net flows': {
    summary: 'show what flows, what it waits for, what was dropped',
    load: () => import('./net-flows.ts'),
  },
  'net conditions': {
    summary: 'make the network worse, or show how bad it is',
    load: () => import('./net-conditions.ts'),
  },
  'net dns': { summary: 'show whom names are asked of, and how queries went', load: () => import('./net-dns.ts') },
  'net policy': {
    summary: 'show what the guest may reach; check which rule decides',
    load: () => import('./net-policy.ts'),
  },
  daemon: { summary: "run the platform in the foreground (what 'up' starts)", load: () => import('./daemon.ts') },
};

function help(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const rows = Object.entries(commands).map(([name, entry]) => `  ${name.padEnd(width)}  ${entry.summary}`);
  return `usage: slipway COMMAND [OPTIONS]\n\n${rows.join('\n')}\n\n'slipway COMMAND --help' explains each, with an example; 'slipway --version' prints the version.\n`;
}

async function main(argv: readonly string[]): Promise<number> {
  const [first = '--help', second = ''] = argv;
  if (['--help', '-h', 'help'].includes(first)) {
    process.stdout.write(help());
    return 0;
  }
  if (['--version', '-V', 'version'].includes(first)) {
    const { ownVersion } = await import('./own-version.ts');
    process.stdout.write(`slipway ${ownVersion()}\n`);
    return 0;
  }
  const name = [`${first} ${second}`, first].find((words) => Object.hasOwn(commands, words));
  if (name === undefined) {
    const family = Object.keys(commands).filter((words) => words.startsWith(`${first} `));
    if (family.length > 0) throw new UsageError(`say which: slipway ${family.join(', slipway ')}`);
    throw new UsageError(`there is no command '${first}'; 'slipway --help' lists them`);
  }
  const command = await commands[name]!.load();
  return command.run(argv.slice(name.split(' ').length));
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`slipway: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
