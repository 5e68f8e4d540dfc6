/**
 * Answers that were given before, kept as the octets they came in and given again with their TTLs counted down.
 * RFC 1035 7.4, RFC 2181 5.2, RFC 2308 5. An entry stands for one question with the same bits set (DO, CD, AD, EDNS), so
 * that what one client may see is never shown to another that asked in a different way.
 *
 * A name that does not exist does not for any type (RFC 2308 5), and neither does one below it (RFC 8020 2): one entry says
 * so for all of them. Below, only as far as the servers of the same zone say so, and not to who checks proofs (RFC 8020 6).
 *
 * One entry per hash (keyed with a secret): a collision replaces. Bounded by entries and octets; what was not used since
 * it was last looked at goes first (second chance). No timers: age is looked at when asked.
 */

import { DOUBLE_ZERO } from '../../stack/wire/double.ts';
import { writeBelow } from './absent-name.ts';
import {
  CHECKING_DISABLED,
  DNSSEC_OK,
  HEADER_OCTETS,
  hashName,
  lifetime,
  NXDOMAIN,
  type Query,
  responseCode,
  sameName,
  setId,
  TtlPlaces,
  word,
} from './message.ts';

/** Larger answers are not kept. */
const LARGEST_ANSWER = 8192;
/** What an entry has room for unless it needs more: most answers. */
const ROOM = 128;
const TTLS = 4;
/** Stands for every type; no query can have it. */
const EVERY_TYPE = 0x10000;

class Entry {
  hash = 0;
  /** The answer is its first `length` octets. */
  bytes = new Uint8Array(ROOM);
  length = 0;
  nameEnd = 0;
  type = 0;
  class = 0;
  traits = 0;
  /** The places of its TTLs are the first `ttls` of these. */
  ttlAt = new Uint16Array(TTLS);
  ttls = 0;
  storedMs = DOUBLE_ZERO;
  expiresMs = DOUBLE_ZERO;
  used = false;
  /** Who is looked at before and after it when room is made. */
  before: Entry = this;
  after: Entry = this;
}

export interface DnsCacheLimits {
  readonly entries: number;
  readonly octets: number;
}

export class DnsCache {
  readonly #limits: DnsCacheLimits;
  readonly #entries = new Map<number, Entry>();
  /** Closes the ring of entries: the eldest is after it. (A Map would find its eldest by passing all that were deleted.) */
  readonly #ring = new Entry();
  readonly #ttls = new TtlPlaces();
  /** The entry that went last: its memory is the next one's. */
  #spare: Entry | undefined;
  #octets = 0;
  /** Entries that say that a name does not exist. */
  #absent = 0;
  hits = 0;
  misses = 0;

  constructor(limits: DnsCacheLimits = { entries: 4096, octets: 4 << 20 }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.size;
  }

  clear(): void {
    this.#entries.clear();
    this.#ring.before = this.#ring.after = this.#ring;
    this.#octets = 0;
    this.#absent = 0;
  }

  #hash(query: Query, nameHash: number, type: number): number {
    const mixed = Math.imul(nameHash ^ (type << 16) ^ query.class, 0x9e3779b1) ^ (query.traits << 8);
    return mixed ^ (mixed >>> 13);
  }

  /** What is known of the name at `at` of `bytes` for a query like this one. */
  #find(query: Query, bytes: Uint8Array, at: number, nameHash: number, type: number, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(this.#hash(query, nameHash, type));
    if (
      !entry ||
      entry.nameEnd - HEADER_OCTETS !== query.nameEnd - at ||
      entry.type !== type ||
      entry.class !== query.class ||
      entry.traits !== query.traits ||
      !sameName(entry.bytes, HEADER_OCTETS, bytes, at, query.nameEnd - at)
    )
      return undefined;
    if (entry.expiresMs <= nowMs) {
      this.#remove(entry);
      return undefined;
    }
    entry.used = true;
    return entry;
  }

  /**
   * Writes the answer to `query` (whose octets are `bytes`) to `into`; its length, or -1: not known. `apexOctets`: of the
   * zone's name whose servers are asked; what is known of names above it was said by others.
   */
  answer(query: Query, bytes: Uint8Array, into: Uint8Array, nowMs: number, apexOctets = 1): number {
    const { nameHash, nameEnd, type, traits } = query;
    let entry = this.#find(query, bytes, HEADER_OCTETS, nameHash, type, nowMs);
    if (!entry && this.#absent > 0) entry = this.#find(query, bytes, HEADER_OCTETS, nameHash, EVERY_TYPE, nowMs);
    const written = entry ? this.#giveAgain(entry, query, bytes, into, nowMs) : -1;
    if (written < 0 && this.#absent > 0 && (traits & (DNSSEC_OK | CHECKING_DISABLED)) === 0) {
      let at = HEADER_OCTETS + 1 + bytes[HEADER_OCTETS]!;
      for (; nameEnd - at > 1 && nameEnd - at >= apexOctets; at += 1 + bytes[at]!) {
        const above = hashName(bytes, at, nameEnd, query.seed);
        const absent = this.#find(query, bytes, at, above, EVERY_TYPE, nowMs);
        const length = absent ? writeBelow(absent, query, bytes, into, nowMs) : -1;
        if (length < 0) continue;
        this.hits++;
        return length;
      }
    }
    if (written < 0) this.misses++;
    else this.hits++;
    return written;
  }

  #giveAgain(entry: Entry, query: Query, bytes: Uint8Array, into: Uint8Array, nowMs: number): number {
    const { bytes: answer, length, ttlAt, ttls } = entry;
    for (let i = 0; i < length; i++) into[i] = answer[i]!;
    setId(into, query.id);
    // The question as this client spelt it.
    for (let i = HEADER_OCTETS; i < query.questionEnd; i++) into[i] = bytes[i]!;
    const age = Math.floor((nowMs - entry.storedMs) / 1000);
    for (let i = 0; i < ttls; i++) {
      const at = ttlAt[i]!;
      const ttl = ((answer[at]! << 24) | (answer[at + 1]! << 16) | (answer[at + 2]! << 8) | answer[at + 3]!) - age;
      into[at] = ttl >>> 24;
      into[at + 1] = ttl >>> 16;
      into[at + 2] = ttl >>> 8;
      into[at + 3] = ttl;
    }
    return length;
  }

  /** Keeps `length` octets of an answer to `query` for as long as it says itself. */
  store(query: Query, answer: Uint8Array, length: number, nowMs: number): void {
    if (!query.cacheable || length > Math.min(LARGEST_ANSWER, this.#limits.octets)) return;
    const ttls = this.#ttls;
    const seconds = lifetime(answer, length, query, ttls);
    if (seconds <= 0) return;
    const absent = responseCode(answer) === NXDOMAIN && word(answer, 6) === 0;
    const type = absent ? EVERY_TYPE : query.type;
    // A server that denies a name for want of one type only is put right by its next answer.
    if (!absent && this.#absent > 0) {
      const denied = this.#find(query, answer, HEADER_OCTETS, query.nameHash, EVERY_TYPE, nowMs);
      if (denied) this.#remove(denied);
    }
    const hash = this.#hash(query, query.nameHash, type);
    const before = this.#entries.get(hash);
    if (before) this.#remove(before);
    this.#octets += length;
    this.#makeRoom();
    const entry = this.#spare ?? new Entry();
    this.#spare = undefined;
    if (entry.bytes.length < length) entry.bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) entry.bytes[i] = answer[i]!;
    // What is given again is no longer authoritative. RFC 1035 4.1.1.
    entry.bytes[2]! &= ~0x04;
    entry.hash = hash;
    entry.length = length;
    entry.nameEnd = query.nameEnd;
    entry.type = type;
    entry.class = query.class;
    entry.traits = query.traits;
    if (entry.ttlAt.length < ttls.count) entry.ttlAt = new Uint16Array(ttls.count);
    for (let i = 0; i < ttls.count; i++) entry.ttlAt[i] = ttls.at[i]!;
    entry.ttls = ttls.count;
    entry.storedMs = nowMs;
    entry.expiresMs = nowMs + seconds * 1000;
    entry.used = false;
    this.#entries.set(hash, entry);
    if (absent) this.#absent++;
    this.#append(entry);
  }

  /** For one more entry, whose octets are counted already. */
  #makeRoom(): void {
    while (this.#entries.size >= this.#limits.entries || this.#octets > this.#limits.octets) {
      const entry = this.#ring.after;
      if (entry === this.#ring) return;
      if (entry.used) {
        // Its second chance: to the end of the line.
        entry.used = false;
        unlink(entry);
        this.#append(entry);
      } else this.#remove(entry);
    }
  }

  #append(entry: Entry): void {
    const last = this.#ring.before;
    entry.before = last;
    entry.after = this.#ring;
    last.after = entry;
    this.#ring.before = entry;
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.hash);
    unlink(entry);
    this.#octets -= entry.length;
    if (entry.type === EVERY_TYPE) this.#absent--;
    if (entry.bytes.length === ROOM) this.#spare = entry;
  }
}

function unlink(entry: Entry): void {
  entry.before.after = entry.after;
  entry.after.before = entry.before;
}
