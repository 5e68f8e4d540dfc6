/**
 * Echo requests through Linux's ping sockets (icmp(7): SOCK_DGRAM, IPPROTO_ICMP), which need no privilege where
 * net.ipv4.ping_group_range has the user's group in it; elsewhere `open` finds none. The kernel puts the identifier and
 * the checksum in and lets a socket have the replies to its own requests only. ICMP errors about them come by the
 * socket's error queue (IP_RECVERR).
 *
 * Memory that the kernel is told of by address is held by this object.
 */

import type { Address, FragmentList } from '../../stack/port.ts';
import { isIpv4, ofIpv4 } from '../../stack/wire/address.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket, HostErrorCode } from '../port.ts';
import { LinuxReadiness, type ReadyHandler } from './linux-readiness.ts';
import {
  AF_INET,
  close,
  codeOf,
  decodeAddress,
  EPOLLIN,
  encodeAddress,
  IOVEC,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_ICMP,
  IPPROTO_IP,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSGHDR,
  Place,
  recvfrom,
  recvmsg,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sendto,
  setsockopt,
  socket,
} from './linux-socket.ts';

const SO_EE_ORIGIN_ICMP = 2;
/** SO_EE_OFFENDER: whom an error came from, behind struct cmsghdr and struct sock_extended_err. */
const OFFENDER = 32;

const ECHO_REQUEST = 8;
const DESTINATION_UNREACHABLE = 3;
const TIME_EXCEEDED = 11;
const HEADER = 8;
const LARGEST = 65507;
const SOCKADDR_IN = 16;
const CONTROL = 256;

class LinuxEchoSocket implements HostEchoSocket, ReadyHandler {
  owner: unknown = undefined;
  hopLimit = 0;
  registration = -1;
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
    this.#echo.closeSocket(this);
  }

  ready(): void {
    this.#echo.ready(this);
  }
}

export class LinuxEcho implements HostEchoPort {
  readonly #readiness: LinuxReadiness;
  readonly #packet = new Place(HEADER + LARGEST);
  readonly #peer = new Place(SOCKADDR_IN);
  readonly #word = new Place(4);
  readonly #message = new Place(MSGHDR);
  readonly #vector = new Place(IOVEC);
  readonly #control = new Place(CONTROL);

  /** `serviced` is told after handlers were called. */
  constructor(serviced: () => void) {
    this.#readiness = new LinuxReadiness(serviced);
    this.#vector.setPointer(0, this.#packet.address);
    this.#vector.setPointer(8, this.#packet.bytes.length);
  }

  open(handler: HostEchoHandler): HostEchoSocket | HostErrorCode {
    const fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (fd < 0) return codeOf(fd);
    this.#option(fd, IP_RECVERR, 1);
    const opened = new LinuxEchoSocket(fd, handler, this);
    opened.registration = this.#readiness.add(fd, EPOLLIN, opened, false);
    if (opened.registration >= 0) return opened;
    close(fd);
    return codeOf(opened.registration);
  }

  send(from: LinuxEchoSocket, address: Address, sequence: number, hopLimit: number, payload: FragmentList): boolean {
    if (from.registration < 0 || !isIpv4(address) || payload.octets > LARGEST) return false;
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
    encodeAddress(this.#peer, address, 0);
    // An error that is waiting for an earlier request fails this call once, and is in the error queue too.
    for (let tries = 0; tries < 2; tries++)
      if (sendto(from.fd, this.#packet.address, end, MSG_DONTWAIT, this.#peer.address, SOCKADDR_IN) >= 0) return true;
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

  close(): void {
    this.#readiness.close();
  }

  #option(fd: number, option: number, value: number): void {
    this.#word.view.setInt32(0, value, true);
    setsockopt(fd, IPPROTO_IP, option, this.#word.address, 4);
  }

  #replies(socket: LinuxEchoSocket): void {
    const { bytes, view, address } = this.#packet;
    for (;;) {
      this.#word.view.setInt32(0, SOCKADDR_IN, true);
      const octets = recvfrom(socket.fd, address, bytes.length, MSG_DONTWAIT, this.#peer.address, this.#word.address);
      if (octets < HEADER || socket.registration < 0) return;
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
      message.view.setUint32(8, SOCKADDR_IN, true);
      message.setPointer(16, this.#vector.address);
      message.setPointer(24, 1);
      message.setPointer(32, this.#control.address);
      message.setPointer(40, CONTROL);
      const octets = recvmsg(socket.fd, message.address, MSG_ERRQUEUE | MSG_DONTWAIT);
      if (octets < 0 || socket.registration < 0) return;
      const isError = control.getInt32(8, true) === IPPROTO_IP && control.getInt32(12, true) === IP_RECVERR;
      if (octets < HEADER || !isError || message.view.getUint32(40, true) < 32) continue;
      const [origin, type, code] = [control.getUint8(20), control.getUint8(21), control.getUint8(22)];
      const to = ofIpv4(this.#peer.view.getInt32(4));
      const sequence = this.#packet.view.getUint16(6);
      if (origin === SO_EE_ORIGIN_ICMP && type === TIME_EXCEEDED) {
        const router = decodeAddress(control, OFFENDER);
        if (router) socket.handler.expired(socket, to, sequence, router);
        continue;
      }
      const reason = origin === SO_EE_ORIGIN_ICMP ? icmpCode(type, code) : codeOf(control.getUint32(16, true));
      if (reason !== undefined) socket.handler.failed(socket, to, sequence, reason);
    }
  }
}

/** RFC 1122 3.2.2.1; undefined: not about reachability. */
function icmpCode(type: number, code: number): HostErrorCode | undefined {
  if (type !== DESTINATION_UNREACHABLE) return undefined;
  if (code === 9 || code === 10 || code === 13) return 'EACCES';
  return code === 0 || code === 6 || code === 11 ? 'ENETUNREACH' : 'EHOSTUNREACH';
}
