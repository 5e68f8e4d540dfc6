/** RFC 4787, NAT Behavioral Requirements for Unicast UDP: what the host's sockets are to the guest's. By requirement. */

import fc from 'fast-check';
import t from 'tap';
import { FakeHostNet } from '../../src/proxy/adapter/fake-host-net.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { UdpProxy } from '../../src/proxy/udp-proxy.ts';
import { formatAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { address, datagram, FakeNetstack } from '../proxy/fake-stack.ts';
import { fragmentsOf } from '../proxy/host-peer.ts';

const text = (words: string) => fragmentsOf(Buffer.from(words));

/** Of each IP version: two guests, two peers, and the host's own address. */
const families = {
  IPv4: { guests: ['192.168.65.3', '192.168.65.4'], peers: ['10.0.0.1', '10.0.0.2'], host: '192.0.2.1' },
  IPv6: { guests: ['fd65::3', 'fd65::4'], peers: ['2001:db8:1::1', '2001:db8:1::2'], host: '2001:db8::1' },
} as const;
const both = Object.values(families);

function world() {
  const events: (() => void)[] = [];
  const host = new FakeHostNet((event) => events.push(event));
  const netstack = new FakeNetstack();
  const subnets = [parseSubnet('192.168.65.0/24')!, parseSubnet('fd65::/64')!];
  const policy = new Policy({ subnets, gateways: [], hostAliases: [] });
  const clock = { now: 0, nowMs: () => clock.now };
  const proxy = new UdpProxy({ host, policy, netstack, clock, hostAliases: [] });
  const settle = (): void => {
    for (let event = events.shift(); event; event = events.shift()) event();
  };
  const heard: { at: string; from: string; port: number; payload: string }[] = [];
  /** Somebody on the host's side. */
  const listen = async (at: string, port: number) => {
    const { socket } = await host.listenDatagram(at, port, {
      received(_socket, payload, from, fromPort) {
        heard.push({ at, from: formatAddress(from), port: fromPort, payload: Buffer.from(payload).toString() });
      },
      failed() {},
    });
    return (to: string, toPort: number, words: string): void => {
      socket.send(text(words), address(to), toPort);
      settle();
    };
  };
  const send = (guest: string, port: number, peer: string, peerPort: number, words: string): void => {
    proxy.udp(datagram(guest, port, peer, peerPort, text(words)));
    settle();
  };
  const told = (): string[] => netstack.sent.splice(0).map(({ from, to, payload }) => `${from} > ${to}: ${payload}`);
  return { proxy, netstack, clock, listen, send, heard, told };
}

t.test('REQ-1: one mapping of a source for all that it speaks to', async (t) => {
  for (const { guests, peers } of both) {
    const { listen, send, heard } = world();
    for (const [at, port] of [
      [peers[0], 53],
      [peers[0], 54],
      [peers[1], 53],
    ] as const)
      await listen(at, port);
    send(guests[0], 5000, peers[0], 53, 'a');
    send(guests[0], 5000, peers[0], 54, 'b');
    send(guests[0], 5000, peers[1], 53, 'c');
    t.equal(heard.length, 3);
    t.equal(new Set(heard.map(({ from, port }) => `${from} ${port}`)).size, 1);
  }
});

t.test('REQ-3: no two sources share a port', async () => {
  const sources = fc.uniqueArray(fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 65_535 })), {
    minLength: 2,
    maxLength: 40,
    selector: String,
  });
  for (const { guests, peers } of both)
    await fc.assert(
      fc.asyncProperty(sources, async (sources) => {
        const { listen, send, heard } = world();
        await listen(peers[0], 53);
        for (const [guest, port] of sources) send(guests[guest as 0 | 1], port, peers[0], 53, 'x');
        return new Set(heard.map(({ port }) => port)).size === sources.length;
      }),
      { numRuns: 50 },
    );
});

t.test('REQ-5: a mapping lives for two minutes and more without a datagram', async (t) => {
  for (const { guests, peers } of both) {
    const { proxy, clock, listen, send, heard, told } = world();
    const answer = await listen(peers[0], 53);
    send(guests[0], 5000, peers[0], 53, 'x');
    clock.now = 120_000;
    proxy.expire();
    answer(heard[0]!.from, heard[0]!.port, 'late');
    t.same(told(), [`${peers[0]} 53 > ${guests[0]} 5000: late`]);
  }
});

t.test('REQ-6: datagrams of the guest, and to it, keep it alive', async (t) => {
  for (const { guests, peers } of both)
    for (const direction of ['out', 'in']) {
      const { proxy, clock, listen, send, heard, told } = world();
      const answer = await listen(peers[0], 53);
      send(guests[0], 5000, peers[0], 53, 'x');
      const { from, port } = heard[0]!;
      for (let minute = 1; minute <= 30; minute++) {
        clock.now = minute * 60_000;
        proxy.expire();
        if (direction === 'out') send(guests[0], 5000, peers[0], 53, 'x');
        else answer(from, port, 'x');
      }
      told();
      answer(from, port, 'still');
      t.same(told(), [`${peers[0]} 53 > ${guests[0]} 5000: still`], direction);
    }
});

t.test('REQ-8: whoever sends to it is let in, with its own address', async (t) => {
  for (const { guests, peers } of both) {
    const { listen, send, heard, told } = world();
    await listen(peers[0], 53);
    const stranger = await listen(peers[1], 7777);
    send(guests[0], 5000, peers[0], 53, 'x');
    stranger(heard[0]!.from, heard[0]!.port, 'from a third address');
    t.same(told(), [`${peers[1]} 7777 > ${guests[0]} 5000: from a third address`]);
  }
});

t.test('REQ-9: guests reach each other by the ports that the host has for them', async (t) => {
  for (const { guests, peers, host } of both) {
    const { listen, send, heard, told } = world();
    await listen(peers[0], 3478);
    send(guests[0], 5000, peers[0], 3478, 'who am I');
    send(guests[1], 6000, peers[0], 3478, 'who am I');
    const [one, other] = heard.map(({ port }) => port);
    send(guests[0], 5000, host, other!, 'hello');
    t.same(told(), [`${host} ${one} > ${guests[1]} 6000: hello`], 'with the external address of the sender');
    send(guests[1], 6000, host, one!, 'hello yourself');
    t.same(told(), [`${host} ${other} > ${guests[0]} 5000: hello yourself`]);
  }
});

t.test('REQ-12: an ICMP error does not end a mapping', async (t) => {
  for (const { guests, peers } of both) {
    const { netstack, listen, send, heard, told } = world();
    const answer = await listen(peers[0], 53);
    send(guests[0], 5000, peers[0], 53, 'x');
    send(guests[0], 5000, peers[1], 9, 'nobody is there');
    t.same(netstack.unreachable, [`port ${peers[1]} 9`]);
    answer(heard[0]!.from, heard[0]!.port, 'still');
    t.same(told(), [`${peers[0]} 53 > ${guests[0]} 5000: still`]);
  }
});
