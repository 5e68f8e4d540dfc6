/** The Debian packages behind `npm start` and `npm test`. */

import { imageTools, packageTools } from '../src/provision/host-tools.ts';
import type { DebianPackage } from './debian.ts';

/** What building the guest image and running the VM needs. */
export const startPackages: readonly DebianPackage[] = [
  ...packageTools,
  ...imageTools,
  { name: 'util-linux', proof: 'setpriv' },
];

/** What the tests need beyond that: real clients and servers, namespaces. */
export const testPackages: readonly DebianPackage[] = [
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  // /bin/busybox may be the other package's, which no container can run without a C library.
  { name: 'busybox-static', proof: '/var/lib/dpkg/info/busybox-static.list' },
  { name: 'qemu-utils', proof: 'qemu-img' },
  { name: 'socat', proof: 'socat' },
  { name: 'curl', proof: 'curl' },
  { name: 'git', proof: 'git' },
  { name: 'docker-registry', proof: 'docker-registry' },
  { name: 'openssl', proof: 'openssl' },
  { name: 'tshark', proof: 'tshark' },
  { name: 'tcpdump', proof: 'tcpdump' },
  { name: 'diod', proof: 'diodls' },
  { name: 'chrony', proof: 'chronyd' },
  { name: 'dnsmasq-base', proof: 'dnsmasq' },
  { name: 'bind9-dnsutils', proof: 'dig' },
  { name: 'traceroute', proof: 'traceroute' },
  { name: 'mtr-tiny', proof: 'mtr' },
  { name: 'iputils-tracepath', proof: 'tracepath' },
  { name: 'ndisc6', proof: 'rdisc6' },
  { name: 'squid', proof: 'squid' },
  { name: 'musl-tools', proof: 'musl-gcc' },
  { name: 'chromium-headless-shell', proof: 'chromium-headless-shell' },
];
