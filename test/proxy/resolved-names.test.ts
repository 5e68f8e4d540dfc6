/** Which addresses a guest was given for which names: read from answers as they go to it, whatever is in them. */

import { type Answer, encode } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { Query } from '../../src/proxy/dns/message.ts';
import { ResolvedNames } from '../../src/proxy/policy/resolved-names.ts';
import { address } from './gateway-fakes.ts';

function world() {
  const clock = { now: 0, nowMs: () => clock.now };
  const names = new ResolvedNames(clock);
  names.active = true;
  const hear = (bytes: Uint8Array, ingress = 1, length = bytes.length): void => {
    const query = new Query();
    const question = bytes.slice();
    question[2]! &= 0x7f;
    query.parse(question, length, 1);
    names.heard(bytes, length, query, ingress);
  };
  const knows = (at: string, name: string, ingress: number | undefined = 1): boolean =>
    names.some(ingress, address(at), (found) => found === name);
  return { clock, names, hear, knows };
}

const response = (name: string, answers: Answer[], more: object = {}): Uint8Array =>
  encode({ type: 'response', id: 1, questions: [{ type: 'A', class: 'IN', name }], answers, ...more });

t.test('addresses of both families, by the name that was asked for', async (t) => {
  const { clock, hear, knows } = world();
  hear(
    response('WWW.example.org', [
      { type: 'CNAME', name: 'www.example.org', ttl: 30, data: 'cdn.example.net' },
      { type: 'A', name: 'cdn.example.net', ttl: 60, data: '203.0.113.1' },
      { type: 'AAAA', name: 'cdn.example.net', ttl: 60, data: '2001:db8::1' },
      { type: 'TXT', name: 'cdn.example.net', ttl: 60, data: 'A' },
      { type: 'A', name: 'cdn.example.net', ttl: 20, data: '203.0.113.2' },
    ]),
  );
  for (const at of ['203.0.113.1', '203.0.113.2', '2001:db8::1']) {
    t.ok(knows(at, 'www.example.org'), at);
    t.notOk(knows(at, 'cdn.example.net'), 'not by its aliases');
    t.notOk(knows(at, 'www.example.org', 2), 'nor for another guest');
    t.ok(knows(at, 'www.example.org', undefined), 'for any');
  }
  clock.now = 30_001;
  t.notOk(knows('203.0.113.2', 'www.example.org'), 'each for as long as it was said, and ten seconds');
  t.ok(knows('203.0.113.1', 'www.example.org'));
  clock.now = 40_001;
  t.notOk(knows('203.0.113.1', 'www.example.org'), 'and no longer than an alias on the way');
});

t.test('an answer without addresses, an error, one that was cut, teaches nothing', async (t) => {
  const { hear, knows, names } = world();
  const a: Answer = { type: 'A', name: 'a.test', ttl: 60, data: '203.0.113.1' };
  hear(response('a.test', [a], { flags: 3 }));
  t.notOk(knows('203.0.113.1', 'a.test'), 'NXDOMAIN');
  hear(response('a.test', [{ ...a, class: 'CH' }]));
  t.notOk(knows('203.0.113.1', 'a.test'), 'of another class');
  const whole = response('a.test', [a]);
  hear(whole, 1, whole.length - 1);
  t.notOk(knows('203.0.113.1', 'a.test'), 'cut');
  names.active = false;
  hear(whole);
  names.active = true;
  t.notOk(knows('203.0.113.1', 'a.test'), 'nobody asked');
  hear(whole);
  t.ok(knows('203.0.113.1', 'a.test'));
});

t.test('a guest has only so much room, and takes none of another', async (t) => {
  const { names, knows } = world();
  names.learn(2, 'kept.test', address('10.0.0.1'), 60_000);
  for (let i = 0; i < 5000; i++) names.learn(1, 'many.test', address(`10.1.${i >> 8}.${i & 255}`), 60_000);
  t.notOk(knows('10.1.0.0', 'many.test'), 'the first was forgotten');
  t.ok(knows('10.1.19.135', 'many.test'));
  for (let i = 0; i < 100; i++) names.learn(1, `n${i}.test`, address('10.2.0.1'), 60_000);
  t.notOk(knows('10.2.0.1', 'n0.test'));
  t.ok(knows('10.2.0.1', 'n99.test'));
  t.ok(knows('10.0.0.1', 'kept.test', 2));
});

t.test('whatever the octets, nothing is thrown', async () => {
  const { hear } = world();
  const sound = response('a.test', [
    { type: 'CNAME', name: 'a.test', ttl: 30, data: 'b.test' },
    { type: 'A', name: 'b.test', ttl: 60, data: '203.0.113.1' },
  ]);
  const mutated = fc
    .array(fc.tuple(fc.nat(sound.length - 1), fc.nat(255)), { minLength: 1, maxLength: 12 })
    .map((changes) => {
      const bytes = sound.slice();
      for (const [at, octet] of changes) bytes[at] = octet;
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 80 })), (bytes) => hear(bytes)),
    { numRuns: 5000 },
  );
});
