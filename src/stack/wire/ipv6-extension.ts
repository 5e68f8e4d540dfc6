/**
 * Extension headers between the IPv6 header and the transport: hop-by-hop and destination options, routing, fragment.
 * RFC 8200 4, RFC 5095 (routing type 0), RFC 7045 (what is not known), RFC 7112 (the first fragment has them all). A
 * chain of more than `MAX_HEADERS`, or a header with more than `MAX_OPTIONS` options, is hostile (RFC 8504 5.3).
 */

import { NO_NEXT_HEADER } from './ipv6.ts';

export const HOP_BY_HOP = 0;
export const ROUTING = 43;
export const FRAGMENT = 44;
export const DESTINATION_OPTIONS = 60;

/** Of each header: what follows it, and its octets in units of 8 without the first 8. */
export const NEXT_HEADER = 0;
export const LENGTH = 1;
export const FRAGMENT_OCTETS = 8;

const ROUTING_TYPE = 2;
const SEGMENTS_LEFT = 3;
const FRAGMENT_OFFSET = 2;
const FRAGMENT_IDENTIFICATION = 4;
const PAD_1 = 0;
const MAX_HEADERS = 8;
const MAX_OPTIONS = 8;

/** What `walk` finds. */
export const SOUND = 0;
/** To be dropped without a word. */
export const DISCARD = 1;
/** To be dropped, and answered with parameter problem (ICMPv6 type 4) of `code` at `pointer`. */
export const PROBLEM = 2;
/** The same, unless the destination is multicast. */
export const PROBLEM_UNLESS_MULTICAST = 3;

/** Codes of a parameter problem. RFC 4443 3.4, RFC 7112 5. */
export const ERRONEOUS_FIELD = 0;
export const UNRECOGNIZED_NEXT_HEADER = 1;
export const UNRECOGNIZED_OPTION = 2;
export const INCOMPLETE_CHAIN = 3;

export type Finding = 0 | 1 | 2 | 3;

/** A chain that was walked. One record, filled for each packet that has extension headers. */
export class Chain {
  finding: Finding = SOUND;
  /** What follows the last header: the transport. */
  protocol = NO_NEXT_HEADER;
  /** Where it begins, from where the chain does. */
  octets = 0;
  /** Where the fragment header is, from where the chain begins; -1: there is none. */
  fragmentAt = -1;
  /** Where the field is that says what the transport is, from where the chain begins; -1: in the IPv6 header. */
  protocolAt = -1;
  /** Of a problem. The pointer counts from where the chain begins. */
  code = 0;
  pointer = 0;

  /**
   * Walks the headers that begin at `at` with one of kind `first`, `length` octets of them and of what follows being
   * there. What follows the fragment header of a fragment that is not the first is not looked at.
   */
  walk(view: DataView, at: number, first: number, length: number): Finding {
    this.finding = SOUND;
    this.protocol = first;
    this.octets = 0;
    this.fragmentAt = -1;
    this.protocolAt = -1;
    this.code = 0;
    this.pointer = 0;
    for (let headers = 0; isExtension(this.protocol); headers++) {
      if (headers === MAX_HEADERS) return this.#end(DISCARD);
      const kind = this.protocol;
      const begin = this.octets;
      // Hop-by-hop options come first or not at all. RFC 8200 4.1, 4.3.
      if (kind === HOP_BY_HOP && headers > 0) return this.#problem(UNRECOGNIZED_NEXT_HEADER, this.protocolAt);
      if (begin + 8 > length) return this.#problem(INCOMPLETE_CHAIN, 0);
      const octets = kind === FRAGMENT ? FRAGMENT_OCTETS : (view.getUint8(at + begin + LENGTH) + 1) * 8;
      if (begin + octets > length) return this.#problem(INCOMPLETE_CHAIN, 0);
      this.protocol = view.getUint8(at + begin + NEXT_HEADER);
      this.protocolAt = begin + NEXT_HEADER;
      this.octets = begin + octets;
      if (kind === FRAGMENT) {
        // A packet has one fragment header; a second one inside is an attempt at something.
        if (this.fragmentAt >= 0) return this.#end(DISCARD);
        this.fragmentAt = begin;
        if (fragmentOffset(view, at + begin) > 0) return SOUND;
      } else if (kind === ROUTING) {
        // Whatever its type: used up, it is skipped; otherwise nobody here forwards by it. RFC 8200 4.4, RFC 5095 3.
        if (view.getUint8(at + begin + SEGMENTS_LEFT) !== 0)
          return this.#problem(ERRONEOUS_FIELD, begin + ROUTING_TYPE);
      } else if (this.#options(view, at, begin, octets) !== SOUND) return this.finding;
    }
    return SOUND;
  }

  /** Looks at the options of a header; those that are not known say themselves what is to be done. RFC 8200 4.2. */
  #options(view: DataView, at: number, begin: number, octets: number): Finding {
    const end = begin + octets;
    for (let place = begin + 2, options = 0; place < end; options++) {
      const type = view.getUint8(at + place);
      if (type === PAD_1) {
        place++;
        // Padding is not counted: seven octets are all that is ever needed, and the header's end bounds it.
        options--;
        continue;
      }
      if (options >= MAX_OPTIONS) return this.#end(DISCARD);
      if (place + 2 > end || place + 2 + view.getUint8(at + place + 1) > end)
        return this.#problem(ERRONEOUS_FIELD, place);
      // PadN is 1: its action bits say skip, as those of every option that may be ignored.
      const action = type >> 6;
      if (action === 1) return this.#end(DISCARD);
      if (action >= 2) {
        this.code = UNRECOGNIZED_OPTION;
        this.pointer = place;
        return this.#end(action === 2 ? PROBLEM : PROBLEM_UNLESS_MULTICAST);
      }
      place += 2 + view.getUint8(at + place + 1);
    }
    return SOUND;
  }

  #problem(code: number, pointer: number): Finding {
    this.code = code;
    this.pointer = pointer;
    return this.#end(PROBLEM);
  }

  #end(finding: Finding): Finding {
    this.finding = finding;
    return finding;
  }
}

/** Whether a next-header number is one of these headers. */
export const isExtension = (kind: number): boolean =>
  kind === HOP_BY_HOP || kind === ROUTING || kind === FRAGMENT || kind === DESTINATION_OPTIONS;

/** In octets. */
export const fragmentOffset = (view: DataView, at: number): number => view.getUint16(at + FRAGMENT_OFFSET) & 0xfff8;
export const moreFragments = (view: DataView, at: number): boolean => (view.getUint16(at + FRAGMENT_OFFSET) & 1) !== 0;
export const identification = (view: DataView, at: number): number => view.getUint32(at + FRAGMENT_IDENTIFICATION);

/** Writes a fragment header. `offset` in octets, a multiple of 8. */
export function emitFragment(
  view: DataView,
  at: number,
  nextHeader: number,
  offset: number,
  more: boolean,
  identification: number,
): void {
  view.setUint16(at + NEXT_HEADER, nextHeader << 8);
  view.setUint16(at + FRAGMENT_OFFSET, offset | (more ? 1 : 0));
  view.setUint32(at + FRAGMENT_IDENTIFICATION, identification);
}
