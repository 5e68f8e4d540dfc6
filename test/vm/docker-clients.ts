/**
 * Docker's own clients for the tests, as commands in a folder for PATH: `docker`, where the host has none, and
 * `docker-buildx`, which builds by BuildKit.
 */

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostArch } from '../../src/provision/host-arch.ts';
import { provideHostProgram } from '../../src/provision/host-program.ts';
import { silentProgress } from '../../src/provision/port.ts';
import { run } from './programs.ts';

export async function putDockerClients(folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  const own = await provideHostProgram({ name: 'docker-cli', arch: hostArch(), progress: silentProgress });
  mkdirSync(folder, { recursive: true });
  put(join(folder, 'docker-buildx'), own.command('usr/libexec/docker/cli-plugins/docker-buildx'));
  const host = await run('docker', ['--version'], env).catch(() => undefined);
  if (host?.status !== 0) put(join(folder, 'docker'), own.command('usr/bin/docker'));
}

function put(path: string, command: readonly string[]): void {
  writeFileSync(path, `#!/bin/sh\nexec ${command.map((word) => `'${word}'`).join(' ')} "$@"\n`);
  chmodSync(path, 0o755);
}
