/** Why an ordinary user may not make a namespace here, and what helps: for `net run`'s one line. */

import { readFileSync } from 'node:fs';

/** Settings of Linux and its distributions that forbid it. */
const FORBIDDING = [
  { path: 'kernel/unprivileged_userns_clone', forbids: (value: number) => value === 0, remedy: '1' },
  { path: 'kernel/apparmor_restrict_unprivileged_userns', forbids: (value: number) => value !== 0, remedy: '0' },
  { path: 'user/max_user_namespaces', forbids: (value: number) => value === 0, remedy: '15000' },
  { path: 'user/max_net_namespaces', forbids: (value: number) => value === 0, remedy: '15000' },
] as const;

/** `said`: the last line of `unshare` or of the program that it started. */
export function namespaceRemedy(said: string, root = '/proc/sys'): string {
  if (!/^unshare: /.test(said)) return said;
  for (const { path, forbids, remedy } of FORBIDDING) {
    const value = setting(`${root}/${path}`);
    if (value === undefined || !forbids(value)) continue;
    const name = path.replaceAll('/', '.');
    return `this system keeps users from making namespaces (${name} is ${value}): 'sysctl -w ${name}=${remedy}' as root allows it, or run this as root`;
  }
  return `cannot make a user and network namespace (${said}): inside a container, its runtime must allow it (seccomp profile); elsewhere, run this as root`;
}

function setting(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
