/**
 * Linux as a guest with nothing configured: from router advertisements alone it makes its address, finds its router and
 * the link's MTU; echoes, fragments both ways, datagrams and streams pass between its stack and ours, with and without
 * offload. Over a TAP in a namespace.
 */

import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startHelper } from '../../src/hypervisor/link/namespace-helper.ts';
import { TapLink } from '../../src/hypervisor/link/tap.ts';
import { hostOf } from '../../src/stack/ipv6-identity.ts';
import { Netstack } from '../../src/stack/netstack.ts';
import { Pipeline } from '../../src/stack/pipeline.ts';
import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'util-linux', proof: 'nsenter' },
]);

t.setTimeout(120_000);

const OCTETS = 2_000_000;
const MTU = 1400;
const octetAt = (place: number): number => (place * 31 + (place >> 8)) & 0xff;

/** Runs a program in the namespace of `pid`. */
function inside(pid: number, ...argv: string[]): Promise<string> {
  const enter = [`--target=${pid}`, '--user', '--net', '--preserve-credentials', '--', ...argv];
  return new Promise((resolve) => {
    execFile('nsenter', enter, (failed, stdout, stderr) =>
      resolve(failed ? `${stdout}${failed.message}\n${stderr}` : stdout),
    );
  });
}

/** Asks again until the answer is right; gives the last answer where it never is. */
async function until(ask: () => Promise<string>, right: RegExp): Promise<string> {
  for (let tries = 0; ; tries++) {
    const answer = await ask();
    if (right.test(answer) || tries === 150) return answer;
    await sleep(100);
  }
}

/** Checks a stream that it receives, sends one of its own, and ends with the other side. */
class Stream implements TcpHandler {
  #got = 0;
  #sent = 0;
  wrong = 0;
  #resolve: (outcome: string) => void = () => {};
  readonly over = new Promise<string>((resolve) => {
    this.#resolve = resolve;
  });

  established(connection: TcpConnection): void {
    this.writable(connection);
  }

  room(): number {
    return 1 << 20;
  }

  received(_connection: TcpConnection, list: FragmentList): number {
    for (let i = 0; i < list.count; i++) {
      const { arena, offset, length } = list.items[i]!;
      for (let k = 0; k < length; k++) if (arena.bytes[offset + k] !== octetAt(this.#got++)) this.wrong++;
    }
    return list.octets;
  }

  receivedEnd(): void {}

  writable(connection: TcpConnection): void {
    while (this.#sent < OCTETS && connection.reserveSend()) {
      const octets = Math.min(connection.sendLength, OCTETS - this.#sent);
      for (let i = 0; i < octets; i++) connection.sendArena.bytes[connection.sendOffset + i] = octetAt(this.#sent++);
      connection.commitSend(octets);
    }
    if (this.#sent === OCTETS) connection.end();
  }

  closed(_connection: TcpConnection, reason: CloseReason): void {
    this.#resolve(`${reason}: ${this.#got} octets, ${this.wrong} wrong`);
  }
}

/** The guest's end of a stream; `open` makes the socket. */
const guestEnd = (open: string): string => `
  const octetAt = (place) => (place * 31 + (place >> 8)) & 0xff;
  let got = 0, wrong = 0;
  const talk = (socket) => {
    socket.on('data', (chunk) => { for (const octet of chunk) if (octet !== octetAt(got++)) wrong++; });
    socket.on('close', () => { console.log(got + ' octets, ' + wrong + ' wrong'); process.exit(); });
    socket.end(Uint8Array.from({ length: ${OCTETS} }, (_, i) => octetAt(i)));
  };
  const net = require('net');
  ${open}`;

const guestDatagram = `
  const socket = require('dgram').createSocket('udp6');
  socket.on('message', (message) => { console.log(message.length); socket.close(); });
  socket.send(Buffer.alloc(5000, 1), 7, 'fd00:1:2:3::2');`;

for (const offload of [false, true])
  t.test(`Linux by itself, ${offload ? 'with' : 'without'} offload`, async (t: Test) => {
    const enter = ['unshare', '--user', '--map-root-user', '--net', '--'];
    const helper = startHelper(enter, { name: 'tap0', offload }, ['sleep', '600']);
    t.teardown(() => helper.child.kill('SIGKILL'));
    const { fd } = await helper.tap;
    helper.go();
    const pid = helper.child.pid!;
    const link = new TapLink(fd, { name: 'tap0', mtu: MTU, offload });
    const started = performance.now();
    const clock = { nowMs: () => performance.now() - started };
    const forwarded: Stream[] = [];
    const accept = (connection: TcpConnection): void => {
      const stream = new Stream();
      forwarded.push(stream);
      connection.accept(stream);
    };
    const netstack: Netstack = new Netstack({
      clock,
      random: { fill: (into) => void crypto.getRandomValues(into as Uint8Array<ArrayBuffer>) },
      forwarder: {
        tcp: accept,
        udp: (datagram) => netstack.sendUdp(datagram, new Uint8Array(datagram.payload.octets)),
        echo: (request) => netstack.sendUnreachable('network', request),
      },
      macAddress: Uint8Array.of(2, 0, 0, 0, 0, 1),
      gateway: parseAddress('192.168.65.1')!,
      hostAlias: parseAddress('192.168.65.2')!,
      prefix: 24,
      ipv6: { prefix: parseAddress('fd00:1:2:3::')!, searchDomains: () => ['slipway.internal'] },
    });
    let timer: NodeJS.Timeout | undefined;
    const pipeline = new Pipeline({
      netstack,
      clock,
      schedule: (at, run) => {
        if (at === 'soon') setImmediate(run);
        else {
          clearTimeout(timer);
          timer = setTimeout(run, Math.max(1, at - clock.nowMs()));
        }
      },
    });
    pipeline.attach(link);
    t.teardown(() => {
      link.close();
      clearTimeout(timer);
    });
    await inside(pid, 'ip', 'link', 'set', 'tap0', 'up');
    await inside(pid, 'ip', 'link', 'set', 'lo', 'up');

    const show = () => inside(pid, 'ip', '-6', '-o', 'addr', 'show', 'dev', 'tap0', '-tentative');
    const both = /fe80::.*\n.*fd00:1:2:3:|fd00:1:2:3:.*\n.*fe80::/;
    const addresses = await until(show, both);
    const address = /fd00:1:2:3:[0-9a-f:]+/.exec(addresses)?.[0] ?? addresses;
    t.match(addresses, both, 'SLAAC');
    const router = await inside(pid, 'ip', '-6', 'route', 'show', 'default');
    t.match(router, /default via fe80::ff:fe00:1 dev tap0 proto ra .*mtu 1400/, 'the router and the MTU');

    const ping = (...argv: string[]) => inside(pid, 'ping', '-6', '-W', '10', ...argv);
    for (const target of ['fe80::ff:fe00:1%tap0', 'fd00:1:2:3::1', 'fd00:1:2:3::2'])
      t.match(await ping('-c', '1', target), /1 received/, target);
    t.match(await ping('-c', '1', '-s', '9000', 'fd00:1:2:3::1'), /9008 bytes from/, 'fragments both ways');
    t.match(await ping('-c', '1', '2001:db8::1'), /From fd00:1:2:3::1 .*No route/, 'the forwarder says why');
    t.match(await ping('-c', '1', '-t', '1', '2001:db8::1'), /From fd00:1:2:3::1 .*Hop limit/i, 'hop limit');
    t.equal(await inside(pid, process.execPath, '-e', guestDatagram), '5000\n', 'a datagram in fragments both ways');

    const out = inside(pid, process.execPath, '-e', guestEnd(`talk(net.connect(80, '2001:db8::1'))`));
    t.equal(await out, `${OCTETS} octets, 0 wrong\n`, 'a stream of the guest');
    t.equal(await forwarded[0]!.over, `closed: ${OCTETS} octets, 0 wrong`);

    const server = inside(pid, process.execPath, '-e', guestEnd(`net.createServer(talk).listen(8080, '::')`));
    await until(() => inside(pid, 'ss', '-6ltn'), /:8080/);
    const stream = new Stream();
    const to = { guestAddress: parseAddress(address)!, guestPort: 8080, peerPort: 0 };
    netstack.connect({ ...to, peerAddress: hostOf(parseAddress('fd00:1:2:3::')!, 1) }, stream);
    t.equal(await stream.over, `closed: ${OCTETS} octets, 0 wrong`, 'a stream to the guest');
    t.equal(await server, `${OCTETS} octets, 0 wrong\n`);
  });
