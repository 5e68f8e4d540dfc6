/**
 * The name in a TLS ClientHello: RFC 8446 4.1.2 and 5.1, RFC 6066 3. As much of it as has come is looked at each time,
 * at most `HELLO_OCTETS`; it may lie in several records. Where the real name is encrypted (ECH, extension 0xfe0d) the one
 * in the open is another server's, and counts for nothing. Nothing throws.
 */

/** Longest hello that is waited for, with its records' headers. */
export const HELLO_OCTETS = 32 * 1024;

const RECORD_HEADER = 5;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

/** Undefined: more is needed. `name` undefined: it is no TLS, or says no name in the open. */
export type HelloName = { readonly name: string | undefined } | undefined;

const none: HelloName = { name: undefined };

export function helloName(bytes: Uint8Array): HelloName {
  const hello = new Uint8Array(HELLO_OCTETS);
  let length = 0;
  let at = 0;
  let wanted = 4;
  while (length < wanted) {
    if (bytes.length > at && bytes[at] !== HANDSHAKE) return none;
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) return none;
    if (bytes.length < at + RECORD_HEADER) return more(bytes);
    const octets = (bytes[at + 3]! << 8) | bytes[at + 4]!;
    // RFC 8446 5.1: no empty fragments of handshakes, and none longer than 2^14.
    if (octets === 0 || octets > 1 << 14) return none;
    at += RECORD_HEADER;
    const here = bytes.subarray(at, Math.min(at + octets, bytes.length));
    if (length + here.length > HELLO_OCTETS) return none;
    hello.set(here, length);
    length += here.length;
    at += octets;
    if (length > 0 && hello[0] !== CLIENT_HELLO) return none;
    if (length >= 4) wanted = 4 + ((hello[1]! << 16) | (hello[2]! << 8) | hello[3]!);
    if (wanted > HELLO_OCTETS) return none;
    if (here.length < octets && length < wanted) return more(bytes);
  }
  return { name: nameIn(hello.subarray(4, wanted)) };
}

const more = (bytes: Uint8Array): HelloName => (bytes.length >= HELLO_OCTETS ? none : undefined);

/** A walk over fields that each say how long they are; `undefined` beyond the end. */
class Fields {
  readonly #bytes: Uint8Array;
  #at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get left(): boolean {
    return this.#at < this.#bytes.length;
  }

  number(octets: 1 | 2): number | undefined {
    if (this.#at + octets > this.#bytes.length) return undefined;
    const first = this.#bytes[this.#at]!;
    const value = octets === 1 ? first : (first << 8) | this.#bytes[this.#at + 1]!;
    this.#at += octets;
    return value;
  }

  /** A field of which the first `octets` say the length. */
  vector(octets: 1 | 2): Uint8Array | undefined {
    const length = this.number(octets);
    if (length === undefined || this.#at + length > this.#bytes.length) return undefined;
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

/** RFC 8446 4.1.2: legacy_version, random; then session id, cipher suites, compression methods, extensions. */
function nameIn(hello: Uint8Array): string | undefined {
  const fields = new Fields(hello, 2 + 32);
  if (!fields.vector(1) || !fields.vector(2) || !fields.vector(1)) return undefined;
  const extensions = fields.vector(2);
  if (!extensions) return undefined;
  let name: string | undefined;
  for (const each = new Fields(extensions); each.left; ) {
    const type = each.number(2);
    const data = each.vector(2);
    if (type === undefined || !data || type === ENCRYPTED_CLIENT_HELLO) return undefined;
    if (type === SERVER_NAME) name = hostName(data);
  }
  return name;
}

/** RFC 6066 3: a list of which at most one is a host's name, in ASCII and without a dot at its end. */
function hostName(data: Uint8Array): string | undefined {
  const list = new Fields(data).vector(2);
  for (const each = new Fields(list ?? new Uint8Array()); each.left; ) {
    const type = each.number(1);
    const name = each.vector(2);
    if (type === undefined || !name) return undefined;
    if (type === HOST_NAME) return name.length > 0 && name.length <= 255 ? String.fromCharCode(...name) : undefined;
  }
  return undefined;
}
