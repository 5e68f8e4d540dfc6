/** DHCPv6 and NTP: what our parsers read in messages of arbitrary values, and what our writers write, is what tshark reads. */

import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { formatAddress } from '../../../src/stack/wire/address.ts';
import * as dhcpv6 from '../../../src/stack/wire/dhcpv6.ts';
import { SOUND } from '../../../src/stack/wire/fault.ts';
import * as ntp from '../../../src/stack/wire/ntp.ts';
import { udpFrame } from '../frames.ts';
import { concat, udp6Frame } from '../ipv6-frames.ts';
import { differencesToTshark, type Read } from './tshark.ts';

t.setTimeout(120_000);

const FRAMES = 300;
const NTP_AT = 14 + 20 + 8;
const DHCPV6_AT = 14 + 40 + 8;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const u8 = fc.nat(0xff);
const u32 = fc.nat(0xffff_ffff);
/** Global unicast, which tshark writes as we do. */
const address = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => {
  bytes[0] = 0x20;
  return bytes;
});

/** An option as our writers make it. */
interface Option {
  readonly bytes: Uint8Array;
}

function written(write: (view: DataView) => number): Option {
  const bytes = new Uint8Array(512);
  return { bytes: bytes.subarray(0, write(viewOf(bytes))) };
}

const status = fc.nat(6).map((code) => written((view) => dhcpv6.emitStatus(view, 0, code)));
const leased = fc
  .tuple(address, u32, u32)
  .map(([given, preferred, valid]) => written((view) => dhcpv6.emitAddress(view, 0, given, preferred, valid)));
const association = fc
  .tuple(u32, u32, u32, fc.array(fc.oneof(leased, status), { maxLength: 3 }))
  .map(([id, t1, t2, inner]) =>
    written((view) => {
      let at = dhcpv6.open(view, 0, dhcpv6.OPTION_IA_NA);
      for (const word of [id, t1, t2]) {
        view.setUint32(at, word);
        at += 4;
      }
      for (const { bytes } of inner) {
        new Uint8Array(view.buffer).set(bytes, at);
        at += bytes.length;
      }
      return dhcpv6.close(view, 0, at);
    }),
  );
/** DUID-EN: any octets behind an enterprise's number. RFC 8415 11.3. */
const duid = (code: number) =>
  fc
    .uint8Array({ minLength: 1, maxLength: 40 })
    .map((rest) => written((view) => dhcpv6.emitOption(view, 0, code, concat([0, 2, 0, 0, 0, 9], rest))));
const options = fc
  .tuple(
    duid(dhcpv6.OPTION_CLIENT_ID),
    fc.option(duid(dhcpv6.OPTION_SERVER_ID), { nil: undefined }),
    fc.array(association, { maxLength: 2 }),
    fc.option(
      fc
        .array(address, { minLength: 1, maxLength: 3 })
        .map((servers) => written((view) => dhcpv6.emitOption(view, 0, dhcpv6.OPTION_DNS_SERVERS, concat(...servers)))),
      { nil: undefined },
    ),
    fc.option(
      fc
        .array(fc.constantFrom(23, 24, 13, 7), { minLength: 1, maxLength: 4 })
        .map((codes) =>
          written((view) =>
            dhcpv6.emitOption(view, 0, dhcpv6.OPTION_REQUESTED, concat(...codes.map((code) => [0, code]))),
          ),
        ),
      { nil: undefined },
    ),
    fc.option(status, { nil: undefined }),
  )
  .map(([client, server, associations, ...rest]) =>
    [client, server, ...associations, ...rest].filter((option) => option !== undefined),
  );

/** Options in the order that they stand in, those within others behind them. */
function* walk(view: DataView, from: number, end: number): Generator<number> {
  for (let at = from; at < end; at = dhcpv6.nextOption(view, at)) {
    yield at;
    const value = at + dhcpv6.OPTION_HEADER_OCTETS;
    const code = dhcpv6.optionCode(view, at);
    if (code === dhcpv6.OPTION_IA_NA) yield* walk(view, value + dhcpv6.IA_OCTETS, dhcpv6.nextOption(view, at));
  }
}

const leases = fc
  .tuple(fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 9, 11), fc.nat(0xff_ffff), options)
  .map(([type, transaction, list]): Read => {
    const header = written((view) => dhcpv6.emit(view, 0, type, transaction));
    const message = concat(header.bytes, ...list.map(({ bytes }) => bytes));
    const frame = udp6Frame(dhcpv6.CLIENT_PORT, dhcpv6.SERVER_PORT, message);
    const view = viewOf(frame);
    if (dhcpv6.check(view, DHCPV6_AT, message.length) !== SOUND) throw new Error('it is sound');
    const begin = DHCPV6_AT + dhcpv6.HEADER_OCTETS;
    const found = [...walk(view, begin, frame.length)];
    const of = (code: number): number[] => found.filter((at) => dhcpv6.optionCode(view, at) === code);
    const listed = (values: readonly (string | number)[]): string => values.join(',');
    const client = dhcpv6.findOption(view, begin, frame.length, dhcpv6.OPTION_CLIENT_ID);
    const server = dhcpv6.findOption(view, begin, frame.length, dhcpv6.OPTION_SERVER_ID);
    const value = (at: number): Uint8Array =>
      frame.subarray(at + dhcpv6.OPTION_HEADER_OCTETS, dhcpv6.nextOption(view, at));
    const addresses = of(dhcpv6.OPTION_IA_ADDRESS);
    const servers = of(dhcpv6.OPTION_DNS_SERVERS).map(value);
    return {
      frame,
      says: {
        'dhcpv6.msgtype': dhcpv6.type(view, DHCPV6_AT),
        'dhcpv6.xid': `0x${dhcpv6.transaction(view, DHCPV6_AT).toString(16).padStart(6, '0')}`,
        'dhcpv6.option.type': listed(found.map((at) => dhcpv6.optionCode(view, at))),
        'dhcpv6.option.length': listed(found.map((at) => dhcpv6.optionOctets(view, at))),
        'dhcpv6.duid.bytes': listed([client, server].filter((at) => at >= 0).map((at) => hex(value(at)))),
        'dhcpv6.iaid': listed(
          of(dhcpv6.OPTION_IA_NA).map((at) => dhcpv6.identifier(view, at).toString(16).padStart(8, '0')),
        ),
        'dhcpv6.iaaddr.ip': listed(addresses.map((at) => formatAddress(value(at).subarray(0, 16)))),
        'dhcpv6.iaaddr.pref_lifetime': listed(addresses.map((at) => viewOf(value(at)).getUint32(16))),
        'dhcpv6.iaaddr.valid_lifetime': listed(addresses.map((at) => viewOf(value(at)).getUint32(20))),
        'dhcpv6.status_code': listed(of(dhcpv6.OPTION_STATUS).map((at) => viewOf(value(at)).getUint16(0))),
        'dhcpv6.dns_server': listed(
          servers.flatMap((bytes) =>
            Array.from({ length: bytes.length / 16 }, (_, i) => formatAddress(bytes.subarray(16 * i, 16 * i + 16))),
          ),
        ),
      },
    };
  });

/** As tshark writes a time, to the nanosecond. */
function timeOf(view: DataView, at: number): string {
  const seconds = view.getUint32(at) - 2_208_988_800;
  const nanoseconds = Number((BigInt(view.getUint32(at + 4)) * 1_000_000_000n) >> 32n);
  const [, day, month, year, time] = new Date(seconds * 1000).toUTCString().split(/,? /);
  const fraction = String(nanoseconds).padStart(9, '0');
  return `${month} ${String(Number(day)).padStart(2)}, ${year} ${time}.${fraction} UTC`;
}

const clocks = fc
  .record({
    leap: fc.nat(3),
    version: fc.integer({ min: 3, max: 4 }),
    mode: fc.constantFrom(ntp.MODE_CLIENT, ntp.MODE_SERVER),
    stratum: u8,
    poll: fc.integer({ min: 0, max: 17 }),
    precision: fc.integer({ min: -30, max: 0 }),
    times: fc.array(fc.integer({ min: 1, max: Date.UTC(2036, 0) }), { minLength: 4, maxLength: 4 }),
    delay: fc.nat(60_000),
  })
  .map(({ times, delay, ...first }): Read => {
    const message = new Uint8Array(ntp.HEADER_OCTETS);
    const made = viewOf(message);
    ntp.emit(made, 0, first);
    ntp.setDuration(made, ntp.ROOT_DELAY, delay);
    ntp.setDuration(made, ntp.ROOT_DISPERSION, delay);
    const places = [ntp.REFERENCE_TIMESTAMP, ntp.ORIGIN_TIMESTAMP, ntp.RECEIVE_TIMESTAMP, ntp.TRANSMIT_TIMESTAMP];
    for (const [i, place] of places.entries()) ntp.setTimestamp(made, place, times[i]!);
    const frame = udpFrame(40_000, ntp.SERVER_PORT, message);
    const view = viewOf(frame);
    if (ntp.check(view, NTP_AT, message.length) !== SOUND) throw new Error('it is sound');
    return {
      frame,
      says: {
        'ntp.flags.li': first.leap,
        'ntp.flags.vn': ntp.version(view, NTP_AT),
        'ntp.flags.mode': ntp.mode(view, NTP_AT),
        'ntp.stratum': first.stratum,
        'ntp.ppoll': first.poll,
        'ntp.rootdelay': view.getUint32(NTP_AT + ntp.ROOT_DELAY),
        'ntp.xmt': timeOf(view, NTP_AT + ntp.TRANSMIT_TIMESTAMP),
      },
    };
  });

t.test('tshark reads in messages of DHCPv6 and NTP what our parsers read and our writers write', async (t) => {
  const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
  const all = [leases, clocks].flatMap((frames) => fc.sample(frames, { numRuns: FRAMES, seed }));
  t.same(differencesToTshark(all).slice(0, 5), [], `SEED=${seed}: ${all.length} frames`);
});
