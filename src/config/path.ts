/** Paths and branch names of the database: what git takes. */

import { DatabaseError } from './database.ts';

/** The components of a path, checked; none for the root. */
export function splitPath(path: string): string[] {
  if (path === '') return [];
  const names = path.split('/');
  for (const name of names) {
    if (name === '' || name === '.' || name === '..' || name.includes('\0') || name.toLowerCase() === '.git')
      throw new DatabaseError('INVALID', `'${path}' is not a path: '${name}' cannot be a name in git`);
  }
  return names;
}

/** Throws where `git check-ref-format --branch` would. */
export function checkBranch(name: string): void {
  const bad =
    name === '' ||
    name === '@' ||
    name === 'HEAD' ||
    name.startsWith('-') ||
    name.length > 200 ||
    /[\0-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|^\/|\/$|\.$/.test(name) ||
    name.split('/').some((part) => part.startsWith('.') || part.endsWith('.lock'));
  if (bad) throw new DatabaseError('INVALID', `'${name}' cannot be the name of a branch`);
}
