/** RFC 8415, Dynamic Host Configuration Protocol for IPv6: the server's side, by section. */

import t, { type Test as Tap } from 'tap';
import {
  association,
  clientId,
  DUID,
  GATEWAY,
  message,
  type Option,
  option,
  SERVER_DUID,
  serverId,
  setUp,
  word,
} from '../proxy/dhcpv6-client.ts';
import { address } from '../proxy/gateway-fakes.ts';

const SOLICIT = 1;
const ADVERTISE = 2;
const REQUEST = 3;
const CONFIRM = 4;
const RENEW = 5;
const REBIND = 6;
const REPLY = 7;
const RELEASE = 8;
const DECLINE = 9;
const INFORMATION_REQUEST = 11;

const OTHER_DUID = [0, 3, 0, 1, 2, 0, 0, 0, 0, 2];

const asks = (...codes: number[]): Option => [6, codes.flatMap((code) => [code >> 8, code & 255])];

t.test('7.1: servers listen on ff02::1:2', async (t) => {
  const { netstack, server } = setUp();
  t.same([...netstack.udp.keys()], ['ff02::1:2 547']);
  server.close();
  t.equal(netstack.udp.size, 0);
});

t.test('16: messages that only servers and relays send are discarded', async (t) => {
  const { ask, server } = setUp();
  for (const type of [0, ADVERTISE, REPLY, 10, 12, 13, 200]) t.equal(ask(type, [clientId()]), undefined, `${type}`);
  t.equal(server.drops.malformed, 7);
});

t.test('16.2: a Solicit without a client identifier, or with a server identifier, is discarded', async (t) => {
  const { ask } = setUp();
  t.equal(ask(SOLICIT, [association(1)]), undefined);
  t.equal(ask(SOLICIT, [clientId(), serverId, association(1)]), undefined);
});

function namesBoth(t: Tap, type: number): void {
  const { ask, server } = setUp();
  t.equal(ask(type, [serverId, association(1)]), undefined);
  t.equal(ask(type, [clientId(), association(1)]), undefined);
  t.equal(server.drops.malformed, 2);
  t.equal(ask(type, [clientId(), [2, [0, 3, 0, 1, 9, 9, 9, 9, 9, 9]], association(1)]), undefined);
  t.equal(server.drops['other-server'], 1);
}

function namesClientAlone(t: Tap, type: number): void {
  const { ask } = setUp();
  t.equal(ask(type, [association(1, 'fd00:1:2:3::1:5')]), undefined);
  t.equal(ask(type, [clientId(), serverId, association(1, 'fd00:1:2:3::1:5')]), undefined);
}

t.test('16.4: a Request names client and server, and what is for another server is discarded', async (t) => {
  namesBoth(t, REQUEST);
});

t.test('16.5: a Confirm names the client, and no server', async (t) => {
  namesClientAlone(t, CONFIRM);
});

t.test('16.6: a Renew names client and server, and what is for another server is discarded', async (t) => {
  namesBoth(t, RENEW);
});

t.test('16.7: a Rebind names the client, and no server', async (t) => {
  namesClientAlone(t, REBIND);
});

t.test('16.8: a Decline names client and server, and what is for another server is discarded', async (t) => {
  namesBoth(t, DECLINE);
});

t.test('16.9: a Release names client and server, and what is for another server is discarded', async (t) => {
  namesBoth(t, RELEASE);
});

t.test('16.12: an Information-request for another server, or with an association, is discarded', async (t) => {
  const { ask } = setUp();
  t.equal(ask(INFORMATION_REQUEST, [[2, [0, 3, 0, 1, 9, 9, 9, 9, 9, 9]]]), undefined);
  t.equal(ask(INFORMATION_REQUEST, [association(1)]), undefined);
  t.ok(ask(INFORMATION_REQUEST, [serverId]));
});

t.test('18.3.1: a Solicit is answered by an Advertise that binds nothing', async (t) => {
  const { ask, server } = setUp();
  const offer = ask(SOLICIT, [clientId(), association(7)])!;
  t.equal(offer.type, ADVERTISE);
  t.equal(offer.transaction, 0x123456);
  t.same(offer.option(1), DUID);
  t.same(offer.option(2), SERVER_DUID);
  t.match(offer.sent, { guest: 'fe80::9', guestPort: 546, peer: GATEWAY, peerPort: 547 });
  const given = offer.associations.get(7)!;
  t.equal(given.addresses.length, 1);
  t.match(given, { t1: 1800, t2: 2880, addresses: [{ preferred: 3600, valid: 3600 }] });
  t.match(server.bindings(), [{ bound: false }]);
});

t.test('18.3.1: a Solicit with rapid commit is answered by a Reply that binds', async (t) => {
  const { ask, server } = setUp();
  const reply = ask(SOLICIT, [clientId(), [14, []], association(7)])!;
  t.equal(reply.type, REPLY);
  t.same(reply.option(14), []);
  t.match(server.bindings(), [{ bound: true, address: reply.associations.get(7)!.addresses[0]!.address }]);
});

t.test('18.3.2: a Request gets the address that was advertised', async (t) => {
  const { ask, server } = setUp();
  const offered = ask(SOLICIT, [clientId(), association(7)])!.associations.get(7)!.addresses[0]!.address;
  const reply = ask(REQUEST, [clientId(), serverId, association(7, offered)])!;
  t.equal(reply.type, REPLY);
  t.match(reply.associations.get(7), { status: undefined, addresses: [{ address: offered, valid: 3600 }] });
  t.match(server.bindings(), [{ bound: true, address: offered }]);
});

t.test('18.3.2: a Request for an address of another network is told that it is not on the link', async (t) => {
  const { ask, server } = setUp();
  const reply = ask(REQUEST, [clientId(), serverId, association(7, '2001:db8::5')])!;
  t.match(reply.associations.get(7), { status: 4, addresses: [], t1: 0, t2: 0 });
  t.same(server.bindings(), []);
});

t.test('18.3.3: a Confirm is answered by whether all its addresses are on the link', async (t) => {
  const { ask } = setUp();
  const status = (...addresses: string[]): number[] | undefined =>
    ask(CONFIRM, [clientId(), association(7, ...addresses)])
      ?.option(13)
      ?.slice(0, 2);
  t.same(status('fd00:1:2:3::1:5'), [0, 0]);
  t.same(status('fd00:1:2:3::1:5', '2001:db8::5'), [0, 4]);
  t.equal(status(), undefined, 'without an address there is nothing to say');
});

t.test('18.3.4: a Renew extends a binding', async (t) => {
  const { ask, bind, clock, server } = setUp();
  const address = bind()!;
  clock.now += 1800_000;
  const reply = ask(RENEW, [clientId(), serverId, association(1, address)])!;
  t.match(reply.associations.get(1), { t1: 1800, addresses: [{ address, valid: 3600 }] });
  t.equal(server.bindings()[0]!.untilMs, clock.now + 3600_000);
});

t.test('18.3.4: a Renew tells of addresses that the client may have no longer by lifetimes of 0', async (t) => {
  const { ask, bind } = setUp();
  const kept = bind()!;
  const reply = ask(RENEW, [clientId(), serverId, association(1, kept, '2001:db8::5')])!;
  t.match(reply.associations.get(1)!.addresses, [
    { address: kept, valid: 3600 },
    { address: '2001:db8::5', preferred: 0, valid: 0 },
  ]);
});

t.test('18.3.4: a Renew of a binding that nobody remembers makes it anew, where the address is free', async (t) => {
  const { ask, bind } = setUp();
  const free = 'fd00:1:2:3:0:1:0:5';
  const one = ask(RENEW, [clientId(), serverId, association(1, free)])!;
  t.match(one.associations.get(1)!.addresses, [{ address: free, valid: 3600 }]);
  const held = bind(DUID, 1)!;
  const taken = ask(RENEW, [clientId(OTHER_DUID), serverId, association(1, held)])!;
  const [given, lost] = taken.associations.get(1)!.addresses;
  t.not(given!.address, held);
  t.match(lost, { address: held, valid: 0 });
});

t.test('18.3.5: a Rebind extends a binding too, whichever server it was of', async (t) => {
  const { ask, bind } = setUp();
  const address = bind()!;
  const reply = ask(REBIND, [clientId(), association(1, address)])!;
  t.equal(reply.type, REPLY);
  t.match(reply.associations.get(1)!.addresses, [{ address, valid: 3600 }]);
});

t.test('18.3.6: an Information-request gets name servers and search list, and no address', async (t) => {
  const { ask, server } = setUp({ search: () => ['corp.example', 'example.org'] });
  const reply = ask(INFORMATION_REQUEST, [])!;
  t.equal(reply.type, REPLY);
  t.same(reply.option(2), SERVER_DUID);
  t.equal(reply.option(1), undefined, 'who does not say who it is, is not told');
  t.same(reply.option(23), [...address('fd00:1:2:3::1')]);
  t.same(reply.option(24), [...Buffer.from('\x04corp\x07example\0\x07example\x03org\0', 'latin1')]);
  t.same(ask(INFORMATION_REQUEST, [clientId()])!.option(1), DUID);
  t.same(server.bindings(), []);
});

t.test('18.3.7: a Release gives the address back; one of nothing is told that there is no binding', async (t) => {
  const { ask, bind, server } = setUp();
  const address = bind()!;
  const reply = ask(RELEASE, [clientId(), serverId, association(1, address), association(2, address)])!;
  t.same(reply.option(13)?.slice(0, 2), [0, 0]);
  t.notOk(reply.associations.has(1));
  t.match(reply.associations.get(2), { status: 3, addresses: [] });
  t.match(server.bindings(), [{ bound: false }]);
  t.equal(bind(), address, 'and it is remembered');
});

t.test('18.3.8: a declined address is left alone for a while', async (t) => {
  const { ask, bind, clock } = setUp();
  const address = bind()!;
  t.same(
    ask(DECLINE, [clientId(), serverId, association(1, address)])!
      .option(13)
      ?.slice(0, 2),
    [0, 0],
  );
  const offered = (duid: number[]): string =>
    ask(SOLICIT, [clientId(duid), association(1, address)])!.associations.get(1)!.addresses[0]!.address;
  t.not(bind(), address);
  t.not(offered([0, 4, 1]), address);
  clock.now += 11 * 60_000;
  t.equal(offered([0, 4, 2]), address);
});

t.test('18.3.9: an association that gets no address is told so', async (t) => {
  const { ask, bind, server } = setUp({ perPort: 2 });
  t.ok(bind(DUID, 1));
  t.ok(bind(DUID, 2));
  const offer = ask(SOLICIT, [clientId(), association(3)])!;
  t.match(offer.associations.get(3), { status: 2, addresses: [] });
  t.equal(server.drops.exhausted, 1);
});

t.test('21.5: there are no temporary addresses here', async (t) => {
  const { ask } = setUp();
  const offer = ask(SOLICIT, [clientId(), [4, word(5)]])!;
  t.match(offer.associations.get(5), { status: 2 });
});

t.test('21.7: a client gets of the parameters those that it asks for', async (t) => {
  const { ask } = setUp({ search: () => ['corp.example'] });
  const both = ask(INFORMATION_REQUEST, [asks(23, 24)])!;
  t.ok(both.option(23) && both.option(24));
  const one = ask(INFORMATION_REQUEST, [asks(24)])!;
  t.notOk(one.option(23));
  t.ok(one.option(24));
});

t.test('21.8: no other server is to be waited for', async (t) => {
  const { ask } = setUp();
  t.same(ask(SOLICIT, [clientId(), association(1)])!.option(7), [255]);
  t.equal(ask(SOLICIT, [clientId(), [14, []], association(1)])!.option(7), undefined, 'in a Reply it says nothing');
});

t.test('21.21: there are no prefixes to delegate here', async (t) => {
  const { ask } = setUp();
  const offer = ask(SOLICIT, [clientId(), [25, [...word(6), ...word(0), ...word(0)]]])!;
  t.match(offer.associations.get(6), { status: 6 });
});

t.test('11.1: a DUID has 3 octets at least and 130 at most', async (t) => {
  const { ask } = setUp();
  for (const [octets, sound] of [
    [2, false],
    [3, true],
    [130, true],
    [131, false],
  ] as const) {
    const duid = new Array<number>(octets).fill(7);
    t.equal(ask(SOLICIT, [clientId(duid), association(1)]) !== undefined, sound, `${octets}`);
  }
});

t.test('8: options that do not fill the message make it no message', async (t) => {
  const { deliver, server } = setUp();
  const sound = message(SOLICIT, 1, clientId(), association(1));
  t.ok(deliver(sound));
  for (let length = 0; length < sound.length; length++) {
    const cut = deliver(sound.slice(0, length));
    // Where an option ends, what is left may be a message of its own.
    if (length !== 4 + option(clientId()).length) t.equal(cut, undefined, `${length}`);
  }
  t.ok(server.drops.malformed > 0);
});
