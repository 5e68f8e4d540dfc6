/** The gate: every form of address, the host alias, limits. */

import fc from 'fast-check';
import t from 'tap';
import { type DenyReason, Policy } from '../../src/proxy/policy.ts';
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
      '64:ff9b::0.0.0.0',
      '64:ff9b::169.254.169.254',
      '2002:7f00:1::',
      '2002:a9fe:a9fe::1',
      '2002:0:1::',
    ],
    gateway: ['192.168.65.1', 'fd65::1'],
    'guest-network': ['192.168.65.0', '192.168.65.3', '192.168.65.77', '192.168.65.255', 'fd65::3', 'fd65::ffff'],
    'no-host-loopback': [],
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
