/** DHCPv6 as its clients see it: messages made up by hand, and answers read by a walk of the test's own. */

import { type Dhcpv6Options, Dhcpv6Server } from '../../src/proxy/dhcpv6.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { address, FakeClock, FakeNetstack, type SentDatagram } from './gateway-fakes.ts';

export const GATEWAY = 'fe80::1';
export const SERVER_MAC = Uint8Array.of(0xf6, 0x16, 0x36, 0xbc, 0xf9, 0xc6);
/** Type 3, hardware type 1, and the MAC address. RFC 8415 11.4. */
export const SERVER_DUID = [0, 3, 0, 1, ...SERVER_MAC];
export const DUID = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
export const MAC = 0x02_00_00_00_00_01;

export type Option = readonly [code: number, value: readonly number[]];

export const word = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

export const option = ([code, value]: Option): number[] => [
  code >> 8,
  code & 255,
  value.length >> 8,
  value.length & 255,
  ...value,
];

/** An identity association (21.4) with addresses in it. */
export const association = (id: number, ...addresses: string[]): Option => [
  3,
  [
    ...word(id),
    ...word(0),
    ...word(0),
    ...addresses.flatMap((text) => option([5, [...address(text), ...word(0), ...word(0)]])),
  ],
];

export const clientId = (duid: readonly number[] = DUID): Option => [1, duid];
export const serverId: Option = [2, SERVER_DUID];

export const message = (type: number, transaction: number, ...options: readonly Option[]): Uint8Array =>
  Uint8Array.from([...word((type << 24) | transaction), ...options.flatMap(option)]);

export interface Answer {
  readonly type: number;
  readonly transaction: number;
  readonly sent: SentDatagram;
  option(code: number): number[] | undefined;
  /** By IAID: T1, T2, status, and each address with its lifetimes. */
  readonly associations: ReadonlyMap<number, GivenAssociation>;
}

export interface GivenAssociation {
  readonly t1: number;
  readonly t2: number;
  readonly status: number | undefined;
  readonly addresses: readonly { readonly address: string; readonly preferred: number; readonly valid: number }[];
}

function walk(bytes: Uint8Array, from: number): [code: number, value: Uint8Array][] {
  const found: [number, Uint8Array][] = [];
  let at = from;
  while (at < bytes.length) {
    const octets = (bytes[at + 2]! << 8) | bytes[at + 3]!;
    if (at + 4 + octets > bytes.length) throw new Error(`an option that does not fit at ${at}`);
    found.push([(bytes[at]! << 8) | bytes[at + 1]!, bytes.slice(at + 4, at + 4 + octets)]);
    at += 4 + octets;
  }
  return found;
}

const wordAt = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer).getUint32(at);

export function read(sent: SentDatagram): Answer {
  const options = walk(sent.payload, 4);
  const associations = new Map<number, GivenAssociation>();
  for (const [code, value] of options) {
    if (code !== 3 && code !== 4 && code !== 25) continue;
    const inner = walk(value, code === 4 ? 4 : 12);
    const status = inner.find(([one]) => one === 13)?.[1];
    associations.set(wordAt(value, 0), {
      t1: code === 4 ? 0 : wordAt(value, 4),
      t2: code === 4 ? 0 : wordAt(value, 8),
      status: status && (status[0]! << 8) | status[1]!,
      addresses: inner
        .filter(([one]) => one === 5)
        .map(([, body]) => ({
          address: formatAddress(body.slice(0, 16)),
          preferred: wordAt(body, 16),
          valid: wordAt(body, 20),
        })),
    });
  }
  return {
    type: sent.payload[0]!,
    transaction: wordAt(sent.payload, 0) & 0xff_ffff,
    sent,
    option: (code) => {
      const value = options.find(([one]) => one === code)?.[1];
      return value && [...value];
    },
    associations,
  };
}

export interface From {
  readonly mac?: number;
  readonly ingress?: number;
  readonly guest?: string;
}

export function setUp(extra: Partial<Dhcpv6Options> = {}) {
  const netstack = new FakeNetstack();
  const clock = new FakeClock();
  const server = new Dhcpv6Server(
    netstack,
    {
      prefix: { address: address('fd00:1:2:3::'), prefix: 64 },
      address: address(GATEWAY),
      macAddress: SERVER_MAC,
      dns: [address('fd00:1:2:3::1')],
      leaseMs: 3600_000,
      ...extra,
    },
    clock,
  );
  const deliver = (bytes: Uint8Array, { mac = MAC, ingress = 0, guest = 'fe80::9' }: From = {}): Answer | undefined => {
    const to = { guest, guestPort: 546, peer: 'ff02::1:2', peerPort: 547, ingress, mac };
    const [sent] = netstack.deliver(bytes, to);
    return sent && read(sent);
  };
  const ask = (type: number, options: readonly Option[], from: From = {}): Answer | undefined =>
    deliver(message(type, 0x123456, ...options), from);
  /** The address that a client gets by Solicit and Request. */
  const bind = (duid: readonly number[] = DUID, id = 1, from: From = {}): string | undefined => {
    const offer = ask(1, [clientId(duid), association(id)], from);
    const [offered] = offer?.associations.get(id)?.addresses ?? [];
    if (!offered) return undefined;
    const reply = ask(3, [clientId(duid), serverId, association(id, offered.address)], from);
    return reply?.associations.get(id)?.addresses[0]?.address;
  };
  return { netstack, clock, server, deliver, ask, bind };
}
