/** Asks the network on the interface of its first argument by DHCPv6, as the client of its second (a number), and prints what it is given; run in a namespace. */

import { createSocket } from 'node:dgram';
import { association, clientId, message, read } from '../proxy/dhcpv6-client.ts';

const [device, client = '1'] = process.argv.slice(2);
const SOLICIT = 1;
const REPLY = 7;
/** The kernel looks for duplicates of its own link-local address first, and says that it has none meanwhile. */
const AGAIN_MS = 250;

const socket = createSocket('udp6');
const solicit = message(SOLICIT, 7, clientId([0, 3, 0, 1, 2, 0, 0, 0, 0, Number(client)]), [14, []], association(1));
const ask = (): void => socket.send(solicit, 547, `ff02::1:2%${device}`, () => undefined);
socket.on('message', (octets, { address, port }) => {
  const payload = Uint8Array.from(octets);
  const answer = read({ guest: '', guestPort: 0, peer: '', peerPort: 0, payload, mac: undefined, ingress: undefined });
  if (answer.type !== REPLY) return;
  clearInterval(timer);
  socket.close();
  const given = answer.associations.get(1)?.addresses[0]?.address;
  const servers = Buffer.from(answer.option(23) ?? []).toString('hex');
  process.stdout.write(`dhcpv6 ${given} ${servers} ${address.replace(/%.*/, '')} ${port}\n`);
});
socket.bind(546);
const timer = setInterval(ask, AGAIN_MS);
