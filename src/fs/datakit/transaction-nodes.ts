/**
 * A branch's `transactions`: private to the connection that made them, they go with it. Each is a directory of `rw`, `msg`,
 * `parents`, `ctl`, `merge`, `origin` and `diff`, and while a merge is under way of `ours`, `theirs`, `base` and
 * `conflicts`. DataKit's 9p.md.
 */

import type { Database, Transaction } from '../../config/database.ts';
import { FileError } from '../ninep/file-error.ts';
import { childId, type DirectoryNode, type FsNode } from '../ninep/node.ts';
import { commandFile, directoryAttributes, editableFile, fixedDirectory, textFile } from '../ninep/static-nodes.ts';
import { diffDirectory, lines } from './commit-nodes.ts';
import type { DiskRoom } from './disk-room.ts';
import { fixedTree } from './tree-nodes.ts';
import { WorkingCopy, type WorkingLimits } from './working-nodes.ts';

export interface TransactionLimits extends WorkingLimits {
  /** Open at a time, on one connection. */
  readonly transactions: number;
}

export const defaultTransactionLimits: TransactionLimits = {
  transactions: 64,
  fileOctets: 16 * 2 ** 20,
  writtenOctets: 64 * 2 ** 20,
};

class OpenTransaction {
  readonly transaction: Transaction;
  readonly copy: WorkingCopy;
  /** As written, until it is needed. */
  parents: string;
  /** What `ctl` and `merge` last answered, for clients that see no more of an error than its number. */
  answer = '';

  constructor(transaction: Transaction, limits: WorkingLimits, heldByAll: () => number) {
    this.transaction = transaction;
    this.copy = new WorkingCopy(transaction, limits, heldByAll);
    this.parents = lines(transaction.parents);
  }

  async takeParents(): Promise<void> {
    await this.transaction.setParents(
      this.parents
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== ''),
    );
  }

  /** Keeps what a command answers, or the words it is refused with. */
  async answering(command: () => Promise<string>): Promise<string> {
    try {
      this.answer = await command();
    } catch (error) {
      this.answer = error instanceof Error ? `${error.message}\n` : '';
      throw error;
    }
    return this.answer;
  }
}

/** Of the objects that a commit would have to write. */
async function objectOctets(transaction: Transaction): Promise<number> {
  const root = await transaction.entry('');
  // They are made when somebody asks for the hash.
  return root?.hash === undefined ? 0 : transaction.heldOctets;
}

/** The transactions of one connection, by branch and name. */
export class Transactions {
  readonly #database: Database;
  readonly #limits: TransactionLimits;
  readonly #room: DiskRoom | undefined;
  readonly #open = new Map<string, Map<string, OpenTransaction>>();
  #count = 0;

  /** `room`: for what is committed; undefined: as much as there is. */
  constructor(database: Database, limits: TransactionLimits, room: DiskRoom | undefined) {
    this.#database = database;
    this.#limits = limits;
    this.#room = room;
  }

  close(): void {
    for (const of of this.#open.values()) for (const { transaction } of of.values()) transaction.close();
    this.#open.clear();
  }

  /** @param committed called once one is committed to the branch */
  directory(id: bigint, branch: string, writable: boolean, committed: () => void): DirectoryNode {
    const node = (name: string, open: OpenTransaction): DirectoryNode =>
      this.#transaction(childId(id, name), branch, name, open, committed);
    const list = () => this.#open.get(branch) ?? new Map<string, OpenTransaction>();
    return {
      kind: 'directory',
      id,
      attributes: () => directoryAttributes(writable ? 0o755 : 0o555),
      lookup: (name) => {
        const open = list().get(name);
        return open && node(name, open);
      },
      list: () => [...list()].map(([name, open]) => ({ name, node: node(name, open) })),
      createDirectory: async (name) => {
        if (!writable) throw new FileError('EROFS');
        return node(name, await this.#begin(branch, name));
      },
      remove: (name) => {
        const open = list().get(name);
        if (!open) throw new FileError('ENOENT');
        open.transaction.close();
        this.#forget(branch, name);
      },
    };
  }

  async #begin(branch: string, name: string): Promise<OpenTransaction> {
    if (this.#count >= this.#limits.transactions) throw new FileError('ENOSPC', 'too many transactions are open');
    this.#count++;
    try {
      const open = new OpenTransaction(await this.#database.transaction(branch), this.#limits, () =>
        this.#heldOctets(),
      );
      const ofBranch = this.#open.get(branch) ?? new Map<string, OpenTransaction>();
      if (ofBranch.has(name)) throw new FileError('EEXIST');
      ofBranch.set(name, open);
      this.#open.set(branch, ofBranch);
      return open;
    } catch (error) {
      this.#count--;
      throw error;
    }
  }

  #heldOctets(): number {
    let held = 0;
    for (const ofBranch of this.#open.values()) for (const { copy } of ofBranch.values()) held += copy.heldOctets;
    return held;
  }

  #forget(branch: string, name: string): void {
    const ofBranch = this.#open.get(branch);
    if (!ofBranch?.delete(name)) return;
    this.#count--;
    if (ofBranch.size === 0) this.#open.delete(branch);
  }

  #transaction(id: bigint, branch: string, name: string, open: OpenTransaction, committed: () => void): DirectoryNode {
    const { transaction, copy } = open;
    const finish = (): string => {
      transaction.close();
      this.#forget(branch, name);
      return '';
    };
    const control = async (command: string): Promise<string> => {
      if (command === 'close') return finish();
      if (command !== 'commit') throw new FileError('EINVAL', `Unknown command ${JSON.stringify(command)}`);
      await open.takeParents();
      const commit = (): Promise<string> => transaction.commit();
      if (this.#room) await this.#room.within(await objectOctets(transaction), commit);
      else await commit();
      committed();
      return finish();
    };
    const merge = async (commit: string): Promise<string> => {
      copy.checkRoom();
      await open.takeParents();
      await transaction.merge(commit);
      open.parents = lines(transaction.parents);
      return 'ok\n';
    };
    const command = (run: (command: string) => Promise<string>) => (childId: bigint) =>
      commandFile(
        childId,
        (text) => open.answering(() => run(text)),
        () => open.answer,
      );
    const message = {
      get: () => transaction.message,
      set: (text: string) => {
        transaction.message = text;
      },
    };
    const parents = {
      get: () => open.parents,
      set: (text: string) => {
        open.parents = text;
      },
    };
    const always: Record<string, (id: bigint) => FsNode> = {
      rw: (id) => copy.root(id),
      msg: (id) => editableFile(id, message),
      parents: (id) => editableFile(id, parents),
      ctl: command(control),
      merge: command(merge),
      origin: (id) => textFile(id, () => lines(transaction.origin === undefined ? [] : [transaction.origin])),
      diff: (id) =>
        diffDirectory(id, async (commit) => {
          copy.checkRoom();
          return transaction.diff(commit);
        }),
    };
    const now = (): DirectoryNode => {
      const { merging } = transaction;
      if (!merging) return fixedDirectory(id, always);
      return fixedDirectory(id, {
        ...always,
        ours: (id) => fixedTree(id, merging.ours),
        theirs: (id) => fixedTree(id, merging.theirs),
        base: (id) => fixedTree(id, merging.base),
        conflicts: (id) => textFile(id, () => lines(transaction.conflicts)),
      });
    };
    return {
      kind: 'directory',
      id,
      attributes: () => directoryAttributes(0o555),
      lookup: (child) => now().lookup(child),
      list: () => now().list(),
    };
  }
}
