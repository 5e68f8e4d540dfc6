/** The git program, where it is installed. */

import { type ChildProcess, spawn } from 'node:child_process';
import { DatabaseError } from '../database.ts';

export interface GitRun {
  readonly child: ChildProcess;
  /** What it printed; rejects with its last words, or with 'STORAGE' and `missing` where there is no git. */
  readonly done: Promise<string>;
}

/** Runs `git ARGV` in the repository, asking nobody anything. */
export function runGit(directory: string, argv: readonly string[]): GitRun {
  // Nothing that a git command which started us has set for its own repository.
  const inherited = Object.entries(process.env).filter(([name]) => !/^GIT_(?!SSH|ASKPASS|CONFIG_)/.test(name));
  const child = spawn('git', [`--git-dir=${directory}`, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(inherited), GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' },
  });
  const done = new Promise<string>((resolve, reject) => {
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].on('data', (octets: Buffer) => {
        said[name] = (said[name] + octets.toString()).slice(-65_536);
      });
    child.on('error', () => reject(new GitMissing()));
    child.on('close', (status, signal) => {
      if (status === 0) return resolve(said.stdout);
      const words = said.stderr.trim().split('\n').at(-1) || `status ${status ?? signal}`;
      reject(new DatabaseError('STORAGE', `git ${argv[0]}: ${words}`));
    });
  });
  return { child, done };
}

export class GitMissing extends DatabaseError {
  constructor() {
    super('STORAGE', 'the program git is not installed');
  }
}
