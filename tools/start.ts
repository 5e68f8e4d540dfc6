/** `npm start`: installs what the VM needs, brings Slipway up, proves it, and says how to use it. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ensureDebianPackages } from './debian.ts';
import { startPackages } from './packages.ts';

const slipway = join(import.meta.dirname, '../bin/slipway');

try {
  ensureDebianPackages(startPackages);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
for (const command of ['up', 'proof']) {
  const status = spawnSync(slipway, [command], { stdio: 'inherit' }).status;
  if (status !== 0) process.exit(status ?? 1);
}
