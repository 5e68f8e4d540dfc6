/**
 * The header of a virtio-vsock packet. Virtio 1.2 section 5.10.6: 44 octets, little-endian, then `len` octets of data.
 * A header in guest memory is copied out field by field, once, and only the copy is looked at.
 */

import type { GuestFragment } from '../vhost-user/guest-memory.ts';
import type { IoVector } from '../vhost-user/io-vector.ts';
import type { DescriptorChain } from '../vhost-user/virtqueue.ts';

export const packetHeaderOctets = 44;

export const hostCid = 2;
export const typeStream = 1;

/** VIRTIO_VSOCK_OP_*. */
export const op = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

/** VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE and _SEND: the sender of the flag will not receive, or send, any more. */
export const shutdownReceive = 1;
export const shutdownSend = 2;
export const shutdownBoth = 3;

/** Reused; addresses above 2^53 are no peer of ours and read as -1. */
export interface PacketHeader {
  srcCid: number;
  dstCid: number;
  srcPort: number;
  dstPort: number;
  len: number;
  type: number;
  op: number;
  flags: number;
  bufAlloc: number;
  fwdCnt: number;
}

export function emptyHeader(): PacketHeader {
  return {
    srcCid: 0,
    dstCid: 0,
    srcPort: 0,
    dstPort: 0,
    len: 0,
    type: typeStream,
    op: 0,
    flags: 0,
    bufAlloc: 0,
    fwdCnt: 0,
  };
}

function cidAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) === 0 ? view.getUint32(at, true) : -1;
}

export function parsePacketHeader(view: DataView, at: number, into: PacketHeader): void {
  into.srcCid = cidAt(view, at);
  into.dstCid = cidAt(view, at + 8);
  into.srcPort = view.getUint32(at + 16, true);
  into.dstPort = view.getUint32(at + 20, true);
  into.len = view.getUint32(at + 24, true);
  into.type = view.getUint16(at + 28, true);
  into.op = view.getUint16(at + 30, true);
  into.flags = view.getUint32(at + 32, true);
  into.bufAlloc = view.getUint32(at + 36, true);
  into.fwdCnt = view.getUint32(at + 40, true);
}

export function emitPacketHeader(view: DataView, at: number, header: PacketHeader): void {
  view.setUint32(at, header.srcCid, true);
  view.setUint32(at + 4, 0, true);
  view.setUint32(at + 8, header.dstCid, true);
  view.setUint32(at + 12, 0, true);
  view.setUint32(at + 16, header.srcPort, true);
  view.setUint32(at + 20, header.dstPort, true);
  view.setUint32(at + 24, header.len, true);
  view.setUint16(at + 28, header.type, true);
  view.setUint16(at + 30, header.op, true);
  view.setUint32(at + 32, header.flags, true);
  view.setUint32(at + 36, header.bufAlloc, true);
  view.setUint32(at + 40, header.fwdCnt, true);
}

/** Copies octets between a run of guest fragments and a small buffer: for headers a guest has cut across buffers. */
export function copyOut(fragments: readonly GuestFragment[], from: number, to: number, into: Uint8Array): void {
  let have = 0;
  for (let index = from; index < to && have < into.length; index++) {
    const { region, offset, length } = fragments[index]!;
    const here = Math.min(length, into.length - have);
    into.set(region.bytes.subarray(offset, offset + here), have);
    have += here;
  }
}

export function copyIn(fragments: readonly GuestFragment[], from: number, to: number, octets: Uint8Array): void {
  let done = 0;
  for (let index = from; index < to && done < octets.length; index++) {
    const { region, offset, length } = fragments[index]!;
    const here = Math.min(length, octets.length - done);
    region.bytes.set(octets.subarray(done, done + here), offset);
    done += here;
  }
}

/** Appends `octets` of a packet's data to a vector: the chain's fragments from `first` on, without the header. */
export function addPayload(vector: IoVector, chain: DescriptorChain, first: number, octets: number): void {
  let skip = packetHeaderOctets;
  let left = octets;
  for (let index = first; index < chain.count && left > 0; index++) {
    const { region, offset, length } = chain.fragments[index]!;
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const here = Math.min(left, length - skip);
    vector.add(region, offset + skip, here);
    left -= here;
    skip = 0;
  }
}
