/** The corpus: files of frames, one a line in hexadecimal; lines that begin with # say what they are. */

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const corpusFolder = join(import.meta.dirname, 'corpus');

export interface CorpusFile {
  readonly name: string;
  readonly frames: readonly Uint8Array[];
}

export function readCorpus(): CorpusFile[] {
  return globSync('*.frames', { cwd: corpusFolder })
    .sort()
    .map((name) => ({ name, frames: parseFrames(readFileSync(join(corpusFolder, name), 'utf8')) }));
}

function parseFrames(text: string): Uint8Array[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => new Uint8Array(Buffer.from(line, 'hex')));
}

export const formatFrames = (about: string, frames: readonly Uint8Array[]): string =>
  `# ${about}\n${frames.map((frame) => `${Buffer.from(frame).toString('hex')}\n`).join('')}`;
