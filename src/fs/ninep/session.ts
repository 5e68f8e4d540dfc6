/**
 * One client's connection to a file tree, over any stream: octets in by `input`, frames out by `take`. version(5),
 * flush(5); intro(5) for tags.
 *
 * Events: octets from the client; room for a frame; the end of an operation that had to wait; `close`. No timers. Requests
 * are served in their order, so that a client may send one that needs another before it is answered; one that waits (for
 * the next line of a live file, for a remote) lets the others pass. Tflush is answered after the request it is about,
 * which it asks to end (blocked reads do, with EINTR): whatever a client is told has happened, has. Tversion ends
 * everything before it.
 *
 * Limits (limits.ts): fids, requests, directory entries. Replies wait as what they say, not as frames, until the transport
 * takes them; `congested` asks it to read no more while they or the data of writes pile up. A frame that no 9P client
 * sends ends the connection; a message that cannot be understood within a good frame gets an error.
 */

import { Cancellation } from './cancellation.ts';
import { classicOperations } from './classic-operations.ts';
import { emit, parse } from './codec.ts';
import { commonOperations } from './common-operations.ts';
import { Connection, type Export, type Handler, type Handlers } from './connection.ts';
import { chooseDialect, type Dialect } from './dialect.ts';
import { asFileError, FileError } from './file-error.ts';
import { FrameReader } from './frame-reader.ts';
import { defaultLimits, MIN_MSIZE_OCTETS, type NinepLimits } from './limits.ts';
import { linuxOperations } from './linux-operations.ts';
import type { LockTable } from './lock-table.ts';
import type { Message, MessageOf, Reply, RequestKind } from './message.ts';

const classic: Handlers = { ...commonOperations, ...classicOperations };
const operations: Readonly<Record<Dialect, Handlers>> = {
  '9P2000': classic,
  '9P2000.u': classic,
  '9P2000.L': { ...commonOperations, ...linuxOperations },
};

/** Before Tversion, a frame need hold no more than that. */
const FIRST_FRAME_OCTETS = 8192;
/** What an error's words may take of the smallest message. */
const ERROR_TEXT_LENGTH = 120;

export interface SessionOptions {
  readonly served: Export;
  readonly locks: LockTable;
  readonly limits?: Partial<NinepLimits>;
  /** There is something to `take`. */
  readonly ready: () => void;
  /** `congested` is no longer so. */
  readonly relieved: () => void;
}

interface Answer {
  readonly tag: number;
  readonly reply: Reply | FileError;
}

interface Request {
  readonly cancellation: Cancellation;
  /** Tags of the Tflushes about it. */
  readonly flushes: number[];
}

export class Session {
  readonly #options: SessionOptions;
  readonly #limits: NinepLimits;
  readonly #frames = new FrameReader(FIRST_FRAME_OCTETS);
  #scratch = new Uint8Array(FIRST_FRAME_OCTETS);
  #connection: Connection | undefined;
  #requests = new Map<number, Request>();
  #replies: Answer[] = [];
  /** Resolves once the latest request is done or waits. */
  #turn: Promise<void> = Promise.resolve();
  /** Requests that neither are answered nor wait. */
  #active = 0;
  #writeOctets = 0;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
  }

  get dialect(): Dialect | undefined {
    return this.#connection?.dialect;
  }

  get fids(): number {
    return this.#connection?.fids.size ?? 0;
  }

  /** Requests not answered yet. */
  get pending(): number {
    return this.#requests.size;
  }

  get congested(): boolean {
    const { writeOctets, replies } = this.#limits;
    return this.#writeOctets > writeOctets || this.#replies.length + this.#active > replies;
  }

  /** The next frame for the client, which is the caller's to keep. */
  take(): Uint8Array | undefined {
    let answer: Answer | undefined;
    this.#release(() => {
      answer = this.#replies.shift();
    });
    return answer && this.#frame(answer);
  }

  /** Takes octets from the client. Returns why the connection must be dropped, if it must. */
  input(chunk: Uint8Array): string | undefined {
    if (this.#closed) return undefined;
    return this.#frames.push(chunk, (bytes, at, end) => {
      this.#accept(parse(bytes, at, end, this.dialect ?? '9P2000'));
      return !this.#closed;
    });
  }

  /** Resolves when what has been taken is answered, but for what waits for something that may never come. */
  settled(): Promise<void> {
    return this.#turn;
  }

  /** Ends everything that is under way; nothing is sent any more. */
  close(): void {
    this.#closed = true;
    this.#reset();
  }

  #reset(): void {
    const requests = this.#requests;
    this.#requests = new Map();
    for (const { cancellation } of requests.values()) cancellation.cancel();
    this.#replies = [];
    this.#connection?.close();
    this.#connection = undefined;
  }

  #accept(message: ReturnType<typeof parse>): void {
    const { tag } = message;
    if (message.kind === 'malformed') this.#put(tag, new FileError('EPROTO', message.reason));
    else if (message.kind === 'Tversion') this.#version(message);
    else if (!this.#connection) this.#put(tag, new FileError('EPROTO', 'no version has been agreed on'));
    // Nothing else may be said of a request under the tag of another.
    else if (this.#requests.has(tag)) this.#put(tag, new FileError('EPROTO', 'the tag is in use'));
    else if (message.kind === 'Tflush') this.#flush(message);
    else this.#begin(this.#connection, message);
  }

  #begin(connection: Connection, message: Message): void {
    const { kind, tag } = message;
    const handler = operations[connection.dialect][kind as RequestKind] as Handler<RequestKind> | undefined;
    if (!handler) this.#put(tag, new FileError('EOPNOTSUPP', `${kind} is no request of ${connection.dialect}`));
    else if (this.#requests.size >= this.#limits.requests)
      this.#put(tag, new FileError('ENOBUFS', 'too many requests are under way'));
    else void this.#run(connection, handler, message);
  }

  /** version(5): begins anew, whatever came before. */
  #version({ tag, msize, version }: MessageOf<'Tversion'>): void {
    this.#reset();
    this.#frames.limitOctets = FIRST_FRAME_OCTETS;
    const agreed = Math.min(msize, this.#limits.msizeOctets);
    const dialect = agreed < MIN_MSIZE_OCTETS ? undefined : chooseDialect(version);
    if (dialect) {
      const { served, locks } = this.#options;
      this.#connection = new Connection(served, locks, this.#limits, dialect, agreed);
      this.#frames.limitOctets = agreed;
      if (this.#scratch.length < agreed) this.#scratch = new Uint8Array(agreed);
    }
    this.#put(tag, { kind: 'Rversion', msize: agreed, version: dialect ?? 'unknown' });
  }

  #flush({ tag, oldtag }: MessageOf<'Tflush'>): void {
    const request = this.#requests.get(oldtag);
    if (!request) {
      this.#put(tag, { kind: 'Rflush' });
      return;
    }
    // A flush is a request too: it can be flushed, and holds its tag until it is answered.
    if (this.#requests.size >= this.#limits.requests * 2) {
      this.#put(tag, new FileError('ENOBUFS', 'too many requests are under way'));
      return;
    }
    this.#requests.set(tag, { cancellation: new Cancellation(), flushes: [] });
    request.flushes.push(tag);
    request.cancellation.cancel();
  }

  async #run(connection: Connection, handler: Handler<RequestKind>, message: Message): Promise<void> {
    const requests = this.#requests;
    const before = this.#turn;
    let pass = (): void => undefined;
    this.#turn = new Promise((resolve) => {
      let passed = false;
      pass = () => {
        if (!passed) this.#release(() => this.#active--);
        passed = true;
        resolve();
      };
    });
    this.#active++;
    const request: Request = { cancellation: new Cancellation(pass), flushes: [] };
    requests.set(message.tag, request);
    // The frame is the transport's again once we return, so what is written is copied.
    const held = message.kind === 'Twrite' ? message.data.length : 0;
    this.#writeOctets += held;
    const own = message.kind === 'Twrite' ? { ...message, data: message.data.slice() } : message;
    let reply: Reply | FileError;
    try {
      await before;
      if (request.cancellation.cancelled) throw new FileError('EINTR');
      reply = await handler(connection, own as MessageOf<RequestKind>, request.cancellation);
    } catch (error) {
      reply = this.#options.served.explain?.(error) ?? asFileError(error);
    }
    // Unless the session has begun anew meanwhile, or has ended.
    if (requests === this.#requests && !this.#closed) this.#answer(message.tag, request, reply);
    pass();
    this.#release(() => {
      this.#writeOctets -= held;
    });
  }

  /** Takes a load off, and says so when that made the difference. */
  #release(unload: () => void): void {
    const congested = this.congested;
    unload();
    if (congested && !this.congested && !this.#closed) this.#options.relieved();
  }

  /** Answers a request, then the flushes about it, and those about them. */
  #answer(tag: number, request: Request, reply: Reply | FileError): void {
    this.#requests.delete(tag);
    this.#put(tag, reply);
    const flushes = [...request.flushes];
    for (let flush = flushes.shift(); flush !== undefined; flush = flushes.shift()) {
      const about = this.#requests.get(flush);
      this.#requests.delete(flush);
      this.#put(flush, { kind: 'Rflush' });
      flushes.push(...(about?.flushes ?? []));
    }
  }

  #put(tag: number, reply: Reply | FileError): void {
    this.#replies.push({ tag, reply });
    if (this.#replies.length === 1) this.#options.ready();
  }

  #frame({ tag, reply }: Answer): Uint8Array {
    const said = reply instanceof FileError ? this.#error(reply) : reply;
    const limit = this.#connection?.msize ?? FIRST_FRAME_OCTETS;
    const octets = emit(said, tag, this.dialect ?? '9P2000', this.#scratch, 0, limit);
    if (octets === 0) return this.#frame({ tag, reply: new FileError('EMSGSIZE', 'the reply is larger than agreed') });
    return this.#scratch.slice(0, octets);
  }

  #error({ message, errno }: FileError): Reply {
    if (this.dialect === '9P2000.L') return { kind: 'Rlerror', errno };
    return { kind: 'Rerror', text: message.slice(0, ERROR_TEXT_LENGTH), errno };
  }
}
