/** `/remotes`: other repositories to fetch from. `mkdir` names one, `url` says where it is, `fetch` takes a branch's name. */

import type { Database } from '../../config/database.ts';
import type { Cancellation } from '../ninep/cancellation.ts';
import { FileError } from '../ninep/file-error.ts';
import { LineStream } from '../ninep/line-stream.ts';
import { childId, type DirectoryNode } from '../ninep/node.ts';
import { commandFile, directoryAttributes, editableFile, fixedDirectory, liveFile } from '../ninep/static-nodes.ts';

/** The remotes as the connections of a server share them. */
export class RemoteDirectory implements DirectoryNode {
  readonly kind = 'directory';
  readonly id: bigint;
  readonly #database: Database;
  /** Named, but not yet told where. */
  readonly #pending = new Set<string>();
  readonly #streams = new Map<string, Set<LineStream>>();

  constructor(id: bigint, database: Database) {
    this.id = id;
    this.#database = database;
  }

  attributes() {
    return directoryAttributes();
  }

  change(): void {}

  async #urls(): Promise<Map<string, string>> {
    const found = new Map([...this.#pending].map((name) => [name, '']));
    for (const { name, url } of await this.#database.remotes.list()) found.set(name, url);
    return found;
  }

  async lookup(name: string): Promise<DirectoryNode | undefined> {
    const url = (await this.#urls()).get(name);
    return url === undefined ? undefined : this.#remote(name, url);
  }

  async list() {
    return [...(await this.#urls())].map(([name, url]) => ({ name, node: this.#remote(name, url) }));
  }

  createDirectory(name: string): DirectoryNode {
    if (this.#pending.size >= 100) throw new FileError('ENOSPC', 'too many remotes have no url');
    this.#pending.add(name);
    return this.#remote(name, '');
  }

  async remove(name: string): Promise<void> {
    const pending = this.#pending.delete(name);
    const known = (await this.#database.remotes.list()).some((remote) => remote.name === name);
    if (known) await this.#database.remotes.remove(name);
    else if (!pending) throw new FileError('ENOENT');
  }

  #remote(name: string, url: string): DirectoryNode {
    let text = url === '' ? '' : `${url}\n`;
    const store = {
      get: () => text,
      set: async (written: string) => {
        text = written;
        if (written.trim() === '') return;
        await this.#database.remotes.set(name, written.trim());
        this.#pending.delete(name);
      },
    };
    return fixedDirectory(childId(this.id, name), {
      url: (id) => editableFile(id, store),
      fetch: (id) => commandFile(id, (branch, cancellation) => this.#fetch(name, branch, cancellation)),
      head: (id) => liveFile(id, () => this.#heads(name)),
    });
  }

  /** It may take long, so the connection's other requests go on; who gives up waiting does not stop it. */
  async #fetch(name: string, branch: string, cancellation: Cancellation): Promise<string> {
    if (this.#pending.has(name)) throw new FileError('EINVAL', 'error: remote url is not defined');
    const head = await new Promise<string>((resolve, reject) => {
      this.#database.remotes.fetch(name, branch === '' ? undefined : branch).then(resolve, reject);
      cancellation.listener = () => reject(new FileError('EINTR'));
    });
    for (const stream of this.#streams.get(name) ?? []) stream.publish(head);
    return '';
  }

  /** What was last fetched, then each that is. */
  #heads(name: string): LineStream {
    const streams = this.#streams.get(name) ?? new Set<LineStream>();
    this.#streams.set(name, streams);
    const stream: LineStream = new LineStream('all', () => {
      streams.delete(stream);
      if (streams.size === 0) this.#streams.delete(name);
    });
    streams.add(stream);
    void this.#database.remotes.head(name).then(
      (head) => head !== undefined && stream.publish(head),
      () => undefined,
    );
    return stream;
  }
}
