/**
 * `npm run soak -- [--minutes N] [--rate N] [--record]`: connections to the host, N a second, opened and then closed,
 * reset, refused or abandoned in every way (test/soak/traffic.ts), through the network core as a process of its own;
 * then silence until the last abandoned one has been given up. Flows, file descriptors, timers and what is live on the
 * heap must be back where they were before; what is resident may grow a little after the first minutes, as V8 and malloc
 * keep what they had. `--record` writes docs/SOAK.md.
 */

import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { FrameGuest } from '../test/clients/frame-guest.ts';
import type { Measure } from '../test/soak/core-program.ts';
import { SoakHost } from '../test/soak/host.ts';
import { endings, SoakTraffic } from '../test/soak/traffic.ts';

const root = join(import.meta.dirname, '..');
const MEBI = 2 ** 20;
/** A guest that vanishes is given up after 10 minutes at most. */
const SETTLE_MS = 15 * 60_000;
/** Servers of the host's: so many times 64 000 connections before one tuple comes again. */
const SERVERS = 16;
/** By how much the heap may be larger than before, for code that has been compiled. */
const GROWTH = 4 * MEBI;
/** By what share resident memory may have grown since the warm-up, in which pools are filled. */
const RESIDENT_GROWTH = 0.25;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    rate: { type: 'string', default: '100' },
    record: { type: 'boolean', default: false },
  },
});
const [minutes, rate] = [Number(values.minutes), Number(values.rate)];
if (!(minutes > 0) || !(rate > 0)) {
  console.error('--minutes and --rate take numbers above zero; for example: npm run soak -- --minutes 5 --rate 100');
  process.exit(2);
}

const commit = execFileSync('git', ['rev-parse', '--short=10', 'HEAD'], { cwd: root, encoding: 'utf8' }).trim();
const started = new Date();
const startedMs = performance.now();
const folder = mkdtempSync(join(tmpdir(), 'slipway-soak-'));
const core = fork(join(root, 'test/soak/core-program.ts'), [join(folder, 'net.sock')]);
await once(core, 'message');
const host = await SoakHost.start(SERVERS);
const refusing = await freePort();
const guest = await FrameGuest.connect(join(folder, 'net.sock'), { address: '192.168.65.3', gateway: '192.168.65.1' });
const traffic = new SoakTraffic(guest, host.tcpPorts, refusing, host.udpPort);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

type Sample = Measure & { readonly minute: number; readonly opened: number };
const samples: Sample[] = [];

async function measure(): Promise<Sample> {
  core.send('measure');
  const [message] = (await once(core, 'message')) as [Measure];
  const minute = (performance.now() - startedMs) / 60_000;
  const sample = { ...message, minute, opened: traffic.opened };
  samples.push(sample);
  const { rssOctets, heapOctets, descriptors, timers, flows } = sample;
  console.log(
    `${minute.toFixed(1)} min: ${traffic.opened} opened, ${flows} flows, ${descriptors} descriptors, ${timers} timers, ` +
      `${(rssOctets / MEBI).toFixed(1)} MiB resident, ${(heapOctets / MEBI).toFixed(1)} MiB of heap`,
  );
  return sample;
}

const before = await measure();
const loadMs = performance.now();
const every = minutes < 10 ? 10_000 : 60_000;
for (let nextMs = loadMs + every; performance.now() - loadMs < minutes * 60_000; ) {
  const due = ((performance.now() - loadMs) / 1000) * rate;
  // A machine that is busy elsewhere is not made up for in one burst.
  for (let burst = 0; traffic.opened < due && burst < 20; burst++) traffic.open();
  await sleep(10);
  if (performance.now() < nextMs) continue;
  nextMs += every;
  await measure();
}
const loadedMinutes = (performance.now() - loadMs) / 60_000;
const loaded = await measure();
// From here on the guest is silent but for what it owes to connections that are still closing.
const settleMs = performance.now();
let after = loaded;
while (after.flows > 0 && performance.now() - settleMs < SETTLE_MS) {
  await sleep(every);
  after = await measure();
}
await sleep(1000);
after = await measure();
core.disconnect();
guest.close();
host.close();
rmSync(folder, { recursive: true });

const warm = samples.find(({ minute }) => minute >= Math.min(10, minutes / 4)) ?? loaded;
const failures = [
  after.flows > 0 && `${after.flows} flows are left`,
  after.descriptors > before.descriptors + 1 && `${after.descriptors - before.descriptors} descriptors are left`,
  after.timers > before.timers && `${after.timers - before.timers} timers are left`,
  after.heapOctets > before.heapOctets + GROWTH && 'the heap has grown',
  after.rssOctets > warm.rssOctets * (1 + RESIDENT_GROWTH) && 'resident memory has grown',
  traffic.answered < traffic.datagrams * 0.99 && `${traffic.datagrams - traffic.answered} datagrams had no answer`,
].filter((failure) => failure !== false);
if (values.record) {
  const file = join(root, 'docs/SOAK.md');
  // What is told of other runs stays.
  const others = existsSync(file) ? (/\n## .*/s.exec(readFileSync(file, 'utf8'))?.[0] ?? '') : '';
  writeFileSync(file, report() + others);
}
for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`${traffic.opened} connections, ${failures.length} failures`);
process.exit(failures.length > 0 ? 1 : 0);

function report(): string {
  const mebi = (octets: number): string => (octets / MEBI).toFixed(1);
  const row = (label: string, s: Sample): string =>
    `| ${label} | ${s.minute.toFixed(1)} | ${s.opened} | ${s.flows} | ${s.descriptors} | ${s.timers} | ${mebi(s.rssOctets)} | ${mebi(s.heapOctets)} |`;
  const step = Math.max(1, Math.ceil(samples.length / 12));
  const between = samples.filter((s, i) => i > 0 && i % step === 0 && s !== after && s !== loaded);
  const isSilence = (s: Sample): boolean => s.minute > loaded.minute;
  const drops = Object.entries(after.drops).filter(([, count]) => count > 0);
  return [
    '# Soak',
    '',
    `The network core as a process of its own for ${loadedMinutes.toFixed(0)} minutes under ${Math.round(loaded.opened / loadedMinutes / 60)} new connections`,
    'a second from a guest that closes, resets or abandons each in one of the ways below, and a datagram for every',
    'twentieth of them; then silence until the last abandoned one has been given up. Written by',
    `\`npm run soak -- --minutes ${values.minutes} --rate ${values.rate} --record\`.`,
    '',
    `- Date: ${started.toISOString().slice(0, 16).replace('T', ' ')} UTC; commit ${commit}; Node ${process.version} on ${process.platform} ${arch()}`,
    `- ${traffic.opened} connections, ${traffic.datagrams} datagrams (${traffic.answered} answers)`,
    `- The core's CPU time: ${after.cpuSeconds.toFixed(0)} s, ${((after.cpuSeconds / traffic.opened) * 1e6).toFixed(0)} us a connection`,
    `- Drops by reason: ${drops.map(([reason, count]) => `${reason} ${count}`).join(', ') || 'none'}`,
    `- Result: ${failures.join('; ') || 'flows, file descriptors, timers and heap are back where they were before'}`,
    '',
    '| | Minute | Opened | Flows | Descriptors | Timers | Resident, MiB | Heap after collection, MiB |',
    '| --- | --: | --: | --: | --: | --: | --: | --: |',
    row('before', before),
    ...between.filter((s) => !isSilence(s)).map((s) => row('load', s)),
    row('the load ends', loaded),
    ...between.filter(isSilence).map((s) => row('silence', s)),
    row('after', after),
    '',
    'How connections end, in turn; the silent ends come a quarter as often as the others:',
    '',
    ...endings.map(({ name }) => `- ${name}`),
    '',
  ].join('\n');
}
