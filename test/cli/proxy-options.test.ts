/** `--http-proxy` and its like: read, refused, and in force around a command. */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { readProxyOptions } from '../../src/cli/proxy-options.ts';

const program = fileURLToPath(new URL('../../bin/slipway', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-proxy-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const credential = join(folder, 'credential');
writeFileSync(credential, 'me:secret\n', { mode: 0o600 });

t.test('what they mean', (t) => {
  t.equal(readProxyOptions({}), undefined);
  const found = readProxyOptions({ 'http-proxy': 'http://p:1', 'no-proxy': 'a.b', 'proxy-credential': credential });
  t.same(
    [found?.http, found?.https, found?.credential?.()],
    [{ host: 'p', port: 1, tls: false }, undefined, 'me:secret'],
  );
  t.ok(found?.noProxy.excludes({ name: 'x.a.b', addresses: [], port: 1 }));
  for (const [values, words] of [
    [{ 'http-proxy': 'ftp://p' }, 'upstream proxy: httpProxy is not a proxy such as http://proxy.example.org:3128'],
    [
      { 'http-proxy': 'p:1', 'no-proxy': 'a/b' },
      "upstream proxy: noProxy has 'a/b', which is no name, address or network",
    ],
    [{ 'http-proxy': 'p:1', 'proxy-credential': join(folder, 'none') }, /ENOENT/],
  ] as const)
    t.throws(() => readProxyOptions(values), { message: words });
  t.throws(() => readProxyOptions({ 'https-proxy': 'http://me:secret@p' }), { message: /^(?!.*secret)/ });
  chmodSync(credential, 0o640);
  t.throws(() => readProxyOptions({ 'http-proxy': 'p:1', 'proxy-credential': credential }), { message: /chmod 600/ });
  chmodSync(credential, 0o600);
  t.end();
});

t.test('net run --http-proxy: a command that knows nothing of it', async (t) => {
  const proxy = createServer((request, response) => {
    response.end(`${request.method} ${request.url} ${request.headers['proxy-authorization']}`);
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const curl = ['--', 'curl', '-sS', '--max-time', '20', 'http://203.0.113.80/page'];
  const words = ['net', 'run', '--http-proxy', url, '--proxy-credential', credential, ...curl];
  const { stdout } = await promisify(execFile)(program, words);
  t.equal(stdout, `GET http://203.0.113.80/page Basic ${Buffer.from('me:secret').toString('base64')}`);
});
