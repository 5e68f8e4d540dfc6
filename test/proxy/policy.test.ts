/** The gate: every form of address, the host alias, limits. */

import fc from 'fast-check';
import t from 'tap';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { type DenyReason, Policy, type PolicyFlow, type PolicyOptions } from '../../src/proxy/policy.ts';
import { formatAddress, kind, type Subnet } from '../../src/stack/wire/address.ts';
import { address } from './gateway-fakes.ts';

const options = {
  subnets: [
    { address: address('192.168.65.0'), prefix: 120 },
    { address: address('fd65::'), prefix: 64 },
  ] satisfies Subnet[],
  gateways: [address('192.168.65.1'), address('fd65::1')],
  hostAliases: [address('192.168.65.2'), address('fd65::2')],
};

t.test('what is dialled, and where', async (t) => {
  const policy = new Policy(options);
  for (const text of [
    '1.1.1.1',
    '10.0.0.1',
    '172.17.0.1',
    '192.168.1.1',
    '192.168.64.255',
    '192.168.66.0',
    '100.64.0.1',
    '2001:db8::1',
    'fd00::1',
    'fec0::1',
    '64:ff9b::808:808',
    '2002:808:808::1',
  ]) {
    const verdict = policy.destination(address(text));
    t.ok(verdict.allowed, text);
    t.equal(formatAddress(verdict.address), formatAddress(address(text)));
  }
  t.equal(formatAddress(policy.destination(address('192.168.65.2')).address), '127.0.0.1');
  t.equal(formatAddress(policy.destination(address('fd65::2')).address), '::1');
});

t.test('what is not, why, and how it is refused', async (t) => {
  const policy = new Policy(options);
  const refused: Record<DenyReason, string[]> = {
    'forbidden-address': [
      '0.0.0.0',
      '0.0.0.1',
      '0.255.255.255',
      '127.0.0.1',
      '127.0.0.53',
      '127.255.255.255',
      '169.254.0.0',
      '169.254.169.254',
      '169.254.255.255',
      '224.0.0.1',
      '239.255.255.250',
      '240.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:0.0.0.0',
      '::ffff:169.254.169.254',
      '::127.0.0.1',
      '::8.8.8.8',
      '::2',
      'ff02::1',
      'ff05::2',
      'fe80::1',
      'febf::1',
      '64:ff9b::127.0.0.1',
      '64:ff9b:1::127.0.0.1',
      '64:ff9b:1:2:3::169.254.169.254',
      '64:ff9b::0.0.0.0',
      '64:ff9b::169.254.169.254',
      '2002:7f00:1::',
      '2002:a9fe:a9fe::1',
      '2002:0:1::',
      '::ffff:0:127.0.0.1',
      '100.100.100.200',
      '168.63.129.16',
      '64:ff9b::100.100.100.200',
      '192.0.0.192',
      'fd00:ec2::254',
      'fd00:ec2::23',
      'fd00:42::42',
      'fd20:ce::254',
    ],
    gateway: ['192.168.65.1', 'fd65::1'],
    'guest-network': ['192.168.65.0', '192.168.65.3', '192.168.65.77', '192.168.65.255', 'fd65::3', 'fd65::ffff'],
    'no-host-loopback': [],
    'host-port': [],
    rule: [],
  };
  for (const [reason, texts] of Object.entries(refused))
    for (const text of texts) {
      const verdict = policy.destination(address(text));
      t.match(
        verdict,
        {
          allowed: false,
          reason,
          answer: reason === 'gateway' ? 'reset' : reason === 'guest-network' ? 'unreachable' : 'prohibited',
        },
        text,
      );
    }
  t.equal(policy.denied['forbidden-address'], refused['forbidden-address'].length);
  t.equal(policy.denied.gateway, 2);
});

t.test('the host alias can be closed', async (t) => {
  const policy = new Policy({ ...options, hostLoopback: false });
  t.match(policy.destination(address('192.168.65.2')), { allowed: false, reason: 'no-host-loopback' });
  t.ok(policy.destination(address('1.1.1.1')).allowed);
});

t.test(
  'whatever the address, what is dialled is the address itself, private or global, or loopback by the alias',
  async () => {
    const policy = new Policy(options);
    const v4 = fc
      .uint8Array({ minLength: 4, maxLength: 4 })
      .map((bytes) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...bytes));
    const low = fc
      .uint8Array({ minLength: 4, maxLength: 4 })
      .map((bytes) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...bytes));
    const any = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const alias = (bytes: Uint8Array): boolean => options.hostAliases.some((one) => Buffer.compare(one, bytes) === 0);
    fc.assert(
      fc.property(fc.oneof(v4, low, any), (bytes) => {
        const verdict = policy.destination(bytes);
        if (!verdict.allowed || alias(bytes)) return true;
        return Buffer.compare(verdict.address, bytes) === 0 && ['private', 'global'].includes(kind(bytes));
      }),
      { numRuns: 3000 },
    );
  },
);

t.test('limits are per guest and per kind', async (t) => {
  const policy = new Policy({ ...options, limits: { tcp: 2 } });
  t.same([policy.acquire('tcp', 1), policy.acquire('tcp', 1), policy.acquire('tcp', 1)], [true, true, false]);
  t.equal(policy.denied['limit-tcp'], 1);
  t.ok(policy.acquire('tcp', 2), 'another guest');
  t.ok(policy.acquire('udp', 1), 'another kind');
  policy.release('tcp', 1);
  t.equal(policy.held('tcp', 1), 1);
  t.ok(policy.acquire('tcp', 1));
  policy.release('tcp', 3);
  t.equal(policy.held('tcp', 3), 0, 'a release too many does not count below zero');
});

const tcp = (port: number, more: Partial<PolicyFlow> = {}): PolicyFlow => ({
  protocol: 'tcp',
  port,
  ingress: 1,
  ...more,
});

function ruled(rules: string, more: Partial<PolicyOptions> = {}) {
  const clock = { now: 0, nowMs: () => clock.now };
  const policy = new Policy({ ...options, rules: parsePolicyRules(rules), clock, ...more });
  const allowed = (to: string, flow: PolicyFlow = tcp(80)): boolean => policy.destination(address(to), flow).allowed;
  return { policy, clock, allowed };
}

t.test('the first rule that is about a flow decides; what none is about is allowed', async (t) => {
  const { policy, allowed } = ruled(
    'allow tcp 10.0.0.5 port 22,443\ndeny 10.0.0.0/8\ndeny tcp any port 25; deny udp 2001:db8::/32 # and so on\ndeny icmp',
  );
  t.ok(allowed('10.0.0.5', tcp(443)));
  t.notOk(allowed('10.0.0.5', tcp(444)));
  t.notOk(allowed('10.0.0.5', { ...tcp(443), protocol: 'udp' }));
  t.notOk(allowed('10.255.0.1'));
  t.ok(allowed('11.0.0.1'));
  t.notOk(allowed('11.0.0.1', tcp(25)));
  t.ok(allowed('11.0.0.1', { ...tcp(25), protocol: 'udp' }));
  t.ok(allowed('2001:db8::1'));
  t.notOk(allowed('2001:db8::1', { ...tcp(80), protocol: 'udp' }));
  t.notOk(allowed('8.8.8.8', { protocol: 'icmp', port: 0 }));
  t.same(
    policy.report().rules.map(({ decided }) => decided),
    [1, 3, 1, 1, 1],
  );
  t.match(policy.report().denials[0], {
    address: '8.8.8.8',
    protocol: 'icmp',
    reason: 'rule',
    rule: 'deny icmp',
    flows: 1,
  });
  t.equal(policy.denied.rule, 6);
});

t.test('a network is denied by transition formats too, and not allowed by them', async (t) => {
  const { allowed } = ruled('deny 10.0.0.0/8; allow 11.0.0.0/8; deny ::/0');
  t.notOk(allowed('64:ff9b::10.0.0.1'));
  t.notOk(allowed('64:ff9b::11.0.0.1'));
  const { policy } = ruled('deny 10.0.0.0/8');
  t.match(policy.destination(address('2002:a00:1::1'), tcp(80)), { allowed: false, rule: 1 });
  t.ok(policy.destination(address('2002:b00:1::1'), tcp(80)).allowed);
});

t.test('a denied connection is to be reset, all else to be told that it is prohibited', async (t) => {
  const { policy } = ruled('deny any');
  const answer = (to: string, flow: PolicyFlow) => policy.destination(address(to), flow).answer;
  t.equal(answer('8.8.8.8', tcp(80)), 'reset');
  t.equal(answer('169.254.169.254', tcp(80)), 'reset');
  t.equal(answer('8.8.8.8', { ...tcp(80), protocol: 'udp' }), 'prohibited');
  t.equal(answer('8.8.8.8', { protocol: 'icmp', port: 0 }), 'prohibited');
  t.equal(answer('127.0.0.1', { ...tcp(80), protocol: 'udp' }), 'prohibited');
});

t.test('no rule opens what is never dialled, or a port of the host that is not open', async (t) => {
  const { allowed } = ruled('allow any\nallow 127.0.0.0/8\nallow ::1\nallow evil.example', {
    hostLoopback: { mode: 'list', ports: [[8080, 8081]] },
  });
  for (const to of [
    '127.0.0.1',
    '0.0.0.0',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '169.254.169.254',
    '192.168.65.7',
  ])
    t.notOk(allowed(to, tcp(8080, { resolvedName: 'evil.example' })), to);
  t.ok(allowed('192.168.65.2', tcp(8080)));
  t.notOk(allowed('192.168.65.2', tcp(8082)));
});

t.test('ports of the host', async (t) => {
  const host = '192.168.65.2';
  const own: number[] = [];
  const byDefault = ruled('', { ownPorts: () => own });
  t.ok(byDefault.allowed(host, tcp(5432)));
  for (const port of [2375, 2376]) {
    t.match(byDefault.policy.destination(address(host), tcp(port)), {
      allowed: false,
      reason: 'host-port',
      answer: 'reset',
    });
    t.notOk(byDefault.allowed('fd65::2', tcp(port)));
  }
  own.push(8899);
  t.notOk(byDefault.allowed(host, tcp(8899)), "Slipway's own");
  own.pop();
  t.ok(byDefault.allowed(host, tcp(8899)));
  const asking = ruled('', { hostLoopback: { mode: 'ask', ports: [[5432, 5432]] } });
  t.ok(asking.allowed(host, tcp(5432)));
  t.notOk(asking.allowed(host, tcp(5433)));
  t.notOk(asking.allowed(host, tcp(5433)));
  t.match(asking.policy.report().denials, [{ address: host, port: 5433, reason: 'host-port', flows: 2 }]);
  const { generation } = asking.policy;
  asking.policy.useHostPorts({ mode: 'all' });
  t.ok(asking.allowed(host, tcp(2375)));
  t.ok(asking.policy.generation > generation);
  const narrowed = ruled(`deny ${host} port 5433`, { hostLoopback: { mode: 'all' } });
  t.notOk(narrowed.allowed(host, tcp(5433)));
  t.equal(formatAddress(narrowed.policy.destination(address(host), tcp(5434)).address), '127.0.0.1');
});

t.test("the host's other addresses are the host", async (t) => {
  const { allowed } = ruled('', {
    hostLoopback: { mode: 'ask', ports: [[443, 443]] },
    hostAddresses: () => [address('10.1.2.3'), address('2001:db8::7')],
  });
  t.ok(allowed('10.1.2.3', tcp(443)));
  t.notOk(allowed('10.1.2.3', tcp(22)));
  t.notOk(allowed('2001:db8::7', tcp(22)));
  t.notOk(allowed('64:ff9b::10.1.2.3', tcp(22)), 'through NAT64 as well');
  t.ok(allowed('10.1.2.4', tcp(22)));
  t.ok(allowed('10.1.2.3', { protocol: 'icmp', port: 0 }));
});

t.test('a name is what the resolver gave this guest, for as long as it said', async (t) => {
  const { policy, clock, allowed } = ruled('allow .example.org port 80; deny any');
  t.ok(policy.resolved.active);
  policy.resolved.learn(1, 'www.example.org', address('8.8.8.8'), 60_000);
  t.ok(allowed('8.8.8.8'));
  t.notOk(allowed('8.8.8.8', tcp(81)));
  t.notOk(allowed('8.8.8.8', tcp(80, { ingress: 2 })), 'another guest');
  t.notOk(allowed('8.8.4.4'));
  clock.now = 69_999;
  t.ok(allowed('8.8.8.8'), 'a client that was told at the last moment connects');
  clock.now = 70_001;
  t.notOk(allowed('8.8.8.8'));
  policy.useRules(parsePolicyRules('deny 10.0.0.0/8'));
  t.notOk(policy.resolved.active, 'without names in rules nothing is kept');
});

t.test('names that the guest claims narrow, and never widen', async (t) => {
  const { policy, allowed } = ruled('deny bad.example.org; allow *.example.org; deny any');
  policy.resolved.learn(1, 'www.example.org', address('8.8.8.8'), 60_000);
  t.ok(allowed('8.8.8.8', tcp(443)));
  t.ok(allowed('8.8.8.8', tcp(443, { claimedName: 'api.EXAMPLE.org.' })));
  t.notOk(allowed('8.8.8.8', tcp(443, { claimedName: 'bad.example.org' })));
  t.notOk(allowed('8.8.8.8', tcp(443, { claimedName: 'other.example.net' })));
  t.notOk(allowed('9.9.9.9', tcp(443, { claimedName: 'www.example.org' })), 'a claim alone opens nothing');
  t.ok(allowed('9.9.9.9', tcp(443, { resolvedName: 'www.example.org' })), 'a proxy that resolved it knows');
});

t.test('a name that somebody else resolves is decided by its name, and by rules about everything', async (t) => {
  const { policy } = ruled('deny 10.0.0.0/8; deny bad.example.org; allow *.example.org port 443; deny 0.0.0.0/0');
  for (const [name, port, is] of [
    ['www.example.org', 443, true],
    ['www.example.org', 80, false],
    ['Bad.example.org.', 443, false],
    ['corp', 443, false],
  ] as const)
    t.equal(policy.unresolved(name, tcp(port)).allowed, is, `${name} ${port}`);
  t.ok(ruled('deny 10.0.0.0/8').policy.unresolved('corp', tcp(443)).allowed);
  t.notOk(ruled('deny ::/0').policy.unresolved('corp', tcp(443)).allowed);
  t.equal(policy.denied.rule, 3);
});

t.test("names of the network's own need not be asked for", async (t) => {
  const names = new Map([['host.docker.internal', options.hostAliases]]);
  const { allowed } = ruled('deny host.docker.internal port 22', { names });
  t.notOk(allowed('192.168.65.2', tcp(22)));
  t.ok(allowed('192.168.65.2', tcp(23)));
});

t.test('an address alone is allowed where every flow to it is', async (t) => {
  const { policy } = ruled('allow tcp 10.0.0.1; deny tcp 10.0.0.0/24 port 25; allow 10.0.0.2; deny 10.0.0.0/24');
  for (const [to, is] of [
    ['10.0.0.1', false],
    ['10.0.0.2', false],
    ['10.0.1.1', true],
  ] as const)
    t.equal(policy.destination(address(to)).allowed, is, to);
});

t.test('what comes to published ports has rules of its own', async (t) => {
  const { policy, allowed } = ruled('allow in 127.0.0.0/8; deny in tcp any port 8080');
  t.ok(policy.arrival(address('127.0.0.1'), 'tcp', 8080).allowed);
  t.notOk(policy.arrival(address('10.0.0.7'), 'tcp', 8080).allowed);
  t.ok(policy.arrival(address('10.0.0.7'), 'udp', 8080).allowed);
  t.ok(allowed('10.0.0.7', tcp(8080)), 'and is not about what guests begin');
});
