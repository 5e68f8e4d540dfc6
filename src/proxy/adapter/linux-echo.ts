/**
 * Echo requests through Linux's ping sockets (icmp(7): SOCK_DGRAM, IPPROTO_ICMP and IPPROTO_ICMPV6), which need no
 * privilege where net.ipv4.ping_group_range has the user's group in it; elsewhere `open` finds none. The kernel puts
 * the identifier and the checksum in and lets a socket have the replies to its own requests only. ICMP errors about
 * them come by the socket's error queue (IP_RECVERR, IPV6_RECVERR).
 *
 * Memory that the kernel is told of by address is held by this object.
 */

import { Place } from '../../native/memory.ts';
import { Readiness, type ReadyHandler } from '../../native/readiness.ts';
import {
  AF_INET,
  AF_INET6,
  close,
  codeOf,
  EPOLLIN,
  IOVEC,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  IPV6_UNICAST_HOPS,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSGHDR,
  recvfrom,
  recvmsg,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sendto,
  setsockopt,
  socket,
} from '../../native/system-calls.ts';
import type { Address, FragmentList } from '../../stack/port.ts';
import { isIpv4 } from '../../stack/wire/address.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket, HostErrorCode } from '../port.ts';
import { decodeAddress, encodeAddress } from './socket-address.ts';

const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;
/** SO_EE_OFFENDER: whom an error came from, behind struct cmsghdr and struct sock_extended_err. */
const OFFENDER = 32;

const HEADER = 8;
const LARGEST = 65507;
const SOCKADDR_IN6 = 28;
const CONTROL = 256;

/** What differs between the families. */
interface Family {
  readonly domain: number;
  readonly protocol: number;
  readonly echoRequest: number;
  /** Of options, and of the control messages that errors come by. */
  readonly level: number;
  readonly hopLimit: number;
  readonly receiveErrors: number;
  readonly errorOrigin: number;
  /** ICMP's type. */
  readonly timeExceeded: number;
  readonly errorCode: (type: number, code: number) => HostErrorCode | undefined;
}

const families: Readonly<Record<4 | 6, Family>> = {
  4: {
    domain: AF_INET,
    protocol: IPPROTO_ICMP,
    echoRequest: 8,
    level: IPPROTO_IP,
    hopLimit: IP_TTL,
    receiveErrors: IP_RECVERR,
    errorOrigin: SO_EE_ORIGIN_ICMP,
    timeExceeded: 11,
    errorCode: icmpCode,
  },
  6: {
    domain: AF_INET6,
    protocol: IPPROTO_ICMPV6,
    echoRequest: 128,
    level: IPPROTO_IPV6,
    hopLimit: IPV6_UNICAST_HOPS,
    receiveErrors: IPV6_RECVERR,
    errorOrigin: SO_EE_ORIGIN_ICMP6,
    timeExceeded: 3,
    errorCode: icmpv6Code,
  },
};

class LinuxEchoSocket implements HostEchoSocket, ReadyHandler {
  owner: unknown = undefined;
  hopLimit = 0;
  registration = -1;
  readonly fd: number;
  readonly family: Family;
  readonly handler: HostEchoHandler;
  readonly #echo: LinuxEcho;

  constructor(fd: number, family: Family, handler: HostEchoHandler, echo: LinuxEcho) {
    this.fd = fd;
    this.family = family;
    this.handler = handler;
    this.#echo = echo;
  }

  send(address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    return this.#echo.send(this, address, sequence, hopLimit, payload);
  }

  close(): void {
    this.#echo.closeSocket(this);
  }

  ready(): void {
    this.#echo.ready(this);
  }
}

export class LinuxEcho implements HostEchoPort {
  readonly #readiness: Readiness;
  readonly #packet = new Place(HEADER + LARGEST);
  readonly #peer = new Place(SOCKADDR_IN6);
  readonly #word = new Place(4);
  readonly #message = new Place(MSGHDR);
  readonly #vector = new Place(IOVEC);
  readonly #control = new Place(CONTROL);

  /** `serviced` is told after handlers were called. */
  constructor(serviced: () => void) {
    this.#readiness = new Readiness(serviced);
    this.#vector.setPointer(0, this.#packet.address);
    this.#vector.setPointer(8, this.#packet.bytes.length);
  }

  open(version: 4 | 6, handler: HostEchoHandler): HostEchoSocket | HostErrorCode {
    const family = families[version];
    const fd = socket(family.domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, family.protocol);
    if (fd < 0) return codeOf(fd);
    const opened = new LinuxEchoSocket(fd, family, handler, this);
    this.#option(opened, family.receiveErrors, 1);
    opened.registration = this.#readiness.add(fd, EPOLLIN, opened, false);
    if (opened.registration >= 0) return opened;
    close(fd);
    return codeOf(opened.registration);
  }

  send(from: LinuxEchoSocket, address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    const { family } = from;
    const ofFamily = isIpv4(address) === (family.domain === AF_INET);
    if (from.registration < 0 || !ofFamily || payload.octets > LARGEST) return false;
    if (from.hopLimit !== hopLimit) {
      this.#option(from, family.hopLimit, hopLimit);
      from.hopLimit = hopLimit;
    }
    const { bytes, view } = this.#packet;
    view.setUint32(0, (family.echoRequest << 24) >>> 0);
    view.setUint32(4, sequence);
    let end = HEADER;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      bytes.set(arena.bytes.subarray(offset, offset + length), end);
      end += length;
    }
    const nameOctets = encodeAddress(this.#peer, address, 0);
    // An error that is waiting for an earlier request fails this call once, and is in the error queue too.
    for (let tries = 0; tries < 2; tries++)
      if (sendto(from.fd, this.#packet.address, end, MSG_DONTWAIT, this.#peer.address, nameOctets) >= 0) return true;
    return false;
  }

  closeSocket(socket: LinuxEchoSocket): void {
    if (socket.registration < 0) return;
    this.#readiness.remove(socket.registration);
    socket.registration = -1;
    close(socket.fd);
  }

  ready(socket: LinuxEchoSocket): void {
    this.#errors(socket);
    this.#replies(socket);
  }

  #option({ fd, family }: LinuxEchoSocket, option: number, value: number): void {
    this.#word.view.setInt32(0, value, true);
    setsockopt(fd, family.level, option, this.#word.address, 4);
  }

  #replies(socket: LinuxEchoSocket): void {
    const { bytes, view, address } = this.#packet;
    for (;;) {
      this.#word.view.setInt32(0, SOCKADDR_IN6, true);
      const octets = recvfrom(socket.fd, address, bytes.length, MSG_DONTWAIT, this.#peer.address, this.#word.address);
      if (octets < HEADER || socket.registration < 0) return;
      const from = decodeAddress(this.#peer.view, 0);
      if (from) socket.handler.replied(socket, from, view.getUint16(6), bytes.subarray(HEADER, octets));
    }
  }

  /** Each entry: the request as it was sent, or as much of it as the error quoted, whom it was for, and struct sock_extended_err as a control message. */
  #errors(socket: LinuxEchoSocket): void {
    const message = this.#message;
    const { view: control } = this.#control;
    for (;;) {
      message.bytes.fill(0);
      message.setPointer(0, this.#peer.address);
      message.view.setUint32(8, SOCKADDR_IN6, true);
      message.setPointer(16, this.#vector.address);
      message.setPointer(24, 1);
      message.setPointer(32, this.#control.address);
      message.setPointer(40, CONTROL);
      const octets = recvmsg(socket.fd, message.address, MSG_ERRQUEUE | MSG_DONTWAIT);
      if (octets < 0 || socket.registration < 0) return;
      const { family } = socket;
      const isError = control.getInt32(8, true) === family.level && control.getInt32(12, true) === family.receiveErrors;
      if (octets < HEADER || !isError || message.view.getUint32(40, true) < 32) continue;
      const [origin, type, code] = [control.getUint8(20), control.getUint8(21), control.getUint8(22)];
      const to = decodeAddress(this.#peer.view, 0);
      if (!to) continue;
      const sequence = this.#packet.view.getUint16(6);
      const payload = this.#packet.bytes.subarray(HEADER, octets);
      if (origin === family.errorOrigin && type === family.timeExceeded) {
        const router = decodeAddress(control, OFFENDER);
        if (router) socket.handler.expired(socket, to, sequence, router, payload);
        continue;
      }
      const reason = origin === family.errorOrigin ? family.errorCode(type, code) : codeOf(control.getUint32(16, true));
      if (reason !== undefined) socket.handler.failed(socket, to, sequence, reason, payload);
    }
  }
}

/** RFC 1122 3.2.2.1; undefined: not about reachability. */
function icmpCode(type: number, code: number): HostErrorCode | undefined {
  if (type !== 3) return undefined;
  if (code === 9 || code === 10 || code === 13) return 'EACCES';
  return code === 0 || code === 6 || code === 11 ? 'ENETUNREACH' : 'EHOSTUNREACH';
}

/** The same of ICMPv6. RFC 4443 3.1. */
function icmpv6Code(type: number, code: number): HostErrorCode | undefined {
  if (type !== 1) return undefined;
  if (code === 1 || code === 5 || code === 6) return 'EACCES';
  return code === 0 ? 'ENETUNREACH' : 'EHOSTUNREACH';
}
