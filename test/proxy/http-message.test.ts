/** What the HTTP proxy reads before it knows where to go: hosts, fields, no_proxy, proxies' addresses, ClientHellos. */

import { Duplex } from 'node:stream';
import tls from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import { HELLO_OCTETS, helloName } from '../../src/proxy/http-proxy/client-hello.ts';
import {
  authorityText,
  basic,
  endToEnd,
  parseAbsolute,
  parseAuthority,
  parseHost,
} from '../../src/proxy/http-proxy/message.ts';
import { NoProxy } from '../../src/proxy/http-proxy/no-proxy.ts';
import { parseProxyUrl, proxyText } from '../../src/proxy/http-proxy/proxy-url.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';

t.test('hosts: one form of each address, and names', (t) => {
  for (const [text, host] of [
    ['Example.ORG', 'example.org'],
    ['example.org.', 'example.org'],
    ['my_host', 'my_host'],
    ['192.168.65.3', '192.168.65.3'],
    ['[::1]', '::1'],
    ['[FD00::1]', 'fd00::1'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['1.2.3.4.example', '1.2.3.4.example'],
  ] as const)
    t.equal(parseHost(text), host, text);
  // What some resolver or other takes for 127.0.0.1, and what is no host at all.
  for (const text of [
    '127.1',
    '2130706433',
    '0177.0.0.1',
    '0x7f.0.0.1',
    '0x7f000001',
    '127.0.0.1.',
    '127.0.0.01',
    'a.0x1',
    '1.2.3.4.5',
    '[fe80::1%eth0]',
    '[fe80::1%25eth0]',
    '[127.0.0.1]',
    '::1',
    '',
    '.',
    'a..b',
    '-a',
    'a b',
    'a\r\nb',
    'a/b',
    'ü',
    'x'.repeat(254),
  ])
    t.equal(parseHost(text), undefined, text);
  t.end();
});

t.test('authorities and request targets', (t) => {
  t.same(parseAuthority('a.b:443'), { host: 'a.b', port: 443 });
  t.same(parseAuthority('[::1]:8', 80), { host: '::1', port: 8 });
  t.same(parseAuthority('a.b', 80), { host: 'a.b', port: 80 });
  t.same(parseAuthority('a.b:', 80), { host: 'a.b', port: 80 });
  for (const text of ['a.b', 'a.b:0', 'a.b:65536', 'a.b:1:2', 'u@a.b:1', ':1', 'a.b:+1', 'a.b:1 ', '::1:80', '[::1:80'])
    t.equal(parseAuthority(text), undefined, text);
  t.same(parseAbsolute('http://A.b/x?y'), { target: { host: 'a.b', port: 80 }, path: '/x?y' });
  t.same(parseAbsolute('HTTP://[::1]:81?y'), { target: { host: '::1', port: 81 }, path: '/?y' });
  t.same(parseAbsolute('http://a.b'), { target: { host: 'a.b', port: 80 }, path: '' });
  t.same(parseAbsolute('http://a.b/'), { target: { host: 'a.b', port: 80 }, path: '/' });
  for (const text of ['/x', 'https://a.b/', 'http://u:p@a.b/', 'http:///x', 'ftp://a/', 'http://a.b:x/', 'http://a b/'])
    t.equal(parseAbsolute(text), undefined, text);
  fc.assert(
    fc.property(fc.ipV6(), fc.integer({ min: 1, max: 65535 }), (host, port) => {
      const found = parseAuthority(authorityText({ host, port }));
      return found === undefined ? parseAddress(host) === undefined : found.port === port;
    }),
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), (text) => {
      const host = parseHost(text);
      if (host !== undefined && !/^[a-z0-9_.:-]+$/.test(host)) throw new Error(host);
      parseAuthority(text);
      parseAbsolute(`http://${text}`);
    }),
    { numRuns: 20_000 },
  );
  t.end();
});

t.test('fields for this hop alone are left out, and what Connection names', (t) => {
  const raw = [
    'Host',
    'a',
    'Connection',
    'X-One, close',
    'x-one',
    '1',
    'X-Two',
    '2',
    'TE',
    'trailers',
    'Proxy-Authorization',
    's',
  ];
  t.same(endToEnd(raw), ['Host', 'a', 'X-Two', '2']);
  t.same(endToEnd(raw, 'host'), ['X-Two', '2']);
  const framed = ['Connection', 'transfer-encoding, Content-Length', 'Transfer-Encoding', 'chunked'];
  t.same(endToEnd(framed), ['Transfer-Encoding', 'chunked'], 'how a body is framed stays');
  t.equal(basic('me:pässword'), `Basic ${Buffer.from('me:pässword').toString('base64')}`);
  t.end();
});

t.test('the forms of no_proxy', (t) => {
  const asked = (text: string, name: string | undefined, address: string | undefined, port = 443): boolean =>
    NoProxy.parse(text).excludes({ name, addresses: address === undefined ? [] : [parseAddress(address)!], port });
  for (const form of [
    'example.org',
    '.example.org',
    '*.example.org',
    'EXAMPLE.ORG',
    'x, example.org',
    'x example.org\ty',
  ]) {
    t.ok(asked(form, 'example.org', undefined), form);
    t.ok(asked(form, 'a.b.example.org', undefined), form);
    t.notOk(asked(form, 'notexample.org', undefined), form);
    t.notOk(asked(form, 'example.org.evil', undefined), form);
    t.notOk(asked(form, undefined, '10.0.0.1'), form);
  }
  t.ok(asked('*', undefined, '1.2.3.4'));
  t.ok(asked('10.0.0.0/8', 'any.name', '10.1.2.3'), 'a network, by the address of a name');
  t.notOk(asked('10.0.0.0/8', 'any.name', '11.1.2.3'));
  t.ok(asked('10.1.2.3', undefined, '10.1.2.3'));
  t.ok(asked('fd00::/8 ::2', undefined, '::2'));
  t.ok(asked('fd00::/8', undefined, 'fd12::1'));
  t.ok(asked('[fd00::1]:443', undefined, 'fd00::1'));
  t.ok(asked('example.org:443,10.0.0.1:80', 'example.org', undefined));
  t.notOk(asked('example.org:80', 'example.org', undefined));
  t.notOk(asked('10.0.0.1:80', undefined, '10.0.0.1'));
  t.notOk(asked('', 'a', '1.2.3.4'));
  for (const bad of ['10.0.0.0/33', 'a:b:c', 'http://x', '127.1', 'a:0', 'a:99999', '[::1', 'a*b'])
    t.throws(() => NoProxy.parse(`good,${bad}`), { message: /^has '.*', which is no name, address or network$/ }, bad);
  fc.assert(
    fc.property(fc.string({ maxLength: 100 }), fc.domain(), (text, name) => {
      try {
        NoProxy.parse(text).excludes({ name, addresses: [], port: 80 });
      } catch (error) {
        if (!/^has '/.test((error as Error).message)) throw error;
      }
    }),
  );
  t.end();
});

t.test('proxies as people write them', (t) => {
  t.equal(parseProxyUrl(''), undefined);
  t.same(parseProxyUrl('http://proxy.corp:3128'), { host: 'proxy.corp', port: 3128, tls: false });
  t.same(parseProxyUrl('proxy.corp:3128/'), { host: 'proxy.corp', port: 3128, tls: false });
  t.same(parseProxyUrl('HTTPS://[fd00::1]'), { host: 'fd00::1', port: 443, tls: true });
  t.equal(proxyText(parseProxyUrl('http://127.0.0.1')!), 'http://127.0.0.1:80');
  for (const bad of ['socks5://a:1', 'http://', 'http://a/b', 'a b', 'http://a:x', 'ftp://a'])
    t.throws(() => parseProxyUrl(bad), { message: /is not a proxy such as/ }, bad);
  for (const secret of ['http://me:secret@a:1', 'me:secret@a', 'http://me@a', 'http://me:se/secret@a'])
    t.throws(() => parseProxyUrl(secret), { message: /^(?!.*secret)/ }, 'a password is in no error');
  t.throws(() => parseProxyUrl('http://me:secret@a:1'), { message: /credential file/ });
  t.end();
});

/** What Node's (OpenSSL's) client says first. */
async function realHello(options: tls.ConnectionOptions): Promise<Buffer> {
  const said = Promise.withResolvers<Buffer>();
  const socket = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      said.resolve(chunk);
      done();
    },
  });
  const client = tls.connect({ ...options, socket });
  client.on('error', () => undefined);
  const hello = await said.promise;
  client.destroy();
  return hello;
}

/** The same handshake message in records of other lengths. RFC 8446 5.1. */
function inRecords(hello: Uint8Array, octets: number): Uint8Array {
  const message = hello.subarray(5);
  const records: number[] = [];
  for (let at = 0; at < message.length; at += octets) {
    const part = message.subarray(at, at + octets);
    records.push(22, 3, 1, part.length >> 8, part.length & 255, ...part);
  }
  return Uint8Array.from(records);
}

t.test('the name in real ClientHellos, in any records, cut anywhere', async (t) => {
  const hello = await realHello({ servername: 'www.Example.org' });
  t.same(helloName(hello), { name: 'www.Example.org' });
  t.same(helloName(Buffer.concat([hello, Buffer.alloc(50_000)])), { name: 'www.Example.org' }, 'what follows is left');
  t.same(helloName(await realHello({})), { name: undefined }, 'none');
  t.match(helloName(await realHello({ servername: 'a.b', ALPNProtocols: ['h2', 'http/1.1'], maxVersion: 'TLSv1.2' })), {
    name: 'a.b',
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 600 }), fc.double({ min: 0, max: 1, noNaN: true }), (octets, part) => {
      const records = inRecords(hello, octets);
      t.same(helloName(records), { name: 'www.Example.org' });
      const cut = Math.floor(part * (records.length - 1));
      t.equal(helloName(records.subarray(0, cut)), undefined, 'more is asked for');
    }),
    { numRuns: 40 },
  );
});

/** Of extensions alone, in the form of RFC 8446 4.1.2. */
function helloWith(extensions: number[][]): Uint8Array {
  const body = extensions.flat();
  const message = [
    3,
    3,
    ...new Array<number>(32).fill(7),
    0,
    0,
    2,
    19,
    1,
    1,
    0,
    body.length >> 8,
    body.length & 255,
    ...body,
  ];
  const handshake = [1, 0, message.length >> 8, message.length & 255, ...message];
  return Uint8Array.of(22, 3, 1, handshake.length >> 8, handshake.length & 255, ...handshake);
}

const serverName = (name: string): number[] => {
  const bytes = [...Buffer.from(name)];
  return [0, 0, 0, bytes.length + 5, 0, bytes.length + 3, 0, 0, bytes.length, ...bytes];
};

t.test('encrypted names, odd names, and no TLS at all', (t) => {
  t.same(helloName(helloWith([serverName('a.b')])), { name: 'a.b' });
  t.same(helloName(helloWith([serverName('outer.example'), [0xfe, 0x0d, 0, 1, 0]])), { name: undefined }, 'ECH');
  t.same(helloName(helloWith([[0xfe, 0x0d, 0, 1, 0], serverName('outer.example')])), { name: undefined }, 'ECH first');
  t.same(helloName(helloWith([[0, 0, 0, 0]])), { name: undefined }, 'an empty list');
  t.same(helloName(helloWith([[0, 0, 0, 9, 0, 7, 5, 0, 1, 65, 0, 0, 1]])), { name: undefined }, 'cut within the list');
  t.same(helloName(Buffer.from('SSH-2.0-x\r\n')), { name: undefined });
  t.same(helloName(Buffer.from('GET / HTTP/1.1\r\n')), { name: undefined });
  t.same(helloName(Uint8Array.of(22, 3, 1, 0, 0)), { name: undefined }, 'an empty record');
  t.same(helloName(Uint8Array.of(22, 3, 1, 0, 4, 2, 0, 0, 0)), { name: undefined }, 'another handshake message');
  t.same(helloName(Uint8Array.of(22, 3, 1, 0, 4, 1, 0xff, 0, 0)), { name: undefined }, 'longer than anybody waits for');
  t.end();
});

t.test('any octets: never an exception, never a wish for more than the limit', async () => {
  const hello = await realHello({ servername: 'example.org' });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 8 }), (changes) => {
      const bytes = Uint8Array.from(hello);
      for (const [at, value] of changes) bytes[at] = value;
      const padded = Buffer.concat([bytes, Buffer.alloc(HELLO_OCTETS)]);
      if (helloName(padded) === undefined) throw new Error('waits for ever');
      helloName(bytes);
    }),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void helloName(Uint8Array.of(22, 3, 1, ...bytes))),
    { numRuns: 5000 },
  );
});
