/** Where the stack departs from an RFC, and why. docs/CONFORMANCE.md is made of this and of the tests' names. */

export interface Deviation {
  readonly rfc: number;
  readonly section: string;
  /** What is done, or not done, instead. */
  readonly what: string;
  readonly why: string;
}

const at = (rfc: number, section: string, what: string, why: string): Deviation => ({ rfc, section, what, why });

export const deviations: readonly Deviation[] = [
  at(
    791,
    '3.1',
    'Source route, record route and timestamp options are passed over, not acted on',
    'They are skipped safely; nothing beyond the gateway would see them, and source routes are an attack',
  ),
  at(
    791,
    '3.2',
    'Fragments that overlap lose the whole datagram; the RFC lets the later one win',
    'RFC 5722 and 8900: no honest sender makes any',
  ),
  at(792, 'Timestamp, Information', 'Not answered', 'RFC 1122 3.2.2.7 and 3.2.2.8 leave them out'),
  at(
    792,
    'Destination Unreachable',
    'What a guest says of a datagram that came by a published port is not passed on to the client on the host',
    'It would take rights that Slipway does not ask for; of connections it is heeded',
  ),
  at(792, 'Redirect', 'Neither sent nor heeded', 'There is one gateway'),
  at(
    826,
    'Packet Reception',
    'The sender’s hardware address must be that of the frame',
    'A guest may not speak for another',
  ),
  at(
    826,
    'Packet Reception',
    'Requests for addresses beyond the subnet are answered',
    'The gateway stands for the whole world: RFC 1027',
  ),
  at(
    1122,
    '3.2.2.5',
    'No parameter problem is sent; a malformed header is dropped and counted',
    'It helps only an attacker who probes the parser',
  ),
  at(1122, '3.3.2', 'Fragments wait for 15 s, not 60 to 120 s', 'The link is inside one machine; the buffers are few'),
  at(
    1122,
    '4.2.2.13',
    'TIME-WAIT lasts for 10 s, and at most 8192 connections are in it',
    'Nothing lives for 4 minutes on the link; a later SYN takes over the tuple',
  ),
  at(1122, '4.2.3.9', 'A hard error does not abort an established connection', 'RFC 5927 6: it could come from anyone'),
  at(
    1191,
    '3',
    'An MTU below 576 is not believed',
    'It would make thousands of tiny segments of a stream: an attack, not a path',
  ),
  at(
    1191,
    '5',
    'A message without an MTU (of a router before RFC 1191) changes nothing',
    'The guest is the only hop, and says it',
  ),
  at(1191, '6.3', 'The MTU of a connection does not grow again', 'A path inside one machine does not change so'),
  at(
    1812,
    '4.2.2.8',
    'Datagrams in fragments are put together on the way through',
    'They go on through sockets of the host',
  ),
  at(1812, '4.3.3.5', 'No parameter problem is sent', 'As RFC 1122 3.2.2.5'),
  at(1812, '5.3.2', 'Type of service and identification do not go through', 'The host’s sockets set their own'),
  at(4443, '4.2', 'An echo request to a group has no answer', 'One frame must not have many answers'),
  at(
    4787,
    'REQ-3, REQ-4',
    'A source has whatever port the host has free, above 1023, odd or even',
    'Neither is asked for; who needs the guest’s own port publishes it',
  ),
  at(
    4787,
    'REQ-10',
    'There are no application level gateways to turn off',
    'What an application says of addresses is its own affair',
  ),
  at(
    4861,
    '6.2.6',
    'A router solicitation is answered at once, and to its sender alone',
    'There is one router on the link',
  ),
  at(
    4861,
    '7.2.3, 7.2.5',
    'The link-layer address that a message tells must be that of its frame; packets of guests tell it as well',
    'A guest may not speak for another; and who sends is where it sends from',
  ),
  at(4861, '8', 'Redirects are neither sent nor heeded', 'There is one gateway'),
  at(
    4862,
    '5.4',
    'The gateway does not probe for its own addresses before it uses them',
    'They are its by definition; a guest that probes for one is told so',
  ),
  at(
    5382,
    'REQ-5',
    'There is no limit of idleness at all, not even the one of 2 hours 4 minutes',
    'An idle flow holds no memory for octets and no timer',
  ),
  at(
    5681,
    '3.1',
    'The initial window is 10 segments or 128 KiB, whatever is more, after a lost SYN too',
    'The link is a wire inside one machine, shared with nobody; RFC 6928 argues for the Internet',
  ),
  at(
    5681,
    '3.1',
    'Slow start counts octets without a bound for one acknowledgement',
    'Guests acknowledge up to 64 KiB at once; RFC 3465 with L unbounded',
  ),
  at(5681, '4.1', 'The window does not shrink while a connection idles', 'As above'),
  at(
    5961,
    '7',
    'Challenge ACKs are limited per connection, 5 a second, not for all together',
    'A common limit tells one connection about another (CVE-2016-5696)',
  ),
  at(
    6298,
    '2.4',
    'The timeout’s floor is 100 ms, not 1 s',
    'A round trip takes a tenth of a millisecond; the floor stays above the delay with which guests acknowledge',
  ),
  at(
    6298,
    '5.7',
    'After a SYN that was sent again the timeout does not begin at 3 s',
    'The first measurement is taken from the data instead; see 2.4',
  ),
  at(
    6675,
    '4, 5',
    'What is lost is found by time (RFC 8985), not by the number of blocks above; there is no rescue retransmission',
    'It tells a segment that was overtaken from a lost one, and finds what was lost twice',
  ),
  at(6691, '2', 'An MSS below 88 counts as 88', 'Headers would cost more than the payload'),
  at(7323, '3.2', 'A reset carries no timestamps', 'It is believed by its number alone'),
  at(
    8200,
    '4.2',
    'A header with more than 8 options, and a chain of more than 8 headers, are dropped',
    'RFC 8504 5.3: no honest sender makes any',
  ),
  at(
    8200,
    '4.5',
    'More than 216 octets of headers before a fragment header are dropped',
    'Reassembly’s memory is bounded; no honest sender makes them',
  ),
  at(
    7323,
    '5.3',
    'Of an empty acknowledgement with an older timestamp the blocks are heeded',
    'Others overtook it; what it says the guest has, the guest has',
  ),
  at(
    8985,
    '7.2',
    'A probe is sent after 20 ms at least, and 50 ms more for a lone segment',
    'A guest that the host has not scheduled meanwhile has lost nothing; guests acknowledge a lone segment after 40 ms',
  ),
  at(9293, '3.6.1', 'TIME-WAIT lasts for 10 s, not twice the MSL of 2 minutes', 'As RFC 1122 4.2.2.13'),
  at(
    9293,
    '3.6.1',
    'In FIN-WAIT-2 the guest is asked once a minute whether it is there',
    'A guest that has gone must not hold the connection for ever; one that is there may take its time',
  ),
  at(9293, '3.7.4', 'There is no Nagle algorithm (SHLD-7)', 'Whoever wrote to the host’s socket has decided already'),
  at(
    9293,
    '3.8.5',
    'The owner is not told of urgent octets (MUST-32)',
    'RFC 6093: what is urgent is delivered in line; the host’s sockets could not carry the mark',
  ),
  at(9293, '3.9.2.2', 'A hard ICMP error does not abort an established connection (SHLD-26)', 'RFC 5927 6'),
  at(
    9293,
    '3.10.4',
    'A close in SYN-SENT waits for the handshake, then sends FIN',
    'It keeps what was written; an abort ends the opening',
  ),
  at(
    9293,
    '3.10.7.2',
    'A SYN is answered only when the host has been reached; until then its repetitions are ignored',
    'So that a refusal of the host is one for the guest',
  ),
  at(
    9293,
    '3.10.7.2',
    'Payload and FIN on a SYN or SYN-ACK are not kept (3.10.7.3 as well)',
    'They are not acknowledged, so that the guest sends them again',
  ),
  at(
    9293,
    '3.10.7.4',
    'In SYN-RECEIVED the first SYN again is answered by the SYN-ACK, not by an empty acknowledgement',
    'The SYN-ACK was lost; it says all that the acknowledgement would',
  ),
  at(8415, '6.3', 'Prefixes are not delegated', 'There is one prefix, the network’s own; what asks is told so'),
  at(8415, '18.3.11', 'Clients are not reconfigured', 'What they are told does not change while the network is there'),
  at(8415, '19', 'Relays are not served', 'There are none: every guest is on the link'),
];

/** RFCs of this layer of which nothing is implemented. */
export const absent: readonly (readonly [string, string])[] = [
  [
    'RFC 6937 (PRR), RFC 9438 (CUBIC)',
    'The link is a wire inside one machine; the host’s kernel does it on the real path',
  ],
  ['RFC 3810 (multicast listeners)', 'Every guest on the switch hears every group; there are no routers to tell'],
  ['RFC 3168 (ECN)', 'The host’s kernel does it on the real path'],
  ['RFC 7413 (Fast Open), RFC 5925 (authentication)', 'As above'],
];
