/** The DHCP server: RFC 2131's exchanges, hostile octets, and bounds. */

import fc from 'fast-check';
import t from 'tap';
import { type DhcpOptions, DhcpServer } from '../../src/proxy/dhcp.ts';
import { formatAddress, ipv4Word, ofIpv4 } from '../../src/stack/wire/address.ts';
import * as wire from '../../src/stack/wire/dhcp.ts';
import { setMac } from '../../src/stack/wire/ethernet.ts';
import { BAD_FORMAT, SOUND, TOO_SHORT } from '../../src/stack/wire/fault.ts';
import { address, FakeClock, FakeNetstack, type SentDatagram } from './gateway-fakes.ts';

const MAC = 0x02_00_00_00_00_01;
const OTHER = 0x02_00_00_00_00_02;

interface Ask {
  type?: number;
  mac?: number;
  xid?: number;
  flags?: number;
  ciaddr?: string;
  giaddr?: string;
  options?: [code: number, value: number[]][];
  ingress?: number;
  unicast?: boolean;
}

const octets = (text: string): number[] => [...address(text).slice(12)];

function message({ type, mac = MAC, xid = 7, flags = 0, ciaddr, giaddr, options = [] }: Ask): Uint8Array {
  const bytes = new Uint8Array(600);
  const view = new DataView(bytes.buffer);
  const of = (text: string | undefined): number => (text ? ipv4Word(address(text)) : 0);
  let at = wire.emit(view, 0, wire.BOOT_REQUEST, xid, flags, of(ciaddr), 0, 0, of(giaddr));
  setMac(view, wire.CLIENT_HARDWARE, mac);
  if (type !== undefined) at = wire.emitOption(view, at, wire.OPTION_MESSAGE_TYPE, Uint8Array.of(type));
  for (const [code, value] of options) at = wire.emitOption(view, at, code, Uint8Array.from(value));
  bytes[at++] = wire.OPTION_END;
  return bytes.slice(0, at);
}

interface Answer {
  type: number;
  yiaddr: string;
  ciaddr: string;
  xid: number;
  option(code: number): number[] | undefined;
  sent: SentDatagram;
}

/** Reads an answer by an independent walk: every option, those of one code joined (RFC 3396). */
function read(sent: SentDatagram): Answer {
  const bytes = sent.payload;
  const view = new DataView(bytes.buffer);
  const found = new Map<number, number[]>();
  let at = 240;
  while (bytes[at] !== 255) {
    const code = bytes[at]!;
    const value = [...bytes.slice(at + 2, at + 2 + bytes[at + 1]!)];
    found.set(code, [...(found.get(code) ?? []), ...value]);
    at += 2 + bytes[at + 1]!;
  }
  const dotted = (offset: number): string => formatAddress(ofIpv4(view.getInt32(offset)));
  return {
    type: found.get(53)![0]!,
    yiaddr: dotted(16),
    ciaddr: dotted(12),
    xid: view.getUint32(4),
    option: (code) => found.get(code),
    sent,
  };
}

function setUp(extra: Partial<DhcpOptions> = {}) {
  const netstack = new FakeNetstack();
  const clock = new FakeClock();
  const server = new DhcpServer(
    netstack,
    {
      subnet: { address: address('192.168.65.0'), prefix: 120 },
      gateway: address('192.168.65.1'),
      dns: [address('192.168.65.1')],
      reserved: [address('192.168.65.2')],
      mtu: 1500,
      leaseMs: 3600_000,
      ...extra,
    },
    clock,
  );
  const ask = (what: Ask): Answer | undefined => {
    const to = what.unicast ? '192.168.65.1' : '255.255.255.255';
    const [sent] = netstack.deliver(message(what), {
      guest: what.ciaddr ?? '0.0.0.0',
      guestPort: 68,
      peer: to,
      peerPort: 67,
      ingress: what.ingress ?? 0,
    });
    return sent && read(sent);
  };
  const bind = (mac: number, ingress = 0): string => {
    const offer = ask({ type: wire.DISCOVER, mac, ingress })!;
    const ack = ask({
      type: wire.REQUEST,
      mac,
      ingress,
      options: [
        [50, octets(offer.yiaddr)],
        [54, octets('192.168.65.1')],
      ],
    })!;
    t.equal(ack.type, wire.ACK);
    return ack.yiaddr;
  };
  return { netstack, clock, server, ask, bind };
}

t.test('DISCOVER, OFFER, REQUEST, ACK', async (t) => {
  const { ask, server, netstack } = setUp({
    domainName: 'slipway.internal',
    ntp: [address('192.168.65.1')],
    search: () => ['corp.example', 'example.org'],
  });
  const offer = ask({ type: wire.DISCOVER, xid: 0x01020304, ingress: 5 })!;
  t.equal(offer.type, wire.OFFER);
  t.equal(offer.yiaddr, '192.168.65.3', 'the first guest');
  t.equal(offer.xid, 0x01020304);
  t.match(offer.sent, {
    guest: '192.168.65.3',
    guestPort: 68,
    peer: '192.168.65.1',
    peerPort: 67,
    mac: '020000000001',
    ingress: 5,
  });
  t.ok(offer.sent.payload.length >= 300);
  t.same(offer.option(1), [255, 255, 255, 0]);
  t.same(offer.option(3), [192, 168, 65, 1]);
  t.same(offer.option(6), [192, 168, 65, 1]);
  t.same(offer.option(15), [...Buffer.from('slipway.internal')]);
  t.same(offer.option(26), [1500 >> 8, 1500 & 255]);
  t.same(offer.option(42), [192, 168, 65, 1]);
  t.same(offer.option(51), [0, 0, 3600 >> 8, 3600 & 255]);
  t.same(offer.option(54), [192, 168, 65, 1]);
  t.same(offer.option(119), [...Buffer.from('\x04corp\x07example\0\x07example\x03org\0', 'latin1')]);
  const ack = ask({
    type: wire.REQUEST,
    ingress: 5,
    options: [
      [50, octets('192.168.65.3')],
      [54, octets('192.168.65.1')],
    ],
  })!;
  t.match(ack, { type: wire.ACK, yiaddr: '192.168.65.3' });
  t.match(server.leases(), [{ mac: '02:00:00:00:00:01', address: '192.168.65.3', ingress: 5, bound: true }]);
  server.close();
  t.equal(netstack.udp.size, 0);
});

t.test('who asks for broadcast gets it (RFC 2131 4.1)', async (t) => {
  const { ask } = setUp();
  const offer = ask({ type: wire.DISCOVER, flags: 0x8000 })!;
  t.match(offer.sent, { guest: '255.255.255.255', mac: 'ffffffffffff' });
  t.equal(offer.sent.payload[10], 0x80, 'the flag comes back');
});

t.test("RootlessKit's client: 244 octets, option 53 alone, xid 1", async (t) => {
  const { netstack } = setUp();
  const bytes = message({ type: wire.DISCOVER, xid: 1, flags: 0x8000 }).slice(0, 244);
  t.equal(bytes.length, 244);
  const [first] = netstack.deliver(bytes, { guest: '0.0.0.0', peer: '255.255.255.255', peerPort: 67 });
  t.match(read(first!), { type: wire.OFFER, yiaddr: '192.168.65.3', xid: 1 });
  const [again] = netstack.deliver(bytes, { guest: '0.0.0.0', peer: '255.255.255.255', peerPort: 67 });
  t.equal(read(again!).yiaddr, '192.168.65.3', 'parent and child get the same');
});

t.test('addresses are kept: the same client the same, different ones different, after their end too', async (t) => {
  const { bind, clock, ask } = setUp();
  t.equal(bind(MAC), '192.168.65.3');
  t.equal(bind(OTHER), '192.168.65.4');
  t.equal(bind(MAC), '192.168.65.3');
  clock.now += 2 * 3600_000;
  t.equal(ask({ type: wire.DISCOVER, mac: OTHER })!.yiaddr, '192.168.65.4');
  t.equal(ask({ type: wire.DISCOVER, mac: 9 })!.yiaddr, '192.168.65.5', 'unused ones before those of others');
  t.equal(bind(MAC, 3), '192.168.65.3', 'by another switch port: the machine was connected again');
});

t.test('REQUEST: what cannot be had is NAKed by broadcast (RFC 2131 4.3.2)', async (t) => {
  const { ask, bind } = setUp();
  bind(MAC);
  for (const wanted of ['192.168.65.3', '192.168.65.1', '192.168.65.2', '192.168.65.0', '192.168.65.255', '10.0.0.9']) {
    const nak = ask({ type: wire.REQUEST, mac: OTHER, options: [[50, octets(wanted)]] })!;
    t.equal(nak.type, wire.NAK, wanted);
    t.match(nak.sent, { guest: '255.255.255.255', mac: 'ffffffffffff' });
    t.equal(nak.yiaddr, '0.0.0.0');
    t.equal(nak.option(51), undefined);
    t.same(nak.option(54), octets('192.168.65.1'));
  }
  t.equal(ask({ type: wire.REQUEST, mac: OTHER })!.type, wire.NAK, 'no address at all, and none offered');
});

t.test('REQUEST for another server is not answered', async (t) => {
  const { ask, server } = setUp();
  ask({ type: wire.DISCOVER });
  t.equal(
    ask({
      type: wire.REQUEST,
      options: [
        [50, octets('192.168.65.3')],
        [54, octets('192.168.65.9')],
      ],
    }),
    undefined,
  );
  t.equal(server.drops['other-server'], 1);
  t.equal(
    ask({ type: wire.DISCOVER, mac: OTHER, options: [[50, octets('192.168.65.3')]] })!.yiaddr,
    '192.168.65.3',
    'its offer is free',
  );
});

t.test('renewing by unicast, rebinding by broadcast, also with a server that has forgotten', async (t) => {
  const { ask, bind, server, clock } = setUp();
  bind(MAC);
  clock.now += 1800_000;
  for (const unicast of [true, false]) {
    const ack = ask({ type: wire.REQUEST, ciaddr: '192.168.65.3', unicast })!;
    t.match(ack, { type: wire.ACK, yiaddr: '192.168.65.3', ciaddr: '192.168.65.3' });
    t.match(ack.sent, { guest: '192.168.65.3', mac: '020000000001' });
  }
  t.equal(server.leases()[0]!.untilMs, clock.now + 3600_000);
  const fresh = setUp();
  t.equal(fresh.ask({ type: wire.REQUEST, ciaddr: '192.168.65.44', unicast: true })!.type, wire.ACK);
  t.equal(
    fresh.ask({ type: wire.REQUEST, mac: OTHER, options: [[50, octets('192.168.65.45')]] })!.type,
    wire.ACK,
    'rebooting',
  );
  t.equal(
    fresh.ask({ type: wire.REQUEST, mac: OTHER, ciaddr: '192.168.65.44', unicast: true })!.type,
    wire.NAK,
    'taken meanwhile',
  );
});

t.test('RELEASE and DECLINE, by the owner only', async (t) => {
  const { ask, bind, server, clock } = setUp();
  bind(MAC);
  ask({ type: wire.RELEASE, ciaddr: '192.168.65.3', ingress: 9, unicast: true });
  t.ok(server.leases()[0]!.bound, 'from another switch port it does not count');
  ask({ type: wire.RELEASE, ciaddr: '192.168.65.4', unicast: true });
  t.ok(server.leases()[0]!.bound, 'nor for another address');
  t.equal(ask({ type: wire.RELEASE, ciaddr: '192.168.65.3', unicast: true }), undefined);
  t.notOk(server.leases()[0]!.bound);
  t.equal(bind(MAC), '192.168.65.3', 'remembered');
  t.equal(ask({ type: wire.DECLINE, options: [[50, octets('192.168.65.3')]] }), undefined);
  t.equal(bind(MAC), '192.168.65.4', 'a declined address is left alone');
  clock.now += 11 * 60_000;
  t.equal(bind(OTHER), '192.168.65.3', 'for a while');
});

t.test('the owner is told which address is behind which switch port', async (t) => {
  const told: string[] = [];
  const { ask, bind } = setUp({
    bound: (at, ingress, mac) => void told.push(`${formatAddress(at)} ${ingress} ${Buffer.from(mac).toString('hex')}`),
    unbound: (at) => void told.push(`${formatAddress(at)} free`),
  });
  bind(MAC, 2);
  ask({ type: wire.REQUEST, ingress: 2, options: [[50, octets('192.168.65.9')]] });
  ask({ type: wire.RELEASE, ciaddr: '192.168.65.9', ingress: 2, unicast: true });
  t.same(told, [
    '192.168.65.3 2 020000000001',
    '192.168.65.3 free',
    '192.168.65.9 2 020000000001',
    '192.168.65.9 free',
  ]);
});

t.test('guests are known by the names that they give (RFC 2132 3.14), for as long as their leases', async (t) => {
  const { ask, server, clock } = setUp();
  const named = (mac: number, name: string): string => {
    const options: Ask['options'] = [[12, [...Buffer.from(name)]]];
    const { yiaddr } = ask({ type: wire.DISCOVER, mac })!;
    t.equal(ask({ type: wire.REQUEST, mac, options: [[50, octets(yiaddr)], ...options] })?.type, wire.ACK);
    return yiaddr;
  };
  const addressOf = (name: string): string | undefined => {
    const found = server.addressOf(name);
    return found && formatAddress(found);
  };
  const first = named(MAC, 'Box.example.org');
  t.equal(addressOf('box'), first);
  t.equal(addressOf('BOX'), first);
  named(OTHER, 'box');
  t.equal(addressOf('box'), first, 'who came first keeps the name');
  t.equal(addressOf('box.example.org'), undefined);
  for (const odd of ['', '-a', 'a b', '\0', 'ü', '.']) {
    named(MAC, odd);
    t.equal(addressOf(odd), undefined, 'no name');
  }
  t.not(addressOf('box'), first, 'and it is the other one now');
  clock.now += 3_600_001;
  t.equal(addressOf('box'), undefined, 'the lease has run out');
});

t.test('declining everything does not empty the pool', async (t) => {
  const { ask } = setUp();
  for (let i = 0; i < 1000; i++) {
    const offer = ask({ type: wire.DISCOVER })!;
    ask({ type: wire.DECLINE, options: [[50, octets(offer.yiaddr)]] });
  }
  t.equal(ask({ type: wire.DISCOVER, mac: OTHER })?.type, wire.OFFER);
});

t.test('INFORM: parameters without a lease (RFC 2131 4.3.5)', async (t) => {
  const { ask, server } = setUp();
  const ack = ask({ type: wire.INFORM, ciaddr: '192.168.65.200', unicast: true })!;
  t.match(ack, { type: wire.ACK, yiaddr: '0.0.0.0', ciaddr: '192.168.65.200' });
  t.equal(ack.option(51), undefined);
  t.same(ack.option(3), octets('192.168.65.1'));
  t.equal(ack.sent.guest, '192.168.65.200');
  t.equal(server.leases().length, 0);
});

t.test('a switch port cannot take all addresses, and all taken means silence', async (t) => {
  const { ask, bind, server } = setUp({ perPort: 10 });
  const kept = bind(MAC, 1);
  for (let mac = 100; mac < 400; mac++) ask({ type: wire.DISCOVER, mac, ingress: 2 });
  t.equal(server.leases().filter((lease) => lease.ingress === 2).length, 10);
  t.equal(ask({ type: wire.DISCOVER, mac: OTHER, ingress: 3 })?.type, wire.OFFER);
  for (let mac = 500; mac < 510; mac++) bind(mac, 4);
  t.equal(ask({ type: wire.DISCOVER, mac: 999, ingress: 4 }), undefined, 'bound ones are not displaced');
  t.equal(server.drops.exhausted, 1);
  t.equal(bind(MAC, 1), kept);
});

t.test('a small pool is shared: the oldest unused address goes to a new client', async (t) => {
  const { ask, bind, clock } = setUp({ first: address('192.168.65.253') });
  t.equal(bind(1), '192.168.65.253');
  clock.now += 1;
  t.equal(bind(2), '192.168.65.254');
  t.equal(ask({ type: wire.DISCOVER, mac: 3 }), undefined);
  clock.now += 4000_000;
  t.equal(bind(3), '192.168.65.253');
  t.equal(bind(1), '192.168.65.254');
});

t.test('addresses kept for certain machines', async (t) => {
  const { bind, ask } = setUp({ fixed: new Map([[OTHER, address('192.168.65.3')]]) });
  t.equal(bind(MAC), '192.168.65.4');
  t.equal(ask({ type: wire.REQUEST, mac: MAC, options: [[50, octets('192.168.65.3')]] })!.type, wire.NAK);
  t.equal(bind(OTHER), '192.168.65.3');
});

t.test('a long search list is cut to whole names that fit, in pieces of 255 octets (RFC 3396)', async (t) => {
  const names = Array.from({ length: 100 }, (_, i) => `department-${i}.corp.example`);
  const { ask } = setUp({ search: () => ['bad..name'.repeat(40), '', ...names] });
  const small = ask({ type: wire.DISCOVER })!;
  t.ok(small.sent.payload.length <= 548);
  const large = ask({ type: wire.DISCOVER, options: [[57, [1400 >> 8, 1400 & 255]]] })!;
  t.ok(large.sent.payload.length > 1000 && large.sent.payload.length <= 1372);
  for (const answer of [small, large]) {
    const list = answer.option(119)!;
    t.ok(Buffer.from(list).toString('latin1').includes('department-0'));
    t.equal(list.at(-1), 0, 'the last name is whole');
  }
});

t.test('options in the file and server name fields (RFC 2131 4.1, option 52)', async (t) => {
  const bytes = message({ options: [[52, [3]]] });
  bytes.set([53, 1, wire.DISCOVER, 255], wire.FILE);
  bytes.set([50, 4, 192, 168, 65, 77, 255], wire.SERVER_NAME);
  const { netstack } = setUp();
  const [sent] = netstack.deliver(bytes, { guest: '0.0.0.0', peer: '255.255.255.255', peerPort: 67 });
  t.match(read(sent!), { type: wire.OFFER, yiaddr: '192.168.65.77' });
});

t.test('what is no request for us is dropped and counted', async (t) => {
  const { netstack, server, ask } = setUp();
  const deliver = (bytes: Uint8Array): number =>
    netstack.deliver(bytes, { peer: '255.255.255.255', peerPort: 67 }).length;
  t.equal(ask({ type: wire.DISCOVER, giaddr: '10.0.0.1' }), undefined);
  t.equal(server.drops.relayed, 1);
  t.equal(ask({}), undefined, 'BOOTP');
  t.equal(ask({ type: wire.OFFER }), undefined);
  t.equal(ask({ type: 200 }), undefined);
  const good = message({ type: wire.DISCOVER });
  for (const [offset, octet] of [
    [0, 2],
    [1, 6],
    [2, 8],
    [236, 0],
  ] as const) {
    const bad = good.slice();
    bad[offset] = octet;
    t.equal(deliver(bad), 0, `octet ${offset}`);
  }
  t.equal(deliver(good.slice(0, 239)), 0);
  t.equal(deliver(new Uint8Array(5000)), 0);
  t.equal(server.drops.malformed, 9);
});

t.test('no octets make the server throw, and every answer can be read', async (t) => {
  const { netstack } = setUp();
  const noise = fc.uint8Array({ maxLength: 400 });
  const options = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(
      fc.oneof(
        noise,
        options.map((tail) => new Uint8Array([...message({}).slice(0, 240), ...tail])),
      ),
      (bytes) => {
        for (const sent of netstack.deliver(bytes, { peer: '255.255.255.255', peerPort: 67 }))
          if (![2, 5, 6].includes(read(sent).type)) return false;
        return true;
      },
    ),
    { numRuns: 2000 },
  );
  const view = new DataView(new ArrayBuffer(300));
  t.equal(wire.check(view, 0, 239), TOO_SHORT);
  t.equal(wire.check(view, 0, 300), BAD_FORMAT);
  wire.emit(view, 0, 1, 2, 0x8000, 3, 4, 5, 6);
  t.equal(wire.check(view, 0, 300), SOUND);
  t.same(
    [
      wire.transaction(view, 0),
      wire.wantsBroadcast(view, 0),
      wire.clientAddress(view, 0),
      wire.yourAddress(view, 0),
      wire.serverAddress(view, 0),
      wire.relayAddress(view, 0),
    ],
    [2, true, 3, 4, 5, 6],
  );
});
