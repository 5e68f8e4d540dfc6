/** What the database's errors are to a file system: DataKit's words for 9P2000, the nearest errno for the others. */

import type { DatabaseErrorCode } from '../../config/database.ts';
import { FileError, type FileErrorCode } from '../ninep/file-error.ts';

const codes: Readonly<Record<DatabaseErrorCode, FileErrorCode>> = {
  CONFLICT: 'EBUSY',
  'NOT-FAST-FORWARD': 'EBUSY',
  CHANGED: 'EBUSY',
  'NO-BRANCH': 'ENOENT',
  EXISTS: 'EEXIST',
  'NO-OBJECT': 'ENOENT',
  INVALID: 'EINVAL',
  CLOSED: 'ENOENT',
  STORAGE: 'EIO',
};

/** An error of the database, as the database's own class is not ours to import. */
function isDatabaseError(thrown: unknown): thrown is Error & { readonly code: DatabaseErrorCode } {
  return thrown instanceof Error && 'code' in thrown && Object.hasOwn(codes, String(thrown.code));
}

export function databaseRefusal(thrown: unknown): FileError | undefined {
  if (!isDatabaseError(thrown)) return undefined;
  const { code, message } = thrown;
  if (code === 'NOT-FAST-FORWARD') return new FileError('EBUSY', 'not-fast-forward');
  if (code === 'STORAGE' && /ENOSPC|disk is full/i.test(message)) return new FileError('ENOSPC', message);
  return new FileError(codes[code], message);
}

/** Nothing, where the database says that there is none or that there can be none. */
export async function ifThere<T>(wanted: Promise<T>): Promise<T | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (isDatabaseError(error) && ['NO-OBJECT', 'NO-BRANCH', 'INVALID', 'CLOSED'].includes(error.code))
      return undefined;
    throw error;
  }
}
