/** The TCP/IP stack, to be used alone: attach links, forward what nobody claims, poll. */

export {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNKNOWN,
  CHECKSUM_VERIFIED,
  FrameBatch,
} from './frame-batch.ts';
export { FrameMemory } from './frame-memory.ts';
export { Netstack, type NetstackOptions } from './netstack.ts';
export { Pipeline, type PipelineOptions, type TappedBatch } from './pipeline.ts';
export type * from './port.ts';
export { defaultLimits, type TcpLimits } from './tcp/limits.ts';
export { formatAddress, parseAddress, parseSubnet } from './wire/address.ts';
