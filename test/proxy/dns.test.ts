/** The DNS forwarder, over UDP: names of its own, the cache, the host's servers, what a forwarder must leave alone. */

import dnsPacket, { type Answer } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { type Ask, a, decode, FIRST, GATEWAY, query, reply, SECOND, setUp, soa } from './dns-world.ts';
import { address } from './gateway-fakes.ts';

t.test('names of the network', async (t) => {
  const { ask, hostNet, dns } = setUp();
  for (const [name, expected] of [
    ['host.docker.internal', '192.168.65.2'],
    ['host.containers.internal', '192.168.65.2'],
    ['gateway.docker.internal', GATEWAY],
    ['gateway.containers.internal', GATEWAY],
    ['vm.docker.internal', '192.168.65.9'],
    ['HOST.Docker.Internal', '192.168.65.2'],
  ] as const) {
    const answer = ask({ name, guest: '192.168.65.9', id: 4242 })!;
    t.match(
      answer,
      {
        id: 4242,
        type: 'response',
        rcode: 'NOERROR',
        flag_aa: true,
        questions: [{ name }],
        answers: [{ type: 'A', name, data: expected }],
      },
      name,
    );
    for (const type of ['AAAA', 'TXT', 'HTTPS', 'SRV']) {
      const nodata = ask({ name, type })!;
      t.equal(nodata.rcode, 'NOERROR', `${name} ${type} is no data, not NXDOMAIN`);
      t.equal(nodata.answers!.length, 0);
    }
  }
  t.match(ask({ name: '2.65.168.192.in-addr.arpa', type: 'PTR' }), {
    answers: [{ type: 'PTR', data: 'host.docker.internal' }],
  });
  t.match(ask({ name: '1.65.168.192.in-addr.arpa', type: 'PTR' }), {
    answers: [{ type: 'PTR', data: 'gateway.docker.internal' }],
  });
  const edns = ask({ name: 'host.docker.internal', edns: 4096 })!;
  t.match(edns.additionals, [{ type: 'OPT' }]);
  t.equal(ask({ name: 'host.docker.internal' })!.additionals!.length, 0);
  t.equal(hostNet.sockets.length, 0, 'nobody else is asked');
  for (const name of [
    'host.docker.internal.example.org',
    'xhost.docker.internal',
    'gost.docker.internal',
    'docker.internal',
  ])
    t.equal(ask({ name }), undefined, `${name} is not ours`);
  dns.close();
});

t.test('a query goes to the first server as it came, under a new id; the answer comes back as it is', async (t) => {
  const { send, socket, netstack } = setUp();
  const asked = query({ name: 'WwW.Example.ORG', id: 0xbeef, edns: 4096, type: 'SVCB' });
  t.same(send(asked, { guestPort: 5353, ingress: 2 }), []);
  const sent = socket().sent[0]!;
  t.equal(sent.server, `${FIRST}#53`);
  t.not(decode(sent.payload).id, 0xbeef);
  t.same(sent.payload.slice(2), asked.slice(2));
  const answer = reply(sent.payload, [], {
    rcode: 3,
    authorities: [soa('example.org', 60)],
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: 1400,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  });
  netstack.sent = [];
  socket().answer(answer, FIRST);
  const [got] = netstack.sent;
  t.match(got, { guest: '192.168.65.3', guestPort: 5353, peer: GATEWAY, peerPort: 53, ingress: 2 });
  t.equal(decode(got!.payload).id, 0xbeef);
  t.same(got!.payload.slice(2), answer.slice(2), 'NXDOMAIN stays NXDOMAIN, with SOA and EDNS');
});

t.test('ids and ports cannot be guessed: random ids, several sockets that are replaced before long', async (t) => {
  const { ask, hostNet, advance, socket, dns, clock } = setUp([FIRST]);
  const ids = new Set<number>();
  for (let i = 0; i < 100; i++) {
    // Those of one moment may share a socket.
    clock.now++;
    ask({ name: `n${i}.example.org`, id: 5, guestPort: 1000 + i });
    ids.add(decode(socket().sent.at(-1)!.payload).id!);
  }
  t.equal(hostNet.sockets.length, 8);
  t.ok(
    hostNet.sockets.every((one) => one.sent.length > 1),
    'all of them are used',
  );
  t.equal(ids.size, 100);
  advance(1000);
  for (let i = 0; i < 40; i++) advance(1000);
  t.equal(hostNet.open, 0, 'closed once they are idle');
  t.equal(dns.pollAt(), Number.POSITIVE_INFINITY);
  for (let i = 0; i < 20_000; i++) {
    ask({ name: `m${i}.example.org`, guestPort: 1000 + (i % 60_000) });
    const { payload } = socket().sent.at(-1)!;
    socket().answer(reply(payload), FIRST);
  }
  t.ok(
    hostNet.sockets.length >= 8 + 10 && hostNet.sockets.every((one) => one.sent.length <= 2000),
    'and when they were much used',
  );
  t.equal(hostNet.open, 8);
});

t.test('forged answers do not count (RFC 5452)', async (t) => {
  const { ask, socket, netstack, dns } = setUp();
  ask({});
  const asked = socket().sent[0]!.payload;
  const good = reply(asked, [a('www.example.org', '192.0.2.1')]);
  const patched = (offset: number, octet: number): Uint8Array => {
    const copy = good.slice();
    copy[offset] = octet;
    return copy;
  };
  netstack.sent = [];
  socket().answer(good, SECOND);
  socket().answer(good, FIRST, 54);
  socket().answer(patched(1, good[1]! ^ 1), FIRST);
  socket().answer(patched(2, 0x01), FIRST);
  socket().answer(patched(14, 0x78), FIRST);
  socket().answer(good.slice(0, 11), FIRST);
  socket().answer(new Uint8Array(0), FIRST);
  t.equal(netstack.sent.length, 0);
  socket().answer(good, FIRST);
  t.equal(netstack.sent.length, 1);
  socket().answer(good, FIRST);
  t.equal(netstack.sent.length, 1, 'once');
  t.equal(dns.counts.failed, 0);
});

t.test('the cache: counted down, by type, EDNS and flags, without regard to case, until the TTL ends', async (t) => {
  const { ask, through, clock, hostNet, dns } = setUp();
  const got = through({ id: 1 }, (asked) =>
    reply(asked, [a('www.example.org', '192.0.2.1', 300), a('www.example.org', '192.0.2.2', 200)], {
      flags: dnsPacket.AUTHORITATIVE_ANSWER,
    }),
  );
  t.match(got, { id: 1, flag_aa: true, answers: [{ ttl: 300 }, { ttl: 200 }] });
  clock.now += 50_999;
  const again = ask({ id: 2, name: 'WWW.example.ORG', guestPort: 3 })!;
  t.match(again, {
    id: 2,
    rcode: 'NOERROR',
    flag_aa: false,
    questions: [{ name: 'WWW.example.ORG' }],
    answers: [
      { data: '192.0.2.1', ttl: 250 },
      { data: '192.0.2.2', ttl: 150 },
    ],
  });
  t.equal(hostNet.sockets.length, 1);
  t.equal(ask({ type: 'AAAA' }), undefined, 'another type');
  t.equal(ask({ edns: 1232 }), undefined, 'with EDNS');
  t.equal(ask({ flags: dnsPacket.RECURSION_DESIRED | dnsPacket.CHECKING_DISABLED }), undefined, 'checking disabled');
  t.equal(ask({ flags: 0, id: 9 }), undefined, 'no recursion');
  clock.now += 149_000;
  t.match(ask({}), { answers: [{ ttl: 101 }, { ttl: 1 }] });
  clock.now += 2;
  t.equal(ask({ id: 10 }), undefined, 'over');
  t.equal(dns.cache.hits, 2);
});

t.test('what does not exist is kept as long as its SOA says (RFC 2308)', async (t) => {
  const { ask, through, clock } = setUp();
  through({ name: 'no.example.org' }, (asked) =>
    reply(asked, [], { rcode: 3, authorities: [soa('example.org', 60, 3600)] }),
  );
  clock.now += 20_000;
  t.match(ask({ name: 'no.example.org' }), { rcode: 'NXDOMAIN', authorities: [{ type: 'SOA', ttl: 3580 }] });
  clock.now += 40_001;
  t.equal(ask({ name: 'no.example.org' }), undefined);
  through({ name: 'v4only.example.org', type: 'AAAA' }, (asked) =>
    reply(asked, [], { authorities: [soa('example.org', 600, 100)] }),
  );
  clock.now += 99_000;
  t.match(ask({ name: 'v4only.example.org', type: 'AAAA' }), { rcode: 'NOERROR', answers: [] });
  clock.now += 1001;
  t.equal(ask({ name: 'v4only.example.org', type: 'AAAA' }), undefined);
  through({ name: 'alias.example.org', type: 'AAAA' }, (asked) =>
    reply(asked, [{ type: 'CNAME', name: 'alias.example.org', data: 'v4only.example.org', ttl: 900 }], {
      authorities: [soa('example.org', 10)],
    }),
  );
  clock.now += 9000;
  t.match(ask({ name: 'alias.example.org', type: 'AAAA' }), { answers: [{ type: 'CNAME', ttl: 891 }] });
  clock.now += 1001;
  t.equal(ask({ name: 'alias.example.org', type: 'AAAA' }), undefined, 'an alias that leads nowhere is negative too');
});

t.test('a name that does not exist has no type, and nothing below it (RFC 2308 5, RFC 8020)', async (t) => {
  const { ask, through, clock, dns, socket } = setUp();
  const absent = (asked: Uint8Array): Uint8Array =>
    reply(asked, [], { rcode: 3, authorities: [soa('example.org', 60, 3600)], flags: dnsPacket.AUTHORITATIVE_ANSWER });
  through({ name: 'no.example.org' }, absent);
  clock.now += 10_500;
  t.match(ask({ name: 'NO.example.org', type: 'MX', id: 5 }), {
    ...{ id: 5, rcode: 'NXDOMAIN', questions: [{ name: 'NO.example.org', type: 'MX' }] },
    authorities: [{ type: 'SOA', ttl: 3590 }],
  });
  const below = ask({ name: 'a.b.No.example.org', id: 6 });
  t.match(below, {
    ...{
      id: 6,
      rcode: 'NXDOMAIN',
      flag_aa: false,
      answers: [],
      questions: [{ name: 'a.b.No.example.org', type: 'A' }],
    },
    authorities: [{ type: 'SOA', name: 'example.org', ttl: 3590, data: { mname: 'ns.example.org', minimum: 60 } }],
  });
  for (const name of ['xno.example.org', 'example.org', 'no.example.org.uk', 'no.example'])
    t.equal(ask({ name, id: 7 }), undefined, `${name} is not below it`);
  t.equal(ask({ name: 'a.no.example.org', edns: 1232, id: 8 }), undefined, 'asked in another way');
  const checking = dnsPacket.RECURSION_DESIRED | dnsPacket.CHECKING_DISABLED;
  through({ name: 'no.example.org', flags: checking }, absent);
  t.equal(ask({ name: 'a.no.example.org', flags: checking, id: 9 }), undefined, 'who checks proofs gets them');
  through({ name: 'gone.example.org', edns: 1232 }, absent);
  t.match(ask({ name: 'a.gone.example.org', edns: 1232 }), {
    ...{ rcode: 'NXDOMAIN', authorities: [{ type: 'SOA', ttl: 3600 }] },
    additionals: [{ type: 'OPT' }],
  });
  through({ name: 'alias.example.org' }, (asked) =>
    reply(asked, [{ type: 'CNAME', name: 'alias.example.org', data: 'no.example.net', ttl: 900 }], {
      ...{ rcode: 3, authorities: [soa('example.net', 60)] },
    }),
  );
  t.equal(ask({ name: 'alias.example.org', type: 'MX', id: 10 }), undefined, 'an alias exists');
  t.equal(ask({ name: 'a.alias.example.org', id: 11 }), undefined);
  clock.now += 60_000;
  t.equal(ask({ name: 'c.no.example.org', id: 12 }), undefined, 'until its time is over');
  ask({ name: 'half.example.org', id: 13 });
  const late = socket().sent.at(-1)!.payload;
  through({ name: 'half.example.org', type: 'AAAA' }, absent);
  socket().answer(reply(late, [a('half.example.org', '192.0.2.1', 1)]), FIRST);
  clock.now += 1001;
  t.equal(ask({ name: 'half.example.org', type: 'MX', id: 14 }), undefined, 'or an answer says otherwise');
  t.ok(dns.cache.hits >= 3);
});

t.test('pointers in an SOA record that lead nowhere, forward or in circles are not followed', async (t) => {
  const { ask, socket } = setUp();
  const pointers: [number, number][] = [
    [0xc0, 0x0c],
    [0xc0, 0x00],
    [0xff, 0xff],
    [0xc0, 0x30],
    [0xc0, 0x31],
  ];
  for (const [i, pointer] of pointers.entries()) {
    const name = `n${i}.example`;
    ask({ name });
    const asked = socket().sent.at(-1)!.payload;
    {
      const fixed = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 60];
      const data = [...pointer, ...pointer, ...fixed];
      const record = [...pointer, 0, 6, 0, 1, 0, 0, 14, 16, 0, data.length, ...data];
      const answer = new Uint8Array(
        [...asked, ...record, ...new Array(10).fill(0)].slice(0, asked.length + record.length),
      );
      answer[2] = 0x81;
      answer[3] = 0x83;
      answer[9] = 1;
      socket().answer(answer, FIRST);
    }
    const below = ask({ name: `a.${name}`, id: i });
    if (i === 0) t.match(below, { rcode: 'NXDOMAIN', authorities: [{ name, data: { mname: name } }] });
    else t.equal(below, undefined, String(pointer));
  }
});

t.test('what must not be kept is not', async (t) => {
  const cases: [string, Ask, (asked: Uint8Array) => Uint8Array][] = [
    ['TTL 0', {}, (asked) => reply(asked, [a('www.example.org', '192.0.2.1', 0)])],
    ['TTL with the top bit (RFC 2181 8)', {}, (asked) => reply(asked, [a('www.example.org', '192.0.2.1', 0x80000000)])],
    ['NXDOMAIN without SOA', {}, (asked) => reply(asked, [], { rcode: 3 })],
    [
      'a referral',
      {},
      (asked) => reply(asked, [], { authorities: [{ type: 'NS', name: 'org', data: 'ns.org', ttl: 100 }] }),
    ],
    [
      'truncated',
      {},
      (asked) => reply(asked, [a('www.example.org', '192.0.2.1')], { flags: dnsPacket.TRUNCATED_RESPONSE }),
    ],
    [
      'octets after the message',
      {},
      (asked) => new Uint8Array([...reply(asked, [a('www.example.org', '192.0.2.1')]), 0]),
    ],
    ['no recursion desired', { flags: 0 }, (asked) => reply(asked, [a('www.example.org', '192.0.2.1')])],
  ];
  for (const [what, asked, answer] of cases) {
    const { through, ask, dns } = setUp([FIRST]);
    through(asked, answer);
    t.equal(dns.cache.size, 0, what);
    t.equal(ask({ ...asked, id: 78 }), undefined, what);
  }
});

t.test('the cache is bounded; what is used stays', async (t) => {
  const { through, ask, dns } = setUp([FIRST], { cache: { entries: 10, octets: 100_000 } });
  const fill = (i: number): void =>
    void through({ name: `n${i}.example.org` }, (asked) => reply(asked, [a(`n${i}.example.org`, '192.0.2.1')]));
  for (let i = 0; i < 10; i++) fill(i);
  t.ok(ask({ name: 'n0.example.org' }));
  for (let i = 10; i < 19; i++) fill(i);
  t.equal(dns.cache.size, 10);
  t.ok(ask({ name: 'n0.example.org' }), 'used since');
  t.equal(ask({ name: 'n1.example.org' }), undefined, 'not used since');
  const small = setUp([FIRST], { cache: { entries: 1000, octets: 200 } });
  for (let i = 0; i < 10; i++)
    small.through({ name: `n${i}.example.org` }, (asked) => reply(asked, [a(`n${i}.example.org`, '192.0.2.1')]));
  t.ok(small.dns.cache.size >= 2 && small.dns.cache.size <= 4, 'octets count too');
});

t.test('a change of the host’s resolvers empties the cache and is followed at once', async (t) => {
  const { through, ask, resolvers, socket } = setUp();
  through({}, (asked) => reply(asked, [a('www.example.org', '192.0.2.1')]));
  resolvers.config = { servers: [{ address: address('2001:db8::53'), port: 5353 }], search: [] };
  t.equal(ask({}), undefined);
  t.equal(socket().family, 6);
  t.equal(socket().sent[0]!.server, '2001:db8::53#5353');
});

t.test('no name server at all: SERVFAIL', async (t) => {
  const { ask, hostNet } = setUp([]);
  t.match(ask({ id: 3, edns: 4096 }), {
    id: 3,
    type: 'response',
    rcode: 'SERVFAIL',
    questions: [{ name: 'www.example.org' }],
    additionals: [{ type: 'OPT' }],
  });
  t.equal(hostNet.sockets.length, 0);
  const none = setUp();
  none.hostNet.exhausted = true;
  t.match(none.ask({}), { rcode: 'SERVFAIL' }, 'no socket to be had');
  const unbound = setUp();
  let closed = 0;
  unbound.hostNet.bindDatagram = (_family, handler) => {
    const socket = { owner: undefined, port: 0, send: () => false, close: () => void closed++ };
    // As an adapter says it: later, of a socket that was given up already.
    queueMicrotask(() => handler.failed(socket, 'EMFILE'));
    return socket;
  };
  t.match(unbound.ask({}), { rcode: 'SERVFAIL' }, 'nor one that is bound');
  await Promise.resolve();
  t.ok(closed > 0);
});

t.test('failover: silence, then all the others at once; whoever was asked may answer', async (t) => {
  const third = '10.9.9.3';
  const { ask, socket, netstack, advance, dns, clock } = setUp([FIRST, SECOND, third]);
  const asked = (): string[] => socket().sent.map(({ server }) => server.replace('#53', ''));
  ask({});
  t.equal(dns.pollAt(), clock.now + 500);
  advance(499);
  t.same(asked(), [FIRST]);
  advance(1);
  t.same(asked(), [FIRST, SECOND, third]);
  netstack.sent = [];
  socket().answer(reply(socket().sent[0]!.payload, [a('www.example.org', '192.0.2.1', 0)]), third);
  t.equal(netstack.sent.length, 1);
  ask({ id: 2 });
  t.same(asked(), [FIRST], 'one silence is no reason to give a server up');
  netstack.sent = [];
  for (let i = 0; i < 20 && netstack.sent.length === 0; i++) advance(500);
  t.match(decode(netstack.sent[0]!.payload), { id: 2, rcode: 'SERVFAIL' });
  t.same(asked(), [FIRST, SECOND, third, FIRST, SECOND, third, FIRST, SECOND, third], 'a round, and all of them twice');
});

t.test(
  'recovery: a server that was silent twice is asked last for a while; then with the others at once',
  async (t) => {
    const { ask, socket, advance, clock } = setUp();
    let id = 10;
    const asked = (): string[] => socket().sent.map(({ server }) => server.replace('#53', ''));
    const answered = (by: string): void => {
      const { payload } = socket().sent[0]!;
      socket().answer(reply(payload, [a('www.example.org', '192.0.2.1', 0)]), by);
    };
    const next = (): string[] => {
      clock.now++;
      ask({ id: id++ });
      return asked();
    };
    for (let i = 0; i < 2; i++) {
      t.same(next(), [FIRST]);
      advance(500);
      answered(SECOND);
    }
    t.same(next(), [SECOND], 'the one that answers');
    answered(SECOND);
    clock.now += 10_000;
    t.same(next(), [FIRST, SECOND], 'both: nobody waits for one that may still be gone');
    answered(SECOND);
    t.same(next(), [SECOND], 'it is');
    answered(SECOND);
    clock.now += 10_000;
    t.same(next(), [FIRST, SECOND]);
    answered(FIRST);
    t.same(next(), [FIRST], 'it is back in its place');
  },
);

t.test('SERVFAIL, REFUSED, NOTIMP: another server may know better; else the answer is given as it is', async (t) => {
  for (const [code, name] of [
    [2, 'SERVFAIL'],
    [5, 'REFUSED'],
    [4, 'NOTIMP'],
  ] as const) {
    const { ask, socket, netstack } = setUp();
    ask({});
    netstack.sent = [];
    socket().answer(reply(socket().sent[0]!.payload, [], { rcode: code }), FIRST);
    t.equal(netstack.sent.length, 0);
    t.equal(socket().sent[1]!.server, `${SECOND}#53`, 'at once');
    socket().answer(reply(socket().sent[0]!.payload, [], { rcode: code }), SECOND);
    t.match(decode(netstack.sent[0]!.payload), { id: 77, rcode: name });
  }
  const { ask, socket, netstack, advance } = setUp();
  ask({});
  socket().answer(reply(socket().sent[0]!.payload, [], { rcode: 5 }), FIRST);
  netstack.sent = [];
  for (let i = 0; i < 20 && netstack.sent.length === 0; i++) advance(500);
  t.match(decode(netstack.sent[0]!.payload), { rcode: 'REFUSED' }, 'the only answer there was');
});

t.test('an unreachable server is passed over at once', async (t) => {
  const { ask, socket, netstack } = setUp();
  ask({});
  netstack.sent = [];
  socket().handler.failed(socket(), 'ECONNREFUSED');
  t.equal(socket().sent[1]!.server, `${SECOND}#53`);
  for (let i = 0; i < 4; i++) socket().handler.failed(socket(), 'ECONNREFUSED');
  t.equal(netstack.sent.length, 0);
  socket().handler.failed(socket(), 'ECONNREFUSED');
  t.match(decode(netstack.sent[0]!.payload), { rcode: 'SERVFAIL' });
});

t.test('a server that ICMP says is gone: all that waits for it is asked elsewhere, and it is asked last', async (t) => {
  const { ask, socket, hostNet, netstack, clock } = setUp();
  for (let i = 0; i < 8; i++) ask({ id: i, name: `n${i}.example.org` });
  // From here on queries of one moment share a socket.
  ask({ id: 10, name: 'a.example.org' });
  const shared = socket();
  ask({ id: 11, name: 'b.example.org' });
  t.equal(socket(), shared);
  const before = shared.sent.length;
  shared.handler.failed(shared, 'ECONNREFUSED', address(FIRST), 5353);
  shared.handler.failed(shared, 'ECONNREFUSED', address('192.0.2.99'), 53);
  t.equal(shared.sent.length, before, 'somebody else is gone');
  shared.handler.failed(shared, 'ECONNREFUSED', address(FIRST), 53);
  t.ok(shared.sent.slice(before).every((one) => one.server === `${SECOND}#53`));
  t.equal(shared.sent.length - before, before, 'each of them once');
  clock.now++;
  ask({ id: 12, name: 'c.example.org' });
  t.equal(socket().sent.at(-1)!.server, `${SECOND}#53`);
  netstack.sent = [];
  for (const one of hostNet.sockets)
    for (const server of [SECOND, FIRST, SECOND, FIRST, SECOND, FIRST, SECOND])
      one.handler.failed(one, 'ECONNREFUSED', address(server), 53);
  t.equal(netstack.sent.length, 11, 'and nobody waits for servers that are all gone');
});

t.test('an answer longer than the client takes is cut to its question, with TC', async (t) => {
  const records = Array.from({ length: 40 }, (_, i) => a('www.example.org', `192.0.2.${i}`));
  const plain = setUp().through({}, (asked) => reply(asked, records));
  t.match(plain, { id: 77, flag_tc: true, rcode: 'NOERROR', questions: [{ name: 'www.example.org' }] });
  t.equal(plain.answers!.length + plain.additionals!.length, 0);
  const edns = setUp().through({ edns: 600 }, (asked) => reply(asked, records));
  t.match(edns, { flag_tc: true, additionals: [{ type: 'OPT' }] });
  const large = setUp().through({ edns: 4096 }, (asked) => reply(asked, records));
  t.equal(large.answers!.length, 40);
  const { through, ask } = setUp();
  through({}, (asked) => reply(asked, records));
  t.match(ask({ id: 5 }), { id: 5, flag_tc: true }, 'from the cache as well');
});

t.test('a repeated query is not asked twice; a guest has only so many under way', async (t) => {
  const { ask, hostNet, dns, policy, advance } = setUp([FIRST], {}, { dns: 3 });
  ask({});
  ask({});
  t.equal(hostNet.sockets.length, 1);
  t.equal(dns.counts.repeated, 1);
  ask({ guest: '192.168.65.4' });
  t.equal(hostNet.sockets.length, 2, 'another guest address');
  ask({ id: 2 });
  ask({ id: 3 });
  t.equal(dns.counts.capped, 1);
  ask({ id: 3, ingress: 1 });
  t.equal(hostNet.sockets.length, 4, 'another guest');
  for (let i = 0; i < 10; i++) advance(1000);
  t.equal(policy.held('dns', 0) + policy.held('dns', 1), 0);
});

t.test('malformed queries: FORMERR, or silence where no query can be seen', async (t) => {
  const { send, dns, hostNet } = setUp();
  t.same(send(new Uint8Array(0)), []);
  t.same(send(query().slice(0, 11)), []);
  const response = query();
  response[2]! |= 0x80;
  t.same(send(response), [], 'a response: answering it might never end');
  const cases: [string, Uint8Array][] = [
    ['cut off', query().slice(0, 20)],
    ['no question', Uint8Array.of(0, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['a pointer in the question', Uint8Array.of(0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1)],
    ['two questions', query().with(5, 2)],
  ];
  for (const [what, bytes] of cases) {
    const [answer] = send(bytes);
    t.equal(answer!.length, 12, what);
    t.equal(answer![3]! & 15, 1, what);
    t.same([...answer!.slice(4)], [0, 0, 0, 0, 0, 0, 0, 0]);
  }
  t.equal(dns.counts.malformed, 7);
  t.equal(hostNet.sockets.length, 0);
});

t.test('names as long as they may be, and one octet longer', async (t) => {
  const { send, socket } = setUp();
  const named = (labels: number[]): Uint8Array => {
    const name = labels.flatMap((length) => [length, ...new Array<number>(length).fill(0x61)]);
    return Uint8Array.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 0, 1, 0, 1]);
  };
  t.same(send(named([63, 63, 63, 61])), [], '255 octets are forwarded');
  t.equal(socket().sent.length, 1);
  t.equal(send(named([63, 63, 63, 62]))[0]![3]! & 15, 1, '256 are malformed');
  t.same(send(named([])), [], 'the root is a name');
});

t.test('what carries more than a plain question is forwarded as it is and never kept', async (t) => {
  const { send, socket, netstack, dns } = setUp();
  const cookie = new Uint8Array(
    dnsPacket.encode({
      type: 'query',
      id: 1,
      flags: dnsPacket.RECURSION_DESIRED,
      questions: [{ name: 'www.example.org', type: 'A' }],
      additionals: [
        {
          type: 'OPT',
          name: '.',
          udpPayloadSize: 4096,
          extendedRcode: 0,
          ednsVersion: 0,
          flags: 0,
          flag_do: false,
          options: [{ code: 10, data: Buffer.from('12345678') }],
        },
      ] as unknown as Answer[],
    }),
  );
  const update = query({ id: 2 });
  update[2] = 0x28;
  const extra = new Uint8Array([...query({ id: 3 }), 1, 2, 3]);
  for (const bytes of [cookie, update, extra]) {
    t.same(send(bytes), []);
    const asked = socket().sent.at(-1)!.payload;
    t.same(asked.slice(2), bytes.slice(2));
    const answer = reply(query({ id: decode(asked.slice(0, asked.length - (bytes === extra ? 3 : 0))).id! }), [
      a('www.example.org', '192.0.2.1'),
    ]);
    answer[2] = (answer[2]! & ~0x78) | (bytes[2]! & 0x78);
    netstack.sent = [];
    socket().answer(answer, FIRST);
    t.equal(netstack.sent.length, 1);
    t.same(netstack.sent[0]!.payload.slice(2), answer.slice(2));
  }
  t.equal(dns.cache.size, 0);
});

t.test('no octets from the guest or a server make the forwarder throw', async () => {
  const { send, hostNet, netstack, clock, dns } = setUp();
  const header = fc
    .tuple(fc.nat(255), fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(2))
    .map(([flags, qd, an, ns, ar]) => [0, 9, flags, 0, 0, qd, 0, an, 0, ns, 0, ar]);
  const name = fc
    .array(fc.uint8Array({ maxLength: 12 }), { maxLength: 5 })
    .map((labels) => [...labels.flatMap((label) => [label.length, ...label]), 0]);
  const shaped = fc
    .tuple(header, name, fc.uint8Array({ maxLength: 60 }))
    .map(([head, labels, tail]) => Uint8Array.from([...head, ...labels, ...tail]));
  const noise = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(fc.oneof(noise, shaped), fc.oneof(noise, shaped), fc.nat(65_535), (asked, answered, port) => {
      send(asked, { guestPort: port });
      const socket = hostNet.lastSender;
      const sent = socket?.sent.at(-1)?.payload;
      if (socket && sent) {
        socket.answer(answered, FIRST);
        // The same with a right id and question, so that what follows is read.
        const close = new Uint8Array([...sent, ...answered]);
        close[2]! |= 0x80;
        close.set(answered.slice(6, 12), 6);
        socket.answer(close, FIRST);
        socket.handler.failed(socket, 'EHOSTUNREACH');
      }
      clock.now += 700;
      dns.poll(clock.now);
      return netstack.sent.every((one) => one.payload.length >= 12);
    }),
    { numRuns: 3000 },
  );
});
