/**
 * The file of `--policy` while it changes. It is looked at twice a second, links followed, so that it may be written in
 * place or swapped; what is found holds once it has stayed as it is from one look to the next, so that a file which is
 * being written is not taken for a short one. Rules that cannot be read or understood are reported, and the last good ones
 * stay in force.
 */

import { readFileSync } from 'node:fs';
import { lookAt } from '../proxy/adapter/changing-file.ts';
import { type PolicyRule, parsePolicyRules } from '../proxy/policy/rule.ts';

const LOOK_MS = 500;

/** Throws an Error that says what is wrong. */
export function readPolicyFile(path: string): PolicyRule[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`it cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  return parsePolicyRules(text);
}

function stampOf(path: string): string {
  try {
    return lookAt(path).stamp;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? '';
  }
}

/** Tells of the file's rules whenever they have changed; the result ends it. Does not keep the process. */
export function watchPolicyFile(
  path: string,
  changed: (rules: readonly PolicyRule[]) => void,
  report: (line: string) => void,
): () => void {
  let read = stampOf(path);
  let seen = read;
  const look = (): void => {
    const before = seen;
    seen = stampOf(path);
    if (seen !== before || seen === read) return;
    read = seen;
    try {
      changed(readPolicyFile(path));
    } catch (error) {
      report(`--policy ${path}: ${(error as Error).message}; the rules that were in force stay`);
    }
  };
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
