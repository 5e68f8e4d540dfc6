/** The upstream proxies as text, from the settings or the command line. */

import type { ProxySettings } from './guest-routes.ts';
import { NoProxy } from './no-proxy.ts';
import { parseProxyUrl } from './proxy-url.ts';

export interface ProxyTexts {
  readonly httpProxy: string;
  readonly httpsProxy: string;
  readonly noProxy: string;
  readonly refusal?: string;
  /** USER:PASSWORD, asked when it is needed. */
  readonly credential?: (() => string | undefined) | undefined;
}

/** Undefined: there is no proxy. Throws an Error that says which text is wrong. */
export function parseProxySettings(texts: ProxyTexts): ProxySettings | undefined {
  const { refusal, credential } = texts;
  const about = <T>(name: string, parse: () => T): T => {
    try {
      return parse();
    } catch (error) {
      throw new Error(`${name} ${(error as Error).message}`);
    }
  };
  const http = about('httpProxy', () => parseProxyUrl(texts.httpProxy));
  const https = about('httpsProxy', () => parseProxyUrl(texts.httpsProxy));
  const noProxy = about('noProxy', () => NoProxy.parse(texts.noProxy));
  if (!http && !https && !refusal) return undefined;
  return { http, https, noProxy, refusal, credential };
}
