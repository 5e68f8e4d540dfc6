/**
 * How soon `slipway net serve` is ready, and what it keeps resident a second later, against a Node that does nothing.
 * Medians; the compile cache is warm from the first start, which is not counted.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { median } from './report/race.ts';
import { type Row, report } from './table.ts';

const STARTS = 7;
const slipway = join(import.meta.dirname, '../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-bench-'));

function residentMb({ pid }: ChildProcess): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Milliseconds until the first line, and MB a second after it; medians. */
async function measure(program: string, argv: readonly string[]): Promise<{ ready: number; resident: number }> {
  const ready: number[] = [];
  const resident: number[] = [];
  for (let i = 0; i <= STARTS; i++) {
    const started = performance.now();
    const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    const took = performance.now() - started;
    await setTimeout(1000);
    if (i > 0) {
      ready.push(took);
      resident.push(residentMb(child));
    }
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }
  return { ready: median(ready), resident: median(resident) };
}

try {
  const idle = 'console.log("ready"); setInterval(() => undefined, 1e6)';
  const node = await measure(process.execPath, ['-e', idle]);
  const ours = await measure(slipway, ['net', 'serve', '--qemu', join(folder, 'net.sock')]);
  const row = (name: string, unit: string, value: number, baseline: number): Row[] => [
    { name: `node, ${name}`, value: baseline, unit },
    { name: `slipway net serve, ${name}`, value, unit, ratio: value / baseline, baseline: 'node' },
  ];
  report('Start-up', [
    ...row('ready', 'ms', ours.ready, node.ready),
    ...row('resident', 'MB', ours.resident, node.resident),
  ]);
} finally {
  rmSync(folder, { recursive: true });
}
