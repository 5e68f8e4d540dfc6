/**
 * A second instance beside the one that may already run, with settings of its own: the portable lane (no vsock), a DNS
 * server of the user's, a subnet and an MTU of the user's choice. It takes nothing of the first, and `down` leaves nothing of it.
 */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import dnsPacket from 'dns-packet';
import t from 'tap';
import { exchange, freePort, listeners } from './host-ports.ts';
import { busybox, importBusybox } from './images.ts';
import { makeInstance } from './instance.ts';
import { until } from './programs.ts';

t.setTimeout(600_000);

t.test('a second instance, on the portable lane', async (t) => {
  t.setTimeout(600_000);
  const dns = createSocket('udp4').bind(0, '127.0.0.1');
  await once(dns, 'listening');
  t.teardown(() => dns.close());
  dns.on('message', (question, from) => {
    const { id, questions = [] } = dnsPacket.decode(question);
    const answers = questions
      .filter(({ type }) => type === 'A')
      .map(({ name }) => ({ type: 'A' as const, name, ttl: 5, data: '203.0.113.7' }));
    const flags = dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE;
    dns.send(dnsPacket.encode({ type: 'response', id: id ?? 0, flags, questions, answers }), from.port, from.address);
  });
  const slipway = await makeInstance(t, {
    'vm.channel': 'serial',
    'vm.memory': '1024',
    'network.mtu': '65520',
    'network.subnet': '10.77.5.0/24',
    'network.dns': `127.0.0.1#${dns.address().port}`,
  });
  await slipway.slipway('up');
  await importBusybox(slipway);
  const port = await freePort();

  await t.test('streams travel by the serial port', async (t) => {
    const { channel, network } = await slipway.status();
    t.match(
      { channel, network },
      { channel: 'serial', network: { subnet: '10.77.5.0/24', mtu: 65520, connected: true, link: 'stream' } },
    );
    const run = ['run', '-d', '--name', 'second', '--stop-signal', 'KILL', '-p', `${port}:7`, busybox, 'peer', '7'];
    await slipway.docker(...run);
    t.equal((await exchange('127.0.0.1', port, 'echo\nby serial')).toString(), 'by serial');
    t.equal((await slipway.slipway('shell', 'cat /sys/class/net/eth0/mtu')).trim(), '65520');
    const { stdout } = await slipway.tryDocker(['exec', '-i', 'second', 'sh', '-c', 'cat; echo after'], 'half-close\n');
    t.equal(stdout, 'half-close\nafter\n');
  });

  await t.test("names come from the user's server and the host's own", async (t) => {
    const names = 'nslookup slipway.test; nslookup host.docker.internal';
    const said = await slipway.docker('exec', 'second', 'sh', '-c', names);
    t.match(said, /Name:\s+slipway\.test\s+Address[^:]*: 203\.0\.113\.7$/m);
    t.match(said, /Name:\s+host\.docker\.internal\s+Address[^:]*: 10\.77\.5\.2$/m);
  });

  await t.test('down leaves no process, socket, mount or listener', async (t) => {
    t.ok(slipway.processes().size >= 3, 'there are processes to leave');
    t.match(readFileSync('/proc/net/unix', 'latin1'), slipway.home);
    // The session's parent is the agent, which then hears nobody.
    await slipway.slipway('shell', "kill -STOP $(awk '/^PPid/ { print $2 }' /proc/$PPID/status)");
    await slipway.slipway('down');
    const log = readFileSync(join(slipway.home, 'logs', 'vmm.log'), 'utf8');
    t.match(log, /no agent in the guest .*: pressing the power button/);
    t.match(log, /the machine ended: asked$/m, 'the guest heeds its power button');
    await until('its processes to end', () => slipway.processes().size === 0);
    t.notMatch(readFileSync('/proc/net/unix', 'latin1'), slipway.home, 'sockets');
    t.same(sockets(slipway.home), [], 'socket files');
    t.notMatch(readFileSync('/proc/self/mountinfo', 'latin1'), slipway.home, 'mounts');
    t.same(listeners('tcp', port), [], 'listeners');
    t.ok(existsSync(join(slipway.home, 'vm', 'data.qcow2')), 'the data stays');
    t.equal((await slipway.status()).state, 'stopped');
  });
});

/** Socket files anywhere below a folder. */
function sockets(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isSocket()).map((entry) => join(entry.parentPath, entry.name));
}
