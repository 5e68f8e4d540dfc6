/** Who is where, and for how long that is believed: ARP's and neighbour discovery's alike. */

import fc from 'fast-check';
import t from 'tap';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { AbsentGuest, type Family } from './absent-guest.ts';
import { assertRecorded } from './recorded-stack.ts';
import type { Owner } from './tcp/tcp-script.ts';
import { address } from './world.ts';

const MOVED_MAC = 0x02_00_00_00_00_09;
const families: readonly Family[] = ['IPv4', 'IPv6'];

for (const family of families) {
  const { guest, container } = new AbsentGuest(family).names;
  const asked = `who has ${guest}`;
  const probed = `to 3: ${asked}`;

  t.test(`${family}: a guest that is silent is asked for three times, then whoever waits is told`, async (t) => {
    const absent = new AbsentGuest(family);
    const owner = absent.connect();
    t.same(absent.sees(), [asked]);
    t.same(absent.seesWithin(2), [
      [1, asked],
      [2, asked],
    ]);
    absent.world.advance(999);
    t.same(owner.take(), []);
    absent.world.advance(1);
    t.same(owner.take(), ['closed EHOSTUNREACH']);
    t.same(absent.seesWithin(60), [], 'nobody waits any more');
    t.same(absent.world.netstack.flows(), []);
  });

  t.test(`${family}: one datagram waits for the answer, the newest`, async (t) => {
    const absent = new AbsentGuest(family);
    for (const octets of [1, 2, 3]) t.equal(absent.datagram(octets), false);
    t.same(absent.sees(), [asked]);
    absent.answers();
    t.same(absent.sees(), ['to 3: 3']);
    t.same(absent.world.drops()['no-neighbour'], 2);
    absent.datagram(4);
    t.same(absent.sees(), ['to 3: 4']);
  });

  t.test(`${family}: places for what waits are given back`, async (t) => {
    const absent = new AbsentGuest(family);
    for (let time = 0; time < 70; time++) {
      absent.datagram();
      absent.world.advance(3_000);
      absent.datagram();
      absent.sees();
      absent.answers();
      t.same(absent.sees(), ['to 3: 1']);
      absent.world.advance(45_000);
      // Nobody answers what follows from its use.
      absent.datagram();
      absent.world.advance(11_000);
      absent.sees();
    }
  });

  t.test(`${family}: a datagram that waits in vain is counted`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.datagram();
    absent.world.advance(2_999);
    t.same(absent.world.drops(), {});
    absent.world.advance(1);
    t.same(absent.world.drops(), { 'no-neighbour': 1 });
  });

  t.test(`${family}: what is used is asked after 5 s whether it is there, and by itself`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    absent.datagram();
    t.same(absent.seesWithin(6), [
      [1, 'to 3: 1'],
      [5, probed],
      [6, probed],
    ]);
    absent.answers();
    t.same(absent.seesWithin(300), [], 'what is not used is not asked');
  });

  t.test(`${family}: a guest that says nothing is believed gone, and asked for`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    absent.datagram();
    absent.sees();
    t.same(absent.seesWithin(20), [
      [5, probed],
      [6, probed],
      [7, probed],
      [8, asked],
      [9, asked],
      [10, asked],
    ]);
    t.equal(absent.datagram(), false);
    t.same(absent.sees(), [asked], 'asked for anew by who needs it');
    absent.speaks();
    t.same(absent.sees(), ['to 3: 1'], 'and known again by its first word');
  });

  t.test(`${family}: a guest with another MAC address that says nothing is found`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    absent.datagram();
    absent.seesWithin(8);
    absent.answers(MOVED_MAC);
    absent.datagram();
    t.same(absent.sees(), ['to 9: 1']);
  });

  t.test(`${family}: what was confirmed is in doubt when nothing is acknowledged`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.datagram();
    absent.sees();
    absent.answers();
    const owner = absent.connect();
    absent.sees();
    const seen = absent.seesWithin(11).filter(([, frame]) => !frame.endsWith('segment'));
    t.same(seen, [
      [6, probed],
      [7, probed],
      [8, probed],
      [9, asked],
      [10, asked],
      [11, asked],
    ]);
    absent.world.advance(1_000);
    t.same(owner.take(), ['closed EHOSTUNREACH']);
  });

  t.test(`${family}: a connection goes on at once where its guest is found`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    absent.connect();
    absent.seesWithin(8);
    absent.answers(MOVED_MAC);
    absent.world.advance(1);
    t.same(absent.sees(), ['to 9: segment']);
  });

  t.test(`${family}: a connection to a guest that has gone ends before TCP gives up`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    const owner = absent.connect();
    absent.world.advance(10_999);
    t.same(owner.take(), []);
    absent.world.advance(1);
    t.same(owner.take(), ['closed EHOSTUNREACH']);
  });

  t.test(`${family}: what lies behind a guest is reached by it, and is unreachable with it`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    absent.datagram(1, container);
    t.same(absent.sees(), ['to 3: 1']);
    const owner = absent.connect(container);
    absent.sees();
    t.same(
      absent.seesWithin(10).filter(([, frame]) => !frame.endsWith('segment')),
      [
        [5, probed],
        [6, probed],
        [7, probed],
        [8, asked],
        [9, asked],
        [10, asked],
      ],
      'it is the guest that is looked for',
    );
    absent.world.advance(1_000);
    t.same(owner.take(), ['closed EHOSTUNREACH']);
    absent.datagram(2, container);
    t.same(absent.sees(), [asked]);
    absent.answers();
    t.same(absent.sees(), ['to 3: 2']);
  });

  t.test(`${family}: a lease is asked for where it is, and stands`, async (t) => {
    const absent = new AbsentGuest(family);
    const { netstack, ingress } = absent.world;
    const elsewhere = new AbsentGuest(family);
    netstack.attach(elsewhere.world.link);
    netstack.pinNeighbor(address(guest), ingress, macToBytes(0x02_00_00_00_00_03));
    absent.datagram();
    absent.seesWithin(30);
    t.same(elsewhere.world.link.take(), []);
    elsewhere.answers(MOVED_MAC);
    t.equal(absent.datagram(), false);
    t.same(absent.sees(), [asked]);
    absent.answers();
    t.same(absent.sees(), ['to 3: 1']);
  });

  t.test(`${family}: while the link takes nothing, silence says nothing`, async (t) => {
    const absent = new AbsentGuest(family);
    absent.speaks();
    const owner = absent.connect();
    absent.sees();
    absent.world.link.room = 0;
    absent.datagram();
    absent.world.advance(60_000);
    t.same(owner.take(), []);
    absent.world.link.room = 1000;
    absent.world.link.writable();
    t.ok(absent.datagram());
  });

  t.test(`${family}: who waits is told as well when the link goes, or the lease`, async (t) => {
    for (const ends of ['detach', 'unpin'] as const) {
      const absent = new AbsentGuest(family);
      const { netstack, ingress } = absent.world;
      netstack.pinNeighbor(address(guest), ingress, macToBytes(0x02_00_00_00_00_03));
      absent.datagram();
      absent.world.advance(9_000);
      const owner = absent.connect();
      if (ends === 'detach') netstack.detach(ingress);
      else netstack.unpinNeighbor(address(guest));
      t.same(owner.take(), ['closed EHOSTUNREACH']);
    }
  });

  t.test(
    `${family}: whatever happens, nothing is asked too often, lost uncounted, sent astray, or left behind`,
    async () => {
      const mac = fc.integer({ min: 3, max: 5 }).map((host) => 0x02_00_00_00_00_00 + host);
      const event = fc.oneof(
        fc.record({ kind: fc.constant('datagram' as const), to: fc.constantFrom(guest, container) }),
        fc.record({ kind: fc.constant('connect' as const), to: fc.constantFrom(guest, container) }),
        fc.record({ kind: fc.constant('speaks' as const), mac }),
        fc.record({ kind: fc.constant('answers' as const), mac }),
        fc.record({ kind: fc.constant('wait' as const), ms: fc.oneof(fc.nat(2_000), fc.nat(20_000)) }),
      );
      const property = fc.property(fc.array(event, { maxLength: 40 }), fc.nat(), (events, seed) => {
        const absent = new AbsentGuest(family, { seed });
        const { world } = absent;
        const owners: Owner[] = [];
        const askedAtMs = new Map<string, number>();
        let [sent, arrived, place] = [0, 0, 0];
        const look = (): void => {
          for (const frame of absent.sees()) {
            const question = /who has (.*)$/.exec(frame)?.[1];
            if (question !== undefined) {
              const before = askedAtMs.get(question) ?? Number.NEGATIVE_INFINITY;
              if (world.nowMs - before < 1000)
                throw new Error(`${frame}: ${world.nowMs - before} ms after the last time`);
              askedAtMs.set(question, world.nowMs);
            } else if (frame !== `to ${place}: segment`) {
              if (frame !== `to ${place}: 1`) throw new Error(`${frame}, but the guest is at ${place}`);
              arrived++;
            }
          }
        };
        const wait = (ms: number): void => {
          const end = world.nowMs + ms;
          for (let at = world.netstack.pollAt(); at <= end; at = world.netstack.pollAt()) {
            world.nowMs = Math.max(world.nowMs, at);
            look();
          }
          world.nowMs = end;
          look();
        };
        for (const now of events) {
          if (now.kind === 'datagram') {
            sent++;
            absent.datagram(1, now.to);
          } else if (now.kind === 'connect') owners.push(absent.connect(now.to));
          else if (now.kind === 'wait') wait(now.ms);
          else {
            place = now.mac - 0x02_00_00_00_00_00;
            if (now.kind === 'speaks') absent.speaks(now.mac);
            else absent.answers(now.mac);
          }
          look();
        }
        wait(200_000);
        if (world.netstack.pollAt() !== Number.POSITIVE_INFINITY) throw new Error('a timer is left');
        const lost = world.drops()['no-neighbour'] ?? 0;
        if (arrived + lost !== sent) throw new Error(`of ${sent} datagrams ${arrived} arrived and ${lost} are counted`);
        for (const owner of owners)
          if (!/^closed E(HOSTUNREACH|TIMEDOUT)$/.test(owner.take().join())) throw new Error('a connection hangs');
      });
      assertRecorded(`neighbours-${family}`, property, { numRuns: 300 });
    },
  );

  t.test(`${family}: a thousand addresses are asked for at a time, the oldest gives way`, async (t) => {
    const absent = new AbsentGuest(family);
    const [first, ...more] = Array.from({ length: 1100 }, (_, i) =>
      family === 'IPv4' ? `10.1.${i >> 8}.${i & 255}` : `fd00:1:2:3::${(i + 16).toString(16)}`,
    );
    const given = absent.connect(first);
    for (const other of more) absent.connect(other);
    t.same(given.take(), ['closed EHOSTUNREACH']);
    t.equal(absent.world.netstack.flows().length, 1024);
    absent.world.advance(3_000);
    t.same(absent.world.netstack.flows(), []);
    t.equal(absent.world.netstack.pollAt(), Number.POSITIVE_INFINITY, 'no timer is left');
  });
}
