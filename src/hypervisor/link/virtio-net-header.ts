/**
 * The header before each frame of a virtio network device (virtio 1.2 5.1.6): what sender and receiver leave to each
 * other. Ten octets (flags, segmentation, header length, segment size, checksum start and offset), and with VERSION_1
 * or MRG_RXBUF two more that count the buffers a received frame lies in.
 */

import { CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, CHECKSUM_VERIFIED } from '../../stack/port.ts';

const FLAGS = 0;
const SEGMENTATION = 1;
const HEADER_OCTETS = 2;
const SEGMENT_OCTETS = 4;
const CHECKSUM_START = 6;
const CHECKSUM_OFFSET = 8;
const NEEDS_CHECKSUM = 1;
const CHECKSUM_GOOD = 2;
const SEGMENT_TCP4 = 1;
const SEGMENT_TCP6 = 4;
const ETHERNET_HEADER = 14;
/** Where a TCP header has its own length. */
const TCP_DATA_OFFSET = 12;

/** What the sender of a frame says of its checksum: CHECKSUM_*. */
export function checksumState(view: DataView, at: number): number {
  const flags = view.getUint8(at + FLAGS);
  if ((flags & NEEDS_CHECKSUM) !== 0) return CHECKSUM_PARTIAL;
  return (flags & CHECKSUM_GOOD) !== 0 ? CHECKSUM_VERIFIED : CHECKSUM_UNKNOWN;
}

/** Segment size of a frame that its sender did not cut, else 0. */
export function segmentSize(view: DataView, at: number): number {
  return view.getUint8(at + SEGMENTATION) === 0 ? 0 : view.getUint16(at + SEGMENT_OCTETS, true);
}

/** Writes the first ten octets for a frame that lies at `frameAt` of `frame`, in the terms of `LinkPort.commit`. */
export function emitHeader(
  view: DataView,
  at: number,
  frame: DataView,
  frameAt: number,
  checksumStart: number,
  checksumOffset: number,
  segmentOctets: number,
): void {
  view.setUint32(at, 0);
  view.setUint32(at + 4, 0);
  view.setUint16(at + 8, 0);
  if (checksumStart > 0) {
    view.setUint8(at + FLAGS, NEEDS_CHECKSUM);
    view.setUint16(at + CHECKSUM_START, checksumStart, true);
    view.setUint16(at + CHECKSUM_OFFSET, checksumOffset, true);
  }
  if (segmentOctets > 0) {
    const version = frame.getUint8(frameAt + ETHERNET_HEADER) >> 4;
    view.setUint8(at + SEGMENTATION, version === 6 ? SEGMENT_TCP6 : SEGMENT_TCP4);
    const tcpOctets = (frame.getUint8(frameAt + checksumStart + TCP_DATA_OFFSET) >> 4) << 2;
    view.setUint16(at + HEADER_OCTETS, checksumStart + tcpOctets, true);
    view.setUint16(at + SEGMENT_OCTETS, segmentOctets, true);
  }
}
