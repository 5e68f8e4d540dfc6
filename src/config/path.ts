/** Paths and branch names of the database: what git takes. */

import { DatabaseError } from './database.ts';

/** What is below the root in no more steps than these, and named in no more characters. */
const MAX_DEPTH = 128;
const MAX_CHARACTERS = 4096;

/** The components of a path, checked; none for the root. */
export function splitPath(path: string): string[] {
  if (path === '') return [];
  const names = path.split('/');
  if (path.length > MAX_CHARACTERS || names.length > MAX_DEPTH) throw tooDeep(path);
  for (const name of names) {
    if (name === '' || name === '.' || name === '..' || name.includes('\0') || isDotGit(name))
      throw new DatabaseError('INVALID', `'${path}' is not a path: '${name}' cannot be a name in git`);
  }
  return names;
}

/**
 * Whether some file system takes the name for `.git` (git's is_ntfs_dotgit, is_hfs_dotgit): `git fsck` calls a tree with such a
 * name damaged, and whoever clones with `fetch.fsckObjects` gets nothing.
 */
function isDotGit(name: string): boolean {
  return /(?:^|\\)(?:\.git|git~1)[ .]*(?:$|[\\:])/i.test(name.replace(HFS_IGNORED, ''));
}

const HFS_IGNORED = /[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]/g;

/** Throws when a directory lies too deep to be named. */
export function checkDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw new DatabaseError('INVALID', `a directory lies deeper than ${MAX_DEPTH} others`);
}

function tooDeep(path: string): DatabaseError {
  const shown = path.length > 60 ? `${path.slice(0, 60)}...` : path;
  return new DatabaseError('INVALID', `'${shown}' is longer than ${MAX_DEPTH} names or ${MAX_CHARACTERS} characters`);
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
