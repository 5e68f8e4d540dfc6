/** The time server: RFC 5905's server mode octet by octet, hostile octets, the host's clock, and a real client. */

import fc from 'fast-check';
import t from 'tap';
import { nodeClock } from '../../src/proxy/adapter/host-clock.ts';
import { LinuxClock } from '../../src/proxy/adapter/linux-clock.ts';
import { NtpServer } from '../../src/proxy/ntp.ts';
import type { WallTime } from '../../src/proxy/port.ts';
import { address, FakeNetstack } from './gateway-fakes.ts';

const gateway = '192.168.65.1';

function setUp(extra: Partial<WallTime> = {}) {
  const netstack = new FakeNetstack();
  // Half a second past the beginning of 2030, which is 4102444800 s after 1900.
  const time = { epochMs: 1_893_456_000_500, inStep: true, leap: 0, maxErrorMs: 250, precision: -20, ...extra };
  const server = new NtpServer(netstack, [address(gateway)], { read: () => time });
  const ask = (request: Uint8Array) => netstack.deliver(request, { guestPort: 123, peer: gateway, peerPort: 123 });
  return { netstack, server, ask };
}

/** A client's request, and what follows the header. */
function request(first = 0x23, ...more: number[]): Uint8Array {
  const octets = new Uint8Array(48 + more.length);
  octets[0] = first;
  octets[2] = 6;
  octets.set([1, 2, 3, 4, 5, 6, 7, 8], 40);
  octets.set(more, 48);
  return octets;
}

const hex = (octets: Uint8Array | undefined, from: number, to: number): string =>
  Buffer.from(octets ?? []).toString('hex', from, to);

t.test('a request is answered with the host’s time (RFC 5905 7.3)', async (t) => {
  const { ask, server, netstack } = setUp();
  const [answer] = ask(request());
  t.match(answer, { guest: '192.168.65.3', guestPort: 123, peer: gateway, peerPort: 123 });
  const { payload } = answer!;
  t.equal(payload.length, 48);
  t.equal(hex(payload, 0, 4), '240306ec', 'version 4, server, stratum 3, poll as asked, 2^-20 s');
  t.equal(hex(payload, 4, 12), '0000000000004000', 'root dispersion of a quarter of a second');
  t.equal(hex(payload, 24, 32), '0102030405060708', 'origin: the client’s transmit timestamp');
  for (const at of [16, 32, 40]) t.equal(hex(payload, at, at + 8), `${(4_102_444_800).toString(16)}80000000`);
  server.close();
  t.equal(netstack.udp.size, 0);
});

t.test('older versions, and SNTP clients that fill in nothing', async (t) => {
  const { ask } = setUp();
  for (const version of [1, 2, 3, 4])
    t.equal(ask(request((version << 3) | 3))[0]!.payload[0], (version << 3) | 4, `version ${version}`);
  const bare = new Uint8Array(48);
  bare[0] = 0x1b;
  t.equal(hex(ask(bare)[0]!.payload, 24, 32), '0000000000000000');
});

t.test('what the host’s system says of its clock is passed on', async (t) => {
  const free = setUp({ inStep: false, maxErrorMs: 16_000_000 }).ask(request())[0]!.payload;
  t.equal(hex(free, 0, 2), '240a', 'nobody keeps it in step: usable, at stratum 10');
  t.equal(hex(free, 8, 12), '00000000');
  t.equal(setUp({ leap: 1 }).ask(request())[0]!.payload[0], 0x64, 'a leap second ahead');
  t.equal(hex(setUp({ maxErrorMs: 1e9 }).ask(request())[0]!.payload, 8, 12), 'ffffffff');
  // 2036: the seconds begin anew (RFC 5905 6).
  const later = setUp({ epochMs: (2 ** 32 - 2_208_988_800 + 7) * 1000 }).ask(request())[0]!.payload;
  t.equal(hex(later, 40, 48), '0000000700000000');
});

t.test('what asks for nothing, or for too much, is dropped and counted', async (t) => {
  const { ask, server } = setUp();
  for (const mode of [0, 1, 2, 4, 5, 6, 7]) t.same(ask(request(0x20 | mode)), [], `mode ${mode}`);
  for (const version of [0, 5, 6, 7]) t.same(ask(request((version << 3) | 3)), [], `version ${version}`);
  t.equal(server.drops.mode, 11);
  t.same(ask(request().slice(0, 47)), []);
  t.same(ask(new Uint8Array(0)), []);
  t.same(ask(new Uint8Array(1400).fill(0x23)), []);
  t.same(ask(request(0x23, ...new Array(28).fill(0))), [], 'an extension field of no octets');
  t.equal(server.drops.malformed, 4);
  for (const mac of [4, 20, 24]) t.same(ask(request(0x23, ...new Array(mac).fill(7))), [], `a MAC of ${mac} octets`);
  t.equal(server.drops.authenticated, 3);
  const [answer] = ask(request(0x23, 1, 4, 0, 28, ...new Array(24).fill(0)));
  t.equal(answer?.payload.length, 48, 'an extension field that is not known is no reason not to answer (RFC 7822 7.5)');
});

t.test('whatever comes, nothing throws, and no answer is longer than its request', async () => {
  const { ask } = setUp();
  const sound = fc.uint8Array({ minLength: 47, maxLength: 120 }).map((octets) => {
    octets[0] = 0x23;
    return octets;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 1100 }), sound), (octets) => {
      const answers = ask(octets);
      return answers.length <= 1 && answers.every(({ payload }) => payload.length <= octets.length);
    }),
    { numRuns: 2000 },
  );
});

t.test('the clock of this host', { skip: process.platform !== 'linux' }, async (t) => {
  const before = Date.now();
  const { epochMs, leap, precision } = new LinuxClock(-20, nodeClock).read();
  const after = Date.now();
  t.ok(Math.floor(epochMs) >= before && Math.floor(epochMs) <= after, `${before} <= ${epochMs} <= ${after}`);
  t.match({ leap, precision }, { leap: /^[012]$/, precision: -20 });
});
