/** The QEMU adapter over a stand-in for QEMU's process (fake-qemu.ts): its lifecycle, failures, fallback and cleanness. */

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { HostFacts } from '../../../src/hypervisor/adapter/accelerator.ts';
import { FakeHypervisor } from '../../../src/hypervisor/adapter/fake.ts';
import { QemuHypervisor, type QemuOptions } from '../../../src/hypervisor/adapter/qemu.ts';
import type { MachineSpec } from '../../../src/hypervisor/port.ts';
import { pipeLifeline } from '../../../src/hypervisor/watchdog/lifeline.ts';
import { writeFakeImage } from '../fake-image.ts';
import { hypervisorConformance, whenState, whenStatus } from '../hypervisor-conformance.ts';
import { FakeLane } from './fake-lane.ts';

const root = mkdtempSync(join(tmpdir(), 'slipway-qemu-'));
t.teardown(() => rmSync(root, { recursive: true }));
const imageDirectory = writeFakeImage(join(root, 'image'));
const fakeQemu = (manner: string): string[] => [process.execPath, join(import.meta.dirname, '../fake-qemu.ts'), manner];

const facts: HostFacts = {
  platform: 'linux',
  arch: 'x64',
  kernel: '6.1',
  cpuFlags: [],
  kvmModules: [],
  kvmDevice: 'absent',
};
const kvmHost: HostFacts = { ...facts, cpuFlags: ['vmx'], kvmDevice: 'usable' };

let count = 0;

/** A hypervisor in a folder of its own, with what a test looks at. */
function world(manner: string, options: Partial<QemuOptions> = {}) {
  const home = mkdtempSync(join(root, `${count++}-`));
  const lanes: FakeLane[] = [];
  const lines: string[] = [];
  const hypervisor = new QemuHypervisor({
    qemu: { command: fakeQemu(manner), version: '10.0.0' },
    qemuImg: ['qemu-img'],
    openLane: async (channel) => {
      lanes.push(new FakeLane(channel));
      return lanes.at(-1)!;
    },
    consoleLog: join(home, 'console.log'),
    acceleratorFile: join(home, 'accelerator.json'),
    facts,
    lockPatienceMs: 0,
    log: (line) => lines.push(line),
    ...options,
  });
  const spec: MachineSpec = {
    imageDirectory,
    dataDisk: { path: join(home, 'data.qcow2'), sizeOctets: 1 << 30 },
    memoryMiB: 512,
    cpus: 1,
    mtu: 1500,
    macAddress: '02:00:00:00:00:03',
    kernelArguments: [],
    accelerator: 'auto',
    channel: 'auto',
    networkSocket: join(home, 'network.sock'),
    socketDirectory: home,
  };
  return { hypervisor, spec, home, lanes, lines };
}

const mode = (path: string): number => statSync(path).mode & 0o777;

t.test('conformance: the fake', async (t) => {
  const { spec } = world('plain');
  await hypervisorConformance(t, { hypervisor: new FakeHypervisor(), specify: () => spec });
});

t.test('conformance: QEMU over a stand-in', async (t) => {
  const { hypervisor, spec, home, lanes } = world('plain');
  await hypervisorConformance(t, { hypervisor, specify: () => spec });
  t.ok(lanes.length === 2 && lanes.every((lane) => lane.closed), 'a channel for each start, closed after it');
  t.notOk(existsSync(spec.networkSocket), 'no socket is left');
  t.notOk(existsSync(join(home, '00000002.0000f3a9')));
});

t.test('conformance: with the lifeline of hosts without pdeathsig', async (t) => {
  const { hypervisor, spec } = world('plain', { lifeline: pipeLifeline });
  await hypervisorConformance(t, { hypervisor, specify: () => spec });
});

t.test('files are for their user alone, and the console is kept', async (t) => {
  const { hypervisor, spec, home } = world('plain');
  const umask = process.umask(0);
  const machine = await hypervisor.start(spec);
  process.umask(umask);
  for (const name of ['network.sock', 'data.qcow2', 'data.qcow2.lock', 'console.log', '00000002.0000f3a9'])
    t.equal(mode(join(home, name)), 0o600, name);
  while (!machine.console().includes('Linux version')) await new Promise(setImmediate);
  t.match(readFileSync(join(home, 'console.log'), 'utf8'), /Linux version 6\.12/);
  await machine.kill();
});

t.test('the guest is asked to power off; its power button comes next, and the grace ends', async (t) => {
  const { hypervisor, spec, lanes } = world('deaf');
  const machine = await hypervisor.start(spec);
  lanes[0]!.services.set(2224, (line, reply) => {
    t.equal(line, 'poweroff\n');
    reply('ok\n');
    process.kill(machine.status().pid!, 'SIGUSR2');
  });
  await machine.shutdown(60_000);
  t.match(machine.status(), { state: 'stopped', ended: 'asked' });

  const deaf = await hypervisor.start(spec);
  await deaf.shutdown(1);
  t.match(deaf.status(), { state: 'stopped', ended: 'asked', reason: /did not power down in time/ });
});

t.test('frames travel by vhost-user where QEMU knows it and guest memory is shared, else by the stream', async (t) => {
  for (const [manner, channel, wanted] of [
    ['plain', 'auto', { link: 'vhost-user', linkReason: undefined }],
    ['plain', 'serial', { link: 'stream', linkReason: /memory is not shared/ }],
    ['bare', 'auto', { link: 'stream', linkReason: /expects a netdev backend type/ }],
  ] as const) {
    const { hypervisor, spec, home, lanes } = world(manner);
    const machine = await hypervisor.start({ ...spec, channel, vhostUserSocket: join(home, 'vhost.sock') });
    t.match(machine.status(), { state: 'running', ...wanted }, `${manner}, ${channel}`);
    t.equal(existsSync(spec.networkSocket), wanted.link === 'stream');
    await machine.kill();
    t.ok(lanes.every((lane) => lane.closed));
  }
  const { hypervisor, spec } = world('plain');
  const machine = await hypervisor.start(spec);
  t.match(machine.status(), { link: 'stream', linkReason: undefined }, 'not wished for');
  await machine.kill();
});

t.test('the guest ends by itself', async (t) => {
  const { hypervisor, spec } = world('plain');
  for (const [signal, wanted] of [
    ['SIGUSR2', { state: 'stopped', ended: 'poweroff', reason: /the guest powered off: Linux version/ }],
    ['SIGHUP', { state: 'stopped', ended: 'reboot' }],
    ['SIGUSR1', { state: 'failed', ended: 'panic', reason: /panicked: Attempted to kill init!/ }],
    ['SIGKILL', { state: 'failed', ended: 'lost', reason: /QEMU was ended by SIGKILL: Linux version/ }],
  ] as const) {
    const machine = await hypervisor.start(spec);
    process.kill(machine.status().pid!, signal);
    t.match(await machine.whenEnded(), wanted, signal);
  }
});

t.test('a panic that the guest could still tell', async (t) => {
  const { hypervisor, spec, home } = world('plain');
  const machine = await hypervisor.start(spec);
  const guest = connect(join(home, '00000002.0000f3a9'));
  guest.end('panic VFS: Unable to mount root fs\nmark init 0.5\n');
  await whenStatus(machine, (status) => 'init' in status.boot);
  process.kill(machine.status().pid!, 'SIGHUP');
  t.match(await machine.whenEnded(), { ended: 'panic', reason: /Unable to mount root/ });
});

t.test('boot marks, and Docker as seen from the host', async (t) => {
  const { hypervisor, spec, home, lanes } = world('plain');
  const machine = await hypervisor.start(spec);
  let pings = 0;
  lanes[0]!.services.set(2376, (_, reply) => reply(`HTTP/1.1 ${pings++ ? '200 OK' : '503 Soon'}\r\n\r\n`));
  const guest = connect(join(home, '00000002.0000f3a9'));
  guest.write('mark kernel 0\nmark init 0.01\nmark dockerd 0.02\n');
  await whenStatus(machine, (status) => 'dockerd' in status.boot);
  await whenStatus(machine, (status) => pings >= 2 && status.boot.dockerd! - status.boot.kernel! > 0.05);
  t.ok(machine.status().boot.init! >= 0.01);
  guest.destroy();
  await machine.kill();
});

t.test("the guest's clock is set after a pause", async (t) => {
  const { hypervisor, spec, lanes } = world('plain');
  const machine = await hypervisor.start(spec);
  const asked: string[] = [];
  lanes[0]!.services.set(2224, (line, reply) => {
    asked.push(line);
    reply('ok\n');
  });
  await machine.pause();
  await machine.resume();
  t.match(asked, [/^time \d{10}\.\d{9}\n$/]);
  await machine.kill();
});

t.test('a full disk of the host pauses the guest until there is room', async (t) => {
  const { hypervisor, spec } = world('plain');
  const machine = await hypervisor.start(spec);
  process.kill(machine.status().pid!, 'SIGWINCH');
  const full = await whenState(machine, 'paused');
  t.match(full.reason, /no disk space left/);
  const after = await whenState(machine, 'running');
  t.equal(after.reason, undefined, 'there is room here, so it goes on by itself');
  await machine.kill();
});

t.test('hardware acceleration is on trial at its first start', async (t) => {
  for (const [manner, accelerator, reason] of [
    ['plain', 'kvm', /proven by a start/],
    ['kvmless', 'tcg', /kvm was tried: QEMU ended with status 1: Could not access KVM/],
    ['hung-kvm', 'tcg', /kvm was tried: no sign of life/],
  ] as const) {
    const { hypervisor, spec, home } = world(manner, { facts: kvmHost, trialMs: manner === 'plain' ? 60_000 : 500 });
    const machine = await hypervisor.start(spec);
    t.equal(machine.status().accelerator, accelerator, manner);
    await machine.kill();
    t.match(JSON.parse(readFileSync(join(home, 'accelerator.json'), 'utf8')), { accelerator, reason });
    const again = await hypervisor.start(spec);
    t.match(again.status(), { accelerator, acceleratorReason: reason }, 'the verdict stands at the next start');
    await again.kill();
  }
  const { hypervisor, spec } = world('silent', { facts: kvmHost });
  const forced = await hypervisor.start({ ...spec, accelerator: 'kvm', channel: 'serial' });
  t.match(forced.status(), { accelerator: 'kvm', acceleratorReason: /vm\.accelerator/, channel: 'serial' });
  await forced.kill();
});

t.test('without vsock, streams travel over virtio-serial', async (t) => {
  const { hypervisor, spec } = world('plain', {
    openLane: async (channel) => {
      if (channel === 'vsock') throw new Error('no shared memory here');
      return new FakeLane(channel);
    },
  });
  await t.rejects(hypervisor.start({ ...spec, channel: 'vsock' }), /no shared memory here/);
  const machine = await hypervisor.start(spec);
  t.equal(machine.status().channel, 'serial');
  await machine.kill();
});

t.test('what cannot start says why, and leaves nothing behind', async (t) => {
  const refused = world('refuses');
  await t.rejects(refused.hypervisor.start(refused.spec), /QEMU ended with status 1: this is no machine/);
  t.ok(refused.lanes[0]!.closed);
  t.notOk(existsSync(join(refused.home, '00000002.0000f3a9')));
  const missing = world('plain', {
    qemu: { command: [join(root, 'no-such-qemu')], version: '10' },
    lifeline: pipeLifeline,
  });
  await t.rejects(missing.hypervisor.start(missing.spec), /QEMU is missing; install it/);
  const wrapped = world('plain', { qemu: { command: [join(root, 'no-such-qemu')], version: '10' } });
  await t.rejects(wrapped.hypervisor.start(wrapped.spec), /no-such-qemu: No such file/);

  const { hypervisor, spec, home } = world('plain');
  const long = join(home, 'x'.repeat(100), 'network.sock');
  await t.rejects(hypervisor.start({ ...spec, networkSocket: long }), /octets.*SLIPWAY_HOME/);
  await t.rejects(hypervisor.start({ ...spec, socketDirectory: long }), /octets.*SLIPWAY_HOME/);
  await t.rejects(hypervisor.start({ ...spec, imageDirectory: home }), /no guest image.*npm start/);
  writeFileSync(spec.dataDisk.path, 'not a disk');
  await t.rejects(hypervisor.start(spec), /data\.qcow2 is not a qcow2 image/);
  t.equal(readFileSync(spec.dataDisk.path, 'utf8'), 'not a disk', 'and is left as it is');
  rmSync(spec.dataDisk.path);
  const machine = await hypervisor.start(spec);
  await machine.kill();
  t.pass('the lock was free after every failure');
});
