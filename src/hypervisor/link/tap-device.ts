/**
 * TAP devices and their place in a network namespace, by ioctl: what `ip` would do, without it. Everything here acts on
 * the network namespace of the calling thread and blocks for microseconds. Linux only. See tun.txt of the kernel's
 * documentation, netdevice(7), and virtio 1.2 5.1.6 for the header that precedes every frame.
 */

import { closeSync, constants, openSync } from 'node:fs';
import { addressOfBuffer } from '../../native/memory.ts';
import {
  AF_INET,
  close,
  codeOf,
  EBUSY,
  EINVAL,
  EPERM,
  ioctl,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  socket,
} from '../../native/system-calls.ts';
import { configureIpv6, type Ipv6Addresses } from './interface-ipv6.ts';

const TUN = '/dev/net/tun';
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;

const SIOCADDRT = 0x890b;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCSIFMTU = 0x8922;
const SIOCGIFINDEX = 0x8933;
const IFF_UP = 0x0001;
const RTF_UP = 0x0001;
const RTF_GATEWAY = 0x0002;

/** struct ifreq: a name of 16 octets, then a union. */
const IFREQ_OCTETS = 40;
const IFREQ_UNION = 16;
const LONGEST_NAME = 15;
/** struct rtentry: destination, gateway and mask as struct sockaddr, flags. */
const RTENTRY_OCTETS = 120;
const RTENTRY_DESTINATION = 8;
const RTENTRY_GATEWAY = 24;
const RTENTRY_MASK = 40;
const RTENTRY_FLAGS = 56;

/** struct virtio_net_hdr without the count of merged buffers: with it before an Ethernet, IPv4 and TCP header, payload begins at octet 64. */
export const VNET_HEADER_OCTETS = 10;

/** How an interface is to be set up. IPv4 is dotted. */
export interface TapAddresses {
  readonly address: string;
  readonly netmask: string;
  readonly gateway: string;
  /** Of a /64; undefined: none. */
  readonly ipv6?: Ipv6Addresses | undefined;
  readonly mtu: number;
}

export interface OpenedTap {
  readonly fd: number;
  /** What the kernel called it, where `name` held a `%d`. */
  readonly name: string;
}

/**
 * Makes TAP `name` (or takes it, where it exists and is free), non-blocking, with a virtio header before every frame.
 * With `offload` the kernel leaves checksums and segmentation to the reader, and takes both from the writer. The device
 * goes when the descriptor is closed. Throws an Error that names cause and remedy.
 */
export function openTap(name: string, offload: boolean): OpenedTap {
  const fd = openTun();
  try {
    const { buffer, view } = request(name);
    view.setUint16(IFREQ_UNION, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
    const made = ioctl(fd, TUNSETIFF, addressOfBuffer(buffer));
    if (made < 0) throw new Error(`cannot make the TAP device '${name}': ${tapProblem(made)}`);
    const size = new ArrayBuffer(4);
    new DataView(size).setInt32(0, VNET_HEADER_OCTETS, true);
    must(ioctl(fd, TUNSETVNETHDRSZ, addressOfBuffer(size)), 'TUNSETVNETHDRSZ');
    const all = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    must(ioctl(fd, TUNSETOFFLOAD, offload ? all : 0), 'TUNSETOFFLOAD');
    const given = new Uint8Array(buffer, 0, LONGEST_NAME + 1);
    return { fd, name: Buffer.from(given.subarray(0, given.indexOf(0))).toString() };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Gives interface `name` its address, MTU and default route, and brings it and the loopback interface up. */
export function configureInterface(name: string, addresses: TapAddresses): void {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  must(fd, 'socket');
  try {
    const set = (code: number, value: (view: DataView) => void, what: string, device = name): void => {
      const { buffer, view } = request(device);
      value(view);
      must(ioctl(fd, code, addressOfBuffer(buffer)), `${what} of ${device}`);
    };
    const up = (device: string): void => {
      const { buffer, view } = request(device);
      must(ioctl(fd, SIOCGIFFLAGS, addressOfBuffer(buffer)), `flags of ${device}`);
      view.setUint16(IFREQ_UNION, view.getUint16(IFREQ_UNION, true) | IFF_UP, true);
      must(ioctl(fd, SIOCSIFFLAGS, addressOfBuffer(buffer)), `bringing up ${device}`);
    };
    up('lo');
    set(SIOCSIFMTU, (view) => view.setInt32(IFREQ_UNION, addresses.mtu, true), 'MTU');
    set(SIOCSIFADDR, (view) => socketAddress(view, IFREQ_UNION, addresses.address), 'address');
    set(SIOCSIFNETMASK, (view) => socketAddress(view, IFREQ_UNION, addresses.netmask), 'netmask');
    up(name);
    const route = new ArrayBuffer(RTENTRY_OCTETS);
    const view = new DataView(route);
    socketAddress(view, RTENTRY_DESTINATION, '0.0.0.0');
    socketAddress(view, RTENTRY_GATEWAY, addresses.gateway);
    socketAddress(view, RTENTRY_MASK, '0.0.0.0');
    view.setUint16(RTENTRY_FLAGS, RTF_UP | RTF_GATEWAY, true);
    must(ioctl(fd, SIOCADDRT, addressOfBuffer(route)), `default route via ${addresses.gateway}`);
    if (addresses.ipv6) {
      const { buffer, view: index } = request(name);
      must(ioctl(fd, SIOCGIFINDEX, addressOfBuffer(buffer)), `number of ${name}`);
      must(configureIpv6(index.getInt32(IFREQ_UNION, true), addresses.ipv6), 'IPv6');
    }
  } finally {
    close(fd);
  }
}

function openTun(): number {
  try {
    return openSync(TUN, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO')
      throw new Error(`there is no ${TUN}: load the kernel's module with 'modprobe tun' as root`);
    if (code === 'EACCES' || code === 'EPERM')
      throw new Error(
        `this user may not open ${TUN}: it is usually open to everybody; 'chmod 0666 ${TUN}' as root makes it so`,
      );
    throw new Error(`cannot open ${TUN}: ${message}`);
  }
}

function tapProblem(result: number): string {
  if (result === EPERM)
    return "that takes CAP_NET_ADMIN in its network namespace: run as root, or let 'slipway net run' make a namespace";
  if (result === EBUSY) return 'another program has it open, or an interface of this name is no free TAP device';
  if (result === EINVAL) return 'an interface of this name exists and is of another kind: choose another name';
  return codeOf(result);
}

function must(result: number, what: string): void {
  if (result < 0) throw new Error(`cannot set up the TAP device: ${what}: ${codeOf(result)}`);
}

function request(name: string): { buffer: ArrayBuffer; view: DataView } {
  const buffer = new ArrayBuffer(IFREQ_OCTETS);
  Buffer.from(buffer).write(name, 0, LONGEST_NAME);
  return { buffer, view: new DataView(buffer) };
}

/** struct sockaddr_in with port 0. */
function socketAddress(view: DataView, at: number, address: string): void {
  view.setUint16(at, AF_INET, true);
  address.split('.').forEach((octet, i) => {
    view.setUint8(at + 4 + i, Number(octet));
  });
}
