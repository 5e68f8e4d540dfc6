/**
 * Blocks of a pcapng file (draft-ietf-opsawg-pcapng). Little-endian throughout, Ethernet link type, timestamps in
 * nanoseconds since 1970. A packet block is written into the caller's memory, so that a frame is copied once.
 */

/** What a packet block says of its frame beside the octets: `epb_flags` (4.3.1). */
export const INBOUND = 1;
export const OUTBOUND = 2;
/** The sender left the checksum to its link. */
export const CHECKSUM_NOT_READY = 1 << 9;
export const CHECKSUM_VALID = 1 << 10;
/** The frame is several segments that nobody has cut yet. */
export const NOT_CUT = 1 << 11;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const INTERFACE_STATISTICS = 5;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINK_TYPE_ETHERNET = 1;

const OPTION_END = 0;
const OPTION_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TSRESOL = 9;
const IF_FILTER = 11;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;
const EPB_FLAGS = 2;
const EPB_DROPCOUNT = 4;

/** Octets of a packet block before its frame. */
export const PACKET_HEAD_OCTETS = 28;
/** The longest comment an option holds is 65535 octets; ours are one line. */
const MAX_TEXT_OCTETS = 4096;

const padded = (octets: number): number => (octets + 3) & ~3;
const utf8 = new TextEncoder();

/** A block's octets put together option by option; for the few blocks that are not packets. */
class Block {
  readonly #bytes: number[] = [];

  constructor(type: number) {
    this.uint32(type).uint32(0);
  }

  uint16(value: number): this {
    this.#bytes.push(value & 0xff, (value >>> 8) & 0xff);
    return this;
  }

  uint32(value: number): this {
    return this.uint16(value & 0xffff).uint16(value >>> 16);
  }

  option(code: number, value: Uint8Array): this {
    this.uint16(code).uint16(value.length);
    for (const octet of value) this.#bytes.push(octet);
    while (this.#bytes.length % 4 !== 0) this.#bytes.push(0);
    return this;
  }

  text(code: number, value: string | undefined): this {
    return value === undefined ? this : this.option(code, textOption(value));
  }

  /** A count of 64 bits. */
  count(code: number, value: number): this {
    this.uint16(code).uint16(8);
    return this.uint32(value >>> 0).uint32(Math.floor(value / 0x1_0000_0000));
  }

  end(): Uint8Array {
    this.uint16(OPTION_END).uint16(0);
    const octets = this.#bytes.length + 4;
    this.uint32(octets);
    const bytes = Uint8Array.from(this.#bytes);
    new DataView(bytes.buffer).setUint32(4, octets, true);
    return bytes;
  }
}

/** A text as an option holds it. */
export function textOption(text: string): Uint8Array {
  const bytes = utf8.encode(text);
  return bytes.length <= MAX_TEXT_OCTETS ? bytes : bytes.subarray(0, MAX_TEXT_OCTETS);
}

/** What a file begins with. 4.1. `application`: who wrote it. */
export function sectionHeader(application: string): Uint8Array {
  const block = new Block(SECTION_HEADER).uint32(BYTE_ORDER_MAGIC).uint16(1).uint16(0);
  // The section's length is not known beforehand.
  return block.uint32(0xffff_ffff).uint32(0xffff_ffff).text(SHB_USERAPPL, application).end();
}

export interface InterfaceDescription {
  readonly name: string;
  readonly description?: string;
  /** Octets of a frame that are kept; 0: all. */
  readonly snapOctets: number;
  /** The filter that frames had to pass, as it was written. */
  readonly filter?: string | undefined;
}

/** An interface; they are numbered from 0 in the order that a section describes them. 4.2. */
export function interfaceDescription({ name, description, snapOctets, filter }: InterfaceDescription): Uint8Array {
  const block = new Block(INTERFACE_DESCRIPTION).uint16(LINK_TYPE_ETHERNET).uint16(0).uint32(snapOctets);
  block.text(IF_NAME, name).text(IF_DESCRIPTION, description).option(IF_TSRESOL, Uint8Array.of(9));
  // The filter's first octet says that it is text for libpcap's filter language.
  if (filter !== undefined) block.option(IF_FILTER, Uint8Array.of(0, ...textOption(filter)));
  return block.end();
}

/** How many frames an interface has seen, and how many of them the capture lost. 4.6. */
export function interfaceStatistics(
  interfaceId: number,
  timestampHigh: number,
  timestampLow: number,
  received: number,
  dropped: number,
): Uint8Array {
  const block = new Block(INTERFACE_STATISTICS).uint32(interfaceId).uint32(timestampHigh).uint32(timestampLow);
  return block.count(ISB_IFRECV, received).count(ISB_IFDROP, dropped).end();
}

/** Octets of a packet block with so many octets of frame; `comment` as `textOption` gives it. 4.3. */
export function packetOctets(captured: number, comment?: Uint8Array, dropped = 0): number {
  const options = 8 + (dropped > 0 ? 12 : 0) + (comment ? 4 + padded(comment.length) : 0) + 4;
  return PACKET_HEAD_OCTETS + padded(captured) + options + 4;
}

/**
 * Writes a packet block but for the frame's octets, which go to `at + PACKET_HEAD_OCTETS`; returns the block's end.
 * `original`: the frame's length on the wire; `dropped`: frames lost since the packet before.
 */
export function emitPacket(
  view: DataView,
  at: number,
  interfaceId: number,
  timestampHigh: number,
  timestampLow: number,
  captured: number,
  original: number,
  flags: number,
  comment?: Uint8Array,
  dropped = 0,
): number {
  const octets = packetOctets(captured, comment, dropped);
  view.setUint32(at, ENHANCED_PACKET, true);
  view.setUint32(at + 4, octets, true);
  view.setUint32(at + 8, interfaceId, true);
  view.setUint32(at + 12, timestampHigh, true);
  view.setUint32(at + 16, timestampLow, true);
  view.setUint32(at + 20, captured, true);
  view.setUint32(at + 24, original, true);
  const pad = padded(captured) - captured;
  let place = at + PACKET_HEAD_OCTETS + captured;
  for (let i = 0; i < pad; i++) view.setUint8(place++, 0);
  place = option(view, place, EPB_FLAGS, 4);
  view.setUint32(place, flags, true);
  place += 4;
  if (dropped > 0) {
    place = option(view, place, EPB_DROPCOUNT, 8);
    view.setUint32(place, dropped >>> 0, true);
    view.setUint32(place + 4, Math.floor(dropped / 0x1_0000_0000), true);
    place += 8;
  }
  if (comment) {
    place = option(view, place, OPTION_COMMENT, comment.length);
    for (const octet of comment) view.setUint8(place++, octet);
    for (let i = comment.length; i < padded(comment.length); i++) view.setUint8(place++, 0);
  }
  place = option(view, place, OPTION_END, 0);
  view.setUint32(place, octets, true);
  return place + 4;
}

function option(view: DataView, at: number, code: number, octets: number): number {
  view.setUint16(at, code, true);
  view.setUint16(at + 2, octets, true);
  return at + 4;
}
