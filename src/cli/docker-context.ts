/**
 * The docker context `slipway`, which points Docker's client at this instance's socket. Contexts are the client's own
 * business (DOCKER_CONFIG and all), so the client makes and removes them; without a client there is nothing to do.
 */

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Home } from '../home.ts';

const NAME = 'slipway';

export type ContextOutcome =
  | { readonly state: 'installed' | 'removed' | 'absent' | 'no client' }
  /** Another instance has it, whose socket is named. */
  | { readonly state: 'taken'; readonly host: string };

/** Makes the context, or points it here; one of another instance that runs is taken over only with `force`. */
export async function installContext(home: Home, force = false): Promise<ContextOutcome> {
  const host = `unix://${home.dockerSocket}`;
  const current = await currentHost();
  if (current === undefined) return { state: 'no client' };
  if (current === host) return { state: 'installed' };
  if (current !== '' && !force && alive(current)) return { state: 'taken', host: current };
  const verb = current === '' ? 'create' : 'update';
  await docker('context', verb, NAME, '--description', 'Slipway', '--docker', `host=${host}`);
  return { state: 'installed' };
}

/** Removes the context when it is this instance's. */
export async function removeContext(home: Home): Promise<ContextOutcome> {
  const current = await currentHost();
  if (current === undefined) return { state: 'no client' };
  if (current === '') return { state: 'absent' };
  if (current !== `unix://${home.dockerSocket}`) return { state: 'taken', host: current };
  await docker('context', 'rm', '-f', NAME);
  return { state: 'removed' };
}

/** Whether the instance that a context points to runs, as far as its socket tells. */
function alive(host: string): boolean {
  return !host.startsWith('unix://') || existsSync(host.slice('unix://'.length));
}

/** Where the context points to; '' when there is none, undefined when there is no client. */
async function currentHost(): Promise<string | undefined> {
  try {
    return (await docker('context', 'inspect', '-f', '{{.Endpoints.docker.Host}}', NAME)).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return '';
  }
}

async function docker(...argv: readonly string[]): Promise<string> {
  const { DOCKER_HOST: _host, DOCKER_CONTEXT: _context, ...env } = process.env;
  try {
    return (await promisify(execFile)('docker', argv, { env })).stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw error;
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1);
    throw new Error(`docker ${argv.slice(0, 2).join(' ')}: ${said || (error as Error).message}`);
  }
}
