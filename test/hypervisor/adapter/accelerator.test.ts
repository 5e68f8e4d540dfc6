/** The accelerator's choice, its memory, and QEMU's command line. */

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  AcceleratorMemory,
  chooseAccelerator,
  type HostFacts,
  hostFacts,
} from '../../../src/hypervisor/adapter/accelerator.ts';
import {
  kernelCommandLine,
  type QemuArgumentsInput,
  qemuArguments,
} from '../../../src/hypervisor/adapter/qemu-arguments.ts';

const real: HostFacts = {
  platform: 'linux',
  arch: 'x64',
  kernel: '6.1.0',
  cpuFlags: ['fpu', 'vmx'],
  kvmModules: ['kvm_intel'],
  kvmDevice: 'usable',
};

t.test('hardware acceleration is taken only where it can be', (t) => {
  t.match(chooseAccelerator(real, 'amd64'), { accelerator: 'kvm', trial: true });
  const tcg = (facts: Partial<HostFacts>, arch: 'amd64' | 'arm64', reason: RegExp) =>
    t.match(chooseAccelerator({ ...real, ...facts }, arch), { accelerator: 'tcg', trial: false, reason });
  tcg({ cpuFlags: ['fpu'] }, 'amd64', /neither vmx nor svm/);
  tcg({ kvmModules: ['kvm_pvm'] }, 'amd64', /kvm_pvm/);
  tcg({ kvmDevice: 'absent' }, 'amd64', /no \/dev\/kvm/);
  tcg({ kvmDevice: 'denied' }, 'amd64', /group kvm/);
  tcg({}, 'arm64', /emulated/);
  tcg({ platform: 'freebsd' }, 'amd64', /freebsd/);
  t.match(chooseAccelerator({ ...real, cpuFlags: ['svm'] }, 'amd64'), { accelerator: 'kvm' });
  t.match(chooseAccelerator({ ...real, arch: 'arm64', cpuFlags: [] }, 'arm64'), { accelerator: 'kvm' });
  t.match(chooseAccelerator({ ...real, platform: 'darwin', arch: 'arm64' }, 'arm64'), { accelerator: 'hvf' });
  t.match(chooseAccelerator({ ...real, platform: 'win32' }, 'amd64'), { accelerator: 'whpx' });
  t.equal(hostFacts().platform, process.platform, "this host's facts are read");
  t.end();
});

t.test('a verdict is remembered until the host or QEMU changes', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-accelerator-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'accelerator.json');
  const memory = (facts = real, version = '10.0') => new AcceleratorMemory(path, facts, version, 'amd64');
  t.equal(memory().recall(), undefined);
  memory().remember({ accelerator: 'tcg', reason: 'kvm was tried', trial: false });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.same(memory().recall(), { accelerator: 'tcg', reason: 'kvm was tried', trial: false });
  t.equal(memory({ ...real, kernel: '6.2.0' }).recall(), undefined);
  t.equal(memory(real, '11.0').recall(), undefined);
  for (const text of ['', '{', 'null', '[]', '{"key":1}', readFileSync(path, 'utf8').replace('"tcg"', '"steam"')]) {
    writeFileSync(path, text);
    t.equal(memory().recall(), undefined, `nothing is recalled from ${JSON.stringify(text)}`);
  }
  t.end();
});

const input: QemuArgumentsInput = {
  spec: {
    imageDirectory: '/image',
    dataDisk: { path: '/a,b/data.qcow2', sizeOctets: 1 },
    memoryMiB: 1024,
    cpus: 2,
    mtu: 1500,
    macAddress: '02:00:00:00:00:03',
    kernelArguments: ['slipway.hostname=slipway'],
    accelerator: 'auto',
    channel: 'auto',
    networkSocket: '/a,b/network.sock',
    socketDirectory: '/home',
  },
  image: { id: 'x', arch: 'amd64', kernel: '/image/vmlinux', initramfs: '/image/initramfs', root: '/image/root.erofs' },
  accelerator: 'tcg',
  version: '10.0.13',
  platform: 'linux',
  channel: { channel: 'vsock', arguments: ['-device', 'vsock-of-h5'] },
  link: 'stream',
  nowMs: 1_700_000_000_900,
};

/** The values of an option, in order. */
const values = (argv: readonly string[], option: string): string[] => argv.filter((_, at) => argv[at - 1] === option);

t.test('the command line of an x86 guest', (t) => {
  const argv = qemuArguments(input);
  t.same(values(argv, '-accel'), ['tcg,thread=multi']);
  t.same(values(argv, '-cpu'), ['max,-avx,-avx2,-la57']);
  t.same(values(argv, '-netdev'), ['stream,id=net,server=on,addr.type=unix,addr.path=/a,,b/network.sock']);
  t.match(values(argv, '-blockdev')[1], /filename=\/a,,b\/data\.qcow2/, 'commas are escaped');
  t.match(values(argv, '-object')[0], /memfd.*size=1024M,share=on/, 'memory that vhost-user can map');
  t.match(values(argv, '-sandbox')[0], /^on,.*spawn=deny/);
  t.ok(values(argv, '-device').includes('vsock-of-h5'), "the channel's own arguments");
  t.match(
    values(argv, '-device').find((device) => device.startsWith('virtio-net')),
    /host_mtu=1500.*csum=off/,
  );
  t.equal(
    values(argv, '-append')[0],
    'console=ttyS0 quiet mitigations=off panic=-1 slipway.channel=vsock slipway.time=1700000000 slipway.hostname=slipway',
  );
  t.ok(argv.includes('-no-reboot') && argv.includes('-nodefaults') && argv.includes('-no-user-config'));
  t.end();
});

t.test('the network by vhost-user, with all offloads', (t) => {
  const spec = { ...input.spec, vhostUserSocket: '/a,b/vhost.sock' };
  const argv = qemuArguments({ ...input, spec, link: 'vhost-user' });
  t.same(values(argv, '-netdev'), ['vhost-user,id=net,chardev=net-socket']);
  t.ok(values(argv, '-chardev').includes('socket,id=net-socket,path=/a,,b/vhost.sock,server=on,wait=off'));
  const device = values(argv, '-device').find((value) => value.startsWith('virtio-net'));
  t.match(device, /netdev=net,mac=02:00:00:00:00:03,host_mtu=1500/);
  t.notMatch(device, /=off/);
  t.end();
});

t.test('what depends on version, accelerator, channel, platform and architecture', (t) => {
  t.same(values(qemuArguments({ ...input, version: '7.2.22' }), '-accel'), ['tcg,thread=single'], 'QEMU before 10');
  t.same(values(qemuArguments({ ...input, version: 'odd' }), '-accel'), ['tcg,thread=single'], 'a version unknown');
  t.same(values(qemuArguments({ ...input, accelerator: 'kvm', version: '7.2' }), '-accel'), ['kvm']);
  t.same(values(qemuArguments({ ...input, accelerator: 'kvm' }), '-cpu'), ['host']);
  const serial = qemuArguments({ ...input, channel: { channel: 'serial', arguments: [] }, platform: 'darwin' });
  t.match(values(serial, '-object')[0], /memory-backend-ram/);
  t.ok(values(serial, '-device').includes('virtio-serial-pci'));
  t.same(values(serial, '-sandbox'), [], 'the sandbox is of Linux');
  const image = { ...input.image, arch: 'arm64', kernel: '/image/Image' } as const;
  const arm = qemuArguments({ ...input, image });
  t.match(values(arm, '-machine')[0], /^virt,/);
  t.same(values(arm, '-cpu'), ['max']);
  t.same(values(arm, '-kernel'), ['/image/Image']);
  t.match(kernelCommandLine({ ...input, image }), /console=ttyAMA0/);
  t.end();
});
