/**
 * Where Debian packages come from: the mirror that this machine's apt is set up with, so that its proxies, credentials
 * and transport serve here too. Another release than the machine's own is read from the same mirror.
 */

import { tryRun } from './host-tools.ts';

export interface DebianMirror {
  /** Base of the archive. */
  readonly main: string;
  /** Base of the security archive; may be missing. */
  readonly security?: string;
}

/** A URL of a Debian archive, and optionally a second of the security archive, in place of what apt is set up with. */
const OVERRIDE = 'SLIPWAY_DEBIAN_MIRROR';

const NO_MIRROR =
  `Slipway brings its guest from Debian's packages, and apt on this machine has no Debian archive to read; ` +
  `set ${OVERRIDE} to the URL of one ("URL" or "URL SECURITY-URL")`;

export async function findMirror(env: NodeJS.ProcessEnv = process.env): Promise<DebianMirror> {
  const [main, security] = env[OVERRIDE]?.trim().split(/\s+/).filter(Boolean) ?? [];
  if (main !== undefined) return { main: base(main), ...(security !== undefined && { security: base(security) }) };
  const format = '$(ORIGIN)|$(RELEASE)|$(REPO_URI)';
  const listed = await tryRun('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']).catch(
    (error: Error) => {
      throw new Error(`${NO_MIRROR} (${error.message})`);
    },
  );
  const mirror = chooseMirror(listed.stdout.toString());
  if (!mirror) throw new Error(NO_MIRROR);
  return mirror;
}

/**
 * Chooses among `ORIGIN|RELEASE|URI` lines. Before apt's first update the origins are not known; the names of the
 * releases are then all there is to go by.
 */
export function chooseMirror(listing: string): DebianMirror | undefined {
  const rows = listing
    .split('\n')
    .map((line) => line.split('|'))
    .filter(([origin, , uri]) => (origin === 'Debian' || origin?.startsWith('$(') || origin === '') && uri);
  const find = (release: RegExp): string | undefined => rows.find(([, name]) => release.test(name ?? ''))?.[2];
  const main = find(/^(bullseye|bookworm|trixie|forky|sid|(old)*stable|testing|unstable)(-updates)?$/);
  const security = find(/^[a-z]+-security(\/updates)?$/);
  return main === undefined
    ? undefined
    : { main: base(main), ...(security !== undefined && { security: base(security) }) };
}

const base = (uri: string): string => uri.replace(/\/+$/, '');
