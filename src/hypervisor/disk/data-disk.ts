/**
 * The data disk: a sparse qcow2 that holds everything of the guest's that outlives a boot. Made when it is missing
 * (under another name first, so that an interrupted start leaves nothing half made), grown when the setting asks for
 * more, never shrunk. A file that is not a sound data disk is left as it is and told with its remedy.
 */

import { execFile } from 'node:child_process';
import { chmod, mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { parseQcow2Header, QCOW2_HEADER_OCTETS, type Qcow2Fault } from './qcow2-header.ts';

const MiB = 1 << 20;
/** Free space below which a new disk would be of no use. */
const FRESH_FREE_OCTETS = 512 * MiB;
/** Free space below which the guest could not even delete; a little, so that it can be started to make room. */
const LEAST_FREE_OCTETS = 32 * MiB;

export interface DataDiskOptions {
  readonly path: string;
  readonly sizeOctets: number;
  /** qemu-img and what must stand before its arguments. */
  readonly qemuImg: readonly string[];
  /** Octets that the invoking user may still write on the file system of `directory`. */
  readonly freeOctets?: (directory: string) => Promise<number>;
}

export interface DataDisk {
  readonly outcome: 'made' | 'grown' | 'found';
  readonly virtualOctets: number;
}

/** Makes, grows or checks the disk; rejects with an Error that names the cause and the remedy. */
export async function prepareDataDisk(options: DataDiskOptions): Promise<DataDisk> {
  const { path, sizeOctets } = options;
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const header = await readHeader(path);
  const free = await (options.freeOctets ?? availableOctets)(directory);
  const needed = header ? LEAST_FREE_OCTETS : FRESH_FREE_OCTETS;
  if (free < needed)
    throw new Error(
      `no disk space: ${directory} has ${Math.floor(free / MiB)} MiB left and the data disk needs ${needed / MiB} MiB; free some, or set SLIPWAY_HOME to a folder on a larger disk`,
    );
  if (!header) {
    const fresh = `${path}.new`;
    await rm(fresh, { force: true });
    await runQemuImg(options.qemuImg, ['create', '-q', '-f', 'qcow2', fresh, String(sizeOctets)]);
    await chmod(fresh, 0o600);
    await rename(fresh, path);
    return { outcome: 'made', virtualOctets: sizeOctets };
  }
  if (typeof header === 'string') throw new Error(`the data disk ${path} ${faults[header](path)}`);
  if (header.virtualOctets >= sizeOctets) return { outcome: 'found', virtualOctets: header.virtualOctets };
  await runQemuImg(options.qemuImg, ['resize', '-q', '-f', 'qcow2', path, String(sizeOctets)]);
  return { outcome: 'grown', virtualOctets: sizeOctets };
}

const faults: { readonly [K in Qcow2Fault]: (path: string) => string } = {
  'not-qcow2': () =>
    "is not a qcow2 image: it is damaged or another program's; move it away, or run 'slipway reset' to start with a new one",
  version: () => 'is of a qcow2 version that is not known here; move it away, or update Slipway',
  corrupt: (path) => `is marked corrupt by QEMU; run 'qemu-img check -r all ${path}', or 'slipway reset' to start anew`,
  'refers-to-another-file': () =>
    "refers to another file, which a data disk never does; move it away, or 'slipway reset'",
  encrypted: () => "is encrypted, which a data disk never is; move it away, or 'slipway reset'",
  size: () => "has an impossible size; move it away, or run 'slipway reset' to start with a new one",
};

async function readHeader(path: string): Promise<ReturnType<typeof parseQcow2Header> | undefined> {
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(QCOW2_HEADER_OCTETS), 0, QCOW2_HEADER_OCTETS, 0);
    return parseQcow2Header(buffer.subarray(0, bytesRead));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new Error(`the data disk ${path} cannot be read: ${code ?? error}; it must be a file of this user's`);
  }
}

/** Octets that the invoking user may still write where `directory` lies. */
export async function availableOctets(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

/** Runs qemu-img; rejects with its own words, or with how to get it. */
export async function runQemuImg(qemuImg: readonly string[], argv: readonly string[]): Promise<string> {
  const [program = 'qemu-img', ...prefix] = qemuImg;
  try {
    const { stdout } = await promisify(execFile)(program, [...prefix, ...argv], { maxBuffer: MiB });
    return stdout;
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT') throw new Error(`${program} is missing; install it (Debian: apt install qemu-utils)`);
    throw new Error(`qemu-img ${argv[0]} failed: ${stderr?.trim() || String(error)}`);
  }
}
