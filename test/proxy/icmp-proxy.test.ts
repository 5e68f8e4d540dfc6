/** Echo requests: over a host in memory, and through a real ping socket in a network namespace that allows them. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { IcmpProxy } from '../../src/proxy/icmp-proxy.ts';
import { Policy } from '../../src/proxy/policy.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket } from '../../src/proxy/port.ts';
import { formatAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { address, datagram, FakeNetstack, guest } from './fake-stack.ts';
import { fragmentsOf } from './host-peer.ts';

class FakeEcho implements HostEchoPort {
  readonly open_ = new Set<HostEchoSocket>();
  readonly sent: { socket: HostEchoSocket; handler: HostEchoHandler; text: string }[] = [];
  readonly families: number[] = [];
  refusal: string | undefined;

  open(family: 4 | 6, handler: HostEchoHandler): HostEchoSocket | string {
    if (this.refusal !== undefined) return this.refusal;
    this.families.push(family);
    const socket: HostEchoSocket = {
      owner: undefined,
      send: (to, sequence, hopLimit, payload) => {
        const words = Buffer.concat(payload.items.map(({ arena }) => arena.bytes));
        if (formatAddress(to) === '10.0.0.99') return false;
        this.sent.push({ socket, handler, text: `${formatAddress(to)} ${sequence} ${hopLimit} ${words}` });
        return true;
      },
      close: () => this.open_.delete(socket),
    };
    this.open_.add(socket);
    return socket;
  }
}

function world(limits?: { icmp: number }, load?: () => Promise<HostEchoPort | undefined>) {
  const netstack = new FakeNetstack();
  const policy = new Policy({
    subnets: [parseSubnet('192.168.65.0/24')!],
    gateways: [address('192.168.65.1')],
    hostAliases: [address('192.168.65.2')],
    ...(limits && { limits }),
  });
  const clock = { now: 0, nowMs: () => clock.now };
  const host = new FakeEcho();
  const proxy = new IcmpProxy({ policy, netstack, clock, load: load ?? (async () => host) });
  const ping = (to: string, identifier: number, sequence: number, hopLimit = 64): void =>
    proxy.echo({ ...datagram(guest, 0, to, 0, fragmentsOf(Buffer.from('ping'))), identifier, sequence, hopLimit });
  const loaded = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { netstack, policy, clock, host, proxy, ping, loaded };
}

t.test('requests go out as they are, those that came before it was loaded too; replies are their own', async (t) => {
  const { netstack, host, ping, loaded, proxy } = world();
  ping('10.0.0.1', 7, 1);
  ping('10.0.0.1', 7, 2, 3);
  ping('10.0.0.2', 8, 1);
  t.same(netstack.echoes, [], 'nothing is forged');
  await loaded();
  ping('10.0.0.2', 8, 2);
  t.same(
    host.sent.map(({ text }) => text),
    ['10.0.0.1 1 63 ping', '10.0.0.1 2 2 ping', '10.0.0.2 1 63 ping', '10.0.0.2 2 63 ping'],
    'hop limits less the gateway’s own hop',
  );
  t.equal(proxy.sessions, 2);
  for (const { socket, handler } of [host.sent[1]!, host.sent[2]!])
    handler.replied(socket, address('10.0.0.1'), 2, Buffer.from('pong'));
  t.same(netstack.echoes, [`10.0.0.1 ${guest} 7 2 pong`, `10.0.0.1 ${guest} 8 2 pong`]);
});

t.test('each family has its sockets', async (t) => {
  const { host, ping, loaded, proxy } = world();
  ping('10.0.0.1', 7, 1);
  proxy.echo({
    ...datagram('fd00:1::3', 0, '2001:db8::1', 0, fragmentsOf()),
    identifier: 7,
    sequence: 1,
    hopLimit: 64,
  });
  await loaded();
  t.same(host.families, [4, 6]);
  t.equal(host.sent[1]!.text, '2001:db8::1 1 63 ');
});

t.test('what is unreachable is said to be, and what may not be reached', async (t) => {
  const { netstack, host, ping, loaded } = world();
  ping('10.0.0.1', 7, 1);
  await loaded();
  const { socket, handler } = host.sent[0]!;
  for (const code of ['EHOSTUNREACH', 'ENETUNREACH', 'EACCES']) handler.failed(socket, address('10.0.0.1'), 1, code);
  handler.expired(socket, address('10.0.0.1'), 1, address('203.0.113.9'), Buffer.from('ping'));
  handler.failed(socket, address('10.0.0.1'), 1, 'EHOSTUNREACH', Buffer.from('pi'));
  ping('169.254.169.254', 7, 2);
  ping('192.168.65.77', 7, 2);
  ping('10.0.0.99', 7, 3);
  t.same(netstack.unreachable, [
    'host 10.0.0.1 0',
    'network 10.0.0.1 0',
    'prohibited 10.0.0.1 0',
    'expired 10.0.0.1 0 at 203.0.113.9',
    'host 10.0.0.1 0',
    'prohibited 169.254.169.254 0',
    'host 192.168.65.77 0',
    'host 10.0.0.99 0',
  ]);
  t.same(netstack.quoted.slice(3, 5), ['ping', 'pi'], 'with what the requests carried');
});

t.test('a host that lets nobody ping says so, and is not silent', async (t) => {
  const none = [async () => undefined, () => Promise.reject(new Error('no koffi'))];
  for (const load of none) {
    const { netstack, ping, loaded } = world(undefined, load);
    ping('10.0.0.1', 7, 1);
    await loaded();
    ping('10.0.0.1', 7, 2);
    t.same(netstack.unreachable, ['host 10.0.0.1 0', 'host 10.0.0.1 0']);
  }
  const { netstack, ping, loaded, host, policy, proxy } = world();
  host.refusal = 'EACCES';
  ping('10.0.0.1', 7, 1);
  await loaded();
  host.refusal = 'EMFILE';
  ping('10.0.0.1', 7, 2);
  t.same(netstack.unreachable, ['prohibited 10.0.0.1 0', 'host 10.0.0.1 0']);
  t.match(proxy.drops, { 'host-forbids': 1, 'host-failed': 1 });
  t.equal(policy.held('icmp', 1), 0);
});

t.test('identifiers have a limit, and an end', async (t) => {
  const { host, ping, loaded, proxy, clock, policy } = world({ icmp: 2 });
  ping('10.0.0.1', 1, 1);
  await loaded();
  clock.now = 1;
  ping('10.0.0.1', 2, 1);
  clock.now = 2;
  ping('10.0.0.1', 3, 1);
  t.equal(proxy.sessions, 2);
  t.equal(host.open_.size, 2);
  t.notOk(host.open_.has(host.sent[0]!.socket), 'the one unused longest gives way');
  clock.now = 60_001;
  proxy.expire();
  t.equal(proxy.sessions, 1);
  proxy.close();
  t.same([host.open_.size, policy.held('icmp', 1)], [0, 0]);
});

t.test('a real ping socket', async (t) => {
  const program = fileURLToPath(new URL('./linux-echo-program.ts', import.meta.url));
  const script = `
    echo '0 0' > /proc/sys/net/ipv4/ping_group_range &&
    ip link set lo up && ip addr add 10.9.0.1/32 dev lo && ip route add prohibit 10.9.0.2/32 &&
    ip addr add fd99::1/128 dev lo && ip link add empty type bridge && ip link set empty up &&
    ip addr add fd98::1/64 dev empty nodad && echo 1 > /proc/sys/net/ipv6/neigh/empty/mcast_solicit &&
    exec "$0" "$1"`;
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    ['--user', '--map-root-user', '--net', 'sh', '-c', script, process.execPath, program],
    { encoding: 'utf8' },
  );
  t.equal(status, 0, stderr);
  const { replies, ...others } = JSON.parse(stdout) as { replies: string[] };
  t.same(replies.sort(), [
    '10.9.0.1 1 4',
    '10.9.0.1 2 30000',
    '127.0.0.1 3 0',
    '::1 3 0',
    'fd98::2 4 EHOSTUNREACH lost',
    'fd99::1 1 4',
    'fd99::1 2 30000',
  ]);
  t.same(others, { sentToProhibited: false, afterClose: false });
});

t.test('each identifier is a flow to see', async (t) => {
  const { host, ping, loaded, proxy, clock } = world();
  ping('10.0.0.1', 7, 1);
  await loaded();
  const { socket, handler } = host.sent[0]!;
  handler.replied(socket, address('10.0.0.1'), 1, Buffer.from('pong!'));
  clock.now = 40;
  t.match(proxy.flows(), [
    { protocol: 'icmp', guest: `${guest}:7`, peer: '10.0.0.1', octetsToHost: 4, octetsToGuest: 5, idleMs: 40 },
  ]);
});
