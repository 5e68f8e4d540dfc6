/**
 * A property that fails leaves a recording. Nothing is recorded as long as all goes well: what has failed is done again,
 * which comes to the same, as all of it depends on its seed alone, and this time each stack is recorded, with all that
 * its owner does to it. `slipway net replay FILE` runs that again; `--list` tells it in words.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import type { Value } from '../../src/proxy/recording/record-encoder.ts';
import { RecordedLink } from '../../src/proxy/recording/recorded-link.ts';
import { Recorder } from '../../src/proxy/recording/recorder.ts';
import { ConnectionNumbers, endpointsOf, handedOver } from '../../src/proxy/recording/replayed-stack.ts';
import { Netstack, type NetstackOptions } from '../../src/stack/netstack.ts';
import type {
  Endpoints,
  Forwarder,
  FragmentList,
  LinkPort,
  TcpConnection,
  TcpHandler,
  UdpDatagram,
  Undelivered,
} from '../../src/stack/port.ts';

/** Recordings of what is done again; undefined: nothing is. */
let recordings: { readonly recorder: Recorder; readonly parts: readonly Uint8Array[] }[] | undefined;

const folder = (): string => process.env.SLIPWAY_RECORDINGS ?? join(tmpdir(), 'slipway-recordings');

/** Does `run` again, recorded, and says where the recordings are. It may fail as it did. */
export function recordAgain(name: string, run: () => unknown, where = folder()): string {
  const made: NonNullable<typeof recordings> = [];
  recordings = made;
  try {
    run();
  } catch {
    // It is known how it fails.
  } finally {
    recordings = undefined;
  }
  mkdirSync(where, { recursive: true });
  const paths = made.map(({ recorder, parts }, i) => {
    recorder.end();
    const path = join(where, made.length === 1 ? `${name}.rec` : `${name}-${i + 1}.rec`);
    writeFileSync(path, Buffer.concat(parts), { mode: 0o600 });
    return path;
  });
  return paths.map((path) => `slipway net replay ${path}`).join('\n');
}

/** Does `run`; where it fails, the failure says where the recording of the same once more is. */
export function recordFailure<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const where = recordAgain(name, run);
    throw new Error(`${(error as Error).message}\nIts recording:\n${where}`, { cause: error });
  }
}

/** `fc.assert` of a property that has to do with stacks. */
export function assertRecorded<T>(name: string, property: fc.IProperty<T>, parameters: fc.Parameters<T> = {}): void {
  const found = fc.check(property, parameters);
  if (!found.failed) return;
  const again = { seed: found.seed, path: found.counterexamplePath ?? '', endOnFailure: true, numRuns: 1 };
  const where = recordAgain(`${name}-${found.seed}`, () => fc.check(property, { ...parameters, ...again }));
  throw new Error(`${fc.defaultReportMessage(found)}\nIts recording:\n${where}`, { cause: found.errorInstance });
}

/** A stack, which is recorded where a failure is done again. */
export function makeStack(options: NetstackOptions): Netstack {
  if (!recordings) return new Netstack(options);
  const parts: Uint8Array[] = [];
  const { clock, random, forwarder, memory: _memory, wake: _wake, ...description } = options;
  const recorder = new Recorder({ clock, sink: (octets) => void parts.push(octets.slice()) }, { stack: description });
  recordings.push({ recorder, parts });
  return new StackRecording(recorder).make(options);
}

type Method = (...argument: unknown[]) => unknown;

class StackRecording {
  readonly #recorder: Recorder;
  readonly #numbers = new ConnectionNumbers();
  readonly #shown = new Map<TcpConnection, TcpConnection>();
  #links = 0;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  make(options: NetstackOptions): Netstack {
    const recorder = this.#recorder;
    const stack = new Netstack({
      ...options,
      clock: recorder.clock,
      random: {
        fill: (into) => {
          recorder.call('random', [into.length], () => options.random.fill(into));
          recorder.gaveOctets(into);
        },
      },
      forwarder: this.#forwarder(options.forwarder),
    });
    return new Proxy(stack, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...argument: unknown[]) => this.#asked(target, String(name), value as Method, argument);
      },
      set: (target, name, value) => Reflect.set(target, name, value, target),
    });
  }

  #asked(stack: Netstack, name: string, method: Method, argument: unknown[]): unknown {
    const recorder = this.#recorder;
    const call = (values: unknown[]): unknown => method.apply(stack, values);
    if (name === 'pollAt' || name === 'flows') return call(argument);
    if (name === 'poll')
      return recorder.event('polled', [argument[1] as number], () =>
        stack.poll(recorder.clock.nowMs(), argument[1] as number),
      );
    if (name === 'attach') {
      const link = argument[0] as LinkPort;
      const { name, mtu, offload } = link;
      return recorder.event('request', ['attach', { name, mtu, offload }], () =>
        call([new RecordedLink(link, this.#links++, recorder)]),
      );
    }
    const kept = argument.map((value) => (isCalled(value) ? undefined : plain(value)));
    const wrapped = argument.map((value) => this.#wrapped(name, value));
    const result = recorder.event('request', [name, kept], () => {
      const found = call(wrapped);
      if (name === 'connect') this.#numbers.of(found as TcpConnection);
      return found;
    });
    return name === 'connect' ? this.#show(result as TcpConnection) : result;
  }

  #wrapped(name: string, value: unknown): unknown {
    if (name === 'connect' && isCalled(value)) return this.#handler(value as TcpHandler);
    if (typeof value !== 'function') return value;
    if (name === 'listenTcp')
      return (connection: TcpConnection) => this.#tellOf('accept', connection, value as (c: TcpConnection) => void);
    if (name === 'listenUdp')
      return (datagram: UdpDatagram) => this.#tellDatagram('datagram', datagram, () => value(datagram));
    throw new Error(`${name} cannot be recorded yet`);
  }

  #forwarder(forwarder: Forwarder): Forwarder {
    return {
      tcp: (connection) => this.#tellOf('tcp', connection, (shown) => forwarder.tcp(shown)),
      tcpGone: (connection) => this.#tellOf('tcpGone', connection, (shown) => forwarder.tcpGone?.(shown)),
      udp: (datagram) => this.#tellDatagram('udp', datagram, () => forwarder.udp(datagram)),
      echo: (request) => this.#tellDatagram('echo', request, () => forwarder.echo(request)),
    };
  }

  #handler(handler: TcpHandler): TcpHandler {
    const recorder = this.#recorder;
    return {
      established: (connection) => this.#tellOf('established', connection, (shown) => handler.established(shown)),
      room: (connection) =>
        recorder.callFor('tells', ['room', { connection: this.#numbers.of(connection) }], () =>
          handler.room(this.#show(connection)),
        ),
      received: (connection, octets) =>
        recorder.callFor(
          'tells',
          ['received', { connection: this.#numbers.of(connection), ...handedOver(octets) }],
          () => handler.received(this.#show(connection), octets),
        ),
      receivedEnd: (connection) => this.#tellOf('receivedEnd', connection, (shown) => handler.receivedEnd(shown)),
      writable: (connection) => this.#tellOf('writable', connection, (shown) => handler.writable(shown)),
      closed: (connection, reason) =>
        recorder.call('tells', ['closed', { connection: this.#numbers.of(connection), reason }], () =>
          handler.closed(this.#show(connection), reason),
        ),
    };
  }

  #tellOf(name: string, connection: TcpConnection, run: (shown: TcpConnection) => void): void {
    this.#recorder.call('tells', [name, { connection: this.#numbers.of(connection) }], () =>
      run(this.#show(connection)),
    );
  }

  #tellDatagram(name: string, datagram: Endpoints & { readonly payload: FragmentList }, run: () => void): void {
    this.#recorder.call('tells', [name, { ...endpointsOf(datagram), ...handedOver(datagram.payload) }], run);
  }

  /** A connection as its owner is to have it: what it is told is kept. */
  #show(connection: TcpConnection): TcpConnection {
    let shown = this.#shown.get(connection);
    if (shown) return shown;
    const recorder = this.#recorder;
    const number = this.#numbers.of(connection);
    const told = (name: string, argument: Value, run: () => unknown): unknown => {
      return recorder.event('connection is told', [number, name, argument], run);
    };
    let places: FragmentList | undefined;
    const methods: Readonly<Record<string, (...argument: never[]) => unknown>> = {
      accept: (handler: TcpHandler) => told('accept', undefined, () => connection.accept(this.#handler(handler))),
      reject: (how: Parameters<TcpConnection['reject']>[0]) => told('reject', how, () => connection.reject(how)),
      reserveSend: () => {
        places = undefined;
        return told('reserveSend', undefined, () => connection.reserveSend());
      },
      reserveSendList: () => {
        places = told('reserveSendList', undefined, () => connection.reserveSendList()) as FragmentList | undefined;
        return places;
      },
      commitSend: (octets: number) => {
        const { sendArena, sendOffset } = connection;
        const kept = places ? gathered(places, octets) : sendArena.bytes.slice(sendOffset, sendOffset + octets);
        return told(places ? 'commitSendList' : 'commitSend', kept, () => connection.commitSend(octets));
      },
      end: () => told('end', undefined, () => connection.end()),
      abort: () => told('abort', undefined, () => connection.abort()),
      roomGrew: () => told('roomGrew', undefined, () => connection.roomGrew()),
    };
    shown = new Proxy(connection, {
      get: (target, name) => {
        if (Object.hasOwn(methods, name)) return methods[String(name)];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value, target),
    });
    this.#shown.set(connection, shown);
    return shown;
  }
}

const isCalled = (value: unknown): boolean =>
  typeof value === 'function' || typeof (value as { established?: unknown } | undefined)?.established === 'function';

/** Arguments may be datagrams, of which the octets of the payload alone are somebody's to keep. */
function plain(value: unknown): unknown {
  if (value === null || typeof value !== 'object' || !('guestAddress' in value)) return value;
  const { payload } = value as Undelivered;
  return { ...endpointsOf(value as Endpoints), ...(payload && { payload: gathered(payload, payload.octets) }) };
}

function gathered({ items, count }: FragmentList, octets: number): Uint8Array {
  const parts = items.slice(0, count).map(({ arena, offset, length }) => arena.bytes.subarray(offset, offset + length));
  return new Uint8Array(Buffer.concat(parts)).slice(0, octets);
}
