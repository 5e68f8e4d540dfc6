/**
 * Memory that C is given the address of. What C keeps (iovec, epoll_event and mmsghdr arrays) must be a `Place`, or
 * otherwise stay referenced for as long as C may use it; where C looks only during the call, `addressOf` will do.
 */

import koffi from 'koffi';

/** Memory that C is given the address of, for as long as this object lives. */
export class Place {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;

  constructor(octets: number) {
    const buffer = new ArrayBuffer(octets);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.address = Number(koffi.address(buffer));
  }

  /** A pointer or size_t. */
  setPointer(offset: number, address: number): void {
    this.view.setUint32(offset, address >>> 0, true);
    this.view.setUint32(offset + 4, Math.floor(address / 0x1_0000_0000), true);
  }
}

const addresses = new WeakMap<ArrayBufferLike, number>();

/** Where the octets of a view begin. Valid for as long as its buffer is referenced (and neither detached nor grown). */
export function addressOf(bytes: Uint8Array): number {
  const { buffer } = bytes;
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = Number(koffi.address(buffer as ArrayBuffer));
    addresses.set(buffer, address);
  }
  return address + bytes.byteOffset;
}

/** Where an ArrayBuffer's octets are. The caller keeps it referenced. */
export function addressOfBuffer(buffer: ArrayBuffer): number {
  return Number(koffi.address(buffer));
}

/** Mapped memory as an ArrayBuffer; it must not be touched after `munmap`. */
export function viewOf(address: number, octets: number): ArrayBuffer {
  return koffi.view(BigInt(address), octets);
}
