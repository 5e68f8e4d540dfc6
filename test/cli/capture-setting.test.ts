/** The capture that a setting asks for, changed while it runs. */

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { CaptureSetting } from '../../src/cli/capture-setting.ts';
import { Capture } from '../../src/stack/link/capture.ts';

t.test('begun, changed, refused, ended: one capture at a time, its file whole', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-capture-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'capture.pcapng');
  const running = new Set<string>();
  const lines: string[] = [];
  const setting = new CaptureSetting({
    path,
    open: (options) => {
      const name = options.filter?.text ?? 'all';
      running.add(name);
      return new Capture({ ...options, epochMs: 0, stopped: () => running.delete(name) });
    },
    log: (line) => lines.push(line),
  });
  await setting.use('');
  t.same([...running], []);
  await setting.use('all');
  t.same([...running], ['all']);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await setting.use('tcp port 80');
  t.same([...running], ['tcp port 80']);
  await setting.use('tcp prot 80');
  t.same([...running], []);
  t.match(lines.at(-1), /^network\.capture: .*prot.*; nothing is captured$/);
  void setting.use('udp');
  await setting.close();
  t.same([...running], []);
  t.equal(readFileSync(path).readUInt32LE(0), 0x0a0d0d0a, 'a section header');
});
