/**
 * From cold to Docker: the steps of the first start, and of a second one that finds it running. Seconds of the wall
 * clock; the boot's rows are the guest's own marks, in seconds from the hypervisor's start.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Row, report } from './table.ts';

const slipway = join(import.meta.dirname, '../bin/slipway');
const home = mkdtempSync(join(tmpdir(), 'slipway-bench-'));
const env = { ...process.env, SLIPWAY_HOME: home };

function seconds(...argv: string[]): number {
  const started = performance.now();
  execFileSync(slipway, argv, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  return (performance.now() - started) / 1000;
}

try {
  const rows: Row[] = [{ name: 'up, cold (image built)', value: seconds('up'), unit: 's' }];
  const status = JSON.parse(execFileSync(slipway, ['status', '--json'], { env, encoding: 'utf8' }));
  for (const [mark, value] of Object.entries(status.boot as Record<string, number>))
    rows.push({ name: `boot: ${mark}`, value, unit: 's' });
  rows.push({ name: 'proof, first', value: seconds('proof'), unit: 's' });
  const again = seconds('up');
  rows.push({ name: 'up, running', value: again, unit: 's', ratio: again / rows[0]!.value, baseline: 'cold' });
  rows.push({ name: 'proof, again', value: seconds('proof'), unit: 's' });
  rows.push({ name: 'down', value: seconds('down'), unit: 's' });
  report('Start', rows);
} finally {
  execFileSync(slipway, ['down'], { env, stdio: 'ignore' });
  rmSync(home, { recursive: true, force: true });
}
