/** Link-local neighbours of the host, which have a zone: as name servers, and as clients of published ports. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'bind9-dnsutils', proof: 'dig' },
  { name: 'busybox-static', proof: '/bin/busybox' },
  { name: 'dnsmasq-base', proof: 'dnsmasq' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'socat', proof: 'socat' },
  { name: 'util-linux', proof: 'setpriv' },
]);

t.setTimeout(180_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-link-local-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const fifo = join(folder, 'up');
execFileSync('mkfifo', [fifo]);
const resolvConf = join(folder, 'resolv.conf');

/** The host is fe80::1 on `wire`; at its other end fe80::53, which `far` runs commands at, has a name server. */
const world = (script: string): string => `
set -e
ip link set lo up
unshare --net sh -c 'ip link set lo up; echo up; exec sleep 1000' > ${fifo} & pids=$!
trap 'kill $pids 2>/dev/null || true; wait' EXIT
read -r up < ${fifo}
far="nsenter -t $pids -n"
ip link add wire type veth peer name far netns $pids
for side in 'wire fe80::1' '-n far fe80::53'; do
  set -- $side
  in=; if [ $1 = -n ]; then in=$far; shift; fi
  $in ip link set $1 addrgenmode none
  $in ip addr add $2/64 dev $1 nodad
  $in ip link set $1 up
done
$far dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --interface=far --bind-interfaces \\
  --host-record=web.test,198.18.1.1 2> /dev/null & pids="$pids $!"
until $far ss -lun | grep -q fe80::53; do sleep 0.05; done
${script}
`;

function run(script: string) {
  const words = ['-u', 'NODE_OPTIONS', 'unshare', '--user', '--map-root-user', '--net', 'sh', '-c', world(script)];
  return spawnSync('env', words, { encoding: 'utf8', timeout: 150_000 });
}

t.test('a name server with a zone is asked, by UDP and by TCP, and shown with it', async (t) => {
  writeFileSync(resolvConf, 'nameserver fe80::53%wire\n');
  const api = join(folder, 'api.sock');
  const guest = `dig +short web.test; dig +short +tcp web.test; dig +noall +comments none.test`;
  const { stdout, stderr, status } = run(`
    ${launcher} net run --dns ${resolvConf} --api ${api} -- sh -c '${guest}; ${launcher} net dns --api ${api}'
    ${launcher} net run --dns fe80::53%wire -- dig +short web.test
    ${launcher} net run --dns fe80::53%wire --deny 'fe80::53' -- dig +noall +comments web.test`);
  t.equal(status, 0, stderr);
  t.match(stdout, /^198\.18\.1\.1\n198\.18\.1\.1\n/);
  t.match(stdout, /^names are asked of fe80::53%wire$/m);
  t.match(stdout, /^198\.18\.1\.1\n.*status: REFUSED/ms, 'by the setting too, and a rule about its address holds');
});

t.test('one whose interface is not there is left out, and asked when it is', async (t) => {
  writeFileSync(resolvConf, 'nameserver fe80::53%later\n');
  const ready = join(folder, 'renamed');
  execFileSync('mkfifo', [ready]);
  const guest = `dig +noall +comments web.test; echo > ${ready}; until dig +short web.test | grep 198; do sleep 0.2; done`;
  const { stdout, stderr, status } = run(`
    { read -r line < ${ready}; ip link set wire down; ip link set wire name later
      ip addr replace fe80::1/64 dev later nodad; ip link set later up; } & pids="$pids $!"
    ${launcher} net run --dns ${resolvConf} -- sh -c '${guest}'`);
  t.equal(status, 0, stderr);
  t.match(stdout, /status: SERVFAIL[\s\S]*\n198\.18\.1\.1\n$/);
});

t.test('published ports let link-local clients in, TCP and UDP, and rules about them or the port hold', async (t) => {
  const serve = `socat -T 20 UDP4-LISTEN:80,fork SYSTEM:"read hello; echo datagram" & socat TCP4-LISTEN:80,fork SYSTEM:"read hello; echo stream" &`;
  const ask = (protocol: string): string =>
    `$far sh -c "echo hello | timeout 10 socat -t 2 - ${protocol}6:[fe80::1%far]:8080 2>&1 || echo failed"`;
  const script = (...rules: string[]): string => `
    ${launcher} net run --publish tcp:[::]:8080:80 --publish udp:[::]:8080:80 ${rules.map((rule) => `--deny '${rule}'`).join(' ')} -- \\
      sh -c '${serve} until ss -ltnu | grep -c :80 | grep -q 2; do sleep 0.05; done; echo > ${fifo}; sleep 1000' & core=$!
    read -r up < ${fifo}
    ${ask('TCP')}; ${ask('UDP')}
    kill $core; wait $core || true`;
  const { stdout, stderr, status } = run(script());
  t.equal(status, 0, stderr);
  t.equal(stdout, 'stream\ndatagram\n', stderr);
  for (const rule of ['in fe80::/10', 'in fe80::53', 'in any port 8080']) {
    const { stdout, stderr } = run(script(rule));
    t.notMatch(stdout, /stream|datagram/, `${rule}: ${stderr}`);
  }
});
