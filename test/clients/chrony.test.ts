/** The gateway's clock as DHCP tells of it and as chrony reads it, in a namespace. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'busybox-static', proof: '/bin/busybox' },
  { name: 'chrony', proof: 'chronyd' },
  { name: 'iproute2', proof: 'ip' },
]);

t.setTimeout(180_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-chrony-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('chrony takes its time from the server that DHCP names (option 42), and by IPv6', async (t) => {
  const lease = join(folder, 'lease');
  const told = join(folder, 'ntp-servers');
  writeFileSync(lease, `#!/bin/sh\n[ "$1" != bound ] || echo "$ntpsrv" > ${told}\n`, { mode: 0o755 });
  // chrony wants folders of its own that nobody else may write to, and reads the time without setting it.
  const script = `
    busybox udhcpc -f -q -n -i tap0 -O ntpsrv -s ${lease} >&2 &&
    for server in $(cat ${told}) $(getent ahostsv6 gateway.docker.internal | sed 's/ .*//;q'); do
      chronyd -Q -u "$(id -un)" -t 60 'pidfile ${folder}/pid' 'cmdport 0' 'bindcmdaddress /' \\
        "server $server iburst maxsamples 1" || exit
    done`;
  const { status, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', launcher, 'net', 'run', 'sh', '-c', script], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  t.equal(status, 0, stderr);
  const found = [...stderr.matchAll(/System clock wrong by (-?[\d.]+) seconds/g)];
  t.equal(found.length, 2, stderr);
  for (const [, seconds] of found) t.ok(Math.abs(Number(seconds)) < 10, `off by ${seconds} s`);
});
