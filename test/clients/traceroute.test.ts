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
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'iputils-tracepath', proof: 'tracepath' },
  { name: 'mtr-tiny', proof: 'mtr' },
  { name: 'traceroute', proof: 'traceroute' },
  { name: 'util-linux', proof: 'setpriv' },
]);

const folder = mkdtempSync(join(tmpdir(), 'slipway-traceroute-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const fifo = join(folder, 'up');
execFileSync('mkfifo', [fifo]);

t.setTimeout(180_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');

/**
 * The host is 10.81.0.1 and fd00:81::1; behind it router 10.81.0.2, behind that 10.82.0.2, behind that 10.83.0.2, which
 * has no listeners; in IPv6 as in IPv4. `ping` decides whether the host lets its users ping.
 */
const chain = (ping: 'ping' | 'no ping', command: string): string => `
set -e
${ping === 'ping' ? `echo '0 0' > /proc/sys/net/ipv4/ping_group_range` : '# a new namespace lets nobody'}
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip link set lo up
pids=
trap 'kill $pids' EXIT
namespace() { unshare --net sh -c 'ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo up; exec sleep 1000' > ${fifo} & }
wire() { # FROM-PID TO-PID NETWORK
  ip link add near type veth peer name far
  ip link set near netns $1 name v$2
  ip link set far netns $2 name v$1
  nsenter -t $1 -n sh -c "ip addr add 10.$3.0.1/24 dev v$2; ip addr add fd00:$3::1/64 dev v$2 nodad; ip link set v$2 up"
  nsenter -t $2 -n sh -c "ip addr add 10.$3.0.2/24 dev v$1; ip addr add fd00:$3::2/64 dev v$1 nodad; ip link set v$1 up"
}
for n in 1 2 3; do
  namespace
  eval "router$n=$!"
  pids="$pids $!"
  read -r up < ${fifo}
done
wire $$ $router1 81
wire $router1 $router2 82
wire $router2 $router3 83
ip route add default via 10.81.0.2
ip route add default via fd00:81::2
nsenter -t $router1 -n ip route add fd00:83::/64 via fd00:82::2
nsenter -t $router2 -n ip route add fd00:81::/64 via fd00:82::1
nsenter -t $router3 -n ip route add default via fd00:83::1
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

t.test('the same in IPv6, hop by hop', async (t) => {
  const { stdout, stderr, status } = run('ping', 'for hops in 1 2 3 4; do ping -c 1 -W 10 -t $hops fd00:83::2; done');
  t.equal(status, 0, stderr);
  const routers = [...stdout.matchAll(/^From (\S+) .*Time exceeded: Hop limit/gm)].map(([, router]) => router);
  t.match(routers, [/^fd53:.*::1$/, 'fd00:81::2', 'fd00:82::2'], stdout);
  t.match(stdout, /64 bytes from fd00:83::2/);
});

const ways = {
  '10.83.0.2': ['192.168.65.1', '10.81.0.2', '10.82.0.2', '10.83.0.2'],
  'fd00:83::2': ['fd53:6c69:c0a8:4100::1', 'fd00:81::2', 'fd00:82::2', 'fd00:83::2'],
};

/** Each program knows its probes by something else: ports, numbers, what they carry. */
for (const [name, trace] of [
  ['traceroute6 of busybox, by datagrams', 'busybox traceroute6 -n -q 1 -w 10 -m 8'],
  ['traceroute of Debian, by datagrams', 'traceroute -n -q 1 -w 10 -m 8'],
  ['traceroute of Debian, by datagrams in fragments', 'traceroute -n -q 1 -w 10 -m 8 ADDRESS 4000'],
  ['traceroute of Debian, by echo requests', 'traceroute -I -n -q 1 -w 10 -m 8'],
  ['mtr, by datagrams', 'mtr -u -n -c 1 -G 10 -r -m 8'],
  ['mtr, by echo requests', 'mtr -n -c 1 -G 10 -r -m 8'],
  ['tracepath, which finds the MTU as well', 'tracepath -n -m 8'],
] as const)
  t.test(name, async (t) => {
    const asked = Object.entries(ways).filter(([address]) => address.includes(':') || !trace.includes('traceroute6'));
    const commands = asked.map(([address]) =>
      trace.includes('ADDRESS') ? trace.replace('ADDRESS', address) : `${trace} ${address}`,
    );
    const { stdout, stderr, status } = run('ping', commands.join('; echo; '));
    t.equal(status, 0, stderr);
    const outputs = stdout.split('\n\n');
    for (const [i, [address, way]] of asked.entries()) {
      const found = [...outputs[i]!.matchAll(/^ *(\d+)(?:\.\|--|:| ) +([0-9a-f.:]+) .*/gm)];
      t.same(
        new Map(found.map(([, hop, router]) => [Number(hop), router])),
        new Map(way.map((one, k) => [k + 1, one])),
      );
      if (trace.includes('tracepath')) t.match(outputs[i], /reached\n +Resume: pmtu 1500 hops 4/, address);
    }
  });

t.test('where the host lets nobody ping, its guests are told so', async (t) => {
  const { stdout, status } = run('no ping', 'ping -c 1 -W 10 10.83.0.2');
  t.equal(status, 1);
  t.match(stdout, /From 192\.168\.65\.1 .*(?:Packet filtered|prohibited)/i);
});
