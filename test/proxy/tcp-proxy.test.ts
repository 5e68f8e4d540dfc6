/** The guest's connections to the outside, over a host that exists in memory: nothing here waits for a clock. */

import { encode } from 'dns-packet';
import t from 'tap';
import { FakeHostNet } from '../../src/proxy/adapter/fake-host-net.ts';
import { Query } from '../../src/proxy/dns/message.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { TcpProxy } from '../../src/proxy/tcp-proxy.ts';
import { parseSubnet } from '../../src/stack/wire/address.ts';
import { address, FakeConnection } from './fake-stack.ts';
import { HostPeer } from './host-peer.ts';

function world(limits?: { tcp: number }) {
  const events: (() => void)[] = [];
  const host = new FakeHostNet((event) => events.push(event));
  const clock = { now: 0, nowMs: () => clock.now };
  const policy = new Policy({
    subnets: [parseSubnet('192.168.65.0/24')!, parseSubnet('fd65::/64')!],
    gateways: [address('192.168.65.1'), address('fd65::1')],
    hostAliases: [address('192.168.65.2'), address('fd65::2')],
    clock,
    ...(limits && { limits }),
  });
  const proxy = new TcpProxy(host, policy, clock);
  const accepted: HostPeer[] = [];
  const serve = (at: string, port = 80, reading = true) =>
    host.listen(at, port, (stream) => {
      const peer = new HostPeer();
      peer.reading = reading;
      peer.connected(stream);
      accepted.push(peer);
      return peer;
    });
  const settle = (): void => {
    for (let event = events.shift(); event; event = events.shift()) event();
  };
  const dial = (to: string, port = 80, ingress = 1, guestRoom?: number): FakeConnection => {
    const connection = new FakeConnection(to, port, ingress, guestRoom);
    proxy.tcp(connection);
    return connection;
  };
  return { host, policy, proxy, clock, serve, accepted, settle, dial };
}

t.test('the host is dialled before the guest is answered', async (t) => {
  const { serve, settle, dial, accepted } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1');
  t.equal(connection.state, 'SYN-RECEIVED', 'held');
  settle();
  t.equal(connection.state, 'ESTABLISHED');
  t.equal(connection.fromGuest(Buffer.from('hello')), 5);
  settle();
  t.equal(accepted[0]!.bytes.toString(), 'hello');
  accepted[0]!.send(Buffer.from('welcome'));
  settle();
  t.equal(connection.bytes.toString(), 'welcome');
});

t.test('refusals look as they would on the host', async (t) => {
  const { host, settle, dial, policy } = world();
  host.unreachable.add('10.1.1.2');
  const refused = dial('10.1.1.1');
  const unreachable = dial('10.1.1.2');
  settle();
  t.equal(refused.refused, 'reset');
  t.equal(unreachable.refused, 'unreachable');
  t.equal(dial('127.0.0.1').refused, 'reset', 'the gate, at once');
  t.equal(dial('169.254.169.254').refused, 'reset');
  t.equal(dial('192.168.65.1', 81).refused, 'reset', 'the gateway itself');
  t.equal(policy.held('tcp', 1), 0, 'nothing stays counted');
  t.equal(host.streams.size, 0, 'or open');
});

t.test('the host alias is the way to the host loopback', async (t) => {
  const { serve, settle, dial, accepted } = world();
  await serve('127.0.0.1', 8080);
  const connection = dial('192.168.65.2', 8080);
  settle();
  t.equal(connection.state, 'ESTABLISHED');
  t.equal(accepted.length, 1);
});

t.test("a port of the host's loopback may be at either of its addresses", async (t) => {
  for (const alias of ['192.168.65.2', 'fd65::2'])
    for (const at of ['127.0.0.1', '::1']) {
      const { serve, settle, dial, accepted, policy, proxy } = world();
      await serve(at, 8080);
      const connection = dial(alias, 8080);
      settle();
      t.equal(connection.state, 'ESTABLISHED', `${alias} ${at}`);
      t.equal(accepted.length, 1);
      const refused = dial(alias, 8081);
      settle();
      t.equal(refused.refused, 'reset');
      t.equal(proxy.dials, 0);
      t.equal(policy.held('tcp', 1), 1);
    }
});

t.test('who gives up while the second address is dialled leaves nothing', async (t) => {
  const { host, settle, dial, policy, proxy } = world();
  host.blackHoles.add('::1');
  const connection = dial('192.168.65.2', 8080);
  settle();
  t.equal(proxy.dials, 1);
  proxy.tcpGone(connection);
  settle();
  t.same([proxy.dials, policy.held('tcp', 1), host.streams.size], [0, 0, 0]);
});

t.test(
  'ten thousand SYNs to a black hole keep no other dial from its host, not even one that takes long',
  async (t) => {
    const { host, serve, settle, dial, proxy, policy } = world();
    host.blackHoles.add('10.9.9.9');
    host.blackHoles.add('10.9.9.8');
    await serve('10.1.1.1');
    const slow = dial('10.9.9.8');
    for (let i = 0; i < 10_000; i++) dial('10.9.9.9', 1 + (i % 1000));
    t.equal(slow.refused, undefined, 'it is still waited for');
    const good = dial('10.1.1.1');
    settle();
    t.equal(good.state, 'ESTABLISHED');
    t.equal(proxy.dials, 1025);
    t.equal(policy.held('tcp', 1), 1026);
  },
);

t.test('a black hole that is called without end costs a socket for each dial that has its time', async (t) => {
  const { host, clock, dial, proxy } = world();
  host.blackHoles.add('10.9.9.9');
  const first = dial('10.9.9.9');
  for (let i = 1; i < 1024; i++) dial('10.9.9.9');
  clock.now = 2_999;
  const connect = host.connect.bind(host);
  let dialled = 0;
  host.connect = (...to) => {
    dialled++;
    return connect(...to);
  };
  for (let i = 0; i < 1000; i++) t.equal(dial('10.9.9.9').refused, 'silent');
  t.equal(dialled, 0);
  t.equal(first.refused, undefined);
  clock.now = 3_000;
  const late = dial('10.9.9.9');
  t.same([first.refused, late.refused, dialled], ['silent', undefined, 1]);
  t.equal(proxy.dials, 1024);
});

t.test('half-close: the guest first, then the host', async (t) => {
  const { serve, settle, dial, accepted, host, policy } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1');
  settle();
  connection.fromGuest(Buffer.from('request'));
  connection.handler!.receivedEnd(connection);
  settle();
  t.ok(accepted[0]!.ended, 'the host sees the end');
  t.notOk(connection.ended);
  accepted[0]!.send(Buffer.from('answer'), true);
  settle();
  t.equal(connection.bytes.toString(), 'answer');
  t.ok(connection.ended, 'and so does the guest');
  connection.close('closed');
  settle();
  t.notOk(accepted[0]!.code, 'no reset');
  t.equal(host.streams.size, 0);
  t.equal(policy.held('tcp', 1), 0);
});

t.test('half-close: the host first, then the guest', async (t) => {
  const { serve, settle, dial, accepted, policy } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1');
  settle();
  accepted[0]!.send(Buffer.from('bye'), true);
  settle();
  t.ok(connection.ended);
  connection.fromGuest(Buffer.from('still here'));
  connection.handler!.receivedEnd(connection);
  settle();
  t.equal(accepted[0]!.bytes.toString(), 'still here');
  t.ok(accepted[0]!.isClosed);
  connection.close('closed');
  t.equal(policy.held('tcp', 1), 0);
});

t.test('a reset passes through, either way', async (t) => {
  const { serve, settle, dial, accepted, policy } = world();
  await serve('10.1.1.1');
  const first = dial('10.1.1.1');
  settle();
  first.close('ECONNRESET');
  settle();
  t.equal(accepted[0]!.code, 'ECONNRESET');
  const second = dial('10.1.1.1');
  settle();
  accepted[1]!.stream.abort();
  settle();
  t.ok(second.aborted);
  t.equal(policy.held('tcp', 1), 0);
});

t.test('a guest that has vanished is a reset for the host, also after half-close', async (t) => {
  const { serve, settle, dial, accepted } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1');
  settle();
  connection.handler!.receivedEnd(connection);
  settle();
  connection.close('ETIMEDOUT');
  settle();
  t.equal(accepted[0]!.code, 'ECONNRESET');
});

t.test('a guest that gave up while the host was dialled', async (t) => {
  const { serve, settle, dial, accepted, policy, host, proxy } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1');
  proxy.tcpGone(connection);
  settle();
  t.equal(connection.handler, undefined, 'is not accepted');
  t.equal(connection.refused, undefined);
  t.ok(accepted.every(({ code }) => code === 'ECONNRESET'));
  t.equal(policy.held('tcp', 1), 0);
  t.equal(host.streams.size, 0);
});

t.test('back-pressure: a host that does not read closes the guest window, and opens it', async (t) => {
  const { serve, settle, dial, accepted } = world();
  await serve('10.1.1.1', 80, false);
  const connection = dial('10.1.1.1');
  settle();
  const { handler } = connection;
  const before = handler!.room(connection);
  let sent = 0;
  for (let room = before; room > 0; room = handler!.room(connection)) {
    const taken = connection.fromGuest(new Uint8Array(Math.min(1460, room)));
    t.equal(taken, Math.min(1460, room), 'what was promised is taken');
    sent += taken;
    settle();
  }
  t.equal(sent, before);
  t.equal(connection.grew, 0);
  accepted[0]!.reading = true;
  accepted[0]!.drain();
  settle();
  t.equal(connection.grew, 1);
  t.equal(handler!.room(connection), before);
  t.equal(accepted[0]!.receivedOctets, sent);
});

t.test('back-pressure: a guest that does not take stops the host, and lets it go on', async (t) => {
  const { serve, settle, dial, accepted } = world();
  await serve('10.1.1.1');
  const connection = dial('10.1.1.1', 80, 1, 10_000);
  settle();
  const sent = Buffer.alloc(500_000, 'slipway ');
  accepted[0]!.send(sent, true);
  settle();
  t.equal(connection.sentOctets, 10_000);
  t.ok(accepted[0]!.unsentOctets > 300_000, 'the host holds the rest');
  while (!connection.ended) {
    connection.guestRoom += 33_333;
    connection.handler!.writable(connection);
    settle();
  }
  t.ok(connection.bytes.equals(sent));
});

t.test('silent hosts block nobody', async (t) => {
  const { serve, settle, dial, host, proxy, policy } = world();
  const holes = Array.from({ length: 8 }, (_, i) => `10.9.9.${i}`);
  for (const hole of holes) host.blackHoles.add(hole);
  await serve('10.1.1.1');
  const silent = Array.from({ length: 5000 }, (_, i) => dial(holes[i % holes.length]!));
  const good = dial('10.1.1.1');
  settle();
  t.equal(good.state, 'ESTABLISHED');
  t.equal(proxy.dials, 4095, 'as many as a guest may have under way, and the good one is done');
  t.equal(policy.held('tcp', 1), 4096);
  t.equal(silent.filter((connection) => connection.refused === 'silent').length, 905, 'the oldest were given up');
  t.equal(silent.at(-1)!.refused, undefined);
});

t.test("one guest's silent hosts are not another's", async (t) => {
  const { serve, settle, dial, host } = world();
  host.blackHoles.add('10.9.9.9');
  await serve('10.1.1.1');
  const others = Array.from({ length: 3 }, () => dial('10.9.9.9', 80, 2));
  for (let i = 0; i < 5000; i++) dial('10.9.9.9', 80, 1);
  settle();
  t.ok(others.every((connection) => connection.refused === undefined));
});

t.test('more connections than the policy allows are refused, and the others stay', async (t) => {
  const { serve, settle, dial } = world({ tcp: 3 });
  await serve('10.1.1.1');
  const connections = Array.from({ length: 4 }, () => dial('10.1.1.1'));
  settle();
  t.same(
    connections.map((connection) => connection.refused),
    [undefined, undefined, undefined, 'reset'],
  );
  connections[0]!.close('ECONNRESET');
  settle();
  const next = dial('10.1.1.1');
  settle();
  t.equal(next.state, 'ESTABLISHED');
});

t.test('when the policy changes, what it denies now is reset on both sides, and counted', async (t) => {
  const { serve, settle, dial, accepted, policy, proxy, host } = world();
  await serve('10.1.1.1');
  await serve('10.1.1.2');
  host.blackHoles.add('10.1.1.3');
  policy.useRules(parsePolicyRules('allow 10.1.1.2; allow tcp port 80'));
  const [ended, kept, dialling] = [dial('10.1.1.1'), dial('10.1.1.2'), dial('10.1.1.3')];
  settle();
  t.match(proxy.originOf(kept), { direction: 'out', rule: 'allow 10.1.1.2' });
  t.match(proxy.originOf(ended), { direction: 'out', rule: 'allow tcp port 80' });
  policy.useRules(parsePolicyRules('deny 10.1.1.3; allow 10.1.1.2; deny any'));
  proxy.recheck();
  settle();
  t.ok(ended.aborted);
  t.equal(accepted[0]!.code, 'ECONNRESET', 'the host’s side too');
  t.equal(dialling.refused, 'reset', 'a dial under way is refused as a new one would be');
  t.equal(kept.state, 'ESTABLISHED');
  t.match(policy.report(), {
    denied: { rule: 2 },
    denials: [
      { address: '10.1.1.3', rule: 'deny 10.1.1.3' },
      { address: '10.1.1.1', rule: 'deny any' },
    ],
    rules: [{ decided: 1 }, { decided: 0 }, { decided: 1 }],
  });
  t.equal(policy.held('tcp', 1), 1);
  policy.useHostPorts({ mode: 'ask' });
  proxy.recheck();
  t.equal(kept.state, 'ESTABLISHED', 'no port of the host');
});

t.test(
  'a connection that a name let through stays for as long as that rule does, whatever the name’s TTL',
  async (t) => {
    const { serve, settle, dial, policy, proxy, clock } = world();
    await serve('10.1.1.1');
    policy.useRules(parsePolicyRules('allow *.example.org; deny any'));
    const question = { type: 'A', class: 'IN', name: 'www.example.org' } as const;
    const answers = [{ type: 'A', name: 'www.example.org', ttl: 30, data: '10.1.1.1' } as const];
    const asked = encode({ type: 'query', id: 1, questions: [question] });
    const answer = encode({ type: 'response', id: 1, questions: [question], answers });
    const query = new Query();
    query.parse(asked, asked.length, 1);
    policy.resolved.heard(answer, answer.length, query, 1);
    const connection = dial('10.1.1.1');
    settle();
    t.equal(connection.state, 'ESTABLISHED');
    clock.now += 3600_000;
    policy.useRules(parsePolicyRules('allow 10.9.9.9; allow *.example.org; deny any'));
    proxy.recheck();
    t.equal(connection.state, 'ESTABLISHED');
    t.equal(dial('10.1.1.1').refused, 'reset', 'a new one needs the name anew');
    policy.useRules(parsePolicyRules('deny any'));
    proxy.recheck();
    t.ok(connection.aborted);
  },
);
