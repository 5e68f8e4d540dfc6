/**
 * The database's file tree mounted by the guest's kernel (v9fs) in the three dialects it speaks, over a stream to the
 * host: DataKit's own documented sessions, typed in the guest's shell.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import { NinepServer } from '../../src/fs/adapter/ninep-server.ts';
import { databaseExport } from '../../src/fs/datakit/database-export.ts';
import { type Instance, withInstance } from './instance.ts';
import { type Outcome, Running, run } from './programs.ts';

/** A port of the host that is this test's alone. */
const PORT = 0xf3b0;

const guest = join(import.meta.dirname, '../../vm/guest');

/** The guest's own mount program, as static as the guest needs it. */
function mountProgram(folder: string): Buffer {
  const program = join(folder, 'mount-9p');
  const sources = ['mount-9p.c', 'channel.c'].map((name) => join(guest, name));
  execFileSync('gcc', [
    '-std=gnu11',
    '-static',
    '-O2',
    '-s',
    '-Wall',
    '-Werror',
    '-I',
    guest,
    '-o',
    program,
    ...sources,
  ]);
  return readFileSync(program);
}

/** Mounts, and leaves the program that keeps it mounted running. */
function mounting(dialect: string, what: string): string {
  const [target] = what.split('=');
  return `setsid /run/test-db.mount ${PORT} ${dialect} ${what} > /run/test-db.log 2>&1 < /dev/null &
    until grep -q ' ${target} 9p ' /proc/mounts; do kill -0 $! || { cat /run/test-db.log >&2; exit 1; }; done`;
}

function inGuest(slipway: Instance, script: string, input: string | Uint8Array = ''): Promise<Outcome> {
  return run(join(import.meta.dirname, '../../bin/slipway'), ['shell', script], slipway.env, input);
}

withInstance('the database in the guest', async (t, slipway) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-mount-'));
  const db = await GitDatabase.open({
    directory: join(folder, 'database'),
    watching: true,
    author: { name: 'Test', email: 'test@slipway.internal' },
    nowMs: () => Date.now(),
    log: (line) => t.comment(line),
  });
  const server = await NinepServer.listen({
    path: join(slipway.home, `00000002.${PORT.toString(16).padStart(8, '0')}`),
    served: databaseExport({ database: db, access: 'host', owner: { name: 'root', uid: 0, gid: 0 } }),
    log: (line) => t.comment(line),
  });
  t.teardown(async () => {
    await inGuest(slipway, 'killall -q test-db.mount; umount -l /run/test-db/* 2>/dev/null; rm -rf /run/test-db');
    await server.close();
    await db.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const put = await inGuest(
    slipway,
    'mkdir -p /run/test-db; cat > /run/test-db.mount; chmod +x /run/test-db.mount',
    mountProgram(folder),
  );
  t.equal(put.status, 0, put.stderr);

  for (const dialect of ['9p2000', '9p2000.u', '9p2000.L']) {
    const at = `/run/test-db/${dialect}`;
    const branch = `b-${dialect}`;
    const shell = async (script: string): Promise<string> => {
      const { status, stdout, stderr } = await inGuest(slipway, `set -e; cd ${at}\n${script}`);
      if (status !== 0) throw new Error(`${dialect}: ${script}: exit ${status}: ${stderr}`);
      return stdout;
    };
    await t.test(dialect, async (t) => {
      const first = await db.commit(
        branch,
        [
          { path: 'folder/file', content: 'hello\n' },
          { path: 'large', content: 'large\n'.repeat(50_000) },
          { path: 'run', content: '#!/bin/sh\necho ran\n', mode: 'exec' },
        ],
        { message: 'First' },
      );
      const mounted = await inGuest(slipway, mounting(dialect, `${at}=/`));
      t.equal(mounted.status, 0, mounted.stderr);
      t.equal(
        await shell(`ls; cat branch/${branch}/head; cd branch/${branch}/ro; ls; cat folder/file; ./run; wc -c < large`),
        `branch\ncommits\nremotes\nsnapshots\ntrees\n${first}\nfolder\nlarge\nrun\nhello\nran\n300000\n`,
        'what is there can be read',
      );
      t.equal(
        await shell(`T=branch/${branch}/transactions/foo
          mkdir $T; echo somedata > $T/rw/somefile; echo more >> $T/rw/somefile; cp $T/rw/large $T/rw/copy
          mkdir $T/rw/new; mv $T/rw/run $T/rw/walk; echo x > $T/rw/new/x; chmod +x $T/rw/new/x; rm -r $T/rw/folder
          echo 'From the guest' > $T/msg; cat $T/diff/${first} | sort; echo nonsense > $T/ctl || echo refused
          echo commit > $T/ctl; ls branch/${branch}/transactions branch/${branch}/ro`),
        '+ copy\n+ new/x\n+ somefile\n+ walk\n- folder/file\n- run\nrefused\n' +
          `branch/${branch}/ro:\ncopy\nlarge\nnew\nsomefile\nwalk\n\nbranch/${branch}/transactions:\n`,
        'a transaction',
      );
      const head = db.head(branch)!;
      t.equal((await db.commitRecord(head)).message, 'From the guest');
      const tree = await db.tree(head);
      t.equal(Buffer.from((await tree.read('somefile'))!).toString(), 'somedata\nmore\n');
      t.equal((await tree.entry('new/x'))?.kind, 'exec');
      t.equal((await tree.entry('copy'))?.hash, (await tree.entry('large'))?.hash);
      const fork = `f-${dialect}`;
      await shell(
        `cd branch; mkdir ${fork}; cp ${branch}/head ${fork}/fast-forward; mv ${fork} ${fork}-2; ls ${fork}-2/ro`,
      );
      t.equal(db.head(`${fork}-2`), head, 'fork and rename');
      await db.commit(`${fork}-2`, [{ path: 'somefile', content: 'theirs\n' }], { message: 'Theirs' });
      await db.commit(branch, [{ path: 'somefile', content: 'ours\n' }], { message: 'Ours' });
      t.equal(
        await shell(`cd branch/${branch}/transactions; mkdir my-merge; cd my-merge
          cat ../../../${fork}-2/head > merge; cat conflicts ours/somefile theirs/somefile base/somefile
          echo commit > ctl || echo refused; echo both > rw/somefile; echo commit > ctl; cat ../../ro/somefile`),
        'somefile\nours\ntheirs\nsomedata\nmore\nrefused\nboth\n',
        'a merge',
      );
      t.equal(
        await shell(`cd snapshots/${first}; ls; cat hash msg; ls ro; head -n 2 ${at}/branch/${branch}/diff/${first}
          cd ${at}/remotes; mkdir r-${dialect}; echo ${folder}/database > r-${dialect}/url; echo ${branch} > r-${dialect}/fetch
          head -n 1 r-${dialect}/head`),
        `diff\nhash\nmsg\nparents\nro\n${first}\nFirst\nfolder\nlarge\nrun\n+ copy\n- folder/file\n${db.head(branch)}\n`,
        'snapshots, diffs, remotes',
      );
      await shell(`rmdir branch/${fork}-2`);
      t.equal(db.head(`${fork}-2`), undefined);
      await inGuest(slipway, `umount ${at}`);
    });
  }

  await t.test('the settings, at /Database, and the database at /db', async (t) => {
    const mounted = (script: string): Promise<Outcome> =>
      inGuest(slipway, `until test -e /Database/ports/limit; do sleep 0.1; done; ${script}`);
    t.match((await mounted('ls /db /db/branch')).stdout, /^\/db:\nbranch\ncommits\nsnapshots\ntrees\n/);
    await slipway.slipway('config', 'set', 'ports.limit=4321');
    const seen = await mounted(
      'until grep -q 4321 /Database/ports/limit; do sleep 0.1; done; cat /Database/ports/limit',
    );
    t.match(seen.stdout, /^4321$/m, 'what is set on the host is seen in the guest');
    t.equal((await mounted('mkdir /db/branch/user/transactions/x')).status, 1, 'settings are not the guest to change');
    t.equal((await mounted('mkdir /db/branch/mine')).status, 1);
    const own =
      await mounted(`cd /db/branch/guest; mkdir mine; mkdir mine/transactions/t; echo x > mine/transactions/t/rw/x
      echo commit > mine/transactions/t/ctl; cat mine/ro/x; rmdir mine`);
    t.equal(own.stdout, 'x\n', own.stderr);
    const { slipway: daemon } = (await slipway.status()).pids as Record<string, number>;
    process.kill(daemon!, 'SIGKILL');
    await slipway.slipway('up');
    t.match((await mounted('cat /Database/ports/limit')).stdout, /^4321$/m, 'mounted again when the daemon is another');
    await slipway.slipway('config', 'unset', 'ports.limit');
  });

  await t.test('live files that are left open show what comes, as cat prints it, and through a pipe', async (t) => {
    const at = '/run/test-db/live';
    const first = await db.commit('live', [{ path: 'a', content: '1' }], { message: '1' });
    const mounted = await inGuest(slipway, mounting('9p2000.L', `${at}=branch/live`));
    t.equal(mounted.status, 0, mounted.stderr);
    const readers = [
      'cat head.live',
      'cat head.live | while read -r line; do echo "$line"; done',
      'while read -r line; do echo "$line"; done < head.live',
      'cat watch/a.node/tree.live',
    ].map(
      (script) =>
        new Running(
          join(import.meta.dirname, '../../bin/slipway'),
          ['shell', `echo $$ >> ${at}.pids; cd ${at}; ${script}`],
          slipway.env,
        ),
    );
    const live = readers.slice(0, 3);
    const blob = async (): Promise<RegExp> =>
      new RegExp(`F-${(await (await db.tree(db.head('live')!)).entry('a'))!.hash}\n$`);
    await Promise.all([
      ...live.map((reader) => reader.says(new RegExp(`^${first}\n$`))),
      readers[3]!.says(await blob()),
    ]);
    let said = `${first}\n`;
    for (const content of ['2', '3']) {
      const next = await db.commit('live', [{ path: 'a', content }], { message: content });
      said += `${next}\n`;
      await Promise.all([
        ...live.map((reader) => reader.says(new RegExp(`^${said}$`))),
        readers[3]!.says(await blob()),
      ]);
    }
    await inGuest(slipway, `for pid in $(cat ${at}.pids); do kill -KILL -$pid; done; umount -l ${at}`);
    await Promise.all(readers.map((reader) => reader.ended));
  });
});
