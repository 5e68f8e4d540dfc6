/**
 * The host's programs behind provisioning, and how they are run. `packageTools`, `imageTools` and `crossTools` are what an installer
 * brings beforehand; a program that is missing all the same is reported with its Debian package.
 */

import { spawn } from 'node:child_process';
import { buffer } from 'node:stream/consumers';

export interface HostTool {
  /** Its Debian package. */
  readonly name: string;
  /** A program looked up on PATH, or a file, that proves the package is there. */
  readonly proof: string;
}

/** For fetching and unpacking Debian packages: part of every Debian. */
export const packageTools: readonly HostTool[] = [
  { name: 'apt', proof: 'apt-get' },
  { name: 'dpkg', proof: 'dpkg-deb' },
];

/** For building the guest image beyond that. */
export const imageTools: readonly HostTool[] = [
  { name: 'gcc', proof: 'gcc' },
  { name: 'libc6-dev', proof: '/usr/include/stdio.h' },
  { name: 'erofs-utils', proof: 'mkfs.erofs' },
  { name: 'kmod', proof: 'depmod' },
  { name: 'xz-utils', proof: 'xz' },
  { name: 'zstd', proof: 'zstd' },
];

/** For an arm64 guest on an amd64 host, beyond that. */
export const crossTools: Readonly<Record<'amd64' | 'arm64', readonly HostTool[]>> = {
  amd64: [
    { name: 'gcc-x86-64-linux-gnu', proof: 'x86_64-linux-gnu-gcc' },
    { name: 'libc6-dev-amd64-cross', proof: '/usr/x86_64-linux-gnu/lib/libc.a' },
  ],
  arm64: [
    { name: 'gcc-aarch64-linux-gnu', proof: 'aarch64-linux-gnu-gcc' },
    { name: 'libc6-dev-arm64-cross', proof: '/usr/aarch64-linux-gnu/lib/libc.a' },
  ],
};

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end; what it printed. Rejects with its last words when its status is not 0. */
export async function run(program: string, argv: readonly string[], options: RunOptions = {}): Promise<Buffer> {
  const { status, stdout, stderr } = await tryRun(program, argv, options);
  if (status === 0) return stdout;
  const words = lastWords(stderr) || lastWords(stdout.subarray(-4096).toString());
  throw new Error(`${program} ended with ${status}${words ? `: ${words}` : ''}`);
}

/** Runs a program to its end, whatever its status. */
export async function tryRun(
  program: string,
  argv: readonly string[],
  { cwd, input, env }: RunOptions = {},
): Promise<{ status: number | string; stdout: Buffer; stderr: string }> {
  const child = spawn(program, argv, {
    ...(cwd !== undefined && { cwd }),
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | string>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' ? new Error(missing(program)) : error),
    );
    child.once('close', (code, signal) => resolve(code ?? signal ?? 1));
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [status, stdout, stderr] = await Promise.all([ended, buffer(child.stdout), buffer(child.stderr)]);
  return { status, stdout, stderr: stderr.toString() };
}

function missing(program: string): string {
  const tools = [...packageTools, ...imageTools, ...crossTools.amd64, ...crossTools.arm64];
  const tool = tools.find(({ proof }) => proof === program);
  return `${program} is missing${tool ? `; install it (Debian: apt-get install ${tool.name})` : ''}`;
}

function lastWords(text: string): string {
  return text.trim().split('\n').slice(-3).join(' / ').replace(/\p{C}/gu, ' ').slice(-500);
}
