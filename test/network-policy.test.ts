/** What a guest may reach, with real sockets on the host: behind a real Linux guest, and by frames no kernel would send. */

import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { decode, encode } from 'dns-packet';
import t, { type Test } from 'tap';
import { QemuStreamLink } from '../src/hypervisor/link/qemu-stream.ts';
import { Network, type NetworkOptions } from '../src/network.ts';
import { parsePolicyRules } from '../src/proxy/policy/rule.ts';
import { parseAddress } from '../src/stack/wire/address.ts';
import { ensureDebianPackages } from '../tools/debian.ts';
import { Guest } from './clients/guest.ts';
import { FakeLink } from './stack/fake-link.ts';
import { ethernetFrame, ipFrame, transportChecksum, udpFrame } from './stack/frames.ts';
import { readPcapng } from './stack/link/pcapng-file.ts';

ensureDebianPackages([{ name: 'iputils-ping', proof: 'ping' }]);

const HOST = '192.168.65.2';
const GATEWAY_MAC = 0xf6_16_36_bc_f9_c6;
const folder = mkdtempSync(join(tmpdir(), 'slipway-policy-'));
t.teardown(() => rmSync(folder, { recursive: true }));

async function world(t: Test, options: Partial<NetworkOptions> = {}) {
  const path = join(folder, `${t.name.replace(/\W+/g, '-').slice(0, 30)}.sock`);
  const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500, resolvConf: join(folder, 'none'), ...options });
  network.attach(await QemuStreamLink.listen(path, { mtu: 1500 }));
  const guest = await Guest.start(path);
  t.teardown(async () => {
    network.close();
    await guest.stop();
  });
  const use = (rules: string): void => network.usePolicyRules(parsePolicyRules(rules));
  const dial = (host: string, port: number): Promise<string> =>
    guest.run(
      async ({ net, once }, host, port) => {
        const socket = net.connect({ host, port });
        await once(socket, 'connect');
        socket.destroy();
        return 'connected';
      },
      host,
      port,
    );
  /** What the guest's kernel says of a datagram that is not answered by its peer. */
  const send = (host: string, port: number): Promise<string> =>
    guest.run(
      async ({ dgram, once }, host, port) => {
        const socket = dgram.createSocket('udp4');
        socket.connect(port, host);
        await once(socket, 'connect');
        socket.send('hello');
        const heard = await Promise.race([
          once(socket, 'message').then(([message]) => String(message)),
          once(socket, 'error').then(([error]) => error.code),
        ]).catch((thrown) => thrown.code);
        socket.close();
        return heard;
      },
      host,
      port,
    );
  return { network, guest, use, dial, send };
}

async function tcpServer(t: Test, address = '127.0.0.1') {
  const seen = { accepted: 0, port: 0 };
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    seen.accepted++;
    sockets.push(socket.on('error', () => undefined).resume());
  });
  await once(server.listen(0, address), 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  seen.port = (server.address() as net.AddressInfo).port;
  return seen;
}

async function udpServer(t: Test, answer: (message: Buffer) => Uint8Array | string = (message) => message) {
  const seen = { received: 0, port: 0 };
  const socket = dgram.createSocket('udp4', (message, from) => {
    seen.received++;
    socket.send(answer(message), from.port, from.address);
  });
  await once(socket.bind(0), 'listening');
  t.teardown(() => socket.close());
  seen.port = socket.address().port;
  return seen;
}

t.test('rules hold from the moment they are set, and denials are answered at once', async (t) => {
  const { network, use, dial, send } = await world(t);
  const tcp = await tcpServer(t);
  const udp = await udpServer(t);
  t.equal(await dial(HOST, tcp.port), 'connected');
  t.equal(await send(HOST, udp.port), 'hello');

  use(`deny ${HOST} port ${tcp.port},${udp.port}; deny 10.0.0.0/8`);
  const chunks: Uint8Array[] = [];
  const capture = network.capture({
    sink: {
      write: (octets, done) => {
        chunks.push(octets.slice());
        done();
      },
      rotate: () => undefined,
    },
  });
  await t.rejects(dial(HOST, tcp.port), { message: 'ECONNREFUSED' });
  await t.rejects(dial('10.9.9.9', 80), { message: 'ECONNREFUSED' });
  t.equal(await send(HOST, udp.port), 'EHOSTUNREACH', 'ICMP says that it is prohibited');
  capture.stop();
  t.equal(tcp.accepted, 1);
  t.equal(udp.received, 1);

  const frames = readPcapng(Buffer.concat(chunks)).packets.map(({ bytes }) => bytes);
  const of = (protocol: number): Uint8Array[] =>
    frames
      .filter((bytes) => bytes[12] === 8 && bytes[13] === 0 && bytes[23] === protocol)
      .map((bytes) => bytes.subarray(34));
  const word = (payload: Uint8Array, at: number): number => (payload[at]! << 8) | payload[at + 1]!;
  const flags = (payload: Uint8Array): number => payload[13]!;
  /** The flags of what the connection that was dialled last has to say; an earlier one may have something to say still. */
  const about = (port: number): number[] => {
    const segments = of(6).filter((payload) => [0, 2].some((at) => word(payload, at) === port));
    const own = segments.filter((payload) => flags(payload) === 0x02).map((payload) => word(payload, 0));
    return segments.filter((payload) => [0, 2].some((at) => own.includes(word(payload, at)))).map(flags);
  };
  t.same(about(tcp.port), [0x02, 0x14], 'one SYN, one RST: a round trip');
  t.same(about(80), [0x02, 0x14]);
  t.same(
    of(1)
      .filter(([type]) => type === 3)
      .map(([type, code]) => [type, code]),
    [[3, 13]],
    'administratively prohibited',
  );
  t.match(network.drops(), { denied: 1 });
  // What was open before counts as well: the datagram flow, and perhaps a connection that is not quite over.
  t.ok(network.drops()['policy-rule']! >= 3);
  t.match(network.policy().denials, [
    { protocol: 'udp', port: udp.port },
    { protocol: 'tcp', address: '10.9.9.9', port: 80, rule: 'deny 10.0.0.0/8' },
    { protocol: 'tcp', address: HOST, port: tcp.port },
  ]);

  use('');
  t.equal(await dial(HOST, tcp.port), 'connected');
  t.equal(await send(HOST, udp.port), 'hello');
});

t.test('a datagram flow that is open is asked about again when the rules change', async (t) => {
  const { guest, use } = await world(t);
  const udp = await udpServer(t);
  const exchange = (): Promise<string> =>
    guest.run(
      async ({ dgram, once }, host, port) => {
        const kept = globalThis as unknown as { socket?: dgram.Socket };
        if (!kept.socket) {
          kept.socket = dgram.createSocket('udp4');
          kept.socket.connect(port, host);
          await once(kept.socket, 'connect');
        }
        kept.socket.send('hello');
        return Promise.race([
          once(kept.socket, 'message').then(([message]) => String(message)),
          once(kept.socket, 'error').then(([error]) => error.code),
        ]).catch((thrown) => thrown.code);
      },
      HOST,
      udp.port,
    );
  t.equal(await exchange(), 'hello');
  use('deny udp');
  t.equal(await exchange(), 'EHOSTUNREACH');
  use('allow any');
  t.equal(await exchange(), 'hello');
});

t.test("a name's addresses are what the guest was told", async (t) => {
  const names: Record<string, string> = {
    'www.allowed.test': HOST,
    'other.test': HOST,
    'metadata.allowed.test': '169.254.169.254',
    'loopback.allowed.test': '127.0.0.1',
    'zero.allowed.test': '0.0.0.0',
  };
  const server = await udpServer(t, (message) => {
    const query = decode(message);
    const question = query.questions![0]!;
    const data = names[question.name];
    return encode({
      type: 'response',
      id: query.id ?? 0,
      flags: 0x180,
      questions: [question],
      answers: data && question.type === 'A' ? [{ type: 'A', name: question.name, ttl: 60, data }] : [],
    });
  });
  const tcp = await tcpServer(t);
  const { guest, dial } = await world(t, {
    dns: { servers: [{ address: parseAddress('127.0.0.1')!, port: server.port }] },
    policyRules: parsePolicyRules('allow *.allowed.test; deny any'),
  });
  const resolve = (name: string): Promise<string[]> =>
    guest.run(async ({ dns }, name) => {
      const resolver = new dns.promises.Resolver();
      resolver.setServers(['192.168.65.1']);
      return resolver.resolve4(name);
    }, name);

  await t.rejects(dial(HOST, tcp.port), { message: 'ECONNREFUSED' }, 'before it asked for the name');
  t.same(await resolve('other.test'), [HOST]);
  await t.rejects(dial(HOST, tcp.port), { message: 'ECONNREFUSED' }, 'another name of the same address');
  t.same(await resolve('www.ALLOWED.test'), [HOST]);
  t.equal(await dial(HOST, tcp.port), 'connected');
  t.same(await resolve('metadata.allowed.test'), ['169.254.169.254']);
  await t.rejects(dial('169.254.169.254', 80), { message: 'ECONNREFUSED' }, 'rebinding opens nothing');
  await t.rejects(dial(HOST, 2375), { message: 'ECONNREFUSED' });
  t.equal(tcp.accepted, 1);
});

t.test('clients of published ports have rules of their own', async (t) => {
  for (const hostSockets of ['native', 'portable'] as const)
    await t.test(`${hostSockets} sockets`, async (t) => {
      const { network, guest, use } = await world(t, { hostSockets });
      const guestPort = await guest.run(async ({ net, once }) => {
        const server = net.createServer((socket) => socket.on('error', () => undefined).end('hello'));
        await once(server.listen(0, '0.0.0.0'), 'listening');
        return (server.address() as net.AddressInfo).port;
      });
      const exposed = await network.expose({
        protocol: 'tcp',
        hostAddress: '127.0.0.1',
        hostPort: 0,
        guestAddress: '192.168.65.3',
        guestPort,
      });
      const visit = async (): Promise<string> => {
        const socket = net.connect(exposed.port, '127.0.0.1');
        return Promise.race([
          once(socket, 'data').then(([chunk]) => String(chunk)),
          once(socket, 'error').then(([error]) => error.code),
          once(socket, 'close').then(() => 'closed'),
        ]).catch((thrown) => thrown.code);
      };
      t.equal(await visit(), 'hello');
      use(`deny in tcp 127.0.0.0/8 port ${exposed.port}`);
      t.equal(await visit(), 'ECONNRESET');
      use('allow in 127.0.0.1; deny in any');
      t.equal(await visit(), 'hello');
      t.match(network.policy().denials, [{ direction: 'in', address: '127.0.0.1', port: exposed.port, flows: Number }]);
      exposed.close();
    });
});

/** A SYN (or the RST after it) by hand: a guest's kernel would keep many of these addresses to itself. */
function syn(to: string, port: number, source: number, reset = false): Uint8Array {
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  view.setUint16(0, source);
  view.setUint16(2, port);
  view.setUint32(4, source * 1000 + Number(reset));
  header[12] = 5 << 4;
  header[13] = reset ? 0x04 : 0x02;
  view.setUint16(14, 65535);
  view.setUint16(16, transportChecksum('192.168.65.3', to, 6, header));
  return ipFrame(6, header, { to, destinationMac: GATEWAY_MAC });
}

t.test("no address but the alias reaches the host's loopback, whoever listens on it", async (t) => {
  for (const hostSockets of ['native', 'portable'] as const)
    await t.test(`${hostSockets} sockets`, async (t) => {
      const network = new Network({
        ...{ subnet: '192.168.65.0/24', mtu: 1500, hostSockets, resolvConf: join(folder, 'none') },
        guestMacAddress: Uint8Array.of(2, 0, 0, 0, 0, 3),
        hostLoopback: { mode: 'ask' },
      });
      t.teardown(() => network.close());
      const link = new FakeLink();
      network.attach(link);
      const tcp = await tcpServer(t, '::');
      const udp = await udpServer(t);
      const own = Object.values(networkInterfaces())
        .flatMap((addresses) => addresses ?? [])
        .filter(({ family }) => family === 'IPv4')
        .map(({ address }) => address);
      const forms = [
        ...['0.0.0.0', '0.0.0.1', '0.1.2.3', '0.255.255.255', '127.0.0.1', '127.0.0.2', '127.1.2.3', '127.255.255.254'],
        ...['169.254.169.254', '169.254.0.1', '224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.255'],
        ...['192.168.65.0', '192.168.65.1', '192.168.65.7', '192.168.65.255', '100.100.100.200', '168.63.129.16'],
        ...own,
      ];
      let source = 20_000;
      for (const to of forms) {
        link.input([syn(to, tcp.port, source++)]);
        link.input([udpFrame(source++, udp.port, Buffer.from('x'), { to, destinationMac: GATEWAY_MAC })]);
      }
      // Frames of another protocol family, with mapped and compatible addresses, reach nobody either.
      for (const to of [
        '::1',
        '::',
        '::ffff:127.0.0.1',
        '::127.0.0.1',
        '::ffff:0:127.0.0.1',
        '64:ff9b::127.0.0.1',
        'fe80::1',
      ]) {
        const packet = new Uint8Array(60);
        packet[0] = 0x60;
        packet.set([0, 20, 6, 64], 4);
        packet.set(parseAddress('fd00::3')!, 8);
        packet.set(parseAddress(to)!, 24);
        packet.set(syn(HOST, tcp.port, source++).subarray(34, 54), 40);
        link.input([ethernetFrame(0x86dd, packet, { destinationMac: GATEWAY_MAC })]);
      }
      const answers = link.sent.map(({ bytes }) => bytes).filter((bytes) => bytes[12] === 8 && bytes[13] === 0);
      t.notOk(
        answers.some((bytes) => bytes[23] === 6 && (bytes[34 + 13]! & 0x12) === 0x12),
        'no SYN-ACK',
      );

      // The way that is open: when it has answered, whatever else was dialled has had its time.
      network.useHostPorts({
        mode: 'list',
        ports: [
          [tcp.port, tcp.port],
          [udp.port, udp.port],
        ],
      });
      const through = source++;
      link.input([
        syn(HOST, tcp.port, through),
        udpFrame(source++, udp.port, Buffer.from('x'), { to: HOST, destinationMac: GATEWAY_MAC }),
      ]);
      const answered = (protocol: number) =>
        link.sent.some(({ bytes }) => bytes[23] === protocol && bytes.subarray(26, 30).join('.') === HOST);
      while (!answered(6) || !answered(17)) await new Promise((resolve) => setImmediate(resolve));
      link.input([syn(HOST, tcp.port, through, true)]);
      t.same([tcp.accepted, udp.received], [1, 1], 'the one connection and the one datagram to the alias');
      const { denied } = network.policy();
      t.equal(denied['forbidden-address'], 8, 'metadata services; other forms the stack itself drops');
      t.equal(denied['host-port'], 2 * own.filter((address) => !address.startsWith('127.')).length);
    });
});

t.test("Slipway's own ports are no guest's", async (t) => {
  const { network, dial } = await world(t);
  const at = { address: '127.0.0.1', port: 0 };
  const entrance = await network.openEntrance({ at, credential: 'a:b', names: { addressOf: async () => undefined } });
  t.ok(network.policy().ownPorts.includes(entrance.port));
  await t.rejects(dial(HOST, entrance.port), { message: 'ECONNREFUSED' });
  t.match(network.policy().denials, [{ reason: 'host-port', port: entrance.port }]);
});

t.test('what is open only to those who ask for it is refused and shown', async (t) => {
  const { network, dial } = await world(t, { hostLoopback: { mode: 'ask' } });
  const tcp = await tcpServer(t);
  await t.rejects(dial(HOST, tcp.port), { message: 'ECONNREFUSED' });
  t.match(network.policy().denials, [{ reason: 'host-port', port: tcp.port }]);
  network.useHostPorts({ mode: 'ask', ports: [[tcp.port, tcp.port]] });
  t.equal(await dial(HOST, tcp.port), 'connected');
});

t.test('--allow and --deny hold in the order given', async (t) => {
  const tcp = await tcpServer(t);
  const launcher = join(import.meta.dirname, '../bin/slipway');
  const script = `exec 3<>/dev/tcp/${HOST}/${tcp.port} && echo through`;
  const run = (...options: string[]) => runAlone([...options, 'bash', '-c', script]);
  const runAlone = async (command: string[]) => {
    const { NODE_OPTIONS: _, ...env } = process.env;
    const child = spawn(launcher, ['net', 'run', ...command], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const [stdout, stderr, [status]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close'),
    ]);
    return { status, stdout, stderr };
  };
  t.match(await run('--allow', `tcp ${HOST} port ${tcp.port}`, '--deny', 'any'), { status: 0, stdout: 'through\n' });
  t.match(await run('--deny', 'any', '--allow', `tcp ${HOST}`), { status: 1, stderr: /Connection refused/ });
  t.match(await runAlone(['--deny', 'icmp', 'ping', '-c', '1', '-W', '30', '10.9.9.9']), {
    status: 1,
    stdout: /Packet filtered/,
  });
  t.match(await run('--host-ports', 'none'), { status: 1, stderr: /Connection refused/ });
  t.match(await run('--host-ports', '1-2'), { status: 1, stderr: /Connection refused/ });
  t.match(await run('--deny', 'tcp udp'), { status: 2, stderr: /^slipway: --deny: 'deny tcp udp': 'udp' is neither/ });
  t.match(await run('--host-ports', 'x'), { status: 2, stderr: /--host-ports: 'x' is no list/ });
  t.match(await run('--policy', join(folder, 'nope')), { status: 2, stderr: /nope: it cannot be read \(ENOENT\)/ });
});
