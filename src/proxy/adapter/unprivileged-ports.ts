/** The lowest port that a process without privileges may bind on this host. */

import { readFileSync } from 'node:fs';

export function unprivilegedPortStart(path = '/proc/sys/net/ipv4/ip_unprivileged_port_start'): number {
  try {
    const value = Number(readFileSync(path, 'latin1').trim());
    return Number.isInteger(value) && value >= 0 && value <= 65536 ? value : 1024;
  } catch {
    return 1024;
  }
}
