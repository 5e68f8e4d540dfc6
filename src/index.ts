/** The public library: the TCP/IP stack, the links and proxies that give it a network, and the whole core at once. */

export { QemuStreamLink } from './hypervisor/link/qemu-stream.ts';
export { Network, type NetworkOptions } from './network.ts';
export * from './proxy/index.ts';
export * from './stack/index.ts';
export * from './stack/link/index.ts';
