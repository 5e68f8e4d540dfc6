/**
 * How a command of the command line is made: commander's parser with this project's manners. Wrong usage is a
 * `UsageError` (status 2); `--help` ends with an example.
 */

import { Command, CommanderError } from 'commander';
import { UsageError } from './usage-error.ts';

/** A command named `slipway NAME`; `example` is shown at the end of its help. */
export function command(name: string, summary: string, example: string): Command {
  return new Command(`slipway ${name}`)
    .description(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`)
    .helpOption('-h, --help', 'show this help')
    .addHelpText('after', `\nExample:\n${example.replace(/^/gm, '  $ ')}`)
    .allowExcessArguments(false)
    .configureOutput({ writeErr: () => undefined })
    .exitOverride();
}

/** Parses `argv` and runs the command's action; its exit status. */
export async function runCommand(program: Command, argv: readonly string[]): Promise<number> {
  let status = 0;
  program.hook('postAction', () => {
    status = Number(process.exitCode ?? 0);
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    if (error.code === 'commander.help') throw new UsageError(`say which: '${program.name()} --help' lists them`);
    throw new UsageError(error.message.replace(/^error: /, ''));
  }
  return status;
}

/** Prints data for programs. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** Prints rows in columns, under their titles. */
export function printTable(titles: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [titles, ...rows]) {
    const cells = row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!)));
    process.stdout.write(`${cells.join('  ')}\n`);
  }
}
