/** traceroute of a guest through a chain of routers, each a namespace with the kernel's own forwarding. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'busybox-static', proof: '/bin/busybox' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'util-linux', proof: 'setpriv' },
]);

const folder = mkdtempSync(join(tmpdir(), 'slipway-traceroute-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const fifo = join(folder, 'up');
execFileSync('mkfifo', [fifo]);

const launcher = join(import.meta.dirname, '../../bin/slipway');

/**
 * The host is 10.81.0.1; behind it router 10.81.0.2, behind that 10.82.0.2, behind that 10.83.0.2, which has no
 * listeners. `ping` decides whether the host lets its users ping.
 */
const chain = (ping: 'ping' | 'no ping', command: string): string => `
set -e
${ping === 'ping' ? `echo '0 0' > /proc/sys/net/ipv4/ping_group_range` : '# a new namespace lets nobody'}
ip link set lo up
pids=
trap 'kill $pids' EXIT
namespace() { unshare --net sh -c 'ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward; echo up; exec sleep 1000' > ${fifo} & }
wire() { # FROM-PID FROM-ADDRESS TO-PID TO-ADDRESS
  ip link add near type veth peer name far
  ip link set near netns $1 name v$3
  ip link set far netns $3 name v$1
  nsenter -t $1 -n sh -c "ip addr add $2/24 dev v$3; ip link set v$3 up"
  nsenter -t $3 -n sh -c "ip addr add $4/24 dev v$1; ip link set v$1 up"
}
for n in 1 2 3; do
  namespace
  eval "router$n=$!"
  pids="$pids $!"
  read -r up < ${fifo}
done
wire $$ 10.81.0.1 $router1 10.81.0.2
wire $router1 10.82.0.1 $router2 10.82.0.2
wire $router2 10.83.0.1 $router3 10.83.0.2
ip route add default via 10.81.0.2
nsenter -t $router1 -n ip route add 10.83.0.0/24 via 10.82.0.2
nsenter -t $router2 -n ip route add 10.81.0.0/24 via 10.82.0.1
nsenter -t $router3 -n ip route add default via 10.83.0.1
${launcher} net run sh -c '${command}'
`;

function run(ping: 'ping' | 'no ping', command: string) {
  const shell = ['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', chain(ping, command)];
  return spawnSync('env', ['-u', 'NODE_OPTIONS', ...shell], {
    encoding: 'utf8',
    timeout: 120_000,
  });
}

const hops = (output: string): string[] => [...output.matchAll(/^ *\d+ {2}(\S+)/gm)].map(([, address]) => address!);

t.test('by datagrams and by echo requests: every router on the way, and who is asked for', async (t) => {
  const trace = 'busybox traceroute -n -q 1 -w 10 -m 8';
  const { stdout, stderr, status } = run(
    'ping',
    `${trace} 10.83.0.2; echo; ${trace} -I 10.83.0.2; echo; ping -c 1 -W 10 -t 3 10.83.0.2; ping -c 1 -W 10 -t 4 10.83.0.2`,
  );
  t.equal(status, 0, stderr);
  const way = ['192.168.65.1', '10.81.0.2', '10.82.0.2', '10.83.0.2'];
  const [byDatagrams = '', byEchoes = '', ...pings] = stdout.split('\n\n');
  t.same(hops(byDatagrams), way, 'by datagrams');
  t.same(hops(byEchoes), way, 'by echo requests');
  t.match(pings.join('\n'), /From 10\.82\.0\.2 .*Time to live exceeded[\s\S]*1 received/, 'ping hears of it too');
});

t.test('where the host lets nobody ping, its guests are told so', async (t) => {
  const { stdout, status } = run('no ping', 'ping -c 1 -W 10 10.83.0.2');
  t.equal(status, 1);
  t.match(stdout, /From 192\.168\.65\.1 .*(?:Packet filtered|prohibited)/i);
});
