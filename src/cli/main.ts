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
  'net serve': { summary: 'run the network core alone on an attachment', load: () => import('./net-serve.ts') },
};

function help(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const rows = Object.entries(commands).map(([name, entry]) => `  ${name.padEnd(width)}  ${entry.summary}`);
  return `usage: slipway COMMAND [OPTIONS]\n\n${rows.join('\n')}\n\n'slipway COMMAND --help' explains each, with an example.\n`;
}

async function main(argv: readonly string[]): Promise<number> {
  if (argv.length === 0 || argv[0] === '--help' || argv[0] === '-h' || argv[0] === 'help') {
    process.stdout.write(help());
    return 0;
  }
  const two = `${argv[0]} ${argv[1] ?? ''}`;
  const words = two in commands ? 2 : 1;
  const entry = words === 2 ? commands[two] : commands[argv[0]!];
  if (!entry) throw new UsageError(`there is no command '${argv[0]}'; 'slipway --help' lists them`);
  const command = await entry.load();
  return command.run(argv.slice(words));
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
