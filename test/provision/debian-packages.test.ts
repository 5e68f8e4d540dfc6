/** Locks, mirrors and packages: what is fetched is what the lock names, or the message says why not. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { chooseMirror, findMirror } from '../../src/provision/debian-mirror.ts';
import { fetchPackages, unpackPackages } from '../../src/provision/debian-packages.ts';
import { run } from '../../src/provision/host-tools.ts';
import { vmDirectory } from '../../src/provision/image-recipe.ts';
import { lockNames } from '../../src/provision/lock-files.ts';
import { type LockedPackage, lockedFor, parseLock, readLock, writeLock } from '../../src/provision/package-lock.ts';
import { silentProgress as progress } from '../../src/provision/port.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-packages-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

t.test('lock files', async (t) => {
  const sound = {
    name: 'tini',
    version: '0.19',
    file: 't/tini/tini_0.19_amd64.deb',
    octets: 1,
    sha256: 'a'.repeat(64),
  };
  const lock = (change: object): string =>
    JSON.stringify({ release: 'trixie', packages: { amd64: [{ ...sound, ...change }] } });

  await t.test("the project's own are sound", async (t) => {
    for (const name of lockNames) {
      const { release, packages } = await readLock(join(vmDirectory, `${name}.lock.json`));
      t.equal(release, 'trixie', name);
      t.ok(Object.values(packages).every((list) => list.length > 0));
    }
    const { packages } = await readLock(join(vmDirectory, 'image.lock.json'));
    t.same(Object.keys(packages), ['amd64', 'arm64'], 'the guest is for both');
  });

  await t.test('what is unsound is named', async (t) => {
    t.equal(parseLock(lock({})).packages.amd64?.[0]?.name, 'tini');
    t.throws(() => parseLock(lock({ name: '../x' })), /no name/);
    t.throws(() => parseLock(lock({ version: 'a b' })), /tini has no version/);
    t.throws(() => parseLock(lock({ file: '../../etc/passwd.deb' })), /tini has no file/);
    t.throws(() => parseLock(lock({ octets: -1 })), /tini has no size/);
    t.throws(() => parseLock(lock({ sha256: 'A'.repeat(64) })), /tini has no SHA-256/);
    t.throws(() => parseLock('{"release":"trixie","packages":{"vax":[]}}'), /vax is no architecture/);
    t.throws(() => lockedFor(parseLock(lock({})), 'arm64'), /no packages for arm64/);
  });

  await t.test('any text parses or throws an Error', async (t) => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((text) => `{"release":"a","packages":${text}}`),
        ),
        (text) => {
          try {
            parseLock(text);
          } catch (error) {
            if (!(error instanceof Error)) throw error;
          }
        },
      ),
    );
    t.pass();
  });

  await t.test('written as read; a file that is damaged or away is named', async (t) => {
    const path = join(folder, 'x.lock.json');
    const before = parseLock(lock({}));
    await writeLock(path, before);
    t.same(await readLock(path), before);
    writeFileSync(path, '{"release"');
    await t.rejects(readLock(path), /x\.lock\.json is damaged: /);
    await t.rejects(readLock(`${path}.away`), /x\.lock\.json\.away cannot be read: ENOENT/);
  });
});

t.test('the mirror is the one that apt is set up with', async (t) => {
  const lines = [
    '|nodistro|http://other/',
    'Debian|bookworm|http://m/debian/',
    'Debian|bookworm-security|http://m/security/',
  ];
  t.same(chooseMirror(lines.join('\n')), { main: 'http://m/debian', security: 'http://m/security' });
  t.same(chooseMirror('|trixie|http://m/debian/'), { main: 'http://m/debian' }, 'before the first update');
  t.same(
    chooseMirror('Ubuntu|noble|http://u/\nVendor|bookworm|http://v/\n'),
    undefined,
    "another distribution's is none",
  );
  const SLIPWAY_DEBIAN_MIRROR = 'http://a/debian/ http://a/sec/';
  t.same(await findMirror({ SLIPWAY_DEBIAN_MIRROR }), { main: 'http://a/debian', security: 'http://a/sec' });
});

t.test('packages', async (t) => {
  // Whatever proxy apt has is not for this machine's own addresses.
  writeFileSync(join(folder, 'apt.conf'), 'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n');
  process.env.APT_CONFIG = join(folder, 'apt.conf');
  const pool = new Map<string, Buffer>();
  const asked: string[] = [];
  const mirror = await serve(pool, asked);
  t.teardown(() => mirror.server.close());
  const one = await makePackage('one+x', '1.0~rc1+b1');
  const two = await makePackage('two', '2:2.0');
  const at = (base: string, { locked }: { locked: LockedPackage }): string => `/${base}/${locked.file}`;
  pool.set(at('debian/pool/main', one), one.octets);
  pool.set(at('security/pool/updates/main', two), two.octets);
  const cache = join(folder, 'cache');
  const fetch = (packages: readonly LockedPackage[]): Promise<string[]> =>
    fetchPackages({ packages, progress, relock: 'slipway image lock', cache, mirror });

  await t.test('come from the archive or the security archive, once', async (t) => {
    const files = await fetch([one.locked, two.locked]);
    t.same(
      files.map((path) => sha256(readFileSync(path))),
      [one.locked.sha256, two.locked.sha256],
    );
    asked.length = 0;
    t.same(await fetch([one.locked, two.locked]), files);
    t.same(asked, [], 'the second time from the cache');
    await unpackPackages(files, join(folder, 'root'), progress);
    t.equal(readFileSync(join(folder, 'root/usr/share/two'), 'utf8'), 'two 2:2.0');
  });

  await t.test('damaged in the cache: fetched anew', async (t) => {
    const [path] = await fetch([one.locked]);
    const octets = readFileSync(path!);
    octets[octets.length - 1]! ^= 1;
    writeFileSync(path!, octets);
    const [again] = await fetch([one.locked]);
    t.equal(sha256(readFileSync(again!)), one.locked.sha256);
    writeFileSync(path!, octets.subarray(1));
    t.equal(sha256(readFileSync((await fetch([one.locked]))[0]!)), one.locked.sha256, 'cut short');
  });

  await t.test('a version that has left the mirror is told, with the remedy', async (t) => {
    const gone = { ...one.locked, sha256: 'b'.repeat(64), version: '0.9', file: 'o/one+x/one+x_0.9_all.deb' };
    await t.rejects(fetch([gone]), {
      message:
        'the Debian mirror has no longer one+x 0.9, which the lock file names; lock newer ones: slipway image lock',
    });
  });

  await t.test('other octets than the lock names are refused', async (t) => {
    const other = { ...one.locked, sha256: 'c'.repeat(64) };
    await t.rejects(fetch([other]), /^cannot fetch one\+x 1\.0~rc1\+b1 from the Debian mirror: .*Hash Sum mismatch/);
    t.same(
      readdirSync(join(cache, 'packages')).filter((name) => name.startsWith('.') || name.startsWith('cccc')),
      [],
      'and not kept',
    );
  });

  await t.test('a mirror that is away is told as such', async (t) => {
    const away = { main: 'http://127.0.0.1:9/debian' };
    const fetching = fetchPackages({
      packages: [one.locked],
      progress,
      relock: '',
      cache: join(folder, 'other'),
      mirror: away,
    });
    await t.rejects(fetching, /cannot fetch one\+x .* from the Debian mirror: .*127\.0\.0\.1:9/);
  });

  await t.test('a cache that cannot be made is told', async (t) => {
    writeFileSync(join(folder, 'file'), '');
    await t.rejects(
      fetchPackages({ packages: [one.locked], progress, relock: '', cache: join(folder, 'file'), mirror }),
      /cannot make .*: ENOTDIR; set XDG_CACHE_HOME to a folder of yours/,
    );
  });
});

async function makePackage(name: string, version: string): Promise<{ locked: LockedPackage; octets: Buffer }> {
  const tree = join(folder, `make-${name}`);
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  mkdirSync(join(tree, 'usr/share'), { recursive: true });
  writeFileSync(join(tree, 'usr/share', name), `${name} ${version}`);
  const control = {
    Package: name,
    Version: version,
    Architecture: 'all',
    Maintainer: 'a <a@a.invalid>',
    Description: 'a',
  };
  const text = Object.entries(control).map(([key, value]) => `${key}: ${value}\n`);
  writeFileSync(join(tree, 'DEBIAN/control'), text.join(''));
  for (const path of ['', 'DEBIAN', 'usr', 'usr/share']) chmodSync(join(tree, path), 0o755);
  const out = join(folder, `${name}.deb`);
  await run('dpkg-deb', ['-b', '--root-owner-group', tree, out]);
  const octets = readFileSync(out);
  const file = `${name[0]}/${name}/${name}_${version.replace(/^\d+:/, '')}_all.deb`;
  return { octets, locked: { name, version, file, octets: octets.length, sha256: sha256(octets) } };
}

function sha256(octets: Buffer): string {
  return createHash('sha256').update(octets).digest('hex');
}

async function serve(
  pool: ReadonlyMap<string, Buffer>,
  asked: string[],
): Promise<{ server: Server; main: string; security: string }> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url!);
    asked.push(path);
    const octets = pool.get(path);
    response.writeHead(octets ? 200 : 404, { 'content-length': octets?.length ?? 0 }).end(octets);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, main: `${base}/debian`, security: `${base}/security` };
}
