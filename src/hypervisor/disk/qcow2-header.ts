/**
 * The head of a qcow2 image (QEMU docs/interop/qcow2.txt): as much as tells whether a file is a data disk that QEMU
 * may be given. Read by us, before QEMU, so that a damaged file is told by name and remedy, and so that a file that
 * somebody put there cannot name another file of the host as its backing or data file.
 */

/** Octets that hold every field read here. */
export const QCOW2_HEADER_OCTETS = 104;

const MAGIC = 0x514649fb;
const INCOMPATIBLE_CORRUPT = 1n << 1n;
const INCOMPATIBLE_EXTERNAL_DATA = 1n << 2n;

export interface Qcow2Header {
  readonly version: 2 | 3;
  /** The disk's size as the guest sees it, in octets. */
  readonly virtualOctets: number;
}

/** What is wrong with a header: 'corrupt' is QEMU's own mark, which `qemu-img check -r` can clear. */
export type Qcow2Fault = 'not-qcow2' | 'version' | 'corrupt' | 'refers-to-another-file' | 'encrypted' | 'size';

export function parseQcow2Header(octets: Uint8Array): Qcow2Header | Qcow2Fault {
  if (octets.length < 72) return 'not-qcow2';
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  if (view.getUint32(0) !== MAGIC) return 'not-qcow2';
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) return 'version';
  if (version === 3 && octets.length < QCOW2_HEADER_OCTETS) return 'not-qcow2';
  const incompatible = version === 3 ? view.getBigUint64(72) : 0n;
  if (incompatible & INCOMPATIBLE_CORRUPT) return 'corrupt';
  if (view.getBigUint64(8) !== 0n || incompatible & INCOMPATIBLE_EXTERNAL_DATA) return 'refers-to-another-file';
  if (view.getUint32(32) !== 0) return 'encrypted';
  const size = view.getBigUint64(24);
  if (size === 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) return 'size';
  return { version, virtualOctets: Number(size) };
}
