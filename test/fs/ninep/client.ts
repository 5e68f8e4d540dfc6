/** A 9P client for tests: messages one by one, or whole files, over a session in this process or a unix socket. */

import { once } from 'node:events';
import { connect } from 'node:net';
import { emit, frameOctets, parse } from '../../../src/fs/ninep/codec.ts';
import type { Export } from '../../../src/fs/ninep/connection.ts';
import { type Dialect, NOFID, NONUNAME, NOTAG } from '../../../src/fs/ninep/dialect.ts';
import { FrameReader } from '../../../src/fs/ninep/frame-reader.ts';
import type { NinepLimits } from '../../../src/fs/ninep/limits.ts';
import { LockTable } from '../../../src/fs/ninep/lock-table.ts';
import type { Body, Message, MessageOf, RequestKind } from '../../../src/fs/ninep/message.ts';
import type { DirectoryNode } from '../../../src/fs/ninep/node.ts';
import { Session } from '../../../src/fs/ninep/session.ts';

/** An error that the server answered with. */
export class ServerError extends Error {
  readonly errno: number | undefined;

  constructor(text: string, errno: number | undefined) {
    super(text);
    this.errno = errno;
  }
}

export const owner = { name: 'root', uid: 0, gid: 0 };

export function exportOf(root: DirectoryNode): Export {
  return { owner, connect: () => ({ attach: () => root }) };
}

export interface ClientOptions {
  readonly locks?: LockTable;
  readonly limits?: Partial<NinepLimits>;
}

/** Takes octets to the server and has its frames. */
type Peer = Pick<Session, 'input' | 'take'>;

export class Client {
  readonly #peer: Peer | undefined;
  readonly #session: Session | undefined;
  readonly #scratch = new Uint8Array(300_000);
  readonly #waiting = new Map<number, (reply: Message) => void>();
  /** Kinds and tags of the replies, in their order. */
  readonly log: string[] = [];
  dialect: Dialect = '9P2000';
  dropped: string | undefined;
  #tag = 0;
  #fid = 100;

  constructor(
    served: Export | ((drain: () => void) => Peer),
    { locks = new LockTable(), limits = {} }: ClientOptions = {},
  ) {
    const ready = (): void => this.#drain();
    if (typeof served === 'function') this.#peer = served(ready);
    else this.#peer = this.#session = new Session({ served, locks, limits, ready, relieved: () => undefined });
  }

  /** The server's end, where it is in this process. */
  get session(): Session {
    return this.#session!;
  }

  /** Negotiates a dialect and attaches as fid 0. */
  static attach(served: Export, dialect: Dialect, options?: ClientOptions): Promise<Client> {
    return Client.#attach(new Client(served, options), dialect);
  }

  /** The same to a server's socket; `close` ends it. */
  static async connect(path: string, dialect: Dialect): Promise<{ client: Client; close: () => void }> {
    const socket = connect(path);
    await once(socket, 'connect');
    const frames: Uint8Array[] = [];
    const reader = new FrameReader(1 << 20);
    const client = new Client((drain) => {
      socket.on('data', (chunk: Uint8Array) => {
        reader.push(chunk, (bytes, at, end) => {
          frames.push(bytes.slice(at, end));
          return true;
        });
        drain();
      });
      return { input: (bytes) => void socket.write(bytes) as undefined, take: () => frames.shift() };
    });
    return { client: await Client.#attach(client, dialect), close: () => socket.destroy() };
  }

  static async #attach(client: Client, dialect: Dialect): Promise<Client> {
    await client.version(dialect);
    await client.call('Tattach', {
      fid: 0,
      afid: NOFID,
      uname: 'root',
      aname: '',
      nUname: dialect === '9P2000' ? NONUNAME : 0,
    });
    return client;
  }

  async version(dialect: Dialect, msize = 65_536): Promise<MessageOf<'Rversion'>> {
    const reply = await this.send('Tversion', { msize, version: dialect }, NOTAG);
    this.dialect = dialect;
    return reply as MessageOf<'Rversion'>;
  }

  /** Sends octets as they are. */
  raw(bytes: Uint8Array): void {
    this.dropped ??= this.#peer!.input(bytes);
  }

  nextTag(): number {
    this.#tag = (this.#tag + 1) % NOTAG;
    return this.#tag;
  }

  nextFid(): number {
    return this.#fid++;
  }

  /** Sends a request; resolves with the reply, error or not. */
  send<K extends RequestKind>(kind: K, body: Body<K>, tag = this.nextTag()): Promise<Message> {
    const octets = emit({ kind, tag, ...body } as unknown as Message, tag, this.dialect, this.#scratch);
    const reply = new Promise<Message>((resolve) => this.#waiting.set(tag, resolve));
    this.raw(this.#scratch.slice(0, octets));
    return reply;
  }

  /** Sends a request; rejects with a ServerError. */
  async call<K extends RequestKind>(
    kind: K,
    body: Body<K>,
    tag?: number,
  ): Promise<MessageOf<`R${K extends `T${infer N}` ? N : never}` & Message['kind']>> {
    const reply = await this.send(kind, body, tag);
    if (reply.kind === 'Rerror') throw new ServerError(reply.text, reply.errno);
    if (reply.kind === 'Rlerror') throw new ServerError(`errno ${reply.errno}`, reply.errno);
    return reply as never;
  }

  #drain(): void {
    for (let frame = this.#peer!.take(); frame; frame = this.#peer!.take()) {
      const reply = parse(frame, 0, frame.length, this.dialect);
      if (reply.kind === 'malformed' || frameOctets(frame, 0, frame.length) !== frame.length)
        throw new Error('the server sent what is no message');
      this.log.push(`${reply.kind} ${reply.tag}`);
      const resolve = this.#waiting.get(reply.tag);
      this.#waiting.delete(reply.tag);
      resolve?.(reply);
    }
  }

  /** A fid at a path from the root. */
  async walk(path: string, from = 0): Promise<number> {
    const newfid = this.nextFid();
    const names = path.split('/').filter((name) => name !== '');
    const { qids } = await this.call('Twalk', { fid: from, newfid, names });
    if (qids.length < names.length) throw new ServerError('No such file or directory', 2);
    return newfid;
  }

  async open(path: string, access: 'read' | 'write', truncate = false): Promise<number> {
    const fid = await this.walk(path);
    const mode = access === 'read' ? 0 : 1;
    if (this.dialect === '9P2000.L') await this.call('Tlopen', { fid, flags: mode | (truncate ? 0o1000 : 0) });
    else await this.call('Topen', { fid, mode: mode | (truncate ? 0x10 : 0) });
    return fid;
  }

  async clunk(fid: number): Promise<void> {
    await this.call('Tclunk', { fid });
  }

  /** As `cat` reads. */
  async read(path: string, count = 8192): Promise<string> {
    const fid = await this.open(path, 'read');
    const parts: Uint8Array[] = [];
    let offset = 0n;
    for (;;) {
      const { data } = await this.call('Tread', { fid, offset, count });
      if (data.length === 0) break;
      parts.push(data.slice());
      offset += BigInt(data.length);
    }
    await this.clunk(fid);
    return Buffer.concat(parts).toString();
  }

  /** As a shell's `>` writes to a file that is there. */
  async write(path: string, text: string): Promise<void> {
    const fid = await this.open(path, 'write', true);
    try {
      await this.call('Twrite', { fid, offset: 0n, data: Buffer.from(text) });
    } finally {
      await this.clunk(fid);
    }
  }

  /** Makes a file and writes to it. */
  async create(directory: string, name: string, text = '', permissions = 0o644): Promise<void> {
    const fid = await this.walk(directory);
    if (this.dialect === '9P2000.L') await this.call('Tlcreate', { fid, name, flags: 1, mode: permissions, gid: 0 });
    else await this.call('Tcreate', { fid, name, perm: permissions, mode: 1, extension: '' });
    if (text !== '') await this.call('Twrite', { fid, offset: 0n, data: Buffer.from(text) });
    await this.clunk(fid);
  }

  async mkdir(directory: string, name: string): Promise<void> {
    const fid = await this.walk(directory);
    if (this.dialect === '9P2000.L') await this.call('Tmkdir', { fid, name, mode: 0o755, gid: 0 });
    else await this.call('Tcreate', { fid, name, perm: 0x80000000 + 0o755, mode: 0, extension: '' });
    await this.clunk(fid);
  }

  async remove(path: string): Promise<void> {
    await this.call('Tremove', { fid: await this.walk(path) });
  }

  /** The names in a directory, in the way of the dialect. */
  async list(path: string, count = 8192): Promise<string[]> {
    const fid = await this.open(path, 'read');
    const names: string[] = [];
    let offset = 0n;
    for (;;) {
      const linux = this.dialect === '9P2000.L';
      const { data } = linux
        ? await this.call('Treaddir', { fid, offset, count })
        : await this.call('Tread', { fid, offset, count });
      if (data.length === 0) break;
      const view = Buffer.from(data);
      for (let at = 0; at < view.length; ) {
        if (linux) {
          offset = view.readBigUInt64LE(at + 13);
          const length = view.readUInt16LE(at + 22);
          names.push(view.toString('utf8', at + 24, at + 24 + length));
          at += 24 + length;
        } else {
          const length = view.readUInt16LE(at + 41);
          names.push(view.toString('utf8', at + 43, at + 43 + length));
          at += 2 + view.readUInt16LE(at);
        }
      }
      if (!linux) offset += BigInt(data.length);
    }
    await this.clunk(fid);
    return names.filter((name) => name !== '.' && name !== '..');
  }
}

/** Lets what is under way settle: everything in these tests is promises. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
