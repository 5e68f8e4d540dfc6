/**
 * The JSON file that held the settings before the database did: an object of what the user has chosen, name to value.
 * One that is there is taken over once and then kept under another name.
 */

import { readFile, rename } from 'node:fs/promises';
import type { SettingsPort } from '../port.ts';
import { parseSetting, type SettingName } from '../schema.ts';
import { errorCode } from './durable-files.ts';

/** What the file holds; undefined when there is none; rejects when its content is bad, naming what is wrong. */
export async function readSettingsFile(path: string): Promise<SettingsPort['chosen'] | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw new Error(`cannot read ${path}: ${errorCode(error)}`);
  }
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}; mend it, or remove the file for the defaults`);
  }
}

export async function retireSettingsFile(path: string): Promise<void> {
  await rename(path, `${path}.taken-over`);
}

function parse(text: string): SettingsPort['chosen'] {
  let stored: unknown;
  try {
    stored = text.trim() === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw new Error(`not JSON (${(error as Error).message})`);
  }
  if (typeof stored !== 'object' || stored === null || Array.isArray(stored)) throw new Error('not a JSON object');
  const chosen: { [K in SettingName]?: string } = {};
  for (const [name, value] of Object.entries(stored)) {
    if (typeof value !== 'string' && typeof value !== 'number') throw new Error(`${name} is neither text nor a number`);
    parseSetting(name as SettingName, String(value));
    chosen[name as SettingName] = String(value);
  }
  return chosen;
}
