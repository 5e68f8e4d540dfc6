/** A guest that is there, and says so when the stack asks it itself. RFC 4861 7.3.3, RFC 1122 2.3.2.1 (2). */

import { formatAddress, ofIpv4 } from '../../src/stack/wire/address.ts';
import * as arp from '../../src/stack/wire/arp.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import { NEIGHBOR_SOLICITATION } from '../../src/stack/wire/ndp.ts';
import { arpFrame } from './frames.ts';
import { advertisement } from './ipv6-frames.ts';

/** What it answers to a frame; undefined: it was not asked. */
export function answerTo(frame: Uint8Array): Uint8Array | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (ethernet.isGroup(view, 0)) return undefined;
  const sourceMac = ethernet.destination(view, 0);
  const destinationMac = ethernet.source(view, 0);
  if (ethernet.type(view, 0) === ethernet.TYPE_ARP) {
    if (arp.operation(view, 14) !== arp.REQUEST) return undefined;
    const dotted = (word: number): string => formatAddress(ofIpv4(word));
    const [sender, target] = [dotted(arp.senderAddress(view, 14)), dotted(arp.targetAddress(view, 14))];
    return arpFrame(arp.REPLY, sourceMac, target, sender, { destinationMac });
  }
  const isSolicitation =
    ethernet.type(view, 0) === ethernet.TYPE_IPV6 && frame[20] === 58 && frame[54] === NEIGHBOR_SOLICITATION;
  if (!isSolicitation) return undefined;
  const [to, target] = [formatAddress(frame.slice(22, 38)), formatAddress(frame.slice(62, 78))];
  return advertisement(target, { to, sourceMac, destinationMac });
}
