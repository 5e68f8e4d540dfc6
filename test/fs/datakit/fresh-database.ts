/** A database of its own for a test, on disk, and gone with it. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { GitDatabase } from '../../../src/config/adapter/git-database.ts';

export async function freshDatabase(t: Test): Promise<{ db: GitDatabase; directory: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-database-'));
  const directory = join(folder, 'database');
  const db = await GitDatabase.open({
    directory,
    author: { name: 'Test', email: 'test@slipway.internal' },
    watching: false,
    nowMs: () => 1_700_000_000_000,
    log: () => undefined,
  });
  t.teardown(async () => {
    await db.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { db, directory };
}
