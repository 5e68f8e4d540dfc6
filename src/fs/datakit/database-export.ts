/**
 * The settings database as DataKit's file tree (9p.md of moby/datakit): `/branch`, `/snapshots`, `/trees`, `/commits` and
 * `/remotes`. An attach may name a directory of it (aname), which is then the root.
 *
 * The host's export is whole. The guest's is read-only but for branches below `guest/`, and has no remotes: settings,
 * policy and shares change only from the host.
 */

import type { Database } from '../../config/database.ts';
import type { ConnectedTree, Export, Owner } from '../ninep/connection.ts';
import { FileError } from '../ninep/file-error.ts';
import { childId, type DirectoryNode, rootId } from '../ninep/node.ts';
import { fixedDirectory } from '../ninep/static-nodes.ts';
import { Branches, BranchFolder } from './branch-nodes.ts';
import { commits, snapshots, trees } from './commit-nodes.ts';
import { databaseRefusal } from './database-refusal.ts';
import { DiskRoom } from './disk-room.ts';
import { LiveFiles } from './live-nodes.ts';
import { RemoteDirectory } from './remote-nodes.ts';
import { defaultTransactionLimits, type TransactionLimits, Transactions } from './transaction-nodes.ts';

/** Where a guest's own branches are. */
export const GUEST_FOLDER = 'guest';

/** Branches that there may be where a client may make some. */
const BRANCHES = { host: 10_000, guest: 256 };

/** Of disk that the whole database may take before a guest may commit no more. */
const GUEST_DISK_OCTETS = 512 * 2 ** 20;

/** Live files open at a time, on one connection. */
const LIVE_FILES = 256;

export interface DatabaseExportOptions {
  readonly database: Database;
  readonly access: 'host' | 'guest';
  readonly owner: Owner;
  readonly limits?: Partial<TransactionLimits>;
  /** Instead of 512 MiB: what the database may take before a guest may commit no more. */
  readonly guestDiskOctets?: number;
  readonly nowMs?: () => number;
}

async function descend(root: DirectoryNode, path: string): Promise<DirectoryNode> {
  let at = root;
  for (const name of path.split('/').filter((part) => part !== '' && part !== '.')) {
    const next = name === '..' ? undefined : await at.lookup(name);
    if (!next) throw new FileError('ENOENT');
    if (next.kind !== 'directory') throw new FileError('ENOTDIR');
    at = next;
  }
  return at;
}

export function databaseExport(options: DatabaseExportOptions): Export {
  const {
    database,
    access,
    owner,
    limits,
    guestDiskOctets = GUEST_DISK_OCTETS,
    nowMs = () => performance.now(),
  } = options;
  const writable = (branch: string): boolean => access === 'host' || branch.startsWith(`${GUEST_FOLDER}/`);
  const branches = new Branches(database, [GUEST_FOLDER], writable, BRANCHES[access]);
  const remotes = new RemoteDirectory(childId(rootId, 'remotes'), database);
  const room =
    access === 'guest' ? new DiskRoom(guestDiskOctets, (limit) => database.diskOctets(limit), nowMs) : undefined;
  const connect = (): ConnectedTree => {
    const transactions = new Transactions(database, { ...defaultTransactionLimits, ...limits }, room);
    const live = new LiveFiles(LIVE_FILES);
    const root = fixedDirectory(rootId, {
      branch: (id) => new BranchFolder(id, branches, { transactions, live }),
      snapshots: (id) => snapshots(id, database),
      trees: (id) => trees(id, database),
      commits: (id) => commits(id, database),
      ...(access === 'host' && { remotes: () => remotes }),
    });
    return { attach: ({ aname }) => descend(root, aname), close: () => transactions.close() };
  };
  return { owner, connect, explain: databaseRefusal };
}
