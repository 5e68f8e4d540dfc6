/**
 * IPv6 by `slipway net run`, as real programs see it. The host is a namespace too: it has ::1 and 127.0.0.1, an address
 * of its own, and no way to the rest of the world, whatever the machine that the test runs on has.
 */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'curl', proof: 'curl' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'socat', proof: 'socat' },
  { name: 'bind9-dnsutils', proof: 'dig' },
  { name: 'ndisc6', proof: 'rdisc6' },
]);

const NET = 'fd53:6c69:c0a8:4100';
const environment = {
  SLIPWAY: join(import.meta.dirname, '../../bin/slipway'),
  NODE: process.execPath,
  DHCPV6: join(import.meta.dirname, 'dhcpv6-program.ts'),
  NET,
};

/** Runs a script in a host of its own; what it said. `guest` is a function of the shell: a script in the guest. */
function onHost(script: string): Promise<string> {
  const prepared = `
    set -u
    echo '0 0' > /proc/sys/net/ipv4/ping_group_range
    ip link set lo up && ip addr add fd99::1/128 dev lo
    guest() { "$SLIPWAY" net run "$@"; }
    # Servers: until one listens, nobody is to come.
    listening() { until ss -Hltun "sport = :$1" | grep -q .; do sleep 0.1; done; }
    ${script}`;
  const { NODE_OPTIONS: _, ...inherited } = process.env;
  const child = spawn('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', prepared], {
    env: { ...inherited, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  // What the script has left running is of its process group; if anything.
  child.once('exit', () => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {}
  });
  let said = '';
  child.stdout.on('data', (octets) => {
    said += octets;
  });
  child.stderr.on('data', (octets) => {
    said += octets;
  });
  return new Promise((resolve) => child.once('close', () => resolve(said)));
}

t.test('a guest has IPv6 beside IPv4', async (t) => {
  const said = await onHost(`
    socat TCP6-LISTEN:8086,bind=[::1],fork,reuseaddr SYSTEM:'echo at-six' &
    socat TCP4-LISTEN:8084,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo at-four' &
    socat UDP6-RECVFROM:8086,bind=[::1],fork EXEC:cat &
    socat UDP4-RECVFROM:8084,bind=127.0.0.1,fork EXEC:cat &
    "$NODE" -e "require('http').createServer((_, r) => r.end('from-host')).listen(80, 'fd99::1')" &
    for port in 80 8084 8086; do listening $port; done
    guest -- sh -c '
      ip -6 -o addr show dev tap0
      ip -6 route
      alias=$NET::2
      echo "names $(dig +short AAAA host.docker.internal @$NET::1) $(dig +short -x $alias @$NET::1)"
      ping -6 -q -c 1 -W 20 $NET::1
      ping -6 -q -c 1 -W 20 fd99::1
      ping -6 -c 1 -W 20 2001:db8::1
      for port in 8086 8084; do
        echo "tcp $port $(socat -t 20 - TCP6:[$alias]:$port < /dev/null)"
        echo "udp $port $(echo echo-$port | socat -t 20 - UDP6:[$alias]:$port,readbytes=10)"
      done
      echo "curl $(curl -6 -sS --max-time 60 http://[fd99::1]/)"
      socat - TCP6:[$alias]:1 < /dev/null
      socat - TCP6:[2001:db8::1]:80 < /dev/null
      socat - TCP6:[::ffff:127.0.0.1]:8084 < /dev/null
      "$NODE" "$DHCPV6" tap0
      rdisc6 -1 tap0
    '`);
  const says = (pattern: RegExp, what: string): void => void t.match(said, pattern, what);
  says(/tap0 +inet6 fd53:6c69:c0a8:4100::3\/64/, 'the host number of its IPv4 address');
  says(/default via fd53:6c69:c0a8:4100::1 dev tap0/, 'and a way out');
  says(/^names fd53:6c69:c0a8:4100::2 host\.docker\.internal\.$/m, 'names are answered over IPv6, both ways');
  t.equal([...said.matchAll(/1 packets transmitted, 1 received/g)].length, 2, 'the gateway and the host answer pings');
  says(/icmp_seq=1 Destination unreachable: /, 'what the host has no way to is said to be so');
  for (const where of ['six', 'four'])
    says(new RegExp(`^tcp 808[46] at-${where}$`, 'm'), `the host's loopback is behind the alias: ${where}`);
  for (const port of [8084, 8086]) says(new RegExp(`^udp ${port} echo-${port}$`, 'm'), `datagrams too: ${port}`);
  says(/^curl from-host$/m, 'the host’s own addresses');
  says(/fd53:6c69:c0a8:4100:.*:1, 28\): Connection refused/, 'nobody there is a refusal');
  says(/(No route to host|Network is unreachable)/, 'and no route is said at once');
  says(
    /^dhcpv6 fd53:6c69:c0a8:4100:0:1:\S+ fd536c69c0a841000000000000000001 fe80::f416:36ff:febc:f9c6 547$/m,
    'DHCPv6',
  );
  says(/Prefix +: fd53:6c69:c0a8:4100::\/64/, 'router advertisements');
  says(/Recursive DNS server +: fd53:6c69:c0a8:4100::1/, 'with a name server');
});

t.test('what comes to ::1 reaches the guest by IPv6 where it listens there, and else by IPv4', async (t) => {
  const said = await onHost(`
    guest --publish 9006:6 --publish 9004:4 --publish udp:9006:6 --publish udp:9004:4 -- sh -c '
      socat TCP6-LISTEN:6,ipv6only=1,fork SYSTEM:"echo six sees \\$SOCAT_PEERADDR" &
      socat TCP4-LISTEN:4,fork SYSTEM:"echo four sees \\$SOCAT_PEERADDR" &
      socat UDP6-RECVFROM:6,ipv6only=1,fork SYSTEM:"echo six sees \\$SOCAT_PEERADDR" &
      socat UDP4-RECVFROM:4,fork SYSTEM:"echo four sees \\$SOCAT_PEERADDR" &
      sleep 600' &
    for port in 9004 9006; do listening $port; done
    # The guest's own servers are up a moment later.
    ask() { until answer=$(socat -t 20 - "$1" < /dev/null 2> /dev/null) && [ -n "$answer" ]; do sleep 0.1; done; echo "$1 $answer"; }
    ask TCP6:[::1]:9006
    ask TCP6:[::1]:9004
    ask TCP4:127.0.0.1:9004
    tell() { until answer=$(echo x | socat -t 1 - "$1" 2> /dev/null) && [ -n "$answer" ]; do sleep 0.1; done; echo "$1 $answer"; }
    tell UDP6:[::1]:9006
    tell UDP6:[::1]:9004
    tell UDP4:127.0.0.1:9004`);
  t.match(
    said,
    /^TCP6:\[::1\]:9006 six sees \[fd53:6c69:c0a8:4100:0+:0+:0+:0*1\]|six sees \[?fd53:6c69:c0a8:4100::1\]?$/m,
  );
  t.match(said, /^TCP6:\[::1\]:9004 four sees 192\.168\.65\.1$/m);
  t.match(said, /^TCP4:127\.0\.0\.1:9004 four sees 192\.168\.65\.1$/m);
  t.match(said, /^UDP6:\[::1\]:9006 six sees \[?fd53:6c69:c0a8:4100:.*1\]?$/m);
  t.match(said, /^UDP6:\[::1\]:9004 four sees 192\.168\.65\.1$/m);
  t.match(said, /^UDP4:127\.0\.0\.1:9004 four sees 192\.168\.65\.1$/m);
});

for (const kind of ['native', 'portable'])
  t.test(`a host without IPv6: the alias leads to 127.0.0.1, all else is unreachable at once: ${kind}`, async (t) => {
    const said = await onHost(`
    echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
    socat TCP4-LISTEN:8084,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo at-four' &
    socat UDP4-RECVFROM:8084,bind=127.0.0.1,fork EXEC:cat &
    listening 8084
    guest --host-sockets ${kind} --publish 9004:4 -- sh -c '
      echo "tcp $(socat -t 20 - TCP6:[$NET::2]:8084 < /dev/null)"
      told() { awk "/^Icmp6InDestUnreachs/ { print \\$2 }" /proc/net/snmp6; }
      before=$(told)
      until [ "$(told)" -gt "$before" ]; do
        echo datagram | socat -u - UDP6-SENDTO:[2001:db8::1]:80
        sleep 0.1
      done
      echo datagrams are told
      echo "udp $(echo hello | socat -t 20 - UDP6:[$NET::2]:8084,readbytes=6)"
      socat - TCP6:[2001:db8::1]:80 < /dev/null
      ping -6 -c 1 -W 20 2001:db8::1'`);
    t.match(said, /^tcp at-four$/m);
    t.match(said, /^udp hello$/m);
    t.match(said, /connect.*(No route to host|Network is unreachable)/);
    t.match(said, /^datagrams are told$/m);
    t.match(said, /Destination unreachable: /);
  });

t.test('the network can be chosen, and left out', async (t) => {
  const look =
    "'ip -6 -o addr show dev tap0; dig +short AAAA host.docker.internal @192.168.65.1; cat /etc/resolv.conf'";
  const chosen = await onHost(`guest --subnet6 fd00:9:9:9::/64 -- sh -c ${look}`);
  t.match(chosen, /inet6 fd00:9:9:9::3\/64/);
  t.match(chosen, /^fd00:9:9:9::2$/m);
  t.match(chosen, /^nameserver 192\.168\.65\.1\nnameserver fd00:9:9:9::1$/m);
  for (const without of ['--subnet6 off', '--mtu 1279']) {
    const said = await onHost(`guest ${without} -- sh -c ${look}`);
    t.notMatch(said, /inet6 f[cd]/, without);
    t.notMatch(said, /^(nameserver )?fd/m);
  }
  const wrong = await onHost('guest --subnet6 fd00::/48 -- true');
  t.match(wrong, /^slipway: --subnet6: .*is not a \/64 such as fd00:1:2:3::\/64/);
});
