/** DNS over TCP (RFC 7766): framing, pipelining, back-pressure, half-close, the host's servers over TCP. */

import dnsPacket, { type Answer } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { standardNames } from '../../src/proxy/dns/built-in-names.ts';
import { DnsForwarder } from '../../src/proxy/dns.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import {
  address,
  FakeClock,
  FakeHostNet,
  FakeNetstack,
  FakeResolvers,
  type FakeStream,
  seededRandom,
} from './gateway-fakes.ts';

const GATEWAY = '192.168.65.1';

function query(name = 'host.docker.internal', id = 77, type = 'A'): Uint8Array {
  return new Uint8Array(
    dnsPacket.encode({
      type: 'query',
      id,
      flags: dnsPacket.RECURSION_DESIRED,
      questions: [{ name, type: type as 'A' }],
    }),
  );
}

const framed = (...messages: Uint8Array[]): Uint8Array =>
  new Uint8Array(messages.flatMap((message) => [message.length >> 8, message.length & 255, ...message]));

const decode = (bytes: Uint8Array) =>
  dnsPacket.decode(Buffer.from(bytes)) as dnsPacket.DecodedPacket & { rcode: string };

function reply(asked: Uint8Array, records: number, rcode = 0): Uint8Array {
  const packet = decode(asked);
  const answers = Array.from(
    { length: records },
    (_, i): Answer => ({ type: 'A', name: packet.questions![0]!.name, data: `192.0.2.${i % 256}`, ttl: 100 }),
  );
  return new Uint8Array(
    dnsPacket.encode({
      type: 'response',
      id: packet.id!,
      flags: dnsPacket.RECURSION_AVAILABLE | rcode,
      questions: packet.questions!,
      answers,
    }),
  );
}

function setUp(servers = ['10.9.9.1', '10.9.9.2'], limits = {}) {
  const netstack = new FakeNetstack();
  const hostNet = new FakeHostNet();
  const clock = new FakeClock();
  const gateway = address(GATEWAY);
  const policy = new Policy({ subnets: [], gateways: [gateway], hostAliases: [], limits, clock });
  const dns = new DnsForwarder(
    {
      ...{ netstack, hostNet, policy, clock, random: seededRandom() },
      resolvers: new FakeResolvers(...servers),
      resolved: policy.resolved,
    },
    { addresses: [gateway], names: standardNames([gateway], [address('192.168.65.2')]) },
  );
  const open = (ingress = 0) => netstack.open(GATEWAY, 53, ingress);
  const advance = (ms: number): void => {
    clock.now += ms;
    dns.poll(clock.now);
  };
  return { netstack, hostNet, clock, policy, dns, open, advance };
}

/** The host's server gets the query and answers, in pieces. */
function serve(stream: FakeStream, answer: (asked: Uint8Array) => Uint8Array, piece = 3): void {
  stream.handler.connected(stream);
  const asked = Uint8Array.from(stream.written.slice(2));
  t.equal((stream.written[0]! << 8) | stream.written[1]!, asked.length);
  const octets = [...framed(answer(asked))];
  while (octets.length > 0) {
    stream.incoming.push(...octets.splice(0, piece));
    stream.handler.readable(stream);
  }
}

t.test('queries that come octet by octet, or many at once, are answered in turn', async (t) => {
  for (const size of [1, 5, 1000]) {
    const { open } = setUp();
    const connection = open();
    const all = framed(
      query('host.docker.internal', 1),
      query('gateway.docker.internal', 2),
      query('vm.docker.internal', 3, 'AAAA'),
    );
    t.equal(connection.push(all, size), all.length);
    t.match(connection.messages().map(decode), [
      { id: 1, answers: [{ data: '192.168.65.2' }] },
      { id: 2, answers: [{ data: GATEWAY }] },
      { id: 3, rcode: 'NOERROR', answers: [] },
    ]);
  }
});

t.test('what is not known is asked by TCP, pipelined, answered as it comes, whole however long', async (t) => {
  const { open, hostNet, policy, netstack } = setUp();
  const connection = open();
  connection.push(framed(query('a.example.org', 1), query('b.example.org', 2), query('host.docker.internal', 3)));
  t.equal(hostNet.streams.length, 2);
  t.equal(hostNet.streams[0]!.remoteAddress, '10.9.9.1');
  t.equal(hostNet.sockets.length, 0);
  serve(hostNet.streams[1]!, (asked) => reply(asked, 2000), 1000);
  serve(hostNet.streams[0]!, (asked) => reply(asked, 1));
  const answers = connection.messages().map(decode);
  t.same(
    answers.map((answer) => answer.id),
    [3, 2, 1],
  );
  t.equal(answers[1]!.answers!.length, 2000);
  t.ok(
    hostNet.streams.every((stream) => stream.aborted),
    'the host’s connections are closed',
  );
  t.equal(policy.held('dns', 0), 0);
  connection.push(framed(query('a.example.org', 4)));
  t.match(decode(connection.messages()[3]!), { id: 4, answers: [{ data: '192.0.2.0' }] }, 'from the cache');
  const [udp] = netstack.deliver(query('a.example.org', 5), { peer: GATEWAY, peerPort: 53 });
  t.match(decode(udp!.payload), { id: 5, answers: [{ data: '192.0.2.0' }] }, 'which is one for both');
});

t.test('the policy hears what each guest was told, also from the cache and by UDP', async (t) => {
  const { open, hostNet, policy, netstack } = setUp();
  policy.useRules(parsePolicyRules('allow a.example.org; deny any'));
  const allowed = (to: string, ingress: number): boolean =>
    policy.destination(address(to), { protocol: 'tcp', port: 80, ingress }).allowed;
  open(1).push(framed(query('a.example.org', 1)));
  t.notOk(allowed('192.0.2.0', 1), 'asked for, not told');
  serve(hostNet.streams[0]!, (asked) => reply(asked, 2));
  t.ok(allowed('192.0.2.0', 1));
  t.ok(allowed('192.0.2.1', 1));
  t.notOk(allowed('192.0.2.2', 1));
  t.notOk(allowed('192.0.2.0', 2));
  open(2).push(framed(query('A.example.ORG', 1)));
  t.ok(allowed('192.0.2.0', 2), 'from the cache');
  netstack.deliver(query('a.example.org', 5), { peer: GATEWAY, peerPort: 53, ingress: 3 });
  t.ok(allowed('192.0.2.0', 3), 'by UDP');
});

t.test('a guest that stops taking answers stops being served; all arrives once it goes on', async (t) => {
  const { open, hostNet } = setUp();
  const connection = open();
  connection.push(framed(query('big.example.org', 1)));
  connection.sendRoom = 0;
  serve(hostNet.streams[0]!, (asked) => reply(asked, 250), 5000);
  const many = framed(...Array.from({ length: 200 }, (_, i) => query('big.example.org', i + 2)));
  let pushed = connection.push(many);
  t.ok(pushed < many.length, 'no more is taken');
  t.equal(connection.handler!.room(connection), 0);
  for (let i = 0; pushed < many.length && i < 1000; i++) {
    connection.sendRoom = 50_000;
    connection.handler!.writable(connection);
    pushed += connection.push(many.subarray(pushed));
  }
  for (let i = 0; i < 100; i++) {
    connection.sendRoom = 50_000;
    connection.handler!.writable(connection);
  }
  t.equal(pushed, many.length);
  t.ok(connection.grew > 0, 'the window is opened again');
  t.same(
    connection.messages().map((one) => decode(one).id),
    Array.from({ length: 201 }, (_, i) => i + 1),
  );
});

t.test('half-close: answers still come, then our end closes too', async (t) => {
  const { open, hostNet, policy } = setUp();
  const connection = open();
  connection.push(framed(query('a.example.org', 1)));
  connection.handler!.receivedEnd(connection);
  t.notOk(connection.ended);
  serve(hostNet.streams[0]!, (asked) => reply(asked, 1));
  t.equal(connection.messages().length, 1);
  t.ok(connection.ended);
  t.equal(policy.held('dns-stream', 0), 1);
  connection.handler!.closed(connection, 'closed');
  t.equal(policy.held('dns-stream', 0), 0);
  const empty = open();
  empty.handler!.receivedEnd(empty);
  t.ok(empty.ended, 'with nothing asked, at once');
});

t.test('the guest goes away while its query is under way', async (t) => {
  const { open, hostNet, policy, dns } = setUp();
  const connection = open();
  connection.push(framed(query('a.example.org', 1)));
  connection.handler!.closed(connection, 'ECONNRESET');
  serve(hostNet.streams[0]!, (asked) => reply(asked, 1));
  t.equal(connection.output.length, 0);
  t.equal(policy.held('dns', 0), 0);
  t.equal(dns.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('failover: refused, closed early, garbage, SERVFAIL, silence', async (t) => {
  const ways: Record<string, (stream: FakeStream, advance: (ms: number) => void) => void> = {
    refused: (stream) => stream.handler.closed(stream, 'ECONNREFUSED'),
    'closed without an answer': (stream) => {
      stream.handler.connected(stream);
      stream.over = true;
      stream.handler.readable(stream);
    },
    'too short': (stream) => {
      stream.handler.connected(stream);
      stream.incoming.push(0, 4, 1, 2, 3, 4);
      stream.handler.readable(stream);
    },
    'another question': (stream) => serve(stream, (asked) => reply(query('x.example.org', decode(asked).id), 1)),
    SERVFAIL: (stream) => serve(stream, (asked) => reply(asked, 0, 2)),
    silence: (_stream, advance) => advance(4000),
  };
  for (const [what, fail] of Object.entries(ways)) {
    const { open, hostNet, advance } = setUp();
    const connection = open();
    connection.push(framed(query('a.example.org', 9)));
    fail(hostNet.streams[0]!, advance);
    t.equal(hostNet.streams[1]?.remoteAddress, '10.9.9.2', what);
    serve(hostNet.streams[1]!, (asked) => reply(asked, 1));
    t.match(connection.messages().map(decode), [{ id: 9, rcode: 'NOERROR' }], what);
    const other = setUp();
    const second = other.open();
    second.push(framed(query('a.example.org', 9)));
    fail(other.hostNet.streams[0]!, other.advance);
    fail(other.hostNet.streams[1]!, other.advance);
    t.match(second.messages().map(decode), [{ id: 9, rcode: 'SERVFAIL' }], `${what}, twice`);
  }
});

t.test('a query that the host’s socket takes in pieces', async (t) => {
  const { open, hostNet } = setUp();
  open().push(framed(query('a.example.org', 9)));
  const stream = hostNet.streams[0]!;
  stream.writeRoom = 5;
  stream.handler.connected(stream);
  t.equal(stream.written.length, 5);
  for (let i = 0; i < 20; i++) stream.handler.writable(stream);
  t.equal(stream.written.length, query('a.example.org').length + 2);
});

t.test('idle connections are closed; one that does not take its answers is reset', async (t) => {
  const { open, advance, hostNet, dns, clock } = setUp();
  const idle = open();
  const asking = open();
  asking.push(framed(query('a.example.org', 1)));
  const stuck = open();
  stuck.sendRoom = 0;
  stuck.push(framed(query('host.docker.internal', 1)));
  t.equal(dns.pollAt(), clock.now + 4000);
  serve(hostNet.streams[0]!, (asked) => reply(asked, 1));
  advance(30_000);
  t.ok(idle.ended);
  t.notOk(asking.ended, 'it has just got an answer');
  t.ok(stuck.aborted);
  advance(30_000);
  t.ok(asking.ended);
  t.ok(idle.aborted, 'and it has not closed its end since');
});

t.test('limits per guest: connections are reset, queries answered SERVFAIL', async (t) => {
  const { open, policy } = setUp(undefined, { 'dns-stream': 2, dns: 1 });
  const first = open();
  open();
  t.equal(open().rejected, 'reset');
  t.equal(open(1).rejected, undefined, 'another guest');
  first.push(framed(query('a.example.org', 1), query('b.example.org', 2)));
  t.match(first.messages().map(decode), [{ id: 2, rcode: 'SERVFAIL' }]);
  t.equal(policy.held('dns', 0), 1);
});

t.test('what is no query resets the connection; a malformed one is told so', async (t) => {
  const { open, policy } = setUp();
  for (const bytes of [new Uint8Array(0), new Uint8Array(5), query().with(2, 0x80)]) {
    const connection = open();
    connection.push(framed(bytes));
    t.ok(connection.aborted);
  }
  t.equal(policy.held('dns-stream', 0), 0);
  const connection = open();
  connection.push(framed(query().slice(0, 14)));
  t.equal(connection.messages()[0]![3]! & 15, 1);
});

t.test('no octets make it throw', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 }),
      fc.boolean(),
      fc.uint8Array({ maxLength: 80 }),
      (pieces, frame, answer) => {
        const { open, hostNet } = setUp();
        const connection = open();
        connection.push(frame ? framed(...pieces) : new Uint8Array(Buffer.concat(pieces)), 11);
        for (const stream of hostNet.streams) {
          stream.handler.connected(stream);
          stream.incoming.push(...answer);
          stream.over = true;
          stream.handler.readable(stream);
        }
        if (!connection.aborted) connection.handler!.receivedEnd(connection);
        return connection.aborted || connection.ended;
      },
    ),
    { numRuns: 300 },
  );
});
