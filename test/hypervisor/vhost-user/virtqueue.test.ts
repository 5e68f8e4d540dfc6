import fc from 'fast-check';
import t, { type Test } from 'tap';
import { GuestMemory } from '../../../src/hypervisor/vhost-user/guest-memory.ts';
import { DescriptorChain, Virtqueue } from '../../../src/hypervisor/vhost-user/virtqueue.ts';
import { DriverQueue, GuestRam, guestBase, qemuBase } from './front-end.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

interface Rig {
  readonly ram: GuestRam;
  readonly memory: GuestMemory;
  readonly driver: DriverQueue;
  readonly queue: Virtqueue;
  readonly broken: string[];
  calls: number;
}

/** A driver's queue and the device's view of it, over one or two regions of memory. */
function rig(t: Test, size: number, { base = 0, regions = 1 } = {}): Rig {
  const ram = new GuestRam(1 << 20);
  const half = ram.octets / regions;
  const memory = new GuestMemory(
    Array.from({ length: regions }, (_, index) => ({
      guestAddress: guestBase + half * index,
      octets: half,
      frontEndAddress: qemuBase + half * index,
      fileOffset: half * index,
      fd: ram.fd,
    })),
  );
  const driver = new DriverQueue(ram, size, base);
  const broken: string[] = [];
  const queue = new Virtqueue({
    memory,
    size,
    base,
    addresses: {
      descriptors: qemuBase + driver.descriptors,
      available: qemuBase + driver.available,
      used: qemuBase + driver.used,
    },
    call: () => made.calls++,
    onBroken: (reason) => broken.push(reason),
  });
  const made: Rig = { ram, memory, driver, queue, broken, calls: 0 };
  t.teardown(() => {
    driver.close();
    memory.close();
    ram.close();
  });
  return made;
}

t.test('chains go round the ring, past 2^16', async (t) => {
  const made = rig(t, 4, { base: 0xfffd });
  const { driver, queue, ram } = made;
  const offset = ram.allocate(64);
  const chain = new DescriptorChain();
  for (let round = 0; round < 10; round++) {
    const head = driver.add([
      { offset, length: 10, writable: false },
      { offset: offset + 10, length: 20 + round, writable: true },
    ]);
    t.ok(queue.pop(chain));
    t.same(
      [chain.head, chain.count, chain.readable, chain.readableOctets, chain.writableOctets],
      [head, 2, 1, 10, 20 + round],
    );
    t.equal(chain.fragments[0]!.offset, offset);
    t.notOk(queue.pop(chain), 'no second');
    queue.push(chain, round);
    t.same(driver.takeUsed(), [], 'nothing before publish');
    queue.publish();
    t.same(driver.takeUsed(), [{ head, length: round }]);
  }
  t.equal(made.calls, 10);
  t.equal(queue.base, 7);
});

t.test('given back chains come again; interrupts and kicks can be suppressed', async (t) => {
  const made = rig(t, 8);
  const { driver, queue, ram } = made;
  const offset = ram.allocate(64);
  const chain = new DescriptorChain();
  const heads = [0, 1, 2].map(() => driver.add([{ offset, length: 1, writable: true }]));
  for (const head of heads) {
    t.ok(queue.pop(chain));
    t.equal(chain.head, head);
  }
  queue.unpop(2);
  t.ok(queue.pop(chain));
  t.equal(chain.head, heads[1]);
  ram.view.setUint16(driver.available, 1, true);
  queue.push(chain, 1);
  queue.publish();
  t.equal(made.calls, 0, 'VRING_AVAIL_F_NO_INTERRUPT');
  queue.suppressKicks();
  driver.kick();
  t.equal(driver.kicks, 0, 'VRING_USED_F_NO_NOTIFY');
  t.ok(queue.allowKicks(), 'chains wait');
  driver.kick();
  t.equal(driver.kicks, 1);
});

t.test('indirect tables, and buffers that cross regions', async (t) => {
  const { driver, queue, ram } = rig(t, 8, { regions: 2 });
  const table = ram.allocate(48, 16);
  const edge = ram.octets / 2;
  const write = (index: number, address: number, length: number, flags: number, next: number) => {
    ram.view.setBigUint64(table + index * 16, BigInt(address), true);
    ram.view.setUint32(table + index * 16 + 8, length, true);
    ram.view.setUint16(table + index * 16 + 12, flags, true);
    ram.view.setUint16(table + index * 16 + 14, next, true);
  };
  write(0, guestBase + edge - 5, 15, NEXT, 2);
  write(2, guestBase + edge, 7, WRITE, 0);
  driver.writeDescriptor(3, guestBase + table, 48, INDIRECT, 0);
  driver.offer(3);
  const chain = new DescriptorChain();
  t.ok(queue.pop(chain));
  t.same(
    chain.fragments.slice(0, chain.count).map(({ offset, length }) => [offset, length]),
    [
      [edge - 5, 5],
      [0, 10],
      [0, 7],
    ],
  );
  t.equal(chain.readable, 2);
  t.equal(chain.head, 3);
});

t.test('what a guest may not do stops its queue, and nothing else', async (t) => {
  const cases: Record<string, (driver: DriverQueue, ram: GuestRam) => void> = {
    'a head out of the table': (driver) => driver.offer(8),
    'a next out of the table': (driver) => {
      driver.writeDescriptor(0, guestBase, 1, NEXT, 200);
      driver.offer(0);
    },
    'a loop': (driver) => {
      driver.writeDescriptor(0, guestBase, 1, NEXT, 1);
      driver.writeDescriptor(1, guestBase, 1, NEXT, 0);
      driver.offer(0);
    },
    'an address below memory': (driver) => {
      driver.writeDescriptor(0, 0, 1, 0, 0);
      driver.offer(0);
    },
    'an end beyond memory': (driver, ram) => {
      driver.writeDescriptor(0, guestBase + ram.octets - 1, 2, 0, 0);
      driver.offer(0);
    },
    'an address beyond 2^53': (driver, ram) => {
      driver.writeDescriptor(0, 0, 1, 0, 0);
      ram.view.setBigUint64(driver.descriptors, 0xffff_ffff_ffff_ffffn, true);
      driver.offer(0);
    },
    'no octets': (driver) => {
      driver.writeDescriptor(0, guestBase, 0, 0, 0);
      driver.offer(0);
    },
    'readable after writable': (driver) => {
      driver.writeDescriptor(0, guestBase, 1, NEXT | WRITE, 1);
      driver.writeDescriptor(1, guestBase, 1, 0, 0);
      driver.offer(0);
    },
    'an index ahead of the ring': (driver) => driver.setAvailableIndex(9),
    'a ragged indirect table': (driver) => {
      driver.writeDescriptor(0, guestBase, 17, INDIRECT, 0);
      driver.offer(0);
    },
    'an indirect table larger than the queue': (driver) => {
      driver.writeDescriptor(0, guestBase, 16 * 9, INDIRECT, 0);
      driver.offer(0);
    },
    'an indirect descriptor with a next': (driver) => {
      driver.writeDescriptor(0, guestBase, 16, INDIRECT | NEXT, 1);
      driver.offer(0);
    },
    'an indirect table within another': (driver, ram) => {
      const table = ram.allocate(16, 16);
      ram.view.setBigUint64(table, BigInt(guestBase), true);
      ram.view.setUint32(table + 8, 16, true);
      ram.view.setUint16(table + 12, INDIRECT, true);
      driver.writeDescriptor(0, guestBase + table, 16, INDIRECT, 0);
      driver.offer(0);
    },
    'an indirect table outside memory': (driver) => {
      driver.writeDescriptor(0, 16, 16, INDIRECT, 0);
      driver.offer(0);
    },
  };
  for (const [name, spoil] of Object.entries(cases)) {
    const { driver, queue, ram, broken } = rig(t, 8);
    spoil(driver, ram);
    const chain = new DescriptorChain();
    t.notOk(queue.pop(chain), name);
    t.equal(broken.length, 1, `${name}: ${broken[0]}`);
    t.notOk(queue.pop(chain));
    t.notOk(queue.allowKicks());
    t.equal(broken.length, 1, 'told once');
  }
});

t.test('areas outside memory, or crooked, are refused', async (t) => {
  const { memory, driver } = rig(t, 8);
  const good = {
    descriptors: qemuBase + driver.descriptors,
    available: qemuBase + driver.available,
    used: qemuBase + driver.used,
  };
  const make = (addresses: typeof good) => () =>
    new Virtqueue({ memory, size: 8, base: 0, addresses, call: () => {}, onBroken: () => {} });
  t.doesNotThrow(make(good));
  for (const name of ['descriptors', 'available', 'used'] as const) {
    t.throws(make({ ...good, [name]: 0 }), /not in guest memory/);
    t.throws(make({ ...good, [name]: good[name] + 1 }), /not in guest memory/);
    t.throws(make({ ...good, [name]: qemuBase + (1 << 20) - 2 }), /not in guest memory/);
    t.throws(make({ ...good, [name]: Number.NaN }), /not in guest memory/);
  }
});

t.test('any descriptor table at all: fragments stay inside memory', async (t) => {
  const size = 8;
  const { ram, memory, driver } = rig(t, size, { regions: 2 });
  const address = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: ram.octets }).map((at) => BigInt(guestBase + at)) },
    { weight: 2, arbitrary: fc.integer({ min: -64, max: 64 }).map((at) => BigInt(guestBase + ram.octets / 2 + at)) },
    { weight: 2, arbitrary: fc.integer({ min: -64, max: 64 }).map((at) => BigInt(guestBase + ram.octets + at)) },
    { weight: 2, arbitrary: fc.constant(BigInt(guestBase + driver.descriptors)) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  );
  const descriptor = fc.record({
    address,
    length: fc.oneof(fc.integer({ min: 0, max: 128 }), fc.constantFrom(16, 32, 48, 0xffff_ffff), fc.nat()),
    flags: fc.oneof(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 0xffff })),
    next: fc.integer({ min: 0, max: size + 1 }),
  });
  const property = fc.property(
    fc.array(descriptor, { minLength: size, maxLength: size }),
    fc.array(fc.integer({ min: 0, max: size }), { minLength: size, maxLength: size }),
    fc.integer({ min: 0, max: size + 2 }),
    (table, heads, index) => {
      table.forEach(({ address, length, flags, next }, at) => {
        driver.writeDescriptor(at, 0, length, flags, next);
        ram.view.setBigUint64(driver.descriptors + at * 16, address, true);
      });
      heads.forEach((head, at) => {
        ram.view.setUint16(driver.available + 4 + at * 2, head, true);
      });
      driver.setAvailableIndex(index);
      ram.view.setUint16(driver.used + 2, 0, true);
      let broken = 0;
      const queue = new Virtqueue({
        memory,
        size,
        base: 0,
        addresses: {
          descriptors: qemuBase + driver.descriptors,
          available: qemuBase + driver.available,
          used: qemuBase + driver.used,
        },
        call: () => {},
        onBroken: () => broken++,
      });
      const chain = new DescriptorChain();
      let popped = 0;
      while (queue.pop(chain)) {
        popped++;
        if (chain.count === 0 || chain.readable > chain.count) throw new Error('an empty chain');
        let octets = 0;
        for (const { region, offset, length } of chain.fragments.slice(0, chain.count)) {
          if (offset < 0 || length <= 0 || offset + length > region.octets) throw new Error('outside its region');
          octets += length;
        }
        if (octets !== chain.readableOctets + chain.writableOctets) throw new Error('octets do not add up');
        queue.push(chain, 0);
      }
      queue.publish();
      if (popped > size || broken > 1) throw new Error('too many');
      // Whatever was popped is used, and only that.
      return ram.view.getUint16(driver.used + 2, true) === popped;
    },
  );
  fc.assert(property, { numRuns: 3000 });
  t.pass('3000 tables');
});

t.test('memory beyond its file is refused: it would be SIGBUS', async (t) => {
  const ram = new GuestRam(8192);
  t.teardown(() => ram.close());
  const spec = { guestAddress: 0, octets: 8192, frontEndAddress: 0, fileOffset: 0, fd: ram.fd };
  for (const wrong of [
    { octets: 8193 },
    { fileOffset: 1 },
    { octets: 0 },
    { octets: Number.NaN },
    { guestAddress: 2 ** 53 },
  ])
    t.throws(() => new GuestMemory([spec, { ...spec, ...wrong }]), /memory region/);
  const memory = new GuestMemory([{ ...spec, octets: 4096, fileOffset: 4096 }]);
  ram.bytes[4096] = 42;
  t.equal(memory.regions[0]?.bytes[0], 42, 'mapped from its offset');
  memory.close();
});
