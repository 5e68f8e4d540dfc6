/**
 * Which QEMU runs the VM. The host's own where it is fit; else Debian 13's QEMU 10, unpacked beside it.
 *
 * Under emulation a QEMU before 10 is unfit: translating on several threads it loses the race against a kernel that
 * patches its own code (vm/README.md, QEMU). With hardware acceleration any QEMU with `-netdev stream` will do: 7.2.
 */

import { hostArch } from './host-arch.ts';
import { findHostProgram, type HostProgram, type HostProgramOptions, provideHostProgram } from './host-program.ts';
import { tryRun } from './host-tools.ts';
import type { DebianArch, ProvisionProgress } from './port.ts';

const FIT_EMULATED: readonly [number, number] = [10, 0];
const FIT_ACCELERATED: readonly [number, number] = [7, 2];

export interface LocatedQemu {
  /** What starts QEMU; its arguments follow. */
  readonly command: readonly string[];
  readonly version: string;
  /** What starts qemu-img. */
  readonly image: readonly string[];
  /** Why this one. */
  readonly reason: string;
}

export interface QemuOptions {
  /** The guest's architecture. */
  readonly arch?: DebianArch;
  /** Whether hardware acceleration is usable for it. */
  readonly accelerated: boolean;
  /** Where given, what is missing is fetched; else it is an error. */
  readonly progress?: ProvisionProgress;
  readonly cache?: string;
  /** In place of this process's environment. */
  readonly env?: NodeJS.ProcessEnv;
}

/** A QEMU of the user's choice, for those who build their own. */
const OVERRIDE = 'SLIPWAY_QEMU';

export async function locateQemu(options: QemuOptions): Promise<LocatedQemu> {
  const { arch = hostArch(), accelerated, env = process.env } = options;
  const system = `qemu-system-${arch === 'amd64' ? 'x86_64' : 'aarch64'}`;
  const chosen = env[OVERRIDE];
  const host = await toolVersion(chosen ?? system, env);
  if (chosen && host === undefined) throw new Error(`${OVERRIDE} names ${chosen}, which is no QEMU`);
  const own = (reason: string): LocatedQemu => ({
    command: [chosen ?? system],
    version: host!,
    image: ['qemu-img'],
    reason,
  });
  if (chosen) return own(`${OVERRIDE} names it`);
  const least = accelerated ? FIT_ACCELERATED : FIT_EMULATED;
  const hasImageTool = (await toolVersion('qemu-img', env)) !== undefined;
  if (host !== undefined && hasImageTool && atLeast(host, least)) return own(`the host's QEMU ${host} is fit`);
  const why = host === undefined ? 'the host has no QEMU' : `the host's QEMU ${host} is older than ${least.join('.')}`;
  try {
    return unpacked(await provideOrFind(options), why);
  } catch (error) {
    if (host !== undefined && hasImageTool && atLeast(host, FIT_ACCELERATED))
      return own(`${why}, and no other can be had: ${(error as Error).message}`);
    throw new Error(`${why}, and no other can be had: ${(error as Error).message}`);
  }
}

async function provideOrFind({ progress, cache }: QemuOptions): Promise<HostProgram> {
  const which: Omit<HostProgramOptions, 'progress'> = {
    name: 'qemu',
    arch: hostArch(),
    ...(cache !== undefined && { cache }),
  };
  if (progress) return provideHostProgram({ ...which, progress });
  const found = await findHostProgram(which);
  if (!found) throw new Error("QEMU has not been fetched; 'slipway up' fetches it");
  return found;
}

function unpacked(program: HostProgram, why: string): LocatedQemu {
  const share = (name: string): string[] => ['-L', `${program.folder}/usr/share/${name}`];
  const version = program.version('qemu-system-x86');
  return {
    command: [...program.command('usr/bin/qemu-system-x86_64'), ...share('qemu'), ...share('seabios')],
    version,
    image: program.command('usr/bin/qemu-img'),
    reason: `${why}: Debian 13's QEMU ${version} is used`,
  };
}

/** `QEMU emulator version 7.2.22 (Debian ...)`, `qemu-img version 10.0.13`. */
async function toolVersion(program: string, { PATH }: NodeJS.ProcessEnv): Promise<string | undefined> {
  const options = PATH === undefined ? {} : { env: { PATH } };
  const said = await tryRun(program, ['--version'], options).catch(() => undefined);
  if (said?.status !== 0) return undefined;
  return / version (\d+\.\d+(?:\.\d+)?)/.exec(said.stdout.toString())?.[1];
}

export function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ours = 0, oursMinor = 0] = version.split('.').map(Number);
  return ours > major || (ours === major && oursMinor >= minor);
}
