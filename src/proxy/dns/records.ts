/**
 * Records of the user's (the setting `network.dnsRecords`): `db.test=10.0.0.5,fd00::5; *.dev.test=192.168.65.2;
 * www.test=www.example.org`. A name has addresses, or is another name for one that is looked up in its turn. `*.dev.test` is
 * every name below `dev.test`, at any depth, but those with a record of their own; of several such the longest holds.
 */

import { type Address, parseAddress } from '../../stack/wire/address.ts';
import { plainName } from './zones.ts';

export interface DnsRecord {
  /** In lower case, without the star. */
  readonly name: string;
  /** Stands for all names below. */
  readonly wildcard: boolean;
  readonly addresses: readonly Address[];
  /** The name that it is another one for; then it has no addresses. */
  readonly alias?: string;
}

const MAX_RECORDS = 4096;
const MAX_ADDRESSES = 16;

/** Reads `NAME=ADDRESS,...` and `NAME=NAME` set apart by `;` or lines; throws an Error that names what is wrong. */
export function parseDnsRecords(text: string): DnsRecord[] {
  const records = new Map<string, DnsRecord>();
  for (const item of text.split(/[;\n]/).map((one) => one.trim())) {
    if (item === '') continue;
    const record = parseRecord(item);
    if (typeof record === 'string') throw new Error(`'${item}' is no record: ${record}`);
    const key = `${record.wildcard ? '*.' : ''}${record.name}`;
    if (records.has(key))
      throw new Error(`'${key}' is there twice: put its addresses in one place, set apart by commas`);
    records.set(key, record);
  }
  if (records.size > MAX_RECORDS) throw new Error(`there are more than ${MAX_RECORDS} records`);
  return [...records.values()];
}

/** What is wrong, where it is no record. */
function parseRecord(item: string): DnsRecord | string {
  const form = 'write NAME=ADDRESS,... or NAME=NAME, such as *.dev.test=192.168.65.2';
  const [written = '', value, more] = item.split('=');
  const wildcard = written.trim().startsWith('*.');
  const name = plainName(wildcard ? written.trim().slice(2) : written);
  if (name === undefined || value === undefined || more !== undefined) return form;
  const values = value.split(',').map((one) => one.trim());
  const addresses = values.map(parseAddress).filter((address) => address !== undefined);
  if (addresses.length > MAX_ADDRESSES) return `it has more than ${MAX_ADDRESSES} addresses`;
  if (addresses.length === values.length) return { name, wildcard, addresses };
  const alias = plainName(value);
  // What looks like an address is a slip of the pen.
  if (values.length > 1 || alias === undefined || /(?:^|\.)\d+$/.test(alias)) return form;
  if (alias === name && !wildcard) return 'it stands for itself';
  return { name, wildcard, addresses: [], alias };
}
