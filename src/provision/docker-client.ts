/** Docker's own client: the host's, else Debian 13's, unpacked beside it. For tests and for whoever asks for one. */

import { join } from 'node:path';
import { hostArch } from './host-arch.ts';
import { provideHostProgram } from './host-program.ts';
import { tryRun } from './host-tools.ts';
import type { ProvisionProgress } from './port.ts';

export interface DockerClient {
  /** What starts the client; its arguments follow. */
  readonly command: readonly string[];
  /** A folder with the client's plugins (buildx), for `cliPluginsExtraDirs`; the host's client knows its own. */
  readonly plugins?: string;
}

export interface DockerClientOptions {
  readonly progress: ProvisionProgress;
  readonly cache?: string;
  /** Passes over the host's client. */
  readonly ownOnly?: boolean;
}

export async function provideDockerClient(options: DockerClientOptions): Promise<DockerClient> {
  const { progress, cache, ownOnly } = options;
  const host = ownOnly ? undefined : await tryRun('docker', ['--version']).catch(() => undefined);
  if (host?.status === 0) return { command: ['docker'] };
  const arch = hostArch();
  const program = await provideHostProgram({
    name: 'docker-cli',
    arch,
    progress,
    ...(cache !== undefined && { cache }),
  });
  return {
    command: program.command('usr/bin/docker'),
    plugins: join(program.folder, 'usr/libexec/docker/cli-plugins'),
  };
}
