/** Addresses: strict parsers, RFC 5952 text, classification. */

import { isIP, isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import * as address from '../../../src/stack/wire/address.ts';

const octets = fc.uint8Array({ minLength: 16, maxLength: 16 });
const parsed = (text: string): address.Address => {
  const found = address.parseAddress(text);
  if (!found) throw new Error(`not an address: ${text}`);
  return found;
};

t.test('IPv4 text', async (t) => {
  t.same([...parsed('192.168.65.1')], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 65, 1]);
  for (const bad of [
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.04',
    '0x7f.0.0.1',
    '127.1',
    '256.1.1.1',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1..2.3',
    '1.2.3.',
    '+1.2.3.4',
    '1e1.2.3.4',
    '2130706433',
    '1.2.3.4\n',
    '１.2.3.4',
  ])
    t.equal(address.parseIpv4(bad), undefined, JSON.stringify(bad));
  fc.assert(
    fc.property(fc.integer(), (word) => {
      const made = address.ofIpv4(word);
      return (
        address.isIpv4(made) &&
        address.ipv4Word(made) === word &&
        address.equal(parsed(address.formatAddress(made)), made)
      );
    }),
  );
});

t.test('IPv6 text (RFC 4291 2.2, RFC 5952)', async (t) => {
  for (const [text, canonical] of [
    ['2001:0DB8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ] as const)
    t.equal(address.formatAddress(parsed(text)), canonical, text);
  for (const bad of [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '::1.2.3',
    '1.2.3.4::',
    '::1.2.3.4:5',
    ' ::1',
    '::1 ',
    '1:2:3:4:5:6:7:1.2.3.4',
    ':1:2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7:8:',
  ])
    t.equal(address.parseIpv6(bad), undefined, JSON.stringify(bad));
  fc.assert(
    fc.property(octets, (bytes) => {
      const text = address.formatAddress(bytes);
      return isIP(text) !== 0 && address.equal(parsed(text), bytes);
    }),
  );
  fc.assert(fc.property(fc.ipV6(), (text) => address.parseIpv6(text) !== undefined));
  const charset = fc.string({ unit: fc.constantFrom('0', '1', 'f', ':', '::', '.', '255', '%', '/'), maxLength: 24 });
  fc.assert(
    fc.property(
      charset,
      (text) =>
        (address.parseIpv4(text) !== undefined) === isIPv4(text) &&
        (address.parseIpv6(text) !== undefined) === (isIPv6(text) && !text.includes('%')),
    ),
    { numRuns: 3000 },
  );
});

t.test('words, equality and networks', async (t) => {
  fc.assert(
    fc.property(octets, octets, fc.nat(128), (a, b, prefix) => {
      const copy = new Uint8Array(16);
      for (let i = 0; i < 4; i++) address.setWord(copy, i, address.word(a, i));
      const bits = (bytes: Uint8Array): string =>
        [...bytes].map((octet) => octet.toString(2).padStart(8, '0')).join('');
      return (
        address.equal(a, copy) &&
        address.equal(a, b) === (Buffer.compare(a, b) === 0) &&
        address.contains(a, prefix, b) === (bits(a).slice(0, prefix) === bits(b).slice(0, prefix)) &&
        address.contains(a, prefix, a)
      );
    }),
  );
  const subnet = address.parseSubnet('192.168.65.0/24');
  t.equal(subnet?.prefix, 120);
  t.ok(subnet && address.contains(subnet.address, subnet.prefix, parsed('192.168.65.255')));
  t.notOk(subnet && address.contains(subnet.address, subnet.prefix, parsed('192.168.66.0')));
  t.equal(address.parseSubnet('fd00::/64')?.prefix, 64);
  for (const bad of [
    '',
    '1.2.3.4',
    '1.2.3.4/',
    '1.2.3.4/33',
    '1.2.3.4/1/2',
    '1.2.3.4/-1',
    '1.2.3.4/08',
    '::/129',
    '::/ 1',
  ])
    t.equal(address.parseSubnet(bad), undefined, bad);
});

t.test('kinds', async (t) => {
  const kinds: Record<address.AddressKind, string[]> = {
    unspecified: ['0.0.0.0', '0.1.2.3', '0.255.255.255', '::'],
    loopback: ['127.0.0.1', '127.255.255.255', '::1', '::ffff:127.0.0.1'],
    'link-local': ['169.254.169.254', 'fe80::1', 'febf:ffff::1'],
    multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff00::'],
    broadcast: ['255.255.255.255'],
    reserved: ['240.0.0.1', '255.255.255.254'],
    compatible: ['::2', '::1.2.3.4', '::127.0.0.1'],
    private: ['10.0.0.1', '172.16.0.0', '172.31.255.255', '192.168.0.1', 'fc00::1', 'fdff::1'],
    global: [
      '1.0.0.0',
      '126.255.255.255',
      '128.0.0.1',
      '169.253.0.1',
      '172.15.0.1',
      '172.32.0.1',
      '192.167.1.1',
      '223.255.255.255',
      '2001:db8::1',
      'fec0::1',
      '::1:0:0:1',
      '::fffe:7f00:1',
    ],
  };
  for (const [kind, texts] of Object.entries(kinds))
    for (const text of texts) t.equal(address.kind(parsed(text)), kind, text);
});
