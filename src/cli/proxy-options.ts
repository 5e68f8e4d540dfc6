/** Options by which the network core sends guests' HTTP through upstream proxies. */

import { currentCredential, readCredential } from '../proxy/adapter/credential-file.ts';
import type { ProxySettings } from '../proxy/http-proxy/guest-routes.ts';
import { parseProxySettings } from '../proxy/http-proxy/settings.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const proxyOptions = {
  'http-proxy': { type: 'string' },
  'https-proxy': { type: 'string' },
  'no-proxy': { type: 'string' },
  'proxy-credential': { type: 'string' },
} as const;

export const proxyHelp = `  --http-proxy URL      send guests' connections to port 80 through this HTTP proxy, without their knowing; guests find
                        one to ask for themselves at http.docker.internal:3128, with this option or without
  --https-proxy URL     the same of port 443, by CONNECT
  --no-proxy LIST       but not these: example.org,.local,10.0.0.0/8,host:8080, or *
  --proxy-credential FILE
                        what the proxies want: one line USER:PASSWORD, in a file of mode 0600
`;

export interface ProxyValues {
  readonly 'http-proxy'?: string | undefined;
  readonly 'https-proxy'?: string | undefined;
  readonly 'no-proxy'?: string | undefined;
  readonly 'proxy-credential'?: string | undefined;
}

export function readProxyOptions(values: ProxyValues): ProxySettings | undefined {
  const { 'http-proxy': httpProxy = '', 'https-proxy': httpsProxy = '', 'no-proxy': noProxy = '' } = values;
  const { 'proxy-credential': file } = values;
  try {
    // Now, so that what is wrong with it is said; and again when it is needed, for it may have changed.
    if (file !== undefined) readCredential(file);
    const log = (line: string): void => void process.stderr.write(`slipway: ${line}\n`);
    const credential = file === undefined ? undefined : () => currentCredential(file, log);
    return parseProxySettings({ httpProxy, httpsProxy, noProxy, credential });
  } catch (error) {
    throw new UsageError(`upstream proxy: ${(error as Error).message}`);
  }
}
