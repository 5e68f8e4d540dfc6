/** Options of the network core alone that say what guests are told of names, and who is asked. */

import { statSync } from 'node:fs';
import type { NetworkOptions } from '../network.ts';
import { parseNameServers } from '../proxy/dns/name-servers.ts';
import { parseDnsRecords } from '../proxy/dns/records.ts';
import { parseDnsZones } from '../proxy/dns/zones.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const dnsOptions = {
  dns: { type: 'string' },
  'dns-zone': { type: 'string', multiple: true },
  'dns-record': { type: 'string', multiple: true },
  'hosts-file': { type: 'string' },
} as const;

export const dnsHelp = `  --dns FILE|ADDR       name servers: a file such as /etc/resolv.conf (the default), or ADDR[#PORT][,...]
  --dns-zone ZONE=ADDR[#PORT][,...]
                        ask these about names in ZONE, and nobody else; may be repeated
  --dns-record NAME=ADDR[,...]
                        answer NAME so; *.NAME is every name below it, NAME=NAME makes an alias; may be repeated
  --hosts-file FILE     tell guests the names in this hosts file (default /etc/hosts), or 'none'
`;

export interface DnsValues {
  readonly dns?: string | undefined;
  readonly 'dns-zone'?: string[] | undefined;
  readonly 'dns-record'?: string[] | undefined;
  readonly 'hosts-file'?: string | undefined;
}

export function readDnsOptions(values: DnsValues): Pick<NetworkOptions, 'dns' | 'dnsRecords' | 'resolvConf'> {
  const { dns, 'dns-zone': zones = [], 'dns-record': records = [], 'hosts-file': hosts } = values;
  if (hosts !== undefined && hosts !== 'none' && !isFile(hosts))
    throw new UsageError(`--hosts-file: there is no file '${hosts}'`);
  const isPath = dns !== undefined && isFile(dns);
  return {
    ...(isPath && { resolvConf: dns }),
    dns: {
      ...(dns !== undefined &&
        !isPath && { servers: reading('--dns: there is no such file, and ', () => parseNameServers(dns)) }),
      zones: reading('--dns-zone: ', () => parseDnsZones(zones.join(';'))),
      ...(hosts !== undefined && { hostsFile: hosts === 'none' ? '' : hosts }),
    },
    dnsRecords: reading('--dns-record: ', () => parseDnsRecords(records.join(';'))),
  };
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

function reading<T>(prefix: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(prefix + (error as Error).message);
  }
}
