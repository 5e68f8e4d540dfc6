/** Nodes that trees are built of: fixed directories, files whose text is made when they are opened, commands. */

import type { Cancellation } from './cancellation.ts';
import { FileError } from './file-error.ts';
import {
  childId,
  type DirectoryNode,
  type Entry,
  type Eventually,
  type FileNode,
  type FsNode,
  type OpenFile,
} from './node.ts';

const decoder = new TextDecoder();
const encoder = new TextEncoder();

const DIRECTORY_MODE = 0o755;
const COMMAND_OCTETS = 65_536;

/** What a directory of ours tells of itself. */
export const directoryAttributes = (mode = DIRECTORY_MODE) => ({ mode, sizeOctets: 0, modifiedMs: 0, version: 0 });

/** A directory whose entries are made, each from its id, when they are looked at. */
export function fixedDirectory(id: bigint, children: Readonly<Record<string, (id: bigint) => FsNode>>): DirectoryNode {
  const child = (name: string): FsNode => children[name]!(childId(id, name));
  return {
    kind: 'directory',
    id,
    attributes: () => directoryAttributes(0o555),
    lookup: (name) => (Object.hasOwn(children, name) ? child(name) : undefined),
    list: () => Object.keys(children).map((name): Entry => ({ name, node: child(name) })),
  };
}

/** A directory that lists nothing, in which what `find` knows is there. */
export function hiddenDirectory(
  id: bigint,
  find: (name: string, id: bigint) => Eventually<FsNode | undefined>,
): DirectoryNode {
  return {
    kind: 'directory',
    id,
    attributes: () => directoryAttributes(0o555),
    lookup: (name) => find(name, childId(id, name)),
    list: () => [],
  };
}

function readOnly(octets: Uint8Array): OpenFile {
  return {
    read: (offset, count) => octets.subarray(offset, offset + count),
    write: () => {
      throw new FileError('EROFS');
    },
  };
}

/** A file to read, whose content is asked for at each opening. */
export function textFile(id: bigint, content: () => Eventually<string | Uint8Array>): FileNode {
  const octets = async (): Promise<Uint8Array> => {
    const found = await content();
    return typeof found === 'string' ? encoder.encode(found) : found;
  };
  return {
    kind: 'file',
    id,
    attributes: async () => ({ mode: 0o444, sizeOctets: (await octets()).length, modifiedMs: 0, version: 0 }),
    open: async ({ write, truncate }) => {
      if (write || truncate) throw new FileError('EROFS');
      return readOnly(await octets());
    },
  };
}

/** A file whose reads wait: `open` begins a stream, which ends with the fid. */
export function liveFile(id: bigint, open: () => OpenFile): FileNode {
  return {
    kind: 'file',
    id,
    attributes: () => ({ mode: 0o444, sizeOctets: 0, modifiedMs: 0, version: 0 }),
    open: ({ write, truncate }) => {
      if (write || truncate) throw new FileError('EROFS');
      return open();
    },
  };
}

export interface TextStore {
  get(): string;
  set(text: string): Eventually<void>;
}

/** A small file to read and write, kept whole as a text. */
export function editableFile(id: bigint, store: TextStore): FileNode {
  const write = async (offset: number, data: Uint8Array): Promise<number> => {
    const old = encoder.encode(store.get());
    if (offset + data.length > COMMAND_OCTETS) throw new FileError('EFBIG');
    const whole = new Uint8Array(Math.max(old.length, offset + data.length));
    whole.set(old);
    whole.set(data, offset);
    await store.set(decoder.decode(whole));
    return data.length;
  };
  const truncate = async (octets: number): Promise<void> => {
    if (octets > COMMAND_OCTETS) throw new FileError('EFBIG');
    const whole = new Uint8Array(octets);
    whole.set(encoder.encode(store.get()).subarray(0, octets));
    await store.set(decoder.decode(whole));
  };
  return {
    kind: 'file',
    id,
    attributes: () => ({ mode: 0o644, sizeOctets: encoder.encode(store.get()).length, modifiedMs: 0, version: 0 }),
    change: ({ sizeOctets }) => (sizeOctets === undefined ? undefined : truncate(sizeOctets)),
    open: async ({ truncate: empty }) => {
      if (empty) await truncate(0);
      return { read: (offset, count) => encoder.encode(store.get()).subarray(offset, offset + count), write };
    },
  };
}

/**
 * A file that does what is written to it, one command a write. Reading the same opening gives the last answer; truncating
 * does nothing, as shells' `>` truncates first.
 */
export function commandFile(
  id: bigint,
  run: (command: string, cancellation: Cancellation) => Eventually<string>,
  status: () => string = () => '',
): FileNode {
  return {
    kind: 'file',
    id,
    attributes: () => ({ mode: 0o644, sizeOctets: encoder.encode(status()).length, modifiedMs: 0, version: 0 }),
    change: () => undefined,
    open: () => {
      let answer: Uint8Array | undefined;
      return {
        read: (offset, count) => (answer ?? encoder.encode(status())).subarray(offset, offset + count),
        write: async (_offset, data, cancellation) => {
          if (data.length > COMMAND_OCTETS) throw new FileError('EFBIG');
          answer = encoder.encode(await run(decoder.decode(data).trim(), cancellation));
          return data.length;
        },
      };
    },
  };
}
