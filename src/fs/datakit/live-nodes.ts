/** DataKit's streams: `head.live`, `reflog` and the `tree.live` of each watched path. A blank line: nothing is there. */

import type { Observable, Subscription } from 'rxjs';
import type { Database, TreeEntry } from '../../config/database.ts';
import { FileError } from '../ninep/file-error.ts';
import { LineStream } from '../ninep/line-stream.ts';
import { childId, type DirectoryNode, type FileNode } from '../ninep/node.ts';
import { directoryAttributes, liveFile } from '../ninep/static-nodes.ts';
import { ifThere } from './database-refusal.ts';
import { joinPath } from './tree-nodes.ts';

const letters = { directory: 'D', normal: 'F', exec: 'X', link: 'L' } as const;

/** How DataKit names an object, in `tree.live` and under `/trees`. */
export function objectName(entry: TreeEntry | undefined): string {
  return entry ? `${letters[entry.kind]}-${entry.hash}` : '';
}

/** The live files that one connection has open: each costs the database something at every commit. */
export class LiveFiles {
  readonly #limit: number;
  #open = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** A stream of lines, made of what `source` tells; undefined: of that, none. */
  open<T>(keep: 'all' | 'newest', source: Observable<T>, line: (value: T) => string | undefined): LineStream {
    if (this.#open >= this.#limit) throw new FileError('ENOSPC', 'too many live files are open');
    this.#open++;
    return streamOf(keep, source, line, () => this.#open--);
  }
}

function streamOf<T>(
  keep: 'all' | 'newest',
  source: Observable<T>,
  line: (value: T) => string | undefined,
  closed: () => void,
): LineStream {
  let ended = false;
  let subscription: Subscription | undefined;
  const stream = new LineStream(keep, () => {
    ended = true;
    subscription?.unsubscribe();
    closed();
  });
  subscription = source.subscribe({
    next: (value) => {
      const text = line(value);
      if (text !== undefined) stream.publish(text);
    },
    error: () => stream.close(),
  });
  if (ended) subscription.unsubscribe();
  return stream;
}

/** The head, and then the newest one whenever it is another. */
export function headLive(id: bigint, database: Database, branch: string, live: LiveFiles): FileNode {
  return liveFile(id, () => live.open('newest', database.heads(branch), (head) => head ?? ''));
}

/** Every move of the head from now on. */
export function reflog(id: bigint, database: Database, branch: string, live: LiveFiles): FileNode {
  return liveFile(id, () => {
    let first = true;
    return live.open('all', database.heads(branch), (head) => {
      if (first) {
        first = false;
        return undefined;
      }
      return head ?? '';
    });
  });
}

/** `watch` and what is below it: any path may be walked to, whether or not it exists. */
export function watchDirectory(
  id: bigint,
  database: Database,
  branch: string,
  live: LiveFiles,
  path = '',
): DirectoryNode {
  const below = (name: string): DirectoryNode =>
    watchDirectory(childId(id, `${name}.node`), database, branch, live, joinPath(path, name));
  const treeLive = (): FileNode =>
    liveFile(childId(id, 'tree.live'), () => live.open('newest', database.watch(branch, path), objectName));
  return {
    kind: 'directory',
    id,
    attributes: () => directoryAttributes(0o555),
    lookup: (name) => {
      if (name === 'tree.live') return treeLive();
      const watched = /^(.+)\.node$/.exec(name)?.[1];
      if (watched === undefined || watched === '.' || watched === '..') return undefined;
      return below(watched);
    },
    list: async () => {
      const head = database.head(branch);
      const tree = head === undefined ? undefined : await database.tree(head);
      const entries = (tree && (await ifThere(tree.list(path)))) ?? [];
      return [
        { name: 'tree.live', node: treeLive() },
        ...entries.map(({ name }) => ({ name: `${name}.node`, node: below(name) })),
      ];
    },
  };
}
