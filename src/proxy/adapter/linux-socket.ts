/**
 * The system calls of Linux's sockets that Node does not offer as they are, bound through koffi, and the memory and
 * structures they take. Linux alone: import this module, and what stands on it, where the platform is known.
 *
 * Every call returns a count or a descriptor, or the negative errno; nothing throws. Addresses of memory are plain
 * numbers: user space ends below 2^47. Memory whose address C keeps (iovec, epoll_event and mmsghdr arrays) must be a
 * `Place`, and referenced for as long as C may use it; where C looks only during the call, `addressOf` will do.
 */

import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import type { Address } from '../../stack/port.ts';
import { ipv4Word, isIpv4, ofIpv4 } from '../../stack/wire/address.ts';
import type { HostErrorCode } from '../port.ts';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ICMPV6 = 58;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_LINGER = 13;
export const TCP_NODELAY = 1;
export const IP_TTL = 2;
export const IP_RECVERR = 11;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_HOPLIMIT = 52;
export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;
export const SHUT_WR = 1;
export const EPOLL_CTL_ADD = 1;
export const EPOLLIN = 0x1;
export const EPOLLPRI = 0x2;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000;

/** struct sockaddr_un is the largest that is met here. */
export const SOCKADDR = 112;
/** struct epoll_event is packed on x86-64 alone. */
export const EPOLL_EVENT = process.arch === 'x64' ? 12 : 16;
export const EPOLL_EVENT_DATA = process.arch === 'x64' ? 4 : 8;
/** struct iovec, msghdr and mmsghdr, with 64-bit pointers. */
export const IOVEC = 16;
export const MSGHDR = 56;
export const MMSGHDR = 64;

const libc = koffi.load(null);
type Call = (...values: readonly number[]) => number;
const bind = (prototype: string): Call => libc.func(prototype) as unknown as Call;
const checked = (result: number): number => (result < 0 ? -koffi.errno() : result);

function bind1(prototype: string): (a: number) => number {
  const call = bind(prototype);
  return (a) => checked(call(a));
}
function bind2(prototype: string): (a: number, b: number) => number {
  const call = bind(prototype);
  return (a, b) => checked(call(a, b));
}
function bind3(prototype: string): (a: number, b: number, c: number) => number {
  const call = bind(prototype);
  return (a, b, c) => checked(call(a, b, c));
}
function bind4(prototype: string): (a: number, b: number, c: number, d: number) => number {
  const call = bind(prototype);
  return (a, b, c, d) => checked(call(a, b, c, d));
}
function bind5(prototype: string): (a: number, b: number, c: number, d: number, e: number) => number {
  const call = bind(prototype);
  return (a, b, c, d, e) => checked(call(a, b, c, d, e));
}
function bind6(prototype: string): (a: number, b: number, c: number, d: number, e: number, f: number) => number {
  const call = bind(prototype);
  return (a, b, c, d, e, f) => checked(call(a, b, c, d, e, f));
}

export const socket = bind3('int socket(int, int, int)');
export const bindSocket = bind3('int bind(int, uintptr_t, uint32_t)');
export const connect = bind3('int connect(int, uintptr_t, uint32_t)');
export const listen = bind2('int listen(int, int)');
export const accept4 = bind4('int accept4(int, uintptr_t, uintptr_t, int)');
export const readv = bind3('intptr_t readv(int, uintptr_t, int)');
export const recv = bind4('intptr_t recv(int, uintptr_t, size_t, int)');
export const send = bind4('intptr_t send(int, uintptr_t, size_t, int)');
export const writev = bind3('intptr_t writev(int, uintptr_t, int)');
export const sendto = bind6('intptr_t sendto(int, uintptr_t, size_t, int, uintptr_t, uint32_t)');
export const recvfrom = bind6('intptr_t recvfrom(int, uintptr_t, size_t, int, uintptr_t, uintptr_t)');
export const recvmsg = bind3('intptr_t recvmsg(int, uintptr_t, int)');
export const sendmmsg = bind4('int sendmmsg(int, uintptr_t, unsigned int, int)');
export const recvmmsg = bind5('int recvmmsg(int, uintptr_t, unsigned int, int, uintptr_t)');
export const shutdown = bind2('int shutdown(int, int)');
export const close = bind1('int close(int)');
export const getsockopt = bind5('int getsockopt(int, int, int, uintptr_t, uintptr_t)');
export const setsockopt = bind5('int setsockopt(int, int, int, uintptr_t, uint32_t)');
export const getsockname = bind3('int getsockname(int, uintptr_t, uintptr_t)');
export const getpeername = bind3('int getpeername(int, uintptr_t, uintptr_t)');
export const adjtimex = bind1('int adjtimex(uintptr_t)');
export const epollCreate = bind1('int epoll_create1(int)');
export const epollControl = bind4('int epoll_ctl(int, int, int, uintptr_t)');
export const epollWait = bind4('int epoll_wait(int, uintptr_t, int, int)');

export const EINTR = -4;
export const EAGAIN = -11;
export const EMSGSIZE = -90;
export const ECONNABORTED = -103;
export const EINPROGRESS = -115;

/** Node's code for an errno, negative as results have it or positive as SO_ERROR has it. */
export function codeOf(result: number): HostErrorCode {
  return getSystemErrorName(-Math.abs(result));
}

/** An Error with Node's code, as promises of the port reject with. */
export function errorOf(call: string, result: number): Error & { code: HostErrorCode } {
  const code = codeOf(result);
  return Object.assign(new Error(`${call} ${code}`), { code });
}

/** Memory that C is given the address of, for as long as this object lives. */
export class Place {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;

  constructor(octets: number) {
    const buffer = new ArrayBuffer(octets);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.address = Number(koffi.address(buffer));
  }

  /** A pointer or size_t. */
  setPointer(offset: number, address: number): void {
    this.view.setUint32(offset, address >>> 0, true);
    this.view.setUint32(offset + 4, Math.floor(address / 0x1_0000_0000), true);
  }
}

const addresses = new WeakMap<ArrayBufferLike, number>();

/** Where the octets of a view begin. Valid for as long as its buffer is referenced (and neither detached nor grown). */
export function addressOf(bytes: Uint8Array): number {
  const { buffer } = bytes;
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = Number(koffi.address(buffer as ArrayBuffer));
    addresses.set(buffer, address);
  }
  return address + bytes.byteOffset;
}

/** Writes struct sockaddr_in, or sockaddr_in6 where the address is none of IPv4, to the beginning of `place`; its length. */
export function encodeAddress(place: Place, address: Address, port: number): number {
  const { bytes, view } = place;
  view.setUint16(2, port);
  if (isIpv4(address)) {
    view.setUint16(0, AF_INET, true);
    view.setInt32(4, ipv4Word(address));
    return 16;
  }
  view.setUint16(0, AF_INET6, true);
  view.setUint32(4, 0);
  bytes.set(address, 8);
  view.setUint32(24, 0);
  return 28;
}

/** Writes struct sockaddr_un; its length, 0 when the path is too long for one. */
export function encodePath(place: Place, path: string): number {
  const text = Buffer.from(path);
  if (text.length === 0 || text.length > 107) return 0;
  place.view.setUint16(0, AF_UNIX, true);
  place.bytes.set(text, 2);
  place.bytes[2 + text.length] = 0;
  return 3 + text.length;
}

/** The address in a struct sockaddr_in or sockaddr_in6; undefined for other families and for link-local IPv6, whose zone has no place in an address. */
export function decodeAddress(view: DataView, at: number): Address | undefined {
  const family = view.getUint16(at, true);
  if (family === AF_INET) return ofIpv4(view.getInt32(at + 4));
  if (family !== AF_INET6 || (view.getUint16(at + 8) & 0xffc0) === 0xfe80) return undefined;
  return new Uint8Array(view.buffer, view.byteOffset + at + 8, 16).slice();
}

export function decodePort(view: DataView, at: number): number {
  return view.getUint16(at + 2);
}
