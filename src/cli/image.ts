/** `slipway image`: builds the guest image, and renews the lock files behind it. */

import { provideGuestImage } from '../provision/guest-image.ts';
import { lockNames, renewLock } from '../provision/lock-files.ts';
import type { DebianArch } from '../provision/port.ts';
import { command, printJson, runCommand } from './command.ts';
import { Progress } from './progress.ts';
import { UsageError } from './usage-error.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command('image', "build the guest image, or renew its packages' lock files", 'slipway image build');
  program
    .command('build')
    .description('Build the guest image unless the cache has it, and print its folder.')
    .option('--arch <arch>', "amd64 or arm64; this machine's by default")
    .option('--anew', 'build it even when the cache has it')
    .option('--json', 'print the folder as JSON')
    .action(async ({ arch, anew, json }: { arch?: string; anew?: boolean; json?: boolean }) => {
      if (arch !== undefined && !isDebianArch(arch)) throw new UsageError(`--arch takes amd64 or arm64, not ${arch}`);
      const folder = await provideGuestImage({
        progress: new Progress(),
        ...(arch !== undefined && { arch }),
        ...(anew && { anew }),
      });
      if (json) printJson({ folder });
      else process.stdout.write(`${folder}\n`);
    });
  program
    .command('lock')
    .description("Renew the lock files with the newest versions that Debian's mirror has.")
    .option('--json', 'print the changes as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const changes = [];
      for (const name of lockNames) changes.push(...(await renewLock(name, new Progress())));
      if (json) printJson(changes);
      else process.stdout.write(changes.length === 0 ? 'nothing has changed\n' : `${changes.join('\n')}\n`);
    });
  return runCommand(program, argv);
}

function isDebianArch(arch: string): arch is DebianArch {
  return arch === 'amd64' || arch === 'arm64';
}
