/**
 * An interface's IPv6 address and default route, by netlink. rtnetlink(7). The ioctls that IPv4 has would do, but for
 * one thing: an address set by them is no use until the kernel has looked for duplicates of it for a second or more (RFC
 * 4862 5.4), and this one is given away once only.
 */

import { addressOfBuffer } from '../../native/memory.ts';
import {
  close,
  EACCES,
  EAFNOSUPPORT,
  EINVAL,
  EOPNOTSUPP,
  read,
  SOCK_CLOEXEC,
  SOCK_RAW,
  socket,
  write,
} from '../../native/system-calls.ts';

/** Of 16 octets each. */
export interface Ipv6Addresses {
  readonly address: readonly number[];
  readonly gateway: readonly number[];
}

const AF_NETLINK = 16;
const AF_INET6 = 10;
const NETLINK_ROUTE = 0;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const NLMSG_ERROR = 2;
/** NLM_F_REQUEST, ACK, CREATE and REPLACE. */
const REQUEST = 0x0505;
const IFA_F_NODAD = 0x02;
const IFA_ADDRESS = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const PREFIX_BITS = 64;
const HEADER_OCTETS = 16;

/** The kernel has no IPv6, or none for new interfaces: the guest does without. */
const without = new Set([EAFNOSUPPORT, EOPNOTSUPP, EACCES]);

/** 0, or the negative errno. */
export function configureIpv6(index: number, { address, gateway }: Ipv6Addresses): number {
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return fd;
  try {
    // struct ifaddrmsg: family, prefix length, flags, scope, interface.
    const given = ask(fd, RTM_NEWADDR, [AF_INET6, PREFIX_BITS, IFA_F_NODAD, 0, ...word(index)], [IFA_ADDRESS, address]);
    if (given < 0) return without.has(given) ? 0 : given;
    // struct rtmsg: family, both prefix lengths, tos, table, protocol, scope, type, flags.
    const route = [AF_INET6, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, ...word(0)];
    return ask(fd, RTM_NEWROUTE, route, [RTA_GATEWAY, gateway], [RTA_OIF, word(index)]);
  } finally {
    close(fd);
  }
}

/** The octets of a 32-bit word, as the processor has them. */
const word = (value: number): number[] => [...new Uint8Array(Int32Array.of(value).buffer)];
const half = (value: number): number[] => [...new Uint8Array(Uint16Array.of(value).buffer)];

/** Sends one request, and returns what the kernel acknowledges it with. Attributes' values are of whole words. */
function ask(
  fd: number,
  type: number,
  fixed: readonly number[],
  ...attributes: readonly (readonly [kind: number, value: readonly number[]])[]
): number {
  const body = [
    ...fixed,
    ...attributes.flatMap(([kind, value]) => [...half(value.length + 4), ...half(kind), ...value]),
  ];
  const octets = HEADER_OCTETS + body.length;
  const message = new ArrayBuffer(octets);
  new Uint8Array(message).set([...word(octets), ...half(type), ...half(REQUEST), ...word(1), ...word(0), ...body]);
  const sent = write(fd, addressOfBuffer(message), octets);
  if (sent < 0) return sent;
  const answer = new ArrayBuffer(1024);
  const got = read(fd, addressOfBuffer(answer), answer.byteLength);
  if (got < 0) return got;
  const view = new DataView(answer);
  // struct nlmsgerr begins with the negative errno, or 0.
  return got >= 20 && view.getUint16(4, true) === NLMSG_ERROR ? view.getInt32(16, true) : EINVAL;
}
