/**
 * The content of git's trees and commits (gitformat: "tree object", "commit object"), read and made. Names are text;
 * octets of a name that are not UTF-8 stand as lone surrogates (U+DC80 to U+DCFF), so that nothing is lost on the way
 * back.
 */

import { type Author, type CommitRecord, DatabaseError, type FileMode } from './database.ts';

export type ObjectType = 'blob' | 'tree' | 'commit' | 'tag';

/** One line of a tree, as git has it. */
export interface RawEntry {
  readonly name: string;
  /** Octal, such as '100644' or '40000'. */
  readonly mode: string;
  readonly hash: string;
}

export const EMPTY_TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
export const DIRECTORY = '40000';
export const modeOf: Readonly<Record<FileMode, string>> = { normal: '100644', exec: '100755', link: '120000' };

const utf8 = new TextEncoder();
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What an entry is to the database's users; undefined for what they do not see (a submodule's commit). */
export function kindOf(mode: string): 'directory' | FileMode | undefined {
  if (mode === DIRECTORY) return 'directory';
  if (mode === '120000') return 'link';
  if (mode === '160000') return undefined;
  return (Number.parseInt(mode, 8) & 0o100) !== 0 ? 'exec' : 'normal';
}

export function isHash(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

export function parseTree(octets: Uint8Array): RawEntry[] {
  const entries: RawEntry[] = [];
  let at = 0;
  while (at < octets.length) {
    const space = octets.indexOf(0x20, at);
    const nul = octets.indexOf(0, space);
    if (space < 0 || nul < 0 || nul + 21 > octets.length) throw damaged('tree');
    entries.push({
      mode: nameOf(octets.subarray(at, space)).replace(/^0+/, ''),
      name: nameOf(octets.subarray(space + 1, nul)),
      hash: hex(octets.subarray(nul + 1, nul + 21)),
    });
    at = nul + 21;
  }
  return entries;
}

/** As git sorts a tree: by the octets of the names, those of directories with a slash at the end. */
export function inGitOrder(entries: readonly RawEntry[]): RawEntry[] {
  const key = ({ name, mode }: RawEntry): string => (mode === DIRECTORY ? `${name}/` : name);
  return [...entries].sort((a, b) => compareNames(key(a), key(b)));
}

/** `entries` in git's order. */
export function encodeTree(entries: readonly RawEntry[]): Uint8Array {
  const most = entries.reduce((sum, { name, mode }) => sum + mode.length + 3 * name.length + 22, 0);
  const octets = new Uint8Array(most);
  let at = 0;
  for (const { name, mode, hash } of entries) {
    at = putText(octets, at, mode);
    octets[at++] = 0x20;
    at = putText(octets, at, name);
    octets[at++] = 0;
    putHex(octets, at, hash);
    at += 20;
  }
  return octets.subarray(0, at);
}

export function parseCommit(id: string, octets: Uint8Array): CommitRecord {
  const text = new TextDecoder().decode(octets);
  const end = text.indexOf('\n\n');
  const head = end < 0 ? text : text.slice(0, end);
  const parents: string[] = [];
  let tree: string | undefined;
  let author: Author = { name: '', email: '' };
  let timeMs = 0;
  for (const line of head.split('\n')) {
    const [, word, value = ''] = /^(\S+) (.*)$/.exec(line) ?? [];
    if (word === 'tree') tree = value;
    else if (word === 'parent') parents.push(value);
    else if (word === 'author') author = person(value).author;
    else if (word === 'committer') timeMs = person(value).timeMs;
  }
  if (tree === undefined || !isHash(tree) || !parents.every(isHash)) throw damaged(`commit ${id}`);
  return { id, tree, parents, message: end < 0 ? '' : text.slice(end + 2).replace(/\n$/, ''), author, timeMs };
}

export function encodeCommit(commit: Omit<CommitRecord, 'id'>): Uint8Array {
  const { name, email } = commit.author;
  const who = `${clean(name) || 'unknown'} <${clean(email)}> ${Math.floor(commit.timeMs / 1000)} +0000`;
  const parents = commit.parents.map((parent) => `parent ${parent}\n`).join('');
  const message = commit.message.replaceAll('\0', '');
  return utf8.encode(`tree ${commit.tree}\n${parents}author ${who}\ncommitter ${who}\n\n${message}\n`);
}

/** What git refuses in a name or an address. */
function clean(text: string): string {
  return [...text].filter((char) => char >= ' ' && char !== '<' && char !== '>').join('');
}

function person(value: string): { author: Author; timeMs: number } {
  const [, name = '', email = '', seconds = '0'] = /^(.*?) ?<([^>]*)> ?(\d+)?/.exec(value) ?? [];
  return { author: { name, email }, timeMs: Number(seconds) * 1000 };
}

function damaged(what: string): DatabaseError {
  return new DatabaseError('STORAGE', `a ${what} of the database is damaged; 'git fsck' in it tells more`);
}

function nameOf(octets: Uint8Array): string {
  try {
    return strict.decode(octets);
  } catch {
    return [...octets].map((octet) => String.fromCharCode(octet < 0x80 ? octet : 0xdc00 + octet)).join('');
  }
}

function octetsOf(name: string): Uint8Array {
  if (name.isWellFormed()) return utf8.encode(name);
  return Uint8Array.from(name, (char) => char.charCodeAt(0) & 0xff);
}

const DIGITS = '0123456789abcdef';

export function hex(octets: Uint8Array): string {
  let text = '';
  for (const octet of octets) text += DIGITS[octet >> 4]! + DIGITS[octet & 15]!;
  return text;
}

export function unhex(text: string): Uint8Array {
  const octets = new Uint8Array(text.length >> 1);
  putHex(octets, 0, text);
  return octets;
}

function putHex(octets: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i += 2)
    octets[at + (i >> 1)] = (digit(text.charCodeAt(i)) << 4) | digit(text.charCodeAt(i + 1));
}

function digit(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}

/** Where it ends. Text is mostly ASCII and short, for which an encoder takes ten times as long. */
function putText(octets: Uint8Array, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) {
      const encoded = octetsOf(text);
      octets.set(encoded, at);
      return at + encoded.length;
    }
    octets[at + i] = code;
  }
  return at + text.length;
}

function compareNames(a: string, b: string): number {
  // Below the surrogates, UTF-16 and UTF-8 have the same order.
  if (SURROGATE.test(a) || SURROGATE.test(b)) return compareOctets(octetsOf(a), octetsOf(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

const SURROGATE = /[\ud800-\uffff]/;

function compareOctets(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}
