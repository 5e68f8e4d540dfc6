/** The import rule (docs/ARCHITECTURE.md): who may import whom, and who may touch Node and the native edge. */

import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const files = globSync('src/**/*.ts', { cwd: root }).sort();

/** Folders and files that may import node:* and koffi. */
const nativeEdge = [
  /\/adapter\//,
  /^src\/hypervisor\/(link|vhost-user|disk|vsock|watchdog)\//,
  /^src\/hypervisor\/vmm[^/]*\.ts$/,
  /^src\/proxy\/http-proxy/,
  /^src\/(api|cli|native|provision)\//,
  /^src\/(network|platform|home)\.ts$/,
];
const roots = new Set(['src/network.ts', 'src/platform.ts', 'src/index.ts']);
/** What other areas may know of an area beside its `port.ts`. */
const interfaces = new Set(['src/config/schema.ts', 'src/config/database.ts']);
/** Areas that know only themselves and the `port.ts` of others; what they may import beyond that. */
const areas: Record<string, (target: string) => boolean> = {
  stack: () => false,
  native: () => false,
  proxy: (target) => target.startsWith('src/stack/'),
  hypervisor: () => false,
  fs: () => false,
  config: () => false,
  provision: () => false,
  api: () => true,
  cli: () => true,
};

/** A file without its comments. */
const code = (file: string): string =>
  readFileSync(join(root, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

function imports(file: string): string[] {
  const found = code(file).matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|^\s*import\s+)['"]([^'"]+)['"]/gm);
  return [...found].map((match) => match[1]!);
}

const area = (file: string): string => file.split('/')[1]!.replace(/\.ts$/, '');

function violations(file: string): string[] {
  const found: string[] = [];
  for (const name of imports(file)) {
    const complain = (why: string): void => void found.push(`${file} imports ${name}: ${why}`);
    if (!name.startsWith('.')) {
      const native = name.startsWith('node:') || name === 'koffi';
      const typeInPort = file.endsWith('/port.ts') && !file.startsWith('src/stack/');
      if (native && !typeInPort && !nativeEdge.some((allowed) => allowed.test(file)))
        complain('node:* belongs in an adapter');
      if (file.startsWith('src/stack/') && !(/^rxjs(\/|$)/.test(name) && file === 'src/stack/pipeline.ts'))
        complain('the stack imports no package');
      continue;
    }
    const target = relative(root, normalize(join(root, dirname(file), name)));
    if (!existsSync(join(root, target))) complain('no such file');
    if (file.startsWith('src/stack/wire/') && !target.startsWith('src/stack/wire/')) complain('wire imports only wire');
    const from = area(file);
    if (roots.has(file) || area(target) === from) continue;
    if (roots.has(target) && (from === 'cli' || from === 'api')) continue;
    if (target.endsWith('/port.ts') || interfaces.has(target)) continue;
    // Whoever may touch koffi may use what is bound by it.
    if (area(target) === 'native' && nativeEdge.some((allowed) => allowed.test(file))) continue;
    if (!(from in areas)) continue;
    if (!areas[from]!(target)) complain(`${from} knows other areas only by their port.ts`);
  }
  return found;
}

t.test('every import in src follows the rule', (t) => {
  t.ok(files.length > 10, 'the sources are found');
  t.same(files.flatMap(violations), []);
  t.end();
});

/** Where a replay needs it to come from the network's `Outside` (docs/RECORDING.md). The library's sockets are a root. */
const replayed = /^src\/(stack|proxy)\//;
const outside =
  /\/adapter\/|^src\/proxy\/http-proxy\/|^src\/proxy\/recording\/replay\.ts$|^src\/stack\/(sockets\/|link\/turn)/;
const unforeseeable =
  /\b(Date\.now|new Date\(\)|performance\.now|Math\.random|crypto\.|setTimeout|setInterval|setImmediate|queueMicrotask)/;

t.test('time, chance and timers reach stack and proxies by their ports alone', (t) => {
  const found = files
    .filter((file) => replayed.test(file) && !outside.test(file))
    .filter((file) => unforeseeable.test(code(file)));
  t.same(found, []);
  t.end();
});

t.test('the rule catches what it should', (t) => {
  t.equal(area('src/stack/tcp/send.ts'), 'stack');
  t.ok(unforeseeable.test(code('src/proxy/adapter/host-outside.ts')), 'timers are seen');
  t.ok(imports('src/stack/port.ts').includes('./frame-batch.ts'), 'imports are read');
  t.end();
});

t.test('sources are named and sized as the house asks', (t) => {
  const bad = files.filter((file) => !/^src(\/[a-z0-9-]+)*\/[a-z0-9-]+\.ts$/.test(file));
  t.same(bad, [], 'kebab-case');
  t.same(
    files.filter((file) => /\/(utils|helpers|common|types)\.ts$/.test(file)),
    [],
    'named for a concept',
  );
  t.end();
});
