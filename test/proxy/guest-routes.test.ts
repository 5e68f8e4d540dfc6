/** The policy of guests' HTTP where the upstream proxy alone knows a name. */

import { PassThrough } from 'node:stream';
import t from 'tap';
import { GuestRoutes } from '../../src/proxy/http-proxy/guest-routes.ts';
import { NoProxy } from '../../src/proxy/http-proxy/no-proxy.ts';
import { parseProxyUrl } from '../../src/proxy/http-proxy/proxy-url.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';

t.test('a name without an address goes to the proxy only where the rules let it', async (t) => {
  const rules = parsePolicyRules('allow *.corp.example; deny any');
  const policy = new Policy({ subnets: [], gateways: [], hostAliases: [], rules, clock: { nowMs: () => 0 } });
  const upstream = parseProxyUrl('http://127.0.0.1:9');
  const settings = { http: upstream, https: upstream, noProxy: NoProxy.parse('') };
  const routes = new GuestRoutes(policy, { addressesOf: async () => [] }, settings);
  const stream = new PassThrough();
  routes.introduce(stream, { ingress: 1 });
  const route = (host: string) => routes.route({ host, port: 80 } as Parameters<GuestRoutes['route']>[0], stream);
  t.match((await route('www.corp.example')).key, /^\d+ proxy /);
  await t.rejects(route('elsewhere.example'), { message: /does not let containers reach elsewhere\.example/ });
  policy.useRules(parsePolicyRules('allow 10.9.0.1; deny any'));
  routes.introduce(stream, { ingress: 1, dialled: parseAddress('10.9.0.1')! });
  await t.rejects(
    route('elsewhere.example'),
    { message: /does not let containers reach elsewhere\.example/ },
    'nor is an address that is allowed a way to another name',
  );
  t.match((await route('10.9.0.1')).key, /^\d+ proxy /);
  t.match(policy.report().denials, [{ address: 'elsewhere.example', port: 80, rule: 'deny any' }]);
});

t.test('connections whose last target the policy denies now are told apart from those it lets be', async (t) => {
  const policy = new Policy({ subnets: [], gateways: [], hostAliases: [], clock: { nowMs: () => 0 } });
  const known: Record<string, string> = { 'www.example.org': '203.0.113.1', 'other.example.org': '203.0.113.2' };
  const upstream = parseProxyUrl('http://127.0.0.1:9');
  const names = { addressesOf: async (name: string) => (known[name] ? [parseAddress(known[name])!] : []) };
  const routes = new GuestRoutes(policy, names, { https: upstream, noProxy: NoProxy.parse('') });
  const lead = async (host: string): Promise<PassThrough> => {
    const stream = new PassThrough();
    routes.introduce(stream, { ingress: 1 });
    await routes.route({ host, port: 443 } as Parameters<GuestRoutes['route']>[0], stream);
    return stream;
  };
  policy.useRules(parsePolicyRules('allow *.example.org; deny any'));
  const streams = [await lead('www.example.org'), await lead('other.example.org'), new PassThrough()];
  const allowed = (rules: string): boolean[] => {
    policy.useRules(parsePolicyRules(rules));
    return streams.map((stream) => routes.isAllowed(stream));
  };
  t.same(allowed('allow www.example.org; deny any'), [true, false, true], 'by the name it was led by');
  t.same(allowed('deny 203.0.113.1; allow any'), [false, true, true]);
  t.same(allowed(''), [true, true, true]);
});
