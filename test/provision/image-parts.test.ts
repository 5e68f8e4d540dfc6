/** The pieces of the guest image: archives and file systems that come out the same twice, the kernel, its modules. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { type CpioEntry, cpio } from '../../src/provision/cpio.ts';
import { makeErofs } from '../../src/provision/erofs.ts';
import { isWhole } from '../../src/provision/guest-image.ts';
import { readRecipe, vmDirectory } from '../../src/provision/image-recipe.ts';
import { uncompressedKernel } from '../../src/provision/kernel-image.ts';
import { KernelModules, withoutSignature } from '../../src/provision/kernel-modules.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-image-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

t.test('cpio', async (t) => {
  await t.test('busybox reads it', async (t) => {
    const archive = cpio([
      { path: 'bin', kind: 'folder', mode: 0o755 },
      { path: 'bin/sh', kind: 'file', mode: 0o755, content: Buffer.from('odd') },
      { path: 'bin/ash', kind: 'link', target: 'sh' },
      { path: 'null', kind: 'device', mode: 0o666, major: 1, minor: 3 },
    ]);
    const listed = execFileSync('/bin/busybox', ['cpio', '-tv'], { input: archive, encoding: 'utf8', stdio: 'pipe' });
    const rows = listed
      .trim()
      .split('\n')
      .map((line) => line.split(/\s+/));
    t.same(
      rows.map((row) => [row[0], row.slice(5).join(' ')]),
      [
        ['drwxr-xr-x', 'bin'],
        ['-rwxr-xr-x', 'bin/sh'],
        ['lrwxrwxrwx', 'bin/ash -> sh'],
        ['crw-rw-rw-', 'null'],
      ],
    );
    t.equal(
      execFileSync('/bin/busybox', ['cpio', '-i', '--to-stdout', 'bin/sh'], {
        input: archive,
        stdio: 'pipe',
      }).toString(),
      'odd',
    );
  });

  await t.test('whatever the entries: aligned, complete, the same twice', async (t) => {
    const path = fc.stringMatching(/^[a-z0-9./_-]{1,60}$/);
    const entry: fc.Arbitrary<CpioEntry> = fc.oneof(
      fc.record({ path, kind: fc.constant('folder' as const), mode: fc.nat(0o7777) }),
      fc.record({ path, kind: fc.constant('file' as const), mode: fc.nat(0o7777), content: fc.uint8Array() }),
      fc.record({ path, kind: fc.constant('link' as const), target: path }),
    );
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        const archive = cpio(entries);
        const names: string[] = [];
        for (let at = 0; ; ) {
          if (archive.toString('latin1', at, at + 6) !== '070701') throw new Error(`no header at ${at}`);
          const field = (index: number): number =>
            Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
          const name = archive.toString('utf8', at + 110, at + 110 + field(11) - 1);
          if (name === 'TRAILER!!!') break;
          names.push(name);
          const content = (at + 110 + field(11) + 3) & ~3;
          at = (content + field(6) + 3) & ~3;
        }
        return (
          archive.length % 512 === 0 &&
          JSON.stringify(names) === JSON.stringify(entries.map((one) => one.path)) &&
          archive.equals(cpio(entries))
        );
      }),
    );
    t.pass();
  });
});

t.test('erofs: the same octets whatever the order and the time of making', async (t) => {
  const names = Array.from({ length: 40 }, (_, index) => `file-${(index * 7919) % 97}`);
  const make = async (name: string, order: readonly string[], date: number): Promise<Buffer> => {
    const tree = join(folder, name);
    for (const one of order) {
      mkdirSync(join(tree, 'folder', one), { recursive: true });
      writeFileSync(join(tree, 'folder', one, 'content'), one.repeat(3000));
      utimesSync(join(tree, 'folder', one, 'content'), date, date);
    }
    symlinkSync('folder', join(tree, 'link'));
    const out = join(folder, `${name}.erofs`);
    await makeErofs(tree, out, '0123456789abcdef0123456789abcdef');
    return readFileSync(out);
  };
  const first = await make('first', names, 1000);
  t.ok(first.equals(await make('second', names.toReversed(), 2000)));
  t.equal(first.toString('hex', 1024, 1028), 'e2e1f5e0', 'an erofs superblock');
});

t.test('the kernel', async (t) => {
  const elf = Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(5000, 'kernel')]);
  const image = (payload: Buffer, told = elf.length): Buffer => {
    const header = Buffer.alloc(0x400);
    header[0x1f1] = 1;
    header.write('HdrS', 0x202, 'latin1');
    header.writeUInt32LE(16, 0x248);
    header.writeUInt32LE(payload.length + 4, 0x24c);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(told);
    return Buffer.concat([header, Buffer.alloc(16), payload, size, Buffer.alloc(64)]);
  };
  await t.test('out of a bzImage, however it is compressed', async (t) => {
    for (const program of ['zstd', 'xz', 'gzip'])
      t.ok(elf.equals(await uncompressedKernel(image(execFileSync(program, ['-c'], { input: elf })))), program);
  });
  await t.test('arm64: plain, gzip, or wrapped for EFI', async (t) => {
    const plain = Buffer.alloc(5000, 'code');
    plain.write('ARM\x64', 0x38, 'latin1');
    const packed = gzipSync(plain);
    const zboot = Buffer.concat([Buffer.alloc(64), packed]);
    zboot.write('MZ\0\0zimg', 'latin1');
    zboot.writeUInt32LE(64, 8);
    zboot.writeUInt32LE(packed.length, 12);
    for (const one of [plain, packed, zboot]) t.ok(plain.equals(await uncompressedKernel(one)));
  });
  await t.test('a damaged one is an Error', async (t) => {
    const zstd = execFileSync('zstd', ['-c'], { input: elf });
    await t.rejects(uncompressedKernel(image(zstd).subarray(0, 0x420)), /ends within its payload/);
    await t.rejects(uncompressedKernel(image(zstd, 3)), /no ELF file of the length/);
    await t.rejects(uncompressedKernel(image(zstd.subarray(0, 20))), /zstd ended with 1/);
    await t.rejects(uncompressedKernel(image(Buffer.from('what is this'))), /compressed in a way not known here/);
    await t.rejects(uncompressedKernel(Buffer.alloc(0)), /no format known here/);
  });
});

t.test('modules are loaded after what they need', async (t) => {
  const modules = new KernelModules(
    'kernel/a/top-one.ko.xz: kernel/a/middle.ko.xz kernel/b/base.ko.xz\nkernel/a/middle.ko.xz: kernel/b/base.ko.xz\nkernel/b/base.ko.xz:\n',
    'kernel/c/built_in.ko\n',
  );
  const base = 'kernel/b/base.ko.xz';
  t.same(modules.closure(['top_one']), [base, 'kernel/a/middle.ko.xz', 'kernel/a/top-one.ko.xz']);
  t.same(modules.closure(['base', 'built-in', 'middle']), [base, 'kernel/a/middle.ko.xz']);
  t.throws(() => modules.closure(['nowhere']), /the kernel has no module nowhere/);
});

t.test("a module's appended signature goes, and nothing else", async (t) => {
  const code = Buffer.from('the module');
  const trailer = Buffer.alloc(12);
  trailer.writeUInt32BE(7, 8);
  const signed = Buffer.concat([code, Buffer.from('signed!'), trailer, Buffer.from('~Module signature appended~\n')]);
  t.ok(withoutSignature(signed).equals(code));
  t.ok(withoutSignature(code).equals(code), 'unsigned');
  trailer.writeUInt32BE(4000, 8);
  const lying = Buffer.concat([code, trailer, signed.subarray(-28)]);
  t.ok(withoutSignature(lying).equals(lying), 'a length beyond the file');
});

t.test('the recipe names sources that are there', async (t) => {
  const { programs, keep, modules } = await readRecipe();
  for (const sources of [...Object.values(programs.initramfs), ...Object.values(programs.root)])
    for (const source of sources)
      t.ok(readFileSync(join(vmDirectory, 'guest', source), 'utf8').startsWith('/* '), source);
  for (const expression of [...keep, ...modules.present]) t.ok(new RegExp(expression), expression);
});

t.test('an image is whole, or it is not taken', async (t) => {
  const image = join(folder, 'image');
  mkdirSync(image);
  t.notOk(await isWhole(image), 'no manifest');
  writeFileSync(join(image, 'root.erofs'), 'root');
  const files = { 'root.erofs': '4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2' };
  writeFileSync(join(image, 'manifest.json'), JSON.stringify({ id: 'x', files }));
  t.ok(await isWhole(image));
  writeFileSync(join(image, 'root.erofs'), 'Root');
  t.notOk(await isWhole(image), 'altered');
  rmSync(join(image, 'root.erofs'));
  t.notOk(await isWhole(image), 'missing');
  writeFileSync(join(image, 'manifest.json'), '{');
  t.notOk(await isWhole(image), 'no manifest to read');
});
