/** The policy gate, asked once per flow: without rules, with many, with names, against reading the rules for each flow. */

import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy, type PolicyFlow } from '../../src/proxy/policy.ts';
import { type Address, parseAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { suite } from '../suite.ts';
import { report } from '../table.ts';

const address = (text: string): Address => parseAddress(text)!;
const rules = Array.from({ length: 100 }, (_, i) => `deny tcp 10.${i}.0.0/16 port ${i + 1}-${i + 100}`).join('\n');
const names = Array.from({ length: 100 }, (_, i) => `deny *.example-${i}.org`).join('\n');
const to = address('203.0.113.7');
const flow: PolicyFlow = { protocol: 'tcp', port: 443, ingress: 1 };

function gate(text: string): Policy {
  const policy = new Policy({
    subnets: [parseSubnet('192.168.65.0/24')!],
    gateways: [address('192.168.65.1')],
    hostAliases: [address('192.168.65.2')],
    hostAddresses: () => [],
    rules: parsePolicyRules(text),
    clock: { nowMs: () => 0 },
  });
  policy.resolved.learn(1, 'www.example.com', to, 60_000);
  return policy;
}

const [none, many, named] = [gate(''), gate(rules), gate(names)];
report(
  'Policy',
  await suite('flows let through', {
    '100 rules, read for each': () => gate(rules).destination(to, flow),
    'without rules': () => none.destination(to, flow),
    '100 networks with ports': () => many.destination(to, flow),
    '100 names': () => named.destination(to, flow),
  }),
);
