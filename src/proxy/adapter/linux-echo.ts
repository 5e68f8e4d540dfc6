/**
 * Echo requests through Linux's ping sockets (icmp(7): SOCK_DGRAM, IPPROTO_ICMP), which need no privilege where
 * net.ipv4.ping_group_range has the user's group in it; elsewhere `open` finds none. The kernel puts the identifier and
 * the checksum in and lets a socket have the replies to its own requests only. ICMP errors about them come by the
 * socket's error queue (IP_RECVERR).
 *
 * All sockets are in one epoll set, itself watched by one handle on Node's loop: a socket watched directly would lose
 * its watch with the first error. Memory that the kernel is told of by address is held by this object.
 */

import koffi from 'koffi';
import type { Address, FragmentList } from '../../stack/port.ts';
import { ipv4Word, isIpv4, ofIpv4 } from '../../stack/wire/address.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket, HostErrorCode } from '../port.ts';

const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;
const IPPROTO_ICMP = 1;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IP_RECVERR = 11;
const MSG_DONTWAIT = 0x40;
const MSG_ERRQUEUE = 0x2000;
const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const SO_EE_ORIGIN_ICMP = 2;

const ECHO_REQUEST = 8;
const DESTINATION_UNREACHABLE = 3;
const HEADER = 8;
const LARGEST = 65507;
const SOCKADDR = 16;
/** struct msghdr, with 64-bit pointers. */
const MSGHDR = 56;
const CONTROL = 256;
/** struct epoll_event is packed on x86-64 alone. */
const EVENT = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA = process.arch === 'x64' ? 4 : 8;
const EVENTS = 64;

const libc = koffi.load(null);
type Call = (...values: readonly number[]) => number;
const bind = (prototype: string): Call => libc.func(prototype) as unknown as Call;
const socket = bind('int socket(int, int, int)');
const setsockopt = bind('int setsockopt(int, int, int, uintptr_t, uint32_t)');
const sendto = bind('intptr_t sendto(int, uintptr_t, size_t, int, uintptr_t, uint32_t)');
const recvfrom = bind('intptr_t recvfrom(int, uintptr_t, size_t, int, uintptr_t, uintptr_t)');
const recvmsg = bind('intptr_t recvmsg(int, uintptr_t, int)');
const close = bind('int close(int)');
const epollCreate = bind('int epoll_create1(int)');
const epollControl = bind('int epoll_ctl(int, int, int, uintptr_t)');
const epollWait = bind('int epoll_wait(int, uintptr_t, int, int)');

/** Memory that C is given the address of. */
class Place {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;

  constructor(octets: number) {
    const buffer = new ArrayBuffer(octets);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.address = Number(koffi.address(buffer));
  }

  setPointer(offset: number, address: number): void {
    this.view.setBigUint64(offset, BigInt(address), true);
  }
}

class LinuxEchoSocket implements HostEchoSocket {
  owner: unknown = undefined;
  hopLimit = 0;
  readonly fd: number;
  readonly handler: HostEchoHandler;
  readonly #echo: LinuxEcho;

  constructor(fd: number, handler: HostEchoHandler, echo: LinuxEcho) {
    this.fd = fd;
    this.handler = handler;
    this.#echo = echo;
  }

  send(address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    return this.#echo.send(this, address, sequence, hopLimit, payload);
  }

  close(): void {
    this.#echo.close(this);
  }
}

export class LinuxEcho implements HostEchoPort {
  readonly #serviced: () => void;
  readonly #sockets = new Map<number, LinuxEchoSocket>();
  readonly #packet = new Place(HEADER + LARGEST);
  readonly #peer = new Place(SOCKADDR);
  readonly #word = new Place(4);
  readonly #message = new Place(MSGHDR);
  readonly #vector = new Place(16);
  readonly #control = new Place(CONTROL);
  readonly #events = new Place(EVENTS * EVENT);
  readonly #epoll: number;
  #watch: ReturnType<typeof koffi.node.poll> | undefined;

  /** `serviced` is told after handlers were called. */
  constructor(serviced: () => void) {
    this.#serviced = serviced;
    this.#epoll = process.platform === 'linux' ? epollCreate(EPOLL_CLOEXEC) : -1;
    this.#vector.setPointer(0, this.#packet.address);
    this.#vector.setPointer(8, this.#packet.bytes.length);
  }

  open(handler: HostEchoHandler): HostEchoSocket | undefined {
    if (this.#epoll < 0) return undefined;
    const fd = socket(AF_INET, SOCK_DGRAM_NONBLOCK_CLOEXEC, IPPROTO_ICMP);
    if (fd < 0) return undefined;
    this.#option(fd, IP_RECVERR, 1);
    const { view, address } = this.#events;
    view.setUint32(0, EPOLLIN, true);
    view.setInt32(EVENT_DATA, fd, true);
    if (epollControl(this.#epoll, EPOLL_CTL_ADD, fd, address) < 0) {
      close(fd);
      return undefined;
    }
    const opened = new LinuxEchoSocket(fd, handler, this);
    this.#sockets.set(fd, opened);
    if (!this.#watch) {
      this.#watch = koffi.node.poll(this.#epoll, { readable: true }, () => this.#ready());
      this.#watch.unref();
    }
    return opened;
  }

  send(from: LinuxEchoSocket, address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    if (!this.#sockets.has(from.fd) || !isIpv4(address) || payload.octets > LARGEST) return false;
    if (from.hopLimit !== hopLimit) {
      this.#option(from.fd, IP_TTL, hopLimit);
      from.hopLimit = hopLimit;
    }
    const { bytes, view } = this.#packet;
    view.setUint32(0, ECHO_REQUEST << 24);
    view.setUint32(4, sequence);
    let end = HEADER;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      bytes.set(arena.bytes.subarray(offset, offset + length), end);
      end += length;
    }
    this.#peer.view.setUint16(0, AF_INET, true);
    this.#peer.view.setUint16(2, 0);
    this.#peer.view.setInt32(4, ipv4Word(address));
    // An error that is waiting for an earlier request fails this call once, and is in the error queue too.
    for (let tries = 0; tries < 2; tries++)
      if (sendto(from.fd, this.#packet.address, end, MSG_DONTWAIT, this.#peer.address, SOCKADDR) >= 0) return true;
    return false;
  }

  close(socket: LinuxEchoSocket): void {
    // Closing takes it out of the epoll set as well.
    if (this.#sockets.delete(socket.fd)) close(socket.fd);
  }

  #option(fd: number, option: number, value: number): void {
    this.#word.view.setInt32(0, value, true);
    setsockopt(fd, IPPROTO_IP, option, this.#word.address, 4);
  }

  #ready(): void {
    const count = epollWait(this.#epoll, this.#events.address, EVENTS, 0);
    const ready: LinuxEchoSocket[] = [];
    for (let i = 0; i < count; i++) {
      const found = this.#sockets.get(this.#events.view.getInt32(i * EVENT + EVENT_DATA, true));
      if (found) ready.push(found);
    }
    for (const socket of ready) {
      this.#errors(socket);
      this.#replies(socket);
    }
    if (count > 0) this.#serviced();
  }

  #replies(socket: LinuxEchoSocket): void {
    const { bytes, view, address } = this.#packet;
    for (;;) {
      this.#word.view.setInt32(0, SOCKADDR, true);
      const octets = recvfrom(socket.fd, address, bytes.length, MSG_DONTWAIT, this.#peer.address, this.#word.address);
      if (octets < HEADER || !this.#sockets.has(socket.fd)) return;
      const from = ofIpv4(this.#peer.view.getInt32(4));
      socket.handler.replied(socket, from, view.getUint16(6), bytes.subarray(HEADER, octets));
    }
  }

  /** Each entry: the request as it was sent, whom it was for, and struct sock_extended_err as a control message. */
  #errors(socket: LinuxEchoSocket): void {
    const message = this.#message;
    const { view: control } = this.#control;
    for (;;) {
      message.bytes.fill(0);
      message.setPointer(0, this.#peer.address);
      message.view.setUint32(8, SOCKADDR, true);
      message.setPointer(16, this.#vector.address);
      message.setPointer(24, 1);
      message.setPointer(32, this.#control.address);
      message.setPointer(40, CONTROL);
      const octets = recvmsg(socket.fd, message.address, MSG_ERRQUEUE | MSG_DONTWAIT);
      if (octets < 0 || !this.#sockets.has(socket.fd)) return;
      const isError = control.getInt32(8, true) === IPPROTO_IP && control.getInt32(12, true) === IP_RECVERR;
      if (octets < HEADER || !isError || message.view.getUint32(40, true) < 32) continue;
      const [origin, type, code] = [control.getUint8(20), control.getUint8(21), control.getUint8(22)];
      const reason = origin === SO_EE_ORIGIN_ICMP ? icmpCode(type, code) : errnoName(control.getUint32(16, true));
      const to = ofIpv4(this.#peer.view.getInt32(4));
      if (reason !== undefined) socket.handler.failed(socket, to, this.#packet.view.getUint16(6), reason);
    }
  }
}

/** RFC 1122 3.2.2.1; undefined: not about reachability, such as time exceeded. */
function icmpCode(type: number, code: number): HostErrorCode | undefined {
  if (type !== DESTINATION_UNREACHABLE) return undefined;
  if (code === 9 || code === 10 || code === 13) return 'EACCES';
  return code === 0 || code === 6 || code === 11 ? 'ENETUNREACH' : 'EHOSTUNREACH';
}

function errnoName(value: number): HostErrorCode {
  return Object.entries(koffi.os.errno).find(([, number]) => number === value)?.[0] ?? 'EIO';
}
