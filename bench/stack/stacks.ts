/** Stacks for benches: what they forward to, and an owner of connections that takes and drops whatever comes. */

import { Netstack } from '../../src/stack/netstack.ts';
import type { ArenaSource, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { parseIpv4, parseIpv6 } from '../../src/stack/wire/address.ts';

export const clock = { nowMs: () => performance.now() };
export const BUDGET_OCTETS = 1 << 20;

const hostOf = (host: number): Uint8Array => parseIpv6(`fd00::${host}`)!;

/** A stack that is 192.168.65.`host` and fd00::`host`, a router of IPv4 alone; `accept` gets what the other end opens. */
export const netstackOf = (memory: ArenaSource, accept: (connection: TcpConnection) => void, host = 1): Netstack =>
  new Netstack({
    clock,
    memory,
    random: { fill: (into) => void crypto.getRandomValues(into as Uint8Array<ArrayBuffer>) },
    forwarder: { tcp: accept, udp: () => undefined, echo: () => undefined },
    macAddress: Uint8Array.of(2, 0, 0, 0, 0, host),
    gateway: parseIpv4(`192.168.65.${host}`)!,
    hostAlias: parseIpv4(`192.168.65.${host + 1}`)!,
    prefix: 24,
    ipv6: { prefix: parseIpv6('fd00::')!, gateway: hostOf(host), hostAlias: hostOf(host), isRouter: false },
  });

export const sink: TcpHandler = {
  established: () => undefined,
  room: () => 4 << 20,
  received: (_connection, { octets }) => octets,
  receivedEnd: () => undefined,
  writable: () => undefined,
  closed: (_connection, reason) => {
    throw new Error(`the stream ended: ${reason}`);
  },
};

/** A benchmark of a stack that drops frames measures something else. */
export function assertNoDrops(netstack: Netstack): void {
  const dropped = Object.entries(netstack.drops).find(([, count]) => count > 0);
  if (dropped) throw new Error(`dropped: ${dropped}`);
}
