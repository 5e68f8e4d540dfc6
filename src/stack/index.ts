/** The TCP/IP stack, to be used alone: attach links, forward what nobody claims, poll. */

export {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNKNOWN,
  CHECKSUM_VERIFIED,
  FrameBatch,
} from './frame-batch.ts';
export { FrameMemory } from './frame-memory.ts';
export type { Ipv6Options } from './ipv6-identity.ts';
export * from './link/index.ts';
export { Netstack, type NetstackOptions } from './netstack.ts';
export { Pipeline, type PipelineOptions, type TappedBatch } from './pipeline.ts';
export type * from './port.ts';
export type { Listener } from './sockets/listener.ts';
export { SocketError, type SocketErrorCode } from './sockets/socket-error.ts';
export {
  type ConnectOptions,
  type ListenOptions,
  SocketStack,
  type SocketStackOptions,
} from './sockets/socket-stack.ts';
export type { StreamConnection } from './sockets/stream-connection.ts';
export { defaultLimits, type TcpLimits } from './tcp/limits.ts';
export { formatAddress, parseAddress, parseSubnet } from './wire/address.ts';
