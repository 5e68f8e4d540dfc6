/** The guest's way out: names, the host's loopback by its alias, refusals, and what must never reach the host. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { freePort, loopbackServer } from './host-ports.ts';
import { busybox, importBusybox } from './images.ts';
import { withInstance } from './instance.ts';

const gateway = '192.168.65.1';
const hostAlias = '192.168.65.2';
const hostAlias6 = 'fd53:6c69:c0a8:4100::2';

withInstance("the guest's network", async (t, slipway) => {
  t.teardown(() => slipway.remove('net', 'net-host'));
  await importBusybox(slipway);
  await slipway.docker('run', '-d', '--name', 'net', busybox, 'sleep', '100000');
  const inside = (command: string) => slipway.tryDocker(['exec', 'net', 'sh', '-c', command]);

  await t.test('names of the host resolve in a container', async (t) => {
    const { stdout } = await inside(
      'for name in host gateway; do nslookup $name.docker.internal; done; cat /etc/resolv.conf',
    );
    t.match(
      stdout,
      new RegExp(`Name:\\s+host\\.docker\\.internal\\s+Address[^:]*:\\s+${hostAlias.replaceAll('.', '\\.')}$`, 'm'),
    );
    t.match(
      stdout,
      new RegExp(`Name:\\s+gateway\\.docker\\.internal\\s+Address[^:]*:\\s+${gateway.replaceAll('.', '\\.')}$`, 'm'),
    );
    t.match(stdout, `nameserver ${gateway}`);
  });

  await t.test("a server on the host's loopback answers by its alias", async (t) => {
    const server = await loopbackServer((socket) => {
      socket.once('data', (said) => socket.end(`HTTP/1.0 200 OK\r\n\r\n${String(said).split(' ')[1]}\n`));
    });
    t.teardown(() => server.close());
    const { stdout, stderr } = await inside(`wget -q -O - http://host.docker.internal:${server.port}/from-the-guest`);
    t.equal(stdout, '/from-the-guest\n', stderr);
  });

  await t.test('so does a UDP server', async (t) => {
    const server = createSocket('udp4').bind(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    server.on('message', (said, from) => server.send(`${said} from the host`, from.port, from.address));
    t.equal((await inside(`peer ask ${hostAlias} ${server.address().port} hello`)).stdout, 'hello from the host\n');
  });

  await t.test('a container pings and traces: the gateway is a hop on the way, and what flows is seen', async (t) => {
    const trace = 'traceroute -n -q 1 -w 20 -m';
    const { stdout } = await inside(
      `for to in ${gateway} ${hostAlias}; do ping -c 1 -W 20 $to; done; echo ===; ${trace} 4 ${hostAlias}; echo ===;` +
        `${trace} 2 198.51.100.1; echo ===; ${trace} 2 -I 198.51.100.1`,
    );
    const [pings = '', near = '', ...far] = stdout.split('===\n');
    t.equal(pings.match(/ 1 packets received/g)?.length, 2, pings);
    t.match(near, /^ *1 +172\.\d+\.0\.1 [^\n]*\n *2 +192\.168\.65\.2 [^\n]*\n$/m, near);
    t.equal(far.length, 2);
    for (const way of far) t.match(way, /^ *1 +172\.\d+\.0\.1 [^\n]*\n *2 +192\.168\.65\.1 /m, way);
    const server = await loopbackServer((socket) => void socket.write('held'));
    t.teardown(() => server.close());
    await inside(
      `(sleep 100 | nc host.docker.internal ${server.port} > /tmp/held) & until [ -s /tmp/held ]; do sleep 0.1; done`,
    );
    const { flows } = JSON.parse(await slipway.slipway('net', 'flows', '--json'));
    const peer = `${hostAlias}:${server.port}`;
    t.match(
      flows.filter((flow: { peer: string }) => flow.peer === peer),
      [{ protocol: 'tcp', direction: 'out', state: 'ESTABLISHED', octetsToGuest: 4 }],
    );
    t.match(
      await slipway.slipway('net', 'flows'),
      new RegExp(`^tcp +192\\.168\\.65\\.3:\\d+ +-> +${peer.replaceAll('.', '\\.')} `, 'm'),
    );
    await inside('pkill nc; true');
  });

  await t.test('a closed port of the host is refused, not silent', async (t) => {
    const { status, stderr } = await inside(`nc host.docker.internal ${await freePort()} </dev/null`);
    t.equal(status, 1);
    t.match(stderr, /Connection refused/);
  });

  await t.test('rules hold for containers from the moment they are set, and say who decided', async (t) => {
    const server = await loopbackServer((socket) => socket.end());
    t.teardown(() => server.close());
    const dial = () => inside(`nc host.docker.internal ${server.port} </dev/null`);
    const check = () => slipway.slipway('net', 'policy', 'check', 'host.docker.internal', String(server.port));
    t.equal((await dial()).status, 0);
    const rule = `deny tcp host.docker.internal port ${server.port}`;
    await slipway.slipway('config', 'set', `policy.rules=deny 198.51.100.0/24; ${rule}`);
    t.match(await dial(), { status: 1, stderr: /Connection refused/ });
    t.match(await inside('ping -c 1 -W 5 198.51.100.1'), { status: 1 });
    const denied = `${server.port} is denied, answered by RST: rule 2: ${rule}\n`;
    t.equal(await check(), `tcp ${hostAlias}:${denied}tcp [${hostAlias6}]:${denied}`);
    const { rules, denials } = JSON.parse(await slipway.slipway('net', 'policy', '--json'));
    t.match(rules, [{ decided: 1 }, { rule, decided: 1 }]);
    t.match(denials, [
      { protocol: 'icmp', address: '198.51.100.1' },
      { address: hostAlias, port: server.port },
    ]);
    await slipway.slipway('config', 'set', 'policy.hostLoopback=ask');
    await slipway.slipway('config', 'unset', 'policy.rules');
    t.match(await dial(), { status: 1, stderr: /Connection refused/ });
    await slipway.slipway('config', 'set', `policy.hostPorts=${server.port}`);
    t.equal((await dial()).status, 0);
    await slipway.slipway('config', 'unset', 'policy.hostLoopback', 'policy.hostPorts');
    t.equal(server.accepted, 2);
  });

  await t.test("no other address reaches the host's loopback", async (t) => {
    const server = await loopbackServer((socket) => socket.end());
    t.teardown(() => server.close());
    const forbidden = [
      '127.0.0.1',
      '127.1.2.3',
      '127.255.255.254',
      '0.0.0.0',
      '0.1.2.3',
      '169.254.169.254',
      '169.254.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '192.168.65.0',
      '192.168.65.255',
      gateway,
      '192.168.65.77',
    ];
    const targets = [hostAlias, ...forbidden].map((address) => `${address}:${server.port}`);
    const knock = ['peer', 'syn', 'eth0', gateway, ...targets].join(' ');
    const { stdout, stderr, status } = await slipway.tryDocker([
      ...['run', '--rm', '--name', 'net-host', '--net', 'host', '--cap-add', 'NET_RAW', busybox, 'sh', '-c'],
      `ping -c 1 ${gateway} >&2; ${knock}`,
    ]);
    t.equal(status, 0, stderr);
    const replies = Object.fromEntries(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(' ')),
    );
    t.equal(replies[`${hostAlias}:${server.port}`], 'syn-ack', 'the alias is let through');
    for (const address of forbidden) t.not(replies[`${address}:${server.port}`], 'syn-ack', address);
    t.equal(server.accepted, 1, 'the host saw the one connection to its alias');
  });
});
