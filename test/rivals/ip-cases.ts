/** The same of IPv4, ICMP and UDP. */

import { fillChecksum } from '../../src/stack/wire/ipv4.ts';
import { icmpFrame, ipFrame, pattern, udpBytes, udpFrame } from '../stack/frames.ts';
import { seededRandom } from '../stack/world.ts';
import type { Packet } from './ear.ts';
import { HOST, type Stage } from './stage.ts';
import type { Case } from './tcp-cases.ts';
import { isSynAck, Otherwise, WireScript } from './wire-script.ts';

const at = (rfc: number, section: string, behaviour: string, play: Case['play']): Case => ({
  rfc,
  section,
  behaviour,
  play,
});

/** The datagram's octets come back from the host. */
async function mustEcho(stage: Stage, port: number, octets: Uint8Array): Promise<void> {
  const echo = await stage.ear.next(
    ({ protocol, payload }) => protocol === 17 && (payload[2]! << 8) + payload[3]! === port,
    1500,
  );
  if (!echo) throw new Otherwise(stage.datagrams.length > 0 ? 'no answer' : 'the host hears nothing');
  if (!Buffer.from(echo.payload.subarray(8)).equals(octets)) throw new Otherwise('the octets are others');
}

async function hostMustNotHear(stage: Stage): Promise<void> {
  await stage.ear.next(({ protocol }) => protocol === 17, 400);
  if (stage.datagrams.length > 0) throw new Otherwise('it reaches the host');
}

const toHost = (stage: Stage) => ({ ...stage.guest.frameOptions, to: HOST });
/** An ICMP error of a type and code. */
const error =
  (type: number, code: number) =>
  ({ protocol, payload }: Packet): boolean =>
    protocol === 1 && payload[0] === type && payload[1] === code;

async function mustBeTold(stage: Stage, what: string, type: number, code: number): Promise<void> {
  if (!(await stage.ear.next(error(type, code), 1500))) throw new Otherwise(`no ${what}`);
}

/** Fragments of a UDP datagram; `overlapping`: by 8 octets. */
function fragments(stage: Stage, port: number, octets: Uint8Array, overlapping = false): Uint8Array[] {
  const whole = udpBytes(port, stage.udpPort, octets, { from: stage.guest.address, to: HOST });
  const options = { ...toHost(stage), identification: port };
  const cut = 600;
  const again = overlapping ? cut - 8 : cut;
  return [
    ipFrame(17, whole.subarray(0, cut), { ...options, fragment: 0x2000 }),
    ipFrame(17, whole.subarray(again), { ...options, fragment: again / 8 }),
  ];
}

export const ipCases: readonly Case[] = [
  at(791, '3.1', 'options are passed over', async (stage) => {
    const s = new WireScript(stage);
    // Two no-operations and a router alert. RFC 2113.
    const options = Uint8Array.of(1, 1, 0x94, 4, 0, 0, 1, 1);
    stage.guest.send(s.frame('S 0:0(0)', { options }));
    await s.must('SYN-ACK', isSynAck);
  }),
  at(791, '3.2', 'fragments of the guest’s, in any order, make the datagram', async (stage) => {
    const port = stage.freshPort();
    const octets = pattern(1200);
    for (const frame of fragments(stage, port, octets).reverse()) stage.guest.send(frame);
    await mustEcho(stage, port, octets);
  }),
  at(791, '3.2', 'what is larger than the MTU reaches the guest in fragments', async (stage) => {
    const port = stage.freshPort();
    const whole = udpBytes(port, stage.udpPort, pattern(4000), { from: stage.guest.address, to: HOST });
    for (let from = 0; from < whole.length; from += 1480) {
      const more = from + 1480 < whole.length ? 0x2000 : 0;
      const options = { ...toHost(stage), identification: port, fragment: more | (from / 8) };
      stage.guest.send(ipFrame(17, whole.subarray(from, from + 1480), options));
    }
    let octets = 0;
    while (octets < 4008) {
      const packet = await stage.ear.next(({ protocol, source }) => protocol === 17 && source === HOST, 1500);
      if (!packet) throw new Otherwise(stage.datagrams.length > 0 ? 'no answer' : 'the host hears nothing');
      octets += packet.payload.length;
    }
  }),
  at(792, 'Echo', 'the gateway answers an echo request', async (stage) => {
    stage.guest.send(icmpFrame(8, 0, 7, pattern(40), { ...stage.guest.frameOptions, to: stage.guest.gateway }));
    await mustBeTold(stage, 'answer', 0, 0);
  }),
  at(792, 'Echo', 'the host answers through it', async (stage) => {
    stage.guest.send(icmpFrame(8, 0, 7 << 16, pattern(40), toHost(stage)));
    await mustBeTold(stage, 'answer', 0, 0);
  }),
  at(
    792,
    'Destination Unreachable',
    'a datagram to a port of the host’s that is closed is answered so',
    async (stage) => {
      stage.guest.send(udpFrame(stage.freshPort(), 9, pattern(8), toHost(stage)));
      await mustBeTold(stage, 'port unreachable', 3, 3);
    },
  ),
  at(1122, '3.2.1.2', 'a wrong header checksum is discarded', async (stage) => {
    const frame = udpFrame(stage.freshPort(), stage.udpPort, pattern(8), toHost(stage));
    frame[24]! ^= 1;
    stage.guest.send(frame);
    await hostMustNotHear(stage);
  }),
  at(1122, '4.1.3.4', 'a wrong UDP checksum is discarded; none at all is allowed', async (stage) => {
    const port = stage.freshPort();
    const frame = udpFrame(port, stage.udpPort, pattern(8), toHost(stage));
    frame[frame.length - 1]! ^= 1;
    stage.guest.send(frame);
    await hostMustNotHear(stage);
    const none = udpFrame(port, stage.udpPort, pattern(8), toHost(stage));
    none.fill(0, 40, 42);
    stage.guest.send(none);
    await mustEcho(stage, port, pattern(8));
  }),
  at(1812, '5.3.1', 'out of hops: answered with time exceeded', async (stage) => {
    stage.guest.send(udpFrame(stage.freshPort(), stage.udpPort, pattern(8), { ...toHost(stage), hopLimit: 1 }));
    await mustBeTold(stage, 'time exceeded', 11, 0);
  }),
  at(1812, '5.3.7', 'a datagram to the host’s loopback, or from one, goes nowhere', async (stage) => {
    const options = stage.guest.frameOptions;
    for (const to of ['127.0.0.1', '0.0.0.0'])
      stage.guest.send(udpFrame(stage.freshPort(), stage.udpPort, pattern(8), { ...options, to }));
    stage.guest.send(udpFrame(stage.freshPort(), stage.udpPort, pattern(8), { ...toHost(stage), from: '127.0.0.1' }));
    await hostMustNotHear(stage);
  }),
  at(4787, 'REQ-1', 'datagrams of one port to two of the host’s leave by one port', async (stage) => {
    const port = stage.freshPort();
    const other = await stage.secondUdp();
    const froms: number[] = [];
    other.on('message', (_, { port }) => froms.push(port));
    stage.guest.send(udpFrame(port, stage.udpPort, pattern(8), toHost(stage)));
    stage.guest.send(udpFrame(port, other.address().port, pattern(8), toHost(stage)));
    await mustEcho(stage, port, pattern(8));
    await stage.ear.next(() => false, 200);
    if (froms.length === 0) throw new Otherwise('the host hears nothing');
    if (froms[0] !== stage.lastUdpPort) throw new Otherwise('by two ports');
  }),
  at(8900, '3.7', 'fragments that overlap lose the whole datagram', async (stage) => {
    for (const frame of fragments(stage, stage.freshPort(), pattern(1200), true)) stage.guest.send(frame);
    await hostMustNotHear(stage);
  }),
  at(1122, '1.2.2', 'ten thousand frames of spoilt headers do no harm', async (stage) => {
    const random = seededRandom(7);
    const s = new WireScript(stage);
    const whole = [
      s.frame('S 0:0(0) <mss 1460,wscale 7>'),
      s.frame('P. 1:501(500) ack 1 <sackOK>'),
      udpFrame(stage.freshPort(), 9, pattern(300), toHost(stage)),
      icmpFrame(8, 0, 7 << 16, pattern(40), toHost(stage)),
      ...fragments(stage, stage.freshPort(), pattern(1200)),
    ];
    for (let i = 0; i < 10_000; i++) {
      const frame = whole[i % whole.length]!.slice();
      const from = i % 2 === 0 ? 15 : 12;
      for (let spoilt = 0; spoilt <= i % 4; spoilt++) frame[from + Math.floor(random() * 60)] = random() * 256;
      // Half of them with a right sum, so that what is behind the header is looked at.
      if (i % 2 === 0) fillChecksum(new DataView(frame.buffer), 14);
      stage.guest.send(frame);
      if (i % 500 === 0) await stage.ear.next(() => false, 5);
    }
    await stage.ear.next(() => false, 500);
    if (!stage.isAlive) throw new Otherwise('it dies');
    stage.clear();
    const [opened, side] = await WireScript.open(stage);
    await opened.mustLive(side);
  }),
];
