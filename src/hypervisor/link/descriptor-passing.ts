/** One descriptor, with a short text, through a unix socket: sendmsg and recvmsg with SCM_RIGHTS. See unix(7), cmsg(3). */

import { addressOfBuffer } from '../../native/memory.ts';
import {
  AF_UNIX,
  codeOf,
  EAGAIN,
  EINTR,
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  recvmsg,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOL_SOCKET,
  sendmsg,
  socketpair,
} from '../../native/system-calls.ts';

const LONGEST_TEXT = 256;
/** struct msghdr, one struct iovec, one control message with one descriptor, the text: in one piece of memory. */
const IOVEC_AT = 56;
const CONTROL_AT = IOVEC_AT + 16;
const CONTROL_OCTETS = 24;
const DESCRIPTOR_AT = CONTROL_AT + 16;
const TEXT_AT = CONTROL_AT + CONTROL_OCTETS;
const CONTROL_LENGTH = 20;

function message(textOctets: number): { memory: ArrayBuffer; view: DataView; address: number } {
  const memory = new ArrayBuffer(TEXT_AT + LONGEST_TEXT);
  const view = new DataView(memory);
  const address = addressOfBuffer(memory);
  const word = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  word(16, address + IOVEC_AT);
  word(24, 1);
  word(32, address + CONTROL_AT);
  word(40, CONTROL_OCTETS);
  word(IOVEC_AT, address + TEXT_AT);
  word(IOVEC_AT + 8, textOctets);
  return { memory, view, address };
}

/** Two connected sockets that keep messages apart; both close on exec. */
export function messageSocketPair(nonBlocking = false): readonly [number, number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  const result = socketpair(
    AF_UNIX,
    SOCK_SEQPACKET | SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0),
    0,
    addressOfBuffer(pair.buffer),
  );
  if (result < 0) throw new Error(`cannot make a pair of sockets: ${codeOf(result)}`);
  return [pair[0]!, pair[1]!];
}

export function sendDescriptor(socket: number, descriptor: number, text: string): void {
  const octets = Buffer.from(text);
  const { memory, view, address } = message(octets.length);
  new Uint8Array(memory).set(octets, TEXT_AT);
  view.setUint32(CONTROL_AT, CONTROL_LENGTH, true);
  view.setInt32(CONTROL_AT + 8, SOL_SOCKET, true);
  view.setInt32(CONTROL_AT + 12, SCM_RIGHTS, true);
  view.setInt32(DESCRIPTOR_AT, descriptor, true);
  const result = sendmsg(socket, address, MSG_NOSIGNAL);
  if (result < 0) throw new Error(`cannot pass a descriptor on: ${codeOf(result)}`);
}

/** What has come, without waiting; undefined: nothing yet; 'end': the other end is gone, or sent no descriptor. */
export function receiveDescriptor(socket: number): { descriptor: number; text: string } | 'end' | undefined {
  const { memory, view, address } = message(LONGEST_TEXT);
  const result = recvmsg(socket, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (result === EAGAIN || result === EINTR) return undefined;
  const passed = view.getUint32(40, true) >= CONTROL_LENGTH && view.getInt32(CONTROL_AT + 12, true) === SCM_RIGHTS;
  if (result <= 0 || !passed) return 'end';
  return { descriptor: view.getInt32(DESCRIPTOR_AT, true), text: Buffer.from(memory, TEXT_AT, result).toString() };
}
