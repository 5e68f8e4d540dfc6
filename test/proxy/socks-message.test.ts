/** SOCKS 5 on the wire, by an emitter of the test's own, cut anywhere, and with any octets. */

import fc from 'fast-check';
import t from 'tap';
import {
  LARGEST_MESSAGE,
  parseCredentials,
  parseDatagram,
  parseGreeting,
  parseRequest,
  writeDatagram,
  writeReply,
} from '../../src/proxy/entrance/socks-message.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';

type Parser = (bytes: Uint8Array) => { readonly octets: number } | 'malformed' | undefined;

/** Every shorter piece asks for more, and what follows is left alone. */
function wholeAndCut(parse: Parser, bytes: Uint8Array, tail: Uint8Array): void {
  for (let length = 0; length < bytes.length; length++) {
    const found = parse(bytes.subarray(0, length));
    if (found !== undefined) throw new Error(`${length} of ${bytes.length} octets were enough`);
  }
  const found = parse(Uint8Array.of(...bytes, ...tail));
  if (typeof found !== 'object' || found.octets !== bytes.length) throw new Error('not read to its end');
}

const octets = (least: number, most: number) => fc.uint8Array({ minLength: least, maxLength: most });
const ascii = (most: number) =>
  fc.string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789.-_:'), minLength: 1, maxLength: most });

t.test('greetings', (t) => {
  fc.assert(
    fc.property(octets(1, 255), octets(0, 8), (methods, tail) => {
      const bytes = Uint8Array.of(5, methods.length, ...methods);
      wholeAndCut(parseGreeting, bytes, tail);
      t.same(parseGreeting(bytes), { methods: [...methods], octets: bytes.length });
    }),
    { numRuns: 50 },
  );
  t.equal(parseGreeting(Uint8Array.of(4)), 'malformed', 'SOCKS 4');
  t.equal(parseGreeting(Uint8Array.of(5, 0)), 'malformed', 'no methods');
  t.end();
});

t.test('names and passwords', (t) => {
  fc.assert(
    fc.property(ascii(255), ascii(255), octets(0, 8), (user, password, tail) => {
      const [u, p] = [Buffer.from(user), Buffer.from(password)];
      const bytes = Uint8Array.of(1, u.length, ...u, p.length, ...p);
      wholeAndCut(parseCredentials, bytes, tail);
      t.match(parseCredentials(bytes), { credential: `${user}:${password}` });
    }),
    { numRuns: 30 },
  );
  t.equal(parseCredentials(Uint8Array.of(5, 1)), 'malformed');
  t.end();
});

t.test('requests: names, and addresses of both families', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        ascii(255).map((name) => ({ host: name, type: 3, field: [name.length, ...Buffer.from(name)] })),
        octets(4, 4).map((bytes) => ({ host: [...bytes].join('.'), type: 1, field: [...bytes] })),
        octets(16, 16).map((bytes) => ({ host: formatAddress(bytes), type: 4, field: [...bytes] })),
      ),
      fc.nat(255),
      fc.nat(65535),
      octets(0, 8),
      ({ host, type, field }, command, port, tail) => {
        const bytes = Uint8Array.of(5, command, 0, type, ...field, port >> 8, port & 255);
        wholeAndCut(parseRequest, bytes, tail);
        t.same(parseRequest(bytes), { command, host, port, octets: bytes.length });
      },
    ),
    { numRuns: 100 },
  );
  t.match(parseRequest(Uint8Array.of(5, 1, 0, 9, 1)), { host: undefined }, 'a type that nobody knows');
  t.end();
});

t.test('datagrams, and what is not one', (t) => {
  fc.assert(
    fc.property(fc.oneof(octets(4, 4), octets(16, 16)), fc.nat(65535), octets(0, 100), (bytes, port, payload) => {
      const address = bytes.length === 16 ? bytes : parseAddress([...bytes].join('.'))!;
      const datagram = writeDatagram(address, port, payload);
      t.same(parseDatagram(datagram), { host: formatAddress(address), port, payload });
      datagram[2] = 1;
      t.equal(parseDatagram(datagram), undefined, 'a fragment');
    }),
    { numRuns: 50 },
  );
  const named = Uint8Array.of(0, 0, 0, 3, 3, 97, 46, 98, 0, 7, 1, 2);
  t.same(parseDatagram(named), { host: 'a.b', port: 7, payload: Uint8Array.of(1, 2) });
  for (let length = 0; length < 10; length++) t.equal(parseDatagram(named.subarray(0, length)), undefined);
  t.equal(parseDatagram(Uint8Array.of(0, 0, 0, 9, 1, 1, 1, 1, 0, 7)), undefined);
  fc.assert(
    fc.property(octets(0, 300), (bytes) => void parseDatagram(bytes)),
    { numRuns: 10_000 },
  );
  t.end();
});

t.test('any octets: never an exception, and never a message longer than there is', (t) => {
  fc.assert(
    fc.property(octets(0, 600), fc.constantFrom(undefined, 1, 5), (bytes, first) => {
      if (first !== undefined && bytes.length > 0) bytes[0] = first;
      for (const parse of [parseGreeting, parseCredentials, parseRequest]) {
        const found = parse(bytes);
        if (typeof found === 'object' && found.octets > bytes.length) throw new Error('read beyond the end');
        if (found === undefined && bytes.length >= LARGEST_MESSAGE)
          throw new Error('asks for more than any message has');
      }
    }),
    { numRuns: 20_000 },
  );
  t.end();
});

t.test('replies', (t) => {
  t.same([...writeReply(1)], [5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
  t.same(
    [...writeReply(0, { address: parseAddress('192.168.65.1')!, port: 0x1234 })],
    [5, 0, 0, 1, 192, 168, 65, 1, 18, 52],
  );
  const address = parseAddress('fd00::1')!;
  t.same([...writeReply(0, { address, port: 1 })], [5, 0, 0, 4, ...address, 0, 1]);
  t.end();
});
