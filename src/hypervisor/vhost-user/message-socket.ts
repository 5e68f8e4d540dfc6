/**
 * One front end's connection: frames vhost-user messages out of a unix stream socket, with the descriptors that come by
 * SCM_RIGHTS, and writes replies. A message is read in two steps, header then payload, so that a read never takes a
 * part of the next message, whose descriptors would come with it.
 */

import { addressOfBuffer } from '../../native/memory.ts';
import {
  close,
  codeOf,
  EAGAIN,
  EINTR,
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  recvmsg,
  SCM_RIGHTS,
  SOL_SOCKET,
  sendmsg,
} from '../../native/system-calls.ts';
import {
  flagVersion,
  flagVersionMask,
  headerOctets,
  type Message,
  maxDescriptors,
  maxPayloadOctets,
} from './message.ts';

const msghdrOctets = 56;
const cmsgHeaderOctets = 16;
const controlOctets = cmsgHeaderOctets + maxDescriptors * 4;
const iovecAt = msghdrOctets;
const controlAt = iovecAt + 16;
const dataAt = controlAt + controlOctets;

export class MessageSocket {
  readonly fd: number;
  /** struct msghdr, one struct iovec, the control area, then the message. */
  readonly #memory = new ArrayBuffer(dataAt + headerOctets + maxPayloadOctets);
  readonly #view = new DataView(this.#memory);
  readonly #address = addressOfBuffer(this.#memory);
  #have = 0;
  #descriptors: number[] = [];

  constructor(fd: number) {
    this.fd = fd;
  }

  /** The next whole message; undefined: not yet; a string: the connection is over, for that reason. */
  receive(): Message | string | undefined {
    for (;;) {
      let wanted = headerOctets;
      if (this.#have >= headerOctets) {
        const size = this.#view.getUint32(dataAt + 8, true);
        if (size > maxPayloadOctets) return `a message of ${size} octets`;
        wanted += size;
        if (this.#have === wanted) return this.#take(size);
      }
      const result = this.#read(wanted - this.#have);
      if (result === EAGAIN) return undefined;
      if (result === EINTR) continue;
      if (result < 0) return `recvmsg: ${codeOf(result)}`;
      if (result === 0) return 'the front end hung up';
      this.#have += result;
    }
  }

  #take(size: number): Message | string {
    const flags = this.#view.getUint32(dataAt + 4, true);
    const descriptors = this.#descriptors;
    this.#have = 0;
    this.#descriptors = [];
    if ((flags & flagVersionMask) !== flagVersion) {
      for (const fd of descriptors) close(fd);
      return `protocol version ${flags & flagVersionMask}`;
    }
    return {
      request: this.#view.getUint32(dataAt, true),
      flags,
      payload: new DataView(this.#memory, dataAt + headerOctets, size),
      descriptors,
    };
  }

  #read(octets: number): number {
    this.#prepare(dataAt + this.#have, octets, controlOctets);
    const result = recvmsg(this.fd, this.#address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (result > 0) this.#collect();
    return result;
  }

  /** Takes the descriptors out of the control area. */
  #collect(): void {
    const used = this.#view.getUint32(40, true);
    for (let at = 0; at + cmsgHeaderOctets <= used; ) {
      const length = this.#view.getUint32(controlAt + at, true);
      if (length < cmsgHeaderOctets || at + length > used) break;
      if (
        this.#view.getInt32(controlAt + at + 8, true) === SOL_SOCKET &&
        this.#view.getInt32(controlAt + at + 12, true) === SCM_RIGHTS
      )
        for (let fdAt = cmsgHeaderOctets; fdAt + 4 <= length; fdAt += 4)
          this.#descriptors.push(this.#view.getInt32(controlAt + at + fdAt, true));
      at += (length + 7) & ~7;
    }
  }

  /** Sends a message; replies are small and the front end waits for them, so a full socket is an error. */
  send(request: number, flags: number, payload: Uint8Array, descriptors: readonly number[] = []): boolean {
    // The receive area holds nothing between messages, but may hold a part of one: send from memory of its own.
    const memory = new ArrayBuffer(dataAt + headerOctets + payload.length);
    const view = new DataView(memory);
    view.setUint32(dataAt, request, true);
    view.setUint32(dataAt + 4, flags | flagVersion, true);
    view.setUint32(dataAt + 8, payload.length, true);
    new Uint8Array(memory, dataAt + headerOctets).set(payload);
    const control = descriptors.length > 0 ? cmsgHeaderOctets + descriptors.length * 4 : 0;
    const address = addressOfBuffer(memory);
    fillHeader(view, address, dataAt, headerOctets + payload.length, (control + 7) & ~7);
    if (control > 0) {
      view.setUint32(controlAt, control, true);
      view.setInt32(controlAt + 8, SOL_SOCKET, true);
      view.setInt32(controlAt + 12, SCM_RIGHTS, true);
      descriptors.forEach((fd, index) => {
        view.setInt32(controlAt + cmsgHeaderOctets + index * 4, fd, true);
      });
    }
    const result = sendmsg(this.fd, address, MSG_NOSIGNAL);
    return result === headerOctets + payload.length;
  }

  #prepare(at: number, octets: number, control: number): void {
    fillHeader(this.#view, this.#address, at, octets, control);
  }

  /** Closes the socket, and descriptors that came with a message not yet whole. */
  close(): void {
    for (const fd of this.#descriptors.splice(0)) close(fd);
    close(this.fd);
  }
}

/** Writes struct msghdr and its iovec for [at, at + octets) of the memory at `address`. */
function fillHeader(view: DataView, address: number, at: number, octets: number, control: number): void {
  const pointer = (offset: number, value: number) => {
    view.setUint32(offset, value >>> 0, true);
    view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
  };
  pointer(0, 0);
  pointer(8, 0);
  pointer(16, address + iovecAt);
  pointer(24, 1);
  pointer(32, control > 0 ? address + controlAt : 0);
  pointer(40, control);
  pointer(48, 0);
  pointer(iovecAt, address + at);
  pointer(iovecAt + 8, octets);
}
