/** The data disk, its lock, and the image's check: what is made, what is refused and with which words. */

import { spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { prepareDataDisk, runQemuImg } from '../../../src/hypervisor/disk/data-disk.ts';
import { checkGuestImage } from '../../../src/hypervisor/disk/guest-image.ts';
import { lockFile, lockOwner } from '../../../src/hypervisor/disk/lock-file.ts';
import { parseQcow2Header } from '../../../src/hypervisor/disk/qcow2-header.ts';
import { writeFakeImage } from '../fake-image.ts';

const root = mkdtempSync(join(tmpdir(), 'slipway-disk-'));
t.teardown(() => rmSync(root, { recursive: true }));
const GiB = 2 ** 30;
const qemuImg = ['qemu-img'];

t.test('made, found, grown, never shrunk', async (t) => {
  const path = join(root, 'a folder, new', 'data.qcow2');
  t.same(await prepareDataDisk({ path, sizeOctets: GiB, qemuImg }), { outcome: 'made', virtualOctets: GiB });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.ok(statSync(path).size < 1 << 20, 'sparse');
  t.match(await prepareDataDisk({ path, sizeOctets: GiB, qemuImg }), { outcome: 'found' });
  t.same(await prepareDataDisk({ path, sizeOctets: 2 * GiB, qemuImg }), { outcome: 'grown', virtualOctets: 2 * GiB });
  t.match(await prepareDataDisk({ path, sizeOctets: GiB, qemuImg }), { outcome: 'found', virtualOctets: 2 * GiB });
  const info = JSON.parse(await runQemuImg(qemuImg, ['info', '--output=json', path]));
  t.match(info, { format: 'qcow2', 'virtual-size': 2 * GiB }, "QEMU's own view");
});

t.test('no space, no qemu-img', async (t) => {
  const path = join(root, 'full', 'data.qcow2');
  const freeOctets = async (): Promise<number> => 100 << 20;
  await t.rejects(
    prepareDataDisk({ path, sizeOctets: GiB, qemuImg, freeOctets }),
    /no disk space: .*full has 100 MiB left and the data disk needs 512 MiB; free some, or set SLIPWAY_HOME/,
  );
  t.same(readdirSync(join(root, 'full')), [], 'nothing half made');
  await prepareDataDisk({ path, sizeOctets: GiB, qemuImg });
  await prepareDataDisk({ path, sizeOctets: GiB, qemuImg, freeOctets });
  t.pass('a disk that is there may be started to make room');
  await t.rejects(
    prepareDataDisk({ path, sizeOctets: GiB, qemuImg, freeOctets: async () => 1 << 20 }),
    /no disk space: .* 1 MiB left/,
  );
  const none = { path: join(root, 'none.qcow2'), sizeOctets: GiB, qemuImg: ['/no/such/qemu-img'] };
  await t.rejects(prepareDataDisk(none), /qemu-img is missing; install it/);
  await t.rejects(runQemuImg(qemuImg, ['info', '/no/such/file']), /qemu-img info failed: .*No such file/);
});

t.test('a file that is no sound data disk is named with its remedy and left as it is', async (t) => {
  const path = join(root, 'odd.qcow2');
  const sound = join(root, 'sound.qcow2');
  await prepareDataDisk({ path: sound, sizeOctets: GiB, qemuImg });
  const bent = (change: (view: DataView) => void): Buffer => {
    const octets = readFileSync(sound);
    change(new DataView(octets.buffer, octets.byteOffset, octets.byteLength));
    return octets;
  };
  for (const [octets, words] of [
    [Buffer.from('hello'), /is not a qcow2 image.*slipway reset/],
    [Buffer.alloc(0), /is not a qcow2 image/],
    [readFileSync(sound).subarray(0, 80), /is not a qcow2 image/],
    [bent((view) => view.setUint32(4, 9)), /qcow2 version/],
    [bent((view) => view.setUint32(76, 2)), /marked corrupt.*qemu-img check -r all/],
    [bent((view) => view.setUint32(76, 4)), /refers to another file/],
    [bent((view) => view.setUint32(12, 512)), /refers to another file/],
    [bent((view) => view.setUint32(32, 1)), /encrypted/],
    [bent((view) => view.setBigUint64(24, 0n)), /impossible size/],
    [bent((view) => view.setBigUint64(24, 1n << 63n)), /impossible size/],
  ] as const) {
    writeFileSync(path, octets);
    await t.rejects(prepareDataDisk({ path, sizeOctets: GiB, qemuImg }), words);
    t.ok(readFileSync(path).equals(octets));
  }
  await t.rejects(prepareDataDisk({ path: root, sizeOctets: GiB, qemuImg }), /cannot be read: EISDIR/);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => void parseQcow2Header(octets)));
});

t.test('one holder, until the last process that has the lock ends', async (t) => {
  const path = join(root, 'lock');
  const lock = await lockFile(path, 0);
  t.equal(lockOwner(path), String(process.pid));
  t.equal(await lockFile(path, 0), undefined, 'taken');
  const heir = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', lock!.fd] });
  await new Promise((resolve) => heir.on('spawn', resolve));
  lock!.release();
  lock!.release();
  t.equal(await lockFile(path, 0), undefined, 'a child has inherited it');
  const waiting = lockFile(path, 60_000);
  heir.kill('SIGKILL');
  const next = await waiting;
  t.ok(next, 'its end, however it ends, frees the lock for who waits');
  next!.release();
  t.equal(lockOwner(join(root, 'no-such-lock')), 'unknown');
});

t.test('an image is what its manifest says, or is told what is wrong', async (t) => {
  const directory = writeFakeImage(join(root, 'image'));
  t.match(await checkGuestImage(directory), { id: 'fake', arch: 'amd64', kernel: join(directory, 'vmlinux') });
  const manifest = readFileSync(join(directory, 'manifest.json'), 'utf8');
  const altered = async (text: string, words: RegExp): Promise<void> => {
    writeFileSync(join(directory, 'manifest.json'), text);
    await t.rejects(checkGuestImage(directory), words);
  };
  await altered('{', /corrupt: manifest\.json is not JSON; delete that folder/);
  await altered('null', /not JSON/);
  await altered(manifest.replace('"fake"', '7'), /no id/);
  await altered(manifest.replace('amd64', 'vax'), /no architecture/);
  await altered(manifest.replace('"files":{', '"file":{'), /lists no files/);
  await altered(manifest.replace('"root.erofs"', '"../root.erofs"'), /no name and SHA-256/);
  await altered(manifest.replace('"root.erofs"', '"other"'), /does not name root\.erofs/);
  writeFileSync(join(directory, 'manifest.json'), manifest);
  appendFileSync(join(directory, 'root.erofs'), 'x');
  await t.rejects(checkGuestImage(directory), /corrupt: root\.erofs has SHA-256 [0-9a-f]{12}\.\.\., not/);
  rmSync(join(directory, 'root.erofs'));
  await t.rejects(checkGuestImage(directory), /root\.erofs cannot be read \(ENOENT\)/);
  rmSync(join(directory, 'manifest.json'));
  await t.rejects(checkGuestImage(directory), /no guest image in .*npm start/);
});
