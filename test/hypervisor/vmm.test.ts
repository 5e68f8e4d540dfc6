/** The process slipway-vmm over a stand-in for QEMU: who may go when, what is left behind, who may speak to it. */

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { MachineSpec } from '../../src/hypervisor/port.ts';
import { VmmHost } from '../../src/hypervisor/vmm-client.ts';
import { parseVmmMessage, parseVmmRequest } from '../../src/hypervisor/vmm-protocol.ts';
import { writeFakeImage } from './fake-image.ts';
import { hypervisorConformance, whenState } from './hypervisor-conformance.ts';

const root = mkdtempSync(join(tmpdir(), 'slipway-vmm-'));
t.teardown(() => rmSync(root, { recursive: true }));
const imageDirectory = writeFakeImage(join(root, 'image'));
let count = 0;

function world(manner = 'plain') {
  const home = mkdtempSync(join(root, `${count++}-`));
  const at = (name: string): string => join(home, name);
  const host = new VmmHost({
    paths: {
      dockerSocket: at('docker.sock'),
      vmmSocket: at('vmm.sock'),
      vmDirectory: home,
      vmmLog: at('vmm.log'),
      consoleLog: at('console.log'),
    },
    tools: async () => ({
      qemu: { command: [process.execPath, join(import.meta.dirname, 'fake-qemu.ts'), manner], version: '10.0.0' },
      qemuImg: ['qemu-img'],
    }),
  });
  const spec: MachineSpec = {
    imageDirectory,
    dataDisk: { path: at('data.qcow2'), sizeOctets: 1 << 30 },
    memoryMiB: 512,
    cpus: 1,
    mtu: 1500,
    macAddress: '02:00:00:00:00:03',
    kernelArguments: [],
    accelerator: 'tcg',
    channel: 'auto',
    networkSocket: at('network.sock'),
    socketDirectory: home,
  };
  const sockets = (): string[] => readdirSync(home).filter((name) => statSync(at(name)).isSocket());
  return { host, spec, home, at, sockets };
}

/** Whether a process is there; one that has ended and waits for its parent is not. */
function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function whenDead(pid: number): Promise<void> {
  while (alive(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

t.test('conformance: a machine in a vmm', async (t) => {
  const { host, spec, sockets } = world();
  await hypervisorConformance(t, { hypervisor: host, specify: () => spec });
  t.same(sockets(), [], 'no socket is left');
});

t.test('it outlives who started it, is attached to, and its end is told to all', async (t) => {
  const { host, spec, at, sockets } = world();
  t.equal(await host.attach(), undefined, 'there is none');
  const first = await host.start(spec);
  t.ok(first.vmmPid !== process.pid && alive(first.vmmPid));
  t.equal(readFileSync(at('vmm.pid'), 'utf8'), `${first.vmmPid}\n`);
  for (const name of readdirSync(at('.'))) t.equal(statSync(at(name)).mode & 0o077, 0, `${name} is its user's alone`);
  t.same(
    sockets().sort(),
    ['00000002.0000f3a9', 'connect', 'docker.sock', 'guest.sock', 'network.sock', 'vmm.sock'],
    'its sockets',
  );
  first.detach();
  const [one, two] = [(await host.attach())!, (await host.attach())!];
  t.equal(one.vmmPid, first.vmmPid, 'the same one');
  await t.rejects(one.resume(), /running, not paused/, 'errors travel');
  await one.pause();
  await whenState(two, 'paused');
  while (!one.console().includes('Linux version')) await new Promise(setImmediate);
  await two.resume();
  await one.shutdown(60_000);
  await whenState(two, 'stopped');
  await whenDead(first.vmmPid);
  t.notOk(alive(first.status().pid!));
  t.same(sockets(), []);
  t.equal(await host.attach(), undefined);
  t.match(readFileSync(at('vmm.log'), 'utf8'), /starts, QEMU 10.*the machine ended: asked.*ends\n$/s);
});

t.test('the guest ends: the vmm tells how, and goes', async (t) => {
  const { host, spec } = world();
  for (const [signal, wanted] of [
    ['SIGHUP', { state: 'stopped', ended: 'reboot' }],
    ['SIGUSR1', { state: 'failed', ended: 'panic', reason: /panicked/ }],
    ['SIGKILL', { state: 'failed', ended: 'lost', reason: /QEMU was ended by SIGKILL/ }],
  ] as const) {
    // At once, as a keeper does: the vmm before may still be putting its sockets away.
    const machine = await host.start(spec);
    process.kill(machine.status().pid!, signal);
    t.match(await whenState(machine, wanted.state), wanted, signal);
  }
});

t.test('killed outright, it takes QEMU along, and the next start finds everything free', async (t) => {
  const { host, spec, sockets } = world('deaf');
  const machine = await host.start(spec);
  const { pid } = machine.status();
  process.kill(machine.vmmPid, 'SIGKILL');
  t.match(await whenState(machine, 'failed'), { ended: 'lost', reason: /slipway-vmm was killed/ });
  await whenDead(pid!);
  t.ok(sockets().length > 0, 'sockets were left');
  t.equal(await host.attach(), undefined, 'but nobody is there');
  await t.rejects(machine.pause());
  await machine.shutdown(1);
  await machine.kill();
  const again = await host.start(spec);
  t.equal(again.status().state, 'running');
  await again.kill();
  t.same(sockets(), []);
});

t.test('signals: HUP is nothing, TERM is an orderly end', async (t) => {
  const { host, spec, sockets } = world();
  const machine = await host.start(spec);
  process.kill(machine.vmmPid, 'SIGHUP');
  await machine.pause();
  await machine.resume();
  process.kill(machine.vmmPid, 'SIGTERM');
  t.match(await whenState(machine, 'stopped'), { ended: 'asked' });
  await whenDead(machine.vmmPid);
  t.same(sockets(), []);
});

t.test('starts that fail say why, in one line', async (t) => {
  const refused = world('refuses');
  await t.rejects(refused.host.start(refused.spec), /^QEMU ended with status 1: this is no machine$/);
  t.match(readFileSync(refused.at('vmm.log'), 'utf8'), /cannot start: QEMU ended/);
  const { host, spec, home, at } = world();
  await t.rejects(host.start({ ...spec, imageDirectory: home }), /no guest image/);
  writeFileSync(at('data.qcow2'), 'junk');
  await t.rejects(host.start(spec), /not a qcow2 image/);
  rmSync(at('data.qcow2'));
  const machine = await host.start(spec);
  await t.rejects(host.start(spec), new RegExp(`in use by another slipway-vmm \\(process ${machine.vmmPid}\\)`));
  t.equal(machine.status().state, 'running', 'the first one is none the worse');
  t.ok(existsSync(at('vmm.sock')));
  await machine.kill();
});

t.test('a client that talks nonsense, or does not listen, is let go', async (t) => {
  const { host, spec, at } = world();
  const machine = await host.start(spec);
  for (const nonsense of ['hello\n', '{"id":1,"method":"exec"}\n', 'x'.repeat(1 << 20)]) {
    const socket = connect(at('vmm.sock'));
    socket.on('error', () => undefined).resume();
    socket.write(nonsense);
    await new Promise((resolve) => socket.on('close', resolve));
  }
  await machine.pause();
  t.equal(machine.status().state, 'paused', 'the others go on');
  await machine.kill();
});

t.test('property: what is no request or message is undefined', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
      const request = parseVmmRequest(line);
      const message = parseVmmMessage(line);
      return (
        (!request || request.graceMs >= 0) && (!message || 'id' in message || typeof message.status.state === 'string')
      );
    }),
  );
  t.equal(parseVmmRequest('{"id":1,"method":"constructor"}'), undefined);
  t.equal(parseVmmRequest('{"id":1,"method":"shutdown","graceMs":1e300}'), undefined);
  t.same(parseVmmRequest('{"id":1,"method":"shutdown","graceMs":5}'), { id: 1, method: 'shutdown', graceMs: 5 });
  t.end();
});

t.test('the vmm started with no sense ends with an error line', async (t) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/hypervisor/vmm.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (octets) => (out += octets));
  child.stdin.end('nonsense');
  const status = await new Promise((resolve) => child.on('close', resolve));
  t.equal(status, 1);
  t.type(JSON.parse(out).error, 'string');
});
