/**
 * The vhost-user protocol's messages. QEMU docs/interop/vhost-user.rst: a header of request, flags and size (u32 each,
 * native byte order, which is little-endian wherever this runs), then the payload; descriptors travel beside it.
 */

export const headerOctets = 12;
/** Largest payload this back end accepts: a memory table of `maxRegions`, or a configuration space. */
export const maxPayloadOctets = 512;
export const maxRegions = 8;
/** Most descriptors with one message. */
export const maxDescriptors = 8;

export const flagVersion = 0x1;
export const flagVersionMask = 0x3;
export const flagReply = 0x4;
export const flagNeedReply = 0x8;

/** "Payload descriptor is invalid": bit 8 of the u64 of SET_VRING_KICK, CALL and ERR. */
export const noDescriptor = 0x100;

export const request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
} as const;

/** VHOST_USER_F_PROTOCOL_FEATURES: protocol features may be negotiated. */
export const featureProtocol = 1n << 30n;

export const protocolFeature = { MQ: 1n << 0n, REPLY_ACK: 1n << 3n, CONFIG: 1n << 9n } as const;

/** One message as it arrived. `payload` is valid during the call that hands it over. */
export interface Message {
  readonly request: number;
  readonly flags: number;
  readonly payload: DataView;
  /** The receiver's to keep or close. */
  readonly descriptors: readonly number[];
}

/** A u64 address or size as a number; NaN when no exact number holds it. */
export function wordAt(view: DataView, offset: number): number {
  const value = view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
