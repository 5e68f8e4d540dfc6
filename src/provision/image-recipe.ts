/** The guest image's recipe, `vm/image.json`: what of which Debian packages goes where. */

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { DebianArch } from './port.ts';

/** Lists of modules by the moment they are loaded (vm/guest), each with what it depends on. */
export const moduleLists = ['initramfs', 'early', 'disk', 'database', 'docker', 'late'] as const;

export interface ImageRecipe {
  /** Debian's release. */
  readonly release: string;
  /** The kernel's metapackage. */
  readonly kernel: Readonly<Record<DebianArch, string>>;
  readonly packages: readonly string[];
  /** What of the packages stays: regular expressions over whole paths. */
  readonly keep: readonly string[];
  /** busybox's commands that are linked into /usr/bin unless a program has that name. */
  readonly applets: string;
  readonly links: Readonly<Record<string, string>>;
  readonly folders: readonly string[];
  /** Our programs: where they go, name, C sources in vm/guest. */
  readonly programs: Readonly<Record<'initramfs' | 'root', Readonly<Record<string, readonly string[]>>>>;
  /** Lists of names (`arm64:NAME` for one architecture alone), and `present`: regular expressions over paths of modules that modprobe finds. */
  readonly modules: Readonly<Record<(typeof moduleLists)[number] | 'present', readonly string[]>>;
}

/** The folder `vm` of the project or the installed package. */
export const vmDirectory: string = fileURLToPath(new URL('../../vm/', import.meta.url));

export async function readRecipe(path: string = `${vmDirectory}image.json`): Promise<ImageRecipe> {
  return JSON.parse(await readFile(path, 'utf8')) as ImageRecipe;
}

/** A list's modules on an architecture. */
export function moduleNames(names: readonly string[], arch: DebianArch): string[] {
  return names.flatMap((name) => {
    const [first, rest] = name.split(':', 2);
    return rest === undefined ? [name] : first === arch ? [rest] : [];
  });
}

/** Whether a path matches one of a recipe's expressions as a whole. */
export function pathMatcher(expressions: readonly string[]): (path: string) => boolean {
  const whole = expressions.map((text) => new RegExp(`^(?:${text})$`));
  return (path) => whole.some((expression) => expression.test(path));
}
