/** The Debian packages behind `npm start` and `npm test`. */

import type { DebianPackage } from './debian.ts';

/** What building the guest image and running the VM needs. */
export const startPackages: readonly DebianPackage[] = [
  { name: 'gcc', proof: 'gcc' },
  { name: 'libc6-dev', proof: '/usr/include/stdio.h' },
  { name: 'erofs-utils', proof: 'mkfs.erofs' },
  { name: 'kmod', proof: 'depmod' },
  { name: 'xz-utils', proof: 'xz' },
  { name: 'zstd', proof: 'zstd' },
  { name: 'cpio', proof: 'cpio' },
];

/** What the tests need beyond that: real clients and servers, namespaces, a VM to boot. */
export const testPackages: readonly DebianPackage[] = [
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'util-linux', proof: 'setpriv' },
  { name: 'busybox-static', proof: '/bin/busybox' },
  { name: 'socat', proof: 'socat' },
  { name: 'curl', proof: 'curl' },
  { name: 'git', proof: 'git' },
  { name: 'docker-registry', proof: 'docker-registry' },
];
