/** The pieces of QEMU's command line that the stream lanes and the network need. */

/** A comma in an option's value is written twice. */
function quoted(value: string): string {
  return value.replaceAll(',', ',,');
}

/** Guest RAM in shared memory, used by the machine. */
export function sharedMemoryArguments(memoryMiB: number, id = 'mem'): string[] {
  return ['-object', `memory-backend-memfd,id=${id},size=${memoryMiB}M,share=on`, '-machine', `memory-backend=${id}`];
}

/** The vsock device, whose back end listens on `socketPath` before QEMU starts. */
export function vsockDeviceArguments(socketPath: string, id = 'vsock0'): string[] {
  return [
    '-chardev',
    `socket,id=${id}-socket,path=${quoted(socketPath)}`,
    '-device',
    `vhost-user-vsock-pci,id=${id},chardev=${id}-socket`,
  ];
}

/** The network device, whose back end dials `socketPath`: QEMU waits for it before the guest starts. */
export function vhostUserNetArguments(socketPath: string, device: string, id = 'net'): string[] {
  return [
    '-chardev',
    `socket,id=${id}-socket,path=${quoted(socketPath)},server=on,wait=off`,
    '-netdev',
    `vhost-user,id=${id},chardev=${id}-socket`,
    '-device',
    `virtio-net-pci,netdev=${id},${device}`,
  ];
}

/** The virtio-serial port of the portable lane, whose host end listens on `socketPath` before QEMU starts. */
export function serialPortArguments(socketPath: string, id = 'mux0'): string[] {
  return [
    '-chardev',
    `socket,id=${id}-socket,path=${quoted(socketPath)}`,
    '-device',
    `virtserialport,id=${id},chardev=${id}-socket,name=slipway.mux`,
  ];
}
