/** The DNS forwarder over the host's real sockets: a name server on loopback, by UDP and TCP, over IPv4 and IPv6. */

import dgram from 'node:dgram';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import dnsPacket, { type Answer } from 'dns-packet';
import t from 'tap';
import { Network } from '../../src/network.ts';
import { NodeHostNet } from '../../src/proxy/adapter/node-host-net.ts';
import { parseNameServers } from '../../src/proxy/dns/name-servers.ts';
import { DnsForwarder } from '../../src/proxy/dns.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { address, FakeNetstack, type SentDatagram, seededRandom } from './gateway-fakes.ts';

const GATEWAY = '192.168.65.1';

/** `bigN.example` has N records, any other name one; over UDP what exceeds 512 octets is cut off with TC. */
function answer(asked: Buffer, udp: boolean): Buffer {
  const packet = dnsPacket.decode(asked);
  const name = packet.questions![0]!.name;
  const records = Number(/^big(\d+)\./.exec(name)?.[1] ?? 1);
  const answers = Array.from(
    { length: records },
    (_, i): Answer => ({ type: 'A', name, data: `192.0.2.${i}`, ttl: 60 }),
  );
  const response = {
    type: 'response' as const,
    id: packet.id!,
    flags: dnsPacket.RECURSION_AVAILABLE,
    questions: packet.questions!,
    answers,
  };
  const whole = dnsPacket.encode(response);
  if (!udp || whole.length <= 512) return whole;
  return dnsPacket.encode({ ...response, flags: response.flags | dnsPacket.TRUNCATED_RESPONSE, answers: [] });
}

/** A name server on a loopback address; its port, for both UDP and TCP. */
async function serve(host: string): Promise<{ text: string; asked: { udp: number; tcp: number } }> {
  const asked = { udp: 0, tcp: 0 };
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    let octets = Buffer.alloc(0);
    socket.on('data', (data) => {
      octets = Buffer.concat([octets, data]);
      if (octets.length < 2 || octets.length < 2 + octets.readUInt16BE(0)) return;
      asked.tcp++;
      const response = answer(octets.subarray(2), false);
      socket.write(Buffer.from([response.length >> 8, response.length & 255]));
      socket.end(response);
    });
  });
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (data, from) => {
    asked.udp++;
    socket.send(answer(data, true), from.port, from.address);
  });
  socket.bind(port, host);
  await once(socket, 'listening');
  t.teardown(() => {
    server.close();
    socket.close();
  });
  return { text: `${host}#${port}`, asked };
}

function setUp(servers: string) {
  let serviced: () => void = () => {};
  const netstack = new FakeNetstack();
  const clock = { nowMs: () => performance.now() };
  const gateway = address(GATEWAY);
  const policy = new Policy({ subnets: [], gateways: [gateway], hostAliases: [] });
  const config = { servers: parseNameServers(servers), search: [] };
  const dns = new DnsForwarder(
    {
      netstack,
      hostNet: new NodeHostNet(() => serviced()),
      resolvers: { current: () => config },
      policy,
      clock,
      random: seededRandom(),
    },
    { addresses: [gateway], names: new Map() },
  );
  t.teardown(() => dns.close());
  /** Resolves when `ready` is true after a round of host events or the next timer that the forwarder asked for. */
  const until = async (ready: () => boolean): Promise<void> => {
    while (!ready()) {
      const due = Math.max(0, dns.pollAt() - clock.nowMs());
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(due, 2 ** 30));
        serviced = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      dns.poll(clock.nowMs());
    }
  };
  return { netstack, policy, until };
}

const query = (name: string, id: number): Uint8Array =>
  new Uint8Array(
    dnsPacket.encode({ type: 'query', id, flags: dnsPacket.RECURSION_DESIRED, questions: [{ name, type: 'A' }] }),
  );

t.test('UDP and TCP, IPv4 and IPv6', async (t) => {
  for (const host of ['127.0.0.1', '::1']) {
    const server = await serve(host);
    const { netstack, policy, until } = setUp(server.text);
    const got: SentDatagram[] = [];
    for (let i = 0; i < 50; i++)
      netstack.deliver(query(`n${i}.example`, i), { peer: GATEWAY, peerPort: 53, guestPort: 2000 + i });
    netstack.sent = got;
    await until(() => got.length === 50);
    t.same(
      got.map((one) => dnsPacket.decode(Buffer.from(one.payload)).id).sort((a, b) => a! - b!),
      Array.from({ length: 50 }, (_, i) => i),
    );
    netstack.deliver(query('big100.example', 7), { peer: GATEWAY, peerPort: 53 });
    await until(() => netstack.sent.length === 1);
    t.ok((dnsPacket.decode(Buffer.from(netstack.sent[0]!.payload)) as unknown as { flag_tc: boolean }).flag_tc);
    const connection = netstack.open(GATEWAY, 53);
    const asked = query('big1000.example', 8);
    connection.push(Uint8Array.from([0, asked.length, ...asked]));
    await until(() => connection.messages().length === 1);
    t.equal(dnsPacket.decode(Buffer.from(connection.messages()[0]!)).answers!.length, 1000);
    t.same(server.asked, { udp: 51, tcp: 1 });
    t.equal(policy.held('dns', 0), 0);
    connection.abort();
  }
});

t.test('a server that nobody is behind is passed over', async (t) => {
  const server = await serve('127.0.0.1');
  // A port where TCP is refused and UDP is lost: nothing listens on the discard port of this loopback address.
  const { netstack, until } = setUp(`127.0.0.9#9,${server.text}`);
  netstack.deliver(query('n.example', 1), { peer: GATEWAY, peerPort: 53 });
  await until(() => netstack.sent.length === 1);
  const connection = netstack.open(GATEWAY, 53);
  const asked = query('big300.example', 8);
  connection.push(Uint8Array.from([0, asked.length, ...asked]));
  await until(() => connection.messages().length === 1);
  t.same(server.asked, { udp: 1, tcp: 1 });
  connection.abort();
});

t.test('a whole network finds names for itself, also when the first server says nothing', async (t) => {
  const server = await serve('127.0.0.1');
  const silent = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(silent, 'listening');
  const servers = parseNameServers(`127.0.0.1#${silent.address().port},${server.text}`);
  const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500, dns: { servers, hostsFile: '' } });
  t.teardown(() => {
    network.close();
    silent.close();
  });
  // Nothing but the network's own timer can lead on to the second server.
  t.same((await network.addressesOf('n.example')).map(formatAddress), ['192.0.2.0']);
  t.same((await network.addressesOf('big300.example')).length, 300, 'what is too long for UDP comes by TCP');
  t.same((await network.addressesOf('host.docker.internal')).map(formatAddress).slice(0, 1), ['192.168.65.2']);
});
