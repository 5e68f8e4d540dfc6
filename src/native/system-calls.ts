/**
 * The system calls of Linux that Node does not offer, or not as they are, bound through koffi. Linux on x86-64 and arm64
 * alone: import this module, and what stands on it, where the platform is known.
 *
 * Every call returns a count or a descriptor, or the negative errno; nothing throws. Addresses of memory are plain
 * numbers: user space ends below 2^47. See memory.ts for what may be given to C.
 */

import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const SOCK_SEQPACKET = 5;

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
export const IP_MTU_DISCOVER = 10;
export const IP_RECVERR = 11;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_HOPLIMIT = 52;

export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;
export const SHUT_WR = 1;
export const SHUT_RD = 0;
export const MSG_PEEK = 0x02;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const SCM_RIGHTS = 1;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x1;
export const EPOLLPRI = 0x2;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
/** Edge-triggered. 1 << 31 would be negative. */
export const EPOLLET = 0x80000000;

/** struct epoll_event is packed on x86-64 alone. */
export const EPOLL_EVENT = process.arch === 'x64' ? 12 : 16;
export const EPOLL_EVENT_DATA = process.arch === 'x64' ? 4 : 8;
/** Octets of struct sockaddr_un, the largest that is met here. */
export const SOCKADDR = 112;
/** Octets of struct iovec, msghdr and mmsghdr, with 64-bit pointers. */
export const IOVEC = 16;
export const MSGHDR = 56;
export const MMSGHDR = 64;

/** Results that callers tell apart: the errno, negative. */
export const EPERM = -1;
export const ENOENT = -2;
export const EINTR = -4;
export const EAGAIN = -11;
export const EACCES = -13;
export const EBUSY = -16;
export const EINVAL = -22;
export const EPIPE = -32;
export const EMSGSIZE = -90;
export const EOPNOTSUPP = -95;
export const EAFNOSUPPORT = -97;
export const EADDRINUSE = -98;
export const ECONNABORTED = -103;
export const ECONNREFUSED = -111;
export const EINPROGRESS = -115;

/** Node's code for an errno, negative as results have it or positive as SO_ERROR has it. */
export function codeOf(result: number): string {
  return getSystemErrorName(-Math.abs(result));
}

/** An Error with Node's code. */
export function errorOf(call: string, result: number): Error & { code: string } {
  const code = codeOf(result);
  return Object.assign(new Error(`${call} ${code}`), { code });
}

const libc = koffi.load(null);
/** A call with numbers in and a number out; a variant per count of arguments keeps the hot path free of spreads. */
type Call = (...values: readonly number[]) => number;
const bind = (prototype: string): Call => libc.func(prototype) as unknown as Call;
const checked = (result: number): number => (result < 0 ? -koffi.errno() : result);

function bind0(prototype: string): () => number {
  const call = bind(prototype);
  return () => checked(call());
}
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
export const connectSocket = bind3('int connect(int, uintptr_t, uint32_t)');
export const listenSocket = bind2('int listen(int, int)');
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
export const munmap = bind2('int munmap(uintptr_t, size_t)');
export const madvise = bind3('int madvise(uintptr_t, size_t, int)');
export const read = bind3('intptr_t read(int, uintptr_t, size_t)');
export const write = bind3('intptr_t write(int, uintptr_t, size_t)');
export const sendmsg = bind3('intptr_t sendmsg(int, uintptr_t, int)');
export const socketpair = bind4('int socketpair(int, int, int, uintptr_t)');
export const poll = bind3('int poll(uintptr_t, unsigned long, int)');
export const ioctl = bind3('int ioctl(int, unsigned long, uintptr_t)');
export const setns = bind2('int setns(int, int)');
export const yieldThread = bind0('int sched_yield()');
export const eventfd = bind2('int eventfd(unsigned int, int)');

const fcntl = bind3('int fcntl(int, int, int)');
const F_DUPFD_CLOEXEC = 1030;
/** Another descriptor of the same open file. */
export const duplicate = (fd: number): number => fcntl(fd, F_DUPFD_CLOEXEC, 0);

const mmap = bind6('intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)');
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
/** Maps `octets` of a descriptor from `offset`, shared and writable. */
export const mmapShared = (fd: number, octets: number, offset: number): number =>
  mmap(0, octets, PROT_READ_WRITE, MAP_SHARED, fd, offset);
