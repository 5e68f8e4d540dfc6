/** An upstream proxy as people write it: `http://proxy.example.org:3128`, `https://` where it is spoken to by TLS. */

import { authorityText, parseAuthority } from './message.ts';

export interface ProxyUrl {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** Undefined: the text is empty, there is none. Throws an Error that says what would do, and nothing of a password. */
export function parseProxyUrl(text: string): ProxyUrl | undefined {
  if (text === '') return undefined;
  const [, scheme = 'http', user, authority = ''] = /^(?:(https?):\/\/)?(?:([^@/]*)@)?([^@/?#]+)\/?$/i.exec(text) ?? [];
  if (user !== undefined)
    throw new Error('has a user and perhaps a password in it, which others may read: put them in the credential file');
  const tls = scheme.toLowerCase() === 'https';
  const target = parseAuthority(authority, tls ? 443 : 80);
  if (!target) throw new Error('is not a proxy such as http://proxy.example.org:3128');
  return { ...target, tls };
}

export const proxyText = ({ host, port, tls }: ProxyUrl): string =>
  `${tls ? 'https' : 'http'}://${authorityText({ host, port })}`;
