/**
 * `[tcp|udp:][HOSTIP:]HOSTPORT[-LAST]:[GUESTIP:]GUESTPORT[-LAST]`, IPv6 addresses in brackets: which host ports go to
 * which ports of the guest. Without HOSTIP the host's loopback addresses are meant, without GUESTIP the first guest.
 */

import { isIP } from 'node:net';
import { UsageError } from './usage-error.ts';

export interface PublishSpec {
  readonly protocol: 'tcp' | 'udp';
  /** Undefined: the loopback addresses. */
  readonly hostAddress: string | undefined;
  readonly hostPort: number;
  /** Undefined: the first guest. */
  readonly guestAddress: string | undefined;
  readonly guestPort: number;
}

const form = '[tcp|udp:][HOSTIP:]HOSTPORT[-LAST]:[GUESTIP:]GUESTPORT[-LAST]';

/** One entry per port of the range. Throws a UsageError that says what is wrong. */
export function parsePublishSpec(text: string): PublishSpec[] {
  const wrong = (why: string): UsageError => new UsageError(`--publish ${text}: ${why}; the form is ${form}`);
  const words = text.match(/\[[^\]]*\]|[^:[\]]+/g) ?? [];
  if (words.join(':') !== text) throw wrong('an address or port is missing or malformed');
  const rest = [...words];
  const protocol = rest[0] === 'tcp' || rest[0] === 'udp' ? (rest.shift() as 'tcp' | 'udp') : 'tcp';

  const address = (): string | undefined => {
    const word = rest[0];
    if (word === undefined || /^[0-9-]+$/.test(word)) return undefined;
    const bare = word.startsWith('[') ? word.slice(1, -1) : word;
    if (isIP(bare) !== (word.startsWith('[') ? 6 : 4)) throw wrong(`'${word}' is not an address`);
    rest.shift();
    return bare;
  };
  const range = (lowest: number): readonly [first: number, last: number] => {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(rest.shift() ?? '');
    if (!match) throw wrong('a port is missing');
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first < lowest || last > 65535) throw wrong(`ports are from ${lowest} to 65535`);
    if (last < first) throw wrong(`the range ${first}-${last} is backwards`);
    return [first, last];
  };

  const hostAddress = address();
  const [hostFirst, hostLast] = range(0);
  const guestAddress = address();
  const [guestFirst, guestLast] = range(1);
  if (rest.length > 0) throw wrong(`'${rest.join(':')}' is left over`);
  if (hostLast - hostFirst !== guestLast - guestFirst) throw wrong('the two ranges differ in length');
  return Array.from({ length: hostLast - hostFirst + 1 }, (_, i) => ({
    protocol,
    hostAddress,
    hostPort: hostFirst + i,
    guestAddress,
    guestPort: guestFirst + i,
  }));
}
