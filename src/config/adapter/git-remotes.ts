/** Other repositories to fetch from, in the repository's own config as git has them; the git program fetches. */

import { DatabaseError, type Remotes } from '../database.ts';
import { checkBranch } from '../path.ts';
import { runGit } from './git-program.ts';

export class GitRemotes implements Remotes {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async list(): Promise<readonly { readonly name: string; readonly url: string }[]> {
    const text = await this.#git(['config', '--local', '--null', '--get-regexp', '^remote\\..*\\.url$']).catch(
      () => '',
    );
    return text.split('\0').flatMap((line) => {
      const [, name, url] = /^remote\.(.*)\.url\n(.*)$/s.exec(line) ?? [];
      return name !== undefined && url !== undefined ? [{ name, url }] : [];
    });
  }

  async set(name: string, url: string): Promise<void> {
    checkName(name);
    if (url === '' || url.startsWith('-') || [...url].some((char) => char < ' ') || /^[\w-]+::/.test(url))
      throw new DatabaseError('INVALID', `'${url}' is not the URL of a repository`);
    await this.#git(['config', '--local', `remote.${name}.url`, url]);
  }

  async remove(name: string): Promise<void> {
    await this.#url(name);
    await this.#git(['config', '--local', '--remove-section', `remote.${name}`]);
    if ((await this.head(name)) !== undefined) await this.#git(['update-ref', '-d', head(name)]);
  }

  async fetch(name: string, branch = 'master'): Promise<string> {
    checkBranch(branch);
    const url = await this.#url(name);
    const refspec = `+refs/heads/${branch}:${head(name)}`;
    await this.#git(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--', url, refspec]);
    const fetched = await this.head(name);
    if (fetched === undefined) throw new DatabaseError('STORAGE', `'${name}' has no branch '${branch}'`);
    return fetched;
  }

  async head(name: string): Promise<string | undefined> {
    checkName(name);
    const hash = await this.#git(['rev-parse', '--verify', '--quiet', `${head(name)}^{commit}`]).catch(() => '');
    return hash.trim() || undefined;
  }

  async #url(name: string): Promise<string> {
    checkName(name);
    const found = (await this.list()).find((remote) => remote.name === name);
    if (!found) throw new DatabaseError('NO-OBJECT', `there is no remote '${name}'`);
    return found.url;
  }

  #git(argv: readonly string[]): Promise<string> {
    return runGit(this.#directory, argv).done;
  }
}

/** What was last fetched; no branch can be in its way. */
function head(name: string): string {
  return `refs/remotes/${name}/fetched`;
}

function checkName(name: string): void {
  if (!/^[A-Za-z0-9][\w.-]{0,99}$/.test(name) || name.endsWith('.lock') || name.includes('..'))
    throw new DatabaseError('INVALID', `'${name}' cannot be the name of a remote`);
}
