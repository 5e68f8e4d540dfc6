/**
 * Settings in a JSON file: an object of what the user has chosen, name to value; everything else has its default. The
 * file is written whole (a new file, synced, renamed over the old one) and 0600. Edits by hand are noticed: good
 * content takes effect, bad content is reported as `problem` and the last good settings stay in force.
 */

import { type FSWatcher, watch } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { BehaviorSubject, type Observable } from 'rxjs';
import type { SettingsPort } from '../port.ts';
import { defaults, parseSetting, type SettingName, type Settings } from '../schema.ts';

type Chosen = { readonly [K in SettingName]?: string };

interface Content {
  readonly chosen: Chosen;
  readonly settings: Settings;
}

export class JsonSettings implements SettingsPort {
  readonly #path: string;
  readonly #changes: BehaviorSubject<Settings>;
  #text: string;
  #chosen: Chosen;
  #problem: string | undefined;
  #watcher: FSWatcher | undefined;
  #queue: Promise<void> = Promise.resolve();

  private constructor(path: string, text: string, content: Content) {
    this.#path = path;
    this.#text = text;
    this.#chosen = content.chosen;
    this.#changes = new BehaviorSubject(content.settings);
  }

  /** Reads `path` (absent: all defaults); rejects when its content is bad, naming what is wrong. */
  static async open(path: string): Promise<JsonSettings> {
    const text = await readIfThere(path);
    return new JsonSettings(path, text, parse(path, text));
  }

  get current(): Settings {
    return this.#changes.value;
  }

  get changes(): Observable<Settings> {
    return this.#changes;
  }

  get chosen(): Chosen {
    return this.#chosen;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  set(values: Chosen): Promise<void> {
    return this.#write((chosen) => {
      for (const [name, text] of Object.entries(values)) chosen[name as SettingName] = text;
    });
  }

  unset(names: readonly SettingName[]): Promise<void> {
    return this.#write((chosen) => {
      for (const name of names) {
        parseSetting(name, String(defaults[name]));
        delete chosen[name];
      }
    });
  }

  /** Follows edits by hand until `close`. */
  watch(): void {
    const file = basename(this.#path);
    this.#watcher ??= watch(dirname(this.#path), (_event, name) => {
      if (name === file) void this.reload();
    });
  }

  /** Takes over what the file holds now; bad content sets `problem`. */
  reload(): Promise<void> {
    return this.#serially(async () => {
      const text = await readIfThere(this.#path);
      if (text === this.#text) {
        this.#problem = undefined;
        return;
      }
      try {
        this.#take(text, parse(this.#path, text));
      } catch (error) {
        this.#problem = (error as Error).message;
      }
    });
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#changes.complete();
  }

  #write(edit: (chosen: { [K in SettingName]?: string }) => void): Promise<void> {
    return this.#serially(async () => {
      const before = await readIfThere(this.#path);
      const chosen = { ...parse(this.#path, before).chosen };
      edit(chosen);
      const text = `${JSON.stringify(chosen, undefined, 2)}\n`;
      const content = parse(this.#path, text, false);
      await replaceFile(this.#path, text);
      this.#take(text, content);
    });
  }

  #take(text: string, content: Content): void {
    this.#text = text;
    this.#chosen = content.chosen;
    this.#problem = undefined;
    const changed = Object.entries(content.settings).some(
      ([name, value]) => this.current[name as SettingName] !== value,
    );
    if (changed) this.#changes.next(content.settings);
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }
}

function parse(path: string, text: string, namesFile = true): Content {
  const fail = (problem: string): Error =>
    new Error(namesFile ? `${path}: ${problem}; mend it, or remove the file for the defaults` : problem);
  let stored: unknown;
  try {
    stored = text.trim() === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw fail(`not JSON (${(error as Error).message})`);
  }
  if (typeof stored !== 'object' || stored === null || Array.isArray(stored)) throw fail('not a JSON object');
  const chosen: { [K in SettingName]?: string } = {};
  const settings: Record<string, unknown> = { ...defaults };
  for (const [name, value] of Object.entries(stored)) {
    if (typeof value !== 'string' && typeof value !== 'number') throw fail(`${name} is neither text nor a number`);
    try {
      settings[name] = parseSetting(name as SettingName, String(value));
    } catch (error) {
      throw fail((error as Error).message);
    }
    chosen[name as SettingName] = String(value);
  }
  return { chosen, settings: Object.freeze(settings) as unknown as Settings };
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return '';
    throw new Error(`cannot read ${path}: ${code}`);
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  const fresh = `${path}.${process.pid}.new`;
  try {
    const file = await open(fresh, 'w', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true });
    throw new Error(`cannot write ${path}: ${(error as NodeJS.ErrnoException).code}`);
  }
}
