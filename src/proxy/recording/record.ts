/**
 * The records of a recording: one for each time the outside told a network something (an event), for each time the
 * network asked or told the outside something (a call), and for what a call came back with (its result).
 *
 * A record is its kind's number and its fields, each by its type: `number` (a varint, LEB128), `signed` (the same,
 * zigzag), `octets` and `text` (a length and so many octets), `data` (JSON as text), `time` (a double), `frames`
 * (record-encoder.ts). An event begins with its time. What happens during a call, such as a socket that tells of its
 * end from within, comes between the call and its result, each such event behind a `nested`.
 *
 * Kinds and fields are never changed, only added: another number, or another version in the file's header.
 */

export type FieldType = 'time' | 'number' | 'signed' | 'octets' | 'text' | 'data' | 'frames';
export type Fields = Readonly<Record<string, FieldType>>;

export interface Kind {
  readonly code: number;
  readonly what: 'mark' | 'event' | 'call' | 'result';
  readonly fields: Fields;
}

const n = 'number';
const octets = 'octets';
const text = 'text';

const mark = (code: number, fields: Fields = {}): Kind => ({ code, what: 'mark', fields });
const event = (code: number, fields: Fields = {}): Kind => ({
  code,
  what: 'event',
  fields: { atMs: 'time', ...fields },
});
const call = (code: number, fields: Fields = {}): Kind => ({ code, what: 'call', fields });
const result = (code: number, fields: Fields = {}): Kind => ({ code, what: 'result', fields });

/** What was sent, without all of its octets: its first ones, and a sum of all. */
const frame = { octets: n, head: octets, sum: octets } as const;
const payload = { octets: n, sum: octets } as const;

export const kinds = {
  /** The first record: what the network was made of. */
  made: mark(1, { of: 'data' }),
  /** The last one of a recording that was ended in order. */
  end: mark(2),
  nested: mark(3),

  request: event(8, { name: text, argument: 'data' }),
  serviced: event(9),
  'turn over': event(10),
  soon: event(11),
  due: event(12),
  period: event(13, { number: n }),
  /** A promise: of a listener, or of the way to send echo requests. */
  settled: event(14, { promise: n, outcome: 'data' }),
  /** A bare stack, and a connection of it: a method by its name. What is handed over to be called is left out. */
  polled: event(15, { budget: n }),
  quiet: event(17),
  'connection is told': event(16, { connection: n, name: text, argument: 'data' }),

  frames: event(20, { link: n, frames: 'frames' }),
  'link writable': event(21, { link: n }),
  deserted: event(22, { link: n }),
  'link closed': event(23, { link: n, error: text }),

  connected: event(30, { stream: n }),
  readable: event(31, { stream: n }),
  writable: event(32, { stream: n }),
  closed: event(33, { stream: n, code: text }),
  accepted: event(34, { listener: n, vectored: n }),

  received: event(40, { socket: n, payload: octets, address: octets, port: n }),
  failed: event(41, { socket: n, code: text, address: octets, port: n }),
  expired: event(42, { socket: n, router: octets, address: octets, port: n }),
  'too big': event(43, { socket: n, mtu: n, address: octets, port: n }),
  replied: event(45, { socket: n, address: octets, sequence: n, payload: octets }),
  'echo failed': event(46, { socket: n, address: octets, sequence: n, code: text }),
  'echo expired': event(47, { socket: n, address: octets, sequence: n, router: octets }),
  /** The same four, and 'too big', where it is known what the datagram or the request began with. */
  'failed with': event(35, { socket: n, code: text, address: octets, port: n, payload: octets }),
  'expired with': event(36, { socket: n, router: octets, address: octets, port: n, payload: octets }),
  'too big with': event(37, { socket: n, mtu: n, address: octets, port: n, payload: octets }),
  'echo failed with': event(38, { socket: n, address: octets, sequence: n, code: text, payload: octets }),
  'echo expired with': event(39, { socket: n, address: octets, sequence: n, router: octets, payload: octets }),

  /** A bare stack tells its owner, or a connection's; of some things it wants a number. */
  tells: call(50, { name: text, argument: 'data' }),

  random: call(60, { octets: n }),
  resolvers: call(61),
  'host addresses': call(62),
  'wall time': call(63),
  'load echo': call(64),
  hosts: call(65),

  start: call(70, { link: n }),
  reserve: call(71, { link: n, octets: n }),
  commit: call(72, { link: n, checksumStart: n, checksumOffset: n, segmentOctets: n, ...frame }),
  'flush link': call(73, { link: n }),
  'close link': call(74, { link: n }),

  connect: call(80, { address: octets, port: n }),
  'connect path': call(81, { path: text }),
  listen: call(82, { address: text, port: n }),
  bind: call(83, { family: n }),
  'listen datagram': call(84, { address: text, port: n }),
  'flush host': call(85),

  read: call(90, { stream: n, octets: n }),
  readv: call(91, { stream: n, octets: n }),
  room: call(92, { stream: n }),
  write: call(93, { stream: n, ...payload }),
  'end stream': call(94, { stream: n }),
  'abort stream': call(95, { stream: n }),
  name: call(96, { stream: n, of: text }),

  /** Hop limit 0: the host's own. */
  send: call(100, { socket: n, address: octets, port: n, hopLimit: n, ...payload }),
  'close socket': call(101, { socket: n }),
  'socket port': call(102, { socket: n }),
  'close listener': call(103, { listener: n }),
  /** The same as `send`, of a datagram that is not to be cut. */
  'send whole': call(104, { socket: n, address: octets, port: n, hopLimit: n, ...payload }),

  'open echo': call(110, { family: n }),
  'send echo': call(111, { socket: n, address: octets, sequence: n, hopLimit: n, ...payload }),
  'close echo': call(112, { socket: n }),

  gave: result(120, { number: 'signed' }),
  'gave octets': result(121, { octets }),
  'gave text': result(122, { text }),
  'gave data': result(123, { data: 'data' }),
  threw: result(124, { error: 'data' }),
} as const satisfies Record<string, Kind>;

export type KindName = keyof typeof kinds;

const names: (KindName | undefined)[] = [];
for (const [name, { code }] of Object.entries(kinds)) names[code] = name as KindName;

export const kindOf = (code: number): KindName | undefined => names[code];

/** What is wrong with a recording, and where. */
export class RecordingError extends Error {
  readonly code = 'RECORDING';
}

/** JSON that keeps octets and numbers beyond JSON's. */
export const formatData = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) => {
    if (item instanceof Uint8Array)
      return { $octets: [...item].map((one) => one.toString(16).padStart(2, '0')).join('') };
    if (typeof item === 'number' && !Number.isFinite(item)) return { $number: String(item) };
    return item;
  }) ?? 'null';

/** Throws a SyntaxError. null stands for undefined. */
export function parseData(source: string): unknown {
  const value: unknown = JSON.parse(source, (_key, item: unknown) => {
    const { $octets, $number } = (item ?? {}) as { $octets?: unknown; $number?: unknown };
    if (typeof $octets === 'string')
      return Uint8Array.from($octets.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    return typeof $number === 'string' ? Number($number) : item;
  });
  return value ?? undefined;
}
