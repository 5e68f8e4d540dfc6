/** No death of the parent, kill -9 included, leaves the child behind; and a child that ended leaves no guard. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { chooseLifeline } from '../../../src/hypervisor/watchdog/lifeline.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-lifeline-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const source = join(import.meta.dirname, '../../../src/hypervisor/watchdog/lifeline.ts');

/** Starts a child through the lifeline of its first argument, tells its process id, and ends with it. */
const parent = join(directory, 'parent.ts');
writeFileSync(
  parent,
  `import { spawn } from 'node:child_process';
   import { chooseLifeline, pipeLifeline } from ${JSON.stringify(source)};
   const lifeline = process.argv[2] === 'pipe' ? pipeLifeline : chooseLifeline('linux');
   const [program, ...argv] = lifeline.wrap(['sleep', '600']);
   const child = spawn(program, argv);
   const untie = lifeline.attach(child);
   child.on('close', untie);
   process.stdout.write(child.pid + '\\n');`,
);

function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function whenDead(pid: number): Promise<void> {
  while (alive(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

for (const kind of ['pdeathsig', 'pipe']) {
  t.test(`${kind}: the parent is killed`, async (t) => {
    const { process: it, child } = await start(kind);
    t.ok(alive(child));
    it.kill('SIGKILL');
    await whenDead(child);
    t.pass('so is the child');
  });

  t.test(`${kind}: the child ends by itself`, async (t) => {
    const { process: it, child } = await start(kind);
    const ended = new Promise((resolve) => it.on('close', resolve));
    process.kill(child, 'SIGTERM');
    t.equal(await ended, 0, 'and nothing keeps the parent');
  });
}

t.test('the kind by platform', (t) => {
  t.equal(chooseLifeline('linux').kind, 'pdeathsig', 'util-linux is on every Debian');
  t.equal(chooseLifeline('darwin').kind, 'pipe');
  t.end();
});

async function start(kind: string) {
  const it = spawn(process.execPath, [parent, kind], { stdio: ['ignore', 'pipe', 'inherit'] });
  const child = await new Promise<number>((resolve) => it.stdout.once('data', (octets) => resolve(Number(octets))));
  t.teardown(() => {
    if (alive(child)) process.kill(child, 'SIGKILL');
  });
  return { process: it, child };
}
