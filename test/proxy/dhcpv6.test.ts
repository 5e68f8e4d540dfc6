/** The DHCPv6 server beyond its RFC (test/rfc/rfc8415.test.ts): whose address is whose, bounds, and hostile octets. */

import fc from 'fast-check';
import t from 'tap';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { association, clientId, DUID, MAC, message, option, serverId, setUp } from './dhcpv6-client.ts';

const OTHER = 0x02_00_00_00_00_02;
const OTHER_DUID = [0, 3, 0, 1, 2, 0, 0, 0, 0, 2];

t.test('who has an IPv4 lease has the same host part; nobody else has it', async (t) => {
  const { ask, bind } = setUp({ hostNumber: (mac) => (mac === MAC ? 3 : undefined) });
  t.equal(bind(), 'fd00:1:2:3::3');
  t.match(bind(DUID, 2), /^fd00:1:2:3:0:1:/, 'of two associations, the first');
  t.match(bind(OTHER_DUID, 1, { mac: OTHER }), /^fd00:1:2:3:0:1:/);
  for (const wanted of ['fd00:1:2:3::1', 'fd00:1:2:3::2', 'fd00:1:2:3::3', 'fd00:1:2:3:200:ff:fe00:1']) {
    const from = { mac: OTHER };
    for (const type of [3, 5]) {
      const reply = ask(type, [clientId(OTHER_DUID), serverId, association(9, wanted)], from)!;
      t.notOk(
        reply.associations.get(9)!.addresses.some(({ address, valid }) => address === wanted && valid > 0),
        wanted,
      );
    }
  }
});

t.test('an address is the same again, also from a server that remembers nothing', async (t) => {
  const first = setUp();
  const address = first.bind();
  t.match(address, /^fd00:1:2:3:0:1:/);
  t.equal(first.bind(), address);
  t.equal(setUp().bind(), address);
  t.not(first.bind(OTHER_DUID), address);
  const fresh = setUp();
  const reply = fresh.ask(5, [clientId(OTHER_DUID), serverId, association(1, address!)])!;
  t.match(reply.associations.get(1)!.addresses, [{ address, valid: 3600 }], 'free there, and kept');
});

t.test('an address goes back by its own client at its own switch port only', async (t) => {
  const { ask, bind, server } = setUp();
  const address = bind(DUID, 1, { ingress: 4 })!;
  for (const type of [8, 9]) {
    ask(type, [clientId(), serverId, association(1, address)], { ingress: 5 });
    ask(type, [clientId(OTHER_DUID), serverId, association(1, address)], { ingress: 4 });
    t.match(server.bindings(), [{ address, bound: true }]);
  }
});

t.test('the owner is told which address is behind which switch port', async (t) => {
  const told: string[] = [];
  const { ask, bind } = setUp({
    hostNumber: () => 3,
    bound: (at, ingress, mac) => void told.push(`${formatAddress(at)} ${ingress} ${Buffer.from(mac).toString('hex')}`),
    unbound: (at) => void told.push(`${formatAddress(at)} free`),
  });
  bind(DUID, 1, { ingress: 2 });
  ask(8, [clientId(), serverId, association(1, 'fd00:1:2:3::3')], { ingress: 2 });
  t.same(told, ['fd00:1:2:3::3 2 020000000001', 'fd00:1:2:3::3 free']);
});

t.test('a switch port cannot take what is others’', async (t) => {
  const { ask, bind, server } = setUp({ perPort: 10 });
  const kept = bind(DUID, 1, { ingress: 1 });
  for (let id = 0; id < 300; id++) ask(1, [clientId(OTHER_DUID), association(id)], { ingress: 2 });
  t.equal(server.bindings().filter(({ ingress }) => ingress === 2).length, 10);
  for (let id = 0; id < 10; id++) t.ok(bind(OTHER_DUID, id, { ingress: 3 }));
  t.equal(bind(OTHER_DUID, 11, { ingress: 3 }), undefined, 'bound ones are not displaced');
  t.equal(bind(DUID, 1, { ingress: 1 }), kept);
});

t.test('declining everything leaves addresses for others', async (t) => {
  const { ask, bind } = setUp();
  for (let i = 0; i < 200; i++) {
    const address = bind();
    if (address) ask(9, [clientId(), serverId, association(1, address)]);
  }
  t.ok(bind(OTHER_DUID));
});

t.test('a request in fragments is not one: whose it is cannot be told', async (t) => {
  const { netstack, server } = setUp();
  const to = { guest: 'fe80::9', guestPort: 546, peer: 'ff02::1:2', peerPort: 547 };
  t.equal(netstack.deliver(message(1, 1, clientId(), association(1)), to).length, 0);
  t.equal(server.drops.malformed, 1);
});

t.test('no octets make the server throw, and every answer can be read', async (t) => {
  const { deliver } = setUp({ search: () => ['example.org'], hostNumber: () => 3 });
  const octets = fc.uint8Array({ maxLength: 64 });
  const code = fc.oneof(fc.constantFrom(1, 2, 3, 4, 5, 6, 13, 14, 25), fc.nat(0xffff));
  const plain = fc.tuple(code, octets).map(([number, value]) => option([number, [...value]]));
  const nested = fc
    .tuple(
      fc.constantFrom(3, 4, 25),
      fc.uint8Array({ minLength: 12, maxLength: 12 }),
      fc.array(plain, { maxLength: 4 }),
    )
    .map(([number, head, inner]) => option([number, [...head, ...inner.flat()]]));
  const known = fc.constantFrom(option(clientId()), option(serverId), option(association(1, 'fd00:1:2:3::1:5')));
  const options = fc.array(fc.oneof(plain, nested, known), { maxLength: 12 }).map((list) => list.flat());
  const structured = fc.tuple(fc.nat(13), options).map(([type, tail]) => Uint8Array.from([type, 1, 2, 3, ...tail]));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), structured), (bytes) => {
      const answer = deliver(bytes);
      return answer === undefined || answer.type === 2 || answer.type === 7;
    }),
    { numRuns: 3000 },
  );
  t.equal(deliver(new Uint8Array(5000)), undefined);
});
