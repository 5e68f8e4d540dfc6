/**
 * DNS messages as octets, as far as a forwarder reads them: header, question, EDNS, and the walk over records that finds
 * TTLs. RFC 1035 4, RFC 6891. Everything is bounded by the message; nothing throws. Names are never expanded: a name is
 * compared and copied as it stands on the wire, without regard to the case of ASCII letters (RFC 4343).
 */

export const HEADER_OCTETS = 12;
export const LARGEST_MESSAGE = 65_535;
/** What a client without EDNS takes over UDP. RFC 1035 4.2.1. */
const PLAIN_LIMIT = 512;
/** What we say we take, in answers of our own: no fragments on any usual path. */
const OUR_UDP_SIZE = 1232;

export const TYPE_SOA = 6;
export const CLASS_IN = 1;
/** EDNS' bit in `Query.traits` that asks for DNSSEC's records. */
export const DNSSEC_OK = 0x80;
/** The header's bit that asks for what does not hold as well. */
export const CHECKING_DISABLED = 0x10;
const TYPE_OPT = 41;
const TYPE_ANY = 255;

export const NOERROR = 0;
export const FORMERR = 1;
export const SERVFAIL = 2;
export const NXDOMAIN = 3;
export const NOTIMP = 4;
export const REFUSED = 5;

export const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
export const double = (bytes: Uint8Array, at: number): number => word(bytes, at) * 0x10000 + word(bytes, at + 2);
export const lower = (octet: number): number => (octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet);

export const id = (bytes: Uint8Array): number => word(bytes, 0);
export const isResponse = (bytes: Uint8Array): boolean => (bytes[2]! & 0x80) !== 0;
/** Opcode QUERY: not an update or a notification. RFC 1035 4.1.1. */
export const isQuestion = (bytes: Uint8Array): boolean => (bytes[2]! & 0x78) === 0;
export const isTruncated = (bytes: Uint8Array): boolean => (bytes[2]! & 0x02) !== 0;
/** Without the upper bits that EDNS adds. */
export const responseCode = (bytes: Uint8Array): number => bytes[3]! & 0x0f;

export function setId(bytes: Uint8Array, value: number): void {
  bytes[0] = value >> 8;
  bytes[1] = value;
}

/** Whether two names of `length` wire octets are the same. Length octets are below 'A', so that all octets may be folded. */
export function sameName(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (lower(a[aAt + i]!) !== lower(b[bAt + i]!)) return false;
  return true;
}

/** A name's hash as `Query.nameHash` is: of the octets from `at` to `end`, which are a name without pointers. */
export function hashName(bytes: Uint8Array, at: number, end: number, seed: number): number {
  let hash = seed;
  for (let i = at; i < end; i++) hash = Math.imul(hash ^ lower(bytes[i]!), 0x01000193);
  return hash ^ (hash >>> 15);
}

/**
 * Writes the name at `at` to `into` at `to`, its pointers followed; the offset after it, or -1. A pointer leads back
 * (RFC 1035 4.1.4: to a prior occurrence), so that there is an end.
 */
export function expandName(bytes: Uint8Array, at: number, length: number, into: Uint8Array, to: number): number {
  let i = at;
  let before = at;
  let out = to;
  while (i < length && out - to < 255) {
    const octet = bytes[i]!;
    if (octet >= 0xc0) {
      const target = ((octet & 0x3f) << 8) | (bytes[i + 1] ?? 0);
      if (i + 2 > length || target >= before || target < HEADER_OCTETS) return -1;
      before = i = target;
      continue;
    }
    if (octet > 63 || i + octet + 1 > length || out + octet + 1 - to > 255) return -1;
    for (let end = i + octet; i <= end; i++) into[out++] = bytes[i]!;
    if (octet === 0) return out;
  }
  return -1;
}

/** The question's name as text in lower case; undefined when a label holds a dot or is not ASCII text: no name of ours. */
export function nameText(bytes: Uint8Array, query: Query): string | undefined {
  let text = '';
  let i = HEADER_OCTETS;
  while (i < query.nameEnd - 1) {
    const end = i + 1 + bytes[i]!;
    if (text !== '') text += '.';
    for (i++; i < end; i++) {
      const octet = lower(bytes[i]!);
      if (octet <= 0x20 || octet >= 0x7f || octet === 0x2e) return undefined;
      text += String.fromCharCode(octet);
    }
  }
  return text;
}

/** The offset after the name at `at`, or -1. A pointer ends a name (RFC 1035 4.1.4) and is not followed. */
export function skipName(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end) {
    const octet = bytes[i]!;
    if (octet === 0) return i + 1;
    if (octet >= 0xc0) return i + 2 <= end ? i + 2 : -1;
    if (octet > 63) return -1;
    i += octet + 1;
  }
  return -1;
}

/** What `parse` found in a query. Made once and used again. */
export class Query {
  id = 0;
  /** The question could be read; if not, only the header's fields hold. */
  sound = false;
  /** Offsets: after the question's name (which begins at 12), after the question. */
  nameEnd = 0;
  questionEnd = 0;
  type = 0;
  class = 0;
  /** Of the name, folded, and what it is keyed with. */
  nameHash = 0;
  seed = 0;
  /** The bits of the query that its answer depends on: recursion, authentic data, checking disabled, EDNS, DNSSEC OK. */
  traits = 0;
  hasEdns = false;
  /** Octets that the client takes over UDP. */
  udpLimit = PLAIN_LIMIT;
  /** A plain question whose answer may be kept and given to others. */
  cacheable = false;

  /** Reads `length` octets of `bytes`; false: not a query at all. `seed` keys the hash. */
  parse(bytes: Uint8Array, length: number, seed: number): boolean {
    if (length < HEADER_OCTETS || isResponse(bytes)) return false;
    this.id = word(bytes, 0);
    this.sound = false;
    this.cacheable = false;
    this.hasEdns = false;
    this.udpLimit = PLAIN_LIMIT;
    if (word(bytes, 4) !== 1) return true;
    let hash = seed;
    this.seed = seed;
    let i = HEADER_OCTETS;
    const last = Math.min(length - 5, HEADER_OCTETS + 254);
    for (;;) {
      if (i > last) return true;
      const label = bytes[i]!;
      if (label > 63) return true;
      hash = Math.imul(hash ^ label, 0x01000193);
      i++;
      if (label === 0) break;
      const end = i + label;
      if (end > last) return true;
      for (; i < end; i++) hash = Math.imul(hash ^ lower(bytes[i]!), 0x01000193);
    }
    this.nameEnd = i;
    this.nameHash = hash ^ (hash >>> 15);
    this.type = word(bytes, i);
    this.class = word(bytes, i + 2);
    this.questionEnd = i + 4;
    this.sound = true;
    const additional = word(bytes, 10);
    const noRecords = word(bytes, 6) === 0 && word(bytes, 8) === 0;
    // Opcode QUERY, neither AA nor TC, no record but EDNS; RD set, or the answer is not the one others want.
    const plain = (bytes[2]! & 0x7f) === 0x01 && noRecords && additional <= 1;
    this.traits = (bytes[2]! & 0x01) | (bytes[3]! & 0x30);
    const simple = this.#readEdns(bytes, length, word(bytes, 6) + word(bytes, 8), additional);
    this.cacheable = plain && simple;
    return true;
  }

  /** Looks for OPT among the additional records; whether there is nothing else and nothing odd in it. RFC 6891 6.1. */
  #readEdns(bytes: Uint8Array, length: number, before: number, additional: number): boolean {
    let i = this.questionEnd;
    if (additional === 0) return i === length;
    for (let record = 0; record < before + additional; record++) {
      const at = skipName(bytes, i, length);
      if (at < 0 || at + 10 > length) return false;
      const end = at + 10 + word(bytes, at + 8);
      if (end > length) return false;
      if (record >= before && word(bytes, at) === TYPE_OPT && bytes[i] === 0) {
        this.hasEdns = true;
        this.udpLimit = Math.max(PLAIN_LIMIT, word(bytes, at + 2));
        this.traits |= 0x100 | (bytes[at + 6]! & 0x80);
        // Another version, or options (cookies, client subnet): for the server only.
        return word(bytes, at + 4) === 0 && (word(bytes, at + 6) & 0x7fff) === 0 && end === at + 10 && end === length;
      }
      i = end;
    }
    return false;
  }
}

/** Whether `answer` is a response to the query: same id, opcode and question. RFC 5452 9.1. */
export function answers(answer: Uint8Array, length: number, query: Uint8Array, questionEnd: number): boolean {
  if (length < HEADER_OCTETS || !isResponse(answer) || word(answer, 0) !== word(query, 0)) return false;
  if ((answer[2]! & 0x78) !== (query[2]! & 0x78)) return false;
  // Some servers leave the question out of an error.
  if (word(answer, 4) === 0) return responseCode(answer) !== NOERROR && word(answer, 6) === 0;
  if (word(answer, 4) !== word(query, 4) || length < questionEnd) return false;
  // The question's type and class hold no letters that folding could confuse: they are compared exactly.
  const nameOctets = questionEnd - 4 - HEADER_OCTETS;
  if (!sameName(answer, HEADER_OCTETS, query, HEADER_OCTETS, nameOctets)) return false;
  for (let i = questionEnd - 4; i < questionEnd; i++) if (answer[i] !== query[i]) return false;
  return true;
}

/** Longest that a negative answer (RFC 2308 5) and any other is kept, in seconds. */
const NEGATIVE_LIMIT = 3 * 3600;
const POSITIVE_LIMIT = 24 * 3600;
const MAX_RECORDS = 256;

/** Where the TTLs of an answer's records are. */
export class TtlPlaces {
  readonly at = new Uint16Array(MAX_RECORDS);
  count = 0;
}

/**
 * For how many seconds an answer may be kept, 0 for not at all; the places of its records' TTLs are written to `ttls`.
 * RFC 1035 3.2.1, RFC 2181 8, and for what does not exist RFC 2308 5: only with an SOA record, for the lesser of its TTL
 * and MINIMUM.
 */
export function lifetime(bytes: Uint8Array, length: number, query: Query, ttls: TtlPlaces): number {
  ttls.count = 0;
  const code = responseCode(bytes);
  if (length < query.questionEnd || isTruncated(bytes) || (code !== NOERROR && code !== NXDOMAIN)) return 0;
  if (word(bytes, 4) !== 1) return 0;
  const answerCount = word(bytes, 6);
  const authorityEnd = answerCount + word(bytes, 8);
  const count = authorityEnd + word(bytes, 10);
  if (count > MAX_RECORDS) return 0;
  let i = query.questionEnd;
  let least = POSITIVE_LIMIT;
  let answered = false;
  let minimum = -1;
  for (let record = 0; record < count; record++) {
    const at = skipName(bytes, i, length);
    if (at < 0 || at + 10 > length) return 0;
    const end = at + 10 + word(bytes, at + 8);
    if (end > length) return 0;
    const type = word(bytes, at);
    if (type === TYPE_OPT) {
      // The upper bits of an extended code: not a plain answer.
      if (bytes[at + 4] !== 0) return 0;
    } else {
      const ttl = double(bytes, at + 4);
      // RFC 2181 8: with the top bit set it is 0.
      if (ttl >= 0x8000_0000) return 0;
      least = Math.min(least, ttl);
      ttls.at[ttls.count++] = at + 4;
      if (record < answerCount) answered ||= type === query.type || query.type === TYPE_ANY;
      else if (record < authorityEnd && type === TYPE_SOA && end - at >= 32) minimum = double(bytes, end - 4);
    }
    i = end;
  }
  if (i !== length) return 0;
  if (code === NOERROR && answered) return least;
  return minimum < 0 ? 0 : Math.min(least, minimum, NEGATIVE_LIMIT);
}

export function writeOpt(into: Uint8Array, at: number, dnssecOk: boolean): number {
  into.fill(0, at, at + 11);
  into[at + 2] = TYPE_OPT;
  into[at + 3] = OUR_UDP_SIZE >> 8;
  into[at + 4] = OUR_UDP_SIZE & 0xff;
  if (dnssecOk) into[at + 7] = 0x80;
  return at + 11;
}

/** Writes a response without records: an error, or "no such data"; returns its length. */
export function writeEmpty(query: Query, bytes: Uint8Array, code: number, into: Uint8Array): number {
  setId(into, query.id);
  // QR, the query's opcode and RD; RA, the query's CD.
  into[2] = 0x80 | (bytes[2]! & 0x79);
  into[3] = 0x80 | (bytes[3]! & 0x10) | code;
  into.fill(0, 4, HEADER_OCTETS);
  if (!query.sound) return HEADER_OCTETS;
  into[5] = 1;
  for (let i = HEADER_OCTETS; i < query.questionEnd; i++) into[i] = bytes[i]!;
  if (!query.hasEdns) return query.questionEnd;
  into[11] = 1;
  return writeOpt(into, query.questionEnd, (query.traits & DNSSEC_OK) !== 0);
}

/** Cuts an answer that is longer than the client takes down to its question, with TC set: the client asks again by TCP. RFC 2181 9. */
export function truncate(query: Query, message: Uint8Array): number {
  // An error may come without its question.
  const end = word(message, 4) === 0 ? HEADER_OCTETS : query.questionEnd;
  message[2]! |= 0x02;
  message.fill(0, 6, HEADER_OCTETS);
  if (!query.hasEdns) return end;
  message[11] = 1;
  return writeOpt(message, end, (query.traits & DNSSEC_OK) !== 0);
}
