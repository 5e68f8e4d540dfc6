/**
 * The system calls the vhost-user devices need and Node does not offer, bound through koffi. Linux on x86-64 and arm64
 * only: import this module (and what stands on it) where the platform is known.
 *
 * Every call returns a count or descriptor, or the negative errno; nothing throws. Addresses are plain numbers: user
 * space ends below 2^47. Memory whose address C gets must be an ArrayBuffer of its own (or mapped), and stay referenced
 * for as long as C may use it.
 */

import koffi from 'koffi';

const lib = koffi.load(null);

/** A call with numbers in and a number out; a variant per count of arguments keeps the hot path free of spreads. */
type Native = (...values: readonly number[]) => number;

const native = (prototype: string): Native => lib.func(prototype) as unknown as Native;
const checked = (result: number): number => (result < 0 ? -koffi.errno() : result);

function bind1(prototype: string): (a: number) => number {
  const call = native(prototype);
  return (a) => checked(call(a));
}

function bind2(prototype: string): (a: number, b: number) => number {
  const call = native(prototype);
  return (a, b) => checked(call(a, b));
}

function bind3(prototype: string): (a: number, b: number, c: number) => number {
  const call = native(prototype);
  return (a, b, c) => checked(call(a, b, c));
}

function bind4(prototype: string): (a: number, b: number, c: number, d: number) => number {
  const call = native(prototype);
  return (a, b, c, d) => checked(call(a, b, c, d));
}

function bind5(prototype: string): (a: number, b: number, c: number, d: number, e: number) => number {
  const call = native(prototype);
  return (a, b, c, d, e) => checked(call(a, b, c, d, e));
}

export const errno = {
  EAGAIN: koffi.os.errno.EAGAIN!,
  EINTR: koffi.os.errno.EINTR!,
  EPIPE: koffi.os.errno.EPIPE!,
  ENOENT: koffi.os.errno.ENOENT!,
  EPERM: koffi.os.errno.EPERM!,
  EBUSY: koffi.os.errno.EBUSY!,
  EINVAL: koffi.os.errno.EINVAL!,
  ECONNREFUSED: koffi.os.errno.ECONNREFUSED!,
  EADDRINUSE: koffi.os.errno.EADDRINUSE!,
} as const;

/** The name of an errno, for messages. */
export function errnoName(result: number): string {
  const code = Math.abs(result);
  return Object.entries(koffi.os.errno).find(([, value]) => value === code)?.[0] ?? `errno ${code}`;
}

/** Where an ArrayBuffer's octets are. The caller keeps it referenced. */
export function addressOf(buffer: ArrayBuffer): number {
  return Number(koffi.address(buffer));
}

/** Mapped memory as an ArrayBuffer; it must not be touched after `munmap`. */
export function viewOf(address: number, octets: number): ArrayBuffer {
  return koffi.view(BigInt(address), octets);
}

export const AF_UNIX = 1;
export const AF_INET = 2;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const MSG_PEEK = 0x02;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const SOL_SOCKET = 1;
export const SO_SNDBUF = 7;
export const SCM_RIGHTS = 1;

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
/** Edge-triggered. 1 << 31 would be negative. */
export const EPOLLET = 0x80000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
/** struct epoll_event is packed on x86-64 alone. */
export const epollEventOctets = process.arch === 'x64' ? 12 : 16;
export const epollDataOffset = process.arch === 'x64' ? 4 : 8;

const mmap = native('intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)');
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** Maps `octets` of a descriptor from `offset`, shared and writable. */
export function mmapShared(fd: number, octets: number, offset: number): number {
  return checked(mmap(0, octets, PROT_READ_WRITE, MAP_SHARED, fd, offset));
}

export const munmap = bind2('int munmap(uintptr_t, size_t)');
export const close = bind1('int close(int)');
export const read = bind3('intptr_t read(int, uintptr_t, size_t)');
export const write = bind3('intptr_t write(int, uintptr_t, size_t)');
export const readv = bind3('intptr_t readv(int, uintptr_t, int)');
export const writev = bind3('intptr_t writev(int, uintptr_t, int)');
export const recvmsg = bind3('intptr_t recvmsg(int, uintptr_t, int)');
export const sendmsg = bind3('intptr_t sendmsg(int, uintptr_t, int)');
export const recv = bind4('intptr_t recv(int, uintptr_t, size_t, int)');
export const send = bind4('intptr_t send(int, uintptr_t, size_t, int)');
export const setsockopt = bind5('int setsockopt(int, int, int, uintptr_t, uint32_t)');
const fcntl = bind3('int fcntl(int, int, int)');
const F_DUPFD_CLOEXEC = 1030;
/** Another descriptor of the same open file. */
export const duplicate = (fd: number): number => fcntl(fd, F_DUPFD_CLOEXEC, 0);
export const socket = bind3('int socket(int, int, int)');
export const bindSocket = bind3('int bind(int, uintptr_t, uint32_t)');
export const connectSocket = bind3('int connect(int, uintptr_t, uint32_t)');
export const listenSocket = bind2('int listen(int, int)');
export const accept4 = bind4('int accept4(int, uintptr_t, uintptr_t, int)');
export const socketpair = bind4('int socketpair(int, int, int, uintptr_t)');
export const shutdown = bind2('int shutdown(int, int)');
export const poll = bind3('int poll(uintptr_t, unsigned long, int)');
export const ioctl = bind3('int ioctl(int, unsigned long, uintptr_t)');
export const setns = bind2('int setns(int, int)');
export const eventfd = bind2('int eventfd(unsigned int, int)');
export const epollCreate = bind1('int epoll_create1(int)');
export const epollControl = bind4('int epoll_ctl(int, int, int, uintptr_t)');
export const epollWait = bind4('int epoll_wait(int, uintptr_t, int, int)');
