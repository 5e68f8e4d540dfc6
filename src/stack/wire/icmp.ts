/** ICMP for IPv4. RFC 792, RFC 1122 3.2.2, RFC 1191 4. The checksum covers header and payload: the caller sums. */

export * from './icmp-header.ts';

/** Fragmentation needed only. RFC 1191 4. */
export const NEXT_HOP_MTU = 6;

export const ECHO_REPLY = 0;
export const DESTINATION_UNREACHABLE = 3;
export const SOURCE_QUENCH = 4;
export const REDIRECT = 5;
export const ECHO_REQUEST = 8;
export const TIME_EXCEEDED = 11;
export const PARAMETER_PROBLEM = 12;

/** Codes of DESTINATION_UNREACHABLE. */
export const NETWORK_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PROTOCOL_UNREACHABLE = 2;
export const PORT_UNREACHABLE = 3;
export const FRAGMENTATION_NEEDED = 4;
/** RFC 1812 5.2.7.1. */
export const ADMINISTRATIVELY_PROHIBITED = 13;

/** Codes of TIME_EXCEEDED. */
export const TIME_TO_LIVE_EXCEEDED = 0;
export const REASSEMBLY_TIME_EXCEEDED = 1;

export const nextHopMtu = (view: DataView, at: number): number => view.getUint16(at + NEXT_HOP_MTU);
/** An error message, about which no ICMP error may be sent. RFC 1122 3.2.2. */
export const isError = (type: number): boolean =>
  type === DESTINATION_UNREACHABLE ||
  type === SOURCE_QUENCH ||
  type === REDIRECT ||
  type === TIME_EXCEEDED ||
  type === PARAMETER_PROBLEM;
