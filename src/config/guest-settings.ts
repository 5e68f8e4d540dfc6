/**
 * What the guest reads of the settings, at `/Database/etc`, to put it into force there (vm/README.md): files that are made
 * of the settings, beside them in the branch `state`. `etc/docker/daemon.json` has a line for each of its keys.
 */

import type { Settings } from './schema.ts';

/** Keys of dockerd's own settings that are not the user's: what the platform itself stands on. */
const ours = new Set([
  'hosts',
  'containerd',
  'containerd-namespace',
  'containerd-plugin-namespace',
  'data-root',
  'exec-root',
  'pidfile',
  'userland-proxy',
  'userland-proxy-path',
]);

/** The HTTP proxy that the network has for those who ask for one, with the user's upstream behind it. */
const PROXY = 'http://http.docker.internal:3128';
/** What dockerd asks no proxy for, beside `network.noProxy`. */
const NEAR = ['localhost', '127.0.0.0/8', '::1', '.docker.internal'];

type DaemonKeys = Readonly<Record<string, unknown>>;

/** By path in the database. */
export function guestFiles(settings: Settings): Readonly<Record<string, string>> {
  return {
    'etc/hostname': `${settings['vm.hostname']}\n`,
    'etc/sysctl.conf': sysctls(settings['vm.sysctl'])
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
    'etc/docker/daemon.json': lines({ ...proxies(settings), ...daemonKeys(settings['docker.daemonJson']) }),
  };
}

function proxies(settings: Settings): DaemonKeys {
  const { 'network.httpProxy': http, 'network.httpsProxy': https, 'network.noProxy': none } = settings;
  if (http === '' && https === '') return {};
  const excluded = none.split(/[\s,]+/).filter((item) => item !== '');
  return {
    proxies: {
      ...(http !== '' && { 'http-proxy': PROXY }),
      ...(https !== '' && { 'https-proxy': PROXY }),
      'no-proxy': [...NEAR, settings['network.subnet'], ...excluded].join(','),
    },
  };
}

function lines(keys: DaemonKeys): string {
  const rows = Object.entries(keys).map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  return `{\n${rows.join(',\n')}${rows.length > 0 ? '\n' : ''}}\n`;
}

function daemonKeys(text: string): DaemonKeys {
  return text.trim() === '' ? {} : (JSON.parse(text) as DaemonKeys);
}

export function checkDaemonJson(text: string): string | undefined {
  let keys: unknown;
  try {
    keys = daemonKeys(text);
  } catch (error) {
    return `is not JSON (${(error as Error).message})`;
  }
  if (typeof keys !== 'object' || keys === null || Array.isArray(keys)) return 'is not a JSON object';
  for (const key of Object.keys(keys)) {
    if (ours.has(key)) return `has '${key}', which is Slipway's own to set`;
    if (!/^[a-z0-9-]+$/.test(key)) return `has '${key}', which is no key of dockerd's`;
  }
  return undefined;
}

function sysctls(text: string): (readonly [name: string, value: string])[] {
  return text
    .split(/[;\n]/)
    .map((part) => part.trim())
    .filter((part) => part !== '' && !part.startsWith('#'))
    .map((part) => {
      const [name = '', ...value] = part.split('=');
      return [name.trim(), value.join('=').trim()] as const;
    });
}

export function checkSysctls(text: string): string | undefined {
  for (const [name, value] of sysctls(text)) {
    if (!/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)+$/i.test(name) || !/^[\x20-\x7e]+$/.test(value))
      return `has '${name}=${value}', which is not a kernel setting such as net.core.somaxconn=1024`;
  }
  return undefined;
}
