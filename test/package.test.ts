/** What is published works where it lands: packed, installed into an empty folder, run and imported from there. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'slipway-package-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
t.setTimeout(180_000);

function run(cwd: string, command: string, ...argv: string[]): string {
  return execFileSync(command, argv, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

t.test('pack and install into an empty folder', (t) => {
  run(root, process.execPath, join(root, 'tools/build.ts'));
  run(root, 'npm', 'pack', '--silent', '--pack-destination', folder);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  t.ok(tarball);
  writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true, "type": "module" }');
  run(folder, 'npm', 'install', '--silent', '--no-audit', '--no-fund', '--prefer-offline', `./${tarball}`);
  t.end();
});

t.test('npx slipway --help', (t) => {
  t.match(run(folder, 'npx', 'slipway', '--help'), /^usage: slipway COMMAND/);
  t.match(run(folder, 'npx', 'slipway', 'net', 'serve', '--help'), /--qemu/);
  t.end();
});

t.test('the library is imported by its public names', (t) => {
  writeFileSync(
    join(folder, 'use.js'),
    `import { Netstack } from 'slipway/stack';
     import * as proxy from 'slipway/proxy';
     import * as link from 'slipway/link';
     import * as all from 'slipway';
     console.log(typeof Netstack, Object.keys(proxy).length > 0, Object.keys(link).length > 0, typeof all.Netstack);`,
  );
  const node = join(folder, 'node_modules/node/bin/node');
  t.equal(run(folder, node, 'use.js').trim(), 'function true true function');
  t.end();
});
