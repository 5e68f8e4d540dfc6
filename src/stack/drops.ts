/** Every frame, packet, segment or datagram that the stack lets fall has a reason here, and a counter. */

const reasons = [
  'ethernet-short',
  'ethernet-source' /** multicast, zero or our own MAC address as the source */,
  'ethernet-destination' /** unicast to another station */,
  'ethernet-type',
  'arp-malformed',
  'arp-source',
  'ipv4-malformed',
  'ipv4-checksum',
  'ipv4-source' /** a source that no guest can have */,
  'ipv4-destination' /** broadcast or multicast that nobody listens to, loopback, reserved */,
  'ipv4-protocol',
  'ipv4-time-to-live',
  'ipv6-malformed' /** or on a link that carries too little for IPv6 */,
  'ipv6-source' /** a source that no guest can have */,
  'ipv6-destination' /** a group that nobody listens to, link-local or out of the source's scope, loopback, an IPv4 address */,
  'ipv6-header' /** an extension header that may not be passed over. RFC 8200 4.2, 4.4 */,
  'ipv6-protocol',
  'ipv6-hop-limit',
  'ndp-malformed' /** or from beyond the link. RFC 4861 6.1, 7.1 */,
  'ndp-source' /** neighbour discovery about an address or MAC address that is not the guest's own, or of a router */,
  'fragment-malformed',
  'fragment-overlap' /** RFC 5722's rule, applied to IPv4 too: the whole datagram goes */,
  'fragment-evicted',
  'fragment-timeout',
  'icmp-malformed',
  'icmp-checksum',
  'icmp-type',
  'icmp-rate' /** an error that was due, beyond the rate. RFC 1812 4.3.2.8 */,
  'udp-malformed',
  'udp-checksum',
  'udp-no-listener',
  'tcp-malformed',
  'tcp-checksum',
  'tcp-no-flow',
  'tcp-half-open' /** a held SYN gave way to a newer one */,
  'tcp-flows' /** a SYN beyond the limit of flows */,
  'tcp-evicted' /** a stalled connection gave its memory to others */,
  'tcp-no-ack',
  'tcp-unacceptable' /** outside the window. RFC 9293 3.10.7.4 */,
  'tcp-ack-unacceptable' /** RFC 5961 5.2 */,
  'tcp-timestamps' /** with an older one than the last, or none. RFC 7323 3.2, 5.3 */,
  'tcp-challenged' /** RST or SYN answered by a challenge ACK. RFC 5961 3.2, 4.2 */,
  'tcp-after-close' /** data for an end that no longer reads */,
  'tcp-out-of-order' /** no room to keep it until the gap is filled */,
  'tcp-not-taken' /** in order, but its owner took less than it had promised */,
  'link-full',
  'link-mtu' /** does not fit and may not be fragmented */,
  'no-neighbour',
  'address-family' /** of ours, between an IPv4 address and one of IPv6 */,
] as const;

export type DropReason = (typeof reasons)[number];

export class Drops {
  readonly counts: Record<DropReason, number>;

  constructor() {
    const counts: Partial<Record<DropReason, number>> = {};
    for (const reason of reasons) counts[reason] = 0;
    this.counts = counts as Record<DropReason, number>;
  }

  count(reason: DropReason): void {
    this.counts[reason]++;
  }
}
