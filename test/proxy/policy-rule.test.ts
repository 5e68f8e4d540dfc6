/** Rules as text, and the gate against a naive model of what they say. */

import fc from 'fast-check';
import t from 'tap';
import { parseSetting } from '../../src/config/schema.ts';
import { matchesName, parseNamePattern } from '../../src/proxy/policy/name-pattern.ts';
import { formatPolicyRule, parsePolicyRule, parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy, type PolicyFlow } from '../../src/proxy/policy.ts';
import { formatAddress, isIpv4 } from '../../src/stack/wire/address.ts';
import { address } from './gateway-fakes.ts';

t.test('rules are read, and written as short as they can be', async (t) => {
  for (const [text, written] of [
    ['deny any', 'deny any'],
    [' deny  out ', 'deny any'],
    ['allow out tcp any port 443', 'allow tcp port 443'],
    ['allow port 80,8000-8100,9-9', 'allow port 80,8000-8100,9'],
    ['deny 10.1.2.3/8', 'deny 10.0.0.0/8'],
    ['deny 10.1.2.3/32', 'deny 10.1.2.3'],
    ['deny 0.0.0.0/0', 'deny 0.0.0.0/0'],
    ['deny ::/0', 'deny ::/0'],
    ['deny ::ffff:10.0.0.0/104', 'deny 10.0.0.0/8'],
    ['deny 2001:DB8::1/32 port 53', 'deny 2001:db8::/32 port 53'],
    ['allow udp *.Example.org.', 'allow udp *.example.org'],
    ['allow .example.org', 'allow .example.org'],
    ['allow api-*.example.org', 'allow api-*.example.org'],
    ['deny registry', 'deny registry'],
    ['deny in tcp 10.0.0.0/8 port 8080', 'deny in tcp 10.0.0.0/8 port 8080'],
    ['deny icmp', 'deny icmp'],
  ] as const)
    t.equal(formatPolicyRule(parsePolicyRule(text)), written, text);
  t.same(parsePolicyRules('# none\n\n ; \r\n'), []);
  t.equal(parsePolicyRules('deny 10.0.0.0/8;allow any # rest\nallow tcp').length, 3);
});

t.test('what is no rule says why', async (t) => {
  for (const [text, words] of [
    ['', /a rule is allow\|deny/],
    ['permit any', /a rule is allow\|deny/],
    ['deny', /it says nothing of what to deny/],
    ['deny tcp udp', /'udp' is neither/],
    ['deny 10.0.0.0/33', /neither an address/],
    ['deny 10.0.0.0/08', /neither an address/],
    ['deny 10.0.0', /neither an address/],
    ['deny 0x7f.1', /neither an address/],
    ['deny 0x7f000001', /neither an address/],
    ['deny 2130706433', /neither an address/],
    ['deny 010.0.0.1', /neither an address/],
    ['deny 127.1', /neither an address/],
    ['deny fe80::1%eth0', /neither an address/],
    ['deny *', /neither an address/],
    ['deny a..b', /neither an address/],
    ['deny [::1]', /neither an address/],
    ['deny any port', /'' is no list of ports/],
    ['deny any port 0', /'0' is no list of ports/],
    ['deny any port 65536', /is no list of ports/],
    ['deny any port 9-8', /is no list of ports/],
    ['deny any port ,', /is no list of ports/],
    ['deny any port 1 2', /'2' is too much/],
    ['deny icmp port 1', /ICMP has no ports/],
    ['deny in example.org', /known by address alone/],
  ] as const)
    t.throws(() => parsePolicyRule(text), { code: 'POLICY_RULE', message: words }, text);
  t.throws(() => parsePolicyRules('deny any\n'.repeat(1025)), { code: 'POLICY_RULE', message: /more than 1024/ });
});

t.test('names', async (t) => {
  for (const [pattern, matching, others] of [
    ['example.org', ['example.org', 'EXAMPLE.org'], ['www.example.org', 'xexample.org', 'example.org.evil', 'org', '']],
    ['*.example.org', ['a.example.org', 'a.b.example.org'], ['example.org', 'xexample.org', 'a.example.org.evil']],
    ['.example.org', ['example.org', 'a.example.org'], ['xexample.org', '.org']],
    ['api-*.example.org', ['api-1.example.org', 'api-.example.org'], ['api.example.org', 'api-1.x.example.org']],
    ['a*b*c.x', ['abc.x', 'a1b2c.x', 'abbcc.x'], ['ab.x', 'ac.x', 'abcd.x']],
    ['*.*.x', ['a.b.x', 'a.b.c.x'], ['a.x', 'x']],
  ] as const) {
    const parsed = parseNamePattern(pattern)!;
    for (const name of matching) t.ok(matchesName(parsed, name), `${pattern} is about ${name}`);
    for (const name of others) t.notOk(matchesName(parsed, name), `${pattern} is not about ${name}`);
  }
  const hostile = parseNamePattern(`${'*a'.repeat(31)}.x`)!;
  t.notOk(matchesName(hostile, `${'a'.repeat(63)}b.x`), 'at once, whatever the stars');
});

const port = fc.integer({ min: 1, max: 65535 });
const v4 = fc.tuple(...Array.from({ length: 4 }, () => fc.constantFrom(8, 9, 10, 64, 200))).map((n) => n.join('.'));
const v6 = fc
  .array(fc.constantFrom('0', '1', 'ff', 'db8'), { minLength: 6, maxLength: 6 })
  .map((groups) => `2001:db8:${groups.join(':')}`);
const host = fc.oneof(v4, v6);
const label = fc.stringMatching(/^[a-c]{1,2}$/);
const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
const subnet = host.chain((text) =>
  fc.integer({ min: 0, max: text.includes(':') ? 128 : 32 }).map((bits) => `${text}/${bits}`),
);
const target = fc.oneof(
  fc.constant('any'),
  host,
  subnet,
  fc.tuple(fc.constantFrom('', '.', '*.'), name).map((parts) => parts.join('')),
);
const ports = fc
  .array(fc.tuple(port, port), { minLength: 1, maxLength: 3 })
  .map((ranges) => ranges.map(([a, b]) => (a < b ? `${a}-${b}` : `${a}`)).join(','));
const ruleParts = fc.record({
  action: fc.constantFrom('allow', 'deny'),
  protocol: fc.constantFrom('', 'tcp', 'udp', 'icmp'),
  target,
  ports: fc.option(ports, { nil: '' }),
});
type RuleParts = typeof ruleParts extends fc.Arbitrary<infer T> ? T : never;
const written = ({ action, protocol, target, ports }: RuleParts): string =>
  [action, protocol, target, ports && protocol !== 'icmp' ? `port ${ports}` : '']
    .filter((word) => word !== '')
    .join(' ');

/** An address as one number of 128 bits, and whether it is of IPv4. */
function bits(text: string): bigint {
  return address(text).reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
}

/** What a rule says, by another way of saying it. */
function naive(rule: RuleParts, to: string, flow: PolicyFlow, names: readonly string[]): boolean {
  const { protocol, target, ports } = rule;
  if (protocol !== '' && protocol !== flow.protocol) return false;
  if (ports !== '' && protocol !== 'icmp') {
    if (flow.protocol === 'icmp') return false;
    const ranges = ports.split(',').map((range) => range.split('-').map(Number));
    if (!ranges.some(([first, last = first]) => flow.port >= first! && flow.port <= last!)) return false;
  }
  if (target === 'any') return true;
  if (/^[\d:]/.test(target)) {
    const [network = '', length] = target.split('/');
    if (network.includes(':') !== to.includes(':')) return false;
    const width = network.includes(':') ? 128 : 32;
    const shift = BigInt(width - Number(length ?? width));
    return bits(network) >> shift === bits(to) >> shift;
  }
  const end = target.replace(/^\*?\./, '');
  return names.some((one) => (one === end && !target.startsWith('*.')) || (target !== end && one.endsWith(`.${end}`)));
}

t.test('the gate decides as the naive model does', async () => {
  const flow = fc.record({ protocol: fc.constantFrom('tcp', 'udp', 'icmp'), port, ingress: fc.constant(1) });
  const named = fc.array(fc.tuple(name, host), { maxLength: 4 });
  fc.assert(
    fc.property(fc.array(ruleParts, { maxLength: 8 }), host, flow, named, (rules, to, flow, told) => {
      const clock = { nowMs: () => 0 };
      const parsed = parsePolicyRules(rules.map(written).join('\n'));
      const policy = new Policy({ subnets: [], gateways: [], hostAliases: [], rules: parsed, clock });
      for (const [name, at] of told) policy.resolved.learn(1, name, address(at), 1000);
      const names = told
        .filter(([, at]) => formatAddress(address(at)) === formatAddress(address(to)))
        .map(([one]) => one);
      const at = rules.findIndex((rule) => naive(rule, to, flow, names));
      const expected = at < 0 || rules[at]!.action === 'allow';
      const verdict = policy.destination(address(to), flow);
      return verdict.allowed === expected && verdict.rule === (at < 0 ? undefined : at + 1);
    }),
    { numRuns: 2000 },
  );
});

t.test('what is written is read as the same; IPv4 and IPv6 are apart', async () => {
  fc.assert(
    fc.property(ruleParts, host, (parts, to) => {
      const rule = parsePolicyRule(written(parts));
      const again = parsePolicyRule(formatPolicyRule(rule));
      const { target } = rule;
      const apart = !target || !('subnet' in target) || parts.target.includes(':') !== isIpv4(target.subnet.address);
      return JSON.stringify(again) === JSON.stringify(rule) && apart && to !== '';
    }),
    { numRuns: 1000 },
  );
});

t.test('the setting takes no text that is no list of rules, and every rule that is one', async () => {
  const word = fc.oneof(
    fc.constantFrom(
      'allow',
      'deny',
      'in',
      'out',
      'tcp',
      'icmp',
      'any',
      'port',
      '80',
      '1-2',
      ';',
      '#',
      '\n',
      ',',
      '*',
      '::',
    ),
    target,
    fc.string({ maxLength: 8 }),
    fc.stringMatching(/^[0-9a-f.:*/x-]{1,12}$/),
  );
  const takes = (text: string): boolean => {
    try {
      parseSetting('policy.rules', text);
      return true;
    } catch {
      return false;
    }
  };
  const reads = (text: string): boolean => {
    try {
      parsePolicyRules(text);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== 'POLICY_RULE') throw error;
      return false;
    }
  };
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      const text = words.join(' ');
      return takes(text) === reads(text);
    }),
    { numRuns: 5000 },
  );
  fc.assert(
    fc.property(fc.array(ruleParts, { maxLength: 5 }), (rules) => takes(rules.map(written).join('; '))),
    { numRuns: 1000 },
  );
});
