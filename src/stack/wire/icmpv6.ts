/**
 * ICMPv6. RFC 4443. The checksum covers the pseudo-header (`ipv6.pseudoHeaderSum`), header and payload: the caller sums.
 * Neighbour discovery: ndp.ts.
 */

export * from './icmp-header.ts';

/** Packet too big only. 3.2. */
export const MTU = 4;
/** Parameter problem only. 3.4. */
export const POINTER = 4;

export const DESTINATION_UNREACHABLE = 1;
export const PACKET_TOO_BIG = 2;
export const TIME_EXCEEDED = 3;
export const PARAMETER_PROBLEM = 4;
export const ECHO_REQUEST = 128;
export const ECHO_REPLY = 129;

/** Codes of DESTINATION_UNREACHABLE. 3.1. */
export const NO_ROUTE = 0;
export const ADMINISTRATIVELY_PROHIBITED = 1;
export const ADDRESS_UNREACHABLE = 3;
export const PORT_UNREACHABLE = 4;

/** Codes of TIME_EXCEEDED. 3.3. */
export const HOP_LIMIT_EXCEEDED = 0;
export const REASSEMBLY_TIME_EXCEEDED = 1;

export const mtu = (view: DataView, at: number): number => view.getUint32(at + MTU);
export const pointer = (view: DataView, at: number): number => view.getUint32(at + POINTER);

/** An error message, about which no ICMPv6 error may be sent. RFC 4443 2.1, 2.4(e.1). */
export const isError = (type: number): boolean => type < 128;
