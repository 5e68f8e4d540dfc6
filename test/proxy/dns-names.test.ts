/** Names that are answered here (records, hosts file, localhost), zones with servers of their own, and the policy gate. */

import dnsPacket, { type Answer } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { parseHosts } from '../../src/proxy/dns/hosts.ts';
import { NameLookup } from '../../src/proxy/dns/name-lookup.ts';
import { parseNameServers } from '../../src/proxy/dns/name-servers.ts';
import { parseDnsRecords } from '../../src/proxy/dns/records.ts';
import { parseDnsZones } from '../../src/proxy/dns/zones.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { a, decode, FIRST, query, reply, SECOND, setUp, soa } from './dns-world.ts';
import { address } from './gateway-fakes.ts';

const datas = (answer: ReturnType<typeof decode> | undefined): unknown[] =>
  (answer?.answers ?? []).map((one) => ('data' in one ? one.data : undefined));

t.test('records: exact names, wildcards at any depth, the longest first, the other family is no data', async (t) => {
  const { ask, dns, hostNet } = setUp();
  const text =
    '*.dev.test=192.168.65.2; DB.test.=10.0.0.5, fd00::5\n*.a.dev.test=10.0.0.6; fix.a.dev.test=10.0.0.7;*.alias.test=db.test';
  dns.useRecords(parseDnsRecords(text));
  for (const [name, ...expected] of [
    ['x.dev.test', '192.168.65.2'],
    ['X.y.DEV.test', '192.168.65.2'],
    ['db.test', '10.0.0.5'],
    ['z.a.dev.test', '10.0.0.6'],
    ['fix.a.dev.test', '10.0.0.7'],
    ['below.fix.a.dev.test', '10.0.0.6'],
    ['a.dev.test', '192.168.65.2'],
    ['some.alias.test', 'db.test', '10.0.0.5'],
  ] as const)
    t.same(datas(ask({ name })), expected, name);
  t.same(datas(ask({ name: 'db.test', type: 'AAAA' })), ['fd00::5']);
  t.match(ask({ name: 'x.dev.test', type: 'AAAA' }), {
    rcode: 'NOERROR',
    answers: [],
    authorities: [{ type: 'SOA', name: 'x.dev.test' }],
  });
  t.same(datas(ask({ name: 'some.alias.test', type: 'CNAME' })), ['db.test']);
  t.same(datas(ask({ name: '5.0.0.10.in-addr.arpa', type: 'PTR' })), ['db.test']);
  t.same(datas(ask({ name: `5.${'0.'.repeat(29)}d.f.ip6.arpa`, type: 'PTR' })), ['db.test']);
  t.equal(hostNet.sockets.length, 0);
  for (const name of ['dev.test', 'xdev.test', 'alias.test', 'test', 'sub.db.test'])
    t.equal(ask({ name }), undefined, `${name} is nobody's record`);
  t.same(datas(ask({ name: 'host.docker.internal' })), ['192.168.65.2']);
  dns.useRecords(parseDnsRecords('*.internal=10.9.9.9'));
  t.same(datas(ask({ name: 'host.docker.internal' })), ['192.168.65.2'], "the network's own names stay");
  t.same(datas(ask({ name: 'x.internal' })), ['10.9.9.9']);
  t.equal(ask({ name: 'x.dev.test', id: 9 }), undefined, 'the others are gone');
});

t.test('an update of a name of ours is no question about it: it goes where it would go otherwise', async (t) => {
  const { send, socket } = setUp();
  const update = query({ name: 'host.docker.internal', type: 'SOA' });
  update[2] = 0x28;
  t.same(send(update), []);
  t.same(socket().sent[0]!.payload.slice(2), update.slice(2));
});

t.test('an EDNS version that is not known is BADVERS (RFC 6891 6.1.3)', async (t) => {
  const { send } = setUp();
  const asked = query({ name: 'host.docker.internal', edns: 1232 });
  asked[asked.length - 5] = 1;
  const answer = decode(send(asked)[0]!);
  t.match(answer, { answers: [], authorities: [], additionals: [{ type: 'OPT', extendedRcode: 1, ednsVersion: 0 }] });
});

t.test('an alias of a name elsewhere is followed to its servers, and given from the cache', async (t) => {
  const { ask, through, dns, send, socket, netstack } = setUp();
  dns.useRecords(
    parseDnsRecords('www.test=mid.test; mid.test=www.example.org; loop.test=pool.test; pool.test=loop.test'),
  );
  const got = through({ name: 'WWW.test', edns: 1232 }, (asked) => {
    t.match(decode(asked), { questions: [{ name: 'www.example.org', type: 'A' }], additionals: [{ type: 'OPT' }] });
    const chain: Answer[] = [{ type: 'CNAME', name: 'www.example.org', data: 'cdn.example.net', ttl: 60 }];
    return reply(asked, [...chain, a('cdn.example.net', '192.0.2.7')]);
  });
  t.match(got, { id: 77, questions: [{ name: 'WWW.test' }], additionals: [{ type: 'OPT' }] });
  t.same(datas(got), ['mid.test', 'www.example.org', 'cdn.example.net', '192.0.2.7']);
  t.same(datas(ask({ name: 'www.test', edns: 1232, id: 5 })), datas(got), 'from the cache');
  t.same(datas(ask({ name: 'www.example.org', edns: 1232 })), ['cdn.example.net', '192.0.2.7'], 'so is what it led to');
  const none = through({ name: 'www.test', type: 'AAAA' }, (asked) =>
    reply(asked, [], { rcode: 3, authorities: [soa('example.org', 60)] }),
  );
  t.match(none, { rcode: 'NXDOMAIN', authorities: [{ type: 'SOA' }] });
  t.same(datas(none), ['mid.test', 'www.example.org'], 'NXDOMAIN is about the end of the chain (RFC 2308 2.1)');
  t.same(datas(ask({ name: 'loop.test' })).length, 8, 'a loop ends');
  send(query({ name: 'mid.test', type: 'TXT', id: 6, edns: 600 }));
  netstack.sent = [];
  const asked = socket().sent.at(-1)!.payload;
  socket().answer(new Uint8Array([...reply(asked, []).with(7, 1), 0xc0, 0xff, 0xff]), FIRST);
  t.match(decode(netstack.sent[0]!.payload), { id: 6, rcode: 'SERVFAIL' }, 'what cannot be read is no answer');
});

t.test(
  'the hosts file: its loopback is the host alias, its localhost nobody’s business; a change counts at once',
  async (t) => {
    const { ask, useHosts, hostNet } = setUp();
    useHosts(`127.0.0.1 localhost myhost # the host itself
127.0.1.1 web.local. Web2.local
::1 localhost ip6-localhost ip6-loopback web.local
fe00::0 ip6-localnet
10.1.2.3 nas nas.home.lan
fd12::3 nas.home.lan
0.0.0.0 ads.example
169.254.1.1 link.example
224.0.0.251 many.example
nonsense broken.example
`);
    for (const [name, ...expected] of [
      ['web.local', '192.168.65.2'],
      ['WEB2.local', '192.168.65.2'],
      ['myhost', '192.168.65.2'],
      ['nas', '10.1.2.3'],
      ['nas.home.lan', '10.1.2.3'],
      ['ads.example', '0.0.0.0'],
      ['localhost', '127.0.0.1'],
      ['some.localhost', '127.0.0.1'],
    ] as const)
      t.same(datas(ask({ name })), expected, name);
    t.same(datas(ask({ name: 'nas.home.lan', type: 'AAAA' })), ['fd12::3']);
    t.same(datas(ask({ name: 'localhost', type: 'AAAA' })), ['::1']);
    t.match(ask({ name: 'nas', type: 'AAAA' }), { rcode: 'NOERROR', answers: [] });
    t.same(datas(ask({ name: '3.2.1.10.in-addr.arpa', type: 'PTR' })), ['nas']);
    t.equal(hostNet.sockets.length, 0);
    for (const name of ['ip6-localhost', 'ip6-localnet', 'link.example', 'many.example', 'broken.example'])
      t.equal(ask({ name }), undefined, `${name} is not told`);
    useHosts('10.1.2.4 nas');
    t.same(datas(ask({ name: 'nas' })), ['10.1.2.4']);
    t.equal(ask({ name: 'web.local', id: 8 }), undefined);
  },
);

const corp = '10.8.0.53';
const eu = '10.8.1.53';

function split(rules = '') {
  const world = setUp([FIRST, SECOND], {}, {}, rules);
  world.resolvers.config = {
    ...world.resolvers.config,
    zones: parseDnsZones(`corp=${corp},10.8.0.54#5353; *.eu.corp=${eu}`),
  };
  const asked = (): string[] => world.hostNet.sockets.flatMap(({ sent }) => sent.map(({ server }) => server));
  return { ...world, asked };
}

t.test('zones: names go to the servers of the smallest zone they are in, in any case of letters', async (t) => {
  for (const [name, server] of [
    ['git.corp', corp],
    ['corp', corp],
    ['A.b.CORP', corp],
    ['eu.corp', eu],
    ['x.EU.corp', eu],
    ['xeu.corp', corp],
    ['xcorp', FIRST],
    ['corp.example', FIRST],
    ['4corp', FIRST],
  ] as const) {
    const { ask, asked } = split();
    ask({ name });
    t.same(asked(), [`${server}#53`], name);
  }
});

t.test(
  'what is a zone’s never leaks, whatever becomes of its servers: silence, errors, unreachable, TCP',
  async (t) => {
    const silent = split();
    silent.ask({ name: 'git.corp' });
    silent.netstack.sent = [];
    for (let i = 0; i < 20 && silent.netstack.sent.length === 0; i++) silent.advance(500);
    t.match(decode(silent.netstack.sent[0]!.payload), { rcode: 'SERVFAIL' });
    t.same(new Set(silent.asked()), new Set([`${corp}#53`, '10.8.0.54#5353']));

    const refusing = split();
    refusing.ask({ name: 'git.corp' });
    const { payload } = refusing.socket().sent[0]!;
    for (const [server, port] of [
      [corp, 53],
      ['10.8.0.54', 5353],
    ] as const)
      refusing.socket().answer(reply(payload, [], { rcode: 5 }), server, port);
    t.match(decode(refusing.netstack.sent.at(-1)!.payload), { rcode: 'REFUSED' });
    refusing.ask({ name: 'git.corp', id: 3 });
    for (let i = 0; i < 10; i++) refusing.socket().handler.failed(refusing.socket(), 'ENETUNREACH');
    t.notOk(refusing.asked().some((server) => server.startsWith('10.9.9')));

    const stream = split();
    const connection = stream.netstack.open('192.168.65.1', 53);
    const asked = query({ name: 'git.corp' });
    connection.push(Uint8Array.from([0, asked.length, ...asked]));
    for (let i = 0; i < 4; i++) stream.advance(4000);
    t.same(
      stream.hostNet.streams.map((one) => `${one.remoteAddress}#${one.remotePort}`),
      [`${corp}#53`, '10.8.0.54#5353'],
    );
    t.match(decode(connection.messages()[0]!), { rcode: 'SERVFAIL' });
  },
);

t.test(
  'an answer of a zone’s is worth nothing from a server that was not asked; nor is one about what is above it',
  async (t) => {
    const { ask, socket, netstack, through } = split();
    ask({ name: 'git.corp' });
    netstack.sent = [];
    socket().answer(reply(socket().sent[0]!.payload, [a('git.corp', '192.0.2.66')]), FIRST);
    t.equal(netstack.sent.length, 0);
    const world = split();
    world.resolvers.config = { ...world.resolvers.config, zones: parseDnsZones(`eu.corp=${eu}`) };
    const absent = world.through({ name: 'corp' }, (asked) =>
      reply(asked, [], { rcode: 3, authorities: [soa('', 600)] }),
    );
    t.equal(absent.rcode, 'NXDOMAIN');
    t.equal(world.ask({ name: 'x.eu.corp' }), undefined, 'RFC 8020 does not reach into the zone of others');
    t.equal(world.socket().sent.at(-1)!.server, `${eu}#53`);
    t.match(world.ask({ name: 'x.us.corp' }), { rcode: 'NXDOMAIN' }, 'beside it it does');
    t.ok(through);
  },
);

t.test(
  'a change of zones or servers: the cache is emptied, old answers are not kept, old names stay with old servers',
  async (t) => {
    const { ask, resolvers, hostNet, netstack, advance, dns } = split();
    ask({ name: 'www.example.org', id: 1 });
    const before = hostNet.lastSender!;
    const vpn = { servers: parseNameServers('10.8.0.1'), search: [] };
    resolvers.config = vpn;
    ask({ name: 'www.example.org', id: 1 });
    t.equal(hostNet.lastSender!.sent.at(-1)!.server, '10.8.0.1#53', 'asked again, it goes to the new server at once');
    netstack.sent = [];
    before.answer(reply(before.sent[0]!.payload, [a('www.example.org', '192.0.2.1')]), FIRST);
    t.match(decode(netstack.sent[0]!.payload), { answers: [{ data: '192.0.2.1' }] }, 'who waited gets the old answer');
    t.equal(dns.cache.size, 0, 'nobody else does');
    ask({ name: 'old.example.org', id: 2, guestPort: 2000 });
    resolvers.config = { servers: parseNameServers(SECOND), search: [] };
    for (let i = 0; i < 10; i++) advance(500);
    const second = hostNet.sockets.flatMap(({ sent }) => sent.filter(({ server }) => server === `${SECOND}#53`));
    t.same(second, [], 'a query that the old servers do not answer is not taken to the new ones');
  },
);

t.test(
  'the policy decides about name servers: rules that name their network; the owner’s choice is else enough',
  async (t) => {
    const denied = split(`allow 10.8.0.54; deny 10.8.0.0/24`);
    denied.ask({ name: 'git.corp' });
    t.same(denied.asked(), ['10.8.0.54#5353'], 'what is denied is passed over');
    t.match(denied.dns.report(0).servers[1], {
      zone: 'corp',
      servers: [
        { server: '10.8.0.54#5353', state: 'used' },
        { server: corp, state: 'denied' },
      ],
    });
    t.match(denied.policy.report(), {
      denied: { rule: 2 },
      denials: [{ protocol: 'tcp' }, { address: corp, port: 53, protocol: 'udp' }],
    });
    denied.ask({ name: 'www.example.org', id: 2 });
    t.equal(denied.asked().at(-1), `${FIRST}#53`);

    const all = split('deny 10.0.0.0/8');
    for (const name of ['git.corp', 'www.example.org']) t.match(all.ask({ name }), { rcode: 'REFUSED' }, name);
    const connection = all.netstack.open('192.168.65.1', 53);
    const asked = query({ name: 'git.corp' });
    connection.push(Uint8Array.from([0, asked.length, ...asked]));
    t.match(decode(connection.messages()[0]!), { rcode: 'REFUSED' });
    t.same([all.asked(), all.hostNet.streams.length], [[], 0], 'nothing goes out');
    t.equal(all.dns.counts.denied, 3);
    all.policy.useRules([]);
    t.equal(all.ask({ name: 'git.corp', id: 3 }), undefined, 'and it does again without the rule');

    const open = split('deny udp any port 53; deny 0.0.0.0/0; deny any');
    t.equal(open.ask({ name: 'git.corp' }), undefined, 'rules about everything are not about name servers');
    for (const server of ['0.0.0.0', '::', '224.0.0.251', 'ff02::fb', '255.255.255.255']) {
      const never = setUp([server]);
      t.match(never.ask({}), { rcode: 'REFUSED' }, server);
    }
    for (const server of ['127.0.0.53', '169.254.169.253', '::1'])
      t.equal(setUp([server]).ask({}), undefined, `${server} may well be the host's`);
  },
);

t.test('a guest that asks too much does not keep another from asking', async (t) => {
  const { ask, dns, hostNet } = setUp([FIRST]);
  for (let i = 0; i < 5000; i++) ask({ name: `n${i}.example.org`, id: i, ingress: 1, guestPort: 1000 + i });
  t.equal(dns.counts.capped, 5000 - 256);
  const before = hostNet.sockets.reduce((sum, { sent }) => sum + sent.length, 0);
  for (let i = 0; i < 256; i++) ask({ name: `m${i}.example.org`, id: i, ingress: 2, guestPort: 1000 + i });
  const after = hostNet.sockets.reduce((sum, { sent }) => sum + sent.length, 0);
  t.equal(after - before, 256, 'all of the other’s queries went out');
});

t.test('the log: a ring of the queries of late, by whom each was answered', async (t) => {
  const { ask, through, dns, useHosts, clock } = split();
  useHosts('10.1.2.3 nas');
  dns.useRecords(parseDnsRecords('db.test=10.0.0.5'));
  ask({ name: 'host.docker.internal', guest: '172.17.0.2' });
  ask({ name: 'nas' });
  ask({ name: 'db.test', type: 'AAAA', ingress: 3 });
  through({ name: 'www.example.org', id: 3 }, (asked) => {
    clock.now += 25;
    return reply(asked, [a('www.example.org', '192.0.2.1'), a('www.example.org', '192.0.2.2')]);
  });
  ask({ name: 'WWW.example.org', id: 4 });
  const queries = dns.report(1_000_000).queries;
  t.match(queries, [
    { number: 1, guest: '172.17.0.2', name: 'host.docker.internal', type: 'A', source: 'built-in', code: 'NOERROR' },
    { number: 2, source: 'hosts', answers: 1, tookMs: 0 },
    { number: 3, source: 'record', type: 'AAAA', answers: 0, ingress: 3, code: 'NOERROR' },
    {
      number: 4,
      source: 'server',
      server: FIRST,
      answers: 2,
      tookMs: 25,
      protocol: 'udp',
      atMs: 1_000_000 + clock.now,
    },
    { number: 5, source: 'cache', name: 'WWW.example.org' },
  ]);
  t.notOk('server' in queries[4]!);
  t.same(
    dns.report(0, 3).queries.map(({ number }) => number),
    [4, 5],
  );
  for (let i = 0; i < 2000; i++) ask({ name: 'host.docker.internal', id: i });
  const late = dns.report(0).queries;
  t.same([late.length, late[0]!.number, late.at(-1)!.number], [512, 2005 - 511, 2005], 'bounded');
  t.same(dns.report(0, 10_000).queries, []);
});

t.test(
  'names for the HTTP proxy are asked as a guest would, by the same zones; short ones by the search list',
  async (t) => {
    const { dns, hostNet, hosts, useHosts, netstack } = split();
    useHosts('127.0.0.1 web.local');
    let search: string[] = [];
    const lookup = new NameLookup(dns, address('192.168.65.1'), () => search);
    const withHosts = new NameLookup(dns, address('192.168.65.1'), () => search, hosts);
    const answer = (records: (asked: Uint8Array) => Uint8Array): void => {
      for (const socket of hostNet.sockets)
        for (const { payload, server } of socket.sent.splice(0))
          socket.answer(records(payload), server.split('#')[0]!, Number(server.split('#')[1]));
    };
    const addresses = async (name: string, said?: (asked: Uint8Array) => Uint8Array): Promise<string[]> => {
      const found = lookup.addressesOf(name);
      for (let i = 0; i < 4 && said; i++) {
        answer(said);
        await new Promise((resolve) => setImmediate(resolve));
      }
      return (await found).map(formatAddress);
    };
    t.same(await addresses('host.docker.internal'), ['192.168.65.2']);
    t.same(await addresses('web.local'), ['192.168.65.2']);
    t.same(await addresses('localhost'), ['127.0.0.1', '::1']);
    t.same(await addresses('not a name'), []);
    const names: string[] = [];
    const said = (asked: Uint8Array): Uint8Array => {
      const { name, type } = decode(asked).questions![0]!;
      names.push(`${name} ${type}`);
      if (!name.endsWith('corp')) return reply(asked, [], { rcode: 3 });
      return reply(asked, type === 'A' ? [a(name, '10.8.7.7')] : [{ type: 'AAAA', name, data: 'fd00::7', ttl: 5 }]);
    };
    t.same(await addresses('git.corp', said), ['10.8.7.7', 'fd00::7']);
    search = ['example.org', 'corp'];
    names.length = 0;
    t.same(await addresses('intranet', said), ['10.8.7.7', 'fd00::7']);
    t.same(names, ['intranet.example.org A', 'intranet.example.org AAAA', 'intranet.corp A', 'intranet.corp AAAA']);
    t.same(await addresses('none.example', said), []);
    useHosts(
      '::1 ip6-localhost\n169.254.169.254 metadata\n10.0.0.9 169.254.0.9 both\n169.254.0.9 both\n127.0.0.1 web.local',
    );
    const all = async (name: string): Promise<string[]> => {
      const found = withHosts.allAddressesOf(name, 0);
      for (let i = 0; i < 4; i++) {
        answer(said);
        await new Promise((resolve) => setImmediate(resolve));
      }
      return (await found).map(formatAddress);
    };
    search = [];
    for (const [name, wanted] of [
      ['ip6-localhost', ['127.0.0.1', '::1']],
      ['localhost.localdomain', ['127.0.0.1']],
      ['metadata', ['169.254.169.254']],
      ['both', ['10.0.0.9', '169.254.0.9']],
      ['web.local', ['192.168.65.2']],
      ['none.example', []],
    ] as const)
      t.same(await all(name), wanted, `${name}: what an upstream proxy on this machine would find`);
    t.equal(netstack.sent.length, 0, 'no guest hears of it');
    const waiting = Array.from({ length: 200 }, (_, i) => lookup.addressesOf(`slow${i}.corp`, 7));
    t.same(await lookup.addressesOf('slow.corp', 7), [], 'a guest has no more queries by the proxy than by itself');
    t.same(await addresses('fresh.corp', said), ['10.8.7.7', 'fd00::7'], 'and takes none from others');
    dns.close();
    await Promise.all(waiting);
  },
);

t.test('what is no zone and no record says why', async (t) => {
  t.same(
    parseDnsZones(' .Corp. = 10.0.0.1 ;\n*.lab.example=fd00::1#53,10.0.0.2#54; ').map(({ name, servers }) => [
      name,
      servers.map((one) => `${formatAddress(one.address)}#${one.port}`).join(),
    ]),
    [
      ['corp', '10.0.0.1#53'],
      ['lab.example', 'fd00::1#53,10.0.0.2#54'],
    ],
  );
  for (const [bad, why] of [
    ['corp', /'corp' is no zone/],
    ['=10.0.0.1', /is no zone/],
    ['a b=10.0.0.1', /is no zone/],
    ['corp=', /names no server/],
    ['corp=dns.example', /'dns.example' is not a DNS server/],
    ['corp=10.0.0.1=x', /is no zone/],
    ['corp=10.0.0.1;CORP=10.0.0.2', /there twice/],
  ] as const)
    t.throws(() => parseDnsZones(bad), { message: why }, bad);
  for (const [bad, why] of [
    ['x', /is no record/],
    ['x=', /is no record/],
    ['=10.0.0.1', /is no record/],
    ['x=10.0.0.1,y', /is no record/],
    ['x=a,b', /is no record/],
    ['x=10.0.0.300', /is no record/],
    ['x=x', /stands for itself/],
    ['*=10.0.0.1', /is no record/],
    ['x=10.0.0.1;X.=10.0.0.2', /there twice/],
    [`x=${Array.from({ length: 17 }, (_, i) => `10.0.0.${i}`).join()}`, /more than 16/],
  ] as const)
    t.throws(() => parseDnsRecords(bad), { message: why }, bad);
});

t.test('no text makes the readers throw anything but an Error; what they read they answer', async () => {
  const word = fc.constantFrom(
    'a',
    'b.c',
    '*.d',
    '10.0.0.1',
    'fd00::1',
    '=',
    ',',
    ';',
    '#53',
    '\n',
    ' ',
    '.',
    '..',
    '*',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(word, { maxLength: 12 }).map((words) => words.join('')),
  );
  fc.assert(
    fc.property(text, text, text, (records, zones, hosts) => {
      const attempt = <T>(read: () => T): T | undefined => {
        try {
          return read();
        } catch (error) {
          if (!(error instanceof Error) || error instanceof TypeError || error instanceof RangeError) throw error;
          return undefined;
        }
      };
      const world = setUp();
      world.useHosts(hosts);
      world.dns.useRecords(attempt(() => parseDnsRecords(records)) ?? []);
      world.resolvers.config = { servers: [], search: [], zones: attempt(() => parseDnsZones(zones)) ?? [] };
      for (const name of ['a', 'x.d', 'b.c', ...parseHosts(hosts).keys()]) {
        const bytes = attempt(() => query({ name }));
        if (bytes && dnsPacket.decode(Buffer.from(bytes)).questions![0]!.name.length < 250) world.send(bytes);
      }
    }),
    { numRuns: 1500 },
  );
});
