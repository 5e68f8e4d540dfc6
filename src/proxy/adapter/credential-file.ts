/** A credential, USER:PASSWORD, as the one line of a file that only its owner reads. What is in it is in no error. */

import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';

/** Throws an Error that says what is wrong with the file. */
export function readCredential(path: string): string {
  const { mode } = statSync(path);
  if ((mode & 0o077) !== 0) throw new Error(`others can read ${path}; chmod 600 ${path}`);
  const [line = ''] = readFileSync(path, 'utf8').split(/\r?\n/);
  if (!/^[^:]{1,255}:.{1,255}$/.test(line)) throw new Error(`${path} has no line USER:PASSWORD`);
  return line;
}

/** That of the file as it is now; undefined where there is no file, or it is no good, which is told. */
export function currentCredential(path: string, log: (line: string) => void): string | undefined {
  try {
    return readCredential(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log((error as Error).message);
    return undefined;
  }
}

/** That of the file; made at random where there is no file. */
export function ownCredential(path: string): string {
  try {
    writeFileSync(path, `slipway:${randomBytes(24).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readCredential(path);
}
