/** The kernel's modules: which files a list of names needs, in the order in which they can be loaded. */

import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { run } from './host-tools.ts';

export class KernelModules {
  /** Path to what it depends on, in modules.dep's order: each before what it needs itself. */
  readonly #dependencies = new Map<string, readonly string[]>();
  readonly #byName = new Map<string, string>();
  readonly #builtin: ReadonlySet<string>;

  /** From the text of modules.dep and modules.builtin. */
  constructor(dependencies: string, builtin: string) {
    for (const line of dependencies.split('\n')) {
      const [path, rest] = line.split(':');
      if (!path || rest === undefined) continue;
      this.#dependencies.set(path, rest.trim().split(/\s+/).filter(Boolean));
      this.#byName.set(moduleName(path), path);
    }
    this.#builtin = new Set(builtin.split('\n').filter(Boolean).map(moduleName));
  }

  get paths(): readonly string[] {
    return [...this.#dependencies.keys()];
  }

  /** The files of `names` and all they need, each after what it needs itself; built-in modules have none. */
  closure(names: readonly string[]): string[] {
    const ordered = new Set<string>();
    for (const name of names) {
      const path = this.#byName.get(moduleName(name));
      if (path !== undefined) for (const one of this.withNeeded(path)) ordered.add(one);
      else if (!this.#builtin.has(moduleName(name))) throw new Error(`the kernel has no module ${name}`);
    }
    return [...ordered];
  }

  withNeeded(path: string): string[] {
    return [...(this.#dependencies.get(path) ?? [])].reverse().concat(path);
  }
}

/** A module's name as the kernel has it. */
export function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.(xz|zst|gz))?$/, '')
    .replaceAll('-', '_');
}

/** Reads the modules below `root`/lib/modules/`version`, after making their index there. */
export async function indexModules(root: string, version: string): Promise<KernelModules> {
  await run('depmod', ['-b', root, version]);
  const folder = join(root, 'lib/modules', version);
  const [dependencies, builtin] = await Promise.all([
    readFile(join(folder, 'modules.dep'), 'utf8'),
    readFile(join(folder, 'modules.builtin'), 'utf8'),
  ]);
  return new KernelModules(dependencies, builtin);
}

const SIGNATURE_MAGIC = Buffer.from('~Module signature appended~\n');

/**
 * A module without its appended signature (Documentation/admin-guide/module-signing.rst): a trailer of 12
 * octets before the magic ends with the signature's length. The image is checked as a whole; checking each module again costs an emulated guest most
 * of the time that loading takes.
 */
export function withoutSignature(module: Buffer): Buffer {
  const end = module.length - SIGNATURE_MAGIC.length;
  if (end < 12 || !module.subarray(end).equals(SIGNATURE_MAGIC)) return module;
  const signed = end - 12 - module.readUInt32BE(end - 4);
  return signed > 0 ? module.subarray(0, signed) : module;
}
