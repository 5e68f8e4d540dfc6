/** Which QEMU is taken: by what the host has, and by whether it can accelerate. */

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { atLeast, locateQemu } from '../../src/provision/qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-qemu-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** A host whose QEMU says `version`, or that has none. */
function host(version?: string): NodeJS.ProcessEnv {
  const bin = join(folder, version ?? 'none');
  mkdirSync(bin, { recursive: true });
  const programs = { 'qemu-system-x86_64': 'QEMU emulator', 'qemu-img': 'qemu-img' };
  for (const [name, title] of Object.entries(version === undefined ? {} : programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\necho '${title} version ${version} (Debian)'\n`);
    chmodSync(join(bin, name), 0o755);
  }
  return { PATH: bin };
}

const cache = join(folder, 'cache');
const locate = (version: string | undefined, accelerated: boolean) =>
  locateQemu({ arch: 'amd64', accelerated, cache, env: host(version) });

t.test("the host's own, where it is fit", async (t) => {
  t.match(await locate('10.0.13', false), { command: ['qemu-system-x86_64'], version: '10.0.13', image: ['qemu-img'] });
  t.match(await locate('11.1', false), { version: '11.1' });
  t.match(await locate('7.2.22', true), { version: '7.2.22', reason: "the host's QEMU 7.2.22 is fit" });
});

t.test('an old one serves for want of another', async (t) => {
  const { version, reason } = await locate('7.2.22', false);
  t.equal(version, '7.2.22');
  t.match(reason, /is older than 10\.0, and no other can be had: QEMU has not been fetched; 'slipway up' fetches it/);
});

t.test('none at all, or one too old for anything, is an Error that names the remedy', async (t) => {
  await t.rejects(locate(undefined, true), /the host has no QEMU, and no other can be had: .*'slipway up' fetches it/);
  await t.rejects(locate('6.2', true), /the host's QEMU 6\.2 is older than 7\.2, and no other can be had/);
});

t.test("the user's choice goes first", async (t) => {
  const env = { ...host('7.2.22'), SLIPWAY_QEMU: join(folder, '10.0.13/qemu-system-x86_64') };
  host('10.0.13');
  t.match(await locateQemu({ arch: 'amd64', accelerated: false, cache, env }), {
    command: [env.SLIPWAY_QEMU],
    version: '10.0.13',
    reason: 'SLIPWAY_QEMU names it',
  });
  const wrong = { ...env, SLIPWAY_QEMU: '/bin/true' };
  await t.rejects(
    locateQemu({ arch: 'amd64', accelerated: false, cache, env: wrong }),
    /names \/bin\/true, which is no QEMU/,
  );
});

t.test("Debian 13's, unpacked beside the host's", async (t) => {
  const progress = { step: <T>(_: string, work: () => Promise<T>): Promise<T> => work(), detail: () => undefined };
  // The real cache: what `slipway up` has fetched serves here.
  const located = await locateQemu({ arch: 'amd64', accelerated: false, progress, env: host('7.2.22') });
  t.ok(atLeast(located.version, [10, 0]), located.reason);
  t.match(located.command[0], /\/ld-linux-x86-64\.so\.2$/);
});

t.test('versions are compared as numbers', async (t) => {
  t.ok(atLeast('10.0', [7, 2]));
  t.ok(atLeast('7.10.1', [7, 2]));
  t.notOk(atLeast('7.1.99', [7, 2]));
});
