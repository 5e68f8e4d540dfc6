// The first step of every npm script, in plain JavaScript that an older Node runs too: brings node_modules in line
// with package-lock.json, then hands over to tools/NAME.ts on the Node that package.json names.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [name, ...argv] = process.argv.slice(2);
const stamp = join(root, 'node_modules', '.slipway-lock');
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  if (lstatSync(dirname(stamp), { throwIfNoEntry: false })?.isSymbolicLink()) {
    console.error('node_modules is a symbolic link, and what it leads to is out of date: run the command there first.');
    process.exit(1);
  }
  console.log('Installing npm packages (about half a minute) ...');
  const started = Date.now();
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: 'inherit' });
  if (npm.status !== 0) {
    console.error('npm ci failed (see above); remedy the cause, then run the same command again.');
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
  console.log(`npm packages installed in ${Math.round((Date.now() - started) / 1000)} s.`);
}

const node = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
const child = spawnSync(node, [join(root, 'tools', `${name}.ts`), ...argv], { cwd: root, stdio: 'inherit' });
process.exit(child.status ?? 1);
