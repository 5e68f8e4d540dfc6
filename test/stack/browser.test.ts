/** The stack in a browser: the page of examples/ in headless Chromium, its sources served with their types taken out. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { stripTypeScriptTypes } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, normalize } from 'node:path';
import { buffer } from 'node:stream/consumers';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';
import { readPcapng } from './link/pcapng-file.ts';

ensureDebianPackages([
  { name: 'chromium-headless-shell', proof: 'chromium-headless-shell' },
  { name: 'tshark', proof: 'tshark' },
]);

const root = join(import.meta.dirname, '../..');
const rxjs = join(root, 'node_modules/rxjs/dist/esm');

/** The file that a path of the page's origin stands for, as a browser takes it; undefined: there is none. */
function served(path: string): { type: string; text: string } | undefined {
  if (path === '/') return { type: 'text/html', text: readFileSync(join(root, 'examples/two-stacks.html'), 'utf8') };
  // rxjs's own files import each other without their ending.
  if (path.startsWith('/rxjs/')) {
    const file = join(rxjs, `${path.slice('/rxjs/'.length).replace(/\.js$/, '')}.js`);
    return existsSync(file) ? { type: 'text/javascript', text: readFileSync(file, 'utf8') } : undefined;
  }
  const file = normalize(join(root, path));
  if (!file.startsWith(join(root, 'src/stack/')) || !existsSync(file)) return undefined;
  return { type: 'text/javascript', text: stripTypeScriptTypes(readFileSync(file, 'utf8')) };
}

t.test('two stacks in a page exchange a file through 5 % loss', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-browser-'));
  const result = Promise.withResolvers<{ words: string; capture: Buffer }>();
  const server = createServer(async (request, response) => {
    if (request.method === 'POST') {
      result.resolve({ words: String(request.headers['x-result']), capture: await buffer(request) });
      return response.end();
    }
    const file = served(new URL(request.url!, 'http://localhost').pathname);
    response.writeHead(file ? 200 : 404, { 'content-type': file?.type ?? 'text/plain' });
    return response.end(file?.text);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const flags = ['--no-sandbox', '--disable-gpu', `--user-data-dir=${folder}`, '--enable-logging=stderr'];
  // It stays for as long as its debugging port is open.
  const words = [...flags, '--remote-debugging-port=0', `http://127.0.0.1:${port}/`];
  const browser = spawn('chromium-headless-shell', words, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  let said = '';
  browser.stderr.on('data', (text) => {
    said += text;
    // An error of the page's is on the console, and the page says no more.
    const error = /CONSOLE.*(?:Uncaught|Failed).*/.exec(said);
    if (error) result.reject(new Error(error[0]));
  });
  browser.once('exit', () => result.reject(new Error(said)));
  t.teardown(async () => {
    server.close();
    server.closeAllConnections();
    if (browser.exitCode === null && browser.signalCode === null) {
      // Its helpers too, which are of its process group.
      process.kill(-browser.pid!);
      await once(browser, 'exit');
    }
    browser.stderr.destroy();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const outcome = await result.promise;
  t.match(outcome.words, /^65536 octets there and back, whole; [1-9]\d* frames lost on the way$/);
  const { application, packets } = readPcapng(outcome.capture);
  t.equal(application, 'two stacks in a page');
  t.ok(packets.length > 90);
  const path = join(folder, 'page.pcapng');
  writeFileSync(path, outcome.capture);
  const malformed = spawnSync('tshark', ['-n', '-r', path, '-Y', '_ws.malformed'], { encoding: 'utf8' });
  t.same([malformed.status, malformed.stdout], [0, '']);
});
