/**
 * QEMU's command line for a machine: pure, so that every choice can be read and tested here.
 *
 * Nothing is inherited (-nodefaults -no-user-config): the guest has exactly the devices of vm/README.md. The console
 * is QEMU's own standard output and QMP a socket inherited as descriptor 3, so that neither has a name in the file
 * system that another process could open, and both end with whichever side ends first.
 */

import type { GuestImage } from '../disk/guest-image.ts';
import type { Accelerator, MachineSpec } from '../port.ts';
import { sharedMemoryArguments, vhostUserNetArguments } from '../vhost-user/qemu-arguments.ts';

/** The descriptor on which QEMU finds its QMP socket. */
export const QMP_FD = 3;

/** What the stream channel asks of QEMU (src/hypervisor/vsock). */
export interface ChannelArguments {
  readonly channel: 'vsock' | 'serial';
  readonly arguments: readonly string[];
}

export interface QemuArgumentsInput {
  readonly spec: MachineSpec;
  readonly image: GuestImage;
  readonly accelerator: Accelerator;
  /** QEMU's own, such as 10.0.13. */
  readonly version: string;
  readonly platform: NodeJS.Platform;
  readonly channel: ChannelArguments;
  readonly link: 'vhost-user' | 'stream';
  /** The host's clock, for the guest's first moments. */
  readonly nowMs: number;
}

/** Escapes a value inside a comma-separated option. */
const quote = (value: string): string => value.replaceAll(',', ',,');

const qemuMajor = (version: string): number => Number.parseInt(version, 10) || 0;

/**
 * Before QEMU 10, translating on several threads loses the race against a kernel that patches its own code: the guest
 * dies of 'Oops: int3' when a static key flips. One thread for all CPUs is slower and right.
 */
export function acceleratorOption(accelerator: Accelerator, version: string): string {
  if (accelerator !== 'tcg') return accelerator;
  return `tcg,thread=${qemuMajor(version) < 10 ? 'single' : 'multi'}`;
}

/** `max` without the wide vectors and five-level paging that make emulation slow; the processor itself otherwise. */
function cpuModel(accelerator: Accelerator, arch: GuestImage['arch']): string {
  if (accelerator === 'kvm' || accelerator === 'hvf') return 'host';
  return arch === 'amd64' ? 'max,-avx,-avx2,-la57' : 'max';
}

function machineType(arch: GuestImage['arch']): string {
  return arch === 'amd64' ? 'q35,usb=off,hpet=off,vmport=off,smm=off' : 'virt,gic-version=max';
}

export function kernelCommandLine({ spec, image, channel, nowMs }: QemuArgumentsInput): string {
  const own = [
    `console=${image.arch === 'amd64' ? 'ttyS0' : 'ttyAMA0'}`,
    'quiet',
    'mitigations=off',
    'panic=-1',
    `slipway.channel=${channel.channel}`,
    `slipway.time=${Math.floor(nowMs / 1000)}`,
  ];
  return [...own, ...spec.kernelArguments].join(' ');
}

/** The stream carries bare frames, with no header that could leave a checksum or a cut to the other side. */
const offloadsOff = [
  ...['csum', 'guest_csum', 'host_tso4', 'host_tso6', 'host_ecn', 'host_ufo'],
  ...['guest_tso4', 'guest_tso6', 'guest_ecn', 'guest_ufo'],
]
  .map((name) => `${name}=off`)
  .join(',');

/** By vhost-user the guest and the network core leave checksums and cutting to each other. */
function networkArguments({ spec, link }: QemuArgumentsInput): string[] {
  const device = `mac=${spec.macAddress},host_mtu=${spec.mtu},romfile=`;
  if (link === 'vhost-user')
    return vhostUserNetArguments(spec.vhostUserSocket!, `${device},rx_queue_size=1024,tx_queue_size=1024`);
  return [
    ...['-netdev', `stream,id=net,server=on,addr.type=unix,addr.path=${quote(spec.networkSocket)}`],
    ...['-device', `virtio-net-pci,netdev=net,${device},${offloadsOff}`],
  ];
}

export function qemuArguments(input: QemuArgumentsInput): string[] {
  const { spec, image, accelerator, version, platform, channel } = input;
  // vhost-user maps the guest's memory into our process, so it must be a file that can be shared.
  const shared = channel.channel === 'vsock';
  const memory = shared
    ? sharedMemoryArguments(spec.memoryMiB)
    : ['-object', `memory-backend-ram,id=mem,size=${spec.memoryMiB}M`, '-machine', 'memory-backend=mem'];
  const block = (name: string, options: string): string[] => ['-blockdev', `node-name=${name},${options}`];
  return [
    ...['-name', 'slipway', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', machineType(image.arch), ...memory],
    ...['-accel', acceleratorOption(accelerator, version), '-cpu', cpuModel(accelerator, image.arch)],
    ...['-smp', String(spec.cpus), '-m', `${spec.memoryMiB}M`, '-rtc', 'base=utc'],
    ...['-kernel', image.kernel, '-initrd', image.initramfs, '-append', kernelCommandLine(input)],
    ...block('root', `driver=file,filename=${quote(image.root)},read-only=on`),
    ...['-device', 'virtio-blk-pci,drive=root,serial=slipway-root'],
    ...block('data-file', `driver=file,filename=${quote(spec.dataDisk.path)},discard=unmap`),
    ...block('data', 'driver=qcow2,file=data-file,discard=unmap,detect-zeroes=unmap'),
    ...['-device', 'virtio-blk-pci,drive=data,serial=slipway-data,werror=enospc'],
    ...networkArguments(input),
    ...['-device', 'virtio-rng-pci', ...(channel.channel === 'serial' ? ['-device', 'virtio-serial-pci'] : [])],
    ...channel.arguments,
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', `socket,id=qmp,fd=${QMP_FD}`, '-mon', 'chardev=qmp,mode=control'],
    ...(platform === 'linux'
      ? ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny']
      : []),
  ];
}
