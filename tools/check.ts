/** `npm run check`: format and lint, types, then every test (the import rule is one). What CI runs. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const steps: readonly (readonly [string, readonly string[]])[] = [
  ['format and lint', [bin('biome'), 'ci', '--error-on-warnings', '.']],
  ['types', [bin('tsc'), '--noEmit']],
  ['tests', [process.execPath, join(root, 'tools/test.ts')]],
];

for (const [name, [command, ...argv]] of steps) {
  console.log(`== ${name}`);
  const status = spawnSync(command!, argv, { cwd: root, stdio: 'inherit' }).status;
  if (status === 0) continue;
  if (name !== 'tests') console.log(`${name}: failed\n0 passed, 1 failed`);
  process.exit(1);
}
