/** How every bench reports: a table on the terminal, the same rows as JSON where `npm run bench` asks for them. */

import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';

export interface Row {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** Against the baseline or rival measured in the same run: ours / theirs. */
  readonly ratio?: number;
  readonly baseline?: string;
}

/** Prints `rows` and keeps them, with the machine and the runtime, in the file that BENCH_JSON names. */
export function report(title: string, rows: readonly Row[]): void {
  const cells = rows.map((row) => [
    row.name,
    row.value >= 1000 ? row.value.toFixed(0) : row.value.toPrecision(4),
    row.unit,
    row.ratio === undefined ? '' : `${row.ratio.toFixed(2)} x ${row.baseline ?? ''}`,
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(0, ...cells.map((row) => row[column]!.length)));
  console.log(title);
  for (const [name, value, unit, ratio] of cells)
    console.log(
      `  ${name!.padEnd(widths[0]!)}  ${value!.padStart(widths[1]!)} ${unit!.padEnd(widths[2]!)}  ${ratio}`.trimEnd(),
    );
  if (!process.env.BENCH_JSON) return;
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, kernel: release(), node: process.version };
  writeFileSync(
    process.env.BENCH_JSON,
    `${JSON.stringify({ title, date: new Date().toISOString(), machine, rows }, null, 2)}\n`,
  );
}
