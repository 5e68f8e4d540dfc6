/** Sends echo requests through a ping socket and prints what came of them; run in a namespace that allows it. */

import { LinuxEcho } from '../../src/proxy/adapter/linux-echo.ts';
import type { HostEchoHandler, HostEchoSocket } from '../../src/proxy/port.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { address } from './fake-stack.ts';
import { fragmentsOf } from './host-peer.ts';

const replies: string[] = [];
let sentToProhibited: boolean | undefined;
const keepAlive = setInterval(() => undefined, 1000);

function serviced(): void {
  if (replies.length < 7) return;
  clearInterval(keepAlive);
  socket.close();
  socket6.close();
  const afterClose = socket.send(address('10.9.0.1'), 4, 64, fragmentsOf());
  process.stdout.write(`${JSON.stringify({ replies, sentToProhibited, afterClose })}\n`);
}

const echo = new LinuxEcho(serviced);
const handler: HostEchoHandler = {
  replied: (_, from, sequence, payload) => {
    replies.push(`${formatAddress(from)} ${sequence} ${payload.length}`);
  },
  failed: (_, to, sequence, code, payload) => {
    replies.push(`${formatAddress(to)} ${sequence} ${code} ${payload && Buffer.from(payload)}`);
  },
  expired: (_, to, sequence, router) => {
    replies.push(`${formatAddress(to)} ${sequence} expired at ${formatAddress(router)}`);
  },
};
const socket = echo.open(4, handler) as HostEchoSocket;
const socket6 = echo.open(6, handler) as HostEchoSocket;
sentToProhibited = socket.send(address('10.9.0.2'), 9, 64, fragmentsOf());
socket.send(address('10.9.0.1'), 1, 64, fragmentsOf(Buffer.from('pi'), Buffer.from('ng')));
socket.send(address('10.9.0.1'), 2, 5, fragmentsOf(new Uint8Array(30_000)));
socket.send(address('127.0.0.1'), 3, 64, fragmentsOf());
socket6.send(address('fd99::1'), 1, 64, fragmentsOf(Buffer.from('pi'), Buffer.from('ng')));
socket6.send(address('fd99::1'), 2, 5, fragmentsOf(new Uint8Array(30_000)));
socket6.send(address('::1'), 3, 64, fragmentsOf());
// A bridge without anybody at its other end: the neighbour is asked for in vain.
socket6.send(address('fd98::2'), 4, 64, fragmentsOf(Buffer.from('lost')));
